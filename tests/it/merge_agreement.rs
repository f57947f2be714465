//! The row merge of `proto` against the oracle, on random histories.
//!
//! Invariant: whatever the order, duplication or batching, folding deltas one by one gives what the merge rule says
//! about the set of them.

use std::collections::BTreeMap;

use lakesync_proto::{ColumnName, Folded, RowDelta, RowState, Value, fold_row};
use lakesync_tests::history::{History, Rng, Shape};
use lakesync_tests::oracle::{AsOf, Oracle, OracleDelta, OracleRows};

const HISTORIES: u64 = 2_000;

type States = BTreeMap<(String, String), RowState>;

#[test]
fn two_thousand_random_histories_merge_as_the_oracle_says() {
    for seed in 0..HISTORIES {
        let history = History::generate(seed, Shape::default());
        let deltas: Vec<&RowDelta> = history.deltas().collect();
        let mut oracle = Oracle::new();
        for delta in &deltas {
            oracle.arrive(OracleDelta::from(*delta));
        }
        let mut rng = Rng::new(seed);
        let in_order = fold(deltas.iter().copied());
        let shuffled = fold(shuffle(&deltas, &mut rng));
        let in_two_parts = fold_parts(&deltas, &mut rng);
        for schema in &history.schemas {
            let table = schema.table.to_string();
            let want = oracle.table(&table, AsOf::NOW);
            assert_eq!(
                visible(&in_order, &table),
                want,
                "in order, seed {seed}, {table}"
            );
            assert_eq!(
                visible(&shuffled, &table),
                want,
                "shuffled, seed {seed}, {table}"
            );
            assert_eq!(
                visible(&in_two_parts, &table),
                want,
                "in two parts, seed {seed}, {table}"
            );
        }
        as_of(&deltas, &oracle, &mut rng, seed);
    }
}

/// Time travel by either clock is the merge of fewer deltas.
fn as_of(deltas: &[&RowDelta], oracle: &Oracle, rng: &mut Rng, seed: u64) {
    let seq = rng.between(0, oracle.last_seq());
    let hlc = oracle
        .deltas()
        .get(index(rng.below(oracle.last_seq().max(1))))
        .map_or(0, |d| d.hlc);
    let mut arrivals = Oracle::new();
    let known = deltas
        .iter()
        .copied()
        .filter(|d| arrivals.arrive(OracleDelta::from(*d)) <= seq);
    let by_seq = fold(known);
    let by_hlc = fold(deltas.iter().copied().filter(|d| d.hlc.as_u64() <= hlc));
    for table in oracle.tables() {
        assert_eq!(
            visible(&by_seq, table),
            oracle.table(table, AsOf::seq(seq)),
            "seed {seed}, {table}, seq {seq}"
        );
        assert_eq!(
            visible(&by_hlc, table),
            oracle.table(table, AsOf::hlc(hlc)),
            "seed {seed}, {table}, hlc {hlc}"
        );
    }
}

/// A base that knows values and no clocks, folded with the deltas after it and the deltas before it as evidence.
#[test]
fn folding_a_base_without_clocks_gives_what_the_oracle_says() {
    for seed in 0..HISTORIES {
        let history = History::generate(seed, Shape::default());
        let mut oracle = Oracle::new();
        let arrived: Vec<(u64, &RowDelta)> = history
            .deltas()
            .map(|delta| (oracle.arrive(OracleDelta::from(delta)), delta))
            .collect();
        let mut rng = Rng::new(seed);
        let base_seq = rng.between(0, oracle.last_seq());
        let seq = rng.between(base_seq, oracle.last_seq());
        let among = |low: u64, high: u64| {
            fold(
                arrived
                    .iter()
                    .filter(|(s, _)| low < *s && *s <= high)
                    .map(|(_, d)| *d),
            )
        };
        let (evidence, candidates) = (among(0, base_seq), among(base_seq, seq));
        for schema in &history.schemas {
            let table = schema.table.as_str();
            let want = oracle.table(table, AsOf::seq(seq));
            let got = folded(&evidence, &candidates, table);
            assert_eq!(
                got, want,
                "seed {seed}, {table}, base seq {base_seq}, seq {seq}"
            );
        }
    }
}

fn folded(evidence: &States, candidates: &States, table: &str) -> OracleRows {
    let none = RowState::default();
    let mut keys: Vec<&(String, String)> = evidence.keys().chain(candidates.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut rows = OracleRows::new();
    for key in keys.into_iter().filter(|(name, _)| name == table) {
        let before = evidence.get(key).unwrap_or(&none);
        let base: BTreeMap<ColumnName, Value> = before
            .visible_cells()
            .map(|(column, cell)| (column.clone(), cell.value.clone()))
            .collect();
        let base = before.exists().then_some(&base);
        if let Folded::Row(values) = fold_row(base, candidates.get(key).unwrap_or(&none), before) {
            let cells = values
                .iter()
                .map(|(column, value)| (column.to_string(), canonical(value)));
            rows.insert(key.1.clone(), cells.collect());
        }
    }
    rows
}

fn fold<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> States {
    let mut states = States::new();
    for delta in deltas {
        let key = (delta.table.to_string(), delta.row_id.to_string());
        states.entry(key).or_default().apply(delta);
    }
    states
}

/// Two folds that overlap, merged as states.
fn fold_parts(deltas: &[&RowDelta], rng: &mut Rng) -> States {
    let last = u64::try_from(deltas.len()).unwrap();
    let (low, high) = (rng.between(0, last), rng.between(0, last));
    let (low, high) = (index(low.min(high)), index(low.max(high)));
    let mut states = fold(deltas[low..].iter().copied());
    for (key, state) in fold(deltas[..high].iter().copied()) {
        states.entry(key).or_default().merge(state);
    }
    states
}

fn shuffle<'a>(deltas: &[&'a RowDelta], rng: &mut Rng) -> Vec<&'a RowDelta> {
    let mut shuffled = deltas.to_vec();
    for last in (1..shuffled.len()).rev() {
        shuffled.swap(last, index(rng.between(0, u64::try_from(last).unwrap())));
    }
    shuffled
}

fn visible(states: &States, table: &str) -> OracleRows {
    states
        .iter()
        .filter(|((name, _), state)| name == table && state.exists())
        .map(|((_, row_id), state)| {
            let cells = state
                .visible_cells()
                .map(|(column, cell)| (column.to_string(), canonical(&cell.value)));
            (row_id.clone(), cells.collect())
        })
        .collect()
}

fn canonical(value: &Value) -> String {
    let mut text = String::new();
    value.write_canonical(&mut text);
    text
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}
