//! The delta id vectors of the contract (WIRE B 1.11), and what an id sees.

use lakesync_proto::{ColumnChange, ColumnType, Op, RowDelta, Value};
use proptest::prelude::*;

use crate::samples::{column, delta, key};

/// A column from its JSON form.
fn typed(name: &str, column_type: &str, json: &str) -> ColumnChange {
    let column_type: ColumnType = column_type.parse().unwrap();
    ColumnChange {
        column: column(name),
        value: Value::from_json_text(json, column_type).unwrap(),
    }
}

#[track_caller]
fn check(columns: Vec<ColumnChange>, id: &str) {
    let key = key("todos", "row-1", "client-a", 111_411_200_000_000_001);
    assert_eq!(
        RowDelta::new(Op::Update, key, columns).delta_id.to_string(),
        id
    );
}

#[test]
fn columns_are_hashed_in_their_order() {
    let (title, done, n) = (
        typed("title", "string", "\"Buy milk\""),
        typed("done", "boolean", "false"),
        typed("n", "number", "3"),
    );
    check(
        vec![title.clone(), done.clone(), n.clone()],
        "564ec04d5afc4de1b3c7a3083c5fb0b39511e23cdf142e74bf75a1ff90df87ad",
    );
    check(
        vec![n, done.clone(), title.clone()],
        "000a149906fa9fde8d17bb5de05a18c6a12b99d011a7c6fd8b57c6cb4b32868e",
    );
    // A long hashes like the same number.
    let long = typed("n", "long", "\"3\"");
    check(
        vec![title, done, long],
        "564ec04d5afc4de1b3c7a3083c5fb0b39511e23cdf142e74bf75a1ff90df87ad",
    );
}

#[test]
fn no_columns() {
    check(
        Vec::new(),
        "79da37cb3181829e7a1b75929a4357bd4b291f320a53d66b25525a7cb8a6f96f",
    );
}

#[test]
fn minus_zero_is_zero() {
    for zero in ["0", "-0", "-0.0"] {
        let columns = vec![typed("n", "number", zero)];
        check(
            columns,
            "439538a465d15b1cf6f207f779a5412622298d7aa69668c378136f82fd6b82cd",
        );
    }
}

#[test]
fn nulls() {
    // JavaScript's NaN and Infinity become null in the text; here they are refused before an id is made.
    for column_type in ["number", "long", "json"] {
        let columns = vec![typed("n", column_type, "null")];
        check(
            columns,
            "d64cd8adaaa16f96a2b0756ad4f53a7d192a076cbfc73ef5a7fae59971d32413",
        );
    }
    let not_a_number = vec![ColumnChange {
        column: column("n"),
        value: Value::Number(f64::NAN),
    }];
    check(
        not_a_number,
        "d64cd8adaaa16f96a2b0756ad4f53a7d192a076cbfc73ef5a7fae59971d32413",
    );
}

#[test]
fn keys_inside_json_are_sorted() {
    let columns = vec![typed("j", "json", r#"{ "b": 1, "a": [1, {"c": 2}] }"#)];
    check(
        columns,
        "eb5a6ef22ea5f1a34f2404ae6a29a9f6b72b27ea55a6846a1a46a75264e52525",
    );
}

#[test]
fn strings_are_escaped_as_javascript_does() {
    let text = "é\u{2028}😀\"\\\n\u{1}";
    let columns = vec![ColumnChange {
        column: column("s"),
        value: Value::from(text),
    }];
    check(
        columns,
        "e720eb5b3bfe898d4be36c3d7618b0c3abce7d931006cc063e8a750f19f9278a",
    );
    // The same inside JSON.
    let json = serde_json::to_string(text).unwrap();
    check(
        vec![typed("s", "json", &json)],
        "e720eb5b3bfe898d4be36c3d7618b0c3abce7d931006cc063e8a750f19f9278a",
    );
}

#[test]
fn numbers_have_their_javascript_form() {
    let id = "e37f679e1a791b94004361e663c9445e29929b5b3fac965f4e035a24e8c68490";
    let texts = [
        ("a", "1e21"),
        ("b", "1e-7"),
        ("c", "0.1"),
        ("d", "123456789012345680000"),
    ];
    check(
        texts
            .map(|(name, text)| typed(name, "number", text))
            .to_vec(),
        id,
    );
    check(
        texts.map(|(name, text)| typed(name, "json", text)).to_vec(),
        id,
    );
}

#[test]
fn a_timestamp_has_six_digits() {
    let id = "b4116a2d8e939cb116c1aa5bf746e674dcae4ddf23cf415899cd63623ef51d81";
    check(
        vec![typed("d", "string", "\"1970-01-01T00:00:00.000Z\"")],
        id,
    );
    let timestamp = typed("d", "timestamp", "\"1970-01-01T01:00:00+01:00\"");
    let six = typed("d", "string", "\"1970-01-01T00:00:00.000000Z\"");
    let key = || key("t", "r", "c", 1);
    let (a, b) = (
        RowDelta::new(Op::Update, key(), vec![timestamp]),
        RowDelta::new(Op::Update, key(), vec![six]),
    );
    assert_eq!(a.delta_id, b.delta_id);
}

#[test]
fn a_long_keeps_all_its_digits_and_an_integer_in_json_does_not() {
    let id = |column_type: &str| {
        let columns = vec![typed("n", column_type, "9007199254740993")];
        RowDelta::new(Op::Update, key("t", "r", "c", 1), columns).delta_id
    };
    let rounded = RowDelta::new(
        Op::Update,
        key("t", "r", "c", 1),
        vec![typed("n", "long", "9007199254740992")],
    );
    assert_eq!(id("json"), rounded.delta_id);
    assert_eq!(id("number"), rounded.delta_id);
    assert_ne!(id("long"), rounded.delta_id);
}

proptest! {
    #[test]
    fn an_id_sees_every_part_but_the_op(delta in delta(), other in delta()) {
        let mut changed = delta.clone();
        changed.op = other.op;
        prop_assert_eq!(changed.computed_id(), delta.delta_id);
        let parts: [fn(&mut RowDelta, &RowDelta); 3] = [
            |a, b| a.row_id = b.row_id.clone(),
            |a, b| a.client_id = b.client_id.clone(),
            |a, b| a.hlc = b.hlc,
        ];
        for part in parts {
            let mut changed = delta.clone();
            part(&mut changed, &other);
            prop_assert_eq!(changed.computed_id() == delta.delta_id, changed == delta);
        }
        let mut changed = delta.clone();
        changed.columns.reverse();
        prop_assert_eq!(changed.computed_id() == delta.delta_id, changed == delta);
    }
}
