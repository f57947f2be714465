//! Query results for people and for scripts.
//!
//! Invariant: what a script reads back is what the query returned. NULL differs from the empty text in every format;
//! JSON has the forms of the wire (WIRE A6: decimals and numbers above 2^53 as strings, binary as base64), so `lakesync
//! push` reads the user's columns back from `--format ndjson`; no value ends a line or a field early.
//!
//! | format | NULL | empty text | decimal | binary |
//! |---|---|---|---|---|
//! | table | `NULL` (the text NULL is shown as `'NULL'`) | nothing | digits | hex |
//! | csv | nothing | `""` | digits | base64 |
//! | json, ndjson | `null` | `""` | string | base64 |
//!
//! Fixed-size binary (delta ids) is hex everywhere. CSV is written here, not by arrow's writer, which cannot tell NULL
//! from the empty text and refuses nested types.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{JsonArray, LineDelimited, Writer};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::json::{self, binary, distinct_names, renamed};

use super::text_table::{Align, TextTable};

/// How rows are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// An aligned table for people.
    Table,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
}

/// Rows that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A value has no form in this format.
    #[error("cannot write the rows in this format: {0}; try --format table")]
    Value(#[source] ArrowError),
    /// The output does not take any more.
    #[error("cannot write the rows: {0}")]
    Output(#[source] io::Error),
}

impl RenderError {
    /// Whether the reader of the output has gone away, as `head` does: no error to report.
    pub fn is_closed_output(&self) -> bool {
        matches!(self, RenderError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<ArrowError> for RenderError {
    fn from(error: ArrowError) -> RenderError {
        match error {
            ArrowError::IoError(_, error) => RenderError::Output(error),
            other => RenderError::Value(other),
        }
    }
}

impl From<io::Error> for RenderError {
    fn from(error: io::Error) -> RenderError {
        RenderError::Output(error)
    }
}

/// Writes the batches of one result. Streams, except that a table needs all rows for its widths.
#[derive(Debug)]
pub struct RowWriter<W: Write> {
    sink: Sink<W>,
    schema: SchemaRef,
    rows: usize,
}

#[derive(Debug)]
enum Sink<W: Write> {
    Table(TextTable, W),
    Csv(W),
    Json(Writer<W, JsonArray>),
    Ndjson(Writer<W, LineDelimited>),
}

/// Writes all `batches` of a result whose columns are `schema`; returns the number of rows.
///
/// # Errors
/// See [`RenderError`].
pub fn write_batches(
    format: Format,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    out: impl Write,
) -> Result<usize, RenderError> {
    let mut writer = RowWriter::new(format, schema, out)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()
}

impl<W: Write> RowWriter<W> {
    /// A writer for a result whose columns are `schema`. CSV's header is written at once.
    ///
    /// # Errors
    /// [`RenderError::Output`].
    pub fn new(format: Format, schema: &SchemaRef, mut out: W) -> Result<Self, RenderError> {
        let json = json::writer();
        let (sink, schema) = match format {
            Format::Table => {
                let names = schema.fields().iter().map(|field| field.name().as_str());
                let align = schema.fields().iter().map(|field| align(field.data_type()));
                let table = TextTable::new(names).with_align(align.collect());
                (Sink::Table(table, out), Arc::clone(schema))
            }
            Format::Csv => {
                let mut header = String::new();
                for (place, field) in schema.fields().iter().enumerate() {
                    csv_field(&mut header, place, Some(field.name()));
                }
                writeln!(out, "{header}")?;
                (Sink::Csv(out), Arc::clone(schema))
            }
            Format::Json => (Sink::Json(json.build(out)), distinct_names(schema)),
            Format::Ndjson => (Sink::Ndjson(json.build(out)), distinct_names(schema)),
        };
        Ok(RowWriter {
            sink,
            schema,
            rows: 0,
        })
    }

    /// Writes one batch.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), RenderError> {
        self.rows += batch.num_rows();
        match &mut self.sink {
            Sink::Table(table, _) => table_rows(table, batch),
            Sink::Csv(out) => csv_rows(out, batch),
            Sink::Json(writer) => Ok(writer.write(&renamed(batch, &self.schema)?)?),
            Sink::Ndjson(writer) => Ok(writer.write(&renamed(batch, &self.schema)?)?),
        }
    }

    /// Writes what is still to be written and flushes; returns the number of rows.
    ///
    /// # Errors
    /// See [`RenderError`].
    pub fn finish(self) -> Result<usize, RenderError> {
        let mut out = match self.sink {
            Sink::Table(table, mut out) => {
                if !self.schema.fields().is_empty() {
                    writeln!(out, "{table}")?;
                }
                out
            }
            Sink::Csv(out) => out,
            Sink::Json(mut writer) => {
                writer.finish()?;
                let mut out = writer.into_inner();
                writeln!(out)?;
                out
            }
            Sink::Ndjson(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
        };
        out.flush()?;
        Ok(self.rows)
    }
}

fn align(data_type: &DataType) -> Align {
    if data_type.is_numeric() {
        Align::Right
    } else {
        Align::Left
    }
}

const NULL: &str = "NULL";

fn table_rows(table: &mut TextTable, batch: &RecordBatch) -> Result<(), RenderError> {
    let options = FormatOptions::new()
        .with_null(NULL)
        .with_display_error(true);
    let columns = batch.columns().iter();
    let columns: Vec<ArrayFormatter<'_>> = columns
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<_, _>>()?;
    for row in 0..batch.num_rows() {
        let shown = |(place, column): (usize, &ArrayFormatter<'_>)| {
            let text = column.value(row).to_string();
            if text == NULL && !is_null(batch, place, row) {
                format!("'{NULL}'")
            } else {
                text
            }
        };
        table.row(columns.iter().enumerate().map(shown));
    }
    Ok(())
}

/// Whether a cell is null, also one of a dictionary or a run.
fn is_null(batch: &RecordBatch, column: usize, row: usize) -> bool {
    let nulls = batch.column(column).logical_nulls();
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

fn csv_rows(out: &mut impl Write, batch: &RecordBatch) -> Result<(), RenderError> {
    let options = FormatOptions::new();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for column in batch.columns() {
        let text = ArrayFormatter::try_new(column, &options)?;
        columns.push((text, column.logical_nulls(), binary(column.as_ref())));
    }
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (place, (text, nulls, binary)) in columns.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                csv_field(&mut line, place, None);
            } else if let Some(bytes) = binary.as_ref().map(|bytes| bytes(row)) {
                csv_field(&mut line, place, Some(&BASE64.encode(bytes)));
            } else {
                csv_field(&mut line, place, Some(&text.value(row).try_to_string()?));
            }
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// RFC 4180, with the empty text quoted so that it is not NULL.
fn csv_field(line: &mut String, place: usize, text: Option<&str>) {
    if place > 0 {
        line.push(',');
    }
    match text {
        None => {}
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            line.push('"');
            line.push_str(&text.replace('"', "\"\""));
            line.push('"');
        }
        Some(text) => line.push_str(text),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
        Float64Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema};

    use super::*;

    fn every_type() -> RecordBatch {
        let decimals = Decimal128Array::from(vec![Some(-1250), None])
            .with_precision_and_scale(10, 2)
            .expect("it fits");
        let times = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_000_001), None])
            .with_timezone("+00:00");
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(
            [Some([0xab_u8; 2]), None].into_iter(),
            2,
        )
        .expect("two bytes each");
        let list =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(7), None]))),
            (
                "big",
                Arc::new(Int64Array::from(vec![Some((1 << 53) + 1), None])),
            ),
            ("f", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
            (
                "s",
                Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), Some("")])),
            ),
            ("dec", Arc::new(decimals)),
            ("d", Arc::new(Date32Array::from(vec![Some(0), None]))),
            ("t", Arc::new(times)),
            (
                "b",
                Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None])),
            ),
            ("id", Arc::new(ids)),
            ("l", Arc::new(list)),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .expect("columns of one length")
    }

    fn rendered(format: Format, batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let rows = write_batches(format, &batches[0].schema(), batches, &mut out).expect("written");
        assert_eq!(
            rows,
            batches.iter().map(RecordBatch::num_rows).sum::<usize>()
        );
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn csv_tells_null_from_the_empty_text() {
        assert_eq!(
            rendered(Format::Csv, &[every_type()]),
            "n,big,f,s,dec,d,t,b,id,l\n\
             7,9007199254740993,0.5,\"a,\"\"b\"\"\nc\",-12.50,1970-01-01,\
             2023-11-14T22:13:20.000001Z,AP8=,abab,\"[1, ]\"\n\
             ,,,\"\",,,,,,\n"
        );
    }

    #[test]
    fn json_has_the_forms_of_the_wire() {
        let row = "{\"n\":7,\"big\":\"9007199254740993\",\"f\":0.5,\"s\":\"a,\\\"b\\\"\\nc\",\"dec\":\"-12.50\",\
                   \"d\":\"1970-01-01\",\"t\":\"2023-11-14T22:13:20.000001Z\",\"b\":\"AP8=\",\"id\":\"abab\",\"l\":[1,null]}";
        let nulls = "{\"n\":null,\"big\":null,\"f\":null,\"s\":\"\",\"dec\":null,\"d\":null,\"t\":null,\"b\":null,\
                     \"id\":null,\"l\":null}";
        let batch = every_type();
        assert_eq!(
            rendered(Format::Ndjson, std::slice::from_ref(&batch)),
            format!("{row}\n{nulls}\n")
        );
        assert_eq!(
            rendered(Format::Json, std::slice::from_ref(&batch)),
            format!("[{row},{nulls}]\n")
        );
        assert_eq!(rendered(Format::Json, &[batch.slice(0, 0)]), "[]\n");
        assert_eq!(rendered(Format::Ndjson, &[batch.slice(0, 0)]), "");
    }

    #[test]
    fn tables_align_numbers_and_show_null() {
        let text: DictionaryArray<Int32Type> = [Some("NULL"), None, Some("")].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "number",
                Arc::new(Int64Array::from(vec![Some(7), None, Some(-12)])),
            ),
            ("text", Arc::new(text)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        assert_eq!(
            rendered(Format::Table, &[batch.slice(0, 1), batch.slice(1, 2)]),
            "\
┌────────┬────────┐
│ number │ text   │
├────────┼────────┤
│      7 │ 'NULL' │
│   NULL │ NULL   │
│    -12 │        │
└────────┴────────┘
"
        );
        assert!(rendered(Format::Table, &[batch.slice(0, 0)]).contains("number"));
    }

    #[test]
    fn repeated_columns_keep_their_values_in_json() {
        let number = |n: i64| Arc::new(Int64Array::from(vec![n])) as ArrayRef;
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![field("id"), field("id"), field("id_1")]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![number(1), number(2), number(3)])
            .expect("columns of one length");
        assert_eq!(
            rendered(Format::Ndjson, std::slice::from_ref(&batch)),
            "{\"id\":1,\"id_1\":2,\"id_1_1\":3}\n"
        );
        assert_eq!(rendered(Format::Csv, &[batch]), "id,id,id_1\n1,2,3\n");
    }

    #[test]
    fn a_reader_that_went_away_is_told_apart() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
            let batch = every_type();
            let error =
                write_batches(format, &batch.schema(), &[batch], Closed).expect_err("closed");
            assert!(error.is_closed_output(), "{format:?}: {error}");
        }
    }
}
