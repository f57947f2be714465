//! Partitions and sort orders for the tables of a history, and what they demand of a base's files.
//!
//! Invariant: what a file must be is worked out here value by value; nothing of the product's is used but the names.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField as RowField};
use lakesync_proto::{
    NullOrder, PartitionField, PartitionTransform, SortDirection, SortField, TableDefinition,
    TableSchema,
};

use crate::history::{History, Rng};

/// Gives each table of a history a random layout, or none.
pub fn give(history: &mut History, rng: &mut Rng) {
    for schema in &mut history.schemas {
        *schema = with_layout(schema, rng);
    }
}

/// The same table with a random layout that its columns can have.
///
/// # Panics
/// When its definition is none.
pub fn with_layout(schema: &TableSchema, rng: &mut Rng) -> TableSchema {
    let mut definition = schema.definition();
    definition.partition_by = Some(Vec::new());
    definition.sort_by = Some(Vec::new());
    for _ in 0..rng.below(4) {
        let column = &rng.pick(&schema.columns).name;
        let text = match rng.below(8) {
            0 | 1 => column.to_string(),
            2 => format!("year({column})"),
            3 => format!("month({column})"),
            4 => format!("day({column})"),
            5 => format!("hour({column})"),
            6 => format!("bucket({}, {column})", rng.between(1, 5)),
            _ => format!("truncate({}, {column})", rng.between(1, 3)),
        };
        let field: PartitionField = text.parse().expect("a field");
        try_push(&mut definition, |wish| {
            wish.partition_by
                .get_or_insert_default()
                .push(field.clone());
        });
    }
    for _ in 0..rng.below(3) {
        let field = SortField {
            column: rng.pick(&schema.columns).name.clone(),
            direction: *rng.pick(&[SortDirection::Ascending, SortDirection::Descending]),
            nulls: *rng.pick(&[NullOrder::First, NullOrder::Last]),
        };
        try_push(&mut definition, |wish| {
            wish.sort_by.get_or_insert_default().push(field.clone());
        });
    }
    TableSchema::from_definition(&definition).expect("it was tried")
}

/// Keeps a change that makes a table.
fn try_push(definition: &mut TableDefinition, change: impl FnOnce(&mut TableDefinition)) {
    let mut changed = definition.clone();
    change(&mut changed);
    if TableSchema::from_definition(&changed).is_ok() {
        *definition = changed;
    }
}

/// All rows of a Parquet file.
///
/// # Panics
/// When it cannot be read, or has none.
pub fn rows_of(path: &Path) -> RecordBatch {
    let file = File::open(path).expect("a file of the base");
    let reader =
        datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.build())
            .expect("a Parquet file");
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().expect("its rows");
    concat_batches(&batches[0].schema(), &batches).expect("batches of one schema")
}

/// Whether the rows are in the table's order.
///
/// # Panics
/// When a column is missing.
pub fn is_sorted(schema: &TableSchema, rows: &RecordBatch) -> bool {
    let column = |field: &SortField| {
        rows.column_by_name(field.column.as_str())
            .expect("a column")
    };
    let fields = schema.sort_by.iter().map(|field| {
        let options = SortOptions {
            descending: field.direction == SortDirection::Descending,
            nulls_first: field.nulls == NullOrder::First,
        };
        RowField::new_with_options(column(field).data_type().clone(), options)
    });
    let columns: Vec<ArrayRef> = schema
        .sort_by
        .iter()
        .map(|field| std::sync::Arc::clone(column(field)))
        .collect();
    if columns.is_empty() {
        return true;
    }
    let converter = RowConverter::new(fields.collect()).expect("types that have an order");
    let rows = converter
        .convert_columns(&columns)
        .expect("columns of these types");
    rows.iter()
        .zip(rows.iter().skip(1))
        .all(|(one, next)| one <= next)
}

/// The texts of the partition that a row belongs to; a bucket's is a star, since only its file's rows must agree.
///
/// # Panics
/// When a column is missing, or of another type than its schema says.
pub fn partition(schema: &TableSchema, rows: &RecordBatch, row: usize) -> Vec<Option<String>> {
    let of = |field: &PartitionField| {
        let column = rows
            .column_by_name(field.column.as_str())
            .expect("a column");
        let shown = |array: &dyn Array| {
            arrow::util::display::array_value_to_string(array, row).expect("a value")
        };
        if column.is_null(row) {
            return None;
        }
        // `2026-01-31T23:59:59…`, whatever the year.
        let time = match column.data_type() {
            DataType::Date32 | DataType::Timestamp(..) => shown(column.as_ref()),
            _ => String::new(),
        };
        Some(match field.transform {
            PartitionTransform::Identity => shown(column.as_ref()),
            PartitionTransform::Year => time[..time.len().min(4)].to_owned(),
            PartitionTransform::Month => time[..time.len().min(7)].to_owned(),
            PartitionTransform::Day => time[..time.len().min(10)].to_owned(),
            PartitionTransform::Hour => time[..time.len().min(13)].to_owned(),
            PartitionTransform::Bucket(_) => "*".to_owned(),
            PartitionTransform::Truncate(width) => match column.data_type() {
                DataType::Utf8 => {
                    let width = usize::try_from(width).expect("a small width");
                    column
                        .as_string::<i32>()
                        .value(row)
                        .chars()
                        .take(width)
                        .collect()
                }
                _ => {
                    let value = i128::from(column.as_primitive::<Int64Type>().value(row));
                    (value - value.rem_euclid(i128::from(width))).to_string()
                }
            },
        })
    };
    schema.partition_by.iter().map(of).collect()
}
