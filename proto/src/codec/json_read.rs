//! JSON bodies to messages.
//!
//! Invariant: the body is read in place. Syntax is checked once for the whole body; then each delta and value is a
//! slice of it, so an error can tell its byte, unknown keys cost nothing, and a user's value is text until its column's
//! type is known.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::Schemas;
use crate::codec::error::{DecodeError, DecodeErrorKind, Fault};
use crate::codec::resolve::{ColumnReader, Resolver};
use crate::delta::{ColumnChange, Op, RowDelta};
use crate::delta_id::DeltaId;
use crate::error::shown;
use crate::hlc::Hlc;
use crate::id::{Epoch, RowId};
use crate::limits::{COLUMNS_MAX, PULL_MAX, PUSH_DELTAS_MAX};
use crate::message::{Outcome, PullPage, Push, PushAck, SeqDelta};
use crate::number::parse_u64;
use crate::schema::TableSchema;
use crate::seq::Seq;
use crate::value::{Value, string_of};

type Raw<'b> = Option<&'b RawValue>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePush<'b> {
    #[serde(borrow)]
    client_id: Raw<'b>,
    #[serde(borrow)]
    deltas: Raw<'b>,
    #[serde(borrow)]
    last_seen_hlc: Raw<'b>,
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

/// Reads a push: `{"clientId","deltas":[…],"lastSeenHlc"}`. The last may be missing.
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
    let mut deltas = Vec::new();
    for (index, raw) in body
        .list(wire.deltas, "deltas", PUSH_DELTAS_MAX)?
        .into_iter()
        .enumerate()
    {
        deltas.push(body.delta(index, raw, &mut resolver)?.0);
    }
    Ok(Push {
        client_id,
        deltas,
        last_seen,
    })
}

/// Reads a pull's answer: `{"deltas":[…],"serverHlc","hasMore","epoch"}`, each delta with its `seq`.
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
        let (delta, seq) = body.delta(index, raw, &mut resolver)?;
        let missing = || {
            let (table, row) = (Some(delta.table.as_str()), Some(delta.row_id.as_str()));
            Fault::missing("seq").in_delta(index, table, row)
        };
        let seq = seq.ok_or_else(missing)?;
        deltas.push(Arc::new(SeqDelta { seq, delta }));
    }
    Ok(PullPage {
        deltas,
        cursor,
        has_more,
        epoch,
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
    Ok(PushAck {
        accepted,
        cursor,
        outcomes,
        epoch,
    })
}

/// A body that is UTF-8 text, and the readers of its parts.
struct Body<'b>(&'b str);

impl<'b> Body<'b> {
    fn new(bytes: &'b [u8]) -> Result<Body<'b>, Fault> {
        let no_text = |e: std::str::Utf8Error| {
            Fault::malformed("Invalid JSON: the body is no UTF-8 text").or_at(Some(e.valid_up_to()))
        };
        std::str::from_utf8(bytes).map(Body).map_err(no_text)
    }

    /// The whole body, its syntax checked.
    fn root(&self) -> Result<&'b RawValue, Fault> {
        if self.0.trim_ascii().is_empty() {
            return Err(Fault::malformed("Invalid JSON: the body is empty"));
        }
        serde_json::from_str(self.0).map_err(|e| {
            let lines = self
                .0
                .split_inclusive('\n')
                .take(e.line().saturating_sub(1));
            let before: usize = lines.map(str::len).sum();
            let position = (before + e.column().saturating_sub(1)).min(self.0.len());
            Fault::malformed(format!("Invalid JSON: {e}")).or_at(Some(position))
        })
    }

    /// Where a part begins.
    fn at(&self, part: Raw<'b>) -> Option<usize> {
        part.and_then(|raw| {
            raw.get()
                .as_ptr()
                .addr()
                .checked_sub(self.0.as_ptr().addr())
        })
    }

    fn bad(&self, raw: &'b RawValue, field: &str, reason: impl Into<String>) -> Fault {
        Fault::bad(field, reason).or_at(self.at(Some(raw)))
    }

    /// Reads the keys of an object. Serde would take an array of the values as well; the wire does not.
    fn object<T: Deserialize<'b>>(&self, raw: &'b RawValue, field: &str) -> Result<T, Fault> {
        if !raw.get().starts_with('{') {
            return Err(self.bad(
                raw,
                field,
                format!("expected an object, found {}", shown(raw.get())),
            ));
        }
        serde_json::from_str(raw.get()).map_err(|e| self.bad(raw, field, e.to_string()))
    }

    /// Splits a list into its elements, at most `limit`.
    fn list(&self, raw: Raw<'b>, field: &str, limit: usize) -> Result<Vec<&'b RawValue>, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        if !raw.get().starts_with('[') {
            return Err(self.bad(
                raw,
                field,
                format!("expected an array, found {}", shown(raw.get())),
            ));
        }
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let elements = Elements {
            limit,
            of: PhantomData,
        };
        let (elements, count) = reader
            .deserialize_seq(elements)
            .map_err(|e| self.bad(raw, field, e.to_string()))?;
        match count > limit {
            true => Err(Fault::too_many(field, count, limit).or_at(self.at(Some(raw)))),
            false => Ok(elements),
        }
    }

    fn string(&self, raw: Raw<'b>, field: &str) -> Result<Cow<'b, str>, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        if !raw.get().starts_with('"') {
            return Err(self.bad(
                raw,
                field,
                format!("expected a string, found {}", shown(raw.get())),
            ));
        }
        string_of(raw).map_err(|e| self.bad(raw, field, e.to_string()))
    }

    fn boolean(&self, raw: Raw<'b>, field: &str) -> Result<bool, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        raw.get().parse().map_err(|_| {
            self.bad(
                raw,
                field,
                format!("expected true or false, found {}", shown(raw.get())),
            )
        })
    }

    /// A 64-bit number as a decimal string or an integer.
    fn integer(&self, raw: Raw<'b>, field: &str) -> Result<u64, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        let text = if raw.get().starts_with('"') {
            self.string(Some(raw), field)?
        } else {
            raw.get().into()
        };
        parse_u64(&text).ok_or_else(|| {
            let reason = format!(
                "expected an unsigned 64-bit integer, as digits or in a string, found {}",
                shown(raw.get())
            );
            self.bad(raw, field, reason)
        })
    }

    fn seq(&self, raw: Raw<'b>, field: &str) -> Result<Seq, Fault> {
        let seq = Seq::from_u64(self.integer(raw, field)?);
        seq.map_err(|e| Fault::bad(field, e.to_string()).or_at(self.at(raw)))
    }

    fn epoch(&self, raw: Raw<'b>) -> Result<Epoch, Fault> {
        let text = self.string(raw, "epoch")?;
        Epoch::parse(&text).map_err(|e| Fault::bad("epoch", e.to_string()).or_at(self.at(raw)))
    }

    /// Reads one delta; an error tells its index, table and row.
    fn delta(
        &self,
        index: usize,
        raw: &'b RawValue,
        resolver: &mut Resolver<'_>,
    ) -> Result<(RowDelta, Option<Seq>), DecodeError> {
        let wire: WireDelta<'b> = self
            .object(raw, "deltas")
            .map_err(|fault| fault.in_delta(index, None, None))?;
        self.checked_delta(&wire, resolver).map_err(|fault| {
            let text = |raw: Raw<'b>| self.string(raw, "").ok();
            let (table, row) = (text(wire.table), text(wire.row_id));
            fault
                .or_at(self.at(Some(raw)))
                .in_delta(index, table.as_deref(), row.as_deref())
        })
    }

    fn checked_delta(
        &self,
        wire: &WireDelta<'b>,
        resolver: &mut Resolver<'_>,
    ) -> Result<(RowDelta, Option<Seq>), Fault> {
        let at = |raw: Raw<'b>| move |fault: Fault| fault.or_at(self.at(raw));
        let op = self.string(wire.op, "op")?;
        let op = Op::from_name(&op).ok_or_else(|| {
            let reason = format!("{:?} is none of INSERT, UPDATE, DELETE", shown(&op));
            Fault::bad("op", reason).or_at(self.at(wire.op))
        })?;
        let schema = resolver
            .table(&self.string(wire.table, "table")?)
            .map_err(at(wire.table))?;
        let row_id = RowId::parse(&self.string(wire.row_id, "rowId")?)
            .map_err(|e| Fault::bad("rowId", e.to_string()).or_at(self.at(wire.row_id)))?;
        let client_id = resolver
            .client(&self.string(wire.client_id, "clientId")?)
            .map_err(at(wire.client_id))?;
        let hlc = Hlc::from_u64(self.integer(wire.hlc, "hlc")?)
            .map_err(|e| Fault::bad("hlc", e.to_string()).or_at(self.at(wire.hlc)))?;
        let delta_id = DeltaId::parse(&self.string(wire.delta_id, "deltaId")?)
            .map_err(|e| Fault::bad("deltaId", e.to_string()).or_at(self.at(wire.delta_id)))?;
        let columns = self.columns(wire.columns, &schema)?;
        let seq = wire.seq.map(|_| self.seq(wire.seq, "seq")).transpose()?;
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

    fn columns(&self, raw: Raw<'b>, schema: &TableSchema) -> Result<Vec<ColumnChange>, Fault> {
        let list = self.list(raw, "columns", COLUMNS_MAX)?;
        let mut reader = ColumnReader::new(schema);
        let mut columns = Vec::with_capacity(list.len());
        for raw in list {
            let wire: WireColumn<'b> = self.object(raw, "columns")?;
            let name = self
                .string(wire.column, "column")
                .map_err(|fault| fault.or_at(self.at(Some(raw))))?;
            let value = wire.value.ok_or_else(|| {
                let reason = format!(
                    "column {:?} has no value; null must be written",
                    shown(&name)
                );
                Fault::new(DecodeErrorKind::MissingField, reason)
                    .field("value")
                    .or_at(self.at(Some(raw)))
            })?;
            let change = reader.change(&name, |column_type| Value::from_raw(value, column_type));
            columns.push(change.map_err(|fault| fault.or_at(self.at(Some(value))))?);
        }
        Ok(columns)
    }
}

/// Collects at most `limit` elements and counts the rest without keeping them.
struct Elements<'b> {
    limit: usize,
    of: PhantomData<&'b RawValue>,
}

impl<'de: 'b, 'b> Visitor<'de> for Elements<'b> {
    type Value = (Vec<&'b RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.limit {
            match items.next_element()? {
                Some(element) => elements.push(element),
                None => break,
            }
        }
        let mut count = elements.len();
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((elements, count))
    }
}
