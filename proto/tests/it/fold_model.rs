//! Model check of "values in the base, clocks in the log": random histories with late deltas, deletes, revivals, folds
//! at random points, log expiry behind a monotone floor, and clock jumps. The base and every read (now, as of arrival,
//! as of HLC) must equal the merge of all deltas that ever were.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_proto::{ColumnName, Folded, Op, RowDelta, RowState, Value, fold_row};

use crate::samples::{change, key};

type Row = BTreeMap<ColumnName, Value>;
type Rows = BTreeMap<String, Row>;

const COLUMNS: [&str; 3] = ["x", "y", "z"];
const ROWS: [&str; 3] = ["r0", "r1", "r2"];
/// How old a delta may be when it arrives, and how long bases are kept.
const WINDOW: i64 = 40;
const HISTORY: i64 = 60;
const DRIFT: i64 = 3;

/// A small deterministic generator: a failing history is named by its seed.
struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = u64::try_from(high - low).unwrap() + 1;
        low + i64::try_from(self.next() % span).unwrap()
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn choice<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.next() % of.len() as u64).unwrap()]
    }
}

#[derive(Debug, Clone)]
struct Logged {
    seq: i64,
    delta: RowDelta,
}

impl Logged {
    fn hlc(&self) -> i64 {
        self.delta.hlc.as_i64()
    }

    fn row(&self) -> &str {
        self.delta.row_id.as_str()
    }
}

#[derive(Debug, Clone)]
struct Base {
    rows: Rows,
    seq: i64,
    max_hlc: i64,
    taken_at: i64,
}

fn state<'a>(deltas: impl Iterator<Item = &'a Logged>) -> RowState {
    let mut state = RowState::default();
    deltas.for_each(|logged| state.apply(&logged.delta));
    state
}

/// The oracle: the merge of a set of deltas.
fn merge<'a>(deltas: impl Iterator<Item = &'a Logged> + Clone) -> Rows {
    let names: BTreeSet<String> = deltas
        .clone()
        .map(|logged| logged.row().to_owned())
        .collect();
    let mut rows = Rows::new();
    for name in names {
        let state = state(deltas.clone().filter(|logged| logged.row() == name));
        if state.exists() {
            let cells = state
                .visible_cells()
                .map(|(column, cell)| (column.clone(), cell.value.clone()));
            rows.insert(name, cells.collect());
        }
    }
    rows
}

/// The base's rows at its seq and the retained log to the rows at seq `high`.
fn fold(base: &Base, log: &[Logged], high: i64, keep: impl Fn(&Logged) -> bool) -> Rows {
    let mut rows = base.rows.clone();
    let candidate = |logged: &Logged| base.seq < logged.seq && logged.seq <= high && keep(logged);
    let touched: BTreeSet<&str> = log
        .iter()
        .filter(|logged| candidate(logged))
        .map(Logged::row)
        .collect();
    for name in touched {
        let of_row = || log.iter().filter(|logged| logged.row() == name);
        let candidates = state(of_row().filter(|logged| candidate(logged)));
        let evidence = state(of_row().filter(|logged| logged.seq <= base.seq));
        match fold_row(base.rows.get(name), &candidates, &evidence) {
            Folded::Row(row) => rows.insert(name.to_owned(), row),
            Folded::Absent => rows.remove(name),
        };
    }
    rows
}

/// One history on its way.
struct History {
    random: Random,
    now: i64,
    seq: i64,
    floor: i64,
    log: Vec<Logged>,
    everything: Vec<Logged>,
    bases: Vec<Base>,
}

impl History {
    fn new(seed: u64) -> History {
        let bases = vec![Base {
            rows: Rows::new(),
            seq: 0,
            max_hlc: 0,
            taken_at: 0,
        }];
        History {
            random: Random(seed),
            now: 1_000,
            seq: 0,
            floor: 1,
            log: Vec::new(),
            everything: Vec::new(),
            bases,
        }
    }

    fn newest_base(&self) -> &Base {
        self.bases.last().unwrap()
    }

    fn write(&mut self) {
        let random = &mut self.random;
        let late = random.chance(35);
        let hlc = match late {
            true => self.now - random.between(0, WINDOW + 20),
            false => self.now + random.between(-2, DRIFT),
        };
        if hlc < self.floor {
            return; // Admission refuses below the floor, whatever the clock says.
        }
        self.seq += 1;
        let op = if random.chance(20) {
            Op::Delete
        } else {
            random.choice(&[Op::Insert, Op::Update])
        };
        let mut columns = Vec::new();
        for name in COLUMNS {
            if op != Op::Delete && random.chance(50) {
                columns.push(change(
                    name,
                    random
                        .choice(&[None, Some(self.seq)])
                        .map_or(Value::Null, Value::Long),
                ));
            }
        }
        let key = key(
            "t",
            random.choice(&ROWS),
            random.choice(&["a", "b"]),
            hlc.unsigned_abs(),
        );
        let logged = Logged {
            seq: self.seq,
            delta: RowDelta::new(op, key, columns),
        };
        // The same write again is a duplicate: it gets no second seq.
        if self
            .everything
            .iter()
            .any(|other| other.delta.stamp() == logged.delta.stamp())
        {
            self.seq -= 1;
            return;
        }
        self.log.push(logged.clone());
        self.everything.push(logged);
    }

    fn fold_some(&mut self, context: &str) {
        let high = self.random.between(self.newest_base().seq, self.seq);
        let base = self.newest_base();
        let rows = fold(base, &self.log, high, |_| true);
        let covered = self
            .everything
            .iter()
            .filter(|logged| base.seq < logged.seq && logged.seq <= high);
        let max_hlc = covered.map(Logged::hlc).fold(base.max_hlc, i64::max);
        assert_eq!(
            rows,
            merge(self.everything.iter().filter(|logged| logged.seq <= high)),
            "fold, {context}"
        );
        self.bases.push(Base {
            rows,
            seq: high,
            max_hlc,
            taken_at: self.now,
        });
    }

    /// Base snapshots older than the history go first, then the part of the log that the rest no longer needs.
    fn expire(&mut self) {
        let newest = self.bases.pop().unwrap();
        let horizon = self.now - HISTORY;
        self.bases.retain(|base| base.taken_at >= horizon);
        self.bases.push(newest);
        let low = self.bases.iter().map(|base| base.seq).min().unwrap();
        // A clock that jumps ahead while expiring must do no harm.
        let jump = self.random.choice(&[0, 0, 0, 200]);
        let uncovered = self
            .log
            .iter()
            .filter(|logged| logged.seq > low)
            .map(Logged::hlc);
        self.floor = self
            .floor
            .max(uncovered.fold(self.now + jump - WINDOW, i64::min));
        let floor = self.floor;
        self.log
            .retain(|logged| logged.seq > low || logged.hlc() >= floor);
    }

    fn read(&mut self, context: &str) {
        let now = fold(self.newest_base(), &self.log, self.seq, |_| true);
        assert_eq!(now, merge(self.everything.iter()), "read, {context}");
        let at = self
            .random
            .between(0, i64::try_from(self.bases.len()).unwrap() - 1);
        let base = self.bases[usize::try_from(at).unwrap()].clone();
        let seq = self.random.between(base.seq, self.seq);
        let as_of = fold(&base, &self.log, seq, |_| true);
        let expected = merge(self.everything.iter().filter(|logged| logged.seq <= seq));
        assert_eq!(as_of, expected, "as of arrival {seq}, {context}");
        if base.max_hlc <= self.now + DRIFT {
            let hlc = self.random.between(base.max_hlc.max(900), self.now + DRIFT);
            let as_of = fold(&base, &self.log, self.seq, |logged| logged.hlc() <= hlc);
            let expected = merge(self.everything.iter().filter(|logged| logged.hlc() <= hlc));
            assert_eq!(as_of, expected, "as of HLC {hlc}, {context}");
        }
    }

    fn run(mut self, seed: u64) {
        for step in 0..self.random.between(20, 120) {
            let context = format!("seed {seed}, step {step}");
            self.now += self.random.choice(&[0, 1, 2, 5, 15]);
            for _ in 0..self.random.between(0, 4) {
                self.write();
            }
            if self.random.chance(25) {
                self.fold_some(&context);
            }
            if self.random.chance(25) {
                self.expire();
            }
            self.read(&context);
        }
    }
}

#[test]
fn random_histories_agree_with_the_merge_of_all_deltas() {
    for seed in 0..300 {
        History::new(seed).run(seed);
    }
}

fn row(cells: &[(&str, i64)]) -> Row {
    cells
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), Value::Long(*value)))
        .collect()
}

fn write(hlc: u64, op: Op, cells: &[(&str, i64)]) -> RowState {
    let columns = cells
        .iter()
        .map(|(name, value)| change(name, *value))
        .collect();
    let mut state = RowState::default();
    state.apply(&RowDelta::new(op, key("t", "r", "c", hlc), columns));
    state
}

fn both(mut a: RowState, b: RowState) -> RowState {
    a.merge(b);
    a
}

#[test]
fn a_late_candidate_loses_against_newer_evidence() {
    let (base, evidence) = (row(&[("x", 9)]), write(9, Op::Update, &[("x", 9)]));
    let late = write(5, Op::Update, &[("x", 5), ("y", 5)]);
    assert_eq!(
        fold_row(Some(&base), &late, &evidence),
        Folded::Row(row(&[("x", 9), ("y", 5)]))
    );
}

#[test]
fn a_delete_takes_settled_cells_and_older_evidence_but_not_newer() {
    let base = row(&[("settled", 1), ("old", 4), ("new", 8)]);
    let evidence = both(
        write(4, Op::Update, &[("old", 4)]),
        write(8, Op::Update, &[("new", 8)]),
    );
    let delete = write(6, Op::Delete, &[]);
    assert_eq!(
        fold_row(Some(&base), &delete, &evidence),
        Folded::Row(row(&[("new", 8)]))
    );
    assert_eq!(
        fold_row(Some(&base), &delete, &RowState::default()),
        Folded::Absent
    );
}

#[test]
fn a_tombstone_in_the_evidence_hides_a_late_write() {
    let evidence = write(9, Op::Delete, &[]);
    assert_eq!(
        fold_row(None, &write(5, Op::Insert, &[("x", 5)]), &evidence),
        Folded::Absent
    );
    let alive = Folded::Row(row(&[("x", 10)]));
    assert_eq!(
        fold_row(None, &write(10, Op::Insert, &[("x", 10)]), &evidence),
        alive
    );
}

#[test]
fn a_delta_in_both_is_evidence() {
    // The base was written over the delete's row later, by writes that the log has forgotten since.
    let (base, delete) = (row(&[("x", 7)]), write(6, Op::Delete, &[]));
    assert_eq!(
        fold_row(Some(&base), &delete, &delete),
        Folded::Row(base.clone())
    );
    let update = write(6, Op::Update, &[("x", 6)]);
    assert_eq!(
        fold_row(Some(&base), &update, &update),
        Folded::Row(base.clone())
    );
}

#[test]
fn an_explicit_null_stays_present() {
    let base: Row = [("x".parse().unwrap(), Value::Null)].into();
    let candidates = write(5, Op::Update, &[("y", 5)]);
    let Folded::Row(folded) = fold_row(Some(&base), &candidates, &RowState::default()) else {
        panic!("absent")
    };
    assert_eq!(folded.get("x"), Some(&Value::Null));
    assert_eq!(folded.get("z"), None);
}
