//! Tables and columns that a page speaks of and this database lacks.
//!
//! Invariant: a schema is adopted in the transaction of the first page that needs it, and never for another reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakesync_proto::{ColumnChange, PullPage, RowDelta, TableName, TableSchema};

use crate::error::ClientError;
use crate::local::Work;
use crate::schema::{LocalTable, Registry};

/// Brings every table up to what the page needs of it.
pub(super) fn bring_up(
    work: &mut Work<'_>,
    page: &PullPage,
    schemas: &[TableSchema],
) -> Result<(), ClientError> {
    let lacking_before = lacking(work.registry, page);
    if lacking_before.is_empty() {
        return Ok(());
    }
    for table in lacking_before {
        let schema = schemas.iter().find(|schema| schema.table == table);
        let Some(schema) = schema else {
            work.registry.table(&table)?;
            return Err(ClientError::SchemaConflict {
                table,
                reason: "the gateway sends columns that this database lacks, and no schema that has them".to_owned(),
            });
        };
        work.registry.adopt(work.tx, schema)?;
    }
    match lacking(work.registry, page).into_iter().next() {
        None => Ok(()),
        Some(table) => Err(ClientError::SchemaConflict {
            table,
            reason:
                "the gateway sends columns that its own schema lacks, or values of another type"
                    .to_owned(),
        }),
    }
}

/// The tables that cannot take what the page says of them. Withdrawn rows of unknown tables are not there anyway.
fn lacking(registry: &Registry, page: &PullPage) -> BTreeSet<TableName> {
    let mut lacking = BTreeSet::new();
    let mut last: Option<Arc<LocalTable>> = None;
    for delta in &page.deltas {
        let delta = &delta.delta;
        if last
            .as_ref()
            .is_none_or(|table| table.schema.table != delta.table)
        {
            last = registry.table(&delta.table).ok().map(Arc::clone);
        }
        let fits = last.as_ref().is_some_and(|table| fits(table, delta));
        if !fits && !lacking.contains(&delta.table) {
            lacking.insert(delta.table.clone());
        }
    }
    lacking
}

fn fits(table: &LocalTable, delta: &RowDelta) -> bool {
    let mut columns = table.columns.iter();
    delta.columns.iter().all(|change: &ColumnChange| {
        // A writer names columns in the schema's order, mostly.
        let next = columns.find(|column| column.name == change.column);
        let column = next.or_else(|| {
            columns = table.columns.iter();
            columns.find(|column| column.name == change.column)
        });
        match column {
            Some(column) => change.value.column_type_matches(column.column_type),
            // Writes to a column that was dropped are shown nowhere.
            None => {
                columns = table.columns.iter();
                table
                    .schema
                    .dropped_column(change.column.as_str())
                    .is_some()
            }
        }
    })
}
