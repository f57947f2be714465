//! Deltas to protobuf and back: a push, and the durable log's batches.
//!
//! Invariant: fields below 16 are the contract of `proto/lakesync.proto`; a batch is the same message with the arrival
//! number and each value's type, so that it reads back after any schema change.

use prost::Message;
use serde_json::value::RawValue;

use crate::codec::Schemas;
use crate::codec::error::{DecodeError, DecodeErrorKind, Fault};
use crate::codec::fields::count_fields;
use crate::codec::generated as wire;
use crate::codec::protobuf_write::{DeltaWriter, Form, write_bytes};
use crate::codec::resolve::{ColumnReader, Resolver};
use crate::column_type::ColumnType;
use crate::delta::{ColumnChange, Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::hlc::Hlc;
use crate::id::{ColumnName, RowId};
use crate::limits::{COLUMNS_MAX, DECIMAL_PRECISION_MAX, PUSH_DELTAS_MAX};
use crate::message::{Push, SeqDelta};
use crate::schema::TableSchema;
use crate::seq::Seq;
use crate::value::Value;
use crate::value_read::ValueError;

/// Bytes that a delta takes at the least: what an output buffer starts with.
pub(super) const DELTA_BYTES_TYPICAL: usize = 192;

/// Writes a push.
pub fn encode_push_protobuf(push: &Push) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + push.deltas.len() * DELTA_BYTES_TYPICAL);
    write_bytes(1, push.client_id.as_str().as_bytes(), &mut out);
    let mut writer = DeltaWriter::new(Form::Wire);
    for delta in &push.deltas {
        writer.write(2, delta, Seq::ZERO, &mut out);
    }
    let rest = wire::SyncPush {
        last_seen_hlc: push.last_seen.as_u64(),
        schemas: push.schemas,
        ..wire::SyncPush::default()
    };
    out.extend(rest.encode_to_vec());
    out
}

/// A push as a protobuf message, for a frame.
pub fn push_message(push: &Push) -> wire::SyncPush {
    let deltas = push.deltas.iter();
    wire::SyncPush {
        client_id: push.client_id.to_string(),
        deltas: deltas.map(|delta| to_wire(delta, Seq::ZERO)).collect(),
        last_seen_hlc: push.last_seen.as_u64(),
        schemas: push.schemas,
    }
}

/// Reads a push.
///
/// It types values by the schemas; [`verify_delta`](crate::verify_delta) checks the rest.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_push_protobuf(body: &[u8], schemas: &dyn Schemas) -> Result<Push, DecodeError> {
    check_push(body)?;
    let message = wire::SyncPush::decode(body).map_err(no_message)?;
    decode_push_message(&message, schemas)
}

/// Reads a push that is a protobuf message already, as a frame's is.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_push_message(
    message: &wire::SyncPush,
    schemas: &dyn Schemas,
) -> Result<Push, DecodeError> {
    let mut resolver = Resolver::new(schemas);
    if message.client_id.is_empty() {
        return Err(Fault::missing("clientId").into());
    }
    let client_id = resolver.client(&message.client_id)?;
    let last_seen = Seq::from_u64(message.last_seen_hlc)
        .map_err(|e| Fault::bad("lastSeenHlc", e.to_string()))?;
    let deltas = message.deltas.iter().enumerate();
    let deltas = deltas.map(|(index, delta)| from_wire(index, delta, &mut resolver, Form::Wire));
    Ok(Push {
        client_id,
        deltas: deltas.collect::<Result<_, _>>()?,
        last_seen,
        schemas: message.schemas,
    })
}

/// Writes deltas for the durable log: one blob a push.
pub fn encode_batch(deltas: &[SeqDelta]) -> Vec<u8> {
    let mut out = Vec::with_capacity(deltas.len() * DELTA_BYTES_TYPICAL);
    let mut writer = DeltaWriter::new(Form::Stored);
    for delta in deltas {
        writer.write(1, &delta.delta, delta.seq, &mut out);
    }
    out
}

/// Reads deltas from the durable log.
///
/// Values come back with the type they were written with, even if their column was dropped or replaced since; readers
/// go by [`TableSchema::column`] and [`Value::column_type_matches`].
///
/// # Errors
/// [`DecodeError`] by kind, with the place: the blob is damaged, or the table is not known.
pub fn decode_batch(blob: &[u8], schemas: &dyn Schemas) -> Result<Vec<SeqDelta>, DecodeError> {
    let message = wire::DeltaBatch::decode(blob).map_err(no_message)?;
    seq_deltas(&message.deltas, schemas, Form::Stored)
}

pub(super) fn to_wire(delta: &RowDelta, seq: Seq) -> wire::RowDelta {
    let column = |change: &ColumnChange| {
        let mut value = String::new();
        change.value.write_json(&mut value);
        wire::ColumnDelta {
            column: change.column.to_string(),
            value: value.into_bytes(),
            ..wire::ColumnDelta::default()
        }
    };
    wire::RowDelta {
        op: delta.op.code(),
        table: delta.table.to_string(),
        row_id: delta.row_id.to_string(),
        columns: delta.columns.iter().map(column).collect(),
        hlc: delta.hlc.as_u64(),
        client_id: delta.client_id.to_string(),
        delta_id: delta.delta_id.to_string(),
        seq: seq.as_u64(),
    }
}

pub(super) fn seq_deltas(
    deltas: &[wire::RowDelta],
    schemas: &dyn Schemas,
    form: Form,
) -> Result<Vec<SeqDelta>, DecodeError> {
    let mut resolver = Resolver::new(schemas);
    let mut out = Vec::with_capacity(deltas.len());
    for (index, message) in deltas.iter().enumerate() {
        let delta = from_wire(index, message, &mut resolver, form)?;
        let seq = match Seq::from_u64(message.seq) {
            Ok(Seq::ZERO) => Err(Fault::missing("seq")),
            Ok(seq) => Ok(seq),
            Err(e) => Err(Fault::bad("seq", e.to_string())),
        };
        let seq = seq
            .map_err(|fault| fault.in_delta(index, Some(&message.table), Some(&message.row_id)))?;
        out.push(SeqDelta { seq, delta });
    }
    Ok(out)
}

fn from_wire(
    index: usize,
    message: &wire::RowDelta,
    resolver: &mut Resolver<'_>,
    form: Form,
) -> Result<RowDelta, DecodeError> {
    checked_delta(message, resolver, form)
        .map_err(|fault| fault.in_delta(index, Some(&message.table), Some(&message.row_id)))
}

fn checked_delta(
    message: &wire::RowDelta,
    resolver: &mut Resolver<'_>,
    form: Form,
) -> Result<RowDelta, Fault> {
    let texts = [
        ("table", &message.table),
        ("rowId", &message.row_id),
        ("clientId", &message.client_id),
        ("deltaId", &message.delta_id),
    ];
    if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
        return Err(Fault::missing(field));
    }
    let op = Op::from_code(message.op).ok_or_else(|| {
        Fault::bad(
            "op",
            format!("{} is none of 1 INSERT, 2 UPDATE, 3 DELETE", message.op),
        )
    })?;
    let schema = resolver.table(&message.table)?;
    let row_id = RowId::parse(&message.row_id).map_err(|e| Fault::bad("rowId", e.to_string()))?;
    let client_id = resolver.client(&message.client_id)?;
    let hlc = Hlc::from_u64(message.hlc).map_err(|e| Fault::bad("hlc", e.to_string()))?;
    let delta_id =
        DeltaId::parse(&message.delta_id).map_err(|e| Fault::bad("deltaId", e.to_string()))?;
    let columns = match form {
        Form::Wire => wire_columns(&message.columns, &schema)?,
        Form::Stored => stored_columns(&message.columns, &schema)?,
    };
    let table = schema.table.clone();
    Ok(RowDelta {
        op,
        table,
        row_id,
        client_id,
        columns,
        hlc,
        delta_id,
    })
}

fn wire_columns(
    columns: &[wire::ColumnDelta],
    schema: &TableSchema,
) -> Result<Vec<ColumnChange>, Fault> {
    let mut reader = ColumnReader::new(schema);
    let change = |message: &wire::ColumnDelta| {
        let value = json_of(message)?;
        reader.change(&message.column, |column_type| {
            Value::from_raw(value, column_type)
        })
    };
    columns.iter().map(change).collect()
}

fn stored_columns(
    columns: &[wire::ColumnDelta],
    schema: &TableSchema,
) -> Result<Vec<ColumnChange>, Fault> {
    let mut place = 0;
    let change = |message: &wire::ColumnDelta| {
        let column = match schema.find(&message.column, place) {
            Some((at, column)) => {
                place = at + 1;
                column.name.clone()
            }
            None => ColumnName::parse(&message.column)
                .map_err(|e| Fault::bad("column", e.to_string()))?,
        };
        let wrong = |e: ValueError| {
            Fault::new(DecodeErrorKind::WrongType, e.to_string()).field(&message.column)
        };
        let json = json_of(message)?;
        let value = match stored_type(message, json) {
            Some(column_type) => Value::from_raw(json, column_type).map_err(wrong)?,
            None if json.get() == "null" => Value::Null,
            None => return Err(Fault::bad(&message.column, "the value's type is missing")),
        };
        Ok(ColumnChange { column, value })
    };
    columns.iter().map(change).collect()
}

/// A value's bytes as JSON text. Empty bytes are what a legacy client makes of `undefined`.
fn json_of(message: &wire::ColumnDelta) -> Result<&RawValue, Fault> {
    if message.value.is_empty() {
        let reason = format!(
            "column {:?} has no value; null must be written",
            message.column
        );
        return Err(Fault::new(DecodeErrorKind::MissingField, reason).field("value"));
    }
    serde_json::from_slice(&message.value)
        .map_err(|e| Fault::bad(&message.column, format!("the value is no JSON text: {e}")))
}

/// The type that a stored value was written with; a decimal's scale is in its text.
fn stored_type(message: &wire::ColumnDelta, json: &RawValue) -> Option<ColumnType> {
    Some(match message.value_type() {
        wire::ValueType::Unspecified => return None,
        wire::ValueType::String => ColumnType::String,
        wire::ValueType::Number => ColumnType::Number,
        wire::ValueType::Long => ColumnType::Long,
        wire::ValueType::Boolean => ColumnType::Boolean,
        wire::ValueType::Json => ColumnType::Json,
        wire::ValueType::Decimal => {
            let fraction = json
                .get()
                .trim_matches('"')
                .split_once('.')
                .map_or(0, |(_, fraction)| fraction.len());
            let scale = u8::try_from(fraction).ok()?;
            ColumnType::decimal(DECIMAL_PRECISION_MAX, scale).ok()?
        }
        wire::ValueType::Date => ColumnType::Date,
        wire::ValueType::Timestamp => ColumnType::Timestamp,
        wire::ValueType::Binary => ColumnType::Binary,
    })
}

/// Bounds the lists of a push before they are built.
pub(super) fn check_push(body: &[u8]) -> Result<(), Fault> {
    check_deltas(body, 2, PUSH_DELTAS_MAX)
}

/// Bounds the deltas in field `number` of a message, and each delta's columns, before they are built.
pub(super) fn check_deltas(body: &[u8], number: u64, limit: usize) -> Result<(), Fault> {
    const COLUMNS: u64 = 4;
    let mut columns = 0;
    let count = count_fields(body, number, |delta| {
        columns = columns.max(count_fields(delta, COLUMNS, |_| Some(()))?);
        Some(())
    });
    match count {
        None => Err(not_this_message()),
        Some(count) if count > limit => Err(Fault::too_many("deltas", count, limit)),
        Some(_) if columns > COLUMNS_MAX => Err(Fault::too_many("columns", columns, COLUMNS_MAX)),
        Some(_) => Ok(()),
    }
}

/// Bounds another list of a message before it is built.
pub(super) fn check_list(body: &[u8], number: u64, field: &str, limit: usize) -> Result<(), Fault> {
    match count_fields(body, number, |_| Some(())) {
        None => Err(not_this_message()),
        Some(count) if count > limit => Err(Fault::too_many(field, count, limit)),
        Some(_) => Ok(()),
    }
}

fn not_this_message() -> Fault {
    Fault::malformed("Invalid protobuf: the body is no such message")
}

pub(super) fn no_message(error: prost::DecodeError) -> Fault {
    Fault::malformed(format!("Invalid protobuf: {error}"))
}
