//! A table's schema as Iceberg and Arrow know it.
//!
//! ```text
//! base t          row_id (required, identifier) │ the columns, optional
//! log  t__deltas  _seq │ _arrived_at │ _hlc │ _client │ _delta_id │ _op │ row_id │ _set   (required)
//!                 │ the columns, optional │ dropped columns whose name nobody else has
//! ```
//! **Invariant**: a column keeps its field id for as long as it lives, in both tables. Which column
//! number has which field id stands in the table property [`COLUMN_IDS`]; the schema itself, as the
//! agreement knows it, stands in [`SCHEMA`]. A dropped column stays in the log, because deltas that
//! set it may still arrive and are kept.

mod layout;
mod placement;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef as ArrowSchemaRef;
use iceberg::arrow::{schema_to_arrow_schema, strip_metadata_from_schema};
use iceberg::spec::{Literal, Schema, Struct};
use iceberg::table::Table;
use iceberg::{TableIdent, TableUpdate};
use lakesync_proto::{Column, GatewayId, TableName, TableSchema};

use super::error::LakeError;
use super::warehouse::namespace_of;

pub use placement::sort_order_id;
pub(super) use placement::{partition_spec, sort_order, transform};

/// The table property with the schema in its native JSON form, on both tables.
pub const SCHEMA: &str = "lakesync.schema";

/// The table property with each column number's field id in that table: `{"1":9,"2":10}`.
pub const COLUMN_IDS: &str = "lakesync.column-ids";

/// What a log's name adds to its table's.
pub const LOG_SUFFIX: &str = "__deltas";

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// The two Iceberg tables of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Base,
    Log,
}

impl Kind {
    pub(super) fn ident(self, gateway: &GatewayId, table: &TableName) -> TableIdent {
        let name = match self {
            Self::Base => table.to_string(),
            Self::Log => format!("{table}{LOG_SUFFIX}"),
        };
        TableIdent::new(namespace_of(gateway), name)
    }
}

/// Field ids by column number.
pub type ColumnIds = BTreeMap<u32, i32>;

/// The Iceberg schema of a new table with its field ids.
pub(super) fn created(kind: Kind, schema: &TableSchema) -> Result<(Schema, ColumnIds), LakeError> {
    let mut next = 0;
    let mut new_id = || {
        next += 1;
        next
    };
    layout::build(kind, schema, |_| Some(new_id()))
        .map_err(LakeError::iceberg("make its schema", &schema.table))
}

/// The updates that bring a table to `target`; none when it is there.
pub(super) fn evolution(
    kind: Kind,
    table: &Table,
    target: &TableSchema,
) -> Result<Vec<TableUpdate>, LakeError> {
    let stored = stored(table)?;
    if stored == *target {
        return Ok(Vec::new());
    }
    let invalid = |reason: String| LakeError::Invalid {
        table: table.identifier().to_string(),
        reason,
    };
    if stored.version >= target.version {
        return Err(invalid(format!(
            "its schema has version {} already, and another content: evolve from that one",
            stored.version
        )));
    }
    let (schema, ids) = evolved(kind, table, target)?;
    let current = table.metadata().current_schema();
    let mut updates = Vec::new();
    if schema.as_struct() != current.as_struct() {
        layout::check_widening(current, &schema).map_err(invalid)?;
        updates.push(TableUpdate::AddSchema { schema });
        updates.push(TableUpdate::SetCurrentSchema { schema_id: -1 });
    }
    updates.push(TableUpdate::SetProperties {
        updates: properties(target, &ids),
    });
    Ok(updates)
}

/// The Iceberg schema of `target` with the field ids that its columns have, and new ones for the new.
fn evolved(
    kind: Kind,
    table: &Table,
    target: &TableSchema,
) -> Result<(Schema, ColumnIds), LakeError> {
    let known = column_ids(table)?;
    let current = table.metadata().current_schema();
    let mut last = table.metadata().last_column_id();
    let (schema, ids) = layout::build(kind, target, |slot| match slot {
        layout::Slot::Own(name) => current.field_id_by_name(name),
        layout::Slot::Column(column) => known.get(&column.number).copied().or_else(|| {
            last += 1;
            Some(last)
        }),
    })
    .map_err(LakeError::iceberg("make its schema", table.identifier()))?;
    // Ids of columns that left stay known: old snapshots still have them.
    let ids = known.into_iter().chain(ids).collect();
    Ok((schema, ids))
}

/// The properties that a table carries for its schema.
pub(super) fn properties(schema: &TableSchema, ids: &ColumnIds) -> HashMap<String, String> {
    let ids = serde_json::to_string(ids).expect("a map of numbers is plain JSON");
    HashMap::from([
        (SCHEMA.to_owned(), schema.to_json()),
        (COLUMN_IDS.to_owned(), ids),
    ])
}

/// The schema that a table was made from or last evolved to.
///
/// # Errors
/// `Corrupt` when the table has none (it is not ours) or an unreadable one.
pub fn stored(table: &Table) -> Result<TableSchema, LakeError> {
    let text = property(table, SCHEMA)?;
    TableSchema::from_json(text).map_err(|e| corrupt(table, SCHEMA, e))
}

/// The field ids of a table's columns.
///
/// # Errors
/// As [`stored`].
pub fn column_ids(table: &Table) -> Result<ColumnIds, LakeError> {
    let text = property(table, COLUMN_IDS)?;
    serde_json::from_str(text).map_err(|e| corrupt(table, COLUMN_IDS, e))
}

/// The field ids as the table really has them: a catalog may give a new table other ones than asked.
pub(super) fn assigned_ids(kind: Kind, table: &Table, schema: &TableSchema) -> ColumnIds {
    let current = table.metadata().current_schema();
    let columns = layout::columns(kind, schema).into_iter();
    columns
        .filter_map(|column| {
            let id = current.field_id_by_name(column.name.as_str())?;
            Some((column.number, id))
        })
        .collect()
}

fn property<'t>(table: &'t Table, key: &str) -> Result<&'t str, LakeError> {
    let found = table.metadata().properties().get(key);
    found.map(String::as_str).ok_or_else(|| {
        corrupt(
            table,
            key,
            "it is missing: the table was not made by LakeSync",
        )
    })
}

fn corrupt(table: &Table, key: &str, reason: impl std::fmt::Display) -> LakeError {
    LakeError::Corrupt {
        table: table.identifier().to_string(),
        reason: format!("property {key}: {reason}"),
    }
}

/// The columns that a log has after its own, in its order: the living ones, then the dropped ones
/// that deltas can still set by name.
#[must_use]
pub fn log_columns(schema: &TableSchema) -> Vec<&Column> {
    layout::columns(Kind::Log, schema)
}

/// The Arrow schema of the base: the columns in Iceberg's order and types, without field ids.
///
/// # Errors
/// `Iceberg` for a decimal type that Arrow does not have.
pub fn base_arrow_schema(schema: &TableSchema) -> Result<ArrowSchemaRef, LakeError> {
    logical(Kind::Base, schema)
}

/// The Arrow schema of the log, likewise.
///
/// # Errors
/// As [`base_arrow_schema`].
pub fn log_arrow_schema(schema: &TableSchema) -> Result<ArrowSchemaRef, LakeError> {
    logical(Kind::Log, schema)
}

fn logical(kind: Kind, schema: &TableSchema) -> Result<ArrowSchemaRef, LakeError> {
    let (iceberg, _) = created(kind, schema)?;
    let arrow = schema_to_arrow_schema(&iceberg).and_then(|s| strip_metadata_from_schema(&s));
    let arrow = arrow.map_err(LakeError::iceberg("make its schema", &schema.table))?;
    Ok(Arc::new(arrow))
}

/// The Arrow schema of a table as it is, each field with its id under `PARQUET:field_id`.
///
/// # Errors
/// `Iceberg` for a type that Arrow does not have.
pub fn arrow_schema(table: &Table) -> Result<ArrowSchemaRef, LakeError> {
    let arrow = schema_to_arrow_schema(table.metadata().current_schema());
    let arrow = arrow.map_err(LakeError::iceberg("make its schema", table.identifier()))?;
    Ok(Arc::new(arrow))
}

/// The partition of log rows that arrived at this time, microseconds since 1970.
#[must_use]
pub fn day_partition(arrived_at_micros: i64) -> Struct {
    let day = arrived_at_micros.div_euclid(DAY_MICROS);
    let day = i32::try_from(day).expect("2^63 microseconds are fewer than 2^31 days");
    Struct::from_iter([Some(Literal::date(day))])
}
