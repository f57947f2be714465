//! The equality deletes of a foreign snapshot: the columns that they compare.
//!
//! **Invariant:** a column that a delete names is compared, whether the table still shows it or not.

use std::sync::Arc;

use datafusion::common::Column;

use super::layout::Layout;
use crate::error::{Error, Result};
use crate::lake::DataFileInfo;
use crate::scan::applies;

/// The indexes of the equality deletes that apply to a data file.
pub(super) fn applicable(data: &DataFileInfo, deletes: &[DataFileInfo]) -> Vec<usize> {
    let applying = deletes.iter().enumerate();
    let applying = applying.filter(|(_, delete)| applies(delete, data));
    applying.map(|(at, _)| at).collect()
}

/// The columns that some equality deletes compare.
pub(super) struct Equality {
    /// Those of the delete files.
    pub(super) layout: Layout,
    /// Their names in the table.
    pub(super) columns: Vec<Column>,
    /// Their names in the delete files' scan.
    pub(super) deleted: Vec<Column>,
}

impl Equality {
    /// Of deletes by these fields of the table.
    pub(super) fn of(table: &Layout, ids: &[i32]) -> Result<Self> {
        let mut fields = Vec::with_capacity(ids.len());
        let (mut columns, mut deleted) = (Vec::new(), Vec::new());
        for id in ids {
            let known = table.field(*id).ok_or_else(|| Error::ForeignFile {
                table: id.to_string(),
                reason:
                    "an equality delete names a field inside another one, which is not read here"
                        .to_owned(),
            })?;
            let name = format!("\0deleted {}", known.name());
            columns.push(Column::new_unqualified(known.name()));
            deleted.push(Column::new_unqualified(&name));
            let field = known.as_ref().clone().with_name(name).with_nullable(true);
            fields.push(Arc::new(field));
        }
        Ok(Self {
            layout: Layout::only(fields),
            columns,
            deleted,
        })
    }
}
