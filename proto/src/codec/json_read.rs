//! JSON bodies to messages.
//!
//! Invariant: syntax is checked once for the whole body; then a user's value stays text until its column's type is
//! known. Unknown keys are ignored, so newer peers may send more.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::Schemas;
use crate::codec::error::{DecodeError, DecodeErrorKind, Fault};
use crate::codec::json_body::{Body, Raw};
use crate::codec::json_notes::{RawNotes, read_notes, read_removed};
use crate::codec::resolve::{ColumnReader, Resolver};
use crate::delta::{ColumnChange, Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::error::shown;
use crate::hlc::Hlc;
use crate::id::RowId;
use crate::limits::{COLUMNS_MAX, PULL_MAX, PUSH_DELTAS_MAX};
use crate::message::{Outcome, PullPage, Push, PushAck, SeqDelta};
use crate::schema::TableSchema;
use crate::seq::Seq;
use crate::value::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePush<'b> {
    #[serde(borrow)]
    client_id: Raw<'b>,
    #[serde(borrow)]
    deltas: Raw<'b>,
    #[serde(borrow)]
    last_seen_hlc: Raw<'b>,
    #[serde(borrow)]
    schemas: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDelta<'b> {
    #[serde(borrow)]
    op: Raw<'b>,
    #[serde(borrow)]
    table: Raw<'b>,
    #[serde(borrow)]
    row_id: Raw<'b>,
    #[serde(borrow)]
    client_id: Raw<'b>,
    #[serde(borrow)]
    columns: Raw<'b>,
    #[serde(borrow)]
    hlc: Raw<'b>,
    #[serde(borrow)]
    delta_id: Raw<'b>,
    #[serde(borrow)]
    seq: Raw<'b>,
}

#[derive(Deserialize)]
struct WireColumn<'b> {
    #[serde(borrow)]
    column: Raw<'b>,
    /// Present even when it is null: null is a value.
    #[serde(borrow, default, deserialize_with = "present")]
    value: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePage<'b> {
    #[serde(borrow)]
    deltas: Raw<'b>,
    #[serde(borrow)]
    server_hlc: Raw<'b>,
    #[serde(borrow)]
    has_more: Raw<'b>,
    #[serde(borrow)]
    epoch: Raw<'b>,
    #[serde(borrow)]
    removed: Raw<'b>,
    #[serde(borrow)]
    cursor: Raw<'b>,
    #[serde(borrow)]
    checksum: Raw<'b>,
    #[serde(borrow)]
    durable_seq: Raw<'b>,
    #[serde(borrow)]
    schemas: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAck<'b> {
    #[serde(borrow)]
    accepted: Raw<'b>,
    #[serde(borrow)]
    server_hlc: Raw<'b>,
    #[serde(borrow)]
    outcomes: Raw<'b>,
    #[serde(borrow)]
    epoch: Raw<'b>,
    #[serde(borrow)]
    cursor: Raw<'b>,
    #[serde(borrow)]
    checksum: Raw<'b>,
    #[serde(borrow)]
    durable_seq: Raw<'b>,
    #[serde(borrow)]
    schemas: Raw<'b>,
}

#[derive(Deserialize)]
struct WireOutcome<'b> {
    #[serde(borrow)]
    outcome: Raw<'b>,
    #[serde(borrow)]
    seq: Raw<'b>,
}

fn present<'de: 'b, 'b, D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'b>, D::Error> {
    <&'b RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a push: `{"clientId","deltas":[…],"lastSeenHlc","schemas"}`. The last two may be missing.
///
/// It types values by the schemas; [`verify_delta`](crate::verify_delta) checks the rest.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_push_json(body: &[u8], schemas: &dyn Schemas) -> Result<Push, DecodeError> {
    let body = Body::new(body)?;
    let wire: WirePush<'_> = body.object(body.root()?, "body")?;
    let mut resolver = Resolver::new(schemas);
    let client = body.string(wire.client_id, "clientId")?;
    let client_id = resolver
        .client(&client)
        .map_err(|fault| fault.or_at(body.at(wire.client_id)))?;
    let last_seen = match wire.last_seen_hlc {
        Some(_) => body.seq(wire.last_seen_hlc, "lastSeenHlc")?,
        None => Seq::ZERO,
    };
    let known = wire.schemas.map(|_| body.integer(wire.schemas, "schemas"));
    let mut deltas = Vec::new();
    for (index, raw) in body
        .list(wire.deltas, "deltas", PUSH_DELTAS_MAX)?
        .into_iter()
        .enumerate()
    {
        deltas.push(read_delta(&body, index, raw, &mut resolver)?.0);
    }
    Ok(Push {
        client_id,
        deltas,
        last_seen,
        schemas: known.transpose()?,
    })
}

/// Reads a pull's answer: `{"deltas":[…],"serverHlc","hasMore","epoch"}`, each delta with its `seq`, and what a native
/// gateway adds: `removed`, `cursor`, `checksum`, `durableSeq`, `schemas`.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_page_json(body: &[u8], schemas: &dyn Schemas) -> Result<PullPage, DecodeError> {
    let body = Body::new(body)?;
    let wire: WirePage<'_> = body.object(body.root()?, "body")?;
    let cursor = body.seq(wire.server_hlc, "serverHlc")?;
    let has_more = body.boolean(wire.has_more, "hasMore")?;
    let epoch = body.epoch(wire.epoch)?;
    let mut resolver = Resolver::new(schemas);
    let mut deltas = Vec::new();
    for (index, raw) in body
        .list(wire.deltas, "deltas", PULL_MAX)?
        .into_iter()
        .enumerate()
    {
        let (delta, seq) = read_delta(&body, index, raw, &mut resolver)?;
        let missing = || {
            let (table, row) = (Some(delta.table.as_str()), Some(delta.row_id.as_str()));
            Fault::missing("seq").in_delta(index, table, row)
        };
        let seq = seq.ok_or_else(missing)?;
        deltas.push(Arc::new(SeqDelta { seq, delta }));
    }
    let notes = RawNotes {
        cursor: wire.cursor,
        checksum: wire.checksum,
        durable_seq: wire.durable_seq,
        schemas: wire.schemas,
    };
    Ok(PullPage {
        deltas,
        removed: read_removed(&body, wire.removed)?,
        cursor,
        has_more,
        epoch,
        notes: read_notes(&body, &notes)?,
    })
}

/// Reads a push's answer: `{"serverHlc","accepted","outcomes":[{"outcome","seq"}…],"epoch"}`.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_ack_json(body: &[u8]) -> Result<PushAck, DecodeError> {
    let body = Body::new(body)?;
    let wire: WireAck<'_> = body.object(body.root()?, "body")?;
    let accepted = body.integer(wire.accepted, "accepted")?;
    let accepted =
        u32::try_from(accepted).map_err(|_| Fault::bad("accepted", "it does not fit 32 bits"))?;
    let cursor = body.seq(wire.server_hlc, "serverHlc")?;
    let epoch = body.epoch(wire.epoch)?;
    let mut outcomes = Vec::new();
    for raw in body.list(wire.outcomes, "outcomes", PUSH_DELTAS_MAX)? {
        let wire: WireOutcome<'_> = body.object(raw, "outcomes")?;
        let seq = body.seq(wire.seq, "seq")?;
        outcomes.push(match &*body.string(wire.outcome, "outcome")? {
            "accepted" => Outcome::Accepted(seq),
            "duplicate" => Outcome::Duplicate(seq),
            other => {
                let reason = format!("{:?} is none of accepted, duplicate", shown(other));
                return Err(Fault::bad("outcome", reason)
                    .or_at(body.at(wire.outcome))
                    .into());
            }
        });
    }
    let notes = RawNotes {
        cursor: wire.cursor,
        checksum: wire.checksum,
        durable_seq: wire.durable_seq,
        schemas: wire.schemas,
    };
    Ok(PushAck {
        accepted,
        cursor,
        outcomes,
        epoch,
        notes: read_notes(&body, &notes)?,
    })
}

/// Reads one delta; an error tells its index, table and row.
fn read_delta<'b>(
    body: &Body<'b>,
    index: usize,
    raw: &'b RawValue,
    resolver: &mut Resolver<'_>,
) -> Result<(RowDelta, Option<Seq>), DecodeError> {
    let wire: WireDelta<'b> = body
        .object(raw, "deltas")
        .map_err(|fault| fault.in_delta(index, None, None))?;
    checked_delta(body, &wire, resolver).map_err(|fault| {
        let text = |raw: Raw<'b>| body.string(raw, "").ok();
        let (table, row) = (text(wire.table), text(wire.row_id));
        fault
            .or_at(body.at(Some(raw)))
            .in_delta(index, table.as_deref(), row.as_deref())
    })
}

fn checked_delta<'b>(
    body: &Body<'b>,
    wire: &WireDelta<'b>,
    resolver: &mut Resolver<'_>,
) -> Result<(RowDelta, Option<Seq>), Fault> {
    let at = |raw: Raw<'b>| move |fault: Fault| fault.or_at(body.at(raw));
    let op = body.string(wire.op, "op")?;
    let op = Op::from_name(&op).ok_or_else(|| {
        let reason = format!("{:?} is none of INSERT, UPDATE, DELETE", shown(&op));
        Fault::bad("op", reason).or_at(body.at(wire.op))
    })?;
    let schema = resolver
        .table(&body.string(wire.table, "table")?)
        .map_err(at(wire.table))?;
    let row_id = RowId::parse(&body.string(wire.row_id, "rowId")?)
        .map_err(|e| Fault::bad("rowId", e.to_string()).or_at(body.at(wire.row_id)))?;
    let client_id = resolver
        .client(&body.string(wire.client_id, "clientId")?)
        .map_err(at(wire.client_id))?;
    let hlc = Hlc::from_u64(body.integer(wire.hlc, "hlc")?)
        .map_err(|e| Fault::bad("hlc", e.to_string()).or_at(body.at(wire.hlc)))?;
    let delta_id = DeltaId::parse(&body.string(wire.delta_id, "deltaId")?)
        .map_err(|e| Fault::bad("deltaId", e.to_string()).or_at(body.at(wire.delta_id)))?;
    let columns = read_columns(body, wire.columns, &schema)?;
    let seq = wire.seq.map(|_| body.seq(wire.seq, "seq")).transpose()?;
    let table = schema.table.clone();
    Ok((
        RowDelta {
            op,
            table,
            row_id,
            client_id,
            columns,
            hlc,
            delta_id,
        },
        seq,
    ))
}

fn read_columns<'b>(
    body: &Body<'b>,
    raw: Raw<'b>,
    schema: &TableSchema,
) -> Result<Vec<ColumnChange>, Fault> {
    let list = body.list(raw, "columns", COLUMNS_MAX)?;
    let mut reader = ColumnReader::new(schema);
    let mut columns = Vec::with_capacity(list.len());
    for raw in list {
        let wire: WireColumn<'b> = body.object(raw, "columns")?;
        let name = body
            .string(wire.column, "column")
            .map_err(|fault| fault.or_at(body.at(Some(raw))))?;
        let value = wire.value.ok_or_else(|| {
            let reason = format!(
                "column {:?} has no value; null must be written",
                shown(&name)
            );
            Fault::new(DecodeErrorKind::MissingField, reason)
                .field("value")
                .or_at(body.at(Some(raw)))
        })?;
        let change = reader.change(&name, |column_type| Value::from_raw(value, column_type));
        columns.push(change.map_err(|fault| fault.or_at(body.at(Some(value))))?);
    }
    Ok(columns)
}
