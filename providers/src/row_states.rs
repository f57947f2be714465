//! Rows as merged states: every cell with its stamp and every tombstone, so that whoever starts from them meets a late
//! delta with the clocks that everybody else has.
//!
//! ```text
//!   base ─ sorted by row id ─────────────────┐
//!   log up to the base seq (evidence) ─ same ┼─► merged row by row ─► pages of (row id, state), ascending
//!   hot deltas (candidates), by row id ──────┘
//! ```
//! The base holds values without clocks; the log has the clocks that are not forgotten. A value whose clock is
//! forgotten gets [`Stamp::settled`]. What a delete clock hides is left out: nothing can show it again, and it may have
//! been somebody else's.
//!
//! **Invariant:** the visible cells of the states are the view's rows, and merging any further delta into a state shows
//! what merging it into all deltas would show.

use std::collections::{BTreeMap, BTreeSet, VecDeque, btree_map};
use std::iter::Peekable;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::{DataFrame, SessionContext};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use lakesync_proto::{
    Cell, ColumnName, Hlc, RowId, RowState, SeqDelta, Stamp, TableSchema, Value, columns,
};

use crate::error::Result;
use crate::lake::{Warehouse, arrow_schema};
use crate::log::evidence;
use crate::log_rows;
use crate::resolve::{BaseRow, base_rows, read_rows};
use crate::session::session;
use crate::view::ReadView;

/// Rows of one batch of a sorted scan: with values of megabytes, the batches that DataFusion makes by default would not
/// fit in memory.
const SCAN_ROWS: usize = 512;
/// Rows of one page of states.
const PAGE_ROWS: usize = 1_000;
/// Bytes of values after which a page ends: more would be held twice by whoever encodes it.
const PAGE_BYTES: usize = 1 << 20;

/// A row with what all its deltas say.
pub type RowWithState = (RowId, RowState);

/// The rows and tombstones of `view` in pages, ascending by row id, those behind `after` only.
///
/// With `columns` the states have the cells of those columns only; clocks of rows are whole. Its memory is bounded by
/// that of the process's plans and by what is hot, whatever the size of the table.
///
/// The stream's errors: when the base or the log cannot be read.
#[must_use]
pub fn row_states(
    view: &Arc<ReadView>,
    columns: Option<&[ColumnName]>,
    after: Option<&RowId>,
) -> BoxStream<'static, Result<Vec<RowWithState>>> {
    let schema = narrowed(&view.schema, columns);
    let (view, after) = (Arc::clone(view), after.cloned());
    stream::once(async move { Merge::open(&view, schema, after.as_ref()).await })
        .map_ok(|merge| stream::try_unfold(merge, Merge::page))
        .try_flatten()
        .boxed()
}

/// The states of those of `ids` that `view` knows, as rows or as tombstones; held in memory, all of them.
///
/// # Errors
/// When the base or the log cannot be read.
pub async fn row_states_of(
    view: &Arc<ReadView>,
    ids: &[RowId],
) -> Result<BTreeMap<RowId, RowState>> {
    let wanted: BTreeSet<RowId> = ids.iter().cloned().collect();
    let mut known: BTreeMap<RowId, RowState> = BTreeMap::new();
    if wanted.is_empty() {
        return Ok(known);
    }
    if view.base.snapshot_id.is_some() {
        let ctx = session(&view.warehouse);
        for delta in evidence(&ctx, view, &wanted, Hlc::ZERO).await? {
            let row_id = delta.delta.row_id.clone();
            known.entry(row_id).or_default().apply(&delta.delta);
        }
        let mut base = base_rows(&ctx, view, wanted.iter()).await?;
        let ids: BTreeSet<RowId> = known.keys().chain(base.keys()).cloned().collect();
        for id in ids {
            let evidence = known.remove(&id).unwrap_or_default();
            let state = at_base(&view.schema, base.remove(&id), evidence);
            known.insert(id, state);
        }
    }
    for delta in view.hot_deltas() {
        if wanted.contains(&delta.delta.row_id) {
            let row_id = delta.delta.row_id.clone();
            known.entry(row_id).or_default().apply(&delta.delta);
        }
    }
    known.values_mut().for_each(forget_hidden);
    known.retain(|_, state| *state != RowState::default());
    Ok(known)
}

/// The schema with none but these columns.
fn narrowed(schema: &Arc<TableSchema>, columns: Option<&[ColumnName]>) -> Arc<TableSchema> {
    let Some(columns) = columns else {
        return Arc::clone(schema);
    };
    let mut narrow = TableSchema::clone(schema);
    narrow
        .columns
        .retain(|column| columns.contains(&column.name));
    Arc::new(narrow)
}

/// The state that base and evidence make: that of all deltas up to the base seq, as far as it can still matter.
///
/// Where both disagree the base is right: the log has forgotten a later write, or a later delete. Then what it does
/// know of the row, or of the cell, lies below the floor and decides nothing any more.
fn at_base(schema: &TableSchema, base: Option<BaseRow>, mut evidence: RowState) -> RowState {
    let Some(base) = base else {
        if evidence.exists() {
            return RowState::default();
        }
        return evidence;
    };
    if !evidence.exists() {
        evidence = RowState {
            written: Some(Stamp::settled()),
            ..RowState::default()
        };
    }
    let mut settled = Vec::new();
    for (column, value) in base {
        // The row id decides a key column, whatever was written and deleted.
        if schema.primary_key.contains(&column) {
            if !evidence.cells.contains_key(&column) {
                settled.push((column, value));
            }
            continue;
        }
        let known = evidence.visible(&column).unwrap_or(&Value::Null);
        if *known != value {
            settled.push((column, value));
        }
    }
    if settled
        .iter()
        .any(|(column, value)| *value != Value::Null && !schema.primary_key.contains(column))
    {
        forget_hidden(&mut evidence);
        evidence.deleted = None;
    }
    for (column, value) in settled {
        let stamp = Stamp::settled();
        evidence.cells.insert(column, Cell { stamp, value });
    }
    evidence
}

/// Takes away what the delete clock hides; it stays hidden whatever comes.
fn forget_hidden(state: &mut RowState) {
    let Some(deleted) = &state.deleted else {
        return;
    };
    state.cells.retain(|_, cell| cell.stamp > *deleted);
    state.written.take_if(|written| *written <= *deleted);
}

/// The three sources, each ascending by row id.
struct Merge {
    schema: Arc<TableSchema>,
    base: Sorted<BaseRow>,
    log: Sorted<SeqDelta>,
    hot: Peekable<btree_map::IntoIter<RowId, Vec<Arc<SeqDelta>>>>,
    /// The columns of the states when they are not all.
    narrow: bool,
    /// Spilled files go with the session.
    _session: SessionContext,
}

impl Merge {
    async fn open(
        view: &Arc<ReadView>,
        schema: Arc<TableSchema>,
        after: Option<&RowId>,
    ) -> Result<Self> {
        let ctx = paged_session(&view.warehouse);
        let (mut base, mut log) = (None, None);
        if view.base.snapshot_id.is_some() {
            let names = user_columns(&schema, &arrow_schema(&view.base.table)?);
            let frame = ctx.read_table(Arc::new(view.base.scan(&view.warehouse).await?))?;
            let own = [columns::ROW_ID];
            base = Some(sorted(frame, &own, &names, after).await?);

            let names = user_columns(&schema, &arrow_schema(&view.log.table)?);
            let frame = ctx.read_table(Arc::new(view.log.scan(&view.warehouse).await?))?;
            let frame = frame.filter(col(columns::SEQ).lt_eq(lit(view.base.base_seq.as_i64())))?;
            log = Some(sorted(frame, &LOG_COLUMNS, &names, after).await?);
        }
        let mut hot: BTreeMap<RowId, Vec<Arc<SeqDelta>>> = BTreeMap::new();
        for delta in view.hot_deltas() {
            if after.is_none_or(|after| delta.delta.row_id > *after) {
                let row_id = delta.delta.row_id.clone();
                hot.entry(row_id).or_default().push(Arc::clone(delta));
            }
        }
        Ok(Self {
            narrow: schema.columns.len() != view.schema.columns.len(),
            schema,
            base: Sorted::new(base),
            log: Sorted::new(log),
            hot: hot.into_iter().peekable(),
            _session: ctx,
        })
    }

    /// The next page, unless there is none.
    async fn page(mut self) -> Result<Option<(Vec<RowWithState>, Self)>> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while page.len() < PAGE_ROWS && bytes < PAGE_BYTES {
            let Some((row_id, state)) = self.next().await? else {
                break;
            };
            bytes += size_of::<RowWithState>() + row_id.as_str().len();
            bytes += state.cells.values().map(cell_bytes).sum::<usize>();
            page.push((row_id, state));
        }
        Ok((!page.is_empty()).then_some((page, self)))
    }

    /// The next row of which anything is known that can still matter.
    async fn next(&mut self) -> Result<Option<RowWithState>> {
        loop {
            self.base.fill(&self.schema, read_rows).await?;
            self.log.fill(&self.schema, log_row_list).await?;
            let hot = self.hot.peek().map(|(id, _)| id);
            let least = [self.base.peek(), self.log.peek(), hot];
            let Some(id) = least.into_iter().flatten().min().cloned() else {
                return Ok(None);
            };
            let state = self.row(&id).await?;
            if state != RowState::default() {
                return Ok(Some((id, state)));
            }
        }
    }

    /// Everything about the row `id`, at which no source is past.
    async fn row(&mut self, id: &RowId) -> Result<RowState> {
        let mut evidence = RowState::default();
        while let Some(delta) = self.log.next_if(id) {
            evidence.apply(&delta.delta);
            self.log.fill(&self.schema, log_row_list).await?;
        }
        let mut state = at_base(&self.schema, self.base.next_if(id), evidence);
        if let Some((_, deltas)) = self.hot.next_if(|(hot, _)| hot == id) {
            deltas.iter().for_each(|delta| state.apply(&delta.delta));
        }
        if self.narrow {
            let schema = &self.schema;
            state
                .cells
                .retain(|column, _| schema.column(column.as_str()).is_some());
        }
        forget_hidden(&mut state);
        Ok(state)
    }
}

fn cell_bytes(cell: &Cell) -> usize {
    size_of::<Cell>() + cell.value.bytes()
}

/// A session whose batches are small enough to be held as values.
pub(crate) fn paged_session(warehouse: &Warehouse) -> SessionContext {
    let ctx = session(warehouse);
    let state = ctx.state_ref();
    let mut state = state.write();
    state.config_mut().options_mut().execution.batch_size = SCAN_ROWS;
    drop(state);
    ctx
}

/// What of a log row is not the user's.
const LOG_COLUMNS: [&str; 7] = [
    columns::SEQ,
    columns::HLC,
    columns::CLIENT,
    columns::DELTA_ID,
    columns::OP,
    columns::ROW_ID,
    columns::SET,
];

/// The columns of `schema` that the files have.
fn user_columns<'a>(schema: &'a TableSchema, files: &arrow::datatypes::SchemaRef) -> Vec<&'a str> {
    let names = schema.columns.iter().map(|column| column.name.as_str());
    names
        .filter(|name| files.field_with_name(name).is_ok())
        .collect()
}

/// These columns of the rows behind `after`, ascending by row id.
async fn sorted(
    frame: DataFrame,
    own: &[&str],
    names: &[&str],
    after: Option<&RowId>,
) -> Result<SendableRecordBatchStream> {
    let wanted: Vec<&str> = own.iter().chain(names).copied().collect();
    let mut frame = frame.select_columns(&wanted)?;
    if let Some(after) = after {
        frame = frame.filter(col(columns::ROW_ID).gt(lit(after.as_str())))?;
    }
    let by_row = vec![col(columns::ROW_ID).sort(true, false)];
    Ok(frame.sort(by_row)?.execute_stream().await?)
}

fn log_row_list(schema: &TableSchema, batch: &RecordBatch) -> Result<Vec<(RowId, SeqDelta)>> {
    let deltas = log_rows::deltas(schema, batch)?.into_iter();
    Ok(deltas
        .map(|delta| (delta.delta.row_id.clone(), delta))
        .collect())
}

/// The rows of a batch, in its order.
type ReadBatch<T> = fn(&TableSchema, &RecordBatch) -> Result<Vec<(RowId, T)>>;

/// One source of rows, ascending by row id.
struct Sorted<T> {
    batches: Option<SendableRecordBatchStream>,
    ready: VecDeque<(RowId, T)>,
}

impl<T> Sorted<T> {
    fn new(batches: Option<SendableRecordBatchStream>) -> Self {
        Self {
            batches,
            ready: VecDeque::new(),
        }
    }

    /// Reads on until a row is ready or there is none.
    async fn fill(&mut self, schema: &TableSchema, read: ReadBatch<T>) -> Result<()> {
        while self.ready.is_empty()
            && let Some(batches) = &mut self.batches
        {
            match batches.next().await {
                Some(batch) => self.ready.extend(read(schema, &batch?)?),
                None => self.batches = None,
            }
        }
        Ok(())
    }

    fn peek(&self) -> Option<&RowId> {
        self.ready.front().map(|(id, _)| id)
    }

    /// The next row when it is `id`.
    fn next_if(&mut self, id: &RowId) -> Option<T> {
        match self.peek() == Some(id) {
            true => self.ready.pop_front().map(|(_, row)| row),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{
        ClientId, ColumnChange, DeltaKey, Op, RowDelta, TableDefinition, TableName,
    };

    use super::*;

    const HISTORIES: u64 = 20_000;
    /// Stamps are 1 to 16; those below the floor may be forgotten, and nothing below it arrives any more.
    const STAMPS: u64 = 16;
    const FLOOR: u64 = 9;
    const COLUMNS: [&str; 3] = ["k", "x", "y"];

    struct Dice(u64);

    impl Dice {
        /// A number below `bound`, by splitmix64.
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    fn schema() -> TableSchema {
        let body = br#"{"table":"t","primaryKey":["k"],"columns":[{"name":"k","type":"string"},
            {"name":"x","type":"long"},{"name":"y","type":"long"}]}"#;
        TableSchema::from_definition(&TableDefinition::from_json(body).unwrap()).unwrap()
    }

    fn delta(dice: &mut Dice, stamp: u64) -> RowDelta {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse("r").unwrap(),
            client_id: ClientId::parse("c").unwrap(),
            hlc: Hlc::new(stamp, 0).unwrap(),
        };
        let mut columns = Vec::new();
        let op = match dice.below(3) {
            0 => Op::Delete,
            1 => Op::Insert,
            _ => Op::Update,
        };
        if op == Op::Insert {
            columns.push(ColumnChange {
                column: ColumnName::parse("k").unwrap(),
                value: Value::from("r"),
            });
        }
        for name in &COLUMNS[1..] {
            if op != Op::Delete && dice.below(2) == 0 {
                let value = match dice.below(3) {
                    0 => Value::Null,
                    some => Value::Long(i64::try_from(some).unwrap()),
                };
                let column = ColumnName::parse(name).unwrap();
                columns.push(ColumnChange { column, value });
            }
        }
        RowDelta::new(op, key, columns)
    }

    fn fold<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> RowState {
        let mut state = RowState::default();
        deltas.into_iter().for_each(|delta| state.apply(delta));
        state
    }

    /// The row as a base holds it.
    fn shown(schema: &TableSchema, state: &RowState) -> Option<BaseRow> {
        state.exists().then(|| {
            let columns = schema.columns.iter().map(|column| {
                let value = match column.name.as_str() {
                    "k" => Value::from("r"),
                    _ => state.visible(&column.name).cloned().unwrap_or(Value::Null),
                };
                (column.name.clone(), value)
            });
            columns.collect()
        })
    }

    #[test]
    fn whatever_the_log_forgot_below_the_floor_the_state_shows_the_merge_of_all_deltas() {
        let schema = schema();
        for seed in 0..HISTORIES {
            let mut dice = Dice(seed);
            let mut stamps: Vec<u64> = (1..=STAMPS).filter(|_| dice.below(2) == 0).collect();
            for at in (1..stamps.len()).rev() {
                let other = usize::try_from(dice.below(at as u64 + 1)).unwrap();
                stamps.swap(at, other);
            }
            let covered = usize::try_from(dice.below(stamps.len() as u64 + 1)).unwrap();
            let (below, above) = stamps.split_at(covered);
            let below: Vec<RowDelta> = below.iter().map(|s| delta(&mut dice, *s)).collect();
            let above: Vec<RowDelta> = above
                .iter()
                .filter(|stamp| **stamp >= FLOOR)
                .map(|stamp| delta(&mut dice, *stamp))
                .collect();
            let kept = below
                .iter()
                .filter(|delta| delta.hlc >= Hlc::new(FLOOR, 0).unwrap() || dice.below(2) == 0);
            let evidence = fold(kept);

            let base = shown(&schema, &fold(&below));
            let mut state = at_base(&schema, base.clone(), evidence);
            forget_hidden(&mut state);
            assert_eq!(shown(&schema, &state), base, "seed {seed}: as the base is");
            let mut all = below.clone();
            for delta in &above {
                all.push(delta.clone());
                state.apply(delta);
                forget_hidden(&mut state);
                let expected = shown(&schema, &fold(&all));
                assert_eq!(shown(&schema, &state), expected, "seed {seed}: {all:#?}");
            }
        }
    }

    #[test]
    fn with_the_whole_log_every_stamp_is_there() {
        let schema = schema();
        for seed in 0..HISTORIES {
            let mut dice = Dice(seed);
            let deltas: Vec<RowDelta> = (1..STAMPS).map(|s| delta(&mut dice, s)).collect();
            let mut expected = fold(&deltas);
            let mut state = at_base(&schema, shown(&schema, &expected), expected.clone());
            forget_hidden(&mut state);
            forget_hidden(&mut expected);
            // The key of a row that was revived without it has no write; the row id has it.
            for state in [&mut state, &mut expected] {
                state.cells.retain(|column, _| column.as_str() != "k");
            }
            assert_eq!(state, expected, "seed {seed}: {deltas:#?}");
        }
    }

    #[test]
    fn a_tombstone_is_its_delete_clock_and_nothing_else() {
        let mut dice = Dice(1);
        let mut write = delta(&mut dice, 1);
        write.op = Op::Update;
        let mut delete = delta(&mut dice, 2);
        (delete.op, delete.columns) = (Op::Delete, Vec::new());
        let mut state = fold([&write, &delete]);
        forget_hidden(&mut state);
        let tombstone = RowState {
            deleted: Some(delete.stamp()),
            ..RowState::default()
        };
        assert_eq!(state, tombstone);
    }
}
