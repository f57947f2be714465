//! How a table's schema here and at the gateway differ, to be told.
//!
//! Invariant: a column that the other side has dropped is no difference: writes to it are taken and shown nowhere.

use std::collections::BTreeSet;

use lakesync_proto::{ColumnName, TableSchema};

use crate::schema::LocalTable;
use crate::sync::status::SchemaState;

/// How they differ, none when they do not; `waiting` edits of the table have not been sent. Means something only when the
/// gateway has told its schemas.
pub(crate) fn difference(table: &LocalTable, waiting: u64) -> Option<SchemaState> {
    let own = &table.schema;
    match (&table.conflict, &table.gateway) {
        (Some(reason), _) => Some(SchemaState::Conflict {
            reason: reason.clone(),
        }),
        (None, None) => Some(SchemaState::UnknownToGateway { waiting }),
        (None, Some(gateway)) if has_more(own, gateway) => {
            Some(SchemaState::GatewayBehind { waiting })
        }
        (None, Some(gateway)) if has_more(gateway, own) => Some(SchemaState::GatewayAhead),
        (None, Some(_)) => None,
    }
}

/// Whether a schema has a column that the other one has never had.
fn has_more(schema: &TableSchema, other: &TableSchema) -> bool {
    let known: BTreeSet<&ColumnName> = other
        .columns
        .iter()
        .chain(&other.dropped)
        .map(|column| &column.name)
        .collect();
    let mut columns = schema.columns.iter();
    columns.any(|column| !known.contains(&column.name))
}
