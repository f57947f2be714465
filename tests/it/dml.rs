//! SQL that changes rows, on random histories: the oracle does the same as row deltas, and counts agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use lakesync::Lake;
use lakesync_gateway::{GatewayConfig, PressureLimits};
use lakesync_proto::{Op, RowId, Seq, SeqDelta, TableSchema};
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::oracle::{AsOf, OracleDelta, OracleRows};
use lakesync_tests::world::World;

use crate::sql;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(4)
}

/// Deltas by row id: op and columns.
type Deltas = BTreeMap<String, (char, BTreeMap<String, String>)>;

/// A statement, and what it must write.
struct Statement {
    sql: String,
    expected: Deltas,
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_between_pushes_do_what_row_deltas_would() {
    let shape = Shape {
        steps: 60,
        rows: 6,
        ..Shape::default()
    };
    let mut written = 0;
    for seed in 0..seeds() {
        let history = History::generate(seed, shape);
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        let mut rng = Rng::new(seed ^ 0xd31);
        for step in &history.steps {
            world.step(step).await;
            if matches!(step, Step::Push(_)) && rng.chance(60) {
                written += run(&mut world, &mut rng).await;
                world.check_now("after a statement").await;
            }
        }
        world.check_past().await;
        world.check_pull(7).await;
    }
    assert!(written > 50, "the statements wrote {written} rows");
}

/// Runs one random statement and tells the oracle; the rows that it wrote.
async fn run(world: &mut World, rng: &mut Rng) -> usize {
    let schema = rng.pick(&world.schemas).clone();
    let rows = world.expected(&schema, AsOf::NOW);
    let statement = statement(rng, &schema, &rows);
    let before = Seq::from_u64(world.oracle.last_seq()).unwrap();
    let counted = count(&world.sql(&statement.sql).await);
    let page = world.gateway().pull(before, 1_000).await.unwrap();
    let seed = world.seed;
    let said = |what: &str| format!("seed {seed}, {what}: {}", statement.sql);
    assert_eq!(counted, statement.expected.len(), "{}", said("count"));
    let found = page
        .deltas
        .iter()
        .map(|delta| found(&delta.delta.row_id, delta));
    let found: BTreeMap<_, _> = found.collect();
    assert_eq!(found, statement.expected, "{}", said("deltas"));
    let newest = world.oracle.deltas().iter().map(|delta| delta.hlc).max();
    for delta in &page.deltas {
        let stamp = delta.delta.hlc.as_u64();
        assert!(
            Some(stamp) > newest,
            "{}",
            said("a stamp below what was read")
        );
        world.oracle.arrive(OracleDelta::from(&delta.delta));
    }
    let stamps = page.deltas.iter().map(|delta| delta.delta.hlc);
    let stamps: std::collections::BTreeSet<_> = stamps.collect();
    assert!(stamps.len() <= 1, "{}", said("one stamp a statement"));
    counted
}

type Found = (String, (char, BTreeMap<String, String>));

fn found(row_id: &RowId, delta: &Arc<SeqDelta>) -> Found {
    let plain = OracleDelta::from(&delta.delta);
    (row_id.to_string(), (plain.op, plain.columns))
}

fn count(batches: &[RecordBatch]) -> usize {
    let counts = batches[0].column(0).as_primitive::<UInt64Type>();
    usize::try_from(counts.value(0)).unwrap()
}

/// The columns that a history writes as numbers of a narrow range, by table.
fn number(schema: &TableSchema) -> &'static str {
    match schema.table.as_str() {
        "every_type" => "count",
        "one_key" => "stock",
        _ => "weight",
    }
}

fn statement(rng: &mut Rng, schema: &TableSchema, rows: &OracleRows) -> Statement {
    let (table, column) = (&schema.table, number(schema));
    let chosen: Vec<&String> = rows.keys().filter(|_| rng.chance(50)).collect();
    let ids: Vec<String> = chosen
        .iter()
        .map(|id| format!("'{}'", id.replace('\'', "''")))
        .collect();
    let listed = match ids.is_empty() {
        true => "false".to_owned(),
        false => format!("row_id in ({})", ids.join(", ")),
    };
    let value = rng.below(5);
    let set = |text: &str| BTreeMap::from([(column.to_owned(), text.to_owned())]);
    let all = |op, columns: BTreeMap<String, String>| {
        let rows = chosen
            .iter()
            .map(|id| ((*id).clone(), (op, columns.clone())));
        rows.collect::<BTreeMap<_, _>>()
    };
    let (sql, expected) = match rng.below(5) {
        0 => (
            format!("update {table} set {column} = {value} where {listed}"),
            all('U', set(&value.to_string())),
        ),
        1 => (
            format!(
                "update {table} as x set {column} = null from (values (1)) as o (n) where {listed} and o.n = 1"
            ),
            all('U', set("null")),
        ),
        2 => (
            format!("delete from {table} where {listed}"),
            all('D', BTreeMap::new()),
        ),
        3 => {
            // As the oracle knows the cell: what the filter asks, on hot and cold rows alike.
            let hit = |id: &&String| rows[*id].get(column).is_some_and(|text| text == "null");
            let ids = rows.keys().filter(hit).cloned();
            let expected = ids.map(|id| (id, ('U', set(&value.to_string())))).collect();
            (
                format!("update {table} set {column} = {value} where {column} is null"),
                expected,
            )
        }
        _ => merge(schema, rows, (column, value)),
    };
    Statement { sql, expected }
}

/// A MERGE on the row id or the key, over rows that are there and rows that are not.
fn merge(
    schema: &TableSchema,
    rows: &OracleRows,
    (column, value): (&str, u64),
) -> (String, Deltas) {
    let table = &schema.table;
    let mut expected = BTreeMap::new();
    let mut source = Vec::new();
    let keys: Vec<&str> = schema
        .primary_key
        .iter()
        .map(|name| name.as_str())
        .collect();
    for row in 0..4 {
        let (row_id, key) = lakesync_tests::schemas::row(schema, row);
        let id = row_id.to_string();
        let texts: Vec<String> = match key.is_empty() {
            true => vec![format!("'{id}'")],
            false => key.iter().map(|change| literal(&change.value)).collect(),
        };
        source.push(format!("({})", texts.join(", ")));
        let set = BTreeMap::from([(column.to_owned(), value.to_string())]);
        match rows.get(&id) {
            Some(cells) if cells.get(column).is_some_and(|text| text == "null") => {
                expected.insert(id, ('D', BTreeMap::new()));
            }
            Some(_) => {
                expected.insert(id, ('U', set));
            }
            None => {
                let mut all: BTreeMap<String, String> = schema
                    .columns
                    .iter()
                    .map(|column| (column.name.to_string(), "null".to_owned()))
                    .collect();
                for change in &key {
                    let mut text = String::new();
                    change.value.write_canonical(&mut text);
                    all.insert(change.column.to_string(), text);
                }
                all.extend(set);
                expected.insert(id, ('I', all));
            }
        }
    }
    let names = match keys.is_empty() {
        true => vec!["row_id"],
        false => keys,
    };
    let on: Vec<String> = names
        .iter()
        .map(|name| format!("t.{name} = s.{name}"))
        .collect();
    let values: Vec<String> = names.iter().map(|name| format!("s.{name}")).collect();
    let names = names.join(", ");
    let sql = format!(
        "merge into {table} as t using (values {}) as s ({names}) on {} \
         when matched and t.{column} is null then delete \
         when matched then update set {column} = {value} \
         when not matched then insert ({names}, {column}) values ({}, {value})",
        source.join(", "),
        on.join(" and "),
        values.join(", ")
    );
    (sql, expected)
}

fn literal(value: &lakesync_proto::Value) -> String {
    match value {
        lakesync_proto::Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        lakesync_proto::Value::Long(number) => number.to_string(),
        other => panic!("no key of a history is a {other:?}"),
    }
}

/// How many rows the large statements write; `LAKESYNC_ROWS` asks for more.
fn rows() -> usize {
    let asked = std::env::var("LAKESYNC_ROWS").ok();
    let asked = asked.and_then(|text| text.parse().ok());
    asked.unwrap_or(2 * lakesync_proto::limits::PUSH_DELTAS_MAX + 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_many_pushes_is_written_whole_and_read_in_pages() {
    let world = sql::World::open().await;
    let rows = rows();
    let insert = format!("insert into people (id) select value from generate_series(1, {rows})");
    let shown = rows.to_string();
    world.check(&insert, &[&shown]).await;
    world
        .check("update people set name = 'n' || id", &[&shown])
        .await;
    world
        .check("select count(name) from people", &[&shown])
        .await;
    let gateway = world.lake.gateway("public").unwrap();
    let (mut since, mut seen) = (Seq::ZERO, 0);
    loop {
        let page = gateway.pull(since, 9_000).await.unwrap();
        assert!(page.deltas.len() <= 9_000);
        for delta in &page.deltas {
            seen += 1;
            assert_eq!(delta.seq.as_u64(), seen);
            assert_eq!(delta.delta.op == Op::Insert, seen <= rows as u64);
        }
        since = page.cursor;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(since.as_u64(), 2 * rows as u64);
    world
        .check(
            "delete from people where id > 3",
            &[&(rows - 3).to_string()],
        )
        .await;
    world.check("select count(*) from people", &["3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_what_is_read_and_what_is_written() {
    let world = sql::World::open().await;
    world
        .check("insert into people (id, name) values (1, 'a')", &["1"])
        .await;
    let plan = world
        .run("explain update people set name = 'b' where id = 1")
        .await
        .unwrap();
    for part in [
        "table=[UPDATE of people]",
        "sink=UPDATE: table=people, writes=[set name], view_seq=1",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
    world.check("select name from people", &["a"]).await;
    let ran = world
        .run("explain analyze update people set name = 'b' where id = 1")
        .await
        .unwrap();
    assert!(ran.contains("sink=UPDATE"), "{ran}");
    world.check("select name from people", &["b"]).await;
    let merge = "explain merge into people p using (values (1), (2)) as v (id) on p.id = v.id \
         when matched then delete when not matched then insert (id) values (v.id)";
    let plan = world.run(merge).await.unwrap();
    assert!(plan.contains("writes=[delete; insert id]"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_between_a_statements_view_and_its_commit_is_decided_by_the_stamp() {
    let world = sql::World::open().await;
    world
        .check(
            "insert into people (id, name) values (1, 'a'), (2, 'b')",
            &["2"],
        )
        .await;
    // Planned, so its view is taken; not run yet.
    let update = world
        .lake
        .sql("update people set name = 'c'")
        .await
        .unwrap();
    let insert = world.lake.sql("insert into people (id) values (3)").await;
    world.check("delete from people where id = 1", &["1"]).await;
    world
        .check(
            "insert into people (id, name) values (3, 'd'), (4, 'e')",
            &["2"],
        )
        .await;
    assert_eq!(count(&update.collect().await.unwrap()), 2);
    let refused = insert.unwrap().collect().await.unwrap_err();
    let said = lakesync::Error::from(refused).to_string();
    assert!(said.contains("has a row `3` already"), "{said}");
    // The deleted row is back with what was set; the row that the statement had not seen is as it was.
    world
        .check(
            "select id, name from people order by id",
            &["1|c", "2|c", "3|d", "4|e"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_waits_for_room_as_a_push_does() {
    for (limits, full) in [
        (
            PressureLimits {
                hot_bytes_hard: 1,
                ..PressureLimits::default()
            },
            false,
        ),
        (
            PressureLimits {
                disk_reserve_bytes: u64::MAX,
                ..PressureLimits::default()
            },
            true,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = GatewayConfig {
            pressure: limits,
            ..GatewayConfig::default()
        };
        let lake = Lake::builder(folder.path()).with_config(config);
        let lake = lake.open().await.unwrap();
        lake.create_table(sql::PEOPLE).await.unwrap();
        let insert = lake.sql("insert into people (id) values (1)").await;
        let error = lakesync::Error::from(insert.unwrap().collect().await.unwrap_err());
        assert_eq!(error.is_storage_full(), full, "{error}");
        assert_eq!(error.is_unavailable(), !full, "{error}");
        assert!(!error.is_callers(), "{error}");
    }
}
