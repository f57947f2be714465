//! How old the newest row of a query is while 10,000 deltas a second come in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use lakesync::Lake;
use lakesync_benches::load::{TABLE, config, push};
use lakesync_benches::{Figure, Figures, p99};
use tokio::runtime::Runtime;

use super::plain::ms;

/// Deltas of one push.
const BATCH: usize = 100;
/// Pushes a second.
const PUSHES: u32 = 100;
/// How long, in seconds.
const SECONDS: u32 = 5;

pub(super) fn measure(runtime: &Runtime, figures: &mut Figures) {
    let folder = tempfile::tempdir().expect("a folder");
    let (ages, behind, queries) = runtime.block_on(async {
        let lake = Lake::builder(folder.path())
            .with_config(config())
            .open()
            .await;
        let lake = lake.expect("a lake");
        lake.create_table(TABLE).await.expect("a table");
        ages(&lake).await
    });
    figures.0.push(Figure {
        what: format!(
            "from acknowledgement to visible in SQL, {} deltas/s",
            BATCH * usize::try_from(PUSHES).expect("few")
        ),
        figure: format!("p99 age {:.1} ms over {queries} queries", ms(p99(ages))),
        limit: "same read view".to_owned(),
        ratio: format!("{behind} queries missed an acknowledged delta"),
        target: "0 extra; <= 50 ms",
    });
}

/// The age of each query's newest row when its answer is there; how many queries missed a delta that had been
/// acknowledged before they began; how many there were.
async fn ages(lake: &Lake) -> (Vec<Duration>, usize, usize) {
    let acknowledged = AtomicU64::new(0);
    let ended = AtomicBool::new(false);
    let gateway = lake.gateway("public").expect("it exists");
    let pushes = async {
        let began = Instant::now();
        for n in 0..PUSHES * SECONDS {
            let due = began + Duration::from_secs(1) / PUSHES * n;
            tokio::time::sleep_until(due.into()).await;
            let number = usize::try_from(n).expect("few");
            gateway
                .push(push(0, BATCH, 0, number))
                .await
                .expect("accepted");
            acknowledged.fetch_add(u64::try_from(BATCH).expect("few"), Ordering::SeqCst);
        }
        ended.store(true, Ordering::SeqCst);
    };
    let queries = async {
        let (mut ages, mut behind, mut count) = (Vec::new(), 0, 0);
        while !ended.load(Ordering::SeqCst) {
            let before = acknowledged.load(Ordering::SeqCst);
            let began = Instant::now();
            let frame = lake.sql("select count(*) from t").await.expect("planned");
            let rows = frame.collect().await.expect("run");
            let seen = rows[0].column(0).as_primitive::<Int64Type>().value(0);
            count += 1;
            behind += usize::from(u64::try_from(seen).expect("a count") < before);
            // What it saw had been acknowledged when it began, or later.
            ages.push(began.elapsed());
            tokio::task::yield_now().await;
        }
        (ages, behind, count)
    };
    let ((), found) = tokio::join!(pushes, queries);
    found
}
