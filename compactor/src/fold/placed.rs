//! Changes with the places that their keys say, each confirmed.
//!
//! **Invariant:** a row leaves with a place only when its id was read there; the others come after all that have one.
//! Rows that change nothing are left out.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, BooleanArray, Int32Array, Int64Array, StringArray,
};
use datafusion::arrow::compute::{and, cast, filter_record_batch, is_not_null, not, or};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{TryStreamExt as _, stream};
use lakesync_providers::{PlaceCheck, Places};

/// Columns of the changes before those of the table's: `_file`, `_pos`, `row_id` and whether the row exists.
const OWN_COLUMNS: usize = 5;

/// The stream on its way.
struct Placing {
    /// `_key`, `row_id` and the rest of the changes, by key.
    keyed: SendableRecordBatchStream,
    check: PlaceCheck,
    schema: SchemaRef,
    /// Rows whose key said a place where another row is: there are hardly ever any.
    elsewhere: Vec<RecordBatch>,
}

/// The changes of `keyed`, which have `_key` where `schema` has a place.
pub(crate) fn placed(
    keyed: SendableRecordBatchStream,
    check: PlaceCheck,
    schema: &SchemaRef,
) -> SendableRecordBatchStream {
    let placing = Placing {
        keyed,
        check,
        schema: Arc::clone(schema),
        elsewhere: Vec::new(),
    };
    let rows = stream::try_unfold(placing, |mut placing| async move {
        let next = placing.next().await?;
        Ok(next.map(|batch| (batch, placing)))
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows))
}

impl Placing {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(batch) = self.keyed.try_next().await? {
            let placed = self.place(&batch).await?;
            if placed.num_rows() > 0 {
                return Ok(Some(placed));
            }
        }
        Ok(self.elsewhere.pop())
    }

    async fn place(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let ids: &StringArray = batch.column(1).as_string::<i32>();
        let confirmed = self.check.confirm(keys.values(), ids).await;
        let confirmed = confirmed.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let places = |row: usize| {
            let place = Places::of_key(keys.value(row));
            (place, confirmed.value(row))
        };
        let (mut files, mut positions) = (Vec::new(), Vec::new());
        let mut misplaced = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let (place, holds) = places(row);
            let place = place.filter(|_| holds);
            files.push(place.map(|(file, _)| file));
            positions.push(place.map(|(_, position)| position));
            misplaced.push(!holds && Places::of_key(keys.value(row)).is_some());
        }
        let rows = self.with_places(batch, files.into(), positions.into())?;
        let changed = changing(&rows)?;
        let misplaced = BooleanArray::from(misplaced);
        if misplaced.true_count() > 0 {
            let some = filter_record_batch(&rows, &and(&changed, &misplaced)?)?;
            self.elsewhere.extend((some.num_rows() > 0).then_some(some));
        }
        Ok(filter_record_batch(
            &rows,
            &and(&changed, &not(&misplaced)?)?,
        )?)
    }

    fn with_places(
        &self,
        batch: &RecordBatch,
        files: Int32Array,
        positions: Int64Array,
    ) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(files), Arc::new(positions)];
        let given = batch.columns()[1..].iter();
        for (column, field) in given.zip(&self.schema.fields()[2..]) {
            columns.push(match column.data_type() == field.data_type() {
                true => Arc::clone(column),
                false => cast(column, field.data_type())?,
            });
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

/// Which rows change anything: one that is there is deleted or has a cell set, one that is not comes into being.
fn changing(rows: &RecordBatch) -> Result<BooleanArray> {
    let flags = |at: usize| rows.column(at).as_boolean();
    let there = is_not_null(rows.column(0))?;
    let mut set = not(flags(3))?;
    for (column, field) in rows
        .columns()
        .iter()
        .zip(rows.schema_ref().fields())
        .skip(OWN_COLUMNS)
    {
        if field.name().starts_with("set_") {
            set = or(&set, column.as_boolean())?;
        }
    }
    let changed = and(&there, &set)?;
    let made = and(&not(&there)?, flags(4))?;
    Ok(or(&changed, &made)?)
}
