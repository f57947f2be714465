//! The native part of an answer as JSON: removed rows, ignored columns and notes.
//!
//! Invariant: a key is written only when there is something to say, so an answer without notes is byte for byte the
//! contract's.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use crate::canonical::write_string;
use crate::codec::error::Fault;
use crate::codec::json_body::{Body, Raw};
use crate::codec::json_write::{separate, write_seq};
use crate::id::{ColumnName, RowId, TableName};
use crate::limits::{COLUMNS_MAX, PULL_MAX, SCHEMA_NOTE_TABLES_MAX};
use crate::message::{Notes, Removed, SchemaNote};

/// Appends `,"removed":[{"seq","table","rowId"}…]`.
pub(super) fn write_removed(removed: &[Removed], out: &mut String) {
    if removed.is_empty() {
        return;
    }
    out.push_str(",\"removed\":[");
    for (i, removed) in removed.iter().enumerate() {
        separate(i, out);
        out.push_str("{\"seq\":");
        write_seq(removed.seq, out);
        out.push_str(",\"table\":");
        write_string(removed.table.as_str(), out);
        out.push_str(",\"rowId\":");
        write_string(removed.row_id.as_str(), out);
        out.push('}');
    }
    out.push(']');
}

/// Appends `,"ignored":[column…]` to an outcome.
pub(super) fn write_ignored(columns: &[ColumnName], out: &mut String) {
    out.push_str(",\"ignored\":[");
    for (i, column) in columns.iter().enumerate() {
        separate(i, out);
        write_string(column.as_str(), out);
    }
    out.push(']');
}

/// Reads the columns of an outcome; none when the key is not there.
pub(super) fn read_ignored<'b>(body: &Body<'b>, raw: Raw<'b>) -> Result<Vec<ColumnName>, Fault> {
    if raw.is_none() {
        return Ok(Vec::new());
    }
    let columns = body.list(raw, "ignored", COLUMNS_MAX)?;
    let column = |raw| {
        let name = body.string(Some(raw), "ignored")?;
        let bad = |e: crate::IdError| Fault::bad("ignored", e.to_string());
        ColumnName::parse(&name).map_err(|e| bad(e).or_at(body.at(Some(raw))))
    };
    columns.into_iter().map(column).collect()
}

/// Appends `,"cursor","checksum","durableSeq","schemas":{"hash","changed","tables":{…}}`, each when it is there.
pub(super) fn write_notes(notes: &Notes, out: &mut String) {
    if let Some(next) = &notes.next {
        // The text is base64url: nothing to escape.
        out.push_str(&format!(",\"cursor\":\"{next}\""));
    }
    if let Some(checksum) = notes.checksum {
        out.push_str(&format!(",\"checksum\":\"{checksum}\""));
    }
    if let Some(durable) = notes.durable {
        out.push_str(",\"durableSeq\":");
        write_seq(durable, out);
    }
    let Some(schemas) = &notes.schemas else {
        return;
    };
    out.push_str(&format!(
        ",\"schemas\":{{\"hash\":\"{}\",\"changed\":{},\"tables\":{{",
        schemas.hash, schemas.changed
    ));
    for (i, (table, version)) in schemas.tables.iter().enumerate() {
        separate(i, out);
        write_string(table.as_str(), out);
        out.push_str(&format!(":{version}"));
    }
    out.push_str("}}");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRemoved<'b> {
    #[serde(borrow)]
    seq: Raw<'b>,
    #[serde(borrow)]
    table: Raw<'b>,
    #[serde(borrow)]
    row_id: Raw<'b>,
}

/// Reads the removed rows of a page; none when the key is not there.
pub(super) fn read_removed<'b>(body: &Body<'b>, raw: Raw<'b>) -> Result<Vec<Removed>, Fault> {
    if raw.is_none() {
        return Ok(Vec::new());
    }
    let mut removed = Vec::new();
    for raw in body.list(raw, "removed", PULL_MAX)? {
        let wire: WireRemoved<'_> = body.object(raw, "removed")?;
        let bad = |field: &str, e: &dyn ToString, raw: Raw<'b>| {
            Fault::bad(field, e.to_string()).or_at(body.at(raw))
        };
        removed.push(Removed {
            seq: body.seq(wire.seq, "seq")?,
            table: TableName::parse(&body.string(wire.table, "table")?)
                .map_err(|e| bad("table", &e, wire.table))?,
            row_id: RowId::parse(&body.string(wire.row_id, "rowId")?)
                .map_err(|e| bad("rowId", &e, wire.row_id))?,
        });
    }
    Ok(removed)
}

/// The keys of the notes as they stand in an answer.
pub(super) struct RawNotes<'b> {
    pub(super) cursor: Raw<'b>,
    pub(super) checksum: Raw<'b>,
    pub(super) durable_seq: Raw<'b>,
    pub(super) schemas: Raw<'b>,
}

#[derive(Deserialize)]
struct WireSchemas<'b> {
    #[serde(borrow)]
    hash: Raw<'b>,
    #[serde(borrow)]
    changed: Raw<'b>,
    #[serde(borrow)]
    tables: Raw<'b>,
}

/// Reads the notes of an answer; what is not there is not known.
pub(super) fn read_notes<'b>(body: &Body<'b>, raw: &RawNotes<'b>) -> Result<Notes, Fault> {
    let mut notes = Notes::default();
    if raw.cursor.is_some() {
        let next = body.string(raw.cursor, "cursor")?.parse();
        let bad = |e: crate::CursorError| Fault::bad("cursor", e.to_string());
        notes.next = Some(next.map_err(|e| bad(e).or_at(body.at(raw.cursor)))?);
    }
    if raw.checksum.is_some() {
        notes.checksum = Some(body.integer(raw.checksum, "checksum")?);
    }
    if raw.durable_seq.is_some() {
        notes.durable = Some(body.seq(raw.durable_seq, "durableSeq")?);
    }
    if let Some(schemas) = raw.schemas {
        let wire: WireSchemas<'_> = body.object(schemas, "schemas")?;
        notes.schemas = Some(SchemaNote {
            hash: body.integer(wire.hash, "hash")?,
            changed: body.boolean(wire.changed, "changed")?,
            tables: read_versions(body, wire.tables)?,
        });
    }
    Ok(notes)
}

fn read_versions<'b>(body: &Body<'b>, raw: Raw<'b>) -> Result<Vec<(TableName, u32)>, Fault> {
    let Some(tables) = raw else {
        return Ok(Vec::new());
    };
    let versions: BTreeMap<Cow<'b, str>, u32> = body.object(tables, "tables")?;
    if versions.len() > SCHEMA_NOTE_TABLES_MAX {
        let fault = Fault::too_many("tables", versions.len(), SCHEMA_NOTE_TABLES_MAX);
        return Err(fault.or_at(body.at(raw)));
    }
    let version = |(table, version): (Cow<'_, str>, u32)| {
        let bad = |e: crate::IdError| Fault::bad("tables", e.to_string()).or_at(body.at(raw));
        Ok((TableName::parse(&table).map_err(bad)?, version))
    };
    versions.into_iter().map(version).collect()
}
