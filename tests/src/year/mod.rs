//! A simulated year of one lake: daily load, clients that come late, schema changes, restarts, and maintenance on its
//! schedule, by a clock that is ours.
//!
//! Invariant: the load follows from the seed alone, and what must be in the table is kept beside it, so every answer of a
//! year can be checked; nothing is measured but what is on disk and what the tables' metadata says.

mod load;
mod measure;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Int64Type;
use lakesync::Lake;
use lakesync_gateway::{Error, GatewayConfig};
use lakesync_proto::{ErrorCode, ManualClock, Push, Seq, WallClock as _};

use crate::history::START_MS;

pub use load::{Load, Rows};
pub use measure::Measured;

/// A day.
pub const DAY_MS: u64 = 86_400_000;

/// How long and how heavy a year is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the load follows from.
    pub seed: u64,
    /// How many days.
    pub days: u64,
    /// How often a day everything is flushed and maintained, a divisor of a day's hours.
    pub shifts: u64,
    /// New rows a day.
    pub rows: u64,
    /// Edits of rows that are there, a day.
    pub edits: u64,
    /// After how many days a row is deleted.
    pub lifetime: u64,
    /// How old a delta may be when it arrives, in days.
    pub late_window: u64,
    /// Every how many days the table gets a column.
    pub grows: u64,
    /// Every how many days the process ends and starts again.
    pub restarts: u64,
}

impl Plan {
    /// A year of a small office: 2,000 new rows and 4,000 edits a day, four flushes.
    pub const YEAR: Plan = Plan {
        seed: 1,
        days: 365,
        shifts: 4,
        rows: 2_000,
        edits: 4_000,
        lifetime: 60,
        late_window: 30,
        grows: 60,
        restarts: 30,
    };
    /// A month of a smaller one.
    pub const MONTH: Plan = Plan {
        seed: 2,
        days: 30,
        shifts: 2,
        rows: 40,
        edits: 80,
        lifetime: 6,
        late_window: 4,
        grows: 9,
        restarts: 5,
    };
}

/// A lake in the middle of its year.
#[derive(Debug)]
pub struct Year {
    plan: Plan,
    folder: PathBuf,
    clock: Arc<ManualClock>,
    lake: Option<Lake>,
    load: Load,
    /// What of the load had come too late, in deltas.
    pub refused: u64,
}

impl Year {
    /// An empty lake in `folder` on the first day.
    pub async fn begin(folder: &Path, plan: Plan) -> Year {
        let mut year = Year {
            plan,
            folder: folder.to_owned(),
            clock: Arc::new(ManualClock::new(START_MS)),
            lake: None,
            load: Load::new(plan),
            refused: 0,
        };
        year.open().await;
        year
    }

    async fn open(&mut self) {
        drop(self.lake.take());
        let config = GatewayConfig {
            late_window: Some(days(self.plan.late_window)),
            ..GatewayConfig::default()
        };
        let clock = Arc::clone(&self.clock) as Arc<dyn lakesync_proto::WallClock>;
        let lake = Lake::builder(&self.folder)
            .with_clock(clock)
            .with_config(config)
            .open()
            .await
            .expect("a lake");
        lake.create_table(&self.load.definition())
            .await
            .expect("its table");
        self.lake = Some(lake);
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        self.lake.as_ref().expect("it is open between days")
    }

    /// What the lake's clock shows, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// One day: its shifts of load, each flushed and maintained; then what is on disk.
    pub async fn day(&mut self, day: u64) -> Measured {
        if day > 0 && day.is_multiple_of(self.plan.grows) {
            self.load.grow();
            let definition = self.load.definition();
            self.lake()
                .create_table(&definition)
                .await
                .expect("a wider table");
        }
        if day > 0 && day.is_multiple_of(self.plan.restarts) {
            self.open().await;
        }
        let shift_ms = DAY_MS / self.plan.shifts;
        for shift in 0..self.plan.shifts {
            self.clock
                .set(START_MS + day * DAY_MS + (shift + 1) * shift_ms - 1);
            let now_ms = self.clock.now_ms();
            for push in self.load.shift(day, shift, now_ms) {
                self.push(push).await;
            }
            self.run("call system.flush()").await;
            self.maintain().await;
        }
        Measured::of(&self.folder, self.lake(), day).await
    }

    /// Everything that is due.
    async fn maintain(&self) {
        self.run("call system.maintain()").await;
    }

    async fn push(&mut self, push: Push) {
        let gateway = self.lake().gateway("public").expect("the default one");
        match gateway.push(push.clone()).await {
            Ok(_) => self.load.accepted(&push.deltas),
            // The client lets go of it, as its user was told that it would.
            Err(Error::Refused(refusal)) if refusal.code == ErrorCode::LateDelta => {
                let window_ms = self.plan.late_window * DAY_MS;
                let oldest = push.deltas.iter().map(|delta| delta.hlc.wall_ms()).min();
                assert!(oldest < Some(self.now_ms() - window_ms), "{refusal:?}");
                self.refused += push.deltas.len() as u64;
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn run(&self, sql: &str) -> Vec<arrow::array::RecordBatch> {
        let frame = self.lake().sql(sql).await;
        let frame = frame.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let rows = frame.collect().await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Whether the table is what was pushed, at this seq and now.
    ///
    /// # Panics
    /// When it is not.
    pub async fn check(&self) {
        assert_eq!(self.rows("t").await, self.load.rows(), "now");
    }

    /// The table's rows as of now, to be compared with [`Year::check_then`] later.
    pub fn moment(&self) -> (Seq, Rows) {
        let gateway = self.lake().gateway("public").expect("the default one");
        (gateway.live().seq(), self.load.rows())
    }

    /// Whether a past moment is still as it was; false when it is not kept any more.
    ///
    /// # Panics
    /// When it is another one.
    pub async fn check_then(&self, (seq, rows): &(Seq, Rows)) -> bool {
        let sql = format!("select row_id, v, note from t at (seq => {seq})");
        let answer = match self.lake().sql(&sql).await {
            Ok(frame) => frame.collect().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(batches) => {
                assert_eq!(&rows_of(&batches), rows, "as of seq {seq}");
                true
            }
            Err(error) => {
                assert!(error.contains("its history is kept from"), "{sql}: {error}");
                false
            }
        }
    }

    async fn rows(&self, from: &str) -> Rows {
        rows_of(
            &self
                .run(&format!("select row_id, v, note from {from}"))
                .await,
        )
    }
}

fn rows_of(batches: &[arrow::array::RecordBatch]) -> Rows {
    let mut rows = Rows::new();
    for batch in batches {
        let ids = batch.column(0).as_string::<i32>();
        let values = batch.column(1).as_primitive::<Int64Type>();
        let notes = batch.column(2).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let cells = (
                values.is_valid(row).then(|| values.value(row)),
                notes.is_valid(row).then(|| notes.value(row).to_owned()),
            );
            let twice = rows.insert(ids.value(row).to_owned(), cells);
            assert_eq!(twice, None, "{} is there twice", ids.value(row));
        }
    }
    rows
}

fn days(count: u64) -> Duration {
    Duration::from_millis(count * DAY_MS)
}
