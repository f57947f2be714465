//! What a manifest says of the values of a data file, as DataFusion leaves out whole files by it, and takes a column with
//! one value for a constant.
//!
//! A value of floating point is finite everywhere in the lake, since nothing else is let in: so its bounds hold too.
//! Which filters may look at bounds at all is said in `carried_bounds`.
//!
//! **Invariant:** a value of a row of the file lies within the bounds; so do those of the rows that a mask leaves. Where
//! both bounds are the same text, every row has it: a shortened lower bound goes without an upper one.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
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
        let rows = usize::try_from(file.rows);
        Statistics {
            num_rows: rows.map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Absent,
            column_statistics: columns,
        }
    })
}

/// The Iceberg field id of a column.
pub(crate) fn field_id(field: &Field) -> Option<i32> {
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
    let nulls = file.null_counts.get(&id).copied().map(usize::try_from);
    let nulls = match nulls {
        Some(Ok(nulls)) => Precision::Exact(nulls),
        _ => Precision::Absent,
    };
    unknown
        .with_null_count(nulls)
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
        (PrimitiveLiteral::Double(value), DataType::Float64) => ScalarValue::from(value.0),
        (PrimitiveLiteral::Long(value), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            ScalarValue::TimestampMicrosecond(Some(*value), zone.clone())
        }
        (PrimitiveLiteral::Int(value), DataType::Date32) => ScalarValue::Date32(Some(*value)),
        (PrimitiveLiteral::Int128(value), DataType::Decimal128(precision, scale)) => {
            ScalarValue::Decimal128(Some(*value), *precision, *scale)
        }
        (PrimitiveLiteral::String(value), DataType::Utf8) => ScalarValue::from(value.as_str()),
        (PrimitiveLiteral::String(value), DataType::Utf8View) => {
            ScalarValue::Utf8View(Some(value.clone()))
        }
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
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
            (Datum::string("7"), DataType::Utf8View),
            (Datum::double(7.0), DataType::Float64),
            (Datum::timestamptz_micros(7), micros.clone()),
        ];
        for (bound, column) in known {
            let found = value(&bound, &column).map(|value| value.data_type());
            assert_eq!(found, Some(column), "{bound}");
        }
        let unknown = [
            (Datum::double(7.0), DataType::Float32),
            (Datum::timestamptz_micros(7), DataType::Int32),
            (Datum::string("7"), micros),
            (Datum::binary([7]), DataType::LargeBinary),
            (Datum::long(7), DataType::Utf8),
            (Datum::string("7"), decimal),
        ];
        for (bound, column) in unknown {
            assert_eq!(value(&bound, &column), None, "{bound}");
        }
    }
}
