//! Facts: a window of deltas together with all that was known of its rows before.
//!
//! ```text
//!   number   0 ……………… │ ……………………………… │ ……………………………………………………… │ …………………………………
//!   is       base rows │ evidence       │ deltas between base and window │ the window
//!            settled   │ seq <= base seq │ merged before the first answer │ answered
//! ```
//! A base row counts as a write of all columns that is older than any stamp. Evidence is looked up as a fold needs it
//! (`proto/src/fold.rs`): for deltas that are not newer than all the base has, or for all when writers are asked for.
//!
//! **Invariant:** numbers are places in the columns of [`Facts`], and a group is one row id.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int32Array, Int64Array, LargeBinaryArray,
    RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{cast, concat, take_record_batch};
use datafusion::common::HashMap;
use datafusion::logical_expr::{col, lit};
use datafusion::prelude::SessionContext;
use lakesync_proto::{Op, RowId, Seq, TableSchema, columns};

use super::span::{collect_within, log_rows_of, only, text_of};
use super::windows::{Deltas, greatest};
use super::{NONE, number, place};
use crate::columnar::column;
use crate::error::{Error, Result};
use crate::lake::log_arrow_schema;
use crate::view::{BaseSnapshot, ReadView};

/// What the log is asked about the time before the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::functions) enum Evidence {
    /// Nothing of the time before the window at all.
    Nothing,
    /// What decides whether a late delta of the window loses.
    Late,
    /// Every delta of the rows: who wrote what they show.
    All,
}

/// What the rows of a window were before it.
#[derive(Debug)]
pub(in crate::functions) struct Prior<'a> {
    /// The newest base that holds nothing of the window.
    pub(in crate::functions) base: &'a BaseSnapshot,
    /// What is asked of the log below it.
    pub(in crate::functions) evidence: Evidence,
    /// The most bytes of each kind of row.
    pub(in crate::functions) bytes_max: usize,
}

/// The deltas of a window, or the rows that are asked about at its end.
#[derive(Debug)]
pub(in crate::functions) struct Asked<'a> {
    /// The window.
    pub(in crate::functions) deltas: Deltas,
    /// A row that is asked about, whether the window has a delta of it or not.
    pub(in crate::functions) row: Option<&'a str>,
}

/// Facts, unless they take too much room.
#[derive(Debug)]
pub(in crate::functions) enum Gathered {
    /// They fit.
    Facts(Box<Facts>),
    /// They do not: the window as two, the earlier first.
    TooMany(Deltas, Deltas),
}

/// All that is known of the rows of a window.
#[derive(Debug)]
pub(in crate::functions) struct Facts {
    /// The table's schema.
    pub(in crate::functions) schema: Arc<TableSchema>,
    /// How many facts are base rows; they come first.
    pub(super) base_rows: usize,
    /// The rows of the log, without the user's columns.
    pub(in crate::functions) log: LogColumns,
    /// The user's columns in the order of the schema, of base rows and log rows.
    pub(in crate::functions) values: Vec<ArrayRef>,
    /// The group of each fact.
    pub(super) group: Vec<u32>,
    /// How many groups there are.
    pub(super) groups: usize,
    /// The base row of each group.
    pub(super) base_of: Vec<u32>,
    /// The facts that are evidence.
    pub(super) evidence: Vec<u32>,
    /// All other deltas in the order of their arrival.
    pub(super) arrivals: Vec<u32>,
    /// Where among them the window begins.
    pub(super) first: usize,
    /// For each column of the key, its place in the schema and the place of its value in each group.
    pub(super) keys: Vec<(usize, Vec<u32>)>,
}

/// The log's own columns of some of its rows.
#[derive(Debug)]
pub(in crate::functions) struct LogColumns {
    pub(in crate::functions) seq: Int64Array,
    pub(in crate::functions) arrived_at: TimestampMicrosecondArray,
    pub(in crate::functions) hlc: Int64Array,
    pub(in crate::functions) client: StringArray,
    pub(in crate::functions) delta_id: FixedSizeBinaryArray,
    pub(in crate::functions) op: Int32Array,
    pub(in crate::functions) row_id: StringArray,
    pub(in crate::functions) set: LargeBinaryArray,
}

impl Facts {
    /// Gathers the facts of a window.
    ///
    /// # Errors
    /// When base or log cannot be read.
    pub(in crate::functions) async fn gather(
        ctx: &SessionContext,
        view: &ReadView,
        asked: Asked<'_>,
        prior: Prior<'_>,
    ) -> Result<Gathered> {
        let Deltas { from, batches } = asked.deltas;
        if prior.evidence == Evidence::Nothing {
            let facts = Self::of(view, &Before::default(), &batches, &Groups::default())?;
            return Ok(Gathered::Facts(Box::new(facts)));
        }
        let groups = Groups::of(&batches, asked.row);
        let rows = groups.of_window.len();
        // A single row is gathered whatever it takes: there is nothing left to cut.
        let bytes_max = if rows > 1 {
            prior.bytes_max
        } else {
            usize::MAX
        };
        let prior = Prior { bytes_max, ..prior };
        let Some(before) = before(ctx, view, (from, &batches), &groups, &prior).await? else {
            let (earlier, later) = halves(&batches)?;
            let middle = greatest(std::slice::from_ref(&earlier));
            let cut = |from, batch| Deltas {
                from,
                batches: vec![batch],
            };
            return Ok(Gathered::TooMany(cut(from, earlier), cut(middle, later)));
        };
        let mut facts = Self::of(view, &before, &batches, &groups)?;
        facts.complete_keys()?;
        Ok(Gathered::Facts(Box::new(facts)))
    }

    /// The facts without the key columns of rows that no fact tells.
    fn of(
        view: &ReadView,
        before: &Before,
        window: &[RecordBatch],
        groups: &Groups<'_>,
    ) -> Result<Self> {
        let schema = Arc::clone(&view.schema);
        let base_rows: usize = before.base.iter().map(RecordBatch::num_rows).sum();
        let mut group = Vec::new();
        for batch in [&before.base, &before.evidence, &before.deltas]
            .into_iter()
            .flatten()
        {
            let ids = text_of(batch, columns::ROW_ID).iter().flatten();
            group.extend(ids.map(|id| groups.known(id)));
        }
        let mut base_of = vec![NONE; groups.index.len()];
        for (fact, group) in group.iter().take(base_rows).enumerate() {
            base_of[place(*group)] = number(fact);
        }
        group.extend_from_slice(&groups.of_window);
        let log: Vec<&RecordBatch> = [&before.evidence, &before.deltas]
            .into_iter()
            .flatten()
            .chain(window)
            .collect();
        let values = match groups.index.is_empty() {
            true => Vec::new(),
            false => values(&schema, &before.base, &log)?,
        };
        let count =
            |batches: &[RecordBatch]| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        let evidence = base_rows + count(&before.evidence);
        let first = count(&before.deltas);
        let log = LogColumns::of(&schema, &log)?;
        let seq = |fact: &u32| log.seq.value(place(*fact) - base_rows);
        let range = |from: usize, to: usize| (from..to).map(number).collect::<Vec<u32>>();
        let mut arrivals = range(evidence, base_rows + log.seq.len());
        arrivals[..first].sort_unstable_by_key(seq);
        arrivals[first..].sort_unstable_by_key(seq);
        Ok(Self {
            schema,
            base_rows,
            values,
            group,
            groups: groups.index.len(),
            base_of,
            evidence: range(base_rows, evidence),
            arrivals,
            first,
            keys: Vec::new(),
            log,
        })
    }

    /// The number of the log's row, which is no base row, in the columns of [`LogColumns`].
    pub(in crate::functions) fn log_row(&self, fact: u32) -> usize {
        place(fact) - self.base_rows
    }

    /// Whether the fact is a delta that the log knows.
    pub(in crate::functions) fn is_delta(&self, fact: u32) -> bool {
        fact != NONE && place(fact) >= self.base_rows
    }

    /// Whether the delta is a DELETE.
    pub(in crate::functions) fn is_delete(&self, fact: u32) -> bool {
        self.is_delta(fact) && self.log.op.value(self.log_row(fact)) == Op::Delete.code()
    }

    /// Whether the fact writes the column with this stable number; a base row writes all.
    pub(in crate::functions) fn sets(&self, fact: u32, column_number: u32) -> bool {
        if !self.is_delta(fact) {
            return fact != NONE;
        }
        let set = self.log.set.value(self.log_row(fact));
        let byte = set.get(place(column_number / 8)).copied().unwrap_or(0);
        byte >> (column_number % 8) & 1 == 1
    }

    /// Whether `one` is newer by its stamp; nothing is older than everything, and next comes a base row.
    pub(in crate::functions) fn newer(&self, one: u32, other: u32) -> bool {
        if one == NONE || other == NONE {
            return one != NONE;
        }
        match (self.is_delta(one), self.is_delta(other)) {
            (false, _) => return false,
            (true, false) => return true,
            (true, true) => {}
        }
        let (one, other) = (self.log_row(one), self.log_row(other));
        let hlc = &self.log.hlc;
        match hlc.value(one).cmp(&hlc.value(other)) {
            std::cmp::Ordering::Equal => {
                let rest = |row: usize| (self.log.client.value(row), self.log.delta_id.value(row));
                rest(one) > rest(other)
            }
            order => order.is_gt(),
        }
    }

    /// Where the values of key columns are: in any write, else they are read from the row id.
    fn complete_keys(&mut self) -> Result<()> {
        let key = &self.schema.primary_key;
        let places = self.schema.columns.iter().enumerate();
        let places: Vec<usize> = places
            .filter(|(_, column)| key.contains(&column.name))
            .map(|(at, _)| at)
            .collect();
        for at in places {
            let column_number = self.schema.columns[at].number;
            let mut found = self.base_of.clone();
            // A delta of each row; a row without any shows nothing.
            let mut told = vec![NONE; self.groups];
            for fact in (self.base_rows..self.group.len()).map(number) {
                let group = place(self.group[place(fact)]);
                told[group] = fact;
                if found[group] == NONE && self.sets(fact, column_number) {
                    found[group] = fact;
                }
            }
            let groups = (0..self.groups).filter(|g| found[*g] == NONE && told[*g] != NONE);
            let missing: Vec<usize> = groups.collect();
            if !missing.is_empty() {
                let next = self.values[at].len();
                let ids = missing
                    .iter()
                    .map(|g| self.log.row_id.value(self.log_row(told[*g])));
                let more = key_column(&self.schema, at, ids)?;
                for (nth, group) in missing.iter().enumerate() {
                    found[*group] = number(next + nth);
                }
                self.values[at] = concat(&[&self.values[at], &more])?;
            }
            self.keys.push((at, found));
        }
        Ok(())
    }
}

/// The rows of a window, each with a number.
#[derive(Debug, Default)]
struct Groups<'a> {
    index: HashMap<&'a str, u32>,
    /// The group of each of the window's deltas.
    of_window: Vec<u32>,
}

impl<'a> Groups<'a> {
    fn of(window: &'a [RecordBatch], row: Option<&'a str>) -> Self {
        let mut groups = Self::default();
        // Files of the log are sorted by row.
        let mut last: Option<(&str, u32)> = None;
        let ids = window.iter().map(|batch| text_of(batch, columns::ROW_ID));
        for id in ids.flat_map(|ids| ids.iter().flatten()) {
            let group = match last {
                Some((known, group)) if known == id => group,
                _ => groups.number(id),
            };
            last = Some((id, group));
            groups.of_window.push(group);
        }
        if let Some(row) = row {
            groups.number(row);
        }
        groups
    }

    fn number(&mut self, id: &'a str) -> u32 {
        let next = number(self.index.len());
        *self.index.entry(id).or_insert(next)
    }

    fn known(&self, id: &str) -> u32 {
        *self
            .index
            .get(id)
            .expect("only rows of the window were asked for")
    }
}

/// What was there before a window.
#[derive(Debug, Default)]
struct Before {
    base: Vec<RecordBatch>,
    evidence: Vec<RecordBatch>,
    deltas: Vec<RecordBatch>,
}

/// None when it takes too much room.
async fn before(
    ctx: &SessionContext,
    view: &ReadView,
    (from, window): (Seq, &[RecordBatch]),
    groups: &Groups<'_>,
    prior: &Prior<'_>,
) -> Result<Option<Before>> {
    let mut before = Before::default();
    let (index, bytes_max) = (&groups.index, prior.bytes_max);
    let ids = StringArray::from_iter_values(index.keys());
    let base_seq = prior.base.base_seq;
    if base_seq < from {
        let known = (&ids, |id: &str| index.contains_key(id));
        let frame = log_rows_of(ctx, view, (base_seq, from), known).await?;
        match collect_within(frame, usize::MAX, bytes_max).await? {
            Some(deltas) => before.deltas = deltas,
            None => return Ok(None),
        }
    }
    if prior.base.snapshot_id.is_none() {
        return Ok(Some(before));
    }
    let base = ctx.read_table(Arc::new(prior.base.scan(&view.warehouse).await?))?;
    match collect_within(only(ctx, base, &ids)?, usize::MAX, bytes_max).await? {
        Some(rows) => before.base = rows,
        None => return Ok(None),
    }
    let oldest = match prior.evidence {
        Evidence::Nothing => None,
        Evidence::All => Some(0),
        Evidence::Late => {
            let hlcs = before.deltas.iter().chain(window).flat_map(hlcs);
            hlcs.min()
                .filter(|oldest| *oldest <= prior.base.max_hlc.as_i64())
        }
    };
    if let Some(oldest) = oldest {
        let known = (&ids, |_: &str| false);
        let frame = log_rows_of(ctx, view, (Seq::ZERO, base_seq), known).await?;
        let frame = frame.filter(col(columns::HLC).gt_eq(lit(oldest)))?;
        match collect_within(frame, usize::MAX, bytes_max).await? {
            Some(evidence) => before.evidence = evidence,
            None => return Ok(None),
        }
    }
    Ok(Some(before))
}

fn hlcs(batch: &RecordBatch) -> impl Iterator<Item = i64> {
    let hlc = batch.column_by_name(columns::HLC);
    let hlc = hlc.expect("every frame of the log has the log's columns");
    hlc.as_primitive::<arrow::datatypes::Int64Type>()
        .values()
        .iter()
        .copied()
}

/// The user's columns, of base rows and log rows.
fn values(
    schema: &TableSchema,
    base: &[RecordBatch],
    log: &[&RecordBatch],
) -> Result<Vec<ArrayRef>> {
    let types = log_arrow_schema(schema)?;
    let columns = schema.columns.iter().map(|known| {
        let name = known.name.as_str();
        let field = types.field_with_name(name)?;
        let mut parts: Vec<ArrayRef> = Vec::new();
        for batch in base.iter().chain(log.iter().copied()) {
            parts.push(match batch.column_by_name(name) {
                Some(values) if values.data_type() == field.data_type() => Arc::clone(values),
                // Written before the type was widened.
                Some(values) => cast(values, field.data_type())?,
                None => new_null_array(field.data_type(), batch.num_rows()),
            });
        }
        if parts.is_empty() {
            parts.push(new_null_array(field.data_type(), 0));
        }
        together(&parts)
    });
    columns.collect()
}

fn together(parts: &[ArrayRef]) -> Result<ArrayRef> {
    if let [one] = parts {
        return Ok(Arc::clone(one));
    }
    let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    Ok(concat(&parts)?)
}

impl LogColumns {
    fn of(schema: &TableSchema, batches: &[&RecordBatch]) -> Result<Self> {
        let types = log_arrow_schema(schema)?;
        let find = |name: &str| -> Result<ArrayRef> {
            let mut parts: Vec<ArrayRef> = batches
                .iter()
                .filter_map(|batch| batch.column_by_name(name).map(Arc::clone))
                .collect();
            if parts.is_empty() {
                parts.push(new_null_array(types.field_with_name(name)?.data_type(), 0));
            }
            together(&parts)
        };
        Ok(Self {
            seq: find(columns::SEQ)?.as_primitive().clone(),
            arrived_at: find(columns::ARRIVED_AT)?.as_primitive().clone(),
            hlc: find(columns::HLC)?.as_primitive().clone(),
            client: find(columns::CLIENT)?.as_string().clone(),
            delta_id: find(columns::DELTA_ID)?.as_fixed_size_binary().clone(),
            op: find(columns::OP)?.as_primitive().clone(),
            row_id: find(columns::ROW_ID)?.as_string().clone(),
            set: find(columns::SET)?.as_binary().clone(),
        })
    }
}

/// A key column's values of rows, read from their ids.
fn key_column<'a>(
    schema: &TableSchema,
    at: usize,
    ids: impl Iterator<Item = &'a str>,
) -> Result<ArrayRef> {
    let known = &schema.columns[at];
    let mut values = Vec::new();
    for id in ids {
        let key = RowId::parse(id)
            .map_err(|error| error.to_string())
            .and_then(|id| schema.key_values(&id).map_err(|error| error.to_string()));
        let key = key.map_err(|reason| Error::BrokenDelta {
            table: schema.table.clone(),
            seq: 0,
            reason,
        })?;
        let value = key.into_iter().find(|(name, _)| *name == known.name);
        values.push(value.map(|(_, value)| value));
    }
    column(known.column_type, values.iter().map(Option::as_ref))
}

/// The earlier half of some deltas and the later one, each ascending.
fn halves(batches: &[RecordBatch]) -> Result<(RecordBatch, RecordBatch)> {
    let all = arrow::compute::concat_batches(&batches[0].schema(), batches)?;
    let seqs = all.column_by_name(columns::SEQ);
    let seqs = seqs.expect("every frame of the log has the log's columns");
    let order = arrow::compute::sort_to_indices(seqs, None, None)?;
    let sorted = take_record_batch(&all, &order)?;
    let half = sorted.num_rows() / 2;
    let rest = sorted.num_rows() - half;
    Ok((sorted.slice(0, half), sorted.slice(half, rest)))
}
