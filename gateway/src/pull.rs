//! Pull: every delta above a cursor, in seq order, from the newest source that has it.
//!
//! ```text
//!   seq  1 ……………… trimmed │ ……… durable log ……… │ ……… feed ……… visible
//!        flushed log only │ SQLite              │ memory
//! ```
//! **Invariant:** a page is contiguous: between the request's cursor and the page's no delta of this
//! epoch is missing. Flushing and trimming move deltas between sources, never out of all of them.

use std::sync::{Arc, PoisonError};

use lakesync_proto::{PullPage, Seq, SeqDelta, limits};
use lakesync_providers::read_log_page;

use crate::error::{Error, Result};
use crate::feed::Found;
use crate::gateway::Gateway;

impl Gateway {
    /// The next page above `since`: at most `limit` deltas, which [`limits::PULL_MAX`] bounds.
    ///
    /// # Errors
    /// When an older source cannot be read.
    pub async fn pull(&self, since: Seq, limit: usize) -> Result<PullPage> {
        let limit = limit.clamp(1, limits::PULL_MAX);
        let (deltas, to) = match self.feed.page(since, limit) {
            Found::Page(deltas, visible) => (deltas, visible),
            Found::Older(feed_from) => self.older(since, limit, feed_from).await?,
        };
        let last = deltas.last().map(|delta| delta.seq);
        let full = deltas.len() == limit;
        let cursor = match (full, last) {
            (true, Some(last)) => last,
            _ => to.max(since),
        };
        Ok(PullPage {
            has_more: cursor < self.live.seq(),
            cursor,
            deltas,
            epoch: self.epoch.clone(),
        })
    }

    /// A page from SQLite, or from the flushed log below it, and how far it reaches when it is not full.
    async fn older(
        &self,
        since: Seq,
        limit: usize,
        feed_from: Seq,
    ) -> Result<(Vec<Arc<SeqDelta>>, Seq)> {
        let mut stored = self.stored(since, limit).await?;
        // A database that was restored from a copy has a gap; what lies above it is for a later page.
        let run = (1..).zip(&stored);
        let run = run
            .take_while(|(nth, delta)| delta.seq.as_u64() == since.as_u64() + nth)
            .count();
        if run > 0 {
            stored.truncate(run);
            let reached = stored.last().map_or(since, |last| last.seq);
            return Ok((stored, reached));
        }
        // Nothing is stored right above the cursor: the flushed log has it, up to what is stored.
        let before = match stored.first() {
            Some(first) => Seq::from_u64(first.seq.as_u64() - 1).unwrap_or(since),
            None => feed_from,
        };
        Ok((self.flushed(since, before, limit).await?, before))
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
