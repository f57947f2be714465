//! The rows that the client is measured with: eight columns, about 150 bytes.

use std::sync::Arc;

use lakesync_proto::{
    Cell, ClientId, ColumnName, DeltaKey, Epoch, Hlc, Notes, Op, PullPage, RowDelta, RowId,
    RowState, Seq, SeqDelta, Stamp, TableDefinition, TableName, TableSchema, Value, page_checksum,
    row_deltas,
};
use lakesync_proto::{ColumnChange, Cursor};
use rusqlite::types::Value as SqlValue;

const TABLE: &str = r#"{"table": "items", "primaryKey": ["id"], "columns": [{"name": "id", "type": "string"},
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "points", "type": "long"},
    {"name": "note", "type": "string"}, {"name": "weight", "type": "number"}, {"name": "due", "type": "date"},
    {"name": "place", "type": "string"}]}"#;

/// Writes one row: what an application would write.
pub(super) const INSERT: &str = "INSERT INTO items (id, title, done, points, note, weight, due, place) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// A moment in the past: no stamp is refused as drift.
const NOW_MS: u64 = 1_700_000_000_000;

/// 2026-01-31, in days since 1970.
const DUE: i32 = 20_484;

pub(super) fn schema() -> TableSchema {
    TableSchema::from_definition(&definition()).expect("a schema")
}

pub(super) fn definition() -> TableDefinition {
    TableDefinition::from_json(TABLE.as_bytes()).expect("a definition")
}

pub(super) fn id(n: usize) -> String {
    format!("item-{n:08}")
}

/// The `n`th row, for [`INSERT`].
pub(super) fn parameters(n: usize) -> [SqlValue; 8] {
    let number = i64::try_from(n).expect("a small number");
    [
        SqlValue::Text(id(n)),
        SqlValue::Text("Buy oat milk and a loaf of bread".to_owned()),
        SqlValue::Integer(number % 2),
        SqlValue::Integer(number),
        SqlValue::Text("on the way home".to_owned()),
        SqlValue::Real(0.5),
        SqlValue::Text("2026-01-31".to_owned()),
        SqlValue::Text("the shop at the corner".to_owned()),
    ]
}

/// The `n`th row as the gateway has it.
fn values(n: usize) -> [(&'static str, Value); 8] {
    [
        ("id", Value::from(id(n).as_str())),
        ("title", Value::from("Buy oat milk and a loaf of bread")),
        ("done", Value::Boolean(!n.is_multiple_of(2))),
        (
            "points",
            Value::Long(i64::try_from(n).expect("a small number")),
        ),
        ("note", Value::from("on the way home")),
        ("weight", Value::Number(0.5)),
        ("due", Value::Date(DUE)),
        ("place", Value::from("the shop at the corner")),
    ]
}

fn names() -> (TableName, ClientId) {
    let table = TableName::parse("items").expect("a name");
    (table, ClientId::parse("somebody").expect("an id"))
}

/// Somebody's insert of the `n`th row.
pub(super) fn delta(n: usize) -> RowDelta {
    let (table, client_id) = names();
    let number = u64::try_from(n).expect("a small number");
    let key = DeltaKey {
        table,
        row_id: RowId::parse(&id(n)).expect("an id"),
        client_id,
        hlc: Hlc::new(NOW_MS + number, 0).expect("a stamp"),
    };
    let columns = values(n).map(|(name, value)| ColumnChange {
        column: ColumnName::parse(name).expect("a name"),
        value,
    });
    RowDelta::new(Op::Insert, key, columns.to_vec())
}

/// The `n`th row as a checkpoint brings it when its clocks are forgotten.
pub(super) fn settled(n: usize) -> Vec<RowDelta> {
    let stamp = Stamp::settled();
    let cells = values(n).map(|(name, value)| {
        let stamp = stamp.clone();
        let name = ColumnName::parse(name).expect("a name");
        (name, Cell { stamp, value })
    });
    let state = RowState {
        written: Some(stamp.clone()),
        deleted: None,
        cells: cells.into_iter().collect(),
    };
    let row_id = RowId::parse(&id(n)).expect("an id");
    row_deltas(&names().0, &row_id, &state)
}

/// A page, or a chunk of a checkpoint, that ends at `cursor`. Deltas are numbered up to there.
pub(super) fn page(deltas: Vec<RowDelta>, cursor: usize, has_more: bool) -> PullPage {
    let seq = |n: usize| Seq::from_u64(u64::try_from(n).expect("small")).expect("small");
    let first = (cursor + 1).saturating_sub(deltas.len());
    let numbered = deltas.into_iter().zip(first..);
    let epoch = Epoch::parse("00000000-0000-4000-8000-000000000001").expect("an epoch");
    let mut page = PullPage {
        deltas: numbered
            .map(|(delta, n)| Arc::new(SeqDelta { seq: seq(n), delta }))
            .collect(),
        cursor: seq(cursor),
        removed: Vec::new(),
        has_more,
        epoch: epoch.clone(),
        notes: Notes {
            next: Some(Cursor {
                epoch,
                seq: seq(cursor),
                rules: 0,
                claims: 0,
            }),
            ..Notes::default()
        },
    };
    page.notes.checksum = Some(page_checksum(&page));
    page
}
