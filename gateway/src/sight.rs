//! What one audience sees of rows in their merged state.
//!
//! **Invariant:** nothing of a row passes that the rules keep from the audience, its tombstone and its id included: a
//! row that was deleted belongs to no bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{ColumnName, ErrorCode, RowId, RowState, TableName, TableSchema, Value};
use lakesync_providers::{RowWithState, RowWithValues};

use crate::error::{Error, Refusal, Result};
use crate::gateway::Gateway;
use crate::rules::{Audience, Rules};

impl Gateway {
    /// What `audience` sees under the rules in force.
    ///
    /// # Errors
    /// As [`Sight::new`].
    pub(crate) fn sight(&self, audience: &Arc<Audience>) -> Result<Sight> {
        Sight::new(self.rules(), audience)
    }
}

/// An audience with the rules that it is of.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    rules: Arc<Rules>,
    audience: Arc<Audience>,
}

impl Sight {
    /// What `audience` sees under `rules`.
    ///
    /// # Errors
    /// 503 when the audience is of other rules: they have changed since it was asked for.
    pub(crate) fn new(rules: Arc<Rules>, audience: &Arc<Audience>) -> Result<Self> {
        if !audience.is_free() && audience.rules() != rules.version() {
            let text = format!(
                "the sync rules have just changed from version {} to {}; ask again",
                audience.rules(),
                rules.version()
            );
            let refusal = Refusal::new(ErrorCode::BackpressureError, text);
            return Err(refusal.with("retryAfterMs", 1_000).into());
        }
        Ok(Self {
            rules,
            audience: Arc::clone(audience),
        })
    }

    /// The audience.
    pub(crate) fn audience(&self) -> &Audience {
        &self.audience
    }

    /// Those of `page` that the audience sees, tombstones only where no rule decides.
    pub(crate) fn states(
        &self,
        schema: &TableSchema,
        mut page: Vec<RowWithState>,
    ) -> Result<Vec<RowWithState>> {
        if self.sees_all(&schema.table) {
            return Ok(page);
        }
        page.retain(|(_, state)| state.exists());
        let columns = self.rules.columns(&schema.table);
        let mut rows = Vec::with_capacity(page.len());
        for (row_id, state) in &page {
            let mut values = row_values(schema, row_id, state)?;
            values.retain(|column, _| columns.contains(column));
            rows.push((row_id.clone(), Some(values)));
        }
        Ok(self.seen(&schema.table, &rows, page))
    }

    /// Those of `rows` that the audience sees.
    pub(crate) fn values(&self, table: &TableName, rows: Vec<RowWithValues>) -> Vec<RowWithValues> {
        if self.sees_all(table) {
            return rows;
        }
        let columns = self.rules.columns(table);
        let asked = rows.iter().map(|(row_id, values)| {
            let known = columns.iter().filter_map(|column| {
                let value = values.get(column)?;
                Some((column.clone(), value.clone()))
            });
            (row_id.clone(), Some(known.collect()))
        });
        let asked: Vec<_> = asked.collect();
        self.seen(table, &asked, rows)
    }

    fn sees_all(&self, table: &TableName) -> bool {
        self.audience.is_everything() || !self.rules.is_ruled(table)
    }

    /// Those of `page` whose membership, by `rows` in the same order, the audience has.
    fn seen<T>(
        &self,
        table: &TableName,
        rows: &[(RowId, Option<BTreeMap<ColumnName, Value>>)],
        page: Vec<T>,
    ) -> Vec<T> {
        let memberships = self.rules.memberships(table, rows);
        let seen = page.into_iter().zip(memberships);
        seen.filter(|(_, membership)| self.audience.sees(membership))
            .map(|(row, _)| row)
            .collect()
    }
}

/// The row as SQL shows it, without its nulls that nobody set: visible cells, and the key columns from the row id.
///
/// # Errors
/// When the row id is none of this table's keys, which admission makes impossible.
pub(crate) fn row_values(
    schema: &TableSchema,
    row_id: &RowId,
    state: &RowState,
) -> Result<BTreeMap<ColumnName, Value>> {
    let visible = state.visible_cells();
    let mut values: BTreeMap<ColumnName, Value> = visible
        .map(|(column, cell)| (column.clone(), cell.value.clone()))
        .collect();
    let key = schema.key_values(row_id).map_err(|error| {
        Error::Read(lakesync_providers::Error::BrokenDelta {
            table: schema.table.clone(),
            seq: 0,
            reason: error.to_string(),
        })
    })?;
    values.extend(key);
    Ok(values)
}
