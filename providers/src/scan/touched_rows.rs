//! The rows that a fold touches, gathered before their places in the base are looked up.
//!
//! ```text
//!   hash of the row id, 64 bits  ──►  first seq, and whether a delta of it is late        16 bytes a row
//! ```
//! **Invariant:** every row id that was added has the entry of its hash; two ids with one hash share it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, Int64Array, StringArray};
use arrow::compute::{max_string, min_string};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::prelude::SessionContext;
use iceberg::spec::{Datum, PrimitiveLiteral};
use lakesync_proto::{Hlc, columns};

use super::data_file::DataFile;
use super::file_bounds::field_id;
use super::key_indexes::KeyIndexes;
use super::place_search::search;
use super::places::{LATE, Places, UNPLACED};
use super::seed::Seed;
use crate::error::Result;
use crate::files::ParquetTable;
use crate::fold::Part;

/// Bytes of one entry, and of its share of the directory.
const ENTRY_BYTES: u64 = 17;

/// Rows that are touched at most at a time: more than 32 bits count are gathered in parts.
const ROWS_MAX: u64 = 1 << 31;

/// A base file that a touched row may be in, as far as is known.
struct Reach {
    at: usize,
    lower: Option<String>,
    upper: Option<String>,
}

/// Touched rows, and which files of the base may have one.
pub struct TouchedRows {
    pub(super) indexes: KeyIndexes,
    pub(super) base: ParquetTable,
    pub(super) ctx: SessionContext,
    pub(super) seed: Seed,
    pub(super) entries: Vec<(u64, u64)>,
    pub(super) memory: MemoryReservation,
    /// The files that no row was found within yet.
    beyond: Vec<Reach>,
    /// Whether a touched row may be in a file.
    pub(super) reached: Vec<bool>,
    part: Part,
    late_to: Hlc,
}

impl std::fmt::Debug for TouchedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TouchedRows")
            .field("rows", &self.entries.len())
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl TouchedRows {
    /// Into how many parts so many deltas are to be divided, for each to take so many bytes at most.
    #[must_use]
    pub fn parts(deltas: u64, bytes_max: u64) -> u64 {
        let rows = (bytes_max / ENTRY_BYTES).clamp(1, ROWS_MAX);
        deltas.div_ceil(rows).max(1)
    }

    /// None yet of this part of the rows; `deltas` are expected of all parts together, of which those stamped up to `late_to` are late.
    ///
    /// # Errors
    /// When the memory of the session has no room for them.
    pub async fn new(
        ctx: &SessionContext,
        base: &ParquetTable,
        part: Part,
        expected: (u64, Hlc),
    ) -> Result<Self> {
        let indexes = KeyIndexes::of_process().clone();
        Self::with_indexes(indexes, (ctx, base), part, expected).await
    }

    /// The same by other indexes than those of the process.
    pub(super) async fn with_indexes(
        indexes: KeyIndexes,
        (ctx, base): (&SessionContext, &ParquetTable),
        part: Part,
        (deltas, late_to): (u64, Hlc),
    ) -> Result<Self> {
        let pool = &ctx.runtime_env().memory_pool;
        let memory = MemoryConsumer::new("places of touched rows").register(pool);
        // Hashes fall evenly into parts, but for a little.
        let expected = deltas / part.of.max(1);
        let room = expected + expected / 64 * u64::from(part.of > 1) + 1_024;
        memory.try_grow(bytes(room))?;
        let id = field_id(base.field(columns::ROW_ID)?);
        let files = base.files().iter().enumerate();
        let beyond: Vec<Reach> = files
            .map(|(at, file)| Reach {
                at,
                lower: id.and_then(|id| text(&file.lower_bounds, id)),
                upper: id.and_then(|id| text(&file.upper_bounds, id)),
            })
            .collect();
        Ok(Self {
            seed: indexes.seed_of(ctx, base).await,
            indexes,
            base: base.clone(),
            ctx: ctx.clone(),
            entries: Vec::with_capacity(usize::try_from(room).unwrap_or(0)),
            memory,
            reached: vec![false; beyond.len()],
            beyond,
            part,
            late_to,
        })
    }

    /// Adds the rows of some deltas, which have the columns `row_id`, `_seq` and `_hlc`.
    ///
    /// # Errors
    /// When the columns are others, or the memory has no room for so many rows.
    pub fn add(&mut self, deltas: &RecordBatch) -> Result<()> {
        let ids = text_column(deltas, columns::ROW_ID)?;
        let seqs = number_column(deltas, columns::SEQ)?;
        let hlcs = number_column(deltas, columns::HLC)?;
        self.reach(ids);
        let late_to = self.late_to.as_i64();
        for row in 0..ids.len() {
            let hash = self.indexes.hash(self.seed, ids.value(row));
            if !within(self.part, hash) {
                continue;
            }
            if self.entries.len() == self.entries.capacity() {
                self.merge();
                self.make_room()?;
            }
            let late = if hlcs.value(row) <= late_to { LATE } else { 0 };
            let seq = u64::try_from(seqs.value(row)).unwrap_or(0);
            self.entries.push((hash, UNPLACED | seq | late));
        }
        Ok(())
    }

    /// Where the base has them.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub async fn find(mut self) -> Result<Places> {
        self.merge();
        search(self).await
    }

    /// Marks the files that one of these ids lies within.
    fn reach(&mut self, ids: &StringArray) {
        if self.beyond.is_empty() {
            return;
        }
        let (Some(least), Some(greatest)) = (min_string(ids), max_string(ids)) else {
            return;
        };
        let reached = &mut self.reached;
        self.beyond.retain(|file| {
            if !file.meets(least, greatest) {
                return true;
            }
            let hit = ids.iter().flatten().any(|id| file.meets(id, id));
            reached[file.at] |= hit;
            !hit
        });
    }

    /// One entry a hash: the first of its seqs, and whether any delta is late.
    fn merge(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                // Of entries with and without the mark, the seq decides.
                let late = (next.1 | kept.1) & LATE;
                kept.1 = (next.1 & !LATE).min(kept.1 & !LATE) | late;
            }
            same
        });
    }

    /// Room for more when the log has more deltas than were expected, or all of them are of different rows.
    fn make_room(&mut self) -> Result<()> {
        let (length, capacity) = (self.entries.len(), self.entries.capacity());
        if length < capacity - capacity / 4 {
            return Ok(());
        }
        let more = capacity / 2 + 1_024;
        self.memory
            .try_grow(bytes(u64::try_from(more).unwrap_or(u64::MAX)))?;
        self.entries.reserve_exact(capacity + more - length);
        Ok(())
    }
}

impl Reach {
    /// Whether an id between these may be in the file.
    fn meets(&self, least: &str, greatest: &str) -> bool {
        self.lower.as_deref().is_none_or(|lower| greatest >= lower)
            && self.upper.as_deref().is_none_or(|upper| least <= upper)
    }
}

impl KeyIndexes {
    /// What the hashes of a base's row ids are best taken by: as its largest file's index takes them.
    async fn seed_of(&self, ctx: &SessionContext, base: &ParquetTable) -> Seed {
        let files = base.files().iter().enumerate();
        let Some((at, _)) = files.max_by_key(|(_, file)| file.rows) else {
            return self.seed();
        };
        let file = DataFile {
            task: ctx.task_ctx(),
            table: base.clone(),
            at,
        };
        let index = self.kept_index(file).await;
        index.map_or_else(|| self.seed(), |index| index.seed())
    }
}

fn bytes(rows: u64) -> usize {
    usize::try_from(rows.saturating_mul(ENTRY_BYTES)).unwrap_or(usize::MAX)
}

/// Whether a hash is of this part: parts are ranges of hashes.
fn within(part: Part, hash: u64) -> bool {
    let at = (u128::from(hash) * u128::from(part.of)) >> u64::BITS;
    at == u128::from(part.index)
}

fn text(bounds: &HashMap<i32, Datum>, field: i32) -> Option<String> {
    match bounds.get(&field)?.literal() {
        PrimitiveLiteral::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn text_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = batch.column_by_name(name).map(Arc::as_ref);
    let column = column.and_then(|column| column.as_string_opt::<i32>());
    Ok(column.ok_or_else(|| ArrowError::SchemaError(format!("`{name}` is no column of texts")))?)
}

fn number_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array> {
    let column = batch.column_by_name(name).map(Arc::as_ref);
    let column = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
    Ok(column
        .ok_or_else(|| ArrowError::SchemaError(format!("`{name}` is no column of numbers")))?)
}
