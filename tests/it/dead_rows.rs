//! Random histories over bases with dead rows: what is asked before rows are moved and after is the same, now and of the
//! past, by SQL, by pull and by checkpoint, and it is what the oracle says.

use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt as _;
use lakesync_proto::{RowId, RowState, TableSchema};
use lakesync_providers::row_states;
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::layouts::give;
use lakesync_tests::scattered::scatter;
use lakesync_tests::world::World;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_changes_when_rows_of_a_base_move_and_die_where_they_were() {
    let shape = Shape {
        steps: 50,
        rows: 12,
        push_deltas: 6,
        ..Shape::default()
    };
    let mut most = 0;
    for seed in 0..seeds() {
        let mut history = History::generate(seed, shape);
        let mut rng = Rng::new(seed);
        if seed % 2 == 1 {
            give(&mut history, &mut rng);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        for step in &history.steps {
            world.step(step).await;
            let moves = matches!(step, Step::Compact) || rng.chance(20);
            for schema in world.schemas.clone().iter().filter(|_| moves) {
                let before = answers(&world, schema).await;
                let percent = *rng.pick(&[10, 50, 90]);
                let gateway = world.gateway();
                let dead = scatter(gateway.live(), schema.table.as_str(), percent, &mut rng).await;
                most = most.max(dead);
                let after = answers(&world, schema).await;
                assert_eq!(after, before, "seed {seed}, {}", schema.table);
            }
            if moves {
                world.check_now("after rows were moved").await;
            }
        }
        world.check_past().await;
        world.check_pull(7).await;
        world.restart().await;
        world.check_now("after a restart").await;
        world.check_past().await;
    }
    assert!(most > 10, "{most} rows were dead at once");
}

/// What is asked, with what was answered.
async fn answers(world: &World, schema: &TableSchema) -> BTreeMap<String, String> {
    let t = schema.table.as_str();
    let last = world.oracle.last_seq();
    let column = &schema.columns[0].name;
    let mut asked = vec![
        format!("select * from {t} order by row_id"),
        format!("select count(*), count(\"{column}\"), min(row_id) from {t}"),
        format!("select row_id from {t} where row_id > '5' order by row_id limit 3"),
        format!("select * from changes('{t}', 0, {last})"),
        format!(
            "select sum(rows - dead_rows) from {t}$files where kind = 'base' and content = 'data'"
        ),
    ];
    for seq in [last / 3, last / 2, last] {
        asked.push(format!(
            "select * from {t} at (seq => {seq}) order by row_id"
        ));
    }
    let mut answers = BTreeMap::new();
    for sql in asked {
        let batches = world.sql(&sql).await;
        answers.insert(sql, pretty_format_batches(&batches).unwrap().to_string());
    }
    let view = world.gateway().live().view(t).unwrap();
    let states: Vec<Vec<(RowId, RowState)>> =
        row_states(&view, None, None).try_collect().await.unwrap();
    let states = states.into_iter().flatten();
    answers.insert(
        "states".to_owned(),
        format!("{:?}", states.collect::<Vec<_>>()),
    );
    answers
}
