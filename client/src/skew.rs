//! How far the gateway's wall clock is from this machine's.
//!
//! Invariant: what an exact clock and a slow answer look like is no skew.

/// How far the two may be apart before stamps are corrected for it, in milliseconds: the `Date` of an answer has whole
/// seconds, and takes its time to arrive.
const SKEW_MS_MIN: u64 = 2_000;

/// What the gateway's clock shows more than this machine's, in milliseconds; 0 when it may be nothing.
pub(crate) fn between(gateway_ms: u64, own_ms: u64) -> i64 {
    let apart_ms = gateway_ms.abs_diff(own_ms);
    let skew_ms = i64::try_from(apart_ms).unwrap_or(i64::MAX);
    match (apart_ms > SKEW_MS_MIN, gateway_ms > own_ms) {
        (false, _) => 0,
        (true, true) => skew_ms,
        (true, false) => -skew_ms,
    }
}
