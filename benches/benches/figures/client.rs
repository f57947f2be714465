//! The client: what capture costs, how fast it takes what others wrote, and how fast it gives what it has. The limit is
//! plain SQLite: the same table, the same pragmas, the same statements, without anybody who looks on.

mod capture;
mod first;
mod pages;
mod plain;
mod rows;
mod sending;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lakesync_benches::{Figure, Figures, RUNS, rate};
use lakesync_client::{LocalDb, SystemClock};
use lakesync_proto::ClientId;

pub(crate) use first::{FIRST_SYNC, first_sync};

pub(crate) fn measure(figures: &mut Figures) {
    capture::measure(figures);
    pages::measure(figures);
    first::measure(figures);
    sending::measure(figures);
}

/// A client's database in a file, with the table of [`rows`].
fn open(path: &Path) -> LocalDb {
    let client_id = ClientId::parse("bench").expect("an id");
    let db = LocalDb::open(path, client_id, Arc::new(SystemClock)).expect("a database");
    db.register(&rows::schema()).expect("a table");
    db
}

/// The median of what `run` says it took: it leaves its preparations out.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut took: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    took.sort_unstable();
    took[RUNS / 2]
}

/// How long it takes.
fn timed(run: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    run();
    begun.elapsed()
}

/// A line of the table: `count` of something, against plain SQLite.
fn figure(
    what: String,
    count: usize,
    (took, limit): (Duration, Duration),
    target: &'static str,
) -> Figure {
    Figure {
        what,
        figure: format!("{:.0} rows/s", rate(count, took)),
        limit: format!("plain SQLite: {:.0} rows/s", rate(count, limit)),
        ratio: format!("{:.2}x the time", took.as_secs_f64() / limit.as_secs_f64()),
        target,
    }
}
