//! Dates and timestamps: the proleptic Gregorian calendar, years 1 to 9999, without a calendar library.
//!
//! Invariant: the canonical texts `YYYY-MM-DD` and `YYYY-MM-DDTHH:MM:SS.ffffffZ` sort like the numbers they stand for.
//! The day arithmetic is Howard Hinnant's (*chrono-Compatible Low-Level Date Algorithms*): years start in March, so
//! that the leap day is the last.

use std::fmt::Write;

/// Days from 1970-01-01 to 0001-01-01, the first legal date.
pub(crate) const DATE_MIN: i32 = -719_162;
/// Days from 1970-01-01 to 9999-12-31, the last legal date.
pub(crate) const DATE_MAX: i32 = 2_932_896;

const DAY_MICROS: i64 = 86_400_000_000;

/// Microseconds of 0001-01-01T00:00:00Z, the first legal timestamp.
pub(crate) const TIMESTAMP_MIN: i64 = DATE_MIN as i64 * DAY_MICROS;
/// Microseconds of 9999-12-31T23:59:59.999999Z, the last legal timestamp.
pub(crate) const TIMESTAMP_MAX: i64 = (DATE_MAX as i64 + 1) * DAY_MICROS - 1;

/// Days from 1970-01-01 to a day of the calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The day of the calendar: (year, month, day).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A reader over ASCII text; each step takes what it names or fails.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// Exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let value = digits.iter().try_fold(0, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })?;
        self.0 = rest;
        Some(value)
    }

    /// One byte out of `any`.
    fn byte(&mut self, any: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        any.contains(first).then(|| self.0 = rest)?;
        Some(*first)
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        self.byte(b"-")?;
        let month = self.digits(2)?;
        self.byte(b"-")?;
        let day = self.digits(2)?;
        let legal = year >= 1
            && (1..=12).contains(&month)
            && (1..=days_in_month(year, month)).contains(&day);
        legal.then(|| days_from_civil(year, month, day))
    }

    /// `HH:MM:SS` as seconds. A leap second has no place in a Unix timestamp.
    fn time(&mut self) -> Option<i64> {
        let hours = self.digits(2)?;
        self.byte(b":")?;
        let minutes = self.digits(2)?;
        self.byte(b":")?;
        let seconds = self.digits(2)?;
        (hours < 24 && minutes < 60 && seconds < 60)
            .then_some(hours * 3_600 + minutes * 60 + seconds)
    }

    /// `.f…` as microseconds; none is 0. Digits beyond the sixth must be zeros, or precision would be lost.
    fn fraction(&mut self) -> Option<i64> {
        if self.byte(b".").is_none() {
            return Some(0);
        }
        let count = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let micros = self.digits(count.min(6))? * 10_i64.pow(6 - u32::try_from(count.min(6)).ok()?);
        let (beyond, rest) = self.0.split_at(count.saturating_sub(6));
        self.0 = rest;
        (count > 0 && beyond.iter().all(|b| *b == b'0')).then_some(micros)
    }

    /// `Z` or `±HH:MM` as seconds east of UTC.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.byte(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return Some(0),
        };
        let hours = self.digits(2)?;
        self.byte(b":")?;
        let minutes = self.digits(2)?;
        (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Reads `YYYY-MM-DD` as days since 1970-01-01.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let mut reader = Reader(text.as_bytes());
    let days = reader.date()?;
    reader.end()?;
    i32::try_from(days).ok()
}

/// Reads an RFC 3339 timestamp with `Z` or an offset as microseconds since the Unix epoch.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let mut reader = Reader(text.as_bytes());
    let days = reader.date()?;
    reader.byte(b"Tt ")?;
    let seconds = reader.time()?;
    let micros = reader.fraction()?;
    let offset = reader.offset()?;
    reader.end()?;
    let micros = days * DAY_MICROS + (seconds - offset) * 1_000_000 + micros;
    (TIMESTAMP_MIN..=TIMESTAMP_MAX)
        .contains(&micros)
        .then_some(micros)
}

/// Appends `YYYY-MM-DD`.
pub(crate) fn write_date(days: i64, out: &mut String) {
    let (year, month, day) = civil_from_days(days);
    write!(out, "{year:04}-{month:02}-{day:02}").expect("a String takes all text");
}

/// Appends `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub(crate) fn write_timestamp(micros: i64, out: &mut String) {
    write_date(micros.div_euclid(DAY_MICROS), out);
    let of_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(out, "T{hours:02}:{minutes:02}:{seconds:02}.{micros:06}Z")
        .expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(micros: i64) -> String {
        let mut out = String::new();
        write_timestamp(micros, &mut out);
        out
    }

    #[test]
    fn every_day_of_ten_thousand_years_comes_back_and_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1, 1, 1);
        for days in DATE_MIN..=DATE_MAX {
            assert_eq!(civil_from_days(i64::from(days)), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), i64::from(days));
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!((year, month, day), (10_000, 1, 1));
    }

    #[test]
    fn dates_are_checked() {
        let known = [
            ("1970-01-01", 0),
            ("0001-01-01", DATE_MIN),
            ("9999-12-31", DATE_MAX),
            ("2000-02-29", 11_016),
        ];
        for (text, days) in known {
            assert_eq!(parse_date(text), Some(days));
        }
        let bad = [
            "",
            "0000-01-01",
            "1900-02-29",
            "2023-02-30",
            "2023-13-01",
            "2023-00-01",
            "2023-01-00",
            "2023-1-1",
            "10000-01-01",
            "-001-01-01",
            "2023-01-01 ",
            "2023/01/01",
            "２023-01-01",
        ];
        for text in bad {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn timestamps_are_normalised_to_utc() {
        let cases = [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"),
            ("2024-02-29T23:30:00.5+01:00", "2024-02-29T22:30:00.500000Z"),
            (
                "2024-02-29 23:30:00.123456000z",
                "2024-02-29T23:30:00.123456Z",
            ),
            (
                "1969-12-31t23:59:59.999999-00:00",
                "1969-12-31T23:59:59.999999Z",
            ),
            ("2023-12-31T23:59:59-23:59", "2024-01-01T23:58:59.000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ];
        for (text, canonical) in cases {
            let micros = parse_timestamp(text).unwrap();
            assert_eq!(timestamp(micros), canonical);
            assert_eq!(parse_timestamp(canonical), Some(micros));
        }
        assert_eq!(parse_timestamp("0001-01-01T00:00:00Z"), Some(TIMESTAMP_MIN));
        assert_eq!(
            parse_timestamp("9999-12-31T23:59:59.999999Z"),
            Some(TIMESTAMP_MAX)
        );
    }

    #[test]
    fn other_timestamps_are_refused() {
        let bad = [
            "",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2016-12-31T23:59:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567Z",
            "2024-01-01T00:00:00+1:00",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01T00:00:00ZZ",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2024-01-01T00:00Z",
            "0000-12-31T23:59:59-01:00",
        ];
        for text in bad {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
    }

    #[test]
    fn no_number_is_too_extreme_to_write() {
        for micros in [i64::MIN, i64::MAX] {
            assert!(timestamp(micros).ends_with('Z'));
        }
    }
}
