//! What people do in a year: rows come, are edited and go, and now and then somebody was offline for days.
//!
//! Invariant: no two deltas have one stamp, so the newest write of a cell is the one with the greatest HLC.

use std::collections::BTreeMap;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value,
};

use super::{DAY_MS, Plan};
use crate::history::Rng;

/// The rows of the table: row id, then `v` and `note`.
pub type Rows = BTreeMap<String, (Option<i64>, Option<String>)>;

/// How many days the client that comes late is away, one after the other.
const ABSENCES: [u64; 5] = [1, 3, 9, 2, 20];
/// Greatest number of deltas in one push.
const PUSH_DELTAS: usize = 500;

/// Who does what, and what the table must hold.
#[derive(Debug)]
pub struct Load {
    plan: Plan,
    rng: Rng,
    columns: u64,
    /// Counts stamps within a shift.
    counter: u64,
    cells: BTreeMap<String, Row>,
    away: Away,
}

/// A row with the stamps of its cells and of its newest DELETE.
#[derive(Clone, Debug, Default)]
struct Row {
    deleted: u64,
    written: u64,
    value: (u64, Option<i64>),
    note: (u64, Option<String>),
}

/// Somebody who is offline.
#[derive(Debug)]
struct Away {
    back_on: u64,
    times: usize,
    deltas: Vec<RowDelta>,
}

impl Load {
    pub(super) fn new(plan: Plan) -> Load {
        Load {
            plan,
            rng: Rng::new(plan.seed),
            columns: 0,
            counter: 0,
            cells: BTreeMap::new(),
            away: Away {
                back_on: ABSENCES[0],
                times: 0,
                deltas: Vec::new(),
            },
        }
    }

    /// The table as it is by now.
    pub(super) fn definition(&self) -> String {
        let more =
            (0..self.columns).map(|n| format!(r#", {{"name": "more_{n}", "type": "long"}}"#));
        let more: String = more.collect();
        format!(
            r#"{{"table": "t", "columns": [{{"name": "v", "type": "long"}}, {{"name": "note", "type": "string"}}{more}]}}"#
        )
    }

    /// The table gets a column.
    pub(super) fn grow(&mut self) {
        self.columns += 1;
    }

    /// The pushes of a shift.
    pub(super) fn shift(&mut self, day: u64, shift: u64, now_ms: u64) -> Vec<Push> {
        self.counter = 0;
        let shifts = self.plan.shifts;
        let mut deltas = Vec::new();
        for nth in 0..self.plan.rows / shifts {
            let row = format!("{day:04}-{shift}-{nth:05}");
            let changes = self.changes(100);
            deltas.push(self.delta(Op::Insert, &row, now_ms, changes));
        }
        for _ in 0..self.plan.edits / shifts {
            let Some(row) = self.some_row(day) else { break };
            let changes = self.changes(40);
            deltas.push(self.delta(Op::Update, &row, now_ms, changes));
        }
        if shift == 0 && day >= self.plan.lifetime {
            let old = format!("{:04}-", day - self.plan.lifetime);
            let dying: Vec<String> = self.born(&old).cloned().collect();
            for row in dying {
                deltas.push(self.delta(Op::Delete, &row, now_ms, Vec::new()));
            }
        }
        // A few edits of somebody who is offline wait for the day that they can be sent.
        if let Some(row) = self.some_row(day) {
            let changes = self.changes(40);
            let late = self.delta(Op::Update, &row, now_ms, changes);
            self.away.deltas.push(late);
        }
        let mut pushes = pushes("clients", deltas);
        if day >= self.away.back_on && shift + 1 == shifts {
            self.away.times += 1;
            self.away.back_on = day + ABSENCES[self.away.times % ABSENCES.len()];
            pushes.extend(pushes_one_by_one(std::mem::take(&mut self.away.deltas)));
        }
        pushes
    }

    /// The gateway has taken these.
    pub(super) fn accepted(&mut self, deltas: &[RowDelta]) {
        for delta in deltas {
            let stamp = delta.hlc.as_u64();
            let row = self.cells.entry(delta.row_id.to_string()).or_default();
            if delta.op == Op::Delete {
                row.deleted = row.deleted.max(stamp);
                continue;
            }
            row.written = row.written.max(stamp);
            for change in &delta.columns {
                match (&change.value, change.column.as_str()) {
                    (Value::Long(value), "v") if stamp > row.value.0 => {
                        row.value = (stamp, Some(*value));
                    }
                    (Value::Null, "v") if stamp > row.value.0 => row.value = (stamp, None),
                    (Value::String(note), "note") if stamp > row.note.0 => {
                        row.note = (stamp, Some(note.clone()));
                    }
                    _ => {}
                }
            }
        }
        // What has been deleted for longer than anything may be late is forgotten.
        let forgotten_ms = self.plan.late_window * DAY_MS;
        let newest = deltas.iter().map(|delta| delta.hlc.wall_ms()).max();
        let before = newest.unwrap_or(0).saturating_sub(2 * forgotten_ms) << 16;
        self.cells
            .retain(|_, row| row.written > row.deleted || row.deleted > before);
    }

    /// What the table must hold.
    pub(super) fn rows(&self) -> Rows {
        let existing = self
            .cells
            .iter()
            .filter(|(_, row)| row.written > row.deleted);
        existing
            .map(|(id, row)| {
                let value = row.value.1.filter(|_| row.value.0 > row.deleted);
                let note = row.note.1.clone().filter(|_| row.note.0 > row.deleted);
                (id.clone(), (value, note))
            })
            .collect()
    }

    fn changes(&mut self, percent: u64) -> Vec<(String, Value)> {
        let mut changes = Vec::new();
        if self.rng.chance(percent) {
            let value = self.rng.below(1_000_000).cast_signed();
            let value = match self.rng.chance(95) {
                true => Value::Long(value),
                false => Value::Null,
            };
            changes.push(("v".to_owned(), value));
        }
        if self.rng.chance(percent) {
            let note = format!("note {} of somebody", self.rng.below(10_000));
            changes.push(("note".to_owned(), Value::String(note)));
        }
        for n in 0..self.columns {
            if self.rng.chance(percent) {
                let value = self.rng.below(100).cast_signed();
                changes.push((format!("more_{n}"), Value::Long(value)));
            }
        }
        changes
    }

    /// A row that was made lately, as most edits are of, or some time ago.
    fn some_row(&mut self, day: u64) -> Option<String> {
        let most = match self.rng.chance(80) {
            true => 3,
            false => self.plan.lifetime,
        };
        let born = day.saturating_sub(self.rng.below(most));
        let rows: Vec<String> = self.born(&format!("{born:04}-")).cloned().collect();
        (!rows.is_empty()).then(|| self.rng.pick(&rows).clone())
    }

    fn born<'a>(&'a self, prefix: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        let prefix = prefix.to_owned();
        let from = self.cells.range(prefix.clone()..);
        let rows = from.take_while(move |(id, _)| id.starts_with(&prefix));
        rows.filter(|(_, row)| row.written > row.deleted)
            .map(|(id, _)| id)
    }

    fn delta(&mut self, op: Op, row: &str, now_ms: u64, changes: Vec<(String, Value)>) -> RowDelta {
        self.counter += 1;
        let counter = u16::try_from(self.counter % 60_000).expect("it is below 2^16");
        let key = DeltaKey {
            table: TableName::parse("t").expect("a name"),
            row_id: RowId::parse(row).expect("an id"),
            client_id: ClientId::parse("clients").expect("an id"),
            // A second before the shift ends: no clock runs ahead.
            hlc: Hlc::new(now_ms - 1_000 + self.counter / 60_000, counter).expect("a stamp"),
        };
        let columns = changes.into_iter().map(|(name, value)| ColumnChange {
            column: ColumnName::parse(&name).expect("a name"),
            value,
        });
        RowDelta::new(op, key, columns.collect())
    }
}

fn pushes(client: &str, deltas: Vec<RowDelta>) -> Vec<Push> {
    let push = |deltas: &[RowDelta]| Push {
        client_id: ClientId::parse(client).expect("an id"),
        deltas: deltas.to_vec(),
        last_seen: Seq::ZERO,
        schemas: None,
    };
    deltas.chunks(PUSH_DELTAS).map(push).collect()
}

/// What comes late is refused delta by delta.
fn pushes_one_by_one(deltas: Vec<RowDelta>) -> impl Iterator<Item = Push> {
    deltas
        .into_iter()
        .flat_map(|delta| pushes("clients", vec![delta]))
}
