//! `cell_info`: who wrote what the cells of a row show.
//!
//! | column | is |
//! |---|---|
//! | `column`, `value` | the cell; its value as a text |
//! | `client`, `hlc`, `time` | its writer, the write's stamp, the wall clock of that, UTC |
//! | `seq`, `arrived_at` | when the gateway accepted it |
//! | `note` | why there is no writer: `settled before F` (the gateway's floor, an HLC: the log has forgotten the write), `never written` since the row is there, or `part of the key` |
//!
//! A row that does not exist has no cells; `history` tells what became of it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lakesync_proto::{ColumnName, Hlc};

use super::conflicts::text;
use super::replay::{Clocks, Facts, NONE, place};
use crate::error::Result;

/// The schema of `cell_info`.
pub(super) fn schema() -> SchemaRef {
    let utc = |unit| DataType::Timestamp(unit, Some("+00:00".into()));
    Arc::new(Schema::new(vec![
        Field::new("column", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
        Field::new("client", DataType::Utf8, true),
        Field::new("hlc", DataType::Int64, true),
        Field::new("time", utc(TimeUnit::Millisecond), true),
        Field::new("seq", DataType::Int64, true),
        Field::new("arrived_at", utc(TimeUnit::Microsecond), true),
        Field::new("note", DataType::Utf8, true),
    ]))
}

/// The cells of the one row of `facts`; of one column when it is named. None when the row does not exist.
///
/// # Errors
/// When a value cannot be shown.
pub(super) fn cells(
    facts: &Facts,
    column: Option<&ColumnName>,
    floor: Hlc,
) -> Result<Option<RecordBatch>> {
    let (steps, clocks) = Clocks::before(facts)?.steps(facts);
    if !clocks.exists(facts, 0) {
        return Ok(None);
    }
    let columns = facts.schema.columns.iter().enumerate();
    let wanted = columns.filter(|(_, known)| column.is_none_or(|name| *name == known.name));
    let cells: Vec<(usize, u32)> = wanted
        .map(|(at, _)| {
            let newest = facts.cells((&clocks, &steps), at, |_, _| {})[0];
            match facts.is_key(at) {
                true => (at, newest),
                false => (at, facts.shown(newest, clocks.deleted(0))),
            }
        })
        .collect();
    let names = cells
        .iter()
        .map(|(at, _)| facts.schema.columns[*at].name.as_str());
    let written: Vec<Option<usize>> = cells
        .iter()
        .map(|(at, fact)| {
            (!facts.is_key(*at) && facts.is_delta(*fact)).then(|| facts.log_row(*fact))
        })
        .collect();
    let log = &facts.log;
    let longs = |of: &Int64Array| -> ArrayRef {
        let values = written.iter().map(|row| row.map(|row| of.value(row)));
        Arc::new(values.collect::<Int64Array>())
    };
    let clients = written
        .iter()
        .map(|row| row.map(|row| log.client.value(row)));
    let arrived = written
        .iter()
        .map(|row| row.map(|row| log.arrived_at.value(row)));
    let times = written.iter().map(|row| wall_ms(log.hlc.value((*row)?)));
    let notes = cells
        .iter()
        .map(|(at, fact)| note(facts, (*at, *fact), floor));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(names)),
        values(facts, &cells)?,
        Arc::new(clients.collect::<StringArray>()),
        longs(&log.hlc),
        Arc::new(
            times
                .collect::<TimestampMillisecondArray>()
                .with_timezone("+00:00"),
        ),
        longs(&log.seq),
        Arc::new(
            arrived
                .collect::<TimestampMicrosecondArray>()
                .with_timezone("+00:00"),
        ),
        Arc::new(notes.collect::<StringArray>()),
    ];
    Ok(Some(RecordBatch::try_new(schema(), columns)?))
}

fn values(facts: &Facts, cells: &[(usize, u32)]) -> Result<ArrayRef> {
    let mut texts = Vec::with_capacity(cells.len());
    for (at, fact) in cells {
        let values = &facts.values[*at];
        texts.push(match *fact == NONE || values.is_null(place(*fact)) {
            true => None,
            false => Some(text(values)?.value(place(*fact)).to_string()),
        });
    }
    Ok(Arc::new(StringArray::from(texts)))
}

fn note(facts: &Facts, (at, fact): (usize, u32), floor: Hlc) -> Option<String> {
    match fact {
        _ if facts.is_key(at) => Some("part of the key".to_owned()),
        NONE => Some("never written".to_owned()),
        fact if facts.is_delta(fact) => None,
        // Without a floor nothing was forgotten: the row was never a delta.
        _ if floor == Hlc::ZERO => Some("settled: the log does not have its write".to_owned()),
        _ => Some(format!("settled before {floor}")),
    }
}

fn wall_ms(hlc: i64) -> Option<i64> {
    let hlc = Hlc::from_i64(hlc).ok()?;
    i64::try_from(hlc.wall_ms()).ok()
}
