//! Pull: every delta above a cursor, in seq order, from the newest source that has it.
//!
//! ```text
//!   seq  1 ……………… trimmed │ ……… durable log ……… │ ……… feed ……… visible
//!        flushed log only │ SQLite              │ memory
//! ```
//! **Invariant:** a page is contiguous: between the request's cursor and the page's no delta of this
//! epoch is missing, but those that its audience may not see. Flushing and trimming move deltas between sources, never
//! out of all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use lakesync_proto::{
    Claims, ClientId, Cursor, ErrorCode, GatewayId, PullPage, Seq, limits, page_checksum,
};
use lakesync_providers::{LogPage, log_seqs};

use crate::auth::Identity;
use crate::error::{Refusal, Result};
use crate::feed::{Found, Item};
use crate::filter::{Asking, Content, Form, SCAN_DELTAS_MAX};
use crate::gateway::Gateway;
use crate::rules::ledger::{Ruling, binds};
use crate::rules::ruling::{check_in_force, is_rules_changed};
use crate::rules::{Audience, Changed, Rules, changed_tables};

/// How many bytes of deltas a page may hold, beyond its first: what a client reads in one answer.
pub(crate) const PAGE_BYTES_MAX: usize = 16 << 20;
/// How many deltas of the flushed log a page may hold: they are sorted in memory.
const FLUSHED_DELTAS_MAX: usize = 1_000;
/// How often a pull is begun again because the rules changed while it looked: they do so by hand.
const ATTEMPTS_MAX: usize = 3;

/// Where deltas came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Feed,
    Database,
    /// The flushed log: it does not know what a delta did under the rules.
    Flushed,
}

/// Deltas above a cursor, and the seq up to which none is missing.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) items: Vec<Item>,
    pub(crate) complete_to: Seq,
    pub(crate) visible: Seq,
    pub(crate) source: Source,
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

/// A page, and what of it is the gateway's own making.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) page: PullPage,
    /// The seqs whose deltas are none of the log: rows whole and withdrawals, whoever's stamp they carry.
    pub(crate) made: BTreeSet<Seq>,
}

/// Who pulls, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Puller<'a> {
    audience: &'a Audience,
    client: Option<&'a ClientId>,
    claims: Option<&'a Claims>,
}

impl Gateway {
    /// The next page for `client`, who holds `identity`.
    ///
    /// Under rules the client also hears that rows of its own making are not for it to see.
    ///
    /// # Errors
    /// As [`Gateway::pull_as`]. When only some tables have to be loaded again, the refusal names them in `tables`, and
    /// in `cursor` the place to go on from afterwards.
    pub async fn pull_by(
        &self,
        pull: &Pull,
        identity: &Identity,
        client: &ClientId,
    ) -> Result<PullPage> {
        let told = self.told_by(pull, identity, client).await?;
        Ok(told.page)
    }

    /// As [`Gateway::pull_by`].
    pub(crate) async fn told_by(
        &self,
        pull: &Pull,
        identity: &Identity,
        client: &ClientId,
    ) -> Result<Told> {
        let mut attempt = 1;
        loop {
            let audience = self.audience(identity);
            let puller = Puller {
                audience: &audience,
                client: Some(client),
                claims: Some(&identity.claims),
            };
            match self.page(pull, puller).await {
                Err(error) if attempt < ATTEMPTS_MAX && is_rules_changed(&error) => attempt += 1,
                page => return page,
            }
        }
    }

    /// The next page for `audience`.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] with the checkpoint's address when the cursor is of another epoch, of other rules
    /// or claims, or below what can be filtered; [`ErrorCode::BackpressureError`] when the rules changed in between;
    /// else as [`Gateway::pull`].
    pub async fn pull_as(&self, pull: &Pull, audience: &Audience) -> Result<PullPage> {
        let told = self.told_as(pull, audience).await?;
        Ok(told.page)
    }

    /// As [`Gateway::pull_as`].
    pub(crate) async fn told_as(&self, pull: &Pull, audience: &Audience) -> Result<Told> {
        let puller = Puller {
            audience,
            client: None,
            claims: None,
        };
        self.page(pull, puller).await
    }

    /// The next page above `since`: at most `limit` deltas, which [`limits::PULL_MAX`] bounds, and about 16 MiB.
    ///
    /// # Errors
    /// [`ErrorCode::CursorExpired`] for a cursor beyond this log: start over from 0. Else when an older source
    /// cannot be read.
    pub async fn pull(&self, since: Seq, limit: usize) -> Result<PullPage> {
        let pull = Pull {
            since: Since::Seq(since),
            limit,
            schemas: None,
        };
        self.pull_as(&pull, &Audience::everything()).await
    }

    async fn page(&self, pull: &Pull, puller: Puller<'_>) -> Result<Told> {
        let ruling = self.ruling();
        let audience = puller.audience;
        let bound = !audience.is_everything();
        check_in_force(audience, ruling.rules.version())?;
        let limit = pull.limit.clamp(1, limits::PULL_MAX);
        let (since, form) = match &pull.since {
            Since::Seq(seq) => (self.legacy_start(*seq, audience, &ruling)?, Form::Legacy),
            Since::Cursor(cursor) => (
                self.native_start(cursor.as_ref(), puller, &ruling)?,
                Form::Native,
            ),
        };
        let content = match bound {
            false => self.unfiltered(since, limit).await?,
            true => {
                let client = puller.client;
                let asking = Asking {
                    audience,
                    ruling: Arc::clone(&ruling),
                    form,
                    client,
                    scan_deltas_max: SCAN_DELTAS_MAX,
                };
                self.filtered(&asking, since, limit).await?
            }
        };
        // What was read may have come in under rules that were not yet in force when it was begun.
        self.check_in_force(audience)?;
        let mut page = PullPage {
            has_more: content.complete_to < content.visible,
            cursor: content.complete_to,
            deltas: content.deltas,
            removed: content.removed,
            epoch: self.epoch.clone(),
            notes: self.notes(pull.schemas, form == Form::Native),
        };
        page.notes.checksum = Some(page_checksum(&page));
        page.notes.next = (form == Form::Native).then(|| self.cursor(page.cursor, audience));
        Ok(Told {
            page,
            made: content.made,
        })
    }

    /// Refuses an audience of other rules than those in force.
    pub(crate) fn check_in_force(&self, audience: &Audience) -> Result<(), Refusal> {
        check_in_force(audience, self.ruling().rules.version())
    }

    /// The native cursor of `audience` at `seq`.
    pub(crate) fn cursor(&self, seq: Seq, audience: &Audience) -> Cursor {
        Cursor {
            epoch: self.epoch.clone(),
            seq,
            rules: audience.rules(),
            claims: audience.claims(),
        }
    }

    /// The seq that a legacy client goes on from. What it saw below the sync rules' beginning it saw by others, and
    /// nothing tells which of its rows it may not keep; who has nothing may begin by what rows are now.
    fn legacy_start(
        &self,
        since: Seq,
        audience: &Audience,
        ruling: &Ruling,
    ) -> Result<Seq, Refusal> {
        match !audience.is_everything() && Seq::ZERO < since && since < ruling.since {
            true => Err(expired(&self.id, "it is older than the sync rules")),
            false => Ok(since),
        }
    }

    /// The seq that a native cursor goes on from, when what it saw before is what it would see now.
    fn native_start(
        &self,
        cursor: Option<&Cursor>,
        puller: Puller<'_>,
        ruling: &Ruling,
    ) -> Result<Seq, Refusal> {
        let audience = puller.audience;
        let filtered_from = match audience.is_everything() {
            true => Seq::ZERO,
            false => ruling.since,
        };
        let Some(cursor) = cursor else {
            return match filtered_from {
                Seq::ZERO => Ok(Seq::ZERO),
                _ => Err(expired(
                    &self.id,
                    "there is none yet, and the sync rules are younger than the log",
                )),
            };
        };
        if cursor.epoch != self.epoch {
            return Err(expired(&self.id, "it is of another log"));
        }
        if cursor.seq < filtered_from {
            return Err(expired(&self.id, "it is older than the sync rules"));
        }
        if (cursor.rules, cursor.claims) == (audience.rules(), audience.claims()) {
            return Ok(cursor.seq);
        }
        let refusal = expired(
            &self.id,
            "the sync rules, or the token's claims, are others",
        );
        let changed = puller
            .claims
            .and_then(|claims| self.changed(cursor, claims, ruling));
        match changed {
            None => Err(refusal),
            Some(Changed::Nothing) => Ok(cursor.seq),
            Some(Changed::Tables(tables)) => {
                let tables: Vec<String> = tables.iter().map(ToString::to_string).collect();
                let next = self.cursor(cursor.seq, audience).to_string();
                Err(refusal.with("tables", tables).with("cursor", next))
            }
        }
    }

    /// What the holder of a cursor sees otherwise than before; none when the rules that it saw by are forgotten.
    fn changed(&self, cursor: &Cursor, claims: &Claims, ruling: &Ruling) -> Option<Changed> {
        let new = &ruling.rules;
        if cursor.rules == new.version() {
            return Some(changed_tables(new, new, cursor.claims, claims));
        }
        let old = match cursor.rules {
            0 => Rules::none(),
            version => {
                let mut past = ruling.past.iter();
                let set = past.find(|set| set.version == version)?;
                Rules::compile(set.clone(), &self.live.schemas()).ok()?
            }
        };
        match (binds(&old), binds(new)) {
            (false, false) => Some(Changed::Nothing),
            (true, true) => Some(changed_tables(&old, new, cursor.claims, claims)),
            // Tables that no bucket names come into sight, or leave it.
            _ => None,
        }
    }

    async fn unfiltered(&self, since: Seq, limit: usize) -> Result<Content> {
        let run = fitting(self.run(since, limit).await?);
        Ok(Content {
            deltas: run.items.into_iter().map(|(delta, _)| delta).collect(),
            removed: Vec::new(),
            made: BTreeSet::new(),
            complete_to: run.complete_to,
            visible: run.visible,
        })
    }

    /// Up to `limit` deltas above `since`.
    pub(crate) async fn run(&self, since: Seq, limit: usize) -> Result<Run> {
        if self.lost.holds(since) {
            let text = format!("since={since} is of a part of the log that was lost with its disk");
            return Err(expired(&self.id, &text).into());
        }
        match self.feed.page(since, limit) {
            Found::Page(items, visible) => {
                let complete_to = match items.last() {
                    Some((last, _)) if items.len() == limit => last.seq,
                    _ => visible,
                };
                Ok(Run {
                    items,
                    complete_to,
                    visible,
                    source: Source::Feed,
                })
            }
            Found::Older { to, visible } => self.older(since, limit, (to, visible)).await,
            Found::Beyond(visible) => Err(beyond(&self.id, since, visible).into()),
        }
    }

    /// A run from SQLite, or from the flushed log below it; the feed has what is above `to`.
    async fn older(&self, since: Seq, limit: usize, (to, visible): (Seq, Seq)) -> Result<Run> {
        let mut items = self.stored(since, limit).await?;
        // A commit that ended after the look at the feed is not published yet.
        items.truncate(items.partition_point(|(delta, _)| delta.seq <= visible));
        // A database that was restored from a copy has a gap; what lies above it is for a later page.
        let dense = (1..).zip(&items);
        let dense = dense
            .take_while(|(nth, (delta, _))| delta.seq.as_u64() == since.as_u64() + nth)
            .count();
        if dense > 0 {
            items.truncate(dense);
            let complete_to = items.last().map_or(since, |(last, _)| last.seq);
            return Ok(Run {
                items,
                complete_to,
                visible,
                source: Source::Database,
            });
        }
        // Nothing is stored right above the cursor: the flushed log has it, up to what is stored.
        let before = match items.first() {
            Some((first, _)) => Seq::from_u64(first.seq.as_u64() - 1).unwrap_or(since),
            None => to,
        };
        self.refuse_dropped(since)?;
        let page = self.flushed(since, before, limit).await?;
        let complete_to = page.to();
        Ok(Run {
            items: page.deltas().map(|delta| (delta, None)).collect(),
            complete_to,
            visible,
            source: Source::Flushed,
        })
    }

    /// The flushed log is whole only above what has been dropped from it.
    fn refuse_dropped(&self, since: Seq) -> Result<(), Refusal> {
        let views = self.live.views();
        let dropped = views.tables.values().map(|view| view.log.dropped_seq);
        let dropped = dropped.max().unwrap_or(Seq::ZERO);
        if since >= dropped {
            return Ok(());
        }
        let text = format!("deltas up to {dropped} have been dropped from the log");
        Err(expired(&self.id, &text))
    }

    /// Up to `limit` deltas above `since` from SQLite.
    async fn stored(&self, since: Seq, limit: usize) -> Result<Vec<Item>> {
        let (reader, live) = (Arc::clone(&self.reader), Arc::clone(&self.live));
        let read = tokio::task::spawn_blocking(move || {
            let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.read(since, limit, live.as_ref())
        });
        let pushes = read.await.map_err(|_| self.closed())??;
        let items = pushes.into_iter().flat_map(|push| {
            // One for each delta, or none at all.
            let moved = push.moved.into_iter().map(Some);
            let moved = moved.chain(std::iter::repeat(None));
            push.deltas.into_iter().zip(moved)
        });
        let above = items.filter(|(delta, _)| delta.seq > since).take(limit);
        let items = above.map(|(delta, moved)| (Arc::new(delta), moved));
        Ok(items.collect())
    }

    /// Deltas of all tables with `since < seq <= to` from the flushed log, up to `limit` and to what a page may hold.
    async fn flushed(&self, since: Seq, to: Seq, limit: usize) -> Result<LogPage> {
        let limit = limit.min(FLUSHED_DELTAS_MAX);
        let views = self.live.views();
        let mut seqs = Vec::new();
        for view in views.tables.values() {
            seqs.extend(log_seqs(view, (since, to), limit).await?);
        }
        seqs.sort_unstable();
        let to = seqs.get(limit - 1).copied().unwrap_or(to);
        let mut page = LogPage::new(to, PAGE_BYTES_MAX);
        if !seqs.is_empty() {
            for view in views.tables.values() {
                page.read(view, since).await?;
            }
        }
        Ok(page)
    }
}

/// The run cut to what one answer may hold.
fn fitting(mut run: Run) -> Run {
    let mut bytes = 0;
    let fits = run.items.iter().take_while(|(delta, _)| {
        let before = bytes;
        bytes += delta.delta.bytes();
        before < PAGE_BYTES_MAX
    });
    let fits = fits.count();
    if fits < run.items.len() {
        run.items.truncate(fits);
        let last = run.items.last();
        run.complete_to = last.map_or(run.complete_to, |(last, _)| last.seq);
    }
    run
}

/// The refusal of a cursor that cannot be gone on from.
pub(crate) fn expired(gateway: &GatewayId, reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::CursorExpired,
        format!("the cursor cannot be gone on from: {reason}; load the checkpoint, then go on from its cursor"),
    )
    .with("checkpoint", checkpoint_address(gateway))
}

fn checkpoint_address(gateway: &GatewayId) -> String {
    format!("/v1/sync/{gateway}/checkpoint")
}

fn beyond(gateway: &GatewayId, since: Seq, visible: Seq) -> Refusal {
    Refusal::new(
        ErrorCode::CursorExpired,
        format!(
            "since: {since} is beyond this log, which ends at {visible}: it is another log's cursor, or this one was \
             restored from a copy; start over with since=0"
        ),
    )
    .with("checkpoint", checkpoint_address(gateway))
}
