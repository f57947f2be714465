//! Seeded random histories: what clients push, and what the gateway does in between.
//!
//! Invariant: a history is a pure function of its seed, and everything in it is admissible: no delta is stamped
//! further ahead of the clock than a gateway lets pass, and no delta id stands for two deltas. So whatever a test
//! runs it against has to accept all of it and agree with the [`oracle`](crate::oracle).
//!
//! The dice are loaded towards what breaks a naive merge: few rows and columns, stamps that are equal or arrive late,
//! resends, deletes, writes to deleted rows, explicit nulls, sparse updates and inserts with no column at all.

use std::collections::BTreeMap;
use std::time::Duration;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, ColumnType, Decimal, DeltaId, DeltaKey, Hlc, Op, RowDelta,
    RowId, TableName, TableSchema, Value,
};

use crate::schemas;

/// The wall clock at the start of every history, in milliseconds since 1970: 2100-01-01. By it every file that a test
/// writes is old, so whatever looks for files that nobody needs any more takes each that is not needed, at once.
pub const START_MS: u64 = 4_102_444_800_000;

/// How far a writer's clock may run ahead, in milliseconds: safely within what a gateway admits.
const AHEAD_MS: u64 = 4_000;

/// How far a writer's clock may lag, in milliseconds.
const BEHIND_MS: u64 = 180_000;

/// How late a late delta may be, in milliseconds: far below the late window of any sensible gateway.
const LATE_MS: u64 = 2_400_000;

const HOUR_MS: u64 = 3_600_000;

/// Splitmix64: small, seeded, and good enough to be unfair with.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose whole sequence follows from `seed`.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// A number between both bounds, which it may reach.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which are not empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let bound = u64::try_from(items.len()).expect("a slice length fits in 64 bits");
        let index = usize::try_from(self.below(bound)).expect("it is below a slice length");
        &items[index]
    }
}

/// How large a history is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Steps, of which about two thirds are pushes.
    pub steps: u64,
    /// Row ids per table.
    pub rows: u64,
    /// Writers.
    pub clients: u64,
    /// Greatest number of deltas in one push.
    pub push_deltas: u64,
    /// How far the clock may go between two pushes, in milliseconds.
    pub strides_ms: &'static [u64],
    /// How late a late delta may be, in milliseconds.
    pub late_ms: u64,
}

impl Shape {
    /// Weeks instead of minutes: what a late window of [`Shape::WEEKS_WINDOW`] lets pass, and sometimes does not.
    pub const WEEKS: Shape = Shape {
        steps: 40,
        rows: 4,
        clients: 3,
        push_deltas: 5,
        strides_ms: &[0, 1, 60_000, 3 * HOUR_MS, 20 * HOUR_MS, 50 * HOUR_MS],
        late_ms: 60 * HOUR_MS,
    };

    /// The late window that histories of weeks are for.
    pub const WEEKS_WINDOW: Duration = Duration::from_secs(48 * 60 * 60);
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            steps: 40,
            rows: 3,
            clients: 3,
            push_deltas: 5,
            strides_ms: &[0, 0, 1, 40, 1_000, 60_000],
            late_ms: LATE_MS,
        }
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// The gateway's wall clock now shows this many milliseconds since 1970; it never goes back.
    Clock(u64),
    /// One client pushes these deltas in one batch, some of them perhaps not for the first time.
    Push(Vec<RowDelta>),
    /// Hot deltas go to the log.
    Flush,
    /// The log is folded into the base.
    Compact,
    /// The process ends and starts again.
    Restart,
}

/// What happens to the tables of [`schemas::all`].
#[derive(Clone, Debug)]
pub struct History {
    /// What it was made from; print it when a test fails.
    pub seed: u64,
    /// The tables that are written, all of them from the start.
    pub schemas: Vec<TableSchema>,
    /// In this order.
    pub steps: Vec<Step>,
}

impl History {
    /// The history of this seed.
    pub fn generate(seed: u64, shape: Shape) -> History {
        let mut writer = Writer::new(seed, shape);
        let steps = (0..shape.steps).flat_map(|_| writer.step()).collect();
        History {
            seed,
            schemas: writer.schemas,
            steps,
        }
    }

    /// Every delta in push order, resends included.
    pub fn deltas(&self) -> impl Iterator<Item = &RowDelta> {
        self.steps.iter().flat_map(|step| match step {
            Step::Push(deltas) => deltas.as_slice(),
            _ => &[],
        })
    }
}

struct Writer {
    rng: Rng,
    shape: Shape,
    schemas: Vec<TableSchema>,
    now_ms: u64,
    skews: Vec<Skew>,
    sent: Vec<RowDelta>,
    ops: BTreeMap<DeltaId, Op>,
}

#[derive(Clone, Copy)]
enum Skew {
    Ahead(u64),
    Behind(u64),
}

impl Writer {
    fn new(seed: u64, shape: Shape) -> Writer {
        let mut rng = Rng::new(seed);
        let skews = (0..shape.clients)
            .map(|_| match rng.below(3) {
                0 => Skew::Ahead(rng.below(AHEAD_MS)),
                1 => Skew::Behind(rng.below(BEHIND_MS)),
                _ => Skew::Behind(0),
            })
            .collect();
        Writer {
            rng,
            shape,
            schemas: schemas::all(),
            now_ms: START_MS,
            skews,
            sent: Vec::new(),
            ops: BTreeMap::new(),
        }
    }

    fn step(&mut self) -> Vec<Step> {
        match self.rng.below(100) {
            0..66 => {
                self.now_ms += *self.rng.pick(self.shape.strides_ms);
                vec![Step::Clock(self.now_ms), Step::Push(self.push())]
            }
            66..82 => vec![Step::Flush],
            82..94 => vec![Step::Compact],
            _ => vec![Step::Restart],
        }
    }

    fn push(&mut self) -> Vec<RowDelta> {
        let client = self.rng.below(self.shape.clients);
        let client_id =
            ClientId::parse(&format!("client-{client}")).expect("a plain name is a client id");
        let count = self.rng.between(1, self.shape.push_deltas);
        (0..count)
            .map(|_| {
                self.resend(&client_id)
                    .unwrap_or_else(|| self.fresh(&client_id, client))
            })
            .collect()
    }

    /// Something this client has sent before, now and then.
    fn resend(&mut self, client_id: &ClientId) -> Option<RowDelta> {
        if !self.rng.chance(12) {
            return None;
        }
        let own: Vec<&RowDelta> = self
            .sent
            .iter()
            .filter(|d| d.client_id == *client_id)
            .collect();
        if own.is_empty() {
            return None;
        }
        Some((*self.rng.pick(&own)).clone())
    }

    fn fresh(&mut self, client_id: &ClientId, client: u64) -> RowDelta {
        loop {
            let hlc = self.hlc(client);
            let delta = self.delta(client_id, hlc);
            // The op is no part of a delta id, so an empty INSERT and a DELETE of one moment would share theirs.
            if *self.ops.entry(delta.delta_id).or_insert(delta.op) == delta.op {
                self.sent.push(delta.clone());
                return delta;
            }
        }
    }

    fn hlc(&mut self, client: u64) -> Hlc {
        if self.rng.chance(20) && !self.sent.is_empty() {
            return self.rng.pick(&self.sent).hlc;
        }
        let index = usize::try_from(client).expect("a history has few clients");
        let wall_ms = match self.skews[index] {
            _ if self.rng.chance(15) => self.now_ms - self.rng.below(self.shape.late_ms),
            Skew::Ahead(ms) => self.now_ms + ms,
            Skew::Behind(ms) => self.now_ms - ms,
        };
        let counter = *self.rng.pick(&[0, 0, 1, 2, u16::MAX]);
        Hlc::new(wall_ms, counter).expect("this century fits in 48 bits")
    }

    fn delta(&mut self, client_id: &ClientId, hlc: Hlc) -> RowDelta {
        let index = usize::try_from(self.rng.pick(&[0, 0, 0, 1, 2]).to_owned()).expect("an index");
        let schema = self.schemas[index].clone();
        let row = self.rng.below(self.shape.rows);
        let (row_id, key) = schemas::row(&schema, row);
        let op = *self.rng.pick(&[
            Op::Insert,
            Op::Insert,
            Op::Update,
            Op::Update,
            Op::Update,
            Op::Delete,
        ]);
        let mut columns = if op == Op::Insert { key } else { Vec::new() };
        if op != Op::Delete {
            columns.extend(self.changes(&schema));
        }
        RowDelta::new(op, key_of(&schema.table, row_id, client_id, hlc), columns)
    }

    /// A sparse set of columns in any order, without those of the key.
    fn changes(&mut self, schema: &TableSchema) -> Vec<ColumnChange> {
        let mut free: Vec<(ColumnName, ColumnType)> = schema
            .columns
            .iter()
            .filter(|column| !schema.primary_key.contains(&column.name))
            .map(|column| (column.name.clone(), column.column_type))
            .collect();
        let percent = *self.rng.pick(&[0, 15, 40, 100]);
        let mut changes = Vec::new();
        while !free.is_empty() {
            let position = self
                .rng
                .below(u64::try_from(free.len()).expect("few columns"));
            let (column, column_type) =
                free.swap_remove(usize::try_from(position).expect("few columns"));
            if self.rng.chance(percent) {
                let value = self.value(column_type);
                changes.push(ColumnChange { column, value });
            }
        }
        changes
    }

    fn value(&mut self, column_type: ColumnType) -> Value {
        if self.rng.chance(20) {
            return Value::Null;
        }
        let rng = &mut self.rng;
        match column_type {
            ColumnType::String => Value::String((*rng.pick(STRINGS)).to_owned()),
            ColumnType::Number => Value::Number(*rng.pick(NUMBERS)),
            ColumnType::Long => Value::Long(*rng.pick(LONGS)),
            ColumnType::Boolean => Value::Boolean(rng.chance(50)),
            ColumnType::Json => Value::Json((*rng.pick(JSON)).to_owned()),
            ColumnType::Decimal { scale, .. } => Value::Decimal(Decimal {
                unscaled: *rng.pick(UNSCALED),
                scale,
            }),
            ColumnType::Date => Value::Date(*rng.pick(DAYS)),
            ColumnType::Timestamp => Value::Timestamp(*rng.pick(MICROS)),
            ColumnType::Binary => Value::Binary(rng.pick(BYTES).to_vec()),
        }
    }
}

fn key_of(table: &TableName, row_id: RowId, client_id: &ClientId, hlc: Hlc) -> DeltaKey {
    DeltaKey {
        table: table.clone(),
        row_id,
        client_id: client_id.clone(),
        hlc,
    }
}

const STRINGS: &[&str] = &[
    "",
    "a",
    "null",
    "0042",
    "{\"x\":1}",
    "é\u{2028}😀\"\\\n\u{1}",
    "line one\nline two",
];
const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    -1.5,
    0.1,
    1e21,
    1e-7,
    123_456_789_012_345_680_000.0,
    f64::MAX,
    5e-324,
];
const LONGS: &[i64] = &[0, 1, -1, 9_007_199_254_740_993, i64::MAX, i64::MIN];
const JSON: &[&str] = &[
    "{}",
    "[1,null,\"x\"]",
    "{\"a_hlc\":\"007\",\"hlc\":\"\"}",
    "\"text\"",
    "true",
    "12.5",
];
const UNSCALED: &[i128] = &[0, 1, -1, 100, 99_999_999_999_999_999_999, -12_345];
const DAYS: &[i32] = &[0, -1, 19_675, 11_016, -719_162, 2_932_896];
const MICROS: &[i64] = &[
    0,
    -1,
    1_700_000_000_000_000,
    1_700_000_000_123_456,
    253_402_300_799_999_999,
];
const BYTES: &[&[u8]] = &[&[], &[0], &[0, 1, 2, 253, 254, 255], b"plain text"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use lakesync_proto::{
        Push, Seq, check_drift, decode_push_json, encode_push_json, verify_delta,
    };

    use super::*;

    #[test]
    fn one_seed_is_one_history() {
        let deltas = |seed| {
            History::generate(seed, Shape::default())
                .deltas()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(deltas(7), deltas(7));
        assert_ne!(deltas(7), deltas(8));
    }

    /// Every push is one client's, fits its schemas, is within the drift bound, and survives the wire.
    #[test]
    fn everything_is_admissible() {
        for seed in 0..200 {
            let history = History::generate(seed, Shape::default());
            let schemas: BTreeMap<TableName, Arc<TableSchema>> = history
                .schemas
                .iter()
                .map(|schema| (schema.table.clone(), Arc::new(schema.clone())))
                .collect();
            let mut now_ms = 0;
            for step in &history.steps {
                match step {
                    Step::Clock(ms) => {
                        assert!(*ms >= now_ms);
                        now_ms = *ms;
                    }
                    Step::Push(deltas) => {
                        for delta in deltas {
                            assert_eq!(delta.client_id, deltas[0].client_id);
                            verify_delta(delta, &schemas[&delta.table]).unwrap();
                            check_drift(delta.hlc, now_ms).unwrap();
                        }
                        let (client_id, deltas) = (deltas[0].client_id.clone(), deltas.clone());
                        let push = Push {
                            client_id,
                            deltas,
                            last_seen: Seq::ZERO,
                            schemas: None,
                        };
                        assert_eq!(
                            decode_push_json(&encode_push_json(&push), &schemas).unwrap(),
                            push,
                            "seed {seed}"
                        );
                    }
                    Step::Flush | Step::Compact | Step::Restart => {}
                }
            }
        }
    }

    /// What the histories are loaded with does occur, and often.
    #[test]
    fn the_dice_are_loaded() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut count = |what, times| *counts.entry(what).or_default() += times;
        for seed in 0..100 {
            let history = History::generate(seed, Shape::default());
            let mut known = BTreeSet::new();
            let fresh: Vec<&RowDelta> = history
                .deltas()
                .filter(|delta| known.insert(delta.delta_id))
                .collect();
            count("resent", history.deltas().count() - fresh.len());
            for (index, delta) in fresh.iter().enumerate() {
                let of_row = || {
                    fresh[..index]
                        .iter()
                        .filter(|d| (&d.table, &d.row_id) == (&delta.table, &delta.row_id))
                };
                let deleted_before =
                    of_row().any(|d| d.op == Op::Delete && d.stamp() < delta.stamp());
                let has_null = delta
                    .columns
                    .iter()
                    .any(|change| change.value == Value::Null);
                count("delete", usize::from(delta.op == Op::Delete));
                count(
                    "revival",
                    usize::from(delta.op != Op::Delete && deleted_before),
                );
                count("explicit null", usize::from(has_null));
                count(
                    "empty insert",
                    usize::from(delta.op == Op::Insert && delta.columns.is_empty()),
                );
                count(
                    "late",
                    usize::from(of_row().any(|d| d.stamp() > delta.stamp())),
                );
                count(
                    "equal clock",
                    usize::from(of_row().any(|d| d.hlc == delta.hlc)),
                );
                count(
                    "own equal clock",
                    usize::from(
                        of_row().any(|d| d.hlc == delta.hlc && d.client_id == delta.client_id),
                    ),
                );
            }
            for step in &history.steps {
                count("flush", usize::from(matches!(step, Step::Flush)));
                count("compact", usize::from(matches!(step, Step::Compact)));
                count("restart", usize::from(matches!(step, Step::Restart)));
            }
        }
        assert_eq!(counts.len(), 11);
        assert!(
            counts.values().all(|times| *times >= 100),
            "in 100 histories: {counts:?}"
        );
    }
}
