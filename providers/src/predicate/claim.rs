//! A claim's value as a value of a column.
//!
//! **Invariant:** the whole text is a value of the type or there is none; nothing is guessed. `12abc` is no number,
//! and `12` is one for a `long`, a text for a `string`.

use lakesync_proto::{ClaimValue, Claims, ColumnType, Value};

/// The greatest number up to which a float counts every integer, 2^53: beyond it a claim's number may stand for
/// another one.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The values of a claim as values of `column_type`; those that are none are left out.
#[must_use]
pub fn claim_values(claims: &Claims, claim: &str, column_type: ColumnType) -> Vec<Value> {
    let values = claims.get(claim).unwrap_or_default();
    let values = values.iter();
    values
        .filter_map(|value| claim_value(value, column_type))
        .collect()
}

/// One value of a claim as a value of `column_type`, if it is one.
pub(super) fn claim_value(value: &ClaimValue, column_type: ColumnType) -> Option<Value> {
    match (column_type, value) {
        (_, ClaimValue::Text(text)) => read_text(text, column_type),
        (ColumnType::Boolean, ClaimValue::Boolean(value)) => Some(Value::Boolean(*value)),
        (ColumnType::Number, ClaimValue::Number(number)) if number.is_finite() => {
            Some(Value::Number(*number))
        }
        (ColumnType::Boolean | ColumnType::Number, _) => None,
        // What a number or a truth value is written as, read as any other text.
        (ColumnType::Json, plain) => Value::json(&plain_text(plain)?).ok(),
        (_, plain) => read_text(&plain_text(plain)?, column_type),
    }
}

/// Reads a text as a value of `column_type`; for `json` it is a JSON string.
pub(super) fn read_text(text: &str, column_type: ColumnType) -> Option<Value> {
    let read = match column_type {
        // JSON's own spelling, but for the spaces that JSON allows around it and for `null`.
        ColumnType::Boolean | ColumnType::Number if text != text.trim() || text == "null" => {
            return None;
        }
        ColumnType::Boolean | ColumnType::Number => Value::from_json_text(text, column_type),
        ColumnType::Decimal { scale, .. } => {
            Value::from_json(&with_scale(text, scale).into(), column_type)
        }
        _ => Value::from_json(&text.into(), column_type),
    };
    read.ok().filter(|value| *value != Value::Null)
}

/// A decimal's text with zeros up to `scale` digits after the point: `12.5` and `12.50` are one number.
fn with_scale(text: &str, scale: u8) -> String {
    let scale = usize::from(scale);
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.len() <= scale && !fraction.is_empty() => {
            format!("{whole}.{fraction:0<scale$}")
        }
        None if scale > 0 => format!("{text}.{:0<scale$}", ""),
        _ => text.to_owned(),
    }
}

fn plain_text(value: &ClaimValue) -> Option<String> {
    match value {
        ClaimValue::Text(text) => Some(text.clone()),
        ClaimValue::Number(number) if number.abs() <= EXACT_MAX => Value::Number(*number).text(),
        ClaimValue::Number(_) => None,
        ClaimValue::Boolean(value) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::Decimal;

    use super::*;

    fn text(text: &str) -> ClaimValue {
        ClaimValue::Text(text.to_owned())
    }

    const MONEY: ColumnType = ColumnType::Decimal {
        precision: 5,
        scale: 2,
    };

    #[test]
    fn a_claim_is_a_value_of_the_columns_type_or_none() {
        use ColumnType::{Binary, Boolean, Date, Json, Long, Number, String, Timestamp};
        let number = ClaimValue::Number;
        let yes = ClaimValue::Boolean(true);
        let money = |unscaled| Some(Value::Decimal(Decimal { unscaled, scale: 2 }));
        let json = |text: &str| Some(Value::Json(text.to_owned()));
        let cases = [
            (text("12"), Long, Some(Value::Long(12))),
            (
                text("-9223372036854775808"),
                Long,
                Some(Value::Long(i64::MIN)),
            ),
            (text("12abc"), Long, None),
            (text(" 12"), Long, None),
            (text("12.0"), Long, None),
            (text(""), Long, None),
            (number(12.0), Long, Some(Value::Long(12))),
            (number(12.5), Long, None),
            (number(1e300), Long, None),
            (number(9_007_199_254_740_994.0), Long, None),
            (yes.clone(), Long, None),
            (text("12.5"), Number, Some(Value::Number(12.5))),
            (text("12abc"), Number, None),
            (text("12 "), Number, None),
            (text("NaN"), Number, None),
            (text("null"), Number, None),
            (text("1e999"), Number, None),
            (number(f64::NAN), Number, None),
            (text("true"), Boolean, Some(Value::Boolean(true))),
            (text("True"), Boolean, None),
            (text("1"), Boolean, None),
            (number(1.0), Boolean, None),
            (yes.clone(), Boolean, Some(Value::Boolean(true))),
            (text("null"), Boolean, None),
            (text("null"), String, Some(Value::from("null"))),
            (text("12abc"), String, Some(Value::from("12abc"))),
            (number(12.0), String, Some(Value::from("12"))),
            (yes.clone(), String, Some(Value::from("true"))),
            (text("a"), Json, json("\"a\"")),
            (number(3.0), Json, json("3")),
            (yes, Json, json("true")),
            (text("12.5"), MONEY, money(1_250)),
            (text("12"), MONEY, money(1_200)),
            (number(12.5), MONEY, money(1_250)),
            (text("12.555"), MONEY, None),
            (text("12."), MONEY, None),
            (text("1234.00"), MONEY, None),
            (text("1970-01-02"), Date, Some(Value::Date(1))),
            (text("1970-1-2"), Date, None),
            (
                text("1970-01-01T00:00:01Z"),
                Timestamp,
                Some(Value::Timestamp(1_000_000)),
            ),
            (text("yesterday"), Timestamp, None),
            (text("AP8="), Binary, Some(Value::Binary(vec![0, 255]))),
            (text("AP8"), Binary, None),
        ];
        for (claim, column_type, expected) in cases {
            let found = claim_value(&claim, column_type);
            assert_eq!(found, expected, "{claim:?} as {column_type}");
        }
    }

    #[test]
    fn of_a_list_the_values_of_the_type_remain() {
        let mut claims = Claims::new();
        claims.set(
            "levels",
            vec![text("1"), text("x"), ClaimValue::Number(2.0)],
        );
        assert_eq!(
            claim_values(&claims, "levels", ColumnType::Long),
            [Value::Long(1), Value::Long(2)]
        );
        assert_eq!(claim_values(&claims, "other", ColumnType::Long), []);
    }
}
