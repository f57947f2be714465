//! `DESCRIBE t`: the columns of a table, and what each is to its key, its partitions and its order.
//!
//! **Invariant**: the first three columns are those that DataFusion answers for any table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use lakesync_proto::{ColumnType, TableSchema, columns};
use lakesync_providers::ReadView;
use lakesync_providers::lake::base_arrow_schema;

use crate::error::Result;

/// The rows of `DESCRIBE`.
///
/// # Errors
/// When a type has no Arrow form.
pub(super) fn describe(view: &ReadView) -> Result<RecordBatch> {
    let schema = &view.schema;
    let arrow = base_arrow_schema(schema)?;
    let names = arrow.fields().iter().map(|field| field.name().as_str());
    let names: Vec<&str> = names.collect();
    let texts = |of: &dyn Fn(&str) -> Option<String>| -> ArrayRef {
        Arc::new(names.iter().map(|name| of(name)).collect::<StringArray>())
    };
    let key_place = |name: &str| {
        let place = schema.primary_key.iter().position(|key| key == name)?;
        i64::try_from(place + 1).ok()
    };
    let required = |name: &str| name == columns::ROW_ID || key_place(name).is_some();
    let arrow_types = arrow
        .fields()
        .iter()
        .map(|field| field.data_type().to_string());
    let batch = RecordBatch::try_from_iter([
        ("column_name", texts(&|name| Some(name.to_owned()))),
        (
            "data_type",
            Arc::new(StringArray::from_iter_values(arrow_types)) as ArrayRef,
        ),
        (
            "is_nullable",
            texts(&|name| Some(if required(name) { "NO" } else { "YES" }.to_owned())),
        ),
        (
            "type",
            texts(&|name| column_type(schema, name).map(|found| found.to_string())),
        ),
        (
            "key",
            Arc::new(
                names
                    .iter()
                    .map(|name| key_place(name))
                    .collect::<Int64Array>(),
            ),
        ),
        ("partition", texts(&|name| partitions(schema, name))),
        ("sort", texts(&|name| sort(schema, name))),
    ]);
    batch.map_err(|error| DataFusionError::from(error).into())
}

fn column_type(schema: &TableSchema, name: &str) -> Option<ColumnType> {
    schema.column(name).map(|column| column.column_type)
}

/// The partition fields that a column makes.
fn partitions(schema: &TableSchema, name: &str) -> Option<String> {
    let fields = schema
        .partition_by
        .iter()
        .filter(|field| field.column == name);
    let fields: Vec<String> = fields.map(ToString::to_string).collect();
    (!fields.is_empty()).then(|| fields.join(", "))
}

/// The place of a column in the order, from 1, and its direction.
fn sort(schema: &TableSchema, name: &str) -> Option<String> {
    let place = schema
        .sort_by
        .iter()
        .position(|field| field.column == name)?;
    let field = schema.sort_by[place].to_string();
    let direction = field.strip_prefix(name).unwrap_or_default();
    Some(format!("{}{direction}", place + 1))
}
