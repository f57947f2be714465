//! Telling the application what changed.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_proto::{RowId, TableName};

/// Rows told one by one; a transaction that changes more of one table says so without naming them.
const ROWS_TOLD_MAX: usize = 1_000;

/// Which rows of a table changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    /// These.
    Some(BTreeSet<RowId>),
    /// More than are told one by one.
    Many,
}

/// The rows whose visible values a transaction changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    pub(crate) tables: BTreeMap<TableName, Rows>,
}

impl Touched {
    pub(crate) fn row(&mut self, table: &TableName, row_id: &RowId) {
        let rows = match self.tables.get_mut(table) {
            Some(rows) => rows,
            None => self
                .tables
                .entry(table.clone())
                .or_insert_with(|| Rows::Some(BTreeSet::new())),
        };
        if let Rows::Some(known) = rows {
            known.insert(row_id.clone());
            if known.len() > ROWS_TOLD_MAX {
                *rows = Rows::Many;
            }
        }
    }

    pub(crate) fn many(&mut self, table: &TableName) {
        self.tables.insert(table.clone(), Rows::Many);
    }
}

/// Those who watch.
#[derive(Debug, Default)]
pub(crate) struct Hub {}

impl Hub {
    /// Tells everybody, after the commit.
    pub(crate) fn publish(&self, touched: Touched) {
        let _ = touched;
        unimplemented!("watch")
    }
}
