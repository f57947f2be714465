//! The rows of a database in a few numbers, to compare with the gateway's.
//!
//! Invariant: two sides that hold the same cells at the same cursor have the same digest.

use lakesync_proto::TableName;

/// What a gateway says its rows come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayDigest {
    /// The cursor that all of it is of.
    pub cursor: String,
    /// The tables, by name.
    pub tables: Vec<TableDigest>,
}

/// The rows of one table in three numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    /// The table.
    pub table: TableName,
    /// How many rows there are.
    pub rows: u64,
    /// How many cells of them are not null.
    pub cells: u64,
    /// The wrapping sum of the cells' [`cell_digest`](lakesync_proto::cell_digest).
    pub hash: u64,
}
