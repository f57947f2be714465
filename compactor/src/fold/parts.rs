//! The deltas of a fold with their rows' keys, part of the rows after part.
//!
//! Of each part first the row ids are read and looked up in the base, then the deltas are read whole. A part is as
//! large as the memory for places allows, so nearly always there is one.
//!
//! **Invariant:** the places of one part are in memory at a time, and none when all deltas have been read.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakesync_providers::proto::Hlc;
use lakesync_providers::{ParquetTable, Part, Places, TouchedRows};

use super::changes::ChangeCounts;
use super::functions::CurrentPlaces;
use super::plan::Fold;
use crate::progress::{Progress, Unit};

/// The parts of a fold as one stream.
pub(super) struct Parts {
    schema: SchemaRef,
    job: Option<Arc<Job>>,
}

/// What is needed to read a part.
struct Job {
    ctx: SessionContext,
    base: ParquetTable,
    touched: String,
    deltas: String,
    parts: u64,
    candidates: u64,
    late_to: Hlc,
    places: CurrentPlaces,
    found: Found,
    progress: Progress,
}

/// How many rows have been found where, over all parts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Mutex<ChangeCounts>>);

impl Found {
    /// What is known by now.
    pub(super) fn take(&self) -> ChangeCounts {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, places: &Places) {
        // Whoever panics here has added nothing that is read.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let files = places.by_file();
        counts.by_file.resize(files.len(), 0);
        for (all, more) in counts.by_file.iter_mut().zip(files) {
            *all += more;
        }
        counts.elsewhere += places.elsewhere();
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.job.as_ref().map_or(0, |job| job.parts);
        f.debug_struct("Parts").field("parts", &parts).finish()
    }
}

impl Parts {
    /// Those of a fold, whose session knows the functions of `places`.
    pub(super) async fn new(
        fold: &Fold,
        places: CurrentPlaces,
        progress: &Progress,
    ) -> Result<Self> {
        let deltas = fold.deltas_sql();
        let schema = Arc::clone(fold.session().sql(&deltas).await?.schema().inner());
        let job = Job {
            ctx: fold.session().clone(),
            base: fold.base().clone(),
            touched: fold.touched_sql(),
            deltas,
            parts: fold.parts(),
            candidates: fold.candidates(),
            late_to: fold.late_to(),
            places,
            found: Found::default(),
            progress: progress.clone(),
        };
        Ok(Self {
            schema,
            job: Some(Arc::new(job)),
        })
    }

    /// None, for a plan that is only shown.
    pub(super) fn shape(schema: &SchemaRef) -> Self {
        Self {
            schema: Arc::clone(schema),
            job: None,
        }
    }

    /// How many rows are found where; whole when the last row has come.
    pub(super) fn found(&self) -> Found {
        let job = self.job.as_ref();
        job.map(|job| job.found.clone()).unwrap_or_default()
    }
}

impl PartitionStream for Parts {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let Some(job) = self.job.as_ref().map(Arc::clone) else {
            let none = stream::empty();
            return Box::pin(RecordBatchStreamAdapter::new(
                Arc::clone(&self.schema),
                none,
            ));
        };
        let last = Arc::clone(&job);
        let rows = stream::iter(0..job.parts)
            .then(move |index| Arc::clone(&job).part(index))
            .try_flatten();
        let end = stream::once(async move {
            last.places.set(Places::none());
            None
        });
        let rows = rows.chain(end.filter_map(std::future::ready));
        let schema = Arc::clone(&self.schema);
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl Job {
    async fn part(self: Arc<Self>, index: u64) -> Result<SendableRecordBatchStream> {
        self.places.set(Places::none());
        let part = Part {
            index,
            of: self.parts,
        };
        let places = self.find(part).await?;
        self.found.add(&places);
        self.places.set(places);
        self.progress
            .begin("reading the log", Unit::Rows, self.candidates / self.parts);
        let rows = self.ctx.sql(&self.deltas).await?.execute_stream().await?;
        let progress = self.progress.clone();
        let schema = rows.schema();
        let rows = rows.inspect_ok(move |batch| {
            progress.add(u64::try_from(batch.num_rows()).unwrap_or(0));
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    async fn find(&self, part: Part) -> Result<Places> {
        self.progress
            .begin("looking up rows", Unit::Rows, self.candidates);
        let expected = (self.candidates, self.late_to);
        let touched = TouchedRows::new(&self.ctx, &self.base, part, expected).await;
        let mut touched = touched.map_err(external)?;
        let ids = self.ctx.sql(&self.touched).await?;
        let mut ids = ids.execute_stream().await?;
        while let Some(batch) = ids.try_next().await? {
            touched.add(&batch).map_err(external)?;
            self.progress
                .add(u64::try_from(batch.num_rows()).unwrap_or(0));
        }
        touched.find().await.map_err(external)
    }
}

fn external(error: lakesync_providers::Error) -> DataFusionError {
    match error {
        lakesync_providers::Error::Query(error) => *error,
        other => DataFusionError::External(Box::new(other)),
    }
}
