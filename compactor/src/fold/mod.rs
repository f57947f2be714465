//! What a fold changes: the deltas above the base seq as one row for each row that they touch.
//!
//! [`Fold`] plans it, [`Changes`] are its rows; `sql` has the queries.
//!
//! **Invariant:** applied to the base's rows, the changes give the merge of all deltas up to the fold's seq.

mod by_key;
mod changes;
mod functions;
mod parts;
mod placed;
mod plan;
mod sql;

pub use changes::{ChangeCounts, Changes, change_schema, set_column, value_column};
pub use plan::Fold;
