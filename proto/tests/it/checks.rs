//! What `verify_delta` lets pass and what it refuses.

use lakesync_proto::{
    CheckError, ColumnChange, DeltaError, ErrorCode, Hlc, Op, RowDelta, RowIdError,
    TableDefinition, TableSchema, Value, row_id_of, verify_delta,
};
use proptest::prelude::*;

use crate::samples::{all_types, change, delta, key, table};

fn check(
    schema: &TableSchema,
    op: Op,
    row: &str,
    columns: Vec<ColumnChange>,
) -> Result<(), CheckError> {
    schema.check(&RowDelta::new(
        op,
        key(schema.table.as_str(), row, "c", 1),
        columns,
    ))
}

#[test]
fn columns_must_be_known_typed_legal_and_single() {
    let schema = table("t", "a long, b decimal(4,2)", "");
    let refused =
        |columns: Vec<ColumnChange>| check(&schema, Op::Update, "r", columns).unwrap_err();
    assert_eq!(
        check(
            &schema,
            Op::Update,
            "r",
            vec![change("b", Value::Null), change("a", 1)]
        ),
        Ok(())
    );
    assert!(matches!(
        refused(vec![change("c", 1)]),
        CheckError::UnknownColumn { .. }
    ));
    assert!(matches!(
        refused(vec![change("A", 1)]),
        CheckError::UnknownColumn { .. }
    ));
    assert!(matches!(
        refused(vec![change("a", 1), change("a", 1)]),
        CheckError::DuplicateColumn { .. }
    ));
    let wrong = refused(vec![change("a", 1.0)]);
    assert_eq!(wrong.to_string(), "column a is long, the value is number");
    let decimal = |unscaled, scale| Value::Decimal(lakesync_proto::Decimal { unscaled, scale });
    assert!(matches!(
        refused(vec![change("b", decimal(1, 1))]),
        CheckError::WrongType { .. }
    ));
    assert!(matches!(
        refused(vec![change("b", decimal(10_000, 2))]),
        CheckError::WrongType { .. }
    ));
    let schema = table("t", "n number", "");
    let nan = check(&schema, Op::Update, "r", vec![change("n", f64::NAN)]).unwrap_err();
    assert_eq!(
        nan.to_string(),
        "column n: NaN is refused: a number must be finite"
    );
}

#[test]
fn a_delete_has_no_columns_and_an_insert_may_have_none() {
    let schema = table("t", "a long", "");
    assert_eq!(
        check(&schema, Op::Delete, "r", vec![change("a", 1)]),
        Err(CheckError::DeleteWithColumns)
    );
    assert_eq!(check(&schema, Op::Delete, "r", Vec::new()), Ok(()));
    assert_eq!(check(&schema, Op::Insert, "r", Vec::new()), Ok(()));
}

#[test]
fn the_table_and_the_clock_are_checked() {
    let schema = table("t", "a long", "");
    let other = RowDelta::new(Op::Update, key("u", "r", "c", 1), Vec::new());
    assert!(matches!(
        schema.check(&other),
        Err(CheckError::OtherTable { .. })
    ));
    let unclocked = RowDelta::new(
        Op::Update,
        key("t", "r", "c", Hlc::ZERO.as_u64()),
        Vec::new(),
    );
    assert_eq!(schema.check(&unclocked), Err(CheckError::ZeroHlc));
}

#[test]
fn a_key_column_may_be_left_out_or_repeated_but_not_contradict_the_row_id() {
    let single = table("t", "k long, v long", "k");
    for op in [Op::Insert, Op::Update] {
        for columns in [
            vec![],
            vec![change("v", 1)],
            vec![change("v", 1), change("k", 7)],
        ] {
            assert_eq!(check(&single, op, "7", columns), Ok(()));
        }
        for other in [Value::Long(8), Value::Null] {
            let error = check(&single, op, "7", vec![change("k", other)]).unwrap_err();
            assert!(matches!(error, CheckError::KeyDisagrees { .. }), "{error}");
        }
    }
    let composite = table("t", "a string, b long, v long", "a,b");
    let row = row_id_of(&[&Value::from("x"), &Value::Long(7)]).unwrap();
    let update = |row: &str, columns| check(&composite, Op::Update, row, columns);
    assert_eq!(update(row.as_str(), vec![change("b", 7)]), Ok(()));
    let error = update(row.as_str(), vec![change("b", 8)]).unwrap_err();
    assert!(matches!(error, CheckError::KeyDisagrees { .. }), "{error}");
}

#[test]
fn a_row_id_that_is_no_key_is_refused_whatever_the_op() {
    let composite = table("t", "a string, b long, v long", "a,b");
    for op in [Op::Insert, Op::Update, Op::Delete] {
        for row in [
            "r",
            "[\"x\", 7]",
            "[\"x\",7,1]",
            " [\"x\",7]",
            "[\"\\u0078\",7]",
            "[[[[",
        ] {
            let error = check(&composite, op, row, vec![]).unwrap_err();
            assert!(
                matches!(error, CheckError::RowId(RowIdError::NotAKey { .. })),
                "{row}: {error}"
            );
        }
    }
}

#[test]
fn a_dropped_column_may_still_be_written_with_its_old_type() {
    let before = table("t", "a long, b string", "");
    let without = TableDefinition {
        columns: before.definition().columns[..1].to_vec(),
        ..before.definition()
    };
    let after = before.evolve(&without).unwrap().schema;
    assert_eq!(
        check(
            &after,
            Op::Update,
            "r",
            vec![change("b", "late"), change("a", 1)]
        ),
        Ok(())
    );
    assert!(matches!(
        check(&after, Op::Update, "r", vec![change("b", 1)]),
        Err(CheckError::WrongType { .. })
    ));
    let twice = vec![change("b", "x"), change("b", "x")];
    assert!(matches!(
        check(&after, Op::Update, "r", twice),
        Err(CheckError::DuplicateColumn { .. })
    ));
    assert_eq!(after.column("b"), None);
}

#[test]
fn a_forged_id_is_refused_and_both_are_named() {
    let schema = table("t", "a long", "");
    let honest = RowDelta::new(Op::Update, key("t", "r", "c", 1), vec![change("a", 1)]);
    assert_eq!(verify_delta(&honest, &schema), Ok(()));
    let forged = RowDelta {
        columns: vec![change("a", 2)],
        ..honest.clone()
    };
    let error = verify_delta(&forged, &schema).unwrap_err();
    let DeltaError::IdMismatch { given, computed } = &error else {
        panic!("{error}")
    };
    assert_eq!((*given, *computed), (honest.delta_id, forged.computed_id()));
    assert_eq!(error.code(), ErrorCode::DeltaIdMismatch);
}

#[test]
fn a_row_id_is_made_from_any_source_of_values() {
    let schema = table("t", "a string, b long", "b,a");
    let values = |name: &str| match name {
        "a" => Some(Value::from("x")),
        "b" => Some(Value::Long(1)),
        _ => None,
    };
    assert_eq!(schema.row_id(&values).unwrap().unwrap(), "[1,\"x\"]");
    let missing = schema.row_id(&|name| values(name).filter(|_| name == "b"));
    assert_eq!(
        missing,
        Err(RowIdError::Missing {
            column: "a".to_owned()
        })
    );
    assert_eq!(table("t", "a string", "").row_id(&|_| None), Ok(None));
}

proptest! {
    #[test]
    fn every_honest_delta_passes(delta in delta()) {
        prop_assert_eq!(verify_delta(&delta, &all_types()), Ok(()));
    }

    #[test]
    fn keys_are_equal_when_row_ids_are(a in ("[a\",\\[\\]]{1,3}", -2..3_i64), b in ("[a\",\\[\\]]{1,3}", -2..3_i64)) {
        let id = |key: &(String, i64)| row_id_of(&[&Value::from(key.0.as_str()), &Value::Long(key.1)]).unwrap();
        prop_assert_eq!(id(&a) == id(&b), a == b);
    }
}
