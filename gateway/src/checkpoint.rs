//! The checkpoint: everything that a new client starts from, as it was at one seq.
//!
//! Steps: take a slot → find the place to begin at → pin the views of all tables at one seq → stream their merged rows,
//! table by table and row by row, in chunks.
//!
//! ```text
//! stream ::= (length (4 bytes BE) │ SyncResponse)*       native: has_more until the last, which has the cursor
//! ```
//! The last native chunk tells the tables' versions too, and each has the token that resumes behind it. A native chunk
//! holds rows as deltas with the stamps of their cells, and tombstones; merging them makes the state that
//! everybody else has, so a late delta decides the same everywhere. A legacy chunk holds one INSERT a row, and UPDATEs
//! with what is left of a row that is larger than a chunk.
//!
//! **Invariant:** all rows of a checkpoint are of one seq, in whatever number of requests it is read: what changes
//! meanwhile comes with the pulls from its cursor.

mod chunks;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use lakesync_proto::{Cursor, ErrorCode, Seq, TableName};
use lakesync_providers::{ReadView, view_at_seq};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Refusal, Result};
use crate::gateway::Gateway;
use crate::rules::Audience;
use chunks::Chunks;
use place::Place;

/// Checkpoints and digests of one gateway that are read at once: each sorts or scans whole tables. More are told to
/// come back.
const READERS_MAX: usize = 4;

/// The form of a checkpoint's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointForm {
    /// Cells with their stamps, and tombstones.
    Native,
    /// One INSERT a visible row, with all columns and the stamp of its newest write.
    Legacy,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// These tables; all without.
    pub tables: Option<Vec<TableName>>,
    /// Goes on behind a chunk of an earlier answer to the same request: the chunk's [`Chunk::resume`].
    pub resume: Option<String>,
    /// How rows are written.
    pub form: CheckpointForm,
}

/// A checkpoint that is about to be streamed.
pub struct Checkpoint {
    /// Everything accepted up to this seq is in it, and nothing above.
    pub seq: Seq,
    /// Where pulls go on once all chunks have been applied.
    pub cursor: Cursor,
    /// The chunks; a slot is held until the stream is dropped.
    pub chunks: BoxStream<'static, Result<Chunk>>,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("seq", &self.seq)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// A part of a checkpoint.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// A SyncResponse behind its length.
    pub bytes: Bytes,
    /// What resumes the checkpoint behind this chunk. After a chunk that ends inside a row the row comes again.
    pub resume: String,
}

/// The slots of one gateway's readers of whole tables.
pub(crate) fn reader_slots() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(READERS_MAX))
}

impl Gateway {
    /// The rows that `audience` sees, all of one seq.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] when `resume` is of another log, of other rules, claims or tables, or of a seq that
    /// the lake no longer has: begin anew; [`ErrorCode::BackpressureError`] when too many are being read;
    /// [`ErrorCode::UnknownTable`]; else when the lake cannot be read.
    pub async fn checkpoint(
        &self,
        request: CheckpointRequest,
        audience: &Arc<Audience>,
    ) -> Result<Checkpoint> {
        let slot = self.reader_slot()?;
        let sight = self.sight(audience)?;
        let mut request = request;
        request.tables = request.tables.map(sorted);
        let (place, views) = match &request.resume {
            None => self.first_place(&request, audience)?,
            Some(resume) => self.resumed(&request, resume, audience).await?,
        };
        let cursor = place.cursor.clone();
        let schemas = self.notes(None, true).schemas;
        let chunks = Chunks::new(request.form, sight, place, views, slot).with_schemas(schemas);
        Ok(Checkpoint {
            seq: cursor.seq,
            cursor,
            chunks: stream::try_unfold(chunks, Chunks::next).boxed(),
        })
    }

    /// A slot for reading whole tables.
    pub(crate) fn reader_slot(&self) -> Result<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.readers).try_acquire_owned();
        slot.map_err(|_| {
            let text = format!(
                "gateway `{}` streams {READERS_MAX} checkpoints or digests already; ask again in a second",
                self.id
            );
            let refusal = Refusal::new(ErrorCode::BackpressureError, text);
            refusal.with("retryAfterMs", 1_000).into()
        })
    }

    /// The views of the tables that are asked for, all of one seq, by name.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownTable`].
    pub(crate) fn chosen_views(
        &self,
        tables: Option<&[TableName]>,
    ) -> Result<(Seq, Vec<Arc<ReadView>>)> {
        let now = self.live.views();
        let views = match tables {
            None => now.tables.into_values().collect(),
            Some(tables) => named(&now.tables, tables)?,
        };
        Ok((now.seq, views))
    }

    /// The cursor of what `audience` has seen up to `seq`.
    pub(crate) fn cursor_at(&self, seq: Seq, audience: &Audience) -> Cursor {
        Cursor {
            epoch: self.epoch.clone(),
            seq,
            rules: audience.rules(),
            claims: audience.claims(),
        }
    }

    fn first_place(
        &self,
        request: &CheckpointRequest,
        audience: &Audience,
    ) -> Result<(Place, Vec<Arc<ReadView>>)> {
        let (seq, views) = self.chosen_views(request.tables.as_deref())?;
        let place = Place {
            cursor: self.cursor_at(seq, audience),
            selection: place::selection(request.form, request.tables.as_deref()),
            last: None,
        };
        Ok((place, views))
    }

    async fn resumed(
        &self,
        request: &CheckpointRequest,
        resume: &str,
        audience: &Audience,
    ) -> Result<(Place, Vec<Arc<ReadView>>)> {
        let place: Place = resume
            .parse()
            .map_err(|_| self.expired("`resume` is no token of this server"))?;
        let wanted = self.cursor_at(place.cursor.seq, audience);
        if place.cursor.epoch != wanted.epoch {
            return Err(self.expired("`resume` is of another log").into());
        }
        if place.cursor != wanted {
            return Err(self
                .expired("the sync rules or the token's claims have changed since")
                .into());
        }
        if place.selection != place::selection(request.form, request.tables.as_deref()) {
            return Err(self
                .expired("`resume` is of a request for other tables or another form")
                .into());
        }
        let (_, now) = self.chosen_views(request.tables.as_deref())?;
        let mut views = Vec::new();
        for view in &now {
            let begun = place.last.as_ref().map(|(table, _)| table);
            if begun.is_some_and(|begun| view.table() < begun) {
                continue;
            }
            let then = view_at_seq(view, place.cursor.seq).await?;
            views.push(then.ok_or_else(|| self.expired("what it was made of is gone"))?);
        }
        Ok((place, views))
    }

    fn expired(&self, reason: &str) -> Refusal {
        let text = format!("the checkpoint cannot be resumed: {reason}; begin a new one");
        let address = format!("/v1/sync/{}/checkpoint", self.id);
        Refusal::new(ErrorCode::CursorExpired, text).with("checkpoint", address)
    }
}

fn sorted(mut tables: Vec<TableName>) -> Vec<TableName> {
    tables.sort();
    tables.dedup();
    tables
}

fn named(
    views: &BTreeMap<TableName, Arc<ReadView>>,
    tables: &[TableName],
) -> Result<Vec<Arc<ReadView>>> {
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let view = views.get(table).ok_or_else(|| {
            let text =
                format!("there is no table `{table}`; GET the schema to see those there are");
            Refusal::new(ErrorCode::UnknownTable, text)
        })?;
        found.push(Arc::clone(view));
    }
    Ok(found)
}
