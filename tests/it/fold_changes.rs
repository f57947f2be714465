//! The changes of a fold, row by row: they are what `proto`'s fold says, and applied to the base's files they give the merge
//! of all deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use futures::TryStreamExt as _;
use lakesync::Lake;
use lakesync_compactor::{
    Changes, CompactionConfig, Fold, Progress, WriteMode, change_schema, compact_watched,
    set_column, value_column,
};
use lakesync_proto::{
    ColumnName, InBase, ManualClock, RowDelta, RowFold, RowState, Source, Value, WallClock,
};
use lakesync_providers::lake::{base_arrow_schema, live_files};
use lakesync_tests::layouts::rows_of;

use crate::small_histories::{self, NOW_MS, Small, TABLE};

/// The numbers of the table's two columns.
const COLUMNS: [(&str, u32); 2] = [("deleted", 1), ("value_1", 2)];

/// One change, as a test reads it.
#[derive(Debug)]
struct Change {
    place: Option<(usize, usize)>,
    exists: [bool; 2],
    cells: BTreeMap<ColumnName, (bool, Option<i64>)>,
}

async fn changes(lake: &Lake, (config, parts): (CompactionConfig, u64)) -> (Changes, Fold) {
    small_histories::run(lake, "call system.flush('t')").await;
    let view = lake.gateway("public").unwrap().live().view("t").unwrap();
    let fold = Fold::plan(&view, config).await.unwrap().in_parts(parts);
    let progress = Progress::default();
    let changes = fold.changes(&progress).await.unwrap();
    assert_eq!(
        changes.schema,
        change_schema(&view.schema, &base_arrow_schema(&view.schema).unwrap())
    );
    (changes, fold)
}

/// The changes by row id; they come in the order of their places.
async fn read(changes: Changes) -> BTreeMap<String, Change> {
    let batches: Vec<RecordBatch> = changes.stream.try_collect().await.unwrap();
    let mut found = BTreeMap::new();
    let mut last = None;
    for batch in &batches {
        assert_eq!(batch.schema(), changes.schema);
        let files = batch.column(0).as_primitive::<Int32Type>();
        let positions = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let place = files.is_valid(row).then(|| {
                let file = usize::try_from(files.value(row)).unwrap();
                (file, usize::try_from(positions.value(row)).unwrap())
            });
            let order = (place.is_none(), place);
            assert!(last.is_none_or(|last| last < order || place.is_none() && last <= order));
            last = Some(order);
            let flag = |name: &str| batch.column_by_name(name).unwrap().as_boolean().value(row);
            let cells = COLUMNS.map(|(name, number)| {
                let values = batch.column_by_name(&value_column(number)).unwrap();
                let values = values.as_primitive::<Int64Type>();
                let value = values.is_valid(row).then(|| values.value(row));
                let name = ColumnName::parse(name).unwrap();
                (name, (flag(&set_column(number)), value))
            });
            let change = Change {
                place,
                exists: [flag("exists_with_base"), flag("exists_without_base")],
                cells: cells.into(),
            };
            let id = batch.column(2).as_string::<i32>().value(row).to_owned();
            assert!(
                found.insert(id.clone(), change).is_none(),
                "{id} comes twice"
            );
        }
    }
    found
}

fn state(deltas: &[RowDelta]) -> RowState {
    let mut state = RowState::default();
    deltas.iter().for_each(|delta| state.apply(delta));
    state
}

/// Compares the change of a row with what the rule by row says.
fn check(small: &Small, change: Option<&Change>, in_base: InBase) {
    let case = || {
        format!(
            "{in_base:?}, the first {} folded: {:#?}",
            small.folded, small.deltas
        )
    };
    let (evidence, candidates) = small.deltas.split_at(small.folded);
    let (evidence, candidates) = (state(evidence), state(candidates));
    let fold = RowFold::new(in_base, &candidates, &evidence);
    let Some(change) = change else {
        let changed = |(name, _): &(&str, u32)| {
            let source = fold.source(&ColumnName::parse(name).unwrap());
            source != Source::Base
        };
        let there = in_base == InBase::Row;
        assert_eq!(fold.exists(), there, "{}", case());
        assert!(!there || !COLUMNS.iter().any(changed), "{}", case());
        return;
    };
    assert_eq!(change.place.is_some(), in_base == InBase::Row, "{}", case());
    for (exists, in_base) in change
        .exists
        .into_iter()
        .zip([InBase::Row, InBase::Nothing])
    {
        let fold = RowFold::new(in_base, &candidates, &evidence);
        assert_eq!(exists, fold.exists(), "{in_base:?} {}", case());
    }
    for (column, (set, value)) in &change.cells {
        let found = (*set, value.filter(|_| *set));
        let expected = match fold.source(column) {
            Source::Base => (false, None),
            Source::Hidden | Source::Candidate(Value::Null) => (true, None),
            Source::Candidate(Value::Long(value)) => (true, Some(*value)),
            Source::Candidate(other) => panic!("{other:?} is no number"),
        };
        assert_eq!(found, expected, "{column} of {}", case());
    }
}

/// The rows of the base by id, with their places.
async fn base_rows(fold: &Fold) -> BTreeMap<String, (usize, usize)> {
    let base = &fold.view().base;
    let files = live_files(&base.table, base.snapshot_id).await.unwrap();
    let mut rows = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        let path = fold.view().warehouse.object_path(&file.path).unwrap();
        let read = rows_of(Path::new(&format!("/{path}")));
        let ids = read.column_by_name("row_id").unwrap().as_string::<i32>();
        for (position, id) in ids.iter().flatten().enumerate() {
            assert!(rows.insert(id.to_owned(), (at, position)).is_none());
        }
    }
    rows
}

/// When the later deltas of all histories are stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    /// Among the earlier ones.
    Late,
    /// After all of them.
    Prompt,
}

async fn check_all(later: Later, config: CompactionConfig, parts: u64) {
    let mut histories = small_histories::all();
    if later == Later::Prompt {
        for small in &mut histories {
            small.delay();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn WallClock>;
    let lake = Lake::builder(folder.path()).with_clock(clock);
    let lake = lake.open().await.unwrap();
    lake.create_table(TABLE).await.unwrap();
    let of = |part: fn(&Small) -> &[RowDelta]| -> Vec<RowDelta> {
        histories.iter().flat_map(part).cloned().collect()
    };
    // Of a first fold every row is new.
    let first = of(|small| &small.deltas[..small.folded]);
    small_histories::push(&lake, &first).await;
    let (found, _) = changes(&lake, (config, parts)).await;
    assert!(found.counts.by_file.is_empty());
    assert_eq!(found.counts.candidates, u64::try_from(first.len()).unwrap());
    let made = read(found).await;
    small_histories::fold(&lake, &CompactionConfig::default()).await;

    small_histories::push(&lake, &of(|small| &small.deltas[small.folded..])).await;
    let (found, fold) = changes(&lake, (config, parts)).await;
    let base = base_rows(&fold).await;
    assert_eq!(
        made.keys().collect::<BTreeSet<_>>(),
        base.keys().collect::<BTreeSet<_>>()
    );
    let touched = |small: &&Small| small.folded < small.deltas.len();
    let touched: Vec<&Small> = histories.iter().filter(touched).collect();
    let counts = found.counts.clone();
    assert_eq!(counts.rows(), u64::try_from(touched.len()).unwrap());
    let there = |small: &&&Small| base.contains_key(small.deltas[0].row_id.as_str());
    let there = u64::try_from(touched.iter().filter(there).count()).unwrap();
    assert_eq!(
        (counts.by_file.iter().sum::<u64>(), counts.by_file.len()),
        (there, 1)
    );
    let sql = fold.sql();
    assert_eq!(sql.contains("is_late("), later == Later::Late, "{sql}");
    let found = read(found).await;
    for small in touched {
        let id = small.deltas[0].row_id.as_str();
        let (change, place) = (found.get(id), base.get(id));
        let in_base = match place {
            Some(_) => InBase::Row,
            None => InBase::Nothing,
        };
        check(small, change, in_base);
        if let Some(change) = change {
            assert_eq!(change.place.as_ref(), place, "{id}");
        }
    }
    assert!(found.values().any(|change| change.place.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_late_deltas_are_what_the_rule_by_row_says() {
    check_all(Later::Late, CompactionConfig::default(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_prompt_deltas_are_the_same_without_a_look_at_evidence() {
    check_all(Later::Prompt, CompactionConfig::default(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_the_same_in_the_least_memory_and_in_several_parts() {
    let config = CompactionConfig {
        memory_bytes: 0,
        ..CompactionConfig::default()
    };
    check_all(Later::Late, config, 3).await;
}

/// A table of so many rows with half a kilobyte each, changed once more in every second row.
async fn wide(rows: u64) -> (tempfile::TempDir, Lake) {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::open(folder.path()).await.unwrap();
    small_histories::run(
        &lake,
        "create table w (id bigint primary key, n bigint, note text)",
    )
    .await;
    for first in (0..rows).step_by(20_000) {
        let last = (first + 20_000).min(rows) - 1;
        let sql = format!(
            "insert into w select value, 0, concat(value, repeat('x', 500)) from generate_series({first}, {last})"
        );
        small_histories::run(&lake, &sql).await;
    }
    (folder, lake)
}

async fn fold_wide(lake: &Lake, config: &CompactionConfig) {
    small_histories::run(lake, "call system.flush('w')").await;
    let gateway = lake.gateway("public").unwrap();
    let fence = gateway.fence();
    let progress = Progress::default();
    compact_watched(gateway.live(), "w", Some(&fence), config, &progress)
        .await
        .unwrap();
    assert_eq!(progress.step().name, "committing");
}

async fn counts(lake: &Lake) -> String {
    let sql = "select count(*), sum(n), sum(length(note)) from w";
    let rows = small_histories::run(lake, sql).await;
    let text = arrow::util::pretty::pretty_format_batches(&rows).unwrap();
    let text = text.to_string();
    text.lines().nth(3).unwrap().replace(' ', "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_of_more_than_its_memory_is_finished_on_disk() {
    let rows = 100_000;
    let (_folder, lake) = wide(rows).await;
    let config = CompactionConfig {
        memory_bytes: 0,
        ..CompactionConfig::default()
    };
    let before = counts(&lake).await;
    fold_wide(&lake, &config).await;
    assert_eq!(counts(&lake).await, before);
    for mode in [WriteMode::MergeOnRead, WriteMode::CopyOnWrite] {
        for first in (0..rows).step_by(50_000) {
            let sql = format!(
                "update w set n = n + 1, note = concat(note, 'y') where id % 2 = 0 and id between {first} and {}",
                first + 49_999
            );
            small_histories::run(&lake, &sql).await;
        }
        let before = counts(&lake).await;
        fold_wide(&lake, &CompactionConfig { mode, ..config }).await;
        assert_eq!(counts(&lake).await, before, "{mode:?}");
    }
}
