//! Checking a delta against its table's schema and its own id: the gate before anything is stored.
//!
//! Invariant: what passes here can be written to every store and read back: known columns, right types, legal values,
//! a row id that agrees with the key.

use crate::column_type::ColumnType;
use crate::delta::{ColumnChange, Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::error::ErrorCode;
use crate::hlc::Hlc;
use crate::id::{ColumnName, RowId, TableName};
use crate::row_id::RowIdError;
use crate::schema::{Column, TableSchema};
use crate::value::Value;
use crate::value_read::ValueError;

/// Checks a delta that came from outside: against the schema, and its id against its content.
///
/// # Errors
/// [`DeltaError`] with the first thing that is wrong.
pub fn verify_delta(delta: &RowDelta, schema: &TableSchema) -> Result<(), DeltaError> {
    schema.check(delta)?;
    let computed = delta.computed_id();
    match computed == delta.delta_id {
        true => Ok(()),
        false => Err(DeltaError::IdMismatch {
            given: delta.delta_id,
            computed,
        }),
    }
}

impl TableSchema {
    /// Checks a delta's columns, values and key. A column that was dropped may still be written.
    ///
    /// # Errors
    /// [`CheckError`] with the first thing that is wrong.
    pub fn check(&self, delta: &RowDelta) -> Result<(), CheckError> {
        if delta.table != self.table {
            let (expected, found) = (self.table.clone(), delta.table.clone());
            return Err(CheckError::OtherTable { expected, found });
        }
        if delta.hlc == Hlc::ZERO {
            return Err(CheckError::ZeroHlc);
        }
        if delta.op == Op::Delete && !delta.columns.is_empty() {
            return Err(CheckError::DeleteWithColumns);
        }
        self.check_columns(&delta.columns)?;
        self.check_key(delta)
    }

    fn check_columns(&self, changes: &[ColumnChange]) -> Result<(), CheckError> {
        let mut seen = vec![false; self.columns.len() + self.dropped.len()];
        let mut place = 0;
        for ColumnChange {
            column: name,
            value,
        } in changes
        {
            let found = self.find(name.as_str(), place);
            let (at, column) = found.ok_or_else(|| CheckError::UnknownColumn {
                column: name.clone(),
            })?;
            place = at + 1;
            if std::mem::replace(&mut seen[at], true) {
                return Err(CheckError::DuplicateColumn {
                    column: name.clone(),
                });
            }
            let expected = column.column_type;
            if !value.column_type_matches(expected) {
                let found = value.type_name();
                return Err(CheckError::WrongType {
                    column: name.clone(),
                    expected,
                    found,
                });
            }
            value.check().map_err(|source| CheckError::Value {
                column: name.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Finds a column, living before dropped, and its place in both lists together. The search starts at `hint`:
    /// clients list columns in the schema's order, so the next one is nearly always there.
    pub(crate) fn find(&self, name: &str, hint: usize) -> Option<(usize, &Column)> {
        let living = self.columns.len();
        let start = if hint < living { hint } else { 0 };
        let places = (start..living).chain(0..start);
        let all = places.chain((living..living + self.dropped.len()).rev());
        all.map(|place| {
            (
                place,
                self.columns
                    .get(place)
                    .unwrap_or_else(|| &self.dropped[place - living]),
            )
        })
        .find(|(_, column)| column.name == name)
    }

    /// The row id of a table with a key is one of its keys, and key columns that a delta repeats say the same.
    fn check_key(&self, delta: &RowDelta) -> Result<(), CheckError> {
        for (column, value) in self.key_values(&delta.row_id)? {
            if change(delta, &column).is_some_and(|told| *told != value) {
                return Err(CheckError::KeyDisagrees {
                    column,
                    row_id: delta.row_id.clone(),
                });
            }
        }
        Ok(())
    }
}

fn change<'a>(delta: &'a RowDelta, name: &ColumnName) -> Option<&'a Value> {
    delta
        .columns
        .iter()
        .find(|change| change.column == *name)
        .map(|change| &change.value)
}

/// Why a delta does not fit its table.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The delta is of another table.
    #[error("the delta is of table {found}, the schema of {expected}")]
    OtherTable {
        /// The schema's table.
        expected: TableName,
        /// The delta's table.
        found: TableName,
    },
    /// The delta is stamped 0, which is the stamp of settled cells; protobuf reads a missing HLC so.
    #[error("HLC 0 is older than anything acceptable: the delta has no clock")]
    ZeroHlc,
    /// The table has no such column and never had one.
    #[error("the table has no column {column}")]
    UnknownColumn {
        /// The column.
        column: ColumnName,
    },
    /// A column is listed twice.
    #[error("column {column} is there twice")]
    DuplicateColumn {
        /// The column.
        column: ColumnName,
    },
    /// A value has another type than its column.
    #[error("column {column} is {expected}, the value is {found}")]
    WrongType {
        /// The column.
        column: ColumnName,
        /// Its type.
        expected: ColumnType,
        /// What the value is.
        found: &'static str,
    },
    /// A value is not legal.
    #[error("column {column}: {source}")]
    Value {
        /// The column.
        column: ColumnName,
        /// What is wrong with the value.
        source: ValueError,
    },
    /// A DELETE has columns.
    #[error("a DELETE has no columns")]
    DeleteWithColumns,
    /// A key column says otherwise than the row id.
    #[error(
        "key column {column} says otherwise than the row id {row_id:?}; a key never changes: delete the row and insert the new one"
    )]
    KeyDisagrees {
        /// The key column.
        column: ColumnName,
        /// The delta's row id.
        row_id: RowId,
    },
    /// The row id is none of the table's keys.
    #[error(transparent)]
    RowId(#[from] RowIdError),
}

/// Why a delta from outside was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DeltaError {
    /// It does not fit its table.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// Its id is not the hash of its content.
    #[error("the delta id is {given}, but the content hashes to {computed}")]
    IdMismatch {
        /// What the sender claims.
        given: DeltaId,
        /// What it is.
        computed: DeltaId,
    },
}

impl DeltaError {
    /// The wire code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            DeltaError::Check(_) => ErrorCode::SchemaError,
            DeltaError::IdMismatch { .. } => ErrorCode::DeltaIdMismatch,
        }
    }
}
