//! Pull: every delta above a cursor, in seq order, from the newest source that has it.
//!
//! ```text
//!   seq  1 ……………… trimmed │ ……… durable log ……… │ ……… feed ……… visible
//!        flushed log only │ SQLite              │ memory
//! ```
//! **Invariant:** a page is contiguous: between the request's cursor and the page's no delta of this
//! epoch is missing. Flushing and trimming move deltas between sources, never out of all of them.

use std::sync::{Arc, PoisonError};

use lakesync_proto::{Cursor, ErrorCode, Notes, PullPage, Seq, SeqDelta, limits};
use lakesync_providers::read_log_page;

use crate::error::{Error, Refusal, Result};
use crate::feed::Found;
use crate::gateway::Gateway;
use crate::rules::Audience;

/// How many bytes of deltas a page may hold, beyond its first: what a client reads in one answer.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// How many deltas of the flushed log a page may hold: they are sorted in memory.
const FLUSHED_DELTAS_MAX: usize = 1_000;

/// Deltas above a cursor, and the seq up to which none is missing.
struct Run {
    deltas: Vec<Arc<SeqDelta>>,
    complete_to: Seq,
}

/// Where a pull begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// The bare seq of a legacy client: it gets DELETE deltas for rows that left its rules.
    Seq(Seq),
    /// A native cursor; none begins at the start, which only a checkpoint or an empty log can serve under rules.
    Cursor(Option<Cursor>),
}

/// What to pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Deltas above this place are asked for.
    pub since: Since,
    /// At most this many.
    pub limit: usize,
    /// The client's hash over all schemas, when it has one.
    pub schemas: Option<u64>,
}

impl Gateway {
    /// The next page for `audience`.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] with the checkpoint's address when the cursor is of another epoch, of other rules
    /// or claims, or below what can be filtered; else as [`Gateway::pull`].
    pub async fn pull_as(&self, pull: &Pull, _audience: &Audience) -> Result<PullPage> {
        let since = match &pull.since {
            Since::Seq(seq) => *seq,
            Since::Cursor(cursor) => cursor.as_ref().map_or(Seq::ZERO, |cursor| cursor.seq),
        };
        self.pull(since, pull.limit).await
    }

    /// The next page above `since`: at most `limit` deltas, which [`limits::PULL_MAX`] bounds, and about 16 MiB.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] for a cursor beyond this log: start over from 0. Else when an older source
    /// cannot be read.
    pub async fn pull(&self, since: Seq, limit: usize) -> Result<PullPage> {
        let limit = limit.clamp(1, limits::PULL_MAX);
        let (run, visible) = match self.feed.page(since, limit) {
            Found::Page(deltas, visible) => {
                let complete_to = match deltas.last() {
                    Some(last) if deltas.len() == limit => last.seq,
                    _ => visible,
                };
                (
                    Run {
                        deltas,
                        complete_to,
                    },
                    visible,
                )
            }
            Found::Older { to, visible } => (self.older(since, limit, to).await?, visible),
            Found::Beyond(visible) => return Err(beyond(since, visible).into()),
        };
        let run = fitting(run);
        Ok(PullPage {
            has_more: run.complete_to < visible,
            cursor: run.complete_to,
            deltas: run.deltas,
            removed: Vec::new(),
            epoch: self.epoch.clone(),
            notes: Notes::default(),
        })
    }

    /// A run from SQLite, or from the flushed log below it; the feed has what is above `to`.
    async fn older(&self, since: Seq, limit: usize, to: Seq) -> Result<Run> {
        let mut deltas = self.stored(since, limit).await?;
        // A database that was restored from a copy has a gap; what lies above it is for a later page.
        let dense = (1..).zip(&deltas);
        let dense = dense
            .take_while(|(nth, delta)| delta.seq.as_u64() == since.as_u64() + nth)
            .count();
        if dense > 0 {
            deltas.truncate(dense);
            let complete_to = deltas.last().map_or(since, |last| last.seq);
            return Ok(Run {
                deltas,
                complete_to,
            });
        }
        // Nothing is stored right above the cursor: the flushed log has it, up to what is stored.
        let before = match deltas.first() {
            Some(first) => Seq::from_u64(first.seq.as_u64() - 1).unwrap_or(since),
            None => to,
        };
        let limit = limit.min(FLUSHED_DELTAS_MAX);
        let deltas = self.flushed(since, before, limit).await?;
        let complete_to = match deltas.last() {
            Some(last) if deltas.len() == limit => last.seq,
            _ => before,
        };
        Ok(Run {
            deltas,
            complete_to,
        })
    }

    /// Up to `limit` deltas above `since` from SQLite.
    async fn stored(&self, since: Seq, limit: usize) -> Result<Vec<Arc<SeqDelta>>> {
        let (reader, live) = (Arc::clone(&self.reader), Arc::clone(&self.live));
        let read = tokio::task::spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read(since, limit, live.as_ref())
        });
        let pushes = read.await.map_err(|_| Error::Closed {
            gateway: self.id.clone(),
        })??;
        let deltas = pushes.into_iter().flat_map(|push| push.deltas);
        let above = deltas.filter(|delta| delta.seq > since).take(limit);
        Ok(above.map(Arc::new).collect())
    }

    /// Up to `limit` deltas of all tables with `since < seq <= to` from the flushed log.
    async fn flushed(&self, since: Seq, to: Seq, limit: usize) -> Result<Vec<Arc<SeqDelta>>> {
        let mut found = Vec::new();
        for view in self.live.views().tables.values() {
            found.extend(read_log_page(view, (since, to), limit).await?);
        }
        found.sort_by_key(|delta| delta.seq);
        found.truncate(limit);
        Ok(found)
    }
}

/// The run cut to what one answer may hold.
fn fitting(mut run: Run) -> Run {
    let mut bytes = 0;
    let fits = run.deltas.iter().take_while(|delta| {
        let before = bytes;
        bytes += delta.delta.bytes();
        before < PAGE_BYTES_MAX
    });
    let fits = fits.count();
    if fits < run.deltas.len() {
        run.deltas.truncate(fits);
        run.complete_to = run.deltas.last().map_or(run.complete_to, |last| last.seq);
    }
    run
}

fn beyond(since: Seq, visible: Seq) -> Refusal {
    Refusal::new(
        ErrorCode::CursorExpired,
        format!(
            "since: {since} is beyond this log, which ends at {visible}: it is another log's cursor, or this one was \
             restored from a copy; start over with since=0"
        ),
    )
}
