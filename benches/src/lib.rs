//! What the benchmarks stand on: measured runs, medians, and the table that is printed.
//!
//! Invariant: a figure is a median of at least five runs, and what counts is its ratio to a limit that was measured in
//! the same process.

pub mod load;
pub mod plot;

use std::fmt;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// How often everything is measured.
pub const RUNS: usize = 5;

/// Wall and CPU time of some work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of the whole process, all threads; by the system's clock for it.
    pub cpu: Duration,
}

/// The median cost of [`RUNS`] runs, by wall and by CPU time apart, and the last run's result.
pub fn median<T>(mut run: impl FnMut() -> T) -> (Cost, T) {
    let mut walls = Vec::new();
    let mut cpus = Vec::new();
    let mut last = None;
    for _ in 0..RUNS {
        let (cpu, wall) = (cpu_time(), Instant::now());
        last = Some(run());
        walls.push(wall.elapsed());
        cpus.push(cpu_time().saturating_sub(cpu));
    }
    walls.sort_unstable();
    cpus.sort_unstable();
    let cost = Cost {
        wall: walls[RUNS / 2],
        cpu: cpus[RUNS / 2],
    };
    (cost, last.expect("there is at least one run"))
}

/// CPU time of this process so far, user and system.
pub fn cpu_time() -> Duration {
    ProcessTime::now().as_duration()
}

/// CPU time of a process (its id) from the system's accounts (Linux: hundredths of a second).
pub fn cpu_time_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The command's name may hold spaces; what follows its bracket does not.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// The greatest resident memory of this process so far, in MiB; 0 where the system does not tell.
pub fn peak_memory_mib() -> u64 {
    memory_bytes("self", "VmHWM:") >> 20
}

/// The resident memory of a process (its id, or `self`) in bytes; 0 where the system does not tell.
pub fn resident_bytes(process: &str) -> u64 {
    memory_bytes(process, "VmRSS:")
}

fn memory_bytes(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The value below which 99 of 100 lie; zero for none.
pub fn p99(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    let at = (values.len() * 99 / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn rate(count: usize, wall: Duration) -> f64 {
    count as f64 / wall.as_secs_f64()
}

/// One line of the printed table.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was done.
    pub what: String,
    /// How fast, for a person.
    pub figure: String,
    /// What it is held against.
    pub limit: String,
    /// The ratio to it.
    pub ratio: String,
    /// What `TARGETS.md` asks for.
    pub target: &'static str,
}

/// The figures as a Markdown table, columns aligned.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub Vec<Figure>);

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "figure", "limit", "ratio", "target"].map(str::to_owned);
        let rows: Vec<[String; 5]> = self
            .0
            .iter()
            .map(|row| {
                let row = row.clone();
                [
                    row.what,
                    row.figure,
                    row.limit,
                    row.ratio,
                    row.target.to_owned(),
                ]
            })
            .collect();
        let width = |column: usize| {
            let cells = rows
                .iter()
                .chain([&head])
                .map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths = [0, 1, 2, 3, 4].map(width);
        let rule = widths.map(|width| "-".repeat(width));
        for row in [&head, &rule].into_iter().chain(&rows) {
            let cells = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
        }
        Ok(())
    }
}
