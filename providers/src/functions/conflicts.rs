//! `t$conflicts`: cells where a delta met a write of another client that its writer had not seen.
//!
//! ```text
//!   lost        a delta arrives, but what another client wrote before has the greater stamp: it shows nothing
//!   overwrote   a delta takes the place of what another client wrote, and its HLC's wall clock stands before that
//!               write's arrival at the gateway: its writer cannot have seen it
//! ```
//! A delta is compared with what decides the cell when it arrives: its newest write, or the row's newest DELETE. A DELETE
//! takes the place of every cell that shows. Not compared are key columns, which no write decides, a DELETE with a
//! DELETE, and writes that the log has forgotten. Clocks that run behind make `overwrote` of what was seen.
//!
//! | column | is |
//! |---|---|
//! | `table`, `row_id`, `column` | the cell |
//! | `kind` | `lost` or `overwrote`: what the later arrival did |
//! | `_seq` | of the later arrival |
//! | `winner_value`, `winner_op`, `winner_client`, `winner_hlc`, `winner_seq` | what the cell shows after; a DELETE has no value |
//! | `loser_value`, `loser_op`, … | what it does not show |
//!
//! **Invariant:** what is said of a delta depends on deltas that arrived before it, and on no other.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use lakesync_proto::{Hlc, columns};

use super::images::{BATCH_BYTES, BATCH_ROWS, lengths};
use super::replay::{Cell, Clocks, Facts, NONE, Step, place};
use crate::error::Result;

/// Microseconds of a millisecond.
const MILLIS: i64 = 1_000;

/// The schema of `t$conflicts`.
pub(super) fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    let value = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("table"),
        text(columns::ROW_ID),
        text("column"),
        text("kind"),
        number(columns::SEQ),
        value("winner_value"),
        text("winner_op"),
        text("winner_client"),
        number("winner_hlc"),
        number("winner_seq"),
        value("loser_value"),
        text("loser_op"),
        text("loser_client"),
        number("loser_hlc"),
        number("loser_seq"),
    ]))
}

/// A cell where two deltas met.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    /// The later arrival.
    delta: u32,
    column: usize,
    kind: Kind,
    /// What it met.
    met: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Lost,
    Overwrote,
}

/// The conflicts of one window, batch by batch.
#[derive(Debug)]
pub(super) struct Conflicts {
    facts: Facts,
    found: Vec<Conflict>,
    at: usize,
}

impl Conflicts {
    /// Those of the window of `facts`, ascending by seq.
    ///
    /// # Errors
    /// When values cannot be compared.
    pub(super) fn new(facts: Facts) -> Result<Self> {
        let start = Clocks::before(&facts)?;
        let (steps, clocks) = start.steps(&facts);
        let mut found = Vec::new();
        for column in 0..facts.values.len() {
            if facts.is_key(column) {
                continue;
            }
            facts.cells((&clocks, &steps), column, |step, cell| {
                if let Some((kind, met)) = met(&facts, step, cell) {
                    found.push(Conflict {
                        delta: step.fact,
                        column,
                        kind,
                        met,
                    });
                }
            });
        }
        let seq = |fact: u32| facts.log.seq.value(facts.log_row(fact));
        found.sort_by_key(|conflict| (seq(conflict.delta), conflict.column));
        Ok(Self {
            facts,
            found,
            at: 0,
        })
    }

    /// The next batch, unless there is none.
    ///
    /// # Errors
    /// When a value cannot be shown.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        if self.at == self.found.len() {
            return Ok(None);
        }
        let range = self.at..self.batch_end();
        self.at = range.end;
        Ok(Some(self.batch(range)?))
    }

    fn batch_end(&self) -> usize {
        let sized: Vec<_> = self.facts.values.iter().map(lengths).collect();
        let mut bytes = 0;
        let end = self.found.len().min(self.at + BATCH_ROWS);
        for at in self.at..end {
            let conflict = self.found[at];
            if let Some(length) = &sized[conflict.column] {
                bytes += length(conflict.delta) + length(conflict.met);
            }
            if bytes > BATCH_BYTES && at > self.at {
                return at;
            }
        }
        end
    }

    fn batch<'f>(&'f self, at: Range<usize>) -> Result<RecordBatch> {
        let facts = &self.facts;
        let found = &self.found[at];
        let texts = |of: &dyn Fn(&Conflict) -> &'f str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(found.iter().map(of)))
        };
        let numbers = |of: &dyn Fn(&Conflict) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(found.iter().map(of)))
        };
        let log = &facts.log;
        let seq = |fact: u32| log.seq.value(facts.log_row(fact));
        let mut columns = vec![
            texts(&|_| facts.schema.table.as_str()),
            texts(&|c| log.row_id.value(facts.log_row(c.delta))),
            texts(&|c| facts.schema.columns[c.column].name.as_str()),
            texts(&|c| c.kind.name()),
            numbers(&|c| seq(c.delta)),
        ];
        for side in [Conflict::winner, Conflict::loser] {
            columns.extend([
                self.values(found, side)?,
                texts(&|c| facts.op_name(side(c))),
                texts(&|c| log.client.value(facts.log_row(side(c)))),
                numbers(&|c| log.hlc.value(facts.log_row(side(c)))),
                numbers(&|c| seq(side(c))),
            ]);
        }
        Ok(RecordBatch::try_new(schema(), columns)?)
    }

    fn values(&self, found: &[Conflict], side: fn(&Conflict) -> u32) -> Result<ArrayRef> {
        let values = &self.facts.values;
        let shown = values.iter().map(text);
        let shown = shown.collect::<Result<Vec<_>>>()?;
        let mut texts = StringBuilder::new();
        for conflict in found {
            let fact = side(conflict);
            let is_null = values[conflict.column].is_null(place(fact));
            match is_null || self.facts.is_delete(fact) {
                true => texts.append_null(),
                false => texts.append_value(shown[conflict.column].value(place(fact)).to_string()),
            }
        }
        Ok(Arc::new(texts.finish()))
    }
}

impl Conflict {
    fn winner(&self) -> u32 {
        match self.kind {
            Kind::Lost => self.met,
            Kind::Overwrote => self.delta,
        }
    }

    fn loser(&self) -> u32 {
        match self.kind {
            Kind::Lost => self.delta,
            Kind::Overwrote => self.met,
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Overwrote => "overwrote",
        }
    }
}

/// A column as texts.
///
/// # Errors
/// For a type that has none.
pub(super) fn text(values: &ArrayRef) -> Result<ArrayFormatter<'_>> {
    Ok(ArrayFormatter::try_new(
        values.as_ref(),
        &FormatOptions::new(),
    )?)
}

/// Whether the delta meets a write that its client had not seen.
fn met(facts: &Facts, step: &Step, cell: Cell) -> Option<(Kind, u32)> {
    let met = match step.is_delete {
        true => cell.shown.0,
        false if cell.written => cell.decided,
        false => NONE,
    };
    if !facts.is_delta(met) {
        return None;
    }
    let log = &facts.log;
    let (this, other) = (facts.log_row(step.fact), facts.log_row(met));
    if log.client.value(this) == log.client.value(other) {
        return None;
    }
    if facts.newer(met, step.fact) {
        return Some((Kind::Lost, met));
    }
    let wall_ms = Hlc::from_i64(log.hlc.value(this)).map_or(0, Hlc::wall_ms);
    let arrived_ms = log.arrived_at.value(other).div_euclid(MILLIS);
    let unseen = i64::try_from(wall_ms).is_ok_and(|wall_ms| wall_ms < arrived_ms);
    unseen.then_some((Kind::Overwrote, met))
}
