//! JSON bodies to messages.
//!
//! Invariant: a good body is parsed once: one pass takes it apart, then each text is read by its column's type. A body
//! that fails there is read again part by part, which tells the byte; both ways read the same bodies to the same
//! messages. Unknown keys are ignored, so newer peers may send more.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::codec::Schemas;
use crate::codec::error::{DecodeError, DecodeErrorKind, Fault};
use crate::codec::json_body::{Body, Raw};
use crate::codec::json_notes::{RawNotes, read_ignored, read_notes, read_removed};
use crate::codec::json_shape::{
    Columns, Object, PageDeltas, PushDeltas, WireAck, WireColumn, WireDelta, WireOutcome, WirePage,
    WirePush,
};
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

/// Reads a push: `{"clientId","deltas":[…],"lastSeenHlc","schemas"}`. The last two may be missing.
///
/// It types values by the schemas; [`verify_delta`](crate::verify_delta) checks the rest.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_push_json(body: &[u8], schemas: &dyn Schemas) -> Result<Push, DecodeError> {
    let body = Body::new(body)?;
    match push_at_once(&body, schemas) {
        Some(push) => Ok(push),
        None => push_by_parts(&body, schemas),
    }
}

fn push_at_once(body: &Body<'_>, schemas: &dyn Schemas) -> Option<Push> {
    let Object(wire): Object<WirePush<'_, PushDeltas<'_>>> = body.at_once()?;
    let read = |wire: PushDeltas<'_>, resolver: &mut Resolver<'_>| deltas(body, wire.0, resolver);
    let push = read_push(body, wire, schemas, read);
    push.ok()
}

fn push_by_parts(body: &Body<'_>, schemas: &dyn Schemas) -> Result<Push, DecodeError> {
    let wire: WirePush<'_, Raw<'_>> = body.object(body.root()?, "body")?;
    read_push(body, wire, schemas, |wire, resolver| {
        let list = body.list(wire, "deltas", PUSH_DELTAS_MAX)?;
        let deltas = list.into_iter().enumerate();
        deltas
            .map(|(index, raw)| Ok(read_delta(body, index, raw, resolver)?.0))
            .collect()
    })
}

/// Reads a push whose deltas `read` reads.
fn read_push<'b, D>(
    body: &Body<'b>,
    wire: WirePush<'b, D>,
    schemas: &dyn Schemas,
    read: impl FnOnce(D, &mut Resolver<'_>) -> Result<Vec<RowDelta>, DecodeError>,
) -> Result<Push, DecodeError> {
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
    Ok(Push {
        client_id,
        schemas: known.transpose()?,
        deltas: read(wire.deltas, &mut resolver)?,
        last_seen,
    })
}

/// Reads a pull's answer: `{"deltas":[…],"serverHlc","hasMore","epoch"}`, each delta with its `seq`, and what a native
/// gateway adds: `removed`, `cursor`, `checksum`, `durableSeq`, `schemas`.
///
/// # Errors
/// [`DecodeError`] by kind, with the place.
pub fn decode_page_json(body: &[u8], schemas: &dyn Schemas) -> Result<PullPage, DecodeError> {
    let body = Body::new(body)?;
    match page_at_once(&body, schemas) {
        Some(page) => Ok(page),
        None => page_by_parts(&body, schemas),
    }
}

fn page_at_once(body: &Body<'_>, schemas: &dyn Schemas) -> Option<PullPage> {
    let Object(wire): Object<WirePage<'_, PageDeltas<'_>>> = body.at_once()?;
    let mut resolver = Resolver::new(schemas);
    let page = read_page(body, wire, |wire| {
        let deltas = wire.0.into_iter().enumerate();
        deltas
            .map(|(index, wire)| numbered(index, whole_delta(body, &wire, &mut resolver)?))
            .collect()
    });
    page.ok()
}

fn page_by_parts(body: &Body<'_>, schemas: &dyn Schemas) -> Result<PullPage, DecodeError> {
    let wire: WirePage<'_, Raw<'_>> = body.object(body.root()?, "body")?;
    let mut resolver = Resolver::new(schemas);
    read_page(body, wire, |wire| {
        let list = body.list(wire, "deltas", PULL_MAX)?;
        let deltas = list.into_iter().enumerate();
        deltas
            .map(|(index, raw)| numbered(index, read_delta(body, index, raw, &mut resolver)?))
            .collect()
    })
}

/// Reads a page whose deltas `read` reads.
fn read_page<'b, D>(
    body: &Body<'b>,
    wire: WirePage<'b, D>,
    read: impl FnOnce(D) -> Result<Vec<Arc<SeqDelta>>, DecodeError>,
) -> Result<PullPage, DecodeError> {
    let cursor = body.seq(wire.server_hlc, "serverHlc")?;
    let has_more = body.boolean(wire.has_more, "hasMore")?;
    let epoch = body.epoch(wire.epoch)?;
    let notes = RawNotes {
        cursor: wire.cursor,
        checksum: wire.checksum,
        durable_seq: wire.durable_seq,
        schemas: wire.schemas,
    };
    Ok(PullPage {
        deltas: read(wire.deltas)?,
        removed: read_removed(body, wire.removed)?,
        cursor,
        has_more,
        epoch,
        notes: read_notes(body, &notes)?,
    })
}

fn numbered(
    index: usize,
    (delta, seq): (RowDelta, Option<Seq>),
) -> Result<Arc<SeqDelta>, DecodeError> {
    match seq {
        Some(seq) => Ok(Arc::new(SeqDelta { seq, delta })),
        None => {
            let (table, row) = (Some(delta.table.as_str()), Some(delta.row_id.as_str()));
            Err(Fault::missing("seq").in_delta(index, table, row))
        }
    }
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
    let (mut outcomes, mut ignored) = (Vec::new(), BTreeMap::new());
    for raw in body.list(wire.outcomes, "outcomes", PUSH_DELTAS_MAX)? {
        let wire: WireOutcome<'_> = body.object(raw, "outcomes")?;
        let seq = body.seq(wire.seq, "seq")?;
        let columns = read_ignored(&body, wire.ignored)?;
        if !columns.is_empty() {
            ignored.insert(outcomes.len(), columns);
        }
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
        ignored,
        epoch,
        notes: read_notes(&body, &notes)?,
    })
}

/// Reads deltas that are taken apart.
fn deltas<'b>(
    body: &Body<'b>,
    wire: Vec<WireDelta<'b, Columns<'b>>>,
    resolver: &mut Resolver<'_>,
) -> Result<Vec<RowDelta>, DecodeError> {
    let deltas = wire.iter();
    deltas
        .map(|wire| Ok(whole_delta(body, wire, resolver)?.0))
        .collect()
}

/// Reads a delta that is taken apart. An error does not know the place: whoever meets one reads the body by parts.
fn whole_delta<'b>(
    body: &Body<'b>,
    wire: &WireDelta<'b, Columns<'b>>,
    resolver: &mut Resolver<'_>,
) -> Result<(RowDelta, Option<Seq>), Fault> {
    checked_delta(body, wire, resolver, |columns, schema| {
        let mut reader = ColumnReader::new(schema);
        let changes = columns.0.iter();
        changes
            .map(|wire| read_column(body, wire, None, &mut reader))
            .collect()
    })
}

/// Reads one delta; an error tells its index, table and row.
fn read_delta<'b>(
    body: &Body<'b>,
    index: usize,
    raw: &'b RawValue,
    resolver: &mut Resolver<'_>,
) -> Result<(RowDelta, Option<Seq>), DecodeError> {
    let wire: WireDelta<'b, Raw<'b>> = body
        .object(raw, "deltas")
        .map_err(|fault| fault.in_delta(index, None, None))?;
    let read = |columns: &Raw<'b>, schema: &TableSchema| read_columns(body, *columns, schema);
    checked_delta(body, &wire, resolver, read).map_err(|fault| {
        let text = |raw: Raw<'b>| body.string(raw, "").ok();
        let (table, row) = (text(wire.table), text(wire.row_id));
        fault
            .or_at(body.at(Some(raw)))
            .in_delta(index, table.as_deref(), row.as_deref())
    })
}

/// Reads a delta whose columns `read` reads.
fn checked_delta<'b, C>(
    body: &Body<'b>,
    wire: &WireDelta<'b, C>,
    resolver: &mut Resolver<'_>,
    read: impl FnOnce(&C, &TableSchema) -> Result<Vec<ColumnChange>, Fault>,
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
    let columns = read(&wire.columns, &schema)?;
    let seq = wire.seq.map(|_| body.seq(wire.seq, "seq")).transpose()?;
    let table = schema.table.clone();
    let delta = RowDelta {
        op,
        table,
        row_id,
        client_id,
        columns,
        hlc,
        delta_id,
    };
    Ok((delta, seq))
}

fn read_columns<'b>(
    body: &Body<'b>,
    raw: Raw<'b>,
    schema: &TableSchema,
) -> Result<Vec<ColumnChange>, Fault> {
    let list = body.list(raw, "columns", COLUMNS_MAX)?;
    let mut reader = ColumnReader::new(schema);
    let column = |raw: &'b RawValue| {
        let wire: WireColumn<'b> = body.object(raw, "columns")?;
        read_column(body, &wire, Some(raw), &mut reader)
    };
    list.into_iter().map(column).collect()
}

/// Reads one column; `raw` is where it stands.
fn read_column<'b>(
    body: &Body<'b>,
    wire: &WireColumn<'b>,
    raw: Raw<'b>,
    reader: &mut ColumnReader<'_>,
) -> Result<ColumnChange, Fault> {
    let name = body
        .string(wire.column, "column")
        .map_err(|fault| fault.or_at(body.at(raw)))?;
    let value = wire.value.ok_or_else(|| {
        let reason = format!(
            "column {:?} has no value; null must be written",
            shown(&name)
        );
        Fault::new(DecodeErrorKind::MissingField, reason)
            .field("value")
            .or_at(body.at(raw))
    })?;
    let change = reader.change(&name, |column_type| Value::from_raw(value, column_type));
    change.map_err(|fault| fault.or_at(body.at(Some(value))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::definition::TableDefinition;
    use crate::id::TableName;

    fn tables() -> BTreeMap<TableName, Arc<TableSchema>> {
        let definition =
            br#"{"table":"t","columns":[{"name":"a","type":"long"},{"name":"b","type":"json"}]}"#;
        let definition = TableDefinition::from_json(definition).unwrap();
        let schema = TableSchema::from_definition(&definition).unwrap();
        BTreeMap::from([(schema.table.clone(), Arc::new(schema))])
    }

    const ID: &str = "564ec04d5afc4de1b3c7a3083c5fb0b39511e23cdf142e74bf75a1ff90df87ad";

    fn push() -> String {
        let delta = format!(
            r#"{{"op":"UPDATE","table":"t","rowId":"r","clientId":"c","columns":[{{"column":"a","value":1}},{{"column":"b","value":{{"x":[1,"]"]}}}}],"hlc":"5","deltaId":"{ID}","seq":"7"}}"#
        );
        format!(r#"{{"clientId":"c","deltas":[{delta}, {delta}],"lastSeenHlc":"9","new":[{{}}]}}"#)
    }

    fn page() -> String {
        let push = push();
        let (_, rest) = push.split_once(',').unwrap();
        format!(
            r#"{{"serverHlc":"9","hasMore":true,"epoch":"0190163d-8694-739b-aea5-966c26f8ad91",{rest}"#
        )
    }

    /// Both ways read the same, or nothing at once and perhaps something by parts.
    fn agree(text: &str) -> bool {
        let body = Body::new(text.as_bytes()).unwrap();
        let push = push_at_once(&body, &tables());
        let page = page_at_once(&body, &tables());
        let read = push.is_some() || page.is_some();
        if let Some(push) = push {
            assert_eq!(
                push_by_parts(&body, &tables()).as_ref(),
                Ok(&push),
                "{text}"
            );
        }
        if let Some(page) = page {
            assert_eq!(
                page_by_parts(&body, &tables()).as_ref(),
                Ok(&page),
                "{text}"
            );
        }
        read
    }

    #[test]
    fn a_good_body_is_read_at_once() {
        let mut reordered = push().replacen(r#""table":"t","#, "", 1);
        reordered = reordered.replacen(r#""seq":"7""#, r#""seq":"7","table":"t""#, 1);
        assert!(reordered.find("columns") < reordered.find("table"));
        for body in [push(), page(), reordered, format!(" {} ", push())] {
            assert!(agree(&body), "{body}");
        }
    }

    #[test]
    fn a_strange_body_is_read_by_parts() {
        // Arrays of an object's values, in the order of its keys.
        let column = push().replace(r#"{"column":"a","value":1}"#, r#"["a",1]"#);
        let delta = format!(r#"["UPDATE","t","r","c",[],"5","{ID}","7"]"#);
        let delta = format!(r#"{{"clientId":"c","deltas":[{delta}]}}"#);
        let body = r#"["c",[],"9","1"]"#;
        let twice = push().replacen('{', r#"{"clientId":"c","#, 1);
        let behind = format!("{} x", push());
        for body in [&column, &delta, body, "[]", "null", "{}", &twice, &behind] {
            assert!(!agree(body), "{body}");
            let body = Body::new(body.as_bytes()).unwrap();
            assert!(push_by_parts(&body, &tables()).is_err());
        }
    }

    proptest! {
        #[test]
        fn both_ways_read_the_same(
            is_page in any::<bool>(),
            at in any::<prop::sample::Index>(),
            cut in 0..9_usize,
            put in prop::sample::select(vec!["", "\"", "{", "}", "[", "]", ",", "null", "1", "\\u0041", "x", " ", ":", "[{}]"]),
        ) {
            let good = if is_page { page() } else { push() };
            let at = at.index(good.len());
            let body = format!("{}{put}{}", &good[..at], &good[(at + cut).min(good.len())..]);
            agree(&body);
        }
    }
}
