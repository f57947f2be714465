//! The header `Date`, which tells a client how wrong its own clock is.
//!
//! Invariant: a text that is no such date, or none that can be, is no time; never a wrong one.

use std::time::Instant;

/// The days before each month of a year that is no leap year.
const DAYS_BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A date has whole seconds: on the average the clock is half a second further.
const ROUNDED_MS: u64 = 500;

/// A wall clock that was told, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    gateway_ms: u64,
    at: Instant,
}

impl Heard {
    /// The date of an answer whose head has just come.
    pub(super) fn now(date: &str) -> Option<Heard> {
        let seconds = seconds_since_1970(date)?;
        Some(Heard {
            gateway_ms: seconds.checked_mul(1_000)? + ROUNDED_MS,
            at: Instant::now(),
        })
    }

    /// What that clock shows now: reading the answer took its time.
    pub(super) fn gateway_ms(&self) -> u64 {
        let since_ms = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.gateway_ms.saturating_add(since_ms)
    }
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7); the older two forms are sent by nobody.
pub(super) fn seconds_since_1970(text: &str) -> Option<u64> {
    let (_, date) = text.trim().split_once(", ")?;
    let mut parts = date.split(' ');
    let day: u64 = number(parts.next()?, 2)?;
    let month = parts.next()?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: u64 = number(parts.next()?, 4)?;
    let mut clock = parts.next()?.split(':');
    let (hour, minute, second) = (
        number(clock.next()?, 2)?,
        number(clock.next()?, 2)?,
        number(clock.next()?, 2)?,
    );
    let zone = parts.next()?;
    let whole = zone == "GMT" && parts.next().is_none() && clock.next().is_none();
    let possible =
        year >= 1970 && (1..=31).contains(&day) && hour <= 23 && minute <= 59 && second <= 60;
    if !(whole && possible) {
        return None;
    }
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let years = year - 1;
    let leap_days = years / 4 - years / 100 + years / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let leap_today = u64::from(leap && month >= 2);
    let days = (year - 1970) * 365 + leap_days + DAYS_BEFORE[month] + leap_today + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
