//! Every limit of the wire and of the types, each with its unit and its reason.
//!
//! Invariant: a limit lives here and nowhere else; whoever enforces it names this constant in the refusal.

/// Deltas in one push. A legacy client never sends more; ten thousand rows fit one durable blob.
pub const PUSH_DELTAS_MAX: usize = 10_000;

/// Bytes of one inflated push body. The legacy limit of 1 MiB looked at the Content-Length header only and is too
/// small for [`PUSH_DELTAS_MAX`] deltas of ordinary rows.
pub const PUSH_BODY_BYTES_MAX: usize = 16 << 20;

/// Deltas of one pull page when the client names no limit.
pub const PULL_DEFAULT: usize = 100;

/// Deltas of one pull page at most; a larger wish is cut to this in silence, as legacy gateways did.
pub const PULL_MAX: usize = 10_000;

/// Tables whose versions one answer tells. A gateway has fewer; a peer that sends more is none.
pub const SCHEMA_NOTE_TABLES_MAX: usize = 10_000;

/// Bytes of one message of a checkpoint. Gateways aim for 1 MiB; one value of [`VALUE_BYTES_MAX`] whose every byte is
/// escaped in JSON takes 24 MiB.
pub const CHUNK_BYTES_MAX: usize = 32 << 20;

/// Deltas in one message of a checkpoint: what [`CHUNK_BYTES_MAX`] holds, as a delta takes 88 bytes at the least.
pub const CHUNK_DELTAS_MAX: usize = 400_000;

/// Bytes of values in one delta of a row's state, before encoding; a single value may be as large alone. More makes
/// several deltas of one stamp, so that each fits a message of a checkpoint.
pub const ROW_DELTA_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// Actions in one push: each may wait for the world behind the gateway.
pub const ACTIONS_MAX: usize = 100;

/// Bytes of an action's params in normal form: a document, not a file.
pub const ACTION_PARAMS_BYTES_MAX: usize = 1 << 20;

/// Bytes of a connector's name, an action's type, or an idempotency key. They are looked up and logged.
pub const ACTION_TEXT_BYTES_MAX: usize = 256;

/// Milliseconds that a stamp may be ahead of the receiver's wall clock. Exactly this much passes.
pub const DRIFT_MS: u64 = 5_000;

/// The greatest wall clock of an HLC, in milliseconds: 47 bits, so that an HLC fits Iceberg's signed `long`.
/// It is the year 6429.
pub const WALL_MS_MAX: u64 = (1 << 47) - 1;

/// Bytes of a row id. Row ids are sort keys and bloom filter entries: long ones make every file larger.
pub const ROW_ID_BYTES_MAX: usize = 1_024;

/// Bytes of a client id. It is part of every stamp.
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// Bytes of a table, column or gateway name: the legacy identifier pattern.
pub const NAME_BYTES_MAX: usize = 64;

/// Columns of one table, and column changes of one delta.
pub const COLUMNS_MAX: usize = 1_000;

/// Column numbers that one table may ever use, dropped columns counted: it bounds the log's `_set` bitmap.
pub const COLUMN_NUMBERS_MAX: u32 = 10_000;

/// Fields of a table's partitioning, and columns of its sort order. Each multiplies the files, or costs every comparison.
pub const LAYOUT_FIELDS_MAX: usize = 16;

/// Parts of a `bucket` partition: each is a file at every compaction.
pub const BUCKETS_MAX: u32 = 4_096;

/// The width of a `truncate` partition, in characters or steps: what Iceberg's signed 32 bits hold.
pub const TRUNCATE_WIDTH_MAX: u32 = i32::MAX.unsigned_abs();

/// Bytes of one value: what a page of wide rows can still carry.
pub const VALUE_BYTES_MAX: usize = 4 << 20;

/// Nesting depth of a `json` value. JSON readers commonly stop at 128, and a page wraps a value in five more levels.
pub const JSON_DEPTH_MAX: usize = 100;

/// Digits of a decimal: what 128 bits hold, and Iceberg's own limit.
pub const DECIMAL_PRECISION_MAX: u8 = 38;

/// Characters of a refused value that an error message repeats.
pub const SHOWN_CHARS_MAX: usize = 64;
