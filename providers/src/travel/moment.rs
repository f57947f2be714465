//! Constants of SQL as coordinates of time travel.
//!
//! **Invariant:** a value is taken for what its type says: a number is never a time, a text never an id.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::DateTime;
use datafusion::common::ScalarValue;
use datafusion::execution::context::ExecutionProps;
use lakesync_proto::limits::WALL_MS_MAX;
use lakesync_proto::{Hlc, Seq};

use super::pinned::Arrival;

/// What a session knows of a statement that begins when the wall clock shows `now_ms` (milliseconds since 1970): its
/// `now()`, also in the moments that it asks for. A clock beyond what a timestamp holds has none.
#[must_use]
pub fn begun_at(now_ms: u64) -> ExecutionProps {
    let now = i64::try_from(now_ms).ok();
    match now.and_then(DateTime::from_timestamp_millis) {
        Some(now) => ExecutionProps::new().with_query_execution_start_time(now),
        None => ExecutionProps::new(),
    }
}

/// What is wrong with a coordinate.
type Wrong = String;

/// A moment in microseconds since 1970; a time without a zone, and a text without one, is UTC.
///
/// # Errors
/// What is wrong, for anything that is no timestamp, date, or text of one.
pub fn micros_of(value: &ScalarValue) -> Result<i64, Wrong> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()));
    let is_time = matches!(
        value.data_type(),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64
    );
    if !(is_time || is_text(value)) || value.is_null() {
        return Err(format!("{value} is not a timestamp"));
    }
    match value.cast_to(&utc) {
        Ok(ScalarValue::TimestampMicrosecond(Some(micros), _)) => Ok(micros),
        _ => Err(format!(
            "`{value}` is not a timestamp; one looks like 2026-01-31T12:00:00Z"
        )),
    }
}

/// An HLC: its number, or a moment, and then the last HLC of that millisecond.
///
/// # Errors
/// What is wrong, for anything else.
pub fn hlc_of(value: &ScalarValue) -> Result<Hlc, Wrong> {
    if let Some(number) = digits(value) {
        let hlc = number.parse::<Hlc>();
        return hlc.map_err(|error| error.to_string());
    }
    let micros =
        micros_of(value).map_err(|_| format!("{value} is neither an HLC nor a timestamp"))?;
    let wall_ms = u64::try_from(micros.div_euclid(1000)).ok();
    let hlc = wall_ms
        .filter(|ms| *ms <= WALL_MS_MAX)
        .map(|ms| Hlc::new(ms, u16::MAX));
    match hlc {
        Some(Ok(hlc)) => Ok(hlc),
        _ => Err(format!("{value} is outside what an HLC can hold")),
    }
}

/// A seq.
///
/// # Errors
/// What is wrong, for anything that is no whole number from 0.
pub fn seq_of(value: &ScalarValue) -> Result<Seq, Wrong> {
    let number = (!is_text(value)).then(|| digits(value)).flatten();
    let seq = number.and_then(|number| number.parse().ok());
    seq.and_then(|seq| Seq::from_u64(seq).ok())
        .ok_or_else(|| format!("{value} is not a seq, which is a whole number from 0"))
}

/// A snapshot id, or a text with the name of a tag or branch.
///
/// # Errors
/// What is wrong, for anything else.
pub fn version_of(value: &ScalarValue) -> Result<Arrival, Wrong> {
    if is_text(value) {
        return ref_of(value);
    }
    match digits(value).map(|digits| digits.parse()) {
        Some(Ok(id)) => Ok(Arrival::Version(id)),
        Some(Err(_)) => Err(format!("{value} is too large for a snapshot id")),
        None => Err(format!("{value} is not a snapshot id")),
    }
}

/// The name of a tag or branch.
///
/// # Errors
/// What is wrong, for anything but a text.
pub fn ref_of(value: &ScalarValue) -> Result<Arrival, Wrong> {
    match value.try_as_str() {
        Some(Some(name)) if !name.is_empty() => Ok(Arrival::Ref(name.to_owned())),
        _ => Err(format!("{value} is not the name of a tag or branch")),
    }
}

fn is_text(value: &ScalarValue) -> bool {
    value.try_as_str().is_some()
}

/// The digits of a whole number that is not negative, or of a text of digits.
fn digits(value: &ScalarValue) -> Option<String> {
    let whole = value.data_type().is_integer() && !value.is_null();
    let text = match value.try_as_str() {
        Some(text) => text?.to_owned(),
        None if whole => value.to_string(),
        None => return None,
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_for_what_their_types_say() {
        let text = |text: &str| ScalarValue::from(text);
        let nanos = ScalarValue::TimestampNanosecond(Some(1_500_000_000_001_002_003), None);
        assert_eq!(micros_of(&nanos), Ok(1_500_000_000_001_002));
        assert_eq!(micros_of(&text("1970-01-02")), Ok(86_400_000_000));
        assert_eq!(micros_of(&text("1970-01-01T02:00:00+02:00")), Ok(0));
        assert_eq!(micros_of(&ScalarValue::Date32(Some(1))), Ok(86_400_000_000));
        let hlc = Hlc::new(1_500_000_000_001, u16::MAX).unwrap();
        assert_eq!(hlc_of(&nanos), Ok(hlc));
        assert_eq!(hlc_of(&text(&hlc.to_string())), Ok(hlc));
        assert_eq!(hlc_of(&ScalarValue::from(hlc.as_i64())), Ok(hlc));
        assert_eq!(seq_of(&ScalarValue::from(7_i32)).unwrap().as_u64(), 7);
        assert_eq!(
            version_of(&ScalarValue::from(7_i64)),
            Ok(Arrival::Version(7))
        );
        assert_eq!(version_of(&text("7")), Ok(Arrival::Ref("7".to_owned())));
    }

    #[test]
    fn what_is_no_coordinate_is_refused_in_words() {
        let null = ScalarValue::Utf8(None);
        let (seven, less) = (ScalarValue::from(7_i64), ScalarValue::from(-7_i64));
        assert_eq!(micros_of(&seven), Err("7 is not a timestamp".to_owned()));
        assert!(micros_of(&null).is_err() && micros_of(&ScalarValue::from("soon")).is_err());
        assert!(hlc_of(&less).is_err() && hlc_of(&ScalarValue::from("1960-01-01")).is_err());
        assert!(hlc_of(&ScalarValue::from(7.5_f64)).is_err());
        assert!(seq_of(&less).is_err() && seq_of(&ScalarValue::from("7")).is_err());
        assert!(
            version_of(&less).is_err()
                && version_of(&null).is_err()
                && version_of(&ScalarValue::from("")).is_err()
        );
        let large = ScalarValue::from(u64::MAX);
        assert!(version_of(&large).unwrap_err().contains("too large"));
    }
}
