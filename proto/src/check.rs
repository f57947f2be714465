//! Checking a delta against its table's schema and its own id: the gate before anything is stored.
//!
//! Invariant: what passes here can be written to every store and read back: known columns, right types, legal values,
//! a row id that agrees with the key.

use serde_json::value::RawValue;

use crate::column_type::ColumnType;
use crate::delta::{ColumnChange, Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::error::ErrorCode;
use crate::hlc::Hlc;
use crate::id::{ColumnName, RowId, TableName};
use crate::row_id::{RowIdError, element, row_id_of};
use crate::schema::{Column, TableSchema};
use crate::value::{Value, ValueError};

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
        match (delta.op, self.primary_key.is_empty()) {
            (_, true) | (Op::Delete, _) => Ok(()),
            (Op::Insert, _) => self.check_whole_key(delta),
            (Op::Update, _) => self.check_key_unchanged(delta),
        }
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

    /// An INSERT brings its key, and the key makes the row id.
    fn check_whole_key(&self, delta: &RowDelta) -> Result<(), CheckError> {
        let value = |name| {
            change(delta, name).ok_or_else(|| CheckError::MissingKey {
                column: ColumnName::clone(name),
            })
        };
        let key: Vec<&Value> = self
            .primary_key
            .iter()
            .map(value)
            .collect::<Result<_, _>>()?;
        let expected = row_id_of(&key)?;
        match expected == delta.row_id {
            true => Ok(()),
            false => Err(CheckError::KeyDisagrees {
                row_id: delta.row_id.clone(),
                expected,
            }),
        }
    }

    /// An UPDATE may repeat key columns but not change them: another key is another row.
    fn check_key_unchanged(&self, delta: &RowDelta) -> Result<(), CheckError> {
        let composite = self.primary_key.len() > 1;
        // Read once, and only when needed: nearly no UPDATE touches its key.
        let mut elements: Option<Vec<&RawValue>> = None;
        for (position, name) in self.primary_key.iter().enumerate() {
            let Some(value) = change(delta, name) else {
                continue;
            };
            let row_id = delta.row_id.as_str();
            let same = if composite {
                let elements = elements.get_or_insert_with(|| elements_of(row_id));
                let now = elements.get(position).map(|raw| raw.get());
                elements.len() == self.primary_key.len() && now == Some(&*element(value, position)?)
            } else {
                row_id_of(&[value])? == row_id
            };
            if !same {
                return Err(CheckError::KeyChanged {
                    column: name.clone(),
                    row_id: delta.row_id.clone(),
                });
            }
        }
        Ok(())
    }
}

/// The elements of a composite key's row id; none when the text is not what [`row_id_of`] writes.
fn elements_of(row_id: &str) -> Vec<&RawValue> {
    let elements: Vec<&RawValue> = serde_json::from_str(row_id).unwrap_or_default();
    let bytes: usize = elements.iter().map(|raw| raw.get().len() + 1).sum();
    // Each element and its comma or closing bracket, and the opening one: there is no room for a space.
    if bytes + 1 == row_id.len() {
        elements
    } else {
        Vec::new()
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
    /// An INSERT lacks a key column.
    #[error("an INSERT needs its key column {column}")]
    MissingKey {
        /// The key column.
        column: ColumnName,
    },
    /// The key columns make another row id.
    #[error("the row id is {row_id:?}, but the key columns make {expected:?}")]
    KeyDisagrees {
        /// The delta's row id.
        row_id: RowId,
        /// The row id of its key columns.
        expected: RowId,
    },
    /// An UPDATE changes its key.
    #[error(
        "key column {column} of row {row_id:?} cannot change: delete the row and insert the new one"
    )]
    KeyChanged {
        /// The key column.
        column: ColumnName,
        /// The delta's row id.
        row_id: RowId,
    },
    /// The key columns make no row id.
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
