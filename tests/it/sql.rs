//! SQL over hot and cold: writes, metadata, time travel, one moment a statement.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use lakesync::Lake;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, ManualClock, Op, Push, RowDelta, RowId, Seq,
    TableName, Value, WallClock,
};
use tempfile::TempDir;

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;
pub(crate) const PEOPLE: &str = r#"{"table": "people", "primaryKey": ["id"],
    "columns": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}]}"#;

pub(crate) struct World {
    pub(crate) lake: Lake,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn open() -> World {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW_MS)) as Arc<dyn WallClock>;
        let lake = Lake::builder(folder.path())
            .with_clock(clock)
            .open()
            .await
            .unwrap();
        lake.create_table(PEOPLE).await.unwrap();
        World {
            lake,
            _folder: folder,
        }
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<String, String> {
        let frame = self
            .lake
            .sql(sql)
            .await
            .map_err(|error| error.to_string())?;
        let batches = frame
            .collect()
            .await
            .map_err(|error| lakesync::Error::from(error).to_string())?;
        Ok(pretty_format_batches(&batches).unwrap().to_string())
    }

    /// Runs a statement and compares its rows, cells divided by bars.
    pub(crate) async fn check(&self, sql: &str, expected: &[&str]) {
        let shown = self
            .run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = shown
            .lines()
            .filter(|line| !line.starts_with('+'))
            .skip(1)
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                cells.join("|")
            });
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{sql}");
    }

    async fn refused(&self, sql: &str, said: &str) {
        let error = self.run(sql).await.unwrap_err();
        assert!(error.contains(said), "{sql}: {error}");
    }

    /// Client `ana` sets a person's name, or deletes the person.
    async fn update(&self, row: &str, wall_ms: u64, name: Option<&str>) {
        let op = if name.is_some() {
            Op::Update
        } else {
            Op::Delete
        };
        let change = name.map(|name| change("name", Value::from(name)));
        self.push("people", row, wall_ms, (op, change)).await;
    }

    pub(crate) async fn push(&self, table: &str, row: &str, wall_ms: u64, (op, change): Edit) {
        let key = DeltaKey {
            table: TableName::parse(table).unwrap(),
            row_id: RowId::parse(row).unwrap(),
            client_id: ClientId::parse("ana").unwrap(),
            hlc: Hlc::new(wall_ms, 0).unwrap(),
        };
        let delta = RowDelta::new(op, key, change.into_iter().collect());
        let push = Push {
            client_id: delta.client_id.clone(),
            deltas: vec![delta],
            last_seen: Seq::ZERO,
            schemas: None,
        };
        let gateway = self.lake.gateway("public").unwrap();
        gateway.push(push).await.unwrap();
    }
}

pub(crate) type Edit = (Op, Option<ColumnChange>);

pub(crate) fn change(column: &str, value: Value) -> ColumnChange {
    let column = ColumnName::parse(column).unwrap();
    ColumnChange { column, value }
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_adds_rows_under_their_key_and_refuses_those_that_exist() {
    let world = World::open().await;
    world
        .check(
            "insert into people (id, name) values (1, 'a'), (2, 'b')",
            &["2"],
        )
        .await;
    world
        .check("select * from people order by id", &["1|1|a", "2|2|b"])
        .await;
    world
        .refused(
            "insert into people (id, name) values (3, 'c'), (2, 'x')",
            "has a row `2` already",
        )
        .await;
    world
        .refused(
            "insert into people (id, name) values (4, 'c'), (4, 'd')",
            "twice",
        )
        .await;
    world
        .refused("insert into people (name) values ('c')", "id")
        .await;
    world
        .refused(
            "insert into people (row_id, id, name) values ('7', 8, 'c')",
            "row_id",
        )
        .await;
    world
        .refused("insert into people (id, name) values ('x', 'c')", "x")
        .await;
    world.check("select count(*) from people", &["2"]).await;
    world
        .check(
            "insert into people (id, name) select id + 10, name from people",
            &["2"],
        )
        .await;
    world
        .check("select id from people order by id", &["1", "2", "11", "12"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statements_stamps_are_above_what_it_read_even_when_a_clients_clock_runs_ahead() {
    let world = World::open().await;
    world.update("5", NOW_MS + 4_900, Some("early bird")).await;
    world.update("5", NOW_MS + 4_901, None).await;
    world
        .check("insert into people (id, name) values (5, 'sql')", &["1"])
        .await;
    world.check("select name from people", &["sql"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_gets_new_ids_or_the_ones_that_are_given() {
    let world = World::open().await;
    world
        .lake
        .create_table(r#"{"table": "notes", "columns": [{"name": "v", "type": "json"}]}"#)
        .await
        .unwrap();
    world
        .check("insert into notes (v) values ('{}'), (null)", &["2"])
        .await;
    world
        .check(
            "insert into notes (row_id, v) values ('mine', '[1]')",
            &["1"],
        )
        .await;
    world
        .check(
            "select count(distinct row_id), count(v) from notes",
            &["3|2"],
        )
        .await;
    world
        .check("select v from notes where row_id = 'mine'", &["[1]"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_list_flushes_and_compactions_and_each_can_be_read() {
    let world = World::open().await;
    world
        .check("insert into people (id, name) values (1, 'a')", &["1"])
        .await;
    world
        .check("select count(*) from \"people$snapshots\"", &["0"])
        .await;
    let first = world.flush().await;
    let folded = world.compact().await;
    world.update("1", NOW_MS + 100, Some("b")).await;
    world
        .check("insert into people (id, name) values (2, 'c')", &["1"])
        .await;
    let second = world.flush().await;
    world.update("2", NOW_MS + 200, None).await;
    world
        .check(
            "select kind, seq, total_rows from people$snapshots order by seq, kind",
            &["base|1|1", "log|1|1", "log|3|3"],
        )
        .await;
    for (snapshot, expected) in [
        (first, vec!["1|a"]),
        (folded, vec!["1|a"]),
        (second, vec!["1|b", "2|c"]),
    ] {
        let sql =
            format!("select p.id, p.name from people version as of {snapshot} as p order by id");
        world.check(&sql, &expected).await;
        let sql = format!(
            "select people.id, name from people for version as of {snapshot} order by people.id"
        );
        world.check(&sql, &expected).await;
    }
    world.check("select id, name from people", &["1|b"]).await;
    let both = format!(
        "select n.name, o.name from people n join people version as of {first} as o on n.id = o.id"
    );
    world.check(&both, &["b|a"]).await;
    world
        .refused("select * from people version as of 7", "no snapshot 7")
        .await;
    world
        .refused("select * from nowhere version as of 7", "nowhere")
        .await;
    world
        .refused(
            &format!("insert into people version as of {first} (id) values (9)"),
            "",
        )
        .await;
    world
        .refused(
            "select * from people timestamp as of '2024-01-01'",
            "cannot be read as of 2024-01-01T00:00:00Z yet: it is 2023-11-14",
        )
        .await;
    world.compact().await;
    let sql = format!("select id, name from people version as of {second} order by id");
    world.check(&sql, &["1|b", "2|c"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shows_every_delta_with_what_it_set() {
    let world = World::open().await;
    world
        .check("insert into people (id, name) values (1, null)", &["1"])
        .await;
    world.update("1", NOW_MS + 100, Some("b")).await;
    world.flush().await;
    world.update("1", NOW_MS + 200, None).await;
    let sql = "select _seq, _client, _op, is_set(_set, 1) as has_id, is_set(_set, 2) as has_name, name from people$deltas order by _seq";
    world
        .check(
            sql,
            &[
                "1|sql|1|true|true|",
                "2|ana|2|false|true|b",
                "3|ana|3|false|false|",
            ],
        )
        .await;
    let lww = "select row_id, lww(name, stamp(_hlc, _client, _delta_id)) filter (where is_set(_set, 2)) as name
               from people$deltas group by row_id";
    world.check(lww, &["1|b"]).await;
    world
        .check(
            "select hlc_time(_hlc) as t from people$deltas where _seq = 2",
            &["2023-11-14T22:13:20.100Z"],
        )
        .await;
    world
        .check(
            "select _hlc = hlc_at(hlc_time(_hlc)) as same from people$deltas where _seq = 2",
            &["true"],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_limits_and_aggregates_see_merged_rows_only() {
    let world = World::open().await;
    let values: Vec<String> = (0..200).map(|n| format!("({n}, 'n{}')", n % 10)).collect();
    world
        .check(
            &format!("insert into people (id, name) values {}", values.join(", ")),
            &["200"],
        )
        .await;
    world.flush().await;
    world.compact().await;
    // The base still holds the old names and the deleted row; nobody may see them.
    world.update("7", NOW_MS + 100, Some("changed")).await;
    world.update("0", NOW_MS + 100, None).await;
    world.check("select count(*) from people", &["199"]).await;
    world
        .check(
            "select min(id), max(name) from people where id < 8",
            &["1|n6"],
        )
        .await;
    world
        .check("select count(*) from people where name = 'n7'", &["19"])
        .await;
    world
        .check("select id from people where name = 'changed'", &["7"])
        .await;
    world
        .check("select id from people order by id limit 2", &["1", "2"])
        .await;
    world
        .check(
            "select count(*) from (select * from people limit 50)",
            &["50"],
        )
        .await;
    world.check("select name, count(*) from people where id > 100 and name in ('n1', 'n2') group by name order by 1", &["n1|10", "n2|10"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_fold_as_sql_and_as_a_plan() {
    let world = World::open().await;
    world
        .check("insert into people (id, name) values (1, 'a')", &["1"])
        .await;
    world.flush().await;
    let plan = world
        .run("explain call system.compact('people')")
        .await
        .unwrap();
    assert!(
        plan.contains("lww(") && plan.contains("physical_plan"),
        "{plan}"
    );
    world
        .refused("explain call system.flush('people')", "plan")
        .await;
    world
        .refused("call system.compact('people', 'x')", "merge-on-read")
        .await;
    world.refused("call system.compact()", "table").await;
    world
        .check(
            "select count(*) from people$snapshots where kind = 'base'",
            &["0"],
        )
        .await;
}

impl World {
    pub(crate) async fn flush(&self) -> i64 {
        let gateway = self.lake.gateway("public").unwrap();
        gateway.flush(None).await.unwrap()[0].snapshot_id.unwrap()
    }

    pub(crate) async fn compact(&self) -> i64 {
        self.run("call system.compact('people')").await.unwrap();
        let view = self
            .lake
            .gateway("public")
            .unwrap()
            .live()
            .view("people")
            .unwrap();
        view.base.snapshot_id.unwrap()
    }
}
