//! Everything that is a table: the lake, the hot deltas over it, and what SQL sees of both.
//!
//! ```text
//!   pushes ──► live ──► ReadView (base snapshot, base seq, log snapshot, hot deltas, schema)
//!                          │
//!        union ────────────┤  t            base ⊳ rows that hot touches  ∪  those rows, folded
//!        log   ────────────┤  t$deltas     flushed log files ∪ hot deltas not yet flushed
//!        metadata  ────────┤  t$snapshots  snapshots of base and log, files, conflicts, …
//!        functions ────────┘  changes('t', from_seq, to_seq), history, cell_info
//! ```
//!
//! Read [`ReadView`] first: a query pins one and never looks at anything else.
//!
//! **Invariant:** the rows of a view are those of the merge rule over all deltas with `seq` up to the
//! view's; flush and compaction publish new views and change no answer.

mod bounded;
#[cfg(test)]
mod bounded_tests;
mod catalog;
mod columnar;
pub mod crash;
mod definition_sql;
mod error;
mod files;
mod fold;
mod foreign;
mod functions;
mod growth;
mod hot_pushes;
mod hot_size;
pub mod lake;
mod live;
mod log;
mod log_rows;
mod metadata;
mod narrowed;
mod overlay;
pub mod pins;
pub mod predicate;
mod resolve;
mod row_states;
mod rows_at;
mod scan;
mod session;
mod text_views;
mod travel;
mod union;
mod view;
mod visible_rows;
mod write;

pub use lakesync_proto as proto;

pub use catalog::LakeCatalog;
pub use error::{Error, Result};
pub use files::ParquetTable;
pub use fold::{Part, fold_sql, key_sql, quoted};
pub use foreign::ForeignTable;
pub use functions::ReplayLimits;
pub use hot_pushes::{HotPush, HotPushes};
pub use hot_size::{HotSize, TableSize};
pub use live::{Live, Views};
pub use log::{LogPage, known_deltas, log_seqs, read_log};
pub use log_rows::log_batches;
pub use overlay::{Resolved, Work};
pub use row_states::{RowWithState, row_states, row_states_of};
pub use rows_at::{existing, rows_at};
pub use scan::{Dead, DeadRows, FileRows, PlaceCheck, Places, TouchedRows};
pub use session::{job_session, session};
pub use text_views::{in_types_of, without_text_views};
pub use travel::{
    Arrival, AsOf, Horizon, PastTable, Pinned, RefuseDropped, TravelLimits, begun_at,
    covered_by_all, forget_views, hlc_of, micros_of, ref_of, register, seq_of, version_of,
    view_at_seq,
};
pub use union::{Touched, UnionTable};
pub use view::{BaseSnapshot, LogSnapshot, ReadView};
pub use visible_rows::{RowWithValues, visible_rows};
pub use write::{
    Action, Assigned, InsertAction, Repeats, RowWrite, STATEMENT_BYTES_MAX, STATEMENT_ROWS_MAX,
    StatementWrites, Verb, WriteError, WritePlan, WriteSink, WriteTarget,
};
