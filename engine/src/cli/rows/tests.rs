//! Files as people have them, and what is read out of them.

use std::io::{self, BufReader, Read};

use lakesync_proto::{ColumnType, TableName};

use super::*;

fn import(key: &[&str], types: &[&str]) -> Import {
    let types = types
        .iter()
        .map(|text| parse_type_override(text).expect("a type"));
    Import::new(
        TableName::parse("t").expect("a name"),
        key.iter().map(|name| (*name).to_owned()).collect(),
        types.collect(),
    )
}

fn reader(text: &str) -> RowReader<&[u8]> {
    RowReader::new(text.as_bytes())
}

fn columns(text: &str, types: &[&str]) -> Vec<(String, String)> {
    let definition = reader(text)
        .infer(&import(&[], types))
        .expect("the rows go together");
    let columns = definition.columns.iter();
    columns
        .map(|c| (c.name.to_string(), c.column_type.to_string()))
        .collect()
}

/// The type of the one column `c`, whose values are given as JSON.
fn type_of(values: &[&str]) -> String {
    let lines: String = values
        .iter()
        .map(|json| format!("{{\"c\": {json}}}\n"))
        .collect();
    columns(&lines, &[]).remove(0).1
}

fn refused(text: &str, import: &Import) -> RowError {
    reader(text).infer(import).expect_err(text)
}

#[test]
fn types_are_the_narrowest_that_hold_all_values() {
    for (values, expected) in [
        (&["1", "-2", "9223372036854775807"][..], "long"),
        (&["1", "2.5"], "number"),
        (&["1e3"], "number"),
        (&["true", "null", "false"], "boolean"),
        (&["\"2026-01-31\"", "null"], "date"),
        (&["\"2026-01-31\"", "\"2026-02-30\""], "string"),
        (&["\"2026-01-31T10:00:00Z\""], "timestamp"),
        (&["\"2026-01-31T10:00:00Z\"", "\"2026-01-31\""], "string"),
        (&["\"12.50\"", "\"7.25\""], "string"),
        (&["\"\""], "string"),
        (&["null", "null"], "string"),
        (&["null", "3"], "long"),
        (&["{\"a\": 1}", "[1]", "null"], "json"),
    ] {
        assert_eq!(type_of(values), expected, "{values:?}");
    }
}

#[test]
fn a_whole_number_that_a_double_would_round_is_refused() {
    let text = "{\"c\": 1}\n{\"c\": 9223372036854775808}";
    let error = refused(text, &import(&[], &[])).to_string();
    assert!(
        error.contains("line 2") && error.contains("more than 64 bits"),
        "{error}"
    );
    assert_eq!(columns(text, &["c=decimal(20,0)"])[0].1, "decimal(20,0)");
}

#[test]
fn columns_stand_in_the_order_they_first_appear() {
    let text = "{\"b\": 1}\n\n{\"a\": \"x\", \"b\": 2}\r\n{\"c\": [1], \"a\": null}";
    let names: Vec<_> = columns(text, &["d=decimal(5,1)", "a=json"]);
    let expected = [
        ("b", "long"),
        ("a", "json"),
        ("c", "json"),
        ("d", "decimal(5,1)"),
    ];
    assert_eq!(
        names,
        expected.map(|(name, of)| (name.to_owned(), of.to_owned()))
    );
}

#[test]
fn values_that_do_not_go_together_name_line_and_column() {
    let error = refused(
        "{\"a\": 1}\n{\"a\": 2, \"b\": true}\n{\"b\": \"x\"}\n",
        &import(&[], &[]),
    );
    assert_eq!(error.kind(), RowErrorKind::Definition);
    assert_eq!(
        error.to_string(),
        "line 3 (byte 29): column b is a string here and was a boolean before; \
         correct the rows, or name a type that has room for both: --type b=json"
    );
    let json = refused("{\"a\": {}}\n{\"a\": 2}", &import(&[], &[]));
    assert_eq!(json.line(), Some(2));
    // A type that is named is not inferred.
    assert!(
        reader("{\"a\": {}}\n{\"a\": 2}")
            .infer(&import(&[], &["a=json"]))
            .is_ok()
    );
}

#[test]
fn names_and_keys_are_checked() {
    for name in ["a b", "row_id", "_seq", ""] {
        let error = refused(
            &format!("{{\"ok\": 1}}\n{{\"{name}\": 1}}"),
            &import(&[], &[]),
        );
        assert_eq!(error.line(), Some(2), "{error}");
    }
    let error = refused("{\"id\": 1, \"x\": 2}", &import(&["id", "ID"], &[]));
    assert!(error.to_string().contains("key column ID"), "{error}");
    assert!(error.to_string().contains("id, x"), "{error}");
    assert!(
        refused("\n\n", &import(&[], &[]))
            .to_string()
            .contains("no rows")
    );

    let definition = reader("{\"id\": 1, \"x\": 2}")
        .infer(&import(&["id"], &[]))
        .expect("fine");
    assert_eq!(definition.primary_key, ["id"]);
}

#[test]
fn rows_after_the_inferred_ones_are_checked_against_the_types() {
    let mut text: String = (0..INFER_ROWS)
        .map(|n| format!("{{\"id\": {n}}}\n"))
        .collect();
    text.push_str("{\"id\": 9007199254740993}\n{\"id\": 1.5}\n{\"late\": 1}\n");
    let mut reader = reader(&text);
    let definition = reader
        .infer(&import(&[], &["d=decimal(3,1)"]))
        .expect("fine");
    let schema = TableSchema::from_definition(&definition).expect("legal");
    let mut outcomes = Vec::new();
    while let Some(line) = reader.next_line().expect("legal lines") {
        let Line::Row(row) = line else {
            panic!("no deltas here")
        };
        outcomes.push((row.line, row.changes(&schema)));
    }
    assert_eq!(outcomes.len(), INFER_ROWS + 3);
    let (line, changes) = &outcomes[INFER_ROWS];
    assert_eq!(*line, 1_001);
    assert_eq!(
        changes.as_ref().expect("a long")[0].value,
        Value::Long(9_007_199_254_740_993)
    );
    let error = outcomes[INFER_ROWS + 1].1.as_ref().expect_err("no long");
    assert_eq!(
        (error.line(), error.kind()),
        (Some(1_002), RowErrorKind::Value)
    );
    assert!(error.to_string().contains("--type id="), "{error}");
    let error = outcomes[INFER_ROWS + 2]
        .1
        .as_ref()
        .expect_err("no such column");
    assert!(error.to_string().contains("no column late"), "{error}");
}

#[test]
fn named_decimals_are_read_exactly() {
    let mut reader = reader("{\"p\": \"12.50\"}\n{\"p\": null}\n{\"p\": \"1.234\"}");
    let definition = reader
        .infer(&import(&[], &["p=decimal(15,2)"]))
        .expect("fine");
    let schema = TableSchema::from_definition(&definition).expect("legal");
    let mut next = || match reader.next_line() {
        Ok(Some(Line::Row(row))) => row.changes(&schema),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        next().expect("a decimal")[0].value.text().as_deref(),
        Some("12.50")
    );
    assert_eq!(next().expect("null")[0].value, Value::Null);
    assert!(next().is_err());
}

const DELTA: &str = "{\"op\":\"INSERT\",\"table\":\"t\",\"rowId\":\"1\",\"clientId\":\"c1\",\"columns\":[],\
                     \"hlc\":\"1\",\"deltaId\":\"d\"}";

#[test]
fn the_first_line_decides_between_deltas_and_rows() {
    let mut deltas = reader(DELTA);
    assert_eq!(deltas.kind().expect("legal"), Some(LineKind::Delta));
    match deltas.next_line() {
        Ok(Some(Line::Delta(delta))) => {
            assert_eq!(
                (delta.line, delta.client_id.as_str(), delta.json.as_str()),
                (1, "c1", DELTA)
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(deltas.next_line().expect("the end").is_none());

    let without_id = DELTA.replace("deltaId", "delta");
    assert_eq!(
        reader(&without_id).kind().expect("legal"),
        Some(LineKind::Row)
    );
    assert_eq!(reader(" \n").kind().expect("legal"), None);
    assert!(reader(&DELTA.replace("\"c1\"", "1")).kind().is_err());
}

#[test]
fn mixed_lines_are_refused_with_their_number() {
    for (text, fragment) in [
        (format!("{DELTA}\n{DELTA}\n{{\"a\": 1}}\n"), "plain row"),
        (format!("{{\"a\": 1}}\n\n{DELTA}\n"), "is a delta"),
    ] {
        let mut reader = reader(&text);
        let error = loop {
            match reader.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{text}"),
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), error.line()), (RowErrorKind::Mixed, Some(3)));
        assert!(error.to_string().contains(fragment), "{error}");
    }
}

#[test]
fn bad_lines_are_refused_with_line_and_byte() {
    for (text, place, fragment) in [
        (
            "{\"a\": 1}\n{\"a\": }\n",
            "line 2 (byte 15)",
            "expected value",
        ),
        (
            "{\"a\": 1}\n{\"a\": 1} {\"a\": 2}",
            "line 2 (byte 18)",
            "trailing characters",
        ),
        (
            "id,name\n1,a\n",
            "line 1 (byte 0)",
            "each line must be one JSON object",
        ),
        ("[{\"a\": 1}]", "line 1 (byte 0)", "looks like a JSON array"),
        (
            "{\"a\": 1, \"a\": 2}",
            "line 1 (byte 15)",
            "\"a\" is there twice",
        ),
        ("{\"a\": 1\n}", "line 1 (byte 6)", "one whole JSON object"),
        ("7", "line 1 (byte 0)", "expected a JSON object"),
    ] {
        let mut reader = reader(text);
        let error = loop {
            match reader.next_line() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{text}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(
            error.starts_with(place) && error.contains(fragment),
            "{text}: {error}"
        );
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_and_a_mark_is_not_text() {
    let mut broken = RowReader::new(&b"{\"a\": 1}\n{\"a\": \"\xff\"}"[..]);
    assert!(broken.next_line().is_ok());
    let error = broken.next_line().expect_err("not UTF-8").to_string();
    assert!(
        error.starts_with("line 2 (byte 16): the text is not UTF-8"),
        "{error}"
    );

    assert_eq!(columns("\u{feff}{\"a\": 1}", &[])[0].0, "a");
}

#[test]
fn a_line_without_an_end_takes_bounded_memory() {
    let endless = BufReader::new(io::repeat(b' '));
    let error = RowReader::new(endless).next_line().expect_err("too long");
    assert!(
        error
            .to_string()
            .starts_with("line 1 (byte 0): the line is longer"),
        "{error}"
    );
    let long = BufReader::new(b"{}\n{\"a\": \"".chain(io::repeat(b'x')));
    let mut reader = RowReader::new(long);
    assert!(reader.next_line().is_ok());
    let error = reader.next_line().expect_err("too long");
    assert_eq!((error.kind(), error.line()), (RowErrorKind::Json, Some(2)));
}

#[test]
fn an_input_that_fails_says_where() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let input = BufReader::new(b"{\"a\": 1}\n".chain(Failing));
    let mut reader = RowReader::new(input);
    assert!(reader.next_line().is_ok());
    let error = reader.next_line().expect_err("the disk is gone");
    assert_eq!((error.kind(), error.line()), (RowErrorKind::Input, Some(2)));
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn type_overrides_are_checked() {
    let (name, column_type) = parse_type_override("price=decimal(15,2)").expect("legal");
    assert_eq!(name, "price");
    assert_eq!(column_type, ColumnType::decimal(15, 2).expect("legal"));
    for text in ["price", "price=money", "row_id=long", "=long"] {
        assert!(parse_type_override(text).is_err(), "{text}");
    }
}
