//! Which fields the two tables have, and in which order.

use std::sync::Arc;

use iceberg::spec::{NestedField, NestedFieldRef, PrimitiveType, Schema, Type};
use iceberg::{Error, ErrorKind, Result};
use lakesync_proto::{Column, ColumnType, TableSchema, columns as names};

use super::{ColumnIds, Kind};

/// The bytes of a delta id.
const DELTA_ID_BYTES: u64 = 32;

/// A field that needs an id.
pub(super) enum Slot<'a> {
    /// One of the table's own, by name.
    Own(&'static str),
    /// A user's column.
    Column(&'a Column),
}

/// The user's columns of a table, in its order.
pub(super) fn columns(kind: Kind, schema: &TableSchema) -> Vec<&Column> {
    let mut columns: Vec<&Column> = schema.columns.iter().collect();
    if kind == Kind::Base {
        return columns;
    }
    // The last that was dropped stands for its name, unless a living column has it.
    let mut dropped: Vec<&Column> = Vec::new();
    for column in schema.dropped.iter().rev() {
        let same_name = |other: &&Column| {
            let (this, other) = (column.name.as_str(), other.name.as_str());
            this.eq_ignore_ascii_case(other)
        };
        if !columns.iter().chain(&dropped).any(same_name) {
            dropped.push(column);
        }
    }
    columns.extend(dropped.into_iter().rev());
    columns
}

/// The table's own columns.
fn own(kind: Kind) -> Vec<(&'static str, PrimitiveType)> {
    match kind {
        Kind::Base => vec![(names::ROW_ID, PrimitiveType::String)],
        Kind::Log => vec![
            (names::SEQ, PrimitiveType::Long),
            (names::ARRIVED_AT, PrimitiveType::Timestamptz),
            (names::HLC, PrimitiveType::Long),
            (names::CLIENT, PrimitiveType::String),
            (names::DELTA_ID, PrimitiveType::Fixed(DELTA_ID_BYTES)),
            (names::OP, PrimitiveType::Int),
            (names::ROW_ID, PrimitiveType::String),
            (names::SET, PrimitiveType::Binary),
        ],
    }
}

/// Builds the Iceberg schema, with the field ids that `id` gives.
pub(super) fn build(
    kind: Kind,
    schema: &TableSchema,
    mut id: impl FnMut(Slot<'_>) -> Option<i32>,
) -> Result<(Schema, ColumnIds)> {
    let lost = |name: &str| {
        let message = format!("the table has no field {name}");
        Error::new(ErrorKind::DataInvalid, message)
    };
    let mut fields: Vec<NestedFieldRef> = Vec::new();
    let mut identifiers = Vec::new();
    for (name, field_type) in own(kind) {
        let id = id(Slot::Own(name)).ok_or_else(|| lost(name))?;
        let field = NestedField::required(id, name, Type::Primitive(field_type));
        fields.push(Arc::new(field));
        if kind == Kind::Base {
            identifiers.push(id);
        }
    }
    let mut ids = ColumnIds::new();
    for column in columns(kind, schema) {
        let name = column.name.as_str();
        let id = id(Slot::Column(column)).ok_or_else(|| lost(name))?;
        fields.push(Arc::new(field(id, column)?));
        ids.insert(column.number, id);
    }
    let schema = Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(identifiers)
        .build()?;
    Ok((schema, ids))
}

fn field(id: i32, column: &Column) -> Result<NestedField> {
    let field = NestedField::optional(id, column.name.as_str(), field_type(column.column_type)?);
    Ok(match column.column_type {
        // Other readers see a string; this tells what is in it.
        ColumnType::Json => field.with_doc("json"),
        _ => field,
    })
}

fn field_type(column_type: ColumnType) -> Result<Type> {
    let primitive = match column_type {
        ColumnType::String | ColumnType::Json => PrimitiveType::String,
        ColumnType::Number => PrimitiveType::Double,
        ColumnType::Long => PrimitiveType::Long,
        ColumnType::Boolean => PrimitiveType::Boolean,
        ColumnType::Decimal { precision, scale } => {
            return Type::decimal(u32::from(precision), u32::from(scale));
        }
        ColumnType::Date => PrimitiveType::Date,
        ColumnType::Timestamp => PrimitiveType::Timestamptz,
        ColumnType::Binary => PrimitiveType::Binary,
    };
    Ok(Type::Primitive(primitive))
}

/// Old files must stay readable: a type may only become a decimal of the same scale and a greater
/// precision.
pub(super) fn check_widening(from: &Schema, to: &Schema) -> std::result::Result<(), String> {
    for field in to.as_struct().fields() {
        let Some(before) = from.field_by_id(field.id) else {
            continue;
        };
        let (old, new) = (
            before.field_type.as_primitive_type(),
            field.field_type.as_primitive_type(),
        );
        let allowed = match (old, new) {
            (Some(old), Some(new)) if old == new => true,
            (
                Some(PrimitiveType::Decimal {
                    precision: p,
                    scale: s,
                }),
                Some(PrimitiveType::Decimal { precision, scale }),
            ) => precision >= p && scale == s,
            _ => false,
        };
        if !allowed {
            return Err(format!(
                "column {} cannot change from {} to {}: only a decimal's precision may grow",
                field.name, before.field_type, field.field_type
            ));
        }
    }
    Ok(())
}
