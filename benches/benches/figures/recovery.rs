//! W3: how long a gateway takes to serve again.

use std::path::Path;

use lakesync::Lake;
use lakesync_benches::load::{TABLE, config, push};
use lakesync_benches::{Figure, Figures, median};
use tokio::runtime::Runtime;

use crate::push::cpu;

const PUSHES: usize = 1_000;

pub(crate) fn measure(figures: &mut Figures) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let lake = runtime.block_on(async {
        let lake = Lake::builder(folder.path())
            .with_config(config())
            .open()
            .await
            .expect("a lake");
        lake.create_table(TABLE).await.expect("a table");
        let gateway = lake.gateway("public").expect("it exists");
        for n in 0..PUSHES {
            gateway.push(push(0, 1_000, 1, n)).await.expect("accepted");
        }
        lake
    });
    drop(lake);
    reopen(
        &runtime,
        folder.path(),
        ("recovery with 1 M hot deltas", "<= 3 s"),
        figures,
    );
    runtime.block_on(async {
        let lake = Lake::builder(folder.path())
            .with_config(config())
            .open()
            .await
            .expect("a lake");
        lake.gateway("public")
            .expect("it exists")
            .flush(None)
            .await
            .expect("flushed");
    });
    let flushed = (
        "recovery with 1 M deltas flushed and not compacted",
        "<= 5 s",
    );
    reopen(&runtime, folder.path(), flushed, figures);
    runtime.block_on(async {
        let lake = Lake::builder(folder.path())
            .with_config(config())
            .open()
            .await
            .expect("a lake");
        lake.sql("call system.compact('t')")
            .await
            .expect("compacted");
    });
    reopen(
        &runtime,
        folder.path(),
        ("recovery with 1 M deltas compacted", "-"),
        figures,
    );
}

/// Opens the lake until a query sees every delta.
fn reopen(
    runtime: &Runtime,
    dir: &Path,
    (what, target): (&str, &'static str),
    figures: &mut Figures,
) {
    let (cost, ()) = median(|| {
        runtime.block_on(async {
            let lake = Lake::builder(dir)
                .with_config(config())
                .open()
                .await
                .expect("a lake");
            let visible = lake
                .gateway("public")
                .expect("it exists")
                .live()
                .seq()
                .as_u64();
            assert_eq!(visible, 1_000_000);
        });
    });
    figures.0.push(Figure {
        what: what.to_owned(),
        figure: format!("{:.2} s ({})", cost.wall.as_secs_f64(), cpu(cost)),
        limit: "-".to_owned(),
        ratio: "-".to_owned(),
        target,
    });
}
