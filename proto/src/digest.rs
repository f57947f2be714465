//! The digest of visible cells: a client that computes the same over its own rows knows that it has converged.
//!
//! Invariant: the digest of a set of cells is the wrapping sum of the cells' own, so it depends on no order and can be
//! kept up to date cell by cell. A null cell and one that was never written are alike in SQL, so neither is counted.
//!
//! ```text
//! cell = first 8 bytes, big-endian, of SHA-256( part(table) part(row id) part(column) part(canonical value) )
//! part = length in bytes (8 bytes BE) │ UTF-8
//! ```

use sha2::{Digest, Sha256};

use crate::id::{ColumnName, RowId, TableName};
use crate::value::Value;

/// What one cell adds to the digest of its table; 0 for null.
///
/// ```
/// use lakesync_proto::{ColumnName, RowId, TableName, Value, cell_digest};
/// let (table, row_id) = (TableName::parse("todos")?, RowId::parse("row-1")?);
/// let title = ColumnName::parse("title")?;
/// let cell = cell_digest(&table, &row_id, &title, &Value::from("Buy milk"));
/// assert_eq!(cell, 0xb608_3b61_8da1_ef9b);
/// assert_eq!(cell_digest(&table, &row_id, &title, &Value::Null), 0);
/// # Ok::<(), lakesync_proto::IdError>(())
/// ```
pub fn cell_digest(table: &TableName, row_id: &RowId, column: &ColumnName, value: &Value) -> u64 {
    if *value == Value::Null {
        return 0;
    }
    let mut canonical = String::new();
    value.write_canonical(&mut canonical);
    let mut hash = Sha256::new();
    for part in [table.as_str(), row_id.as_str(), column.as_str(), &canonical] {
        let length = u64::try_from(part.len()).expect("a length fits 64 bits");
        hash.update(length.to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*digest.first_chunk().expect("32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(table: &str, row_id: &str, column: &str, value: Value) -> u64 {
        cell_digest(
            &TableName::parse(table).unwrap(),
            &RowId::parse(row_id).unwrap(),
            &ColumnName::parse(column).unwrap(),
            &value,
        )
    }

    #[test]
    fn every_part_of_a_cell_counts_and_no_part_runs_into_the_next() {
        let cells = [
            digest("ab", "c", "d", Value::from("e")),
            digest("a", "bc", "d", Value::from("e")),
            digest("a", "b", "cd", Value::from("e")),
            digest("ab", "c", "d", Value::from("f")),
            digest("ab", "c", "d", Value::Long(1)),
            digest("ab", "c", "d", Value::from("1")),
        ];
        let distinct: std::collections::BTreeSet<u64> = cells.into_iter().collect();
        assert_eq!(distinct.len(), cells.len());
    }

    #[test]
    fn equal_values_have_one_digest_and_null_has_none() {
        assert_eq!(
            digest("t", "r", "n", Value::Number(-0.0)),
            digest("t", "r", "n", Value::Number(0.0))
        );
        assert_eq!(digest("t", "r", "n", Value::Null), 0);
    }
}
