//! The table of types: JSON forms in, JSON and canonical forms out, and what is refused.

use lakesync_proto::limits::VALUE_BYTES_MAX;
use lakesync_proto::{ColumnType, Decimal, Value, ValueError};
use proptest::prelude::*;
use serde_json::json;

use crate::samples::{all_types, json as any_json, value_of};

#[track_caller]
fn reads(text: &str, column_type: &str, value: Value) {
    let column_type: ColumnType = column_type.parse().unwrap();
    assert_eq!(
        Value::from_json_text(text, column_type).as_ref(),
        Ok(&value)
    );
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(Value::from_json(&json, column_type).as_ref(), Ok(&value));
    assert!(value.column_type_matches(column_type));
    assert_eq!(value.check(), Ok(()));
}

#[track_caller]
fn refuses(text: &str, column_type: &str, reason: &str) {
    let column_type: ColumnType = column_type.parse().unwrap();
    let error = Value::from_json_text(text, column_type)
        .unwrap_err()
        .to_string();
    assert!(error.contains(reason), "{text}: {error}");
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(text) {
        assert!(Value::from_json(&json, column_type).is_err(), "{text}");
    }
}

#[test]
fn each_type_reads_its_json_form() {
    reads("\"a\\nb\"", "string", Value::from("a\nb"));
    reads("1", "number", Value::Number(1.0));
    reads("-1.5e3", "number", Value::Number(-1_500.0));
    reads("0.30000000000000004", "number", Value::Number(0.1 + 0.2));
    reads("-9223372036854775808", "long", Value::Long(i64::MIN));
    reads("\"9223372036854775807\"", "long", Value::Long(i64::MAX));
    reads("false", "boolean", Value::Boolean(false));
    reads(
        "{\"b\":[],\"a\":\"7\"}",
        "json",
        Value::Json(r#"{"a":"7","b":[]}"#.to_owned()),
    );
    reads("\"12\"", "json", Value::Json("\"12\"".to_owned()));
    reads(
        "\"-12.50\"",
        "decimal(4,2)",
        Value::Decimal(Decimal {
            unscaled: -1_250,
            scale: 2,
        }),
    );
    reads("\"2000-02-29\"", "date", Value::Date(11_016));
    reads(
        "\"1970-01-01T00:00:00.000001Z\"",
        "timestamp",
        Value::Timestamp(1),
    );
    reads("\"AP8=\"", "binary", Value::Binary(vec![0, 255]));
    for column in &all_types().columns {
        reads("null", &column.column_type.to_string(), Value::Null);
    }
}

#[test]
fn nothing_is_coerced() {
    refuses("1", "string", "expected string, found number 1");
    refuses("\"1\"", "number", "expected number, found string \"1\"");
    refuses("\"NaN\"", "number", "found string \"NaN\"");
    refuses("NaN", "number", "expected value");
    refuses("1e400", "number", "does not reach");
    refuses("1.0", "long", "integer of 64 bits");
    refuses("1e3", "long", "integer of 64 bits");
    refuses("9223372036854775808", "long", "integer of 64 bits");
    refuses("\"+1\"", "long", "integer of 64 bits");
    refuses("\"\"", "long", "integer of 64 bits");
    refuses("1", "boolean", "expected boolean, found number 1");
    refuses("\"true\"", "boolean", "found string");
    refuses("true", "string", "found boolean true");
    refuses("1.50", "decimal(4,2)", "found number");
    refuses("\"1.5\"", "decimal(4,2)", "digits after the point");
    refuses("0", "date", "found number");
    refuses("\"2023-02-29\"", "date", "YYYY-MM-DD");
    refuses("\"2023-02-28\"", "timestamp", "RFC 3339");
    refuses("\"AP8\"", "binary", "padded base64");
    refuses("\"AP9=\"", "binary", "padded base64");
    refuses("[]", "string", "found an array");
    refuses("{}", "long", "found an object");
    refuses("\"\\ud800\"", "string", "hex escape");
    refuses("{", "json", "EOF");
    refuses("1 2", "json", "trailing");
}

#[test]
fn json_forms_come_out() {
    let cases = [
        (Value::Long(1 << 53), json!(9_007_199_254_740_992_i64)),
        (Value::Long((1 << 53) + 1), json!("9007199254740993")),
        (Value::Long(i64::MIN), json!("-9223372036854775808")),
        (Value::Json("[1]".to_owned()), json!([1])),
        (
            Value::Decimal(Decimal {
                unscaled: 5,
                scale: 3,
            }),
            json!("0.005"),
        ),
        (Value::Date(-1), json!("1969-12-31")),
        (Value::Timestamp(-1), json!("1969-12-31T23:59:59.999999Z")),
        (Value::Binary(Vec::new()), json!("")),
        (Value::Number(f64::NAN), json!(null)),
    ];
    for (value, json) in cases {
        assert_eq!(value.to_json(), json);
    }
}

#[test]
fn what_no_text_can_say_is_refused_by_name() {
    let cases = [
        (Value::Number(f64::NAN), "NaN is refused"),
        (Value::Number(f64::NEG_INFINITY), "-inf is refused"),
        (Value::Date(2_932_897), "date 10000-01-01 is out of range"),
        (Value::Timestamp(i64::MIN), "out of range"),
        (
            Value::Decimal(Decimal {
                unscaled: i128::MAX,
                scale: 2,
            }),
            "out of range",
        ),
        (
            Value::Decimal(Decimal {
                unscaled: 1,
                scale: 39,
            }),
            "out of range",
        ),
        (Value::Json("{\"b\":1,\"a\":2}".to_owned()), "normal form"),
        (Value::Json("null".to_owned()), "normal form"),
        (Value::Json("{".to_owned()), "EOF"),
    ];
    for (value, reason) in cases {
        let error = value.check().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        value.to_json();
        value.write_canonical(&mut String::new());
    }
}

#[test]
fn size_is_measured_alike_on_both_ends() {
    let fits = "\n".repeat(VALUE_BYTES_MAX);
    assert_eq!(Value::from(fits.as_str()).check(), Ok(()));
    let text = serde_json::to_string(&fits).unwrap();
    assert_eq!(
        Value::from_json_text(&text, ColumnType::String),
        Ok(Value::String(fits.clone()))
    );
    let large = fits + "x";
    assert!(matches!(
        Value::String(large.clone()).check(),
        Err(ValueError::TooLarge { .. })
    ));
    let text = serde_json::to_string(&large).unwrap();
    assert!(matches!(
        Value::from_json_text(&text, ColumnType::String),
        Err(ValueError::TooLarge { .. })
    ));
    assert!(matches!(
        Value::json(&text),
        Err(ValueError::TooLarge { .. })
    ));
    assert!(matches!(
        Value::Binary(vec![0; VALUE_BYTES_MAX]).check(),
        Err(ValueError::TooLarge { .. })
    ));
    // It is the stored form that counts, not how it was written: 1e20 becomes 21 digits.
    let numbers = format!("[{}0]", "1e20,".repeat(VALUE_BYTES_MAX / 6));
    assert!(matches!(
        Value::json(&numbers),
        Err(ValueError::TooLarge { .. })
    ));
}

#[test]
fn equality_is_by_meaning() {
    assert_eq!(Value::Number(0.0), Value::Number(-0.0));
    assert_ne!(Value::Number(1.0), Value::Long(1));
    assert_ne!(Value::from("1"), Value::Json("1".to_owned()));
    assert_ne!(Value::Null, Value::from(""));
}

fn typed_value() -> impl Strategy<Value = (ColumnType, Value)> {
    let types: Vec<_> = all_types()
        .columns
        .iter()
        .map(|column| column.column_type)
        .collect();
    prop::sample::select(types).prop_flat_map(|t| (Just(t), value_of(t)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_value_comes_back_from_its_json_form((column_type, value) in typed_value()) {
        prop_assert_eq!(value.check(), Ok(()));
        prop_assert!(value.column_type_matches(column_type));
        let json = value.to_json();
        prop_assert_eq!(&Value::from_json(&json, column_type).unwrap(), &value);
        prop_assert_eq!(&Value::from_json_text(&json.to_string(), column_type).unwrap(), &value);
    }

    #[test]
    fn the_canonical_form_is_json_and_stable((column_type, value) in typed_value()) {
        let mut canonical = String::new();
        value.write_canonical(&mut canonical);
        let read = Value::from_json_text(&canonical, column_type).unwrap();
        if column_type != ColumnType::Json {
            prop_assert_eq!(&read, &value);
        }
        let mut again = String::new();
        read.write_canonical(&mut again);
        prop_assert_eq!(canonical, again);
    }

    #[test]
    fn json_keeps_its_meaning(json in any_json(5)) {
        let value = Value::json(&json.to_string()).unwrap();
        let back = value.to_json();
        prop_assert!(same_json(&json, &back), "{} {}", json, back);
        prop_assert_eq!(&Value::json(&back.to_string()).unwrap(), &value);
        prop_assert_eq!(&Value::from_json(&json, ColumnType::Json).unwrap(), &value);
    }

    #[test]
    fn no_text_makes_a_value_reader_panic(text in any::<String>(), numeric in "[-+0-9.eE:TZ]{0,40}") {
        for column in &all_types().columns {
            for text in [&text, &numeric] {
                let quoted = serde_json::to_string(text).unwrap();
                for text in [text, &quoted] {
                    if let Ok(value) = Value::from_json_text(text, column.column_type) {
                        prop_assert_eq!(value.check(), Ok(()));
                    }
                }
            }
        }
    }
}

/// Equal as JavaScript reads it: numbers by value, whatever Rust type serde chose for them.
fn same_json(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => {
            a == b || (a.as_f64() == b.as_f64() && (a.is_f64() || b.is_f64()))
        }
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_json(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same_json(a, b)))
        }
        _ => a == b,
    }
}
