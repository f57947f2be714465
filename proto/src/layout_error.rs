//! Why a partitioning or a sort order was refused.
//!
//! **Invariant**: each says what was wrong, with the field or the column, and what to do.

use crate::column_type::ColumnType;
use crate::error::shown;
use crate::id::ColumnName;
use crate::layout::PartitionField;
use crate::limits::{BUCKETS_MAX, LAYOUT_FIELDS_MAX, TRUNCATE_WIDTH_MAX};

/// Why a partitioning or a sort order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The text is no field.
    #[error("{text:?} is no {what}")]
    Text {
        /// The refused text, shortened.
        text: String,
        /// What it should have been, in words.
        what: String,
    },
    /// There are too many fields.
    #[error(
        "a table has at most {LAYOUT_FIELDS_MAX} partition fields and as many sort columns, here are {count}"
    )]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// The column is none of the table.
    #[error("`{field}`: the table has no column {column}")]
    ColumnUnknown {
        /// The field.
        field: String,
        /// The column.
        column: ColumnName,
    },
    /// The column's type does not go with the field.
    #[error("`{field}`: column {column} is {column_type}; {advice}")]
    Type {
        /// The field.
        field: String,
        /// The column.
        column: ColumnName,
        /// Its type.
        column_type: ColumnType,
        /// What would go.
        advice: &'static str,
    },
    /// Two fields say the same, or one contains the other.
    #[error(
        "`{field}`: column {column} is there already in a field of that kind; keep one of them"
    )]
    Redundant {
        /// The later field.
        field: String,
        /// The column.
        column: ColumnName,
    },
    /// A column has the name that a partition field must have.
    #[error(
        "column {column} has the name of the partition field `{field}`; name the column otherwise"
    )]
    NameTaken {
        /// The column.
        column: ColumnName,
        /// The field.
        field: PartitionField,
    },
    /// The table has another layout.
    #[error(
        "the table is {held} and cannot become {wished}: its files lie so; make a new table and copy the rows"
    )]
    Changed {
        /// The layout now, in words.
        held: String,
        /// The layout wished, in words.
        wished: String,
    },
    /// A column that the layout needs would be dropped.
    #[error("column {column} decides how the table's files lie (`{field}`) and cannot be dropped")]
    ColumnDropped {
        /// The column.
        column: ColumnName,
        /// The field that needs it.
        field: String,
    },
}

impl LayoutError {
    pub(crate) fn partition(text: &str) -> LayoutError {
        let what = format!(
            "partition field: a column, year(c), month(c), day(c), hour(c), bucket(n, c) with n up to {BUCKETS_MAX} and \
             truncate(n, c) with n up to {TRUNCATE_WIDTH_MAX} exist"
        );
        let text = shown(text);
        LayoutError::Text { text, what }
    }

    pub(crate) fn sort(text: &str) -> LayoutError {
        let what =
            "sort field: a column with or without asc or desc, then nulls first or nulls last";
        let (text, what) = (shown(text), what.to_owned());
        LayoutError::Text { text, what }
    }

    /// Whether the wish is sound but contradicts the table as it is.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            LayoutError::Changed { .. } | LayoutError::ColumnDropped { .. }
        )
    }
}
