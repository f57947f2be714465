//! Deltas straight to protobuf bytes.
//!
//! Invariant: the bytes are those that the generated messages would encode to, without building them: no allocation a
//! delta. Ten thousand deltas are a push, and each goes to the durable log and to every client.

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::codec::generated as wire;
use crate::delta::{ColumnChange, RowDelta};
use crate::seq::Seq;
use crate::value::Value;

/// Which form a delta is written in.
#[derive(Debug, Copy, Clone)]
pub(super) enum Form {
    /// For a peer that knows the schema.
    Wire,
    /// For the durable log: each value tells its type.
    Stored,
}

/// Writes deltas, with buffers that it uses again.
#[derive(Debug)]
pub(super) struct DeltaWriter {
    form: Form,
    delta: Vec<u8>,
    column: Vec<u8>,
    text: String,
}

impl DeltaWriter {
    pub(super) fn new(form: Form) -> DeltaWriter {
        DeltaWriter {
            form,
            delta: Vec::new(),
            column: Vec::new(),
            text: String::new(),
        }
    }

    /// Appends a `RowDelta` as the field `number`; seq 0 is not told.
    pub(super) fn write(&mut self, number: u32, delta: &RowDelta, seq: Seq, out: &mut Vec<u8>) {
        self.delta.clear();
        let op = u64::try_from(delta.op.code()).expect("ops are 1, 2 and 3");
        write_varint(1, op, &mut self.delta);
        write_bytes(2, delta.table.as_str().as_bytes(), &mut self.delta);
        write_bytes(3, delta.row_id.as_str().as_bytes(), &mut self.delta);
        for change in &delta.columns {
            self.write_column(change);
        }
        write_fixed64(5, delta.hlc.as_u64(), &mut self.delta);
        write_bytes(6, delta.client_id.as_str().as_bytes(), &mut self.delta);
        self.text.clear();
        delta.delta_id.write_hex(&mut self.text);
        write_bytes(7, self.text.as_bytes(), &mut self.delta);
        write_varint(16, seq.as_u64(), &mut self.delta);
        write_message(number, &self.delta, out);
    }

    fn write_column(&mut self, change: &ColumnChange) {
        self.text.clear();
        change.value.write_json(&mut self.text);
        self.column.clear();
        write_bytes(1, change.column.as_str().as_bytes(), &mut self.column);
        write_bytes(2, self.text.as_bytes(), &mut self.column);
        if let Form::Stored = self.form {
            let value_type = i32::from(value_type(&change.value));
            let value_type = u64::try_from(value_type).expect("value types are small numbers");
            write_varint(16, value_type, &mut self.column);
        }
        write_message(4, &self.column, &mut self.delta);
    }
}

/// Appends bytes or text as a field; what is empty is not written, as proto3 has it.
pub(super) fn write_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        write_message(number, bytes, out);
    }
}

/// Appends an encoded message as a field, an empty one too.
pub(super) fn write_message(number: u32, message: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(message.len() as u64, out);
    out.extend_from_slice(message);
}

/// Appends a number as a field, unless it is 0.
pub(super) fn write_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn write_fixed64(number: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(number, WireType::SixtyFourBit, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn value_type(value: &Value) -> wire::ValueType {
    match value {
        Value::Null => wire::ValueType::Unspecified,
        Value::String(_) => wire::ValueType::String,
        Value::Number(_) => wire::ValueType::Number,
        Value::Long(_) => wire::ValueType::Long,
        Value::Boolean(_) => wire::ValueType::Boolean,
        Value::Json(_) => wire::ValueType::Json,
        Value::Decimal(_) => wire::ValueType::Decimal,
        Value::Date(_) => wire::ValueType::Date,
        Value::Timestamp(_) => wire::ValueType::Timestamp,
        Value::Binary(_) => wire::ValueType::Binary,
    }
}
