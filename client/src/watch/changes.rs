//! Which rows changed, and who changed them.
//!
//! Invariant: what is told is never too little. Where naming rows would grow without bound, the whole table is named.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_proto::{RowId, TableName};

/// Rows told one by one; a transaction that changes more of one table says so without naming them. A screen shows fewer,
/// so more than these are read anew as a whole.
const ROWS_TOLD_MAX: usize = 1_000;

/// Which rows of a table changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedRows {
    /// These.
    Some(BTreeSet<RowId>),
    /// More than are told one by one, or nobody knows which: read the table anew.
    Many,
}

/// Whose doing changes were. Several can be true, because changes gather until they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Edits made through this handle or its clones.
    pub own: bool,
    /// What the gateway said: pages with the edits of others, withdrawn rows, and edits of this client that it refused.
    pub synced: bool,
    /// Another process, or another handle on the same file: see [`LocalDb::poll`](crate::LocalDb::poll).
    pub elsewhere: bool,
}

/// What changed since somebody last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The changed rows of each changed table.
    pub tables: BTreeMap<TableName, ChangedRows>,
    /// Whose doing it was.
    pub origins: Origins,
}

/// The rows whose visible values a transaction changes.
pub(crate) type Touched = Changes;

impl Changes {
    /// Notes one row.
    pub(crate) fn row(&mut self, table: &TableName, row_id: &RowId) {
        let rows = match self.tables.get_mut(table) {
            Some(rows) => rows,
            None => self
                .tables
                .entry(table.clone())
                .or_insert_with(|| ChangedRows::Some(BTreeSet::new())),
        };
        if let ChangedRows::Some(known) = rows {
            known.insert(row_id.clone());
            if known.len() > ROWS_TOLD_MAX {
                *rows = ChangedRows::Many;
            }
        }
    }

    /// Notes that rows of a table changed that are not named.
    pub(crate) fn many(&mut self, table: &TableName) {
        self.tables.insert(table.clone(), ChangedRows::Many);
    }

    /// Notes what `other` notes of the tables that `wanted` accepts.
    pub(crate) fn absorb(&mut self, other: &Changes, wanted: impl Fn(&TableName) -> bool) {
        let mut absorbed = false;
        for (table, rows) in other.tables.iter().filter(|(table, _)| wanted(table)) {
            absorbed = true;
            match rows {
                ChangedRows::Many => self.many(table),
                ChangedRows::Some(rows) => rows.iter().for_each(|row| self.row(table, row)),
            }
        }
        if absorbed {
            self.origins.own |= other.origins.own;
            self.origins.synced |= other.origins.synced;
            self.origins.elsewhere |= other.origins.elsewhere;
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }
}
