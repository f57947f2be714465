//! Where rows lie: the partition specs and sort orders of the two tables.
//!
//! **Invariant**: the log is partitioned by the day of arrival, whatever its table says; the base as the schema says.

use iceberg::Result;
use iceberg::spec::{
    NullOrder as IcebergNulls, Schema, SortDirection as IcebergDirection, SortField as IcebergSort,
    SortOrder, Transform, UnboundPartitionSpec,
};
use iceberg::table::Table;
use iceberg::{Error, ErrorKind};
use lakesync_proto::{NullOrder, PartitionTransform, SortDirection, TableSchema, columns as names};

use super::Kind;

/// The log's partition field. No user column can be `_arrived_at`, and none may take this name.
const ARRIVAL_DAY: &str = names::ARRIVED_DAY;

/// How a table is partitioned; none when it is not.
pub(in crate::lake) fn partition_spec(
    kind: Kind,
    iceberg: &Schema,
    schema: &TableSchema,
) -> Result<Option<UnboundPartitionSpec>> {
    let spec = UnboundPartitionSpec::builder();
    let spec = match kind {
        Kind::Log => {
            let source = field_id(iceberg, names::ARRIVED_AT)?;
            spec.add_partition_field(source, ARRIVAL_DAY, Transform::Day)?
        }
        Kind::Base if schema.partition_by.is_empty() => return Ok(None),
        Kind::Base => schema.partition_by.iter().try_fold(spec, |spec, field| {
            let source = field_id(iceberg, field.column.as_str())?;
            spec.add_partition_field(source, field.field_name(), transform(field.transform))
        })?,
    };
    Ok(Some(spec.build()))
}

/// How the rows of the base's files are sorted; none when they are not, and for logs, which sort by row.
pub(in crate::lake) fn sort_order(
    kind: Kind,
    iceberg: &Schema,
    schema: &TableSchema,
) -> Result<Option<SortOrder>> {
    if kind == Kind::Log || schema.sort_by.is_empty() {
        return Ok(None);
    }
    let mut order = SortOrder::builder();
    for field in &schema.sort_by {
        order.with_sort_field(IcebergSort {
            source_id: field_id(iceberg, field.column.as_str())?,
            transform: Transform::Identity,
            direction: match field.direction {
                SortDirection::Ascending => IcebergDirection::Ascending,
                SortDirection::Descending => IcebergDirection::Descending,
            },
            null_order: match field.nulls {
                NullOrder::First => IcebergNulls::First,
                NullOrder::Last => IcebergNulls::Last,
            },
        });
    }
    order.build(iceberg).map(Some)
}

/// The id of the sort order that a base's files have when they are written as its schema says; none without one.
#[must_use]
pub fn sort_order_id(table: &Table, schema: &TableSchema) -> Option<i32> {
    let metadata = table.metadata();
    let order = sort_order(Kind::Base, metadata.current_schema(), schema).ok()??;
    let mut known = metadata.sort_orders_iter();
    let known = known.find(|known| known.fields == order.fields)?;
    i32::try_from(known.order_id).ok()
}

/// A transform as Iceberg names it.
pub(in crate::lake) fn transform(transform: PartitionTransform) -> Transform {
    match transform {
        PartitionTransform::Identity => Transform::Identity,
        PartitionTransform::Year => Transform::Year,
        PartitionTransform::Month => Transform::Month,
        PartitionTransform::Day => Transform::Day,
        PartitionTransform::Hour => Transform::Hour,
        PartitionTransform::Bucket(parts) => Transform::Bucket(parts),
        PartitionTransform::Truncate(width) => Transform::Truncate(width),
    }
}

fn field_id(iceberg: &Schema, name: &str) -> Result<i32> {
    iceberg.field_id_by_name(name).ok_or_else(|| {
        let message = format!("the table has no field {name}");
        Error::new(ErrorKind::DataInvalid, message)
    })
}
