//! The overlay that grows from view to view against one that is made at once, and both against the oracle: late deltas,
//! deletes, revivals, compaction, restarts and a schema change in between, and queries in every way of reading.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::AsArray as _;
use lakesync_proto::TableSchema;
use lakesync_providers::{ReadView, Touched, UnionTable, session};
use lakesync_tests::cells;
use lakesync_tests::history::{History, Rng, Shape, Step};
use lakesync_tests::oracle::{AsOf, OracleRows};
use lakesync_tests::world::World;

/// How many histories run; `LAKESYNC_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("LAKESYNC_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overlay_that_grows_shows_what_one_made_at_once_shows() {
    let shape = Shape {
        steps: 50,
        rows: 10,
        push_deltas: 6,
        ..Shape::default()
    };
    let (mut grown, mut late, mut unread) = (0, 0, 0);
    for seed in 0..seeds() {
        let history = History::generate(seed, shape);
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path().join("lake"), &history).await;
        let mut rng = Rng::new(seed);
        let widened = rng.below(shape.steps);
        for (at, step) in (0..).zip(&history.steps) {
            world.step(step).await;
            if at == widened {
                widen(&mut world).await;
            }
            if !matches!(step, Step::Push(_)) || rng.chance(30) {
                continue;
            }
            for schema in world.schemas.clone() {
                let view = world.gateway().live().view(schema.table.as_str()).unwrap();
                let work = check(&world, &schema, &view).await;
                let hot = u64::try_from(view.hot_deltas().count()).unwrap();
                grown += u64::from(work.deltas > 0 && work.deltas < hot);
                late += work.rows_late;
                unread += u64::from(work.rows_folded > work.rows_read);
            }
        }
    }
    assert!(grown > 20, "{grown} overlays went on from an older one");
    assert!(late > 20, "{late} rows were late");
    assert!(
        unread > 20,
        "{unread} refreshes folded rows that they did not read"
    );
}

/// Every table gets a column.
async fn widen(world: &mut World) {
    let gateway = world.gateway();
    for schema in &mut world.schemas {
        let mut definition = schema.definition();
        let column = serde_json::from_str(r#"{"name": "added", "type": "string"}"#).unwrap();
        definition.columns.push(column);
        let (wider, changed) = gateway.put_schema(&definition).await.unwrap();
        assert!(changed);
        *schema = TableSchema::clone(&wider);
    }
}

/// What the last refresh took.
async fn check(
    world: &World,
    schema: &TableSchema,
    view: &Arc<ReadView>,
) -> lakesync_providers::Work {
    let anew = view.anew();
    let (grown, at_once) = (shown(schema, view).await, shown(schema, &anew).await);
    assert_eq!(grown, at_once, "seed {}, {}", world.seed, schema.table);
    let expected = world.expected(schema, AsOf::NOW);
    for touched in [Touched::Patched, Touched::Masked, Touched::Joined] {
        let ctx = session(&view.warehouse);
        let table = UnionTable::new(Arc::clone(view), None).unwrap();
        let rows = ctx.read_table(Arc::new(table.with_touched(touched)));
        let rows = rows.unwrap().collect().await.unwrap();
        let found = cells::rows(schema, &rows);
        assert_eq!(found, expected, "seed {}, {touched:?}", world.seed);
    }
    view.resolved().await.unwrap().work
}

/// The rows that an overlay shows, and the ids of those that it touches.
async fn shown(schema: &TableSchema, view: &ReadView) -> (OracleRows, BTreeSet<String>) {
    let resolved = view.resolved().await.unwrap();
    let rows = cells::rows(schema, &resolved.rows().unwrap());
    assert_eq!(rows.len(), resolved.row_count());
    let mut touched = BTreeSet::new();
    for batch in resolved.touched().unwrap() {
        let ids = batch.column(0).as_string::<i32>().iter().flatten();
        touched.extend(ids.map(str::to_owned));
    }
    (rows, touched)
}
