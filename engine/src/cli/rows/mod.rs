//! Reading NDJSON for `lakesync push`: plain rows, or deltas as they are on the wire.
//!
//! Invariant: every line is either handed out or refused with its number and byte; nothing is skipped, rounded or
//! guessed later than in the first [`INFER_ROWS`] rows. Values stay JSON text until their column's type is known, so
//! long numbers keep their digits.
//!
//! | what the rows hold | column type |
//! |---|---|
//! | booleans | `boolean` |
//! | whole numbers of 64 bits | `long` |
//! | numbers | `number` |
//! | only `YYYY-MM-DD` | `date` |
//! | only RFC 3339 times | `timestamp` |
//! | text, or nothing but null | `string` |
//! | objects and arrays | `json` |
//!
//! Decimals look like text, so they are named: `--type price=decimal(15,2)`.

mod error;
mod infer;
mod lines;

use std::collections::VecDeque;
use std::io::BufRead;

use lakesync_proto::{ColumnChange, TableDefinition, TableSchema, Value, columns};
use serde_json::value::RawValue;

pub use error::{RowError, RowErrorKind};
pub use infer::{Import, parse_type_override};
pub use lines::LINE_BYTES_MAX;

use lines::{Lines, RawLine};

/// How many rows are read before the columns' types are fixed.
pub const INFER_ROWS: usize = 1_000;

/// How much text is read at most before the columns' types are fixed, in bytes: it is held in memory.
pub const INFER_BYTES_MAX: usize = 64 << 20;

/// What the lines of an input are. The first line decides; a later one of the other kind is an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LineKind {
    /// Deltas in their wire form.
    Delta,
    /// Plain rows.
    Row,
}

/// One line of an input.
#[derive(Debug)]
pub enum Line {
    /// A delta, as it goes into a push body.
    Delta(DeltaLine),
    /// A plain row.
    Row(Row),
}

/// A delta, not yet decoded.
#[derive(Debug)]
pub struct DeltaLine {
    /// The number of the line, from 1.
    pub line: u64,
    /// The delta's `clientId`; a push carries the deltas of one client.
    pub client_id: String,
    /// The delta's JSON.
    pub json: String,
}

/// A plain row: column names with JSON values, in the order of the line.
#[derive(Debug)]
pub struct Row {
    /// The number of the line, from 1.
    pub line: u64,
    /// Where the line begins in the input, in bytes.
    byte: u64,
    /// The row's id, when the line has a `row_id`.
    pub row_id: Option<String>,
    cells: Vec<(String, Box<RawValue>)>,
}

/// Hands out the lines of an input, in order.
#[derive(Debug)]
pub struct RowReader<R> {
    lines: Lines<R>,
    kind: Option<LineKind>,
    ahead: VecDeque<Line>,
}

/// The members that make an object a delta.
const DELTA_MEMBERS: [&str; 6] = ["op", "table", "rowId", "clientId", "hlc", "deltaId"];

impl<R: BufRead> RowReader<R> {
    /// A reader of NDJSON. Nothing is read yet.
    pub fn new(input: R) -> RowReader<R> {
        RowReader {
            lines: Lines::new(input),
            kind: None,
            ahead: VecDeque::new(),
        }
    }

    /// What the input holds, by its first line; none when it has no lines.
    ///
    /// # Errors
    /// [`RowError`] when the first line cannot be read.
    pub fn kind(&mut self) -> Result<Option<LineKind>, RowError> {
        if self.kind.is_none()
            && let Some(line) = self.read()?
        {
            self.ahead.push_back(line);
        }
        Ok(self.kind)
    }

    /// The definition of a table for the rows, from the first [`INFER_ROWS`] of them. They are kept and handed out
    /// like the others.
    ///
    /// # Errors
    /// [`RowError`] names the line and column when values do not go together, a name is not allowed, the input holds
    /// no rows, or a key column is in none of them.
    pub fn infer(&mut self, import: &Import) -> Result<TableDefinition, RowError> {
        let mut bytes: usize = self.ahead.iter().map(Line::bytes).sum();
        while self.ahead.len() < INFER_ROWS && bytes < INFER_BYTES_MAX {
            let Some(line) = self.read()? else { break };
            bytes += line.bytes();
            self.ahead.push_back(line);
        }
        let rows = self.ahead.iter().filter_map(|line| match line {
            Line::Row(row) => Some(row),
            Line::Delta(_) => None,
        });
        infer::definition(rows, import)
    }

    /// The next line; none at the end.
    ///
    /// # Errors
    /// [`RowError`] when the line cannot be read or is not of the input's kind.
    pub fn next_line(&mut self) -> Result<Option<Line>, RowError> {
        match self.ahead.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.read(),
        }
    }

    fn read(&mut self) -> Result<Option<Line>, RowError> {
        let Some(raw) = self.lines.next_line()? else {
            return Ok(None);
        };
        let line = line_of(raw)?;
        let kind = line.kind();
        let first = *self.kind.get_or_insert(kind);
        if first == kind {
            return Ok(Some(line));
        }
        let (number, byte) = line.place();
        Err(RowError::new(
            RowErrorKind::Mixed,
            match first {
                LineKind::Delta => "this line is a plain row, but the input began with deltas",
                LineKind::Row => "this line is a delta, but the input began with plain rows",
            },
            "push rows and deltas from two files",
        )
        .at(number, byte))
    }
}

impl Line {
    fn kind(&self) -> LineKind {
        match self {
            Line::Delta(_) => LineKind::Delta,
            Line::Row(_) => LineKind::Row,
        }
    }

    fn place(&self) -> (u64, Option<u64>) {
        match self {
            Line::Delta(delta) => (delta.line, None),
            Line::Row(row) => (row.line, Some(row.byte)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Line::Delta(delta) => delta.json.len(),
            Line::Row(row) => {
                let cells = row.cells.iter();
                cells
                    .map(|(name, value)| name.len() + value.get().len())
                    .sum()
            }
        }
    }
}

impl Row {
    /// The row's values with the types of `schema`.
    ///
    /// # Errors
    /// [`RowError`] names the line and column of a value that has another type, and of a column that the table does
    /// not have.
    pub fn changes(&self, schema: &TableSchema) -> Result<Vec<ColumnChange>, RowError> {
        let mut changes = Vec::with_capacity(self.cells.len());
        for (name, json) in &self.cells {
            let refused = |message: String, next: String| {
                Err(RowError::new(RowErrorKind::Value, message, next)
                    .at(self.line, Some(self.byte)))
            };
            let Some(column) = schema.column(name) else {
                return refused(
                    format!("the table {} has no column {name}", schema.table),
                    format!("for a new table, name its type: --type {name}=<type>"),
                );
            };
            match Value::from_json_text(json.get(), column.column_type) {
                Ok(value) => changes.push(ColumnChange {
                    column: column.name.clone(),
                    value,
                }),
                Err(error) => {
                    return refused(
                        format!("column {name}: {error}"),
                        format!(
                            "correct the line, or for a new table name a wider type: --type {name}=<type>"
                        ),
                    );
                }
            }
        }
        Ok(changes)
    }

    /// The columns of the row and their JSON, in the order of the line.
    fn cells(&self) -> impl Iterator<Item = (&str, &str)> {
        let cells = self.cells.iter();
        cells.map(|(name, json)| (name.as_str(), json.get()))
    }
}

/// A row, with its `row_id` taken out of its columns: what `select *` shows can be pushed again.
fn row_of(mut raw: RawLine) -> Result<Row, RowError> {
    let place = raw
        .cells
        .iter()
        .position(|(name, _)| name == columns::ROW_ID);
    let row_id = place.map(|place| raw.cells.remove(place).1);
    let row_id = row_id.map(|json| serde_json::from_str::<String>(json.get()));
    let row_id = row_id.transpose().map_err(|_| {
        let message = "row_id is no text".to_owned();
        RowError::new(
            RowErrorKind::Value,
            message,
            "write it as \"row_id\": \"…\", or leave it out",
        )
        .at(raw.line, Some(raw.byte))
    })?;
    Ok(Row {
        line: raw.line,
        byte: raw.byte,
        row_id,
        cells: raw.cells,
    })
}

fn line_of(raw: RawLine) -> Result<Line, RowError> {
    let is_delta = DELTA_MEMBERS
        .iter()
        .all(|member| raw.cells.iter().any(|(name, _)| name == member));
    if !is_delta {
        return row_of(raw).map(Line::Row);
    }
    let client_id = raw.cells.iter().find(|(name, _)| name == "clientId");
    let client_id = client_id.and_then(|(_, json)| serde_json::from_str(json.get()).ok());
    match client_id {
        Some(client_id) => Ok(Line::Delta(DeltaLine {
            line: raw.line,
            client_id,
            json: raw.text,
        })),
        None => Err(RowError::new(
            RowErrorKind::Json,
            "the delta's clientId is no string",
            "write it as \"clientId\": \"…\"",
        )
        .at(raw.line, Some(raw.byte))),
    }
}

#[cfg(test)]
mod tests;
