//! A simulated year: what a lake has on disk at the end of each day, as figures and as `benches/year.svg`.
//!
//! `LAKESYNC_BENCH_DAYS` makes it shorter (365).

use std::path::Path;
use std::time::Instant;

use lakesync_benches::plot::{Line, Panel, svg};
use lakesync_benches::{Figure, Figures};
use lakesync_tests::year::{Measured, Plan, Year};
use tokio::runtime::Runtime;

const DAYS: u64 = 365;

fn plan() -> Plan {
    let days = std::env::var("LAKESYNC_BENCH_DAYS").ok();
    Plan {
        days: days.and_then(|days| days.parse().ok()).unwrap_or(DAYS),
        ..Plan::YEAR
    }
}

pub(crate) fn measure(figures: &mut Figures) {
    let (plan, folder) = (plan(), tempfile::tempdir().expect("a folder"));
    let begun = Instant::now();
    let runtime = Runtime::new().expect("a runtime");
    let days = runtime.block_on(async {
        let mut year = Year::begin(folder.path(), plan).await;
        let mut days = Vec::new();
        for day in 0..plan.days {
            days.push(year.day(day).await);
            if day % 30 == 29 {
                year.check().await;
                eprintln!("  day {day}: {:?}", days[days.len() - 1]);
            }
        }
        year.check().await;
        days
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("year.svg");
    std::fs::write(&path, plot(&days)).expect("the plot");
    let took = format!("{:.0} s", begun.elapsed().as_secs_f64());
    for (what, of) in BOUNDED {
        figures.0.push(figure(&days, what, *of, &took));
    }
}

/// Something that has to stay bounded.
type Of = fn(&Measured) -> u64;

const BOUNDED: &[(&str, Of)] = &[
    ("files in the warehouse", |day| day.files),
    ("snapshots of base and log", |day| {
        day.base_snapshots + day.log_snapshots
    }),
    ("bytes of data", |day| day.data_bytes),
    ("bytes of metadata", |day| day.metadata_bytes),
    ("bytes of the durable log", |day| day.durable_bytes),
];

/// The most in the last quarter of the year against the most in the quarter before.
fn figure(days: &[Measured], what: &str, of: Of, took: &str) -> Figure {
    let most = |part: &[Measured]| part.iter().map(of).max().unwrap_or(0);
    let quarter = days.len() / 4;
    let (before, last) = days[days.len() - 2 * quarter..].split_at(quarter);
    let (before, last) = (most(before), most(last));
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let ratio = last as f64 / before.max(1) as f64;
    Figure {
        what: format!(
            "a year of {} days ({took}), last quarter: {what}",
            days.len()
        ),
        figure: last.to_string(),
        limit: format!("the quarter before: {before}"),
        ratio: format!("{ratio:.2}x"),
        target: "<= 1.1x: bounded",
    }
}

fn plot(days: &[Measured]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let line = |name, of: Of| Line {
        name,
        values: days.iter().map(|day| of(day) as f64).collect(),
    };
    let panels = [
        Panel {
            title: "rows",
            lines: vec![
                line("in base files", |day| day.base_rows),
                line("deltas in the log", |day| day.log_rows),
            ],
        },
        Panel {
            title: "files",
            lines: vec![
                line("in the warehouse", |day| day.files),
                line("live, of the log", |day| day.log_files),
                line("live, of the base", |day| day.base_files),
                line("of metadata", |day| day.metadata_files),
            ],
        },
        Panel {
            title: "snapshots",
            lines: vec![
                line("of the base", |day| day.base_snapshots),
                line("of the log", |day| day.log_snapshots),
            ],
        },
        Panel {
            title: "bytes",
            lines: vec![
                line("of data", |day| day.data_bytes),
                line("of metadata", |day| day.metadata_bytes),
                line("of the durable log", |day| day.durable_bytes),
            ],
        },
    ];
    svg(
        &format!("{} simulated days of one table", days.len()),
        &panels,
    )
}
