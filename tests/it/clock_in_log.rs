//! "Values in the base, clocks in the log", checked as a model: random histories with late deltas, deletes, revivals, folds
//! at random points, expiry behind a floor that only rises, and clocks that jump while it runs. The base and every read
//! (now, as of arrival, as of an HLC) must be what the merge of all deltas is.
//!
//! Invariant: it shares no code with the product; what it shows is that the rule is right, and that dropping by age alone
//! is not. `expiry` runs like histories against the product.

use std::collections::{BTreeMap, BTreeSet};

use lakesync_tests::history::Rng;

const COLUMNS: [char; 3] = ['x', 'y', 'z'];
/// The late window, the history window, and how far a stamp may be ahead, in units of the clock.
const W: i64 = 40;
const H: i64 = 60;
const DRIFT: i64 = 3;
const LONG_AGO: i64 = -1_000_000_000;

/// HLC, client, delta id.
type Stamp = (i64, u8, i64);
type Cells = BTreeMap<char, Option<i64>>;
type Rows = BTreeMap<u64, Cells>;

#[derive(Clone, Debug)]
struct Delta {
    seq: i64,
    row: u64,
    deletes: bool,
    stamp: Stamp,
    columns: Cells,
}

/// A base: its rows, base seq, greatest HLC, and when it was made.
#[derive(Clone, Debug)]
struct Base {
    rows: Rows,
    seq: i64,
    max_hlc: i64,
    made: i64,
}

/// The merge rule over a set of deltas.
fn merged(deltas: &[&Delta]) -> Rows {
    let mut rows = Rows::new();
    for row in deltas
        .iter()
        .map(|delta| delta.row)
        .collect::<BTreeSet<_>>()
    {
        let of_row = || deltas.iter().filter(|delta| delta.row == row);
        let deleted = of_row().filter(|d| d.deletes).map(|d| d.stamp).max();
        let writes: Vec<_> = of_row()
            .filter(|d| !d.deletes && deleted.is_none_or(|deleted| d.stamp > deleted))
            .collect();
        if writes.is_empty() {
            continue;
        }
        let cells = COLUMNS.iter().filter_map(|column| {
            let with = writes.iter().filter(|d| d.columns.contains_key(column));
            let winner = with.max_by_key(|d| d.stamp)?;
            Some((*column, winner.columns[column]))
        });
        rows.insert(row, cells.collect());
    }
    rows
}

/// The base's rows with the deltas of the log in `lo < seq <= hi` that are kept, the rest of the log as evidence.
fn folded(base: &Rows, log: &[Delta], (lo, hi): (i64, i64), keep: impl Fn(&Delta) -> bool) -> Rows {
    let mut rows = base.clone();
    let candidate = |d: &&Delta| lo < d.seq && d.seq <= hi && keep(d);
    let touched: BTreeSet<u64> = log.iter().filter(candidate).map(|d| d.row).collect();
    for row in touched {
        let candidates: Vec<&Delta> = log
            .iter()
            .filter(candidate)
            .filter(|d| d.row == row)
            .collect();
        let evidence = log.iter().filter(|d| d.row == row && d.seq <= lo);
        let all: Vec<&Delta> = evidence.chain(candidates.iter().copied()).collect();
        let deleted = all.iter().filter(|d| d.deletes).map(|d| d.stamp).max();
        let deleted_now = candidates
            .iter()
            .filter(|d| d.deletes)
            .map(|d| d.stamp)
            .max();
        let old = rows.get(&row).cloned();
        let mut cells = Cells::new();
        for column in COLUMNS {
            let writes = all.iter().filter(|d| d.columns.contains_key(&column));
            let last = writes.max_by_key(|d| d.stamp);
            let of_base = old.as_ref().and_then(|old| old.get(&column)).copied();
            let value = match last {
                Some(last) if last.seq > lo => {
                    let shows = deleted.is_none_or(|deleted| last.stamp > deleted);
                    shows.then(|| last.columns[&column])
                }
                // Evidence decides, the base holds the value.
                Some(last) => of_base.filter(|_| deleted_now.is_none_or(|now| last.stamp > now)),
                // Forgotten: older than anything acceptable.
                None => of_base.filter(|_| deleted_now.is_none()),
            };
            if let Some(value) = value {
                cells.insert(column, value);
            }
        }
        let shows = |d: &&&Delta| !d.deletes && deleted.is_none_or(|deleted| d.stamp > deleted);
        let alive = all.iter().any(|d| shows(&d)) || (old.is_some() && deleted_now.is_none());
        match alive {
            true => drop(rows.insert(row, cells)),
            false => drop(rows.remove(&row)),
        }
    }
    rows
}

/// What lets deltas of the log go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Covered by every base and below the floor, which rises behind all that is not covered.
    Design,
    /// Below the floor, which follows the clock.
    ByAge,
}

/// What is different in the history of `seed`, if anything is.
#[expect(
    clippy::too_many_lines,
    reason = "one history from its beginning to its end"
)]
fn run(seed: u64, rule: Rule) -> Result<usize, String> {
    let mut rng = Rng::new(seed);
    let mut signed = |low: i64, high: i64| {
        let span = u64::try_from(high - low).expect("low is below high");
        low + i64::try_from(rng.between(0, span)).expect("a small span")
    };
    let (mut log, mut everything): (Vec<Delta>, Vec<Delta>) = (Vec::new(), Vec::new());
    let mut bases = vec![Base {
        rows: Rows::new(),
        seq: 0,
        max_hlc: LONG_AGO,
        made: 0,
    }];
    let (mut now, mut seq, mut floor, mut dropped) = (1_000, 0, LONG_AGO, 0);
    for step in 0..signed(20, 120) {
        now += [0, 1, 2, 5, 15][usize::try_from(signed(0, 4)).expect("small")];
        for _ in 0..signed(0, 4) {
            let hlc = match signed(0, 99) < 35 {
                true => now - signed(0, W + 20),
                false => now + signed(-2, DRIFT),
            };
            if hlc < floor {
                continue;
            }
            seq += 1;
            let deletes = signed(0, 99) < 20;
            let mut columns = Cells::new();
            for column in COLUMNS.iter().filter(|_| !deletes) {
                if signed(0, 1) == 0 {
                    columns.insert(*column, (signed(0, 1) == 0).then_some(seq));
                }
            }
            let delta = Delta {
                seq,
                row: u64::try_from(signed(0, 2)).expect("small"),
                deletes,
                stamp: (hlc, u8::try_from(signed(0, 1)).expect("small"), seq),
                columns,
            };
            log.push(delta.clone());
            everything.push(delta);
        }
        let newest = bases.last().expect("one is kept").clone();
        if signed(0, 3) == 0 {
            let to = signed(newest.seq, seq);
            let rows = folded(&newest.rows, &log, (newest.seq, to), |_| true);
            let stamps = everything
                .iter()
                .filter(|d| newest.seq < d.seq && d.seq <= to);
            let max_hlc = stamps.map(|d| d.stamp.0).max().unwrap_or(LONG_AGO);
            same("fold", (seed, step), &rows, &everything, |d| d.seq <= to)?;
            bases.push(Base {
                rows,
                seq: to,
                max_hlc: max_hlc.max(newest.max_hlc),
                made: now,
            });
        }
        if signed(0, 3) == 0 {
            let last = bases.pop().expect("one is kept");
            bases.retain(|base| base.made >= now - H);
            bases.push(last);
            let low = bases.iter().map(|base| base.seq).min().unwrap_or(0);
            let jump = [0, 0, 0, 200][usize::try_from(signed(0, 3)).expect("small")];
            let window = now + jump - W;
            let uncovered = log.iter().filter(|d| d.seq > low).map(|d| d.stamp.0).min();
            floor = floor.max(match rule {
                Rule::Design => uncovered.map_or(window, |least| window.min(least)),
                Rule::ByAge => window,
            });
            let before = log.len();
            log.retain(|d| {
                let covered = d.seq <= low || rule == Rule::ByAge;
                !(covered && d.stamp.0 < floor)
            });
            dropped += before - log.len();
        }
        let newest = bases.last().expect("one is kept");
        let rows = folded(&newest.rows, &log, (newest.seq, seq), |_| true);
        same("now", (seed, step), &rows, &everything, |_| true)?;
        let base = &bases[usize::try_from(signed(0, i64::try_from(bases.len()).expect("few") - 1))
            .expect("few")];
        let to = signed(base.seq, seq);
        let rows = folded(&base.rows, &log, (base.seq, to), |_| true);
        same("as of seq", (seed, step), &rows, &everything, |d| {
            d.seq <= to
        })?;
        if base.max_hlc <= now + DRIFT {
            let hlc = signed(base.max_hlc.max(900), now + DRIFT);
            let rows = folded(&base.rows, &log, (base.seq, seq), |d| d.stamp.0 <= hlc);
            same("as of HLC", (seed, step), &rows, &everything, |d| {
                d.stamp.0 <= hlc
            })?;
        }
    }
    Ok(dropped)
}

fn same(
    what: &str,
    at: (u64, i64),
    found: &Rows,
    everything: &[Delta],
    seen: impl Fn(&Delta) -> bool,
) -> Result<(), String> {
    let seen: Vec<&Delta> = everything.iter().filter(|d| seen(d)).collect();
    let truth = merged(&seen);
    match *found == truth {
        true => Ok(()),
        false => Err(format!(
            "{what}, seed and step {at:?}: {found:?} is not {truth:?}"
        )),
    }
}

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    let asked = std::env::var("LAKESYNC_SEEDS").ok();
    let asked = asked.and_then(|text| text.parse::<u64>().ok());
    asked.map_or(400, |asked| asked * 100)
}

#[test]
fn every_history_is_merged_as_if_nothing_had_been_forgotten() {
    let mut dropped = 0;
    for seed in 0..seeds() {
        dropped += run(seed, Rule::Design).unwrap_or_else(|different| panic!("{different}"));
    }
    assert!(dropped > 1_000, "{dropped} deltas were forgotten");
}

#[test]
fn forgetting_by_age_alone_is_found_out() {
    let wrong = (0..seeds()).filter(|seed| run(*seed, Rule::ByAge).is_err());
    assert!(wrong.count() > 0);
}
