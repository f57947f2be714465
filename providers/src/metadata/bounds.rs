//! What manifests say of values, as texts that people read: partitions as `name=value/…`, bounds by column name.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use iceberg::spec::{Datum, Literal, PrimitiveLiteral, PrimitiveType, Transform, Type};
use iceberg::table::Table;

use crate::lake::DataFileInfo;

/// The partition of a file as Iceberg names its folder; none when the file's spec has no fields, or a column of it was
/// dropped.
pub(super) fn partition(table: &Table, file: &DataFileInfo) -> Option<String> {
    let metadata = table.metadata();
    let spec = metadata.partition_spec_by_id(file.spec_id)?;
    let types = spec.partition_type(metadata.current_schema()).ok()?;
    let fields = spec.fields().iter().zip(types.fields());
    let parts = fields
        .zip(file.partition.fields())
        .map(|((field, typed), value)| {
            let value = value
                .as_ref()
                .and_then(|value| value.as_primitive_literal());
            let value = value.filter(|_| field.transform != Transform::Void);
            let datum = value.zip(primitive(&typed.field_type));
            let shown = datum.map(|(value, of_type)| text(&of_type, &value));
            format!("{}={}", field.name, shown.as_deref().unwrap_or("null"))
        });
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn primitive(of_type: &Type) -> Option<PrimitiveType> {
    of_type.as_primitive_type().cloned()
}

/// A value as people write it. Iceberg 0.10's own form panics on days that are far away.
fn text(of_type: &PrimitiveType, literal: &PrimitiveLiteral) -> String {
    let time = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros);
    let shown = match (of_type, literal) {
        (PrimitiveType::Date, PrimitiveLiteral::Int(days)) => {
            NaiveDate::from_epoch_days(*days).map(|day| day.to_string())
        }
        (PrimitiveType::Timestamp, PrimitiveLiteral::Long(micros)) => {
            time(*micros).map(|time| time.naive_utc().format("%Y-%m-%dT%H:%M:%S%.6f").to_string())
        }
        (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(micros)) => {
            time(*micros).map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        _ => None,
    };
    shown.unwrap_or_else(|| match literal {
        // Beyond the calendar there is the number.
        PrimitiveLiteral::Int(number) => number.to_string(),
        PrimitiveLiteral::Long(number) => number.to_string(),
        other => {
            let literal = Literal::Primitive(other.clone());
            Transform::Identity.to_human_string(&Type::Primitive(of_type.clone()), Some(&literal))
        }
    })
}

/// A bound as people write it.
pub(super) fn bound(datum: &Datum) -> String {
    text(datum.data_type(), datum.literal())
}

/// Bounds by column name; a column that was dropped has none.
pub(super) fn by_name(table: &Table, bounds: &HashMap<i32, Datum>) -> BTreeMap<String, String> {
    let schema = table.metadata().current_schema();
    let named = bounds.iter().filter_map(|(id, datum)| {
        let name = schema.name_by_field_id(*id)?;
        Some((name.to_owned(), bound(datum)))
    });
    named.collect()
}
