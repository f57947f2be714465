//! Deltas as rows of the log table, and back.
//!
//! ```text
//! _seq │ _arrived_at │ _hlc │ _client │ _delta_id │ _op │ row_id │ _set │ the user's columns …
//! ```
//! `_op` is the wire's number (1 insert, 2 update, 3 delete). `_set` is the presence bitmap by stable
//! column number, least significant bit first: bit `n % 8` of byte `n / 8`. A set bit over a null
//! column is an explicit null.
//!
//! **Invariant:** reading back what was written gives the same deltas, cell by cell.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, FixedSizeBinaryBuilder, Int32Array, Int64Array, LargeBinaryArray,
    StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use lakesync_proto::{
    ClientId, ColumnChange, DeltaId, Hlc, Op, RowDelta, RowId, Seq, SeqDelta, TableSchema, columns,
};

use crate::columnar::{chunks, column, value_at};
use crate::error::{Error, Result};

/// A delta with the moment it was accepted, in milliseconds since 1970.
type Arrived<'a> = (&'a SeqDelta, u64);

/// Rows of the log for `deltas`, in their order and in as many batches as Arrow needs for them; none for none.
///
/// `log_schema` is the Arrow schema of the log table.
///
/// # Errors
/// When a value is not of its column's type, which admission makes impossible.
pub fn log_batches(
    schema: &TableSchema,
    log_schema: &SchemaRef,
    deltas: &[(&SeqDelta, u64)],
) -> Result<Vec<RecordBatch>> {
    chunks(deltas, |(delta, _)| delta.delta.bytes())
        .into_iter()
        .map(|deltas| log_batch(schema, log_schema, deltas))
        .collect()
}

fn log_batch(
    schema: &TableSchema,
    log_schema: &SchemaRef,
    deltas: &[Arrived<'_>],
) -> Result<RecordBatch> {
    let mut arrays = Vec::with_capacity(log_schema.fields().len());
    for field in log_schema.fields() {
        let array = match field.name().as_str() {
            columns::SEQ => Arc::new(Int64Array::from_iter_values(
                deltas.iter().map(|(d, _)| d.seq.as_i64()),
            )) as ArrayRef,
            columns::ARRIVED_AT => Arc::new(arrived_at(deltas)),
            columns::HLC => Arc::new(Int64Array::from_iter_values(
                deltas.iter().map(|(d, _)| d.delta.hlc.as_i64()),
            )),
            columns::CLIENT => Arc::new(StringArray::from_iter_values(
                deltas.iter().map(|(d, _)| &d.delta.client_id),
            )),
            columns::DELTA_ID => delta_ids(deltas)?,
            columns::OP => Arc::new(Int32Array::from_iter_values(
                deltas.iter().map(|(d, _)| d.delta.op.code()),
            )),
            columns::ROW_ID => Arc::new(StringArray::from_iter_values(
                deltas.iter().map(|(d, _)| &d.delta.row_id),
            )),
            columns::SET => Arc::new(LargeBinaryArray::from_iter_values(
                deltas.iter().map(|(d, _)| presence(schema, &d.delta)),
            )),
            name => user_column(schema, name, deltas)?,
        };
        arrays.push(array);
    }
    Ok(RecordBatch::try_new(Arc::clone(log_schema), arrays)?)
}

fn arrived_at(deltas: &[Arrived<'_>]) -> TimestampMicrosecondArray {
    let micros = deltas
        .iter()
        .map(|(_, ms)| i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX));
    TimestampMicrosecondArray::from_iter_values(micros).with_timezone("+00:00")
}

fn delta_ids(deltas: &[Arrived<'_>]) -> Result<ArrayRef> {
    let mut ids = FixedSizeBinaryBuilder::with_capacity(deltas.len(), 32);
    for (delta, _) in deltas {
        ids.append_value(delta.delta.delta_id.as_bytes())?;
    }
    Ok(Arc::new(ids.finish()))
}

fn user_column(schema: &TableSchema, name: &str, deltas: &[Arrived<'_>]) -> Result<ArrayRef> {
    // A dropped column is still written by clients that do not know; the log keeps what they say.
    let Some(known) = schema.column(name).or_else(|| schema.dropped_column(name)) else {
        return Err(Error::BrokenDelta {
            table: schema.table.clone(),
            seq: 0,
            reason: format!("the log table has a column `{name}` that the schema does not know"),
        });
    };
    let values = deltas.iter().map(|(delta, _)| {
        let change = delta.delta.columns.iter().find(|c| c.column == known.name);
        change.map(|change| &change.value)
    });
    column(known.column_type, values)
}

/// The presence bitmap of a delta by stable column number.
fn presence(schema: &TableSchema, delta: &RowDelta) -> Vec<u8> {
    let mut bitmap = Vec::new();
    for change in &delta.columns {
        let name = change.column.as_ref();
        if let Some(column) = schema.column(name).or_else(|| schema.dropped_column(name)) {
            let byte = (column.number / 8) as usize;
            if bitmap.len() <= byte {
                bitmap.resize(byte + 1, 0);
            }
            bitmap[byte] |= 1 << (column.number % 8);
        }
    }
    bitmap
}

/// The deltas in rows of the log, in row order.
///
/// # Errors
/// [`Error::BrokenDelta`] naming the seq and what cannot be read.
pub(crate) fn deltas(schema: &TableSchema, batch: &RecordBatch) -> Result<Vec<SeqDelta>> {
    let reader = LogReader::new(schema, batch)?;
    (0..batch.num_rows()).map(|row| reader.delta(row)).collect()
}

/// The columns of one batch of log rows, found by name once.
struct LogReader<'a> {
    schema: &'a TableSchema,
    seq: ArrayRef,
    hlc: ArrayRef,
    client: ArrayRef,
    delta_id: ArrayRef,
    op: ArrayRef,
    row_id: ArrayRef,
    set: ArrayRef,
    /// The user's columns that the batch has, in schema order.
    values: Vec<(&'a lakesync_proto::Column, ArrayRef)>,
}

impl<'a> LogReader<'a> {
    fn new(schema: &'a TableSchema, batch: &RecordBatch) -> Result<Self> {
        let find = |name: &str| {
            batch
                .column_by_name(name)
                .map(Arc::clone)
                .ok_or_else(|| Error::BrokenDelta {
                    table: schema.table.clone(),
                    seq: 0,
                    reason: format!("column `{name}` is missing"),
                })
        };
        let values = schema
            .columns
            .iter()
            .filter_map(|c| Some((c, Arc::clone(batch.column_by_name(c.name.as_ref())?))))
            .collect();
        Ok(Self {
            schema,
            seq: find(columns::SEQ)?,
            hlc: find(columns::HLC)?,
            client: find(columns::CLIENT)?,
            delta_id: find(columns::DELTA_ID)?,
            op: find(columns::OP)?,
            row_id: find(columns::ROW_ID)?,
            set: find(columns::SET)?,
            values,
        })
    }

    fn delta(&self, row: usize) -> Result<SeqDelta> {
        let number = self.seq.as_primitive::<Int64Type>().value(row);
        let broken = |reason: String| Error::BrokenDelta {
            table: self.schema.table.clone(),
            seq: u64::try_from(number).unwrap_or(0),
            reason,
        };
        let seq = Seq::from_i64(number).map_err(|e| broken(e.to_string()))?;
        let hlc = Hlc::from_i64(self.hlc.as_primitive::<Int64Type>().value(row))
            .map_err(|e| broken(e.to_string()))?;
        let client_id = ClientId::parse(self.client.as_string::<i32>().value(row))
            .map_err(|e| broken(e.to_string()))?;
        let row_id = RowId::parse(self.row_id.as_string::<i32>().value(row))
            .map_err(|e| broken(e.to_string()))?;
        let op = Op::from_code(self.op.as_primitive::<Int32Type>().value(row))
            .ok_or_else(|| broken("unknown op".to_owned()))?;
        let id: [u8; 32] = self
            .delta_id
            .as_fixed_size_binary()
            .value(row)
            .try_into()
            .map_err(|_| broken("the delta id is not 32 bytes".to_owned()))?;
        let delta = RowDelta {
            op,
            table: self.schema.table.clone(),
            row_id,
            client_id,
            columns: self.changes(row)?,
            hlc,
            delta_id: DeltaId::from_bytes(id),
        };
        Ok(SeqDelta { seq, delta })
    }

    fn changes(&self, row: usize) -> Result<Vec<ColumnChange>> {
        let bitmap = self.set.as_binary::<i64>().value(row);
        let mut changes = Vec::new();
        for (column, values) in &self.values {
            let byte = bitmap
                .get((column.number / 8) as usize)
                .copied()
                .unwrap_or(0);
            if byte >> (column.number % 8) & 1 == 1 {
                changes.push(ColumnChange {
                    column: column.name.clone(),
                    value: value_at(values.as_ref(), row, column.column_type)?,
                });
            }
        }
        Ok(changes)
    }
}
