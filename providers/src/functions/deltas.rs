//! `changes` and `history`: deltas, each with what it made of its row.
//!
//! | column | of | is |
//! |---|---|---|
//! | `_seq`, `_arrived_at`, `_hlc`, `_client` | both | as in `t$deltas` |
//! | `_delta_id` | `history` | as in `t$deltas` |
//! | `op` | both | `INSERT`, `UPDATE` or `DELETE` |
//! | `row_id` | `changes` | the row |
//! | `won`, `lost` | `history` | of the columns it wrote: those that showed it then, and those where something newer was; a DELETE wins a column that it hid. Key columns follow the row id and are in neither |
//! | `changed` | both | the columns whose visible value changed |
//! | `before`, `after` | both | the row in its columns, null where it does not exist |
//!
//! **Invariant:** `after` is what `t` shows at that seq.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use lakesync_proto::{Op, TableSchema, columns};

use super::images::{BATCH_ROWS, Images, Rows, Wanted};
use super::replay::{Clocks, Facts};
use crate::error::Result;
use crate::lake::log_arrow_schema;

/// A column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Seq,
    ArrivedAt,
    Hlc,
    Client,
    DeltaId,
    Op,
    RowId,
    Won,
    Lost,
    Changed,
    Before,
    After,
}

/// The columns of `changes`.
pub(super) const CHANGES: [Column; 9] = [
    Column::Seq,
    Column::ArrivedAt,
    Column::Hlc,
    Column::Client,
    Column::Op,
    Column::RowId,
    Column::Changed,
    Column::Before,
    Column::After,
];

/// The columns of `history`.
pub(super) const HISTORY: [Column; 11] = [
    Column::Seq,
    Column::ArrivedAt,
    Column::Hlc,
    Column::Client,
    Column::DeltaId,
    Column::Op,
    Column::Won,
    Column::Lost,
    Column::Changed,
    Column::Before,
    Column::After,
];

impl Column {
    /// Whether it takes more than the delta itself to tell.
    pub(super) fn needs_images(self) -> bool {
        use Column::{After, Before, Changed, Lost, Won};
        matches!(self, Won | Lost | Changed | Before | After)
    }

    fn name(self) -> &'static str {
        match self {
            Column::Seq => columns::SEQ,
            Column::ArrivedAt => columns::ARRIVED_AT,
            Column::Hlc => columns::HLC,
            Column::Client => columns::CLIENT,
            Column::DeltaId => columns::DELTA_ID,
            Column::Op => "op",
            Column::RowId => columns::ROW_ID,
            Column::Won => "won",
            Column::Lost => "lost",
            Column::Changed => "changed",
            Column::Before => "before",
            Column::After => "after",
        }
    }
}

/// The schema of these columns for a table.
///
/// # Errors
/// For a column type that Arrow does not have.
pub(super) fn schema(table: &TableSchema, of: &[Column]) -> Result<SchemaRef> {
    let log = log_arrow_schema(table)?;
    let row = row_fields(table)?;
    let fields = of.iter().map(|column| {
        let name = column.name();
        let names = Field::new_list_field(DataType::Utf8, true);
        Ok(match column {
            Column::Op => Field::new(name, DataType::Utf8, false),
            Column::Won | Column::Lost | Column::Changed => Field::new_list(name, names, false),
            Column::Before | Column::After => Field::new_struct(name, row.clone(), true),
            _ => log.field_with_name(name)?.clone(),
        })
    });
    Ok(Arc::new(Schema::new(
        fields.collect::<Result<Vec<Field>>>()?,
    )))
}

/// The fields of an image: the columns of the table.
fn row_fields(table: &TableSchema) -> Result<Fields> {
    let log = log_arrow_schema(table)?;
    let fields = table.columns.iter().map(|column| {
        let field = log.field_with_name(column.name.as_str())?;
        Ok(Arc::new(field.clone().with_nullable(true)))
    });
    Ok(fields.collect::<Result<Vec<_>>>()?.into())
}

/// The answer for one window, batch by batch.
#[derive(Debug)]
pub(super) struct Answer {
    facts: Facts,
    images: Option<Images>,
    wanted: Wanted,
    columns: Vec<Column>,
    schema: SchemaRef,
    row: Fields,
    at: usize,
}

impl Answer {
    /// These columns, which `schema` describes, for the window of `facts`.
    ///
    /// # Errors
    /// When values cannot be compared.
    pub(super) fn new(facts: Facts, columns: Vec<Column>, schema: SchemaRef) -> Result<Self> {
        let has = |wanted: &[Column]| columns.iter().any(|column| wanted.contains(column));
        let wanted = match () {
            () if has(&[Column::Before, Column::Changed]) => Wanted::Both,
            () if has(&[Column::After]) => Wanted::After,
            () => Wanted::Nothing,
        };
        let mut images = None;
        if columns.iter().any(|column| column.needs_images()) {
            let start = Clocks::before(&facts)?;
            let (steps, clocks) = start.steps(&facts);
            let made = Images::of(&facts, &clocks, &steps);
            images = Some(match has(&[Column::Won, Column::Lost]) {
                true => made.with_verdicts(&facts, &clocks, &steps),
                false => made,
            });
        }
        Ok(Self {
            row: row_fields(&facts.schema)?,
            at: 0,
            facts,
            images,
            wanted,
            columns,
            schema,
        })
    }

    /// The next batch, unless there is none.
    ///
    /// # Errors
    /// When Arrow refuses, which would be a defect.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let window = self.facts.window().len();
        if self.at >= window {
            return Ok(None);
        }
        let (end, rows) = match &self.images {
            Some(images) => {
                let end = images.batch_end(&self.facts, self.at);
                (end, images.rows(&self.facts, self.at..end, self.wanted)?)
            }
            None => (window.min(self.at + BATCH_ROWS), Rows::default()),
        };
        let range = self.at..end;
        self.at = end;
        let columns = self.columns.iter();
        let columns = columns.map(|column| self.column(*column, &rows, range.clone()));
        let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(range.len()));
        let schema = Arc::clone(&self.schema);
        Ok(Some(RecordBatch::try_new_with_options(
            schema, columns, &rows,
        )?))
    }

    fn column(&self, column: Column, rows: &Rows, at: Range<usize>) -> Result<ArrayRef> {
        let (facts, row) = (&self.facts, &self.row);
        let log = &facts.log;
        let images = || {
            let images = self.images.as_ref();
            images.expect("they are made when a column needs them")
        };
        Ok(match column {
            Column::Seq => take(&log.seq, &self.log_rows(at), None)?,
            Column::ArrivedAt => take(&log.arrived_at, &self.log_rows(at), None)?,
            Column::Hlc => take(&log.hlc, &self.log_rows(at), None)?,
            Column::Client => take(&log.client, &self.log_rows(at), None)?,
            Column::DeltaId => take(&log.delta_id, &self.log_rows(at), None)?,
            Column::RowId => take(&log.row_id, &self.log_rows(at), None)?,
            Column::Op => Arc::new(StringArray::from_iter_values(
                facts.window()[at].iter().map(|fact| facts.op_name(*fact)),
            )),
            Column::Won => images().won(facts, at),
            Column::Lost => images().lost(facts, at),
            Column::Changed => images().changed(facts, rows, at)?,
            Column::Before => images().before(rows, row, at)?,
            Column::After => images().after(rows, row, at)?,
        })
    }

    fn log_rows(&self, at: Range<usize>) -> UInt32Array {
        let rows = self.facts.window()[at]
            .iter()
            .map(|fact| self.facts.log_row(*fact));
        let rows = rows.map(|row| u32::try_from(row).expect("it is the number of a fact, or less"));
        UInt32Array::from_iter_values(rows)
    }
}

impl Facts {
    /// The name of what a delta does.
    pub(super) fn op_name(&self, fact: u32) -> &'static str {
        let code = self.log.op.value(self.log_row(fact));
        Op::from_code(code).map_or("UNKNOWN", Op::name)
    }
}
