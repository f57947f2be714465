//! `changes`, `history`, `cell_info` and `t$conflicts` against brute force, on random histories: through SQL, and in a
//! plain DataFusion session whose windows are tiny.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::prelude::{SessionConfig, SessionContext};
use lakesync_gateway::GatewayConfig;
use lakesync_proto::TableSchema;
use lakesync_providers::{LakeCatalog, ReplayLimits, register};
use lakesync_tests::cells;
use lakesync_tests::history::{History, Rng, START_MS, Shape, Step};
use lakesync_tests::oracle::{AsOf, OracleDelta, OracleRows};
use lakesync_tests::world::World;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3)
}

/// A world that also knows when deltas arrived.
struct Told {
    world: World,
    now_ms: u64,
    arrived_ms: Vec<u64>,
    /// A session of somebody else's, with windows of a few deltas.
    tiny: SessionContext,
}

impl Told {
    fn of(world: World) -> Told {
        Told {
            world,
            now_ms: START_MS,
            arrived_ms: Vec::new(),
            tiny: SessionContext::new(),
        }
    }

    async fn step(&mut self, step: &Step) {
        if let Step::Clock(now_ms) = step {
            self.now_ms = *now_ms;
        }
        self.world.step(step).await;
        let known = usize::try_from(self.world.oracle.last_seq()).unwrap();
        self.arrived_ms.resize(known, self.now_ms);
    }

    fn look(&mut self, rng: &mut Rng) {
        let limits = ReplayLimits {
            rows: usize::try_from(rng.between(1, 5)).unwrap(),
            bytes: usize::try_from(rng.between(1, 20_000)).unwrap(),
        };
        let config = SessionConfig::new()
            .with_extension(Arc::new(limits))
            .with_default_catalog_and_schema("lake", "public");
        let tiny = SessionContext::new_with_config(config);
        let views = self.world.gateway().live().views();
        let catalog = LakeCatalog::default().with_gateway(views, None);
        register(&tiny, "lake", &Arc::new(catalog)).unwrap();
        self.tiny = tiny;
    }

    /// The answers of both sessions; none when both say that the log has let go of what is asked for.
    async fn rows(&self, sql: &str) -> Vec<Vec<RecordBatch>> {
        let tiny = async { self.tiny.sql(sql).await?.collect().await };
        let (ours, tiny) = (self.world.sql_past(sql).await, tiny.await);
        let about = format!("seed {}: {sql}", self.world.seed);
        match (ours, tiny) {
            (Some(ours), Ok(tiny)) => vec![ours, tiny],
            (None, Err(_)) => Vec::new(),
            (Some(_), Err(error)) => panic!("{about}: {error}"),
            (None, Ok(_)) => panic!("{about}: one session knows it"),
        }
    }

    /// The deltas of a table with their seqs.
    fn deltas<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (u64, &'a OracleDelta)> {
        let all = (1..).zip(self.world.oracle.deltas());
        all.filter(move |(_, delta)| delta.table == table)
    }

    fn arrived_ms(&self, seq: u64) -> u64 {
        self.arrived_ms[usize::try_from(seq - 1).unwrap()]
    }
}

async fn told(history: &History, folder: &std::path::Path) -> Told {
    Told::of(World::open(folder.join("lake"), history).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delta_tells_what_it_made_of_its_row_whatever_was_flushed() {
    let shape = Shape {
        rows: 4,
        push_deltas: 6,
        ..Shape::default()
    };
    let (mut changes, mut conflicts) = (0, BTreeSet::new());
    for seed in 0..seeds() {
        let history = History::generate(seed, shape);
        let folder = tempfile::tempdir().unwrap();
        let mut told = told(&history, folder.path()).await;
        let mut rng = Rng::new(seed);
        for step in &history.steps {
            told.step(step).await;
            if !rng.chance(12) {
                continue;
            }
            told.look(&mut rng);
            let last = told.world.oracle.last_seq();
            let from = rng.between(0, last);
            let to = rng.between(from, last);
            for schema in &told.world.schemas.clone() {
                changes += check_changes(&told, schema, (from, to)).await;
                check_row(&told, schema, &mut rng).await;
                conflicts.extend(check_conflicts(&told, schema, from).await);
            }
        }
        told.look(&mut rng);
        for schema in &told.world.schemas.clone() {
            let last = told.world.oracle.last_seq();
            changes += check_changes(&told, schema, (0, last)).await;
            check_replayed(&told, schema).await;
            conflicts.extend(check_conflicts(&told, schema, 0).await);
        }
    }
    assert!(changes > 100, "{changes} changes were looked at");
    let kinds: BTreeSet<&str> = conflicts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["lost", "overwrote"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_delta_that_is_kept_tells_the_same_whatever_maintenance_has_done() {
    let mut changes = 0;
    for seed in 0..seeds() {
        let history = History::generate(seed, Shape::WEEKS);
        let folder = tempfile::tempdir().unwrap();
        let config = GatewayConfig {
            late_window: Some(Shape::WEEKS_WINDOW),
            ..GatewayConfig::default()
        };
        let world = World::open_with(folder.path().join("lake"), &history, config).await;
        let mut told = Told::of(world);
        let mut rng = Rng::new(seed);
        for step in &history.steps {
            told.step(step).await;
            if rng.chance(25) {
                told.world.chore(&mut rng).await;
            }
            if !rng.chance(12) {
                continue;
            }
            told.look(&mut rng);
            let last = told.world.oracle.last_seq();
            let from = rng.between(0, last);
            told.world.check_pull_above(from, 7).await;
            for schema in &told.world.schemas.clone() {
                changes += check_changes(&told, schema, (from, last)).await;
                // They tell of what the log has, and do not say what it had.
                if !told.world.forgets() {
                    check_row(&told, schema, &mut rng).await;
                    check_conflicts(&told, schema, from).await;
                }
            }
        }
        told.world.check_now("at the end").await;
    }
    assert!(changes > 20, "{changes} changes were looked at");
}

/// `changes` of a span, delta by delta; how many they were.
async fn check_changes(told: &Told, schema: &TableSchema, (from, to): (u64, u64)) -> usize {
    let table = schema.table.as_str();
    let sql = format!("select * from changes('{table}', {from}, {to})");
    let expected: Vec<_> = told
        .deltas(table)
        .filter(|(seq, _)| *seq > from && *seq <= to)
        .collect();
    for batches in told.rows(&sql).await {
        let mut found = lines(&batches);
        for (seq, delta) in &expected {
            let line = found
                .next()
                .unwrap_or_else(|| panic!("{sql}: seq {seq} is missing"));
            check_delta(told, schema, (*seq, delta), &line);
            assert_eq!(text(&line, "row_id"), delta.row);
        }
        assert!(found.next().is_none(), "{sql}: more than there are");
    }
    expected.len()
}

/// What both functions say of a delta.
fn check_delta(
    told: &Told,
    schema: &TableSchema,
    (seq, delta): (u64, &OracleDelta),
    line: &RecordBatch,
) {
    let about = format!("seed {}, {} seq {seq}", told.world.seed, schema.table);
    assert_eq!(number(line, "_seq"), seq, "{about}");
    assert_eq!(number(line, "_hlc"), delta.hlc, "{about}");
    assert_eq!(text(line, "_client"), delta.client, "{about}");
    let arrived = line
        .named("_arrived_at")
        .as_primitive::<TimestampMicrosecondType>();
    assert_eq!(
        u64::try_from(arrived.value(0)).unwrap(),
        told.arrived_ms(seq) * 1_000,
        "{about}"
    );
    let op = match delta.op {
        'I' => "INSERT",
        'U' => "UPDATE",
        _ => "DELETE",
    };
    assert_eq!(text(line, "op"), op, "{about}");
    let shown = |seq| {
        told.world
            .expected(schema, AsOf::seq(seq))
            .remove(&delta.row)
    };
    let (before, after) = (shown(seq - 1), shown(seq));
    assert_eq!(image(schema, line, "before"), before, "{about}: before");
    assert_eq!(image(schema, line, "after"), after, "{about}: after");
    let cell = |row: &Option<BTreeMap<String, String>>, name: &str| {
        let cell = row.as_ref().map(|row| row[name].clone());
        cell.unwrap_or_else(|| "null".to_owned())
    };
    let names = schema.columns.iter().map(|column| column.name.as_str());
    let changed = names.filter(|name| cell(&before, name) != cell(&after, name));
    let changed: Vec<String> = changed.map(str::to_owned).collect();
    assert_eq!(texts(line, "changed"), changed, "{about}: changed");
}

/// A column of one row of a batch.
trait Named {
    fn named(&self, name: &str) -> &ArrayRef;
}

impl Named for RecordBatch {
    fn named(&self, name: &str) -> &ArrayRef {
        self.column_by_name(name)
            .unwrap_or_else(|| panic!("no column {name}"))
    }
}

fn lines(batches: &[RecordBatch]) -> impl Iterator<Item = RecordBatch> {
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)))
}

fn number(line: &RecordBatch, name: &str) -> u64 {
    let value = line.named(name).as_primitive::<Int64Type>().value(0);
    u64::try_from(value).unwrap()
}

fn text(line: &RecordBatch, name: &str) -> String {
    line.named(name).as_string::<i32>().value(0).to_owned()
}

fn texts(line: &RecordBatch, name: &str) -> Vec<String> {
    let list = line.named(name).as_list::<i32>().value(0);
    let texts = list.as_string::<i32>().iter();
    texts.map(|text| text.unwrap().to_owned()).collect()
}

/// A struct of the table's columns; none when it is null.
fn image(schema: &TableSchema, line: &RecordBatch, name: &str) -> Option<BTreeMap<String, String>> {
    let image: &StructArray = line.named(name).as_struct();
    if image.is_null(0) {
        return None;
    }
    let id: ArrayRef = Arc::new(StringArray::from(vec!["the row"]));
    let columns = image.columns().iter().map(Arc::clone);
    let named = image.column_names().into_iter().zip(columns);
    let named = named.chain([("row_id", id)]);
    let batch = RecordBatch::try_from_iter_with_nullable(named.map(|(n, c)| (n, c, true)));
    cells::rows(schema, &[batch.unwrap()]).remove("the row")
}

/// Replaying the images gives the table at every seq.
async fn check_replayed(told: &Told, schema: &TableSchema) {
    let table = schema.table.as_str();
    let sql = format!("select _seq, row_id, after from changes('{table}', 0)");
    for batches in told.rows(&sql).await {
        let mut rows = OracleRows::new();
        for line in lines(&batches) {
            let (seq, row) = (number(&line, "_seq"), text(&line, "row_id"));
            match image(schema, &line, "after") {
                Some(after) => rows.insert(row, after),
                None => rows.remove(&row),
            };
            let expected = told.world.expected(schema, AsOf::seq(seq));
            assert_eq!(rows, expected, "seed {}, {table} at {seq}", told.world.seed);
        }
        let now = told.world.expected(schema, AsOf::NOW);
        assert_eq!(rows, now, "seed {}, {table} now", told.world.seed);
    }
}

/// `history` and `cell_info` of a row.
async fn check_row(told: &Told, schema: &TableSchema, rng: &mut Rng) {
    let table = schema.table.as_str();
    let ids: BTreeSet<&str> = told
        .deltas(table)
        .map(|(_, delta)| delta.row.as_str())
        .collect();
    let ids: Vec<&str> = ids.into_iter().collect();
    if ids.is_empty() {
        return;
    }
    let id = *rng.pick(&ids);
    let of_row: Vec<_> = told
        .deltas(table)
        .filter(|(_, delta)| delta.row == id)
        .collect();
    let quoted = id.replace('\'', "''");
    let history = format!("select * from history('{table}', '{quoted}')");
    for batches in told.rows(&history).await {
        let mut found = lines(&batches);
        for (nth, (seq, delta)) in of_row.iter().enumerate() {
            let line = found
                .next()
                .unwrap_or_else(|| panic!("{history}: seq {seq} is missing"));
            check_delta(told, schema, (*seq, delta), &line);
            check_verdicts(schema, &of_row[..=nth], &line);
        }
        assert!(found.next().is_none(), "{history}: more than there are");
    }
    let info = format!("select * from cell_info('{table}', '{quoted}')");
    let expected = told.world.expected(schema, AsOf::NOW).remove(id);
    for batches in told.rows(&info).await {
        let mut found = lines(&batches);
        for column in schema.columns.iter().filter(|_| expected.is_some()) {
            let line = found
                .next()
                .unwrap_or_else(|| panic!("{info}: {}", column.name));
            check_cell(told, schema, column.name.as_str(), (&of_row, &line));
        }
        assert!(found.next().is_none(), "{info}: more than there are");
    }
}

/// The newest of some deltas that write a column, or that delete.
fn newest<'a>(
    deltas: &[(u64, &'a OracleDelta)],
    what: impl Fn(&OracleDelta) -> bool,
) -> Option<(u64, &'a OracleDelta)> {
    let found = deltas.iter().filter(|(_, delta)| what(delta));
    found.max_by_key(|(_, delta)| delta.stamp()).copied()
}

fn is_key(schema: &TableSchema, name: &str) -> bool {
    schema.primary_key.iter().any(|key| key.as_str() == name)
}

/// The last delta's columns that won and that lost.
fn check_verdicts(schema: &TableSchema, deltas: &[(u64, &OracleDelta)], line: &RecordBatch) {
    let ((seq, delta), before) = deltas.split_last().unwrap();
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for column in &schema.columns {
        let name = column.name.as_str();
        if is_key(schema, name) {
            continue;
        }
        let writes = |delta: &OracleDelta| delta.columns.contains_key(name);
        let deleted = newest(before, OracleDelta::is_delete);
        let written = newest(before, writes);
        let showed = written.is_some_and(|(_, write)| {
            deleted.is_none_or(|(_, deleted)| write.stamp() > deleted.stamp())
        });
        let verdict = match delta.is_delete() {
            true if showed => written.map(|(_, write)| delta.stamp() > write.stamp()),
            true => None,
            false if writes(delta) => Some(
                [deleted, written]
                    .into_iter()
                    .flatten()
                    .all(|(_, other)| delta.stamp() > other.stamp()),
            ),
            false => None,
        };
        match verdict {
            Some(true) => won.push(name.to_owned()),
            Some(false) => lost.push(name.to_owned()),
            None => {}
        }
    }
    assert_eq!(texts(line, "won"), won, "{} seq {seq}", schema.table);
    assert_eq!(texts(line, "lost"), lost, "{} seq {seq}", schema.table);
}

fn check_cell(
    told: &Told,
    schema: &TableSchema,
    name: &str,
    (of_row, line): (&[(u64, &OracleDelta)], &RecordBatch),
) {
    let about = format!(
        "seed {}, {}.{name}: {of_row:?}",
        told.world.seed, schema.table
    );
    assert_eq!(text(line, "column"), name, "{about}");
    let deleted = newest(of_row, OracleDelta::is_delete);
    let written = newest(of_row, |delta| delta.columns.contains_key(name));
    let writer = written.filter(|(_, write)| {
        !is_key(schema, name) && deleted.is_none_or(|(_, deleted)| write.stamp() > deleted.stamp())
    });
    match writer {
        // The log has let go of who wrote it.
        Some((_, write)) if told.world.forgets() && line.named("client").is_null(0) => {
            assert!(text(line, "note").contains("settled"), "{about}: {write:?}");
        }
        Some((seq, write)) => {
            assert_eq!(text(line, "client"), write.client, "{about}");
            assert_eq!(number(line, "hlc"), write.hlc, "{about}");
            assert_eq!(number(line, "seq"), seq, "{about}");
            assert!(line.named("note").is_null(0), "{about}");
        }
        None => {
            assert!(line.named("client").is_null(0), "{about}");
            let note = if is_key(schema, name) {
                "part of the key"
            } else {
                "never written"
            };
            assert_eq!(text(line, "note"), note, "{about}");
        }
    }
}

/// Kind and whether a DELETE took part.
type Conflict = (String, bool);

/// `t$conflicts` above a seq.
async fn check_conflicts(told: &Told, schema: &TableSchema, from: u64) -> Vec<Conflict> {
    let table = schema.table.as_str();
    let sql = format!("select * from \"{table}$conflicts\" where _seq > {from}");
    let deltas: Vec<_> = told.deltas(table).collect();
    let mut expected = Vec::new();
    for (nth, (seq, delta)) in deltas.iter().enumerate() {
        if *seq <= from {
            continue;
        }
        let before = deltas[..nth]
            .iter()
            .filter(|(_, other)| other.row == delta.row);
        let before: Vec<(u64, &OracleDelta)> = before.copied().collect();
        for column in &schema.columns {
            let name = column.name.as_str();
            if let Some((kind, met)) = met(told, schema, (delta, &before), name) {
                expected.push((*seq, name.to_owned(), kind, met));
            }
        }
    }
    expected.sort();
    let mut kinds = Vec::new();
    for batches in told.rows(&sql).await {
        let mut found: Vec<RecordBatch> = lines(&batches).collect();
        found.sort_by_key(|line| (number(line, "_seq"), text(line, "column")));
        let about = format!("seed {}: {sql}", told.world.seed);
        assert_eq!(found.len(), expected.len(), "{about}: {expected:?}");
        for (line, (seq, name, kind, met)) in found.iter().zip(&expected) {
            let at = (
                number(line, "_seq"),
                text(line, "column"),
                text(line, "kind"),
            );
            assert_eq!(at, (*seq, name.clone(), (*kind).to_owned()), "{about}");
            let (winner, loser) = match *kind {
                "lost" => (*met, *seq),
                _ => (*seq, *met),
            };
            check_side(told, line, "winner", (winner, name));
            check_side(told, line, "loser", (loser, name));
            let ops = [text(line, "winner_op"), text(line, "loser_op")];
            kinds.push((text(line, "kind"), ops.contains(&"DELETE".to_owned())));
        }
    }
    kinds
}

fn check_side(told: &Told, line: &RecordBatch, side: &str, (seq, column): (u64, &str)) {
    let delta = &told.world.oracle.deltas()[usize::try_from(seq - 1).unwrap()];
    assert_eq!(number(line, &format!("{side}_seq")), seq);
    assert_eq!(number(line, &format!("{side}_hlc")), delta.hlc);
    assert_eq!(text(line, &format!("{side}_client")), delta.client);
    let value = line.named(&format!("{side}_value"));
    match delta.columns.get(column).filter(|text| *text != "null") {
        None => assert!(value.is_null(0)),
        Some(canonical) => {
            assert!(!value.is_null(0));
            // Of texts the canonical form is JSON; of the others it is not always what SQL shows.
            if let Ok(text) = serde_json::from_str::<String>(canonical)
                && ["title", "label", "note"].contains(&column)
            {
                assert_eq!(lakesync_tests::cells::text(value, 0), text);
            }
        }
    }
}

/// What a delta met in a cell, by the definition.
fn met(
    told: &Told,
    schema: &TableSchema,
    (delta, before): (&OracleDelta, &[(u64, &OracleDelta)]),
    name: &str,
) -> Option<(&'static str, u64)> {
    if is_key(schema, name) {
        return None;
    }
    let writes = |delta: &OracleDelta| delta.columns.contains_key(name);
    let deleted = newest(before, OracleDelta::is_delete);
    let (seq, other) = match delta.is_delete() {
        true => newest(before, writes).filter(|(_, write)| {
            deleted.is_none_or(|(_, deleted)| write.stamp() > deleted.stamp())
        })?,
        false if writes(delta) => newest(before, |delta| delta.is_delete() || writes(delta))?,
        false => return None,
    };
    if other.client == delta.client {
        return None;
    }
    match other.stamp() > delta.stamp() {
        true => Some(("lost", seq)),
        false if delta.hlc >> 16 < told.arrived_ms(seq) => Some(("overwrote", seq)),
        false => None,
    }
}
