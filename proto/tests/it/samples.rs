//! Samples for the other tests: tables, deltas and values, fixed and random.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, ColumnType, Decimal, DeltaKey, Hlc, Op, RowDelta, RowId,
    Seq, SeqDelta, TableDefinition, TableName, TableSchema, Value,
};
use proptest::prelude::*;

pub(crate) type Tables = BTreeMap<TableName, Arc<TableSchema>>;

/// A table from `name type, name type`, with a key of comma-separated columns.
pub(crate) fn table(name: &str, columns: &str, key: &str) -> TableSchema {
    let column = |text: &str| {
        let (name, column_type) = text.trim().split_once(' ').unwrap();
        serde_json::json!({"name": name, "type": column_type})
    };
    // A comma inside decimal(p,s) separates nothing.
    let columns: Vec<_> = columns.split(", ").map(column).collect();
    let key: Vec<_> = key.split(',').filter(|name| !name.is_empty()).collect();
    let body = serde_json::json!({"table": name, "columns": columns, "primaryKey": key});
    TableSchema::from_definition(&TableDefinition::from_json(body.to_string().as_bytes()).unwrap())
        .unwrap()
}

pub(crate) fn tables(schemas: impl IntoIterator<Item = TableSchema>) -> Tables {
    schemas
        .into_iter()
        .map(|schema| (schema.table.clone(), Arc::new(schema)))
        .collect()
}

/// A table with a column of every type, named after it.
pub(crate) fn all_types() -> TableSchema {
    let columns = "string string, number number, long long, boolean boolean, json json, decimal decimal(38,10), \
                   whole decimal(5,0), date date, timestamp timestamp, binary binary";
    table("everything", columns, "")
}

pub(crate) fn key(table: &str, row: &str, client: &str, hlc: u64) -> DeltaKey {
    DeltaKey {
        table: table.parse().unwrap(),
        row_id: row.parse().unwrap(),
        client_id: client.parse().unwrap(),
        hlc: Hlc::from_u64(hlc).unwrap(),
    }
}

pub(crate) fn column(name: &str) -> ColumnName {
    name.parse().unwrap()
}

pub(crate) fn change(name: &str, value: impl Into<Value>) -> ColumnChange {
    ColumnChange {
        column: column(name),
        value: value.into(),
    }
}

/// Any legal value of a type, null among them.
pub(crate) fn value_of(column_type: ColumnType) -> BoxedStrategy<Value> {
    let value = match column_type {
        ColumnType::String => any::<String>().prop_map(Value::String).boxed(),
        ColumnType::Number => number().prop_map(Value::Number).boxed(),
        ColumnType::Long => prop_oneof![
            any::<i64>(),
            -10..10_i64,
            (1_i64 << 53) - 2..(1 << 53) + 3,
            Just(i64::MIN),
            Just(i64::MAX)
        ]
        .prop_map(Value::Long)
        .boxed(),
        ColumnType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        ColumnType::Json => json(4)
            .prop_map(|json| Value::json(&json.to_string()).unwrap())
            .boxed(),
        ColumnType::Decimal { precision, scale } => {
            let bound = 10_i128.pow(u32::from(precision));
            let unscaled = prop_oneof![
                1 - bound..bound,
                -9..10_i128,
                Just(bound - 1),
                Just(1 - bound)
            ];
            unscaled
                .prop_map(move |unscaled| Value::Decimal(Decimal { unscaled, scale }))
                .boxed()
        }
        ColumnType::Date => prop_oneof![-719_162..=2_932_896_i32, Just(-719_162), Just(2_932_896)]
            .prop_map(Value::Date)
            .boxed(),
        ColumnType::Timestamp => {
            let (first, last) = (-62_135_596_800_000_000_i64, 253_402_300_799_999_999_i64);
            prop_oneof![first..=last, Just(first), Just(last), Just(-1)]
                .prop_map(Value::Timestamp)
                .boxed()
        }
        ColumnType::Binary => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(Value::Binary)
            .boxed(),
    };
    prop_oneof![1 => Just(Value::Null), 6 => value].boxed()
}

/// Any finite float, extremes and awkward ones among them.
pub(crate) fn number() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let awkward = prop::sample::select(vec![
        0.1 + 0.2,
        1e21,
        1e-7,
        f64::MAX,
        f64::MIN,
        5e-324,
        -0.0,
        123_456_789_012_345_680_000.0,
    ]);
    prop_oneof![3 => NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE, 1 => awkward]
}

/// Any JSON value.
pub(crate) fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        number().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

pub(crate) fn hlc() -> impl Strategy<Value = Hlc> {
    prop_oneof![1..=i64::MAX as u64, 1..50_u64, Just(Hlc::MAX.as_u64())]
        .prop_map(|hlc| Hlc::from_u64(hlc).unwrap())
}

/// Any delta of the table of all types, with its id.
pub(crate) fn delta() -> impl Strategy<Value = RowDelta> {
    let schema = all_types();
    let columns: Vec<_> = schema
        .columns
        .iter()
        .map(|column| {
            let name = column.name.clone();
            let value = value_of(column.column_type);
            prop::option::of(value).prop_map(move |value| {
                value.map(|value| ColumnChange {
                    column: name.clone(),
                    value,
                })
            })
        })
        .collect();
    let op = prop::sample::select(vec![Op::Insert, Op::Update, Op::Delete]);
    let row = "[^\u{0}]{1,12}".prop_map(|text| RowId::parse(&text).unwrap());
    let client = "[^\\p{Cc}]{1,8}".prop_map(|text| ClientId::parse(&text).unwrap());
    (
        op,
        row,
        client,
        hlc(),
        columns,
        any::<prop::sample::Index>(),
    )
        .prop_map(move |(op, row_id, client_id, hlc, columns, from)| {
            let mut columns: Vec<_> = columns
                .into_iter()
                .flatten()
                .filter(|_| op != Op::Delete)
                .collect();
            let from = if columns.is_empty() {
                0
            } else {
                from.index(columns.len())
            };
            columns.rotate_left(from);
            let key = DeltaKey {
                table: schema.table.clone(),
                row_id,
                client_id,
                hlc,
            };
            RowDelta::new(op, key, columns)
        })
}

pub(crate) fn deltas() -> impl Strategy<Value = Vec<RowDelta>> {
    prop::collection::vec(delta(), 0..6)
}

/// Deltas with arrival numbers from 1.
pub(crate) fn numbered(deltas: Vec<RowDelta>) -> Vec<SeqDelta> {
    let seqs = std::iter::successors(Some(Seq::ZERO.next()), |seq| Some(seq.next()));
    deltas
        .into_iter()
        .zip(seqs)
        .map(|(delta, seq)| SeqDelta { seq, delta })
        .collect()
}
