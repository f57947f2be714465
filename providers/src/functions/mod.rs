//! Table functions over the history of a table, and `t$conflicts`.
//!
//! | call | one row for |
//! |---|---|
//! | `changes('t', from_seq [, to_seq])` | a delta with `from_seq < _seq <= to_seq`, ascending |
//! | `history('t', row_id)` | a delta of the row, ascending |
//! | `cell_info('t', row_id [, column])` | a cell of the row as it is now |
//!
//! The table is named in a text, as in SQL: `'t'`, `'g.t'`, `'"T"'`. Arguments are constants, by position; DataFusion
//! itself drops what it cannot plan, and named ones with it, so calls are planned here ([`planner`]).
//!
//! **Invariant:** a call sees the views of its statement; what it says of a delta does not change any more.

mod cell_info;
mod conflicts;
mod deltas;
mod exec;
mod images;
mod planner;
mod replay;
mod table;

use std::sync::Arc;

use datafusion::catalog::TableProvider;

pub(crate) use planner::CallPlanner;
pub use replay::ReplayLimits;

use crate::error::Result;
use crate::view::ReadView;
use table::{HistoryTable, What};

/// The table `t$conflicts` of a view.
pub(crate) fn conflicts(view: &Arc<ReadView>) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(HistoryTable::new(view, What::Conflicts)?))
}
