//! What the manifests of a table say of all its rows: counts and extremes are answered from it, without a scan.
//!
//! **Invariant:** what is exact is so for every row of the files. Bounds of texts may be shortened, and a bound of zero
//! has lost its sign, so those are estimates.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use crate::lake::DataFileInfo;

/// Of files with these bounds (see `file_bounds`), one for each.
pub(crate) fn table_statistics(
    schema: &Schema,
    files: &[DataFileInfo],
    bounds: &[Option<Arc<Statistics>>],
) -> Statistics {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let bounds: Vec<Option<&Statistics>> = files
        .iter()
        .zip(bounds)
        .filter(|(file, _)| file.rows > 0)
        .map(|(_, bounds)| bounds.as_deref())
        .collect();
    let columns = schema.fields().iter().enumerate();
    Statistics {
        num_rows: usize::try_from(rows).map_or(Precision::Absent, Precision::Exact),
        total_byte_size: Precision::Absent,
        column_statistics: columns
            .map(|(at, field)| column(field, at, &bounds))
            .collect(),
    }
}

fn column(field: &Field, at: usize, files: &[Option<&Statistics>]) -> ColumnStatistics {
    let mut nulls = Precision::Exact(0);
    let mut least: Option<Precision<ScalarValue>> = None;
    let mut greatest: Option<Precision<ScalarValue>> = None;
    for file in files {
        // A file that was written before the column was added does not tell.
        let Some(file) = file else {
            return ColumnStatistics::new_unknown();
        };
        let column = &file.column_statistics[at];
        nulls = nulls.add(&column.null_count);
        if column.null_count == file.num_rows && nulls != Precision::Absent {
            continue;
        }
        least = Some(match least {
            None => column.min_value.clone(),
            Some(known) => known.min(&column.min_value),
        });
        greatest = Some(match greatest {
            None => column.max_value.clone(),
            Some(known) => known.max(&column.max_value),
        });
    }
    if spans_all(least.as_ref(), greatest.as_ref()) {
        (least, greatest) = (None, None);
    }
    let known = |extreme: Option<Precision<ScalarValue>>| match extreme {
        Some(extreme) if is_exact(field.data_type()) => extreme,
        Some(extreme) => extreme.to_inexact(),
        None => Precision::Absent,
    };
    ColumnStatistics::new_unknown()
        .with_null_count(nulls)
        .with_min_value(known(least))
        .with_max_value(known(greatest))
}

/// Whether there are as many values between both as 64 bits can count: DataFusion 53.1 adds one to that when it guesses
/// how many of them a filter lets through, and overflows.
fn spans_all(
    least: Option<&Precision<ScalarValue>>,
    greatest: Option<&Precision<ScalarValue>>,
) -> bool {
    let values = least.and_then(Precision::get_value);
    let values = values.zip(greatest.and_then(Precision::get_value));
    values.is_some_and(|(least, greatest)| least.distance(greatest) == Some(usize::MAX))
}

/// Whether a bound of a column of this type is one of its values.
fn is_exact(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Timestamp(..)
            | DataType::Decimal128(..)
    )
}
