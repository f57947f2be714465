//! The JSON bodies as the OpenAPI document shows them. Nothing is read or written through these: the codecs of
//! `lakesync_proto` and the rules do that, and these say what they take and give.
//!
//! **Invariant:** the names of the fields are those of the codecs, which a test compares.

#![expect(dead_code, reason = "only their descriptions are used")]

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

/// A client's edits.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Push {
    /// Who pushes: the token's `sub`.
    client_id: String,
    /// At most 10,000.
    deltas: Vec<Delta>,
    /// The cursor up to which the client has pulled, decimal.
    last_seen_hlc: String,
    /// The client's hash over all schemas, decimal.
    schemas: Option<String>,
}

/// One row's changed columns.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Delta {
    /// `INSERT`, `UPDATE` or `DELETE`.
    #[schema(example = "INSERT")]
    op: String,
    table: String,
    row_id: String,
    client_id: String,
    columns: Vec<ColumnValue>,
    /// The writer's hybrid logical clock, decimal.
    hlc: String,
    /// The hash of the content, 64 hexadecimal digits.
    delta_id: String,
    /// The arrival number, decimal; set by the gateway.
    seq: Option<String>,
}

/// One column's new value.
#[derive(ToSchema)]
pub(super) struct ColumnValue {
    column: String,
    /// Of the column's type.
    value: Value,
}

/// A page of deltas.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Page {
    deltas: Vec<Delta>,
    /// The cursor to go on from, decimal.
    server_hlc: String,
    has_more: bool,
    /// The id of the log that the cursor belongs to.
    epoch: String,
    /// Rows that left what the client may see.
    removed: Option<Vec<RemovedRow>>,
    /// The cursor in its native form.
    cursor: Option<String>,
    /// Over the deltas and the removed rows, decimal.
    checksum: Option<String>,
    /// Everything up to this is in the warehouse, decimal.
    durable_seq: Option<String>,
    schemas: Option<SchemaVersions>,
}

/// A row that left what the client may see.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct RemovedRow {
    seq: String,
    table: String,
    row_id: String,
}

/// The versions of the tables.
#[derive(ToSchema)]
pub(super) struct SchemaVersions {
    /// Over all schemas, decimal.
    hash: String,
    /// Whether the client's hash is another one.
    changed: bool,
    tables: BTreeMap<String, u32>,
}

/// The answer to a push.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Ack {
    /// The cursor that the client may adopt, decimal.
    server_hlc: String,
    /// How many deltas are durable, duplicates counted.
    accepted: u32,
    /// Always empty.
    deltas: Vec<Delta>,
    /// One for each delta, in the push's order.
    outcomes: Vec<DeltaOutcome>,
    epoch: String,
    cursor: Option<String>,
    durable_seq: Option<String>,
    schemas: Option<SchemaVersions>,
}

/// What became of one delta.
#[derive(ToSchema)]
pub(super) struct DeltaOutcome {
    /// `accepted` or `duplicate`.
    #[schema(example = "accepted")]
    outcome: String,
    seq: String,
}

/// Why a request was refused.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct Error {
    /// The failure in words.
    error: String,
    /// Its stable kind.
    #[schema(example = "VALIDATION_ERROR")]
    code: String,
    request_id: String,
    /// The delta at fault.
    index: Option<usize>,
    /// Of CURSOR_EXPIRED: what to load instead.
    checkpoint: Option<String>,
    /// Of CURSOR_EXPIRED: the tables concerned; all without.
    tables: Option<Vec<String>>,
}

/// The sync rules of a gateway.
#[derive(ToSchema)]
pub(super) struct RuleSet {
    /// From 1 up.
    version: u64,
    buckets: Vec<Bucket>,
}

/// Rows that belong together, and who sees them.
#[derive(ToSchema)]
pub(super) struct Bucket {
    name: String,
    /// None are all.
    tables: Option<Vec<String>>,
    /// All of them must hold.
    filters: Option<Vec<Filter>>,
    /// SQL over the table's columns, with `jwt('claim')`.
    #[schema(rename = "where")]
    condition: Option<String>,
    /// Whether it says who writes, too.
    write: Option<bool>,
}

/// A comparison of a column.
#[derive(ToSchema)]
pub(super) struct Filter {
    column: String,
    #[schema(example = "eq")]
    op: String,
    /// A value, or `jwt:claim`.
    #[schema(example = "jwt:sub")]
    value: String,
}

/// A table as it is made or evolved.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(super) struct TableDefinition {
    table: String,
    columns: Vec<ColumnDefinition>,
    /// The columns that make the row id; the client chooses it without.
    primary_key: Option<Vec<String>>,
    /// How the rows are divided: columns, or one of year, month, day, hour, bucket and truncate of a column.
    #[schema(example = json!(["day(created_at)"]))]
    partition_by: Option<Vec<String>>,
    /// How the rows of a file are sorted: columns, with or without `desc`, `nulls first` and `nulls last`.
    #[schema(example = json!(["created_at desc"]))]
    sort_by: Option<Vec<String>>,
}

/// A column.
#[derive(ToSchema)]
pub(super) struct ColumnDefinition {
    name: String,
    #[schema(rename = "type", example = "string")]
    column_type: String,
}
