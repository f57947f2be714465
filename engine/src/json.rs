//! Rows as JSON, in the forms of the wire (WIRE A6): decimals and numbers above 2^53 as strings, binary as base64.
//!
//! Invariant: a repeated column name is told apart, since a JSON object with a repeated key loses a value in most readers.

use std::collections::HashSet;
use std::io::Write as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, NullableEncoder, WriterBuilder,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A builder of JSON writers that write these forms, nulls included.
pub(crate) fn writer() -> WriterBuilder {
    WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(WireForms))
}

/// How to read the bytes of a row, when the column is binary of any length.
pub(crate) fn binary<'a>(column: &'a dyn Array) -> Option<Box<dyn Fn(usize) -> &'a [u8] + 'a>> {
    match column.data_type() {
        DataType::Binary => {
            let array = column.as_binary::<i32>();
            Some(Box::new(|row| array.value(row)))
        }
        DataType::LargeBinary => {
            let array = column.as_binary::<i64>();
            Some(Box::new(|row| array.value(row)))
        }
        DataType::BinaryView => {
            let array = column.as_binary_view();
            Some(Box::new(|row| array.value(row)))
        }
        _ => None,
    }
}

/// `id`, `id` becomes `id`, `id_1`: a JSON object with a repeated key loses a value in most readers.
pub(crate) fn distinct_names(schema: &SchemaRef) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut name = field.name().clone();
            let mut count = 0;
            while !taken.insert(name.clone()) {
                count += 1;
                name = format!("{}_{count}", field.name());
            }
            Arc::new(field.as_ref().clone().with_name(name))
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// A batch under the names of `schema`, which has as many columns.
pub(crate) fn renamed(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let fields = batch.schema_ref().fields().iter().zip(schema.fields());
    let fields: Vec<_> = fields
        .map(|(field, renamed)| Arc::new(field.as_ref().clone().with_name(renamed.name())))
        .collect();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields)),
        batch.columns().to_vec(),
        &rows,
    )
}

/// The JSON forms of the wire, where arrow's differ.
#[derive(Debug)]
struct WireForms;

/// The greatest whole number below which a JavaScript reader keeps every one apart.
const EXACT_MAX: u64 = 1 << 53;

impl EncoderFactory for WireForms {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a arrow::datatypes::FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => {
                let digits = ArrayFormatter::try_new(array, &FormatOptions::new())?;
                Box::new(Quoted(move |row, out: &mut Vec<u8>| {
                    // Writing into memory does not fail, and a decimal's digits always display.
                    let _written = write!(out, "{}", digits.value(row));
                }))
            }
            DataType::Int64 => {
                let values = array.as_primitive::<Int64Type>();
                Box::new(Whole(move |row| i128::from(values.value(row))))
            }
            DataType::UInt64 => {
                let values = array.as_primitive::<UInt64Type>();
                Box::new(Whole(move |row| i128::from(values.value(row))))
            }
            _ => match binary(array) {
                Some(bytes) => Box::new(Quoted(move |row, out: &mut Vec<u8>| {
                    out.extend_from_slice(BASE64.encode(bytes(row)).as_bytes());
                })),
                None => return Ok(None),
            },
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

/// A string of characters that need no escape.
struct Quoted<F>(F);

impl<F: Fn(usize, &mut Vec<u8>)> Encoder for Quoted<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        (self.0)(row, out);
        out.push(b'"');
    }
}

/// A whole number, as a string when a reader with doubles would round it.
struct Whole<F>(F);

impl<F: Fn(usize) -> i128> Encoder for Whole<F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = (self.0)(row);
        let quote = if value.unsigned_abs() > u128::from(EXACT_MAX) {
            "\""
        } else {
            ""
        };
        // Writing into memory does not fail.
        let _written = write!(out, "{quote}{value}{quote}");
    }
}
