//! `t$partitions`: the partitions that have live files, with what is in them.
//!
//! | column | is |
//! |---|---|
//! | `kind` | `base` or `log`; a log is always partitioned, by the day of arrival |
//! | `partition`, `spec_id` | `name=value/…`; the spec it follows |
//! | `rows`, `files`, `bytes` | of its data files |
//! | `delete_files` | of its position and equality deletes |

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Int32Array, Int64Array, StringArray};
use datafusion::catalog::MemTable;
use iceberg::spec::DataContentType;

use super::bounds::partition;
use super::files::live;
use super::{Nulls, in_columns};
use crate::error::Result;
use crate::view::ReadView;

#[derive(Default)]
struct Sums {
    rows: u64,
    files: u64,
    bytes: u64,
    delete_files: u64,
}

/// The table `t$partitions` of a view, by kind and partition.
pub(super) async fn partitions(view: &ReadView) -> Result<MemTable> {
    let mut found: BTreeMap<(&'static str, String, i32), Sums> = BTreeMap::new();
    for (side, file) in &live(view).await? {
        let Some(partition) = partition(side.table, file) else {
            continue;
        };
        let sums = found
            .entry((side.kind, partition, file.spec_id))
            .or_default();
        match file.content {
            DataContentType::Data => {
                sums.rows += file.rows;
                sums.bytes += file.bytes;
                sums.files += 1;
            }
            _ => sums.delete_files += 1,
        }
    }
    let longs = |of: fn(&Sums) -> u64| {
        let values = found.values().map(|sums| i64::try_from(of(sums)).ok());
        Arc::new(values.collect::<Int64Array>())
    };
    let kind = StringArray::from_iter_values(found.keys().map(|(kind, _, _)| kind));
    let names = StringArray::from_iter_values(found.keys().map(|(_, partition, _)| partition));
    let specs = Int32Array::from_iter_values(found.keys().map(|(_, _, spec)| *spec));
    in_columns(vec![
        ("kind", Arc::new(kind), Nulls::Never),
        ("partition", Arc::new(names), Nulls::Never),
        ("spec_id", Arc::new(specs), Nulls::Never),
        ("rows", longs(|sums| sums.rows), Nulls::Some),
        ("files", longs(|sums| sums.files), Nulls::Some),
        ("bytes", longs(|sums| sums.bytes), Nulls::Some),
        ("delete_files", longs(|sums| sums.delete_files), Nulls::Some),
    ])
}
