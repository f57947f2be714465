//! A local SQLite database that syncs with a LakeSync gateway.

mod apply;
mod capture;
mod db;
mod digest;
#[cfg(feature = "http")]
mod drive;
mod edit;
mod error;
mod format;
mod local;
mod migrate;
mod outbox;
mod overview;
mod query;
mod register;
mod rows;
mod schema;
mod state;
mod sync;
#[cfg(feature = "http")]
mod system_clock;
mod transport;
mod value;
mod watch;

pub use db::LocalDb;
pub use digest::{Digest, GatewayDigest, TableDigest};
pub use edit::Edit;
pub use error::{ClientError, ErrorKind, RefusedDelta};
pub use overview::{Overview, TableOverview};
/// What [`LocalDb::with_connection`] hands out, in the version that it has.
pub use rusqlite;
pub use outbox::{DeadLetter, EntryState, OutboxCounts, OutboxEntry, Reason};
pub use query::Rows;
pub use rusqlite::types::Value as SqlValue;
pub use sync::{
    CheckpointRequest, FirstSync, KeepUntil, Mode, Phase, Pull, Reply, SchemaState, Session,
    SessionOptions, Status, Step, Subscribe, SyncError, TableSchemaState, Updates, Wish,
};
pub use transport::{
    Chunks, LiveConnection, LiveEvents, LiveReplies, Refusal, Transport, TransportError,
};
pub use watch::{
    ChangedRows, Changes, Origins, QueryWatch, StatusWatch, Subscription, Watch,
};
#[cfg(feature = "http")]
pub use {
    drive::{AsyncSync, Runtime, SyncHandle, SyncRemote, Synced},
    system_clock::SystemClock,
    transport::{HttpTransport, Timeouts},
};
