//! What a manifest says of the values of a data file, as DataFusion leaves out whole files by it.
//!
//! Only least and greatest values are told, and only where they bound every value: a floating point column has none,
//! since NaN is outside any bounds. Nulls and rows are not told either: DataFusion would take a column whose bounds meet
//! for a constant of the file. Timestamps have none: DataFusion 53.1 prunes by the bounds of a cast, and a cast to a time of
//! day keeps no order.
//!
//! **Invariant:** a value of a row of the file lies within the bounds; so do those of the rows that a mask leaves.

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use iceberg::spec::{Datum, PrimitiveLiteral};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use crate::lake::DataFileInfo;

/// The bounds of a file of a table with this schema; none when its manifest has none that can be used.
pub(crate) fn file_bounds(schema: &Schema, file: &DataFileInfo) -> Option<Statistics> {
    let columns = schema.fields().iter().map(|field| column(field, file));
    let columns: Vec<ColumnStatistics> = columns.collect();
    let unknown = ColumnStatistics::new_unknown();
    columns.iter().any(|column| *column != unknown).then(|| {
        let mut bounds = Statistics::new_unknown(schema);
        bounds.column_statistics = columns;
        bounds
    })
}

/// The Iceberg field id of a column.
pub(super) fn field_id(field: &Field) -> Option<i32> {
    let id = field.metadata().get(PARQUET_FIELD_ID_META_KEY)?;
    id.parse().ok()
}

fn column(field: &Field, file: &DataFileInfo) -> ColumnStatistics {
    let unknown = ColumnStatistics::new_unknown();
    let Some(id) = field_id(field) else {
        return unknown;
    };
    let bound = |datum: Option<&Datum>| {
        let value = datum.and_then(|datum| value(datum, field.data_type()));
        value.map_or(Precision::Absent, Precision::Exact)
    };
    unknown
        .with_min_value(bound(file.lower_bounds.get(&id)))
        .with_max_value(bound(file.upper_bounds.get(&id)))
}

/// A bound as a value of a column; none for types whose values may lie outside of any.
fn value(bound: &Datum, column: &DataType) -> Option<ScalarValue> {
    let value = match (bound.literal(), column) {
        (PrimitiveLiteral::Boolean(value), DataType::Boolean) => ScalarValue::from(*value),
        (PrimitiveLiteral::Int(value), DataType::Int32) => ScalarValue::from(*value),
        (PrimitiveLiteral::Int(value), DataType::Int64) => ScalarValue::from(i64::from(*value)),
        (PrimitiveLiteral::Long(value), DataType::Int64) => ScalarValue::from(*value),
        (PrimitiveLiteral::Int(value), DataType::Date32) => ScalarValue::Date32(Some(*value)),
        (PrimitiveLiteral::Int128(value), DataType::Decimal128(precision, scale)) => {
            ScalarValue::Decimal128(Some(*value), *precision, *scale)
        }
        (PrimitiveLiteral::String(value), DataType::Utf8) => ScalarValue::from(value.as_str()),
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[test]
    fn a_bound_is_a_value_of_its_columns_type_and_of_no_other() {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
        let decimal = DataType::Decimal128(20, 4);
        let known = [
            (Datum::bool(true), DataType::Boolean),
            (Datum::int(7), DataType::Int64),
            (Datum::long(7), DataType::Int64),
            (Datum::date(7), DataType::Date32),
            (Datum::string("7"), DataType::Utf8),
        ];
        for (bound, column) in known {
            let found = value(&bound, &column).map(|value| value.data_type());
            assert_eq!(found, Some(column), "{bound}");
        }
        let unknown = [
            (Datum::double(7.0), DataType::Float64),
            (Datum::timestamptz_micros(7), micros),
            (Datum::binary([7]), DataType::LargeBinary),
            (Datum::long(7), DataType::Utf8),
            (Datum::string("7"), decimal),
        ];
        for (bound, column) in unknown {
            assert_eq!(value(&bound, &column), None, "{bound}");
        }
    }
}
