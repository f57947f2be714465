//! What users were told is written, and what must have come of it.
//!
//! Invariant: every value that matters is written once in a history, so it can be found again: in a delta that the gateway
//! accepted, or in a dead letter.

use std::collections::BTreeMap;

use lakesync_client::DeadLetter;
use lakesync_proto::{Op, Value};
use lakesync_tests::oracle::{Oracle, OracleDelta};

/// One write of one cell by one client: the values are written once, so the row is no part of it.
type Mark = (String, String, String, String);

/// What users were told is written.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// With how many rows each wrote.
    marks: BTreeMap<Mark, usize>,
    /// Rows that a client deleted, with how often.
    deletes: BTreeMap<(String, String, String), usize>,
    next: i64,
}

/// What one edit will have done if it is committed.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) marks: Vec<((String, String, String), usize)>,
    pub(super) deletes: Vec<(String, String)>,
}

impl Ledger {
    pub(super) fn mark(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    pub(super) fn keep(&mut self, client: &str, draft: Draft) {
        for ((table, column, text), rows) in draft.marks {
            let mark = (client.to_owned(), table, column, text);
            *self.marks.entry(mark).or_default() += rows;
        }
        for (table, row) in draft.deletes {
            *self
                .deletes
                .entry((client.to_owned(), table, row))
                .or_default() += 1;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len() + self.deletes.len()
    }

    /// Every edit is a delta of the gateway's, or a dead letter of its client's.
    pub(super) fn check(&self, seed: u64, oracle: &Oracle, dead: &[(String, DeadLetter)]) {
        let mut found = Ledger::default();
        for delta in oracle.deltas() {
            found.add(delta);
        }
        for (client, letter) in dead {
            found.add(&refused(client, letter));
        }
        for (mark, rows) in &self.marks {
            let of = found.marks.get(mark).copied().unwrap_or_default();
            assert!(
                of >= *rows,
                "seed {seed}: {mark:?} was written to {rows} rows, the gateway has {of}"
            );
        }
        for (key, times) in &self.deletes {
            let of = found.deletes.get(key).copied().unwrap_or_default();
            assert!(
                of >= *times,
                "seed {seed}: {key:?} was deleted {times} times, the gateway has {of}"
            );
        }
    }

    /// Notes what came of some edit.
    fn add(&mut self, delta: &OracleDelta) {
        let marks = delta.columns.iter().map(|(column, text)| {
            let name = (delta.table.clone(), column.clone(), text.clone());
            (name, 1)
        });
        let mut draft = Draft {
            marks: marks.collect(),
            deletes: Vec::new(),
        };
        if delta.op == 'D' {
            draft.deletes.push((delta.table.clone(), delta.row.clone()));
        }
        self.keep(&delta.client, draft);
    }
}

/// A dead letter, as far as the ledger looks at it.
fn refused(client: &str, letter: &DeadLetter) -> OracleDelta {
    let columns = letter.columns.iter();
    let columns = columns.map(|change| (change.column.to_string(), canonical(&change.value)));
    OracleDelta {
        op: match letter.op {
            Some(Op::Delete) => 'D',
            _ => 'U',
        },
        table: letter.table.to_string(),
        row: letter.row_id.clone(),
        client: client.to_owned(),
        id: [0; 32],
        hlc: 0,
        columns: columns.collect(),
    }
}

impl Draft {
    /// The same, of a statement that wrote this many rows: none of it for none.
    pub(super) fn of_rows(mut self, rows: usize) -> Draft {
        for (_, count) in &mut self.marks {
            *count = rows;
        }
        self.marks.retain(|(_, count)| *count > 0);
        if rows == 0 {
            self.deletes.clear();
        }
        self
    }
}

pub(super) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    value.write_canonical(&mut text);
    text
}
