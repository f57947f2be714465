//! The column names of the log table `t__deltas`, shown in SQL as `t$deltas`.
//!
//! Invariant: none of these is a legal user column, so the user's columns stand beside them under their own names.
//!
//! ```text
//! _seq │ _arrived_at │ _hlc │ _client │ _delta_id │ _op │ row_id │ _set │ the user's columns …
//! ```

/// Arrival number, `long`.
pub const SEQ: &str = "_seq";
/// Wall clock of the gateway at the durable commit, `timestamptz`.
pub const ARRIVED_AT: &str = "_arrived_at";
/// The delta's HLC as a signed 64-bit number, `long`.
pub const HLC: &str = "_hlc";
/// The client that wrote the delta, `string`.
pub const CLIENT: &str = "_client";
/// The delta id, `fixed(32)`.
pub const DELTA_ID: &str = "_delta_id";
/// The operation's code ([`Op::code`](crate::Op::code)), `int`.
pub const OP: &str = "_op";
/// The row id, `string`; the base table has it too.
pub const ROW_ID: &str = "row_id";
/// Presence bitmap by column number, `binary`: which columns the delta sets, explicit nulls among them.
pub const SET: &str = "_set";

/// The log's partition field, the day of [`ARRIVED_AT`]: no column of the table, but its name in every manifest.
pub const ARRIVED_DAY: &str = "_arrived_at_day";

/// All log columns in table order.
pub const LOG: [&str; 8] = [SEQ, ARRIVED_AT, HLC, CLIENT, DELTA_ID, OP, ROW_ID, SET];
