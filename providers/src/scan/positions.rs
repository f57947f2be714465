//! Masks of rows whose positions somebody else knows: those of delete files.
//!
//! **Invariant:** a position beyond the end of its file masks nothing.

use std::collections::HashMap;

use datafusion::prelude::SessionContext;

use super::data_file::{DataFile, row_groups};
use super::key_index::wide;
use super::mask::Masks;
use crate::error::{Error, Result};
use crate::files::ParquetTable;

/// Leaves these rows, ascending, out of the files of `table` that they are named for.
///
/// # Errors
/// When a footer cannot be read or counts more rows in a group than 32 bits do.
pub(crate) async fn masks(
    ctx: &SessionContext,
    table: &ParquetTable,
    positions: &HashMap<String, Vec<u32>>,
) -> Result<Masks> {
    let mut masks = Masks::default();
    for at in 0..table.files().len() {
        let path = &table.files()[at].path;
        let Some(places) = positions.get(path) else {
            continue;
        };
        let file = DataFile {
            task: ctx.task_ctx(),
            table: table.clone(),
            at,
        };
        let row_groups = row_groups(file.footer().await?.as_ref());
        let row_groups = row_groups.ok_or_else(|| Error::ForeignFile {
            table: path.clone(),
            reason: "a row group of it has more rows than can be counted".to_owned(),
        })?;
        let rows: usize = row_groups.iter().copied().map(wide).sum();
        let within = places.partition_point(|place| wide(*place) < rows);
        if within > 0 {
            masks.add(path, &row_groups, &places[..within]);
        }
    }
    Ok(masks)
}
