//! A place in a stream of changes, which come by file and position.
//!
//! **Invariant:** no change is passed over, and one that comes out of its order is an error.

use datafusion::arrow::array::{Array as _, AsArray as _, Int32Array, Int64Array, RecordBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Int32Type, Int64Type};
use datafusion::error::{DataFusionError, Result};
use futures::TryStreamExt as _;

use crate::fold::Changes;

/// Bytes of changes that are gathered before they are applied (32 MiB), and at most a batch of the stream more.
const BYTES_AT_ONCE: usize = 32 << 20;

/// Rows of changes that are gathered before they are applied, and at most a batch of the stream more.
const ROWS_AT_ONCE: usize = 64 << 10;

/// How many changes are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of the file below this position: those of one batch of its rows.
    Below(u32),
    /// As many as are worth to be applied together.
    Enough,
}

/// Where changes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// In the file with this number.
    File(usize),
    /// In no file: they come last.
    Nowhere,
}

/// Rows of changes of one place, with their positions when it is a file.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) rows: RecordBatch,
    /// Ascending; empty when the rows have no place.
    pub(super) positions: Vec<u32>,
}

/// The rest of a stream of changes.
pub(super) struct Cursor {
    changes: Changes,
    /// Rows that were read and not yet taken.
    batch: Option<RecordBatch>,
    /// The last one that was taken.
    last: Option<(Place, u32)>,
}

impl Cursor {
    pub(super) fn new(changes: Changes) -> Self {
        Self {
            changes,
            batch: None,
            last: None,
        }
    }

    /// Where the next change is; none at the end.
    pub(super) async fn place(&mut self) -> Result<Option<Place>> {
        while self.batch.is_none() {
            match self.changes.stream.try_next().await? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => self.batch = Some(batch),
                None => return Ok(None),
            }
        }
        let Some(batch) = &self.batch else {
            return Ok(None);
        };
        Ok(Some(place(files(batch), 0)?))
    }

    /// The next changes at `at`, whatever batches they come in; none when the next change is elsewhere.
    pub(super) async fn gather(&mut self, at: Place, extent: Extent) -> Result<Option<Run>> {
        let below = match extent {
            Extent::Below(position) => position,
            Extent::Enough => u32::MAX,
        };
        let Some(first) = self.take(at, below).await? else {
            return Ok(None);
        };
        let schema = first.rows.schema();
        let (mut rows, mut bytes) = (first.rows.num_rows(), bytes_of(&first.rows));
        let mut positions = first.positions;
        let mut batches = vec![first.rows];
        let enough = |rows, bytes| match extent {
            Extent::Below(_) => false,
            Extent::Enough => rows >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE,
        };
        while !enough(rows, bytes) {
            let Some(next) = self.take(at, below).await? else {
                break;
            };
            rows += next.rows.num_rows();
            bytes += bytes_of(&next.rows);
            positions.extend(next.positions);
            batches.push(next.rows);
        }
        let rows = match &batches[..] {
            [one] => one.clone(),
            several => concat_batches(&schema, several)?,
        };
        Ok(Some(Run { rows, positions }))
    }

    /// The next changes in one batch of the stream that are at `at`, in a file only those below a position; none when
    /// the next change is elsewhere.
    async fn take(&mut self, at: Place, below: u32) -> Result<Option<Run>> {
        if self.place().await? != Some(at) {
            return Ok(None);
        }
        let Some(batch) = self.batch.take() else {
            return Ok(None);
        };
        let mut positions = Vec::new();
        let mut rows = 0;
        while rows < batch.num_rows() && place(files(&batch), rows)? == at {
            if matches!(at, Place::File(_)) {
                let position = position(&batch, rows)?;
                if position >= below {
                    break;
                }
                let after = self.last.is_none_or(|last| last < (at, position));
                if !after {
                    return Err(disorder());
                }
                self.last = Some((at, position));
                positions.push(position);
            }
            rows += 1;
        }
        let taken = batch.slice(0, rows);
        if rows < batch.num_rows() {
            self.batch = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        if at == Place::Nowhere {
            self.last = Some((at, 0));
        }
        Ok((rows > 0).then_some(Run {
            rows: taken,
            positions,
        }))
    }
}

/// What the rows take, a share of the buffers that they are slices of.
fn bytes_of(rows: &RecordBatch) -> usize {
    let bytes = rows.columns().iter().map(|column| {
        let data = column.to_data();
        data.get_slice_memory_size()
            .unwrap_or_else(|_| column.get_array_memory_size())
    });
    bytes.sum()
}

fn files(batch: &RecordBatch) -> &Int32Array {
    batch.column(0).as_primitive::<Int32Type>()
}

fn place(files: &Int32Array, row: usize) -> Result<Place> {
    if files.is_null(row) {
        return Ok(Place::Nowhere);
    }
    let file = usize::try_from(files.value(row));
    file.map(Place::File).map_err(|_| disorder())
}

fn position(batch: &RecordBatch, row: usize) -> Result<u32> {
    let positions: &Int64Array = batch.column(1).as_primitive::<Int64Type>();
    let position = (!positions.is_null(row)).then(|| positions.value(row));
    let position = position.and_then(|position| u32::try_from(position).ok());
    position.ok_or_else(disorder)
}

fn disorder() -> DataFusionError {
    DataFusionError::Internal("changes come by file and position, each once".to_owned())
}
