//! The rows of a database in a few numbers, to compare with the gateway's.
//!
//! Invariant: two sides that hold the same cells at the same cursor have the same digest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{ColumnName, RowId, TableName, Value, cell_digest};
use rusqlite::types::Value as SqlValue;

use crate::db::LocalDb;
use crate::error::ClientError;
use crate::local::Work;
use crate::rows::RowImage;
use crate::schema::LocalTable;
use crate::value::from_sqlite;
use crate::{outbox, state};

/// What this database's confirmed rows come to: without own edits that the gateway's pages have not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The native cursor that all of it is of; none before the first answer.
    pub cursor: Option<String>,
    /// The tables, by name.
    pub tables: Vec<TableDigest>,
}

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
    /// The wrapping sum of the cells' [`cell_digest`].
    pub hash: u64,
}

impl Digest {
    /// The tables that are not what the gateway holds; none when the two are of different cursors, so that nothing can be
    /// said. A table that only one side has counts when it has rows.
    pub fn differing(&self, gateway: &GatewayDigest) -> Option<Vec<TableName>> {
        if self.cursor.as_ref() != Some(&gateway.cursor) {
            return None;
        }
        let (ours, theirs) = (by_name(&self.tables), by_name(&gateway.tables));
        let differs = |name: &&TableName| match (ours.get(*name), theirs.get(*name)) {
            (Some(ours), Some(theirs)) => ours != theirs,
            (Some(only), None) | (None, Some(only)) => only.rows > 0,
            (None, None) => false,
        };
        let mut names: Vec<&TableName> = ours.keys().chain(theirs.keys()).copied().collect();
        names.sort_unstable();
        names.dedup();
        Some(names.into_iter().filter(differs).cloned().collect())
    }
}

fn by_name(tables: &[TableDigest]) -> BTreeMap<&TableName, &TableDigest> {
    tables.iter().map(|table| (&table.table, table)).collect()
}

impl LocalDb {
    /// What the confirmed rows come to. It reads every row.
    ///
    /// # Errors
    /// [`ClientError::Database`], [`ClientError::Damaged`].
    pub fn digest(&self) -> Result<Digest, ClientError> {
        self.keep(|work| {
            Ok(Digest {
                tables: of_tables(work)?,
                cursor: state::cursor(work.tx)?,
            })
        })
    }
}

/// What the confirmed rows of each table come to.
pub(crate) fn of_tables(work: &Work<'_>) -> Result<Vec<TableDigest>, ClientError> {
    let tables = work.registry.tables();
    tables.map(|table| of_table(work, table)).collect()
}

impl TableDigest {
    fn add<'c>(
        &mut self,
        row_id: &RowId,
        cells: impl Iterator<Item = (&'c ColumnName, &'c Value)>,
    ) {
        self.rows += 1;
        for (column, value) in cells.filter(|(_, value)| **value != Value::Null) {
            self.cells += 1;
            let cell = cell_digest(&self.table, row_id, column, value);
            self.hash = self.hash.wrapping_add(cell);
        }
    }
}

fn of_table(work: &Work<'_>, table: &Arc<LocalTable>) -> Result<TableDigest, ClientError> {
    let mut digest = TableDigest {
        table: table.schema.table.clone(),
        rows: 0,
        cells: 0,
        hash: 0,
    };
    let edited = edited_rows(work, table)?;
    visible_rows(work, table, &edited, &mut digest)?;
    for row_id in &edited {
        let row_id = RowId::parse(row_id)?;
        let confirmed = RowImage::load(work, table, &row_id)?.confirmed;
        if confirmed.exists() {
            let key = key_values(table, &row_id)?;
            let cells = confirmed
                .cells
                .iter()
                .map(|(name, cell)| (name, &cell.value));
            let cells = cells.filter(|(name, _)| !table.is_key(name));
            digest.add(
                &row_id,
                cells.chain(key.iter().map(|(name, value)| (name, value))),
            );
        }
    }
    Ok(digest)
}

/// Adds the rows whose values in `t` are the confirmed ones.
fn visible_rows(
    work: &Work<'_>,
    table: &LocalTable,
    edited: &BTreeSet<String>,
    digest: &mut TableDigest,
) -> Result<(), ClientError> {
    let names: String = table
        .columns
        .iter()
        .map(|column| format!(", \"{}\"", column.name))
        .collect();
    let name = &table.schema.table;
    let mut statement = work.tx.prepare(&format!(
        "SELECT {}{names} FROM \"{name}\"",
        table.identity()
    ))?;
    let mut rows = statement.query([])?;
    let damaged = |what: String| ClientError::Damaged {
        what: format!("a row of {name}: {what}"),
    };
    while let Some(row) = rows.next()? {
        let identity = (0..table.key_len()).map(|index| row.get(index));
        let identity: Vec<SqlValue> = identity.collect::<Result<_, _>>()?;
        let row_id = table.row_id(&identity).map_err(damaged)?;
        if edited.contains(row_id.as_str()) {
            continue;
        }
        let values = table.columns.iter().zip(table.key_len()..);
        let values = values.map(|(column, index)| {
            let value = from_sqlite(row.get_ref(index)?, column.column_type).map_err(damaged)?;
            Ok((&column.name, value))
        });
        let values: Vec<(&ColumnName, Value)> = values.collect::<Result<_, ClientError>>()?;
        digest.add(&row_id, values.iter().map(|(name, value)| (*name, value)));
    }
    Ok(())
}

/// The rows with own edits that no page has confirmed: as many as the outbox holds.
fn edited_rows(work: &Work<'_>, table: &LocalTable) -> Result<BTreeSet<String>, ClientError> {
    if !outbox::any_uncovered(work.tx)? {
        return Ok(BTreeSet::new());
    }
    let mut statement = work.tx.prepare_cached(
        "SELECT DISTINCT row_id FROM _lakesync_outbox WHERE table_number = ?1 AND state <= 2",
    )?;
    let rows = statement.query_map([table.number], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn key_values(table: &LocalTable, row_id: &RowId) -> Result<Vec<(ColumnName, Value)>, ClientError> {
    table
        .schema
        .key_values(row_id)
        .map_err(|error| ClientError::Damaged {
            what: format!("a row of {}: {error}", table.schema.table),
        })
}

#[cfg(test)]
mod tests;
