//! ★ One fold of a table, planned: what is read, in how many parts, and by which SQL.
//!
//! ```text
//!   log ─ row ids of candidates ─► places (key indexes, 17 bytes a row)            for each part of the rows
//!   log ─ candidates, evidence ──► with their places ─┐                            likewise
//!                                                     └─► sorted by place, spilling ─► lww ─► confirmed ─► Changes
//! ```
//! The deltas are sorted once, by where the base has their rows; so what folds them holds one row at a time, and what
//! comes out is in the order in which the base's files are read and written.
//!
//! **Invariant:** its memory is the job's, whatever the size of base and log: what does not fit is sorted on disk, and
//! places that do not fit are looked up part by part.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, AsArray as _};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{
    CatalogProvider as _, MemoryCatalogProvider, MemorySchemaProvider, TableProvider as _,
};
use datafusion::physical_plan::displayable;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionContext};
use futures::StreamExt as _;
use lakesync_providers::proto::{Column, Hlc, Seq};
use lakesync_providers::{ParquetTable, PlaceCheck, ReadView, TouchedRows, job_session};

use super::by_key::DeltasByKey;
use super::changes::{Changes, change_schema};
use super::functions::CurrentPlaces;
use super::parts::Parts;
use super::placed::placed;
use super::sql::{Span, changes_sql, deltas_sql};
use crate::config::{CompactionConfig, MEMORY_BYTES_MIN};
use crate::error::Result;
use crate::progress::Progress;

/// The part of a job's memory that places may take: one of so many. The rest is for sorting.
const PLACES_SHARE: u64 = 4;

/// The memory that is worth a partition of its own (64 MiB): sorts share a job's memory evenly.
const PARTITION_BYTES: u64 = 64 << 20;

/// The part of a partition's memory that a batch of rows may take: one of so many. Sorts hold several at each step.
const BATCH_SHARE: u64 = 64;

/// So many rows are read to know how large they are, in batches of so few, in case they are very large.
const SAMPLE_ROWS: usize = 256;
const SAMPLE_BATCH_ROWS: usize = 16;

/// A fold of one table.
pub struct Fold {
    view: Arc<ReadView>,
    ctx: SessionContext,
    base: ParquetTable,
    span: Span,
    candidates: u64,
    max_hlc: Hlc,
    parts: u64,
    config: CompactionConfig,
}

impl fmt::Debug for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold")
            .field("table", self.view.table())
            .field("span", &self.span)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

impl Fold {
    /// The fold of all that the log of `view` has above its base.
    ///
    /// # Errors
    /// When base or log cannot be read.
    pub async fn plan(view: &Arc<ReadView>, config: CompactionConfig) -> Result<Self> {
        let memory_bytes = config.memory_bytes.max(MEMORY_BYTES_MIN);
        let ctx = job_session(&view.warehouse, memory_bytes);
        let base = view.base.scan(&view.warehouse).await?;
        let log = view.log.scan(&view.warehouse).await?;
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema("public", Arc::new(MemorySchemaProvider::new()))?;
        ctx.register_catalog("lake", catalog);
        ctx.register_table("log", Arc::new(log))?;
        let mut fold = Self {
            view: Arc::clone(view),
            ctx,
            base,
            span: Span {
                base_seq: view.base.base_seq,
                to_seq: view.log.max_seq,
                late_from: None,
                several_parts: false,
            },
            candidates: 0,
            max_hlc: view.base.max_hlc,
            parts: 1,
            config,
        };
        fold.divide(memory_bytes).await?;
        let [candidates, least, greatest] = fold.count().await?;
        let hlc = |number| Hlc::from_i64(number).unwrap_or(Hlc::ZERO);
        fold.candidates = u64::try_from(candidates).unwrap_or(0);
        if fold.candidates > 0 && hlc(least) <= view.base.max_hlc {
            fold.span.late_from = Some(hlc(least));
        }
        fold.max_hlc = fold.max_hlc.max(hlc(greatest));
        fold.parts = TouchedRows::parts(fold.candidates, memory_bytes / PLACES_SHARE);
        fold.span.several_parts = fold.parts > 1;
        Ok(fold)
    }

    /// The same with places looked up in so many parts at least: each takes less memory, and reads the log again.
    #[must_use]
    pub fn in_parts(mut self, parts: u64) -> Self {
        self.parts = self.parts.max(parts);
        self.span.several_parts = self.parts > 1;
        self
    }

    /// The view whose log is folded into its base.
    #[must_use]
    pub fn view(&self) -> &Arc<ReadView> {
        &self.view
    }

    /// The session of the job, whose memory all its operators share.
    #[must_use]
    pub fn session(&self) -> &SessionContext {
        &self.ctx
    }

    /// The seq that the base covers when this is done.
    #[must_use]
    pub fn to_seq(&self) -> Seq {
        self.span.to_seq
    }

    /// The greatest HLC that it covers then.
    #[must_use]
    pub fn max_hlc(&self) -> Hlc {
        self.max_hlc
    }

    /// The deltas that are folded.
    #[must_use]
    pub fn candidates(&self) -> u64 {
        self.candidates
    }

    /// In how many parts places are looked up.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// The query, as a person reads it.
    #[must_use]
    pub fn sql(&self) -> String {
        let schema = &self.view.schema;
        let columns = self.columns();
        let deltas = deltas_sql(schema, &columns, self.span).replace('\n', "\n  ");
        let changes = changes_sql(schema, &columns, self.span);
        format!("with deltas as (\n  {deltas}\n  order by _key\n)\n{changes}")
    }

    /// The fold as it would run now: what it reads, its SQL, and its plans as DataFusion explains them.
    ///
    /// # Errors
    /// When a plan cannot be made.
    pub async fn explain(&self) -> Result<Vec<(String, String)>> {
        CurrentPlaces::none().register(&self.ctx);
        let deltas = self.ctx.sql(&self.deltas_sql()).await?;
        let source = Parts::shape(deltas.schema().inner());
        let changes = self.changes_frame(source).await?;
        let (seqs, late) = (self.span, self.span.late_from);
        let late = late.map_or_else(|| "none".to_owned(), |hlc| format!("from HLC {hlc} on"));
        let mut shown = vec![
            ("mode".to_owned(), self.config.mode.name().to_owned()),
            (
                "seqs".to_owned(),
                format!("above {} to {}", seqs.base_seq, seqs.to_seq),
            ),
            ("deltas".to_owned(), self.candidates.to_string()),
            ("late".to_owned(), late),
            ("parts".to_owned(), self.parts.to_string()),
            ("sql".to_owned(), self.sql()),
        ];
        for (name, frame) in [("deltas", deltas), ("changes", changes)] {
            let (state, logical) = frame.into_parts();
            let logical = state.optimize(&logical)?;
            let text = logical.display_indent().to_string();
            shown.push((format!("logical_plan of {name}"), text));
            let physical = state.create_physical_plan(&logical).await?;
            let text = displayable(physical.as_ref()).indent(false).to_string();
            shown.push((format!("physical_plan of {name}"), text));
        }
        Ok(shown)
    }

    /// What it changes. When this returns the log has been read, and everything is sorted.
    ///
    /// # Errors
    /// When base or log cannot be read, or memory and disk have no room.
    ///
    /// # Cancel safety
    /// Nothing is written but temporary files, which go with the session.
    pub async fn changes(&self, progress: &Progress) -> Result<Changes> {
        let places = CurrentPlaces::none();
        places.register(&self.ctx);
        let parts = Parts::new(self, places, progress).await?;
        let found = parts.found();
        let schema = self.schema();
        let frame = self.changes_frame(parts).await?;
        let keyed = frame.execute_stream().await?;
        let shape = keyed.schema();
        let mut keyed = keyed.peekable();
        // The first row comes when all deltas have been sorted, so all parts have been looked up.
        Pin::new(&mut keyed).peek().await;
        let mut counts = found.take();
        counts.candidates = self.candidates;
        let keyed = Box::pin(RecordBatchStreamAdapter::new(shape, keyed));
        let check = PlaceCheck::new(&self.ctx, &self.base, counts.by_file.clone());
        Ok(Changes {
            stream: placed(keyed, check, &schema),
            schema,
            counts,
        })
    }

    pub(super) fn base(&self) -> &ParquetTable {
        &self.base
    }

    pub(super) fn late_to(&self) -> Hlc {
        match self.span.late_from {
            Some(_) => self.view.base.max_hlc,
            None => Hlc::ZERO,
        }
    }

    pub(super) fn deltas_sql(&self) -> String {
        deltas_sql(&self.view.schema, &self.columns(), self.span)
    }

    /// The row ids of the candidates, with what places need to know of them.
    pub(super) fn touched_sql(&self) -> String {
        format!(
            "select log.row_id, log._seq, log._hlc from log where {}",
            self.above()
        )
    }

    fn above(&self) -> String {
        let Span {
            base_seq, to_seq, ..
        } = self.span;
        format!("log._seq > {base_seq} and log._seq <= {to_seq}")
    }

    async fn changes_frame(&self, deltas: Parts) -> Result<DataFrame> {
        let partitions = self.ctx.state().config().target_partitions();
        let deltas = DeltasByKey::new(Arc::new(deltas), partitions)?;
        self.ctx.deregister_table("deltas")?;
        self.ctx.register_table("deltas", Arc::new(deltas))?;
        let sql = changes_sql(&self.view.schema, &self.columns(), self.span);
        let frame = self.ctx.sql(&sql).await;
        // The plan has the table by itself. A session that had it too would hold itself through its parts, and with
        // itself the base's pin: nothing of the base could ever expire.
        self.ctx.deregister_table("deltas")?;
        Ok(frame?)
    }

    fn schema(&self) -> SchemaRef {
        change_schema(&self.view.schema, &self.base.schema())
    }

    /// The columns that the base has.
    fn columns(&self) -> Vec<&Column> {
        let base = self.base.schema();
        let columns = self.view.schema.columns.iter();
        columns
            .filter(|column| base.field_with_name(column.name.as_str()).is_ok())
            .collect()
    }

    /// Sets how many partitions there are, and how many rows a batch has, as the memory allows for rows of this size.
    async fn divide(&self, memory_bytes: u64) -> Result<()> {
        let cores = self.ctx.state().config().target_partitions();
        let partitions = partitions(memory_bytes, cores);
        self.set(partitions, SAMPLE_BATCH_ROWS);
        let sql = format!(
            "select * from log where {} limit {SAMPLE_ROWS}",
            self.above()
        );
        let sample = self.ctx.sql(&sql).await?.collect().await?;
        let rows: usize = sample.iter().map(RecordBatch::num_rows).sum();
        let bytes: u64 = sample.iter().map(bytes_of).sum();
        let row_bytes = bytes / u64::try_from(rows.max(1)).unwrap_or(u64::MAX);
        let partition_bytes = memory_bytes / u64::try_from(partitions).unwrap_or(u64::MAX);
        self.set(partitions, batch_rows(row_bytes, partition_bytes));
        Ok(())
    }

    fn set(&self, partitions: usize, batch_rows: usize) {
        let state = self.ctx.state_ref();
        let mut state = state.write();
        let execution = &mut state.config_mut().options_mut().execution;
        execution.target_partitions = partitions;
        execution.batch_size = batch_rows;
    }

    /// How many candidates there are, and their least and greatest HLC.
    async fn count(&self) -> Result<[i64; 3]> {
        let sql = format!(
            "select count(*), min(log._hlc), max(log._hlc) from log where {}",
            self.above()
        );
        let rows = self.ctx.sql(&sql).await?.collect().await?;
        let number = |column: usize| {
            let rows = rows.iter().filter(|batch| batch.num_rows() > 0);
            let mut cells =
                rows.flat_map(|batch| batch.column(column).as_primitive::<Int64Type>().iter());
            cells.next().flatten().unwrap_or(0)
        };
        Ok([0, 1, 2].map(number))
    }
}

/// How many partitions a job with so much memory has on so many cores.
fn partitions(memory_bytes: u64, cores: usize) -> usize {
    let worth = usize::try_from(memory_bytes / PARTITION_BYTES).unwrap_or(cores);
    worth.clamp(1, cores.max(1))
}

/// How many rows of so many bytes make a batch, when a partition has so much memory.
fn batch_rows(row_bytes: u64, partition_bytes: u64) -> usize {
    let rows = partition_bytes / BATCH_SHARE / row_bytes.max(1);
    usize::try_from(rows.clamp(16, 8_192)).unwrap_or(16)
}

/// What the rows of a batch take in memory.
fn bytes_of(batch: &RecordBatch) -> u64 {
    let columns = batch.columns().iter();
    let bytes = columns.filter_map(|column| column.to_data().get_slice_memory_size().ok());
    bytes
        .map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_large_rows_have_few_and_little_memory_is_not_divided() {
        let rows = [0, 40, 1 << 10, 1 << 20];
        assert_eq!(
            rows.map(|bytes| batch_rows(bytes, 64 << 20)),
            [8_192, 8_192, 1_024, 16]
        );
        assert_eq!(
            rows.map(|bytes| batch_rows(bytes, 32 << 20)),
            [8_192, 8_192, 512, 16]
        );
        assert_eq!(partitions(MEMORY_BYTES_MIN, 8), 1);
        assert_eq!(
            (partitions(512 << 20, 2), partitions(512 << 20, 64)),
            (2, 8)
        );
    }
}
