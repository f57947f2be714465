//! How far maintenance is, on one line of a terminal.
//!
//! ```text
//! compact of orders: reading the log ███████───────  48 %  1.2 M rows, 310 k/s, 4 s left
//! ```
//! **Invariant:** nothing is written unless stderr is a terminal, and what was written is gone when the work is done.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

use lakesync_compactor::Unit;
use tokio::time::{MissedTickBehavior, interval};

use crate::lake::Lake;
use crate::maintenance::Running;

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(200);
/// How wide the bar is, in characters.
const BAR_CHARS: usize = 20;

/// Waits for `work`, and shows meanwhile what of the lake's maintenance runs.
pub(super) async fn shown<T>(lake: &Lake, work: impl Future<Output = T>) -> T {
    if !stderr().is_terminal() {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if shown {
                    // Whoever watched may be gone.
                    drop(write!(stderr(), "\r\x1b[K"));
                }
                return done;
            }
            _ = ticks.tick() => {
                if let Some(running) = lake.running().first() {
                    drop(write!(stderr(), "\r\x1b[K{}", line(running, Instant::now())));
                    drop(stderr().flush());
                    shown = true;
                }
            }
        }
    }
}

fn line(running: &Running, now: Instant) -> String {
    let step = running.progress.step();
    let done = running.progress.done();
    let seconds = now.saturating_duration_since(step.begun).as_secs_f64();
    let head = format!("{} of {}: {}", running.kind, running.table, step.name);
    let share = running.progress.share();
    let bar = share.map_or_else(String::new, |share| {
        format!(" {} {:>3.0} %", bar(share), share * 100.0)
    });
    if done == 0 || seconds < 0.5 {
        return format!("{head}{bar}");
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = done as f64 / seconds;
    let left = match share {
        Some(share) if share > 0.0 && share < 1.0 => {
            let left = Duration::from_secs_f64((seconds / share - seconds).clamp(0.0, 1e6));
            format!(
                ", {} left",
                humantime::format_duration(Duration::from_secs(left.as_secs() + 1))
            )
        }
        _ => String::new(),
    };
    format!(
        "{head}{bar} {}, {}/s{left}",
        amount(done, step.unit),
        short(rate)
    )
}

fn bar(share: f64) -> String {
    let filled = (0..BAR_CHARS).filter(|n| {
        #[expect(clippy::cast_precision_loss, reason = "twenty characters")]
        let end = (*n as f64 + 1.0) / BAR_CHARS as f64;
        end <= share + 1e-9
    });
    let filled = filled.count();
    format!("{}{}", "█".repeat(filled), "─".repeat(BAR_CHARS - filled))
}

/// A number of rows, bytes or files, for people.
fn amount(number: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytesize::ByteSize(number).to_string(),
        Unit::Rows => format!("{} rows", short_whole(number)),
        Unit::Files => format!("{} files", short_whole(number)),
    }
}

fn short_whole(number: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a number of a few digits for people"
    )]
    let number = number as f64;
    short(number)
}

/// `1.2 M`
fn short(number: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let unit = units.into_iter().find(|(least, _)| number >= *least);
    unit.map_or_else(
        || format!("{number:.0}"),
        |(least, name)| format!("{:.1}{name}", number / least),
    )
}

#[cfg(test)]
mod tests {
    use lakesync_compactor::Progress;
    use lakesync_compactor::strategy::JobKind;
    use lakesync_proto::{GatewayId, TableName};

    use super::*;

    #[test]
    fn a_line_tells_the_step_the_share_the_rate_and_what_is_left() {
        let progress = Progress::default();
        let running = Running {
            gateway: GatewayId::parse("public").unwrap(),
            table: TableName::parse("orders").unwrap(),
            kind: JobKind::Fold,
            progress: progress.clone(),
        };
        let now = progress.step().begun;
        assert_eq!(line(&running, now), "compact of orders: planning");
        progress.begin("reading the log", Unit::Rows, 4_000_000);
        progress.add(1_000_000);
        let later = progress.step().begun + Duration::from_secs(2);
        assert_eq!(
            line(&running, later),
            "compact of orders: reading the log █████───────────────  25 % 1.0 M rows, 500.0 k/s, 7s left"
        );
        progress.begin("writing", Unit::Bytes, 0);
        progress.add(3 << 20);
        let later = progress.step().begun + Duration::from_secs(1);
        assert_eq!(
            line(&running, later),
            "compact of orders: writing 3.0 MiB, 3.1 M/s"
        );
    }
}
