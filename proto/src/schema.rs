//! A table's schema: columns with numbers that never change their meaning.
//!
//! Invariant: a column number names one column for ever. It is the bit in the log's `_set` bitmap and the key of the
//! Iceberg field ids, so a name that is dropped and added again gets a new number.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::column_type::ColumnType;
use crate::definition::{ColumnDefinition, TableDefinition};
use crate::error::ErrorCode;
use crate::id::{ColumnName, RowId, TableName};
use crate::layout::{self, PartitionField, SortField};
use crate::layout_error::LayoutError;
use crate::limits::{COLUMN_NUMBERS_MAX, COLUMNS_MAX};
use crate::row_id::{RowIdError, row_id_of};
use crate::value::Value;

/// The version of the native JSON form.
const FORMAT: u32 = 1;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: ColumnName,
    /// Its type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Its number, from 1, never reused.
    pub number: u32,
}

/// A table as it is now. Serde writes and reads the native form of [`TableSchema::to_json`], checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NativeSchema", into = "NativeSchema")]
pub struct TableSchema {
    /// Its name.
    pub table: TableName,
    /// Counts the schema's changes, from 1.
    pub version: u32,
    /// The columns, oldest first.
    pub columns: Vec<Column>,
    /// The columns whose values make the row id; none when the client chooses row ids.
    pub primary_key: Vec<ColumnName>,
    /// Columns that were dropped, oldest first: writes to them are still read, kept in the log, and shown nowhere.
    pub dropped: Vec<Column>,
    /// The number of the next new column.
    pub next_number: u32,
    /// How the rows of the base are divided; empty when they are not.
    pub partition_by: Vec<PartitionField>,
    /// How the rows of the base's files are sorted; empty when they are not.
    pub sort_by: Vec<SortField>,
}

impl TableSchema {
    /// The first version of a table.
    ///
    /// # Errors
    /// [`SchemaError`] for no columns, too many, two of the same name in any case (SQLite knows no case), a key
    /// column that is not there or of type `json`, or a layout that the columns cannot have.
    pub fn from_definition(definition: &TableDefinition) -> Result<TableSchema, SchemaError> {
        let mut schema = TableSchema {
            table: definition.table.clone(),
            version: 1,
            columns: Vec::with_capacity(definition.columns.len()),
            primary_key: definition.primary_key.clone(),
            dropped: Vec::new(),
            next_number: 1,
            partition_by: definition.partition_by.clone().unwrap_or_default(),
            sort_by: definition.sort_by.clone().unwrap_or_default(),
        };
        for column in &definition.columns {
            schema.add(column)?;
        }
        schema.check_shape()?;
        Ok(schema)
    }

    /// The definition that this schema satisfies.
    pub fn definition(&self) -> TableDefinition {
        let definition = |column: &Column| ColumnDefinition {
            name: column.name.clone(),
            column_type: column.column_type,
        };
        TableDefinition {
            table: self.table.clone(),
            columns: self.columns.iter().map(definition).collect(),
            primary_key: self.primary_key.clone(),
            partition_by: Some(self.partition_by.clone()).filter(|fields| !fields.is_empty()),
            sort_by: Some(self.sort_by.clone()).filter(|fields| !fields.is_empty()),
        }
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The column of this name that was dropped last, when there is none now.
    pub fn dropped_column(&self, name: &str) -> Option<&Column> {
        match self.column(name) {
            Some(_) => None,
            None => self.dropped.iter().rev().find(|column| column.name == name),
        }
    }

    /// The row id of a row, from a way to read its columns by name; none when the table has no primary key.
    ///
    /// # Errors
    /// [`RowIdError`] when a key column is missing or makes no row id.
    pub fn row_id(
        &self,
        values: &dyn Fn(&str) -> Option<Value>,
    ) -> Result<Option<RowId>, RowIdError> {
        if self.primary_key.is_empty() {
            return Ok(None);
        }
        let value = |column: &ColumnName| {
            values(column.as_str()).ok_or_else(|| RowIdError::Missing {
                column: column.to_string(),
            })
        };
        let key: Vec<Value> = self
            .primary_key
            .iter()
            .map(value)
            .collect::<Result<_, _>>()?;
        row_id_of(&key.iter().collect::<Vec<_>>()).map(Some)
    }

    /// The native form, with numbers and version: one line of JSON, kept in the lake.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("names, types and numbers are plain JSON")
    }

    /// Reads the native form.
    ///
    /// # Errors
    /// [`SchemaError`] on malformed text, a newer format, or a schema that breaks its own rules.
    pub fn from_json(text: &str) -> Result<TableSchema, SchemaError> {
        let malformed = |e: serde_json::Error| SchemaError::Malformed {
            reason: e.to_string(),
        };
        let native: NativeSchema = serde_json::from_str(text).map_err(malformed)?;
        TableSchema::try_from(native)
    }

    /// The SHA-256 of the native form: equal on two sides that know the same schema.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.to_json()).into()
    }

    /// Adds a column under the next number.
    pub(crate) fn add(&mut self, definition: &ColumnDefinition) -> Result<&Column, SchemaError> {
        let number = self.next_number;
        if number > COLUMN_NUMBERS_MAX {
            return Err(SchemaError::NumbersExhausted {
                limit: COLUMN_NUMBERS_MAX,
            });
        }
        self.next_number += 1;
        let ColumnDefinition { name, column_type } = definition.clone();
        self.columns.push(Column {
            name,
            column_type,
            number,
        });
        Ok(self.columns.last().expect("it was pushed just now"))
    }

    /// The rules that every schema keeps.
    pub(crate) fn check_shape(&self) -> Result<(), SchemaError> {
        match self.columns.len() {
            0 => return Err(SchemaError::NoColumns),
            count if count > COLUMNS_MAX => {
                return Err(SchemaError::TooManyColumns {
                    count,
                    limit: COLUMNS_MAX,
                });
            }
            _ => {}
        }
        let mut names = BTreeSet::new();
        for column in &self.columns {
            if !names.insert(column.name.as_str().to_ascii_lowercase()) {
                return Err(SchemaError::DuplicateColumn {
                    column: column.name.clone(),
                });
            }
        }
        for (i, name) in self.primary_key.iter().enumerate() {
            let column = self.column(name.as_str());
            let column = column.ok_or_else(|| SchemaError::KeyColumnUnknown {
                column: name.clone(),
            })?;
            if column.column_type == ColumnType::Json {
                return Err(SchemaError::KeyColumnJson {
                    column: name.clone(),
                });
            }
            if self.primary_key[..i].contains(name) {
                return Err(SchemaError::DuplicateColumn {
                    column: name.clone(),
                });
            }
        }
        Ok(layout::check(self)?)
    }
}

/// The native JSON form; a layout stands in it only when there is one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NativeSchema {
    format: u32,
    table: TableName,
    version: u32,
    columns: Vec<Column>,
    primary_key: Vec<ColumnName>,
    dropped: Vec<Column>,
    next_number: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partition_by: Vec<PartitionField>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sort_by: Vec<SortField>,
}

impl From<TableSchema> for NativeSchema {
    fn from(schema: TableSchema) -> NativeSchema {
        let TableSchema {
            table,
            version,
            columns,
            primary_key,
            dropped,
            next_number,
            partition_by,
            sort_by,
        } = schema;
        NativeSchema {
            format: FORMAT,
            table,
            version,
            columns,
            primary_key,
            dropped,
            next_number,
            partition_by,
            sort_by,
        }
    }
}

impl TryFrom<NativeSchema> for TableSchema {
    type Error = SchemaError;

    fn try_from(native: NativeSchema) -> Result<TableSchema, SchemaError> {
        let NativeSchema {
            format,
            table,
            version,
            columns,
            primary_key,
            dropped,
            next_number,
            partition_by,
            sort_by,
        } = native;
        if format != FORMAT {
            return Err(SchemaError::OtherFormat {
                format,
                supported: FORMAT,
            });
        }
        let mut numbers = BTreeSet::new();
        for column in columns.iter().chain(&dropped) {
            if column.number == 0 || column.number >= next_number || !numbers.insert(column.number)
            {
                let reason = format!(
                    "column {} cannot have number {}",
                    column.name, column.number
                );
                return Err(SchemaError::Malformed { reason });
            }
        }
        if version == 0 {
            return Err(SchemaError::Malformed {
                reason: "versions count from 1".to_owned(),
            });
        }
        let schema = TableSchema {
            table,
            version,
            columns,
            primary_key,
            dropped,
            next_number,
            partition_by,
            sort_by,
        };
        schema.check_shape()?;
        Ok(schema)
    }
}

/// Why a schema or a change of one was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The text is no schema.
    #[error("Invalid schema: {reason}")]
    Malformed {
        /// What is wrong, with the place where there is one.
        reason: String,
    },
    /// The stored schema was written by another version of the program.
    #[error("the schema has format {format}, this program reads format {supported}")]
    OtherFormat {
        /// The format found.
        format: u32,
        /// The format that can be read.
        supported: u32,
    },
    /// There are no columns.
    #[error("a table needs a non-empty list of columns")]
    NoColumns,
    /// There are too many columns.
    #[error("the table has {count} columns, {limit} are allowed")]
    TooManyColumns {
        /// How many there are.
        count: usize,
        /// How many may be.
        limit: usize,
    },
    /// The table has used up its column numbers by adding and dropping.
    #[error("the table has used all of its {limit} column numbers: make a new table")]
    NumbersExhausted {
        /// How many there are.
        limit: u32,
    },
    /// Two columns, or two key columns, have the same name, case ignored.
    #[error("column {column} is there twice (names are compared without case)")]
    DuplicateColumn {
        /// The second of them.
        column: ColumnName,
    },
    /// A key column is no column of the table.
    #[error("primary key column {column} is no column of the table")]
    KeyColumnUnknown {
        /// The key column.
        column: ColumnName,
    },
    /// A key column has a type that makes no row id.
    #[error("primary key column {column} is json, which makes no row id")]
    KeyColumnJson {
        /// The key column.
        column: ColumnName,
    },
    /// The definition is of another table.
    #[error("the definition is of table {found}, not of {expected}")]
    OtherTable {
        /// The table to change.
        expected: TableName,
        /// The table defined.
        found: TableName,
    },
    /// The primary key would change.
    #[error("the primary key is {from:?} and cannot become {to:?}: row ids never change")]
    KeyChanged {
        /// The key now.
        from: Vec<ColumnName>,
        /// The key wished.
        to: Vec<ColumnName>,
    },
    /// A key column would be dropped.
    #[error("column {column} belongs to the primary key and cannot be dropped")]
    KeyColumnDropped {
        /// The key column.
        column: ColumnName,
    },
    /// A column's type would change other than by widening.
    #[error(
        "column {column} is {from} and cannot become {to}: only a decimal's precision can grow"
    )]
    TypeChanged {
        /// The column.
        column: ColumnName,
        /// Its type now.
        from: ColumnType,
        /// The type wished.
        to: ColumnType,
    },
    /// The rows cannot lie so.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl SchemaError {
    /// The wire code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self.is_conflict() {
            true => ErrorCode::SchemaConflict,
            false => ErrorCode::SchemaError,
        }
    }

    /// Whether the definition is sound but contradicts the table as it is.
    pub fn is_conflict(&self) -> bool {
        match self {
            SchemaError::OtherTable { .. }
            | SchemaError::KeyChanged { .. }
            | SchemaError::KeyColumnDropped { .. }
            | SchemaError::TypeChanged { .. }
            | SchemaError::NumbersExhausted { .. } => true,
            SchemaError::Layout(error) => error.is_conflict(),
            _ => false,
        }
    }
}
