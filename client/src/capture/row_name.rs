//! The id of a new row.
//!
//! A table with a key names its rows by it. Without one, the id is a UUID of version 7 (RFC 9562):
//!
//! ```text
//! 48 bits   the wall milliseconds of the edit's HLC
//!  4 bits   7
//! 12 bits   ┐
//!  2 bits   │ 0b10       ┐ from the SHA-256 of (client id, columns, HLC, table), as a delta id hashes them
//! 62 bits   ┘            ┘
//! ```
//! Invariant: it needs no randomness. A client stamps no two edits alike, and client ids are unique, so the hash is of
//! something that happens once.

use lakesync_proto::{
    ClientId, ColumnChange, DeltaKey, Hlc, Op, RowDelta, RowId, TableSchema, Value,
};

use crate::error::ClientError;

/// Stands in for the row id in what is hashed.
const PLACEHOLDER: &str = "new";

/// The id of the row that these columns start.
pub(crate) fn new_row_id(
    schema: &TableSchema,
    columns: &[ColumnChange],
    client_id: &ClientId,
    hlc: Hlc,
) -> Result<RowId, ClientError> {
    let value_of = |name: &str| -> Option<Value> {
        columns
            .iter()
            .find(|change| change.column.as_str() == name)
            .map(|change| change.value.clone())
    };
    let from_key = schema.row_id(&value_of).map_err(|error| ClientError::Key {
        table: schema.table.clone(),
        reason: error.to_string(),
    })?;
    match from_key {
        Some(row_id) => Ok(row_id),
        None => uuid_v7(schema, columns, client_id, hlc),
    }
}

fn uuid_v7(
    schema: &TableSchema,
    columns: &[ColumnChange],
    client_id: &ClientId,
    hlc: Hlc,
) -> Result<RowId, ClientError> {
    let key = DeltaKey {
        table: schema.table.clone(),
        row_id: RowId::parse(PLACEHOLDER)?,
        client_id: client_id.clone(),
        hlc,
    };
    let hash = RowDelta::new(Op::Insert, key, columns.to_vec()).delta_id;
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&hlc.wall_ms().to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&hash.as_bytes()[..10]);
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    Ok(RowId::parse(&groups.join("-"))?)
}
