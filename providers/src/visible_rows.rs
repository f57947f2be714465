//! The rows of a view as values, without clocks and in no order: what a digest or a rule looks at.
//!
//! **Invariant:** these are the rows that SQL shows; they are read as SQL reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use lakesync_proto::{ColumnName, RowId, Value};

use crate::error::{Error, Result};
use crate::lake::arrow_schema;
use crate::resolve::read_rows;
use crate::row_states::paged_session;
use crate::text_views::in_types_of;
use crate::union::UnionTable;
use crate::view::ReadView;

/// A row with the values of all its columns; a null stands for a cell that was never written, too.
pub type RowWithValues = (RowId, BTreeMap<ColumnName, Value>);

/// All rows of `view`, a batch at a time.
///
/// The stream's errors: when the base or the log cannot be read.
#[must_use]
pub fn visible_rows(view: &Arc<ReadView>) -> BoxStream<'static, Result<Vec<RowWithValues>>> {
    let view = Arc::clone(view);
    stream::once(async move {
        let ctx = paged_session(&view.warehouse);
        let table = UnionTable::new(Arc::clone(&view), None)?;
        let stored = arrow_schema(&view.base.table)?;
        let batches = ctx.read_table(Arc::new(table))?.execute_stream().await?;
        // Spilled files go with the session, so it lives as long as the batches.
        let read = move |batch| {
            let (_held, schema) = (&ctx, &view.schema);
            read_rows(schema, &in_types_of(&batch, &stored)?)
        };
        Ok::<_, Error>(batches.map_err(Error::from).map(move |batch| read(batch?)))
    })
    .try_flatten()
    .boxed()
}
