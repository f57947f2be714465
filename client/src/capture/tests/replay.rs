//! The slow model: every sealed delta is replayed on a copy of the tables, which then must be the tables.
//!
//! It is strict: an INSERT is of a row that is not there, an UPDATE changes each column it names, a DELETE is of a row that
//! is there. So nothing captured is missing, doubled, out of order, or did not happen.

use std::collections::BTreeMap;

use lakesync_proto::{Op, RowDelta, Value};

use super::sealed;
use crate::{LocalDb, SqlValue};

/// Table and row; then column and value, nulls left out.
type Tables = BTreeMap<(String, String), BTreeMap<String, String>>;

#[derive(Default)]
pub(super) struct Replay {
    rows: Tables,
    /// The last entry that was replayed.
    entry: i64,
}

impl Replay {
    /// Replays what was sealed since the last time, and compares.
    pub(super) fn check(&mut self, db: &LocalDb, context: &str) {
        for (entry, delta) in sealed(db, self.entry) {
            self.entry = entry;
            self.apply(&delta, context);
        }
        assert_eq!(self.rows, tables(db), "{context}");
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn apply(&mut self, delta: &RowDelta, context: &str) {
        let place = (delta.table.to_string(), delta.row_id.to_string());
        let values = delta
            .columns
            .iter()
            .filter(|change| change.value != Value::Null);
        let values = values.map(|change| (change.column.to_string(), canonical(&change.value)));
        match delta.op {
            Op::Insert => {
                let before = self.rows.insert(place, values.collect());
                assert_eq!(before, None, "{context}: {delta:?}");
            }
            Op::Update => {
                let row = self.rows.get_mut(&place).expect(context);
                assert!(!delta.columns.is_empty(), "{context}: {delta:?}");
                for change in &delta.columns {
                    let column = change.column.to_string();
                    let before = row.remove(&column);
                    let after = (change.value != Value::Null).then(|| canonical(&change.value));
                    assert_ne!(before, after, "{context}: {delta:?}");
                    row.extend(after.map(|after| (column, after)));
                }
            }
            Op::Delete => {
                assert!(self.rows.remove(&place).is_some(), "{context}: {delta:?}");
            }
        }
    }
}

fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Boolean(truth) => i64::from(*truth).to_string(),
        Value::Long(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// What the tables hold, read by plain SQL.
fn tables(db: &LocalDb) -> Tables {
    let mut tables = Tables::new();
    for table in ["todos", "stock", "places"] {
        let found = db.query(&format!("SELECT * FROM {table}"), []).unwrap();
        for row in found.rows {
            let mut values: BTreeMap<String, String> = BTreeMap::new();
            for (name, value) in found.columns.iter().zip(row) {
                let text = match value {
                    SqlValue::Null => continue,
                    SqlValue::Integer(number) => number.to_string(),
                    SqlValue::Text(text) => text,
                    other => format!("{other:?}"),
                };
                values.insert(name.clone(), text);
            }
            let row_id = values.remove("row_id").unwrap();
            tables.insert((table.to_owned(), row_id), values);
        }
    }
    tables
}
