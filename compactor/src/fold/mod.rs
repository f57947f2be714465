//! What a fold changes: the deltas above the base seq as one row for each row that they touch.
//!
//! **Invariant:** applied to the base's rows, the changes give the merge of all deltas up to the fold's seq.

mod changes;

pub use changes::{ChangeCounts, Changes, change_schema, set_column, value_column};
