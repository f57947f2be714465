//! The gateway's answers as protobuf: a page of a pull, and the answer to a push.
//!
//! Invariant: both are one message, `SyncResponse`, because legacy clients read a push's answer as a page without
//! deltas. What is not in a page, such as outcomes, a page's reader skips, and the other way round.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use crate::codec::Schemas;
use crate::codec::error::{DecodeError, Fault};
use crate::codec::fields::count_fields;
use crate::codec::generated as wire;
use crate::codec::protobuf::{
    DELTA_BYTES_TYPICAL, check_deltas, check_list, no_message, seq_deltas, to_wire,
};
use crate::codec::protobuf_write::{DeltaWriter, Form};
use crate::id::{ColumnName, Epoch, RowId, TableName};
use crate::limits::{COLUMNS_MAX, PULL_MAX, PUSH_DELTAS_MAX, SCHEMA_NOTE_TABLES_MAX};
use crate::message::{Notes, Outcome, PullPage, PushAck, Removed, SchemaNote};
use crate::seq::Seq;

/// The field of an answer's deltas: the first, so they can be written before the rest.
const DELTAS: u32 = 1;

/// Writes a pull's answer.
pub fn encode_page_protobuf(page: &PullPage) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + page.deltas.len() * DELTA_BYTES_TYPICAL);
    let mut writer = DeltaWriter::new(Form::Wire);
    for delta in &page.deltas {
        writer.write(DELTAS, &delta.delta, delta.seq, &mut out);
    }
    out.extend(page_without_deltas(page).encode_to_vec());
    out
}

/// A pull's answer as a protobuf message, for a frame; a large page is
/// [`encode_page_frame`](crate::encode_page_frame)'s.
pub fn page_message(page: &PullPage) -> wire::SyncResponse {
    let deltas = page.deltas.iter();
    let deltas = deltas.map(|delta| to_wire(&delta.delta, delta.seq));
    wire::SyncResponse {
        deltas: deltas.collect(),
        ..page_without_deltas(page)
    }
}

fn page_without_deltas(page: &PullPage) -> wire::SyncResponse {
    let removed = page.removed.iter().map(|removed| wire::Removed {
        seq: removed.seq.as_u64(),
        table: removed.table.to_string(),
        row_id: removed.row_id.to_string(),
    });
    let mut message = wire::SyncResponse {
        server_hlc: page.cursor.as_u64(),
        has_more: page.has_more,
        epoch: page.epoch.to_string(),
        removed: removed.collect(),
        ..wire::SyncResponse::default()
    };
    write_notes(&page.notes, &mut message);
    message
}

/// Reads a pull's answer.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_page_protobuf(body: &[u8], schemas: &dyn Schemas) -> Result<PullPage, DecodeError> {
    decode_page(body, PULL_MAX, schemas)
}

/// Reads a page of at most `limit` deltas.
pub(super) fn decode_page(
    body: &[u8],
    limit: usize,
    schemas: &dyn Schemas,
) -> Result<PullPage, DecodeError> {
    check_answer(body, limit)?;
    let message = wire::SyncResponse::decode(body).map_err(no_message)?;
    decode_page_message(&message, schemas)
}

/// Reads a pull's answer that is a protobuf message already, as a frame's is.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_page_message(
    message: &wire::SyncResponse,
    schemas: &dyn Schemas,
) -> Result<PullPage, DecodeError> {
    let (cursor, epoch) = place(message)?;
    let deltas = seq_deltas(&message.deltas, schemas, Form::Wire)?;
    let removed = message.removed.iter().map(removed);
    Ok(PullPage {
        deltas: deltas.into_iter().map(Arc::new).collect(),
        cursor,
        removed: removed.collect::<Result<_, _>>()?,
        has_more: message.has_more,
        epoch,
        notes: read_notes(message)?,
    })
}

/// Writes a push's answer.
pub fn encode_ack_protobuf(ack: &PushAck) -> Vec<u8> {
    ack_message(ack).encode_to_vec()
}

/// A push's answer as a protobuf message, for a frame.
pub fn ack_message(ack: &PushAck) -> wire::SyncResponse {
    let outcome = |(nth, outcome): (usize, &Outcome)| {
        let ignored = ack.ignored.get(&nth).map(Vec::as_slice).unwrap_or_default();
        let kind = match outcome {
            Outcome::Accepted(_) => wire::OutcomeKind::Accepted,
            Outcome::Duplicate(_) => wire::OutcomeKind::Duplicate,
        };
        wire::Outcome {
            kind: kind.into(),
            seq: outcome.seq().as_u64(),
            ignored: ignored.iter().map(ToString::to_string).collect(),
        }
    };
    let mut message = wire::SyncResponse {
        server_hlc: ack.cursor.as_u64(),
        epoch: ack.epoch.to_string(),
        outcomes: ack.outcomes.iter().enumerate().map(outcome).collect(),
        accepted: ack.accepted,
        ..wire::SyncResponse::default()
    };
    write_notes(&ack.notes, &mut message);
    message
}

/// Reads a push's answer. One without native fields tells no outcomes and accepts nothing by number.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_ack_protobuf(body: &[u8]) -> Result<PushAck, DecodeError> {
    check_answer(body, PULL_MAX)?;
    let message = wire::SyncResponse::decode(body).map_err(no_message)?;
    decode_ack_message(&message)
}

/// Reads a push's answer that is a protobuf message already, as a frame's is.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_ack_message(message: &wire::SyncResponse) -> Result<PushAck, DecodeError> {
    let (cursor, epoch) = place(message)?;
    let outcomes = message.outcomes.iter().map(outcome);
    Ok(PushAck {
        accepted: message.accepted,
        cursor,
        outcomes: outcomes.collect::<Result<_, _>>()?,
        ignored: ignored(&message.outcomes)?,
        epoch,
        notes: read_notes(message)?,
    })
}

/// Bounds the lists of an answer before they are built.
pub(super) fn check_answer(body: &[u8], deltas: usize) -> Result<(), Fault> {
    const REMOVED: u64 = 17;
    const OUTCOMES: u64 = 21;
    const IGNORED: u64 = 16;
    const SCHEMAS: u64 = 23;
    const TABLES: u64 = 3;
    check_deltas(body, u64::from(DELTAS), deltas)?;
    check_list(body, REMOVED, "removed", PULL_MAX)?;
    check_list(body, OUTCOMES, "outcomes", PUSH_DELTAS_MAX)?;
    let mut columns = 0;
    count_fields(body, OUTCOMES, |outcome| {
        columns = columns.max(count_fields(outcome, IGNORED, |_| Some(()))?);
        Some(())
    });
    if columns > COLUMNS_MAX {
        return Err(Fault::too_many("ignored", columns, COLUMNS_MAX));
    }
    // A message that is there twice is merged, so the tables of all of them count.
    let mut tables = 0;
    count_fields(body, SCHEMAS, |note| {
        tables += count_fields(note, TABLES, |_| Some(()))?;
        Some(())
    });
    match tables > SCHEMA_NOTE_TABLES_MAX {
        true => Err(Fault::too_many("tables", tables, SCHEMA_NOTE_TABLES_MAX)),
        false => Ok(()),
    }
}

fn place(message: &wire::SyncResponse) -> Result<(Seq, Epoch), Fault> {
    let cursor =
        Seq::from_u64(message.server_hlc).map_err(|e| Fault::bad("serverHlc", e.to_string()))?;
    let epoch = Epoch::parse(&message.epoch).map_err(|e| Fault::bad("epoch", e.to_string()))?;
    Ok((cursor, epoch))
}

fn removed(message: &wire::Removed) -> Result<Removed, Fault> {
    let bad = |e: &dyn ToString| Fault::bad("removed", e.to_string());
    Ok(Removed {
        seq: Seq::from_u64(message.seq).map_err(|e| bad(&e))?,
        table: TableName::parse(&message.table).map_err(|e| bad(&e))?,
        row_id: RowId::parse(&message.row_id).map_err(|e| bad(&e))?,
    })
}

fn outcome(message: &wire::Outcome) -> Result<Outcome, Fault> {
    let seq = Seq::from_u64(message.seq).map_err(|e| Fault::bad("seq", e.to_string()))?;
    match message.kind() {
        wire::OutcomeKind::Accepted => Ok(Outcome::Accepted(seq)),
        wire::OutcomeKind::Duplicate => Ok(Outcome::Duplicate(seq)),
        wire::OutcomeKind::Unspecified => {
            let reason = format!("{} is none of 1 accepted, 2 duplicate", message.kind);
            Err(Fault::bad("outcome", reason))
        }
    }
}

fn ignored(outcomes: &[wire::Outcome]) -> Result<BTreeMap<usize, Vec<ColumnName>>, Fault> {
    let told = outcomes.iter().enumerate();
    told.filter(|(_, outcome)| !outcome.ignored.is_empty())
        .map(|(nth, outcome)| {
            let columns = outcome.ignored.iter().map(|name| ColumnName::parse(name));
            let columns = columns.collect::<Result<_, _>>();
            Ok((
                nth,
                columns.map_err(|e| Fault::bad("ignored", e.to_string()))?,
            ))
        })
        .collect()
}

fn write_notes(notes: &Notes, message: &mut wire::SyncResponse) {
    message.cursor = notes
        .next
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    message.checksum = notes.checksum;
    message.durable_seq = notes.durable.map(Seq::as_u64);
    message.resume = notes.resume.clone().unwrap_or_default();
    message.schemas = notes.schemas.as_ref().map(|note| wire::SchemaNote {
        hash: note.hash,
        changed: note.changed,
        tables: note
            .tables
            .iter()
            .map(|(table, version)| (table.to_string(), *version))
            .collect(),
    });
}

fn read_notes(message: &wire::SyncResponse) -> Result<Notes, Fault> {
    let next = match message.cursor.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|e: crate::CursorError| Fault::bad("cursor", e.to_string()))?,
        ),
    };
    let durable = message.durable_seq.map(Seq::from_u64).transpose();
    let schemas = message.schemas.as_ref().map(|note| {
        Ok::<_, Fault>(SchemaNote {
            hash: note.hash,
            changed: note.changed,
            tables: versions(&note.tables)?,
        })
    });
    Ok(Notes {
        next,
        checksum: message.checksum,
        durable: durable.map_err(|e| Fault::bad("durableSeq", e.to_string()))?,
        schemas: schemas.transpose()?,
        resume: Some(message.resume.clone()).filter(|resume| !resume.is_empty()),
    })
}

fn versions(tables: &BTreeMap<String, u32>) -> Result<Vec<(TableName, u32)>, Fault> {
    let version = |(table, version): (&String, &u32)| {
        let table = TableName::parse(table).map_err(|e| Fault::bad("schemas", e.to_string()))?;
        Ok((table, *version))
    };
    tables.iter().map(version).collect()
}
