//! The types of SQL as types of columns (WIRE A.6).
//!
//! **Invariant**: every value of the SQL type is a value of the column's type. What would lose something (a length, a
//! range, a fraction of a microsecond) is refused, with the nearest type that works.

use arrow::datatypes::DataType as ArrowType;
use datafusion::sql::sqlparser::ast::{DataType, ExactNumberInfo, TimezoneInfo};
use datafusion::sql::sqlparser::tokenizer::Span;
use lakesync_proto::ColumnType;

use super::refused;
use crate::syntax::SyntaxError;

/// The digits of a second that a timestamp keeps.
const SECOND_DIGITS_MAX: u64 = 6;

/// The column type that `sql` names.
///
/// # Errors
/// At `place`, naming the nearest type, when there is none.
pub(super) fn column_type(sql: &DataType, place: Span) -> Result<ColumnType, SyntaxError> {
    use DataType as T;
    let nearest = match sql {
        T::Text
        | T::String(None)
        | T::Varchar(None)
        | T::CharacterVarying(None)
        | T::CharVarying(None)
        | T::Nvarchar(None)
        | T::Clob(None) => return Ok(ColumnType::String),
        T::TinyInt(None)
        | T::SmallInt(None)
        | T::Int2(None)
        | T::MediumInt(None)
        | T::Int(None)
        | T::Int4(None)
        | T::Integer(None)
        | T::BigInt(None)
        | T::Int8(None)
        | T::Int16
        | T::Int32
        | T::Int64 => return Ok(ColumnType::Long),
        T::Float(_)
        | T::Float4
        | T::Float8
        | T::Float32
        | T::Float64
        | T::Real
        | T::Double(ExactNumberInfo::None)
        | T::DoublePrecision => return Ok(ColumnType::Number),
        T::Bool | T::Boolean => return Ok(ColumnType::Boolean),
        T::JSON | T::JSONB => return Ok(ColumnType::Json),
        T::Date => return Ok(ColumnType::Date),
        T::Timestamp(digits, zone)
            if digits.is_none_or(|n| n <= SECOND_DIGITS_MAX)
                && *zone != TimezoneInfo::WithoutTimeZone =>
        {
            return Ok(ColumnType::Timestamp);
        }
        T::Binary(None) | T::Varbinary(None) | T::Blob(None) | T::Bytea | T::Bytes(None) => {
            return Ok(ColumnType::Binary);
        }
        T::Decimal(size) | T::Numeric(size) | T::Dec(size) => match decimal(size) {
            Some(found) => return Ok(found),
            None => "decimal(p, s) with 1 <= p <= 38 and 0 <= s <= p",
        },
        T::Custom(name, modifiers) if modifiers.is_empty() => {
            match name.to_string().to_ascii_lowercase().parse() {
                Ok(found) => return Ok(found),
                Err(_) => ALL,
            }
        }
        other => nearest(other),
    };
    let message = format!("a column cannot be {sql}");
    Err(refused(place, message, format!("take {nearest}")))
}

const ALL: &str =
    "one of text, bigint, double, boolean, decimal(p, s), date, timestamp, json and bytea";

/// The type that comes nearest to one that is not there, and what it leaves out.
fn nearest(sql: &DataType) -> &'static str {
    use DataType as T;
    match sql {
        T::Char(_)
        | T::Character(_)
        | T::Varchar(_)
        | T::CharacterVarying(_)
        | T::CharVarying(_)
        | T::Nvarchar(_)
        | T::String(_)
        | T::FixedString(_)
        | T::Clob(_) => "text: lengths are not kept",
        T::Uuid | T::Enum(..) | T::Set(_) => "text",
        T::Time(..) => "text, or a timestamp",
        T::Interval { .. } => "bigint, in a unit of your choice",
        T::Timestamp(..) | T::TimestampNtz(_) | T::Datetime(_) | T::Datetime64(..) => {
            "timestamp: a moment in UTC with microseconds"
        }
        T::Array(_) | T::Map(..) | T::Struct(..) | T::Tuple(_) | T::Union(_) | T::Nested(_) => {
            "json"
        }
        T::Binary(_) | T::Varbinary(_) | T::Blob(_) | T::Bytes(_) => "bytea: lengths are not kept",
        T::UTinyInt
        | T::USmallInt
        | T::UInt8
        | T::UInt16
        | T::UInt32
        | T::TinyIntUnsigned(_)
        | T::SmallIntUnsigned(_)
        | T::IntUnsigned(_)
        | T::IntegerUnsigned(_) => "bigint",
        T::UBigInt | T::UInt64 | T::BigIntUnsigned(_) => "decimal(20, 0)",
        T::Int128 | T::HugeInt | T::BigNumeric(_) | T::BigDecimal(_) => "decimal(38, 0)",
        T::TinyInt(_) | T::SmallInt(_) | T::Int(_) | T::Integer(_) | T::BigInt(_) => {
            "bigint: widths are not kept"
        }
        _ => ALL,
    }
}

fn decimal(size: &ExactNumberInfo) -> Option<ColumnType> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => return None,
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let (precision, scale) = (u8::try_from(precision).ok()?, u8::try_from(scale).ok()?);
    ColumnType::decimal(precision, scale).ok()
}

/// The column type that holds every value of a query's column; else what to cast it to.
pub(super) fn of_arrow(arrow: &ArrowType) -> Result<ColumnType, &'static str> {
    use ArrowType as T;
    match arrow {
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Ok(ColumnType::String),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
            Ok(ColumnType::Long)
        }
        T::UInt64 => Ok(ColumnType::decimal(20, 0).expect("twenty digits are few enough")),
        T::Float16 | T::Float32 | T::Float64 => Ok(ColumnType::Number),
        T::Boolean => Ok(ColumnType::Boolean),
        T::Date32 => Ok(ColumnType::Date),
        T::Timestamp(..) => Ok(ColumnType::Timestamp),
        T::Binary | T::LargeBinary | T::BinaryView => Ok(ColumnType::Binary),
        T::Decimal128(precision, scale) => u8::try_from(*scale)
            .ok()
            .and_then(|scale| ColumnType::decimal(*precision, scale).ok())
            .ok_or("decimal(38, 0)"),
        T::Null => Err("the type that it shall have: null has none"),
        T::Time32(_) | T::Time64(_) => Err("text"),
        T::Interval(_) | T::Duration(_) => Err("text, or a number of a unit"),
        _ => Err(ALL),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn read(sql: &str) -> Result<String, String> {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap();
        let parsed = parser.parse_data_type().unwrap();
        column_type(&parsed, Span::empty())
            .map(|found| found.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_types_of_sql_become_those_of_columns() {
        for (sql, name) in [
            ("text varchar string clob", "string"),
            (
                "int integer bigint smallint tinyint int2 int4 int8 long",
                "long",
            ),
            ("double float real float8 number", "number"),
            ("boolean bool", "boolean"),
            ("json jsonb", "json"),
            ("decimal(9,2) numeric(9,2)", "decimal(9,2)"),
            ("decimal(9)", "decimal(9,0)"),
            ("date", "date"),
            (
                "timestamp timestamptz timestamp(6) timestamp(3)",
                "timestamp",
            ),
            ("binary bytea blob varbinary", "binary"),
        ] {
            for sql in sql.split(' ') {
                assert_eq!(read(sql).as_deref(), Ok(name), "{sql}");
            }
        }
        assert_eq!(read("timestamp with time zone").as_deref(), Ok("timestamp"));
        assert_eq!(read("double precision").as_deref(), Ok("number"));
        assert_eq!(read("character varying").as_deref(), Ok("string"));
    }

    #[test]
    fn what_is_not_there_is_refused_with_the_nearest() {
        for (sql, nearest) in [
            ("varchar(20)", "take text: lengths are not kept"),
            ("char(2)", "take text"),
            ("uuid", "take text"),
            ("time", "take text, or a timestamp"),
            ("interval", "take bigint"),
            ("timestamp(9)", "microseconds"),
            ("timestamp without time zone", "in UTC"),
            ("datetime", "take timestamp"),
            ("int[]", "take json"),
            ("bigint unsigned", "take decimal(20, 0)"),
            ("decimal", "take decimal(p, s)"),
            ("decimal(39,2)", "take decimal(p, s)"),
            ("decimal(5,-2)", "take decimal(p, s)"),
            ("hstore", "take one of text"),
            ("varbinary(8)", "take bytea"),
            ("int(11)", "take bigint"),
        ] {
            let error = read(sql).unwrap_err();
            assert!(error.contains(nearest), "{sql}: {error}");
        }
    }
}
