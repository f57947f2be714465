//! The overlay of a view, completed from base and log: what a scan asks.
//!
//! **Invariant:** it never changes, and holds all that it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use lakesync_proto::columns;

use crate::error::Result;
use crate::scan::{Completion, FilePatch, LiveChunk, Masks};

/// The column of row ids that tables are joined with: no user column can have this name.
pub(crate) const WANTED: &str = "wanted$";

/// What the hot deltas of a view make of the rows they touch.
#[derive(Debug)]
pub struct Resolved {
    /// The touched rows that exist, with the base's schema, and where the base has them.
    pub(crate) chunks: Vec<LiveChunk>,
    /// The base without the touched rows; none when there are no key indexes to know them by.
    pub(crate) masks: Option<Arc<Masks>>,
    /// What is to be changed in each file that has touched rows, by its number in the base's list; nothing without
    /// `masks`.
    pub(crate) patches: BTreeMap<u32, Arc<FilePatch>>,
    /// What the refresh took that made it.
    pub work: Work,
}

/// What a refresh of an overlay took, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Deltas that were new.
    pub deltas: u64,
    /// Rows that were folded.
    pub rows_folded: u64,
    /// Rows that were read from the base.
    pub rows_read: u64,
    /// Rows whose evidence was looked up in the log.
    pub rows_late: u64,
    /// Rows that were moved when chunks became one.
    pub rows_moved: u64,
}

impl Resolved {
    /// How many rows exist.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.chunks.iter().map(LiveChunk::row_count).sum()
    }

    /// The rows that exist and are held whole, in batches with the base's schema.
    ///
    /// # Errors
    /// Those of Arrow, when memory ends.
    pub fn rows(&self) -> Result<Vec<RecordBatch>> {
        let whole = self.chunks.iter().filter(|held| held.is_whole());
        whole.map(LiveChunk::batch).collect()
    }

    /// The ids of all touched rows, in a column of their own; some of them more than once.
    ///
    /// # Errors
    /// Those of Arrow: none is known.
    pub fn touched(&self) -> Result<Vec<RecordBatch>> {
        let mut touched = Vec::with_capacity(self.chunks.len());
        for LiveChunk { chunk, .. } in &self.chunks {
            let there = chunk.rows.column_by_name(columns::ROW_ID);
            let there = there.map(Arc::clone).expect("a base has a row id");
            let gone = Arc::new(chunk.gone.clone()) as ArrayRef;
            for ids in [there, gone] {
                if !ids.is_empty() {
                    touched.push(RecordBatch::try_new(row_id_schema(), vec![ids])?);
                }
            }
        }
        Ok(touched)
    }
}

impl LiveChunk {
    /// Whether its rows are complete.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.chunk.completion, Completion::Whole(_))
    }

    /// How many rows are live.
    pub(crate) fn row_count(&self) -> usize {
        match &self.live {
            None => self.chunk.rows.num_rows(),
            Some(live) => live.count_set_bits(),
        }
    }

    /// Its live rows.
    ///
    /// # Errors
    /// Those of Arrow, when memory ends.
    pub(crate) fn batch(&self) -> Result<RecordBatch> {
        match &self.live {
            None => Ok(self.chunk.rows.clone()),
            Some(live) => {
                let live = BooleanArray::new(live.clone(), None);
                Ok(filter_record_batch(&self.chunk.rows, &live)?)
            }
        }
    }
}

/// The schema of [`Resolved::touched`].
pub(crate) fn row_id_schema() -> SchemaRef {
    let ids = Field::new(WANTED, DataType::Utf8, false);
    Arc::new(Schema::new(vec![ids]))
}
