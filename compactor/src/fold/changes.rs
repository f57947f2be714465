//! The changes of a fold, as a stream of rows.
//!
//! ```text
//! _file  _pos  row_id  exists_with_base  exists_without_base  value_1  set_2  value_2  set_3  value_3 …
//! ```
//! | column | type | is |
//! |---|---|---|
//! | `_file` | Int32 | which of the base's data files has the row, by its index in [`BaseSnapshot`]'s list of them; null when none has |
//! | `_pos` | Int64 | its position in that file; null with `_file` |
//! | `row_id` | Utf8 | the row |
//! | `exists_with_base` | Boolean | whether the row exists from now on, when the base has it |
//! | `exists_without_base` | Boolean | the same, when the base does not have it |
//! | `value_k` | as in the base | for each key column k: its value, which the row id decides |
//! | `set_n` | Boolean | for every other user column n: true, and the value is `value_n`, null included; false, and it is the base's, or null when the base does not have the row |
//! | `value_n` | as in the base | as `set_n` says; without meaning when that is false |
//!
//! `k` and `n` are stable column numbers. The columns stand in the order of the schema, after the first five. Only `_file`,
//! `_pos` and values can be null. Rows come by (`_file`, `_pos`); those without a place last, in the order in which they
//! first arrived. Each row id comes once, and a place at most once.
//!
//! [`BaseSnapshot`]: lakesync_providers::BaseSnapshot
//!
//! **Invariant:** a row has a place only after its id was read there, and that position is not dead.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use lakesync_providers::proto::TableSchema;

/// One row for each row id that a fold touches.
pub struct Changes {
    /// The columns, as the table above says.
    pub schema: SchemaRef,
    /// The rows.
    pub stream: SendableRecordBatchStream,
    /// What is known of them before they are read.
    pub counts: ChangeCounts,
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("schema", &self.schema)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// How many rows a fold touches, and where.
///
/// They are what key indexes say: where two row ids have one hash of 64 bits, a row is counted for a file that does not
/// have it. So they are good for decisions, and not for the size of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// The touched rows of each data file of the base, in the order of its list.
    pub by_file: Vec<u64>,
    /// The touched rows that no file has.
    pub elsewhere: u64,
    /// The deltas that were folded.
    pub candidates: u64,
}

impl ChangeCounts {
    /// The touched rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.by_file.iter().sum::<u64>() + self.elsewhere
    }
}

/// The name of the column that says whether column `number` is set.
#[must_use]
pub fn set_column(number: u32) -> String {
    format!("set_{number}")
}

/// The name of the column with the values of column `number`.
#[must_use]
pub fn value_column(number: u32) -> String {
    format!("value_{number}")
}

/// The columns of the changes of a table with this schema, whose base has the Arrow schema `base`.
///
/// A column that the base does not have has no type, and is left out.
#[must_use]
pub fn change_schema(schema: &TableSchema, base: &Schema) -> SchemaRef {
    let mut fields = vec![
        Field::new("_file", DataType::Int32, true),
        Field::new("_pos", DataType::Int64, true),
        Field::new("row_id", DataType::Utf8, false),
        Field::new("exists_with_base", DataType::Boolean, false),
        Field::new("exists_without_base", DataType::Boolean, false),
    ];
    for column in &schema.columns {
        let Ok(known) = base.field_with_name(column.name.as_str()) else {
            continue;
        };
        if !schema.primary_key.contains(&column.name) {
            let set = set_column(column.number);
            fields.push(Field::new(set, DataType::Boolean, false));
        }
        let value = value_column(column.number);
        fields.push(Field::new(value, known.data_type().clone(), true));
    }
    Arc::new(Schema::new(fields))
}
