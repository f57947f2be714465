//! Every small history of one row, exhaustively: what is folded first, what comes as candidate, in every order of stamps.
//!
//! Each history has a row of its own, so thousands of them share one flush and one compaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync::Lake;
use lakesync_compactor::{CompactionConfig, compact};
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, ManualClock, Op, Push, RowDelta, RowId, Seq,
    TableName, TableSchema, Value, WallClock,
};
use lakesync_tests::cells;
use lakesync_tests::oracle::{AsOf, Oracle, OracleDelta, OracleRows, with_every_column};
use lakesync_tests::schemas;

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
/// The columns have names that the fold uses itself.
pub(crate) const TABLE: &str = r#"{"table": "t", "columns": [{"name": "deleted", "type": "long"}, {"name": "value_1", "type": "long"}]}"#;

/// What a delta does: an op, and for each column nothing, a null, or a value of its own.
pub(crate) type Deed = (Op, &'static [(&'static str, bool)]);

pub(crate) const DEEDS: [Deed; 6] = [
    (Op::Delete, &[]),
    (Op::Update, &[("deleted", true)]),
    (Op::Update, &[("value_1", true)]),
    (Op::Update, &[("deleted", false)]),
    (Op::Insert, &[("deleted", true), ("value_1", true)]),
    (Op::Insert, &[]),
];

/// One history: deltas in arrival order, of which the first `folded` are compacted before the others arrive.
pub(crate) struct Small {
    pub(crate) deltas: Vec<RowDelta>,
    pub(crate) folded: usize,
}

impl Small {
    /// The deltas that are not folded first are stamped after all that any history has.
    pub(crate) fn delay(&mut self) {
        for delta in &mut self.deltas[self.folded..] {
            let key = DeltaKey {
                table: delta.table.clone(),
                row_id: delta.row_id.clone(),
                client_id: delta.client_id.clone(),
                hlc: Hlc::new(delta.hlc.wall_ms() + 1_000, 0).unwrap(),
            };
            *delta = RowDelta::new(delta.op, key, delta.columns.clone());
        }
    }
}

pub(crate) fn histories(length: usize, deeds: &[Deed]) -> Vec<Small> {
    let mut all = Vec::new();
    for choice in words(deeds.len(), length) {
        for stamps in words(length, length)
            .into_iter()
            .filter(|word| is_permutation(word))
        {
            for folded in 0..length {
                let row = format!("{length}-{}", all.len());
                let deltas = choice.iter().zip(&stamps);
                let deltas = deltas.map(|(&deed, &stamp)| delta(&row, deeds[deed], stamp));
                all.push(Small {
                    deltas: deltas.collect(),
                    folded,
                });
            }
        }
    }
    all
}

/// All words of `length` letters below `letters`.
fn words(letters: usize, length: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        let longer = all.iter().flat_map(|word| {
            (0..letters).map(move |letter| {
                let mut longer: Vec<usize> = word.clone();
                longer.push(letter);
                longer
            })
        });
        all = longer.collect();
    }
    all
}

fn is_permutation(word: &[usize]) -> bool {
    (0..word.len()).all(|letter| word.contains(&letter))
}

fn delta(row: &str, (op, changes): Deed, stamp: usize) -> RowDelta {
    let value = i64::try_from(stamp).unwrap();
    let changes = changes.iter().map(|(column, set)| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value: if *set {
            Value::Long(value)
        } else {
            Value::Null
        },
    });
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse("ana").unwrap(),
        hlc: Hlc::new(NOW_MS + u64::try_from(stamp).unwrap(), 0).unwrap(),
    };
    RowDelta::new(op, key, changes.collect())
}

pub(crate) async fn push(lake: &Lake, deltas: &[RowDelta]) {
    for batch in deltas.chunks(10_000) {
        let push = Push {
            client_id: batch[0].client_id.clone(),
            deltas: batch.to_vec(),
            last_seen: Seq::ZERO,
            schemas: None,
        };
        lake.gateway("public").unwrap().push(push).await.unwrap();
    }
}

pub(crate) async fn run(lake: &Lake, sql: &str) -> Vec<arrow::array::RecordBatch> {
    lake.sql(sql).await.unwrap().collect().await.unwrap()
}

pub(crate) async fn fold(lake: &Lake, config: &CompactionConfig) {
    run(lake, "call system.flush('t')").await;
    let gateway = lake.gateway("public").unwrap();
    let fence = gateway.fence();
    compact(gateway.live(), "t", Some(&fence), config)
        .await
        .unwrap();
}

fn expected(histories: &[Small], deltas_of: impl Fn(&Small) -> usize) -> OracleRows {
    let mut rows = OracleRows::new();
    for history in histories {
        let mut oracle = Oracle::new();
        for delta in &history.deltas[..deltas_of(history)] {
            oracle.arrive(OracleDelta::from(delta));
        }
        rows.extend(with_every_column(
            &oracle.table("t", AsOf::NOW),
            &["deleted", "value_1"],
        ));
    }
    rows
}

fn compare(when: &str, histories: &[Small], found: &OracleRows, expected: &OracleRows) {
    let by_row: BTreeMap<&str, &Small> = histories
        .iter()
        .map(|small| (small.deltas[0].row_id.as_str(), small))
        .collect();
    for (row, small) in by_row {
        assert_eq!(
            found.get(row),
            expected.get(row),
            "{when}: the first {} of these were folded first: {:#?}",
            small.folded,
            small.deltas
        );
    }
    assert_eq!(found.len(), expected.len(), "{when}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_small_history_is_merged_hot_and_folded_as_the_oracle_says() {
    check(CompactionConfig::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_in_many_parts_gives_the_same_rows() {
    check(CompactionConfig {
        memory_bytes: 1 << 20,
        ..CompactionConfig::default()
    })
    .await;
}

/// All histories of three deltas, and of four that are the most telling.
pub(crate) fn all() -> Vec<Small> {
    let mut histories = histories(3, &DEEDS);
    histories.extend(self::histories(4, &DEEDS[..3]));
    // An INSERT of nothing and a DELETE of one moment would share their delta id.
    histories.retain(|small| {
        small
            .deltas
            .iter()
            .all(|delta| delta.op != Op::Insert || !delta.columns.is_empty())
            || small.deltas.iter().all(|delta| delta.op != Op::Delete)
    });
    histories
}

async fn check(config: CompactionConfig) {
    let histories = all();
    assert!(histories.len() > 5_000, "{}", histories.len());
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn WallClock>;
    let lake = Lake::builder(folder.path())
        .with_clock(clock)
        .open()
        .await
        .unwrap();
    lake.create_table(TABLE).await.unwrap();
    let schema: TableSchema = schemas::schema(TABLE);
    let first: Vec<RowDelta> = histories
        .iter()
        .flat_map(|small| &small.deltas[..small.folded])
        .cloned()
        .collect();
    let then: Vec<RowDelta> = histories
        .iter()
        .flat_map(|small| &small.deltas[small.folded..])
        .cloned()
        .collect();

    push(&lake, &first).await;
    fold(&lake, &config).await;
    let found = cells::rows(&schema, &run(&lake, "select * from t").await);
    compare(
        "folded",
        &histories,
        &found,
        &expected(&histories, |small| small.folded),
    );

    push(&lake, &then).await;
    let all = expected(&histories, |small| small.deltas.len());
    let found = cells::rows(&schema, &run(&lake, "select * from t").await);
    compare("hot over the base", &histories, &found, &all);
    fold(&lake, &config).await;
    let found = cells::rows(&schema, &run(&lake, "select * from t").await);
    compare("folded again", &histories, &found, &all);
}
