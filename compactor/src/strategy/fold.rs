//! When a fold is due.
//!
//! **Invariant:** with nothing to fold nothing is due, whatever else says so.

use super::job::Reason;
use super::policy::FoldPolicy;
use super::state::TableState;
use super::timing::millis;

/// Whether a fold is due at `now_ms` (milliseconds since 1970), and why.
pub(super) fn due(state: &TableState, policy: &FoldPolicy, now_ms: u64) -> Option<Reason> {
    let waiting = &state.waiting;
    if waiting.rows == 0 {
        return None;
    }
    if state.is_pressed {
        return Some(Reason::Pressure);
    }
    if waiting.bytes >= policy.when_bytes {
        return Some(Reason::Bytes);
    }
    if waiting.rows >= policy.when_rows {
        return Some(Reason::Rows);
    }
    if waiting.files >= policy.when_files {
        return Some(Reason::Files);
    }
    let base_rows: u64 = state.base.files.iter().map(|file| file.rows).sum();
    let share = base_rows.saturating_mul(policy.read_percent) / 100;
    if waiting.rows >= share.max(FoldPolicy::READ_ROWS_MIN) {
        return Some(Reason::ReadCost);
    }
    let waited_ms = now_ms.saturating_sub(waiting.since_ms.unwrap_or(now_ms));
    (waited_ms >= millis(policy.max_age)).then_some(Reason::Age)
}
