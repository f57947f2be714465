//! Folds of 1, 10 and 50 % churn over lineitem, in the modes that other readers can read.

use lakesync::Lake;
use lakesync_benches::{Cost, Figure, Figures};
use lakesync_compactor::{CompactReport, CompactionConfig, WriteMode, compact};
use tokio::runtime::Runtime;

use super::lake::{Measured, Restored};
use super::peers;
use crate::read::lineitem::{Lineitem, among};

/// So many of 1,000 rows are touched, anywhere in the table.
const CHURN: [u64; 3] = [10, 100, 500];

const MODES: [WriteMode; 2] = [WriteMode::MergeOnRead, WriteMode::CopyOnWrite];

pub(super) fn measure(runtime: &Runtime, scale: f64, figures: &mut Figures) {
    for permille in CHURN {
        let mut table = Lineitem::make(runtime, scale);
        let rows = table.rows;
        table.set_discount((0..rows).filter(|row| among(*row, permille)));
        table.query("call system.flush('lineitem')");
        let peer = peers::fold(&table);
        let lake = Restored::keep(table.close());
        for mode in MODES {
            let config = CompactionConfig {
                mode,
                ..CompactionConfig::default()
            };
            let ours = lake.measure(runtime, async |lake| folded(lake, &config).await);
            let percent = permille / 10;
            let what = format!("fold of {percent} % churn, {rows} rows, {}", mode.name());
            figures.0.push(figure(what.clone(), &ours, peer.as_ref()));
            if mode == WriteMode::CopyOnWrite && permille == 500 {
                figures.0.push(bandwidth(&what, &ours));
            }
        }
    }
}

async fn folded(lake: &Lake, config: &CompactionConfig) -> CompactReport {
    let gateway = lake.gateway("public").expect("it exists");
    let fence = gateway.fence();
    let folded = compact(gateway.live(), "lineitem", Some(&fence), config).await;
    folded.expect("folded")
}

fn figure(what: String, ours: &Measured<CompactReport>, peer: Option<&peers::Peer>) -> Figure {
    let told = |cost: Cost, bytes: u64| {
        let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu.as_secs_f64());
        format!("{wall:.2} s, {cpu:.2} s CPU, {} MiB written", bytes >> 20)
    };
    let figure = told(ours.cost, ours.last.bytes_added);
    Figure {
        what,
        figure: format!("{figure}, {} MiB of memory", ours.memory_mib),
        limit: peer.map_or("-".to_owned(), |peer| {
            format!("{}: {}", peer.name, told(peer.cost, peer.bytes))
        }),
        ratio: peer.map_or("-".to_owned(), |peer| {
            let wall = ours.cost.wall.as_secs_f64() / peer.cost.wall.as_secs_f64();
            let cpu = ours.cost.cpu.as_secs_f64() / peer.cost.cpu.as_secs_f64();
            format!("{wall:.2}x wall, {cpu:.2}x CPU")
        }),
        target: "faster, in 512 MiB",
    }
}

fn bandwidth(what: &str, ours: &Measured<CompactReport>) -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let megabytes = ours.last.bytes_added as f64 / 1e6;
    Figure {
        what: format!("rewrite bandwidth of the {what}"),
        figure: format!(
            "{:.0} MB/s a busy core",
            megabytes / ours.cost.cpu.as_secs_f64()
        ),
        limit: "RisingWave's published run: 70 MB/s".to_owned(),
        ratio: "-".to_owned(),
        target: ">= 100 MB/s",
    }
}
