//! Pages, chunks and live pages on their way into the file.
//!
//! Invariant: a page is merged only behind the place that it was asked for, or where it overlaps what is here already. A
//! page that brings nothing on is a failure, so nothing that a gateway answers is asked for without end.

use lakesync_proto::{Cursor, PullPage, Seq, TableSchema, page_checksum};

use super::errors::{is_expired, protocol};
use super::{Session, log};
use crate::apply::{self, Applied};
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox;
use crate::state;
use crate::sync::machine::{Exchange, Failure, Read};
use crate::sync::options::KeepUntil;
use crate::sync::step::{CheckpointRequest, Pull, Step, Subscribe};
use crate::transport::{Refusal, TransportError};

/// What a page came to in its transaction.
enum Merged {
    Page(Applied),
    /// What it brings is here already.
    Known,
    /// Something between what is here and what it brings is missing.
    Gap,
}

impl Session {
    pub(super) fn pull_step(&mut self) -> Result<Step, ClientError> {
        let local = self.db.local();
        let connection = &local.connection;
        self.since = state::cursor(connection)?.unwrap_or_default();
        Ok(Step::Pull(Pull {
            client_id: local.client_id.clone(),
            cursor: self.since.clone(),
            limit: self.page_limit,
            schemas_hash: state::schemas_hash(connection)?,
            schemas: self.known.readers(),
        }))
    }

    pub(super) fn checkpoint_step(&mut self) -> Result<Step, ClientError> {
        let loading = self.db.keep(|work| match apply::loading(work.tx)? {
            Some(loading) => Ok(loading),
            None => apply::begin_checkpoint(work, &[], None),
        })?;
        self.loading = Some(loading.clone());
        Ok(Step::Checkpoint(CheckpointRequest {
            client_id: self.db.client_id(),
            tables: loading.tables,
            resume: loading.resume,
            schemas: self.known.readers(),
        }))
    }

    pub(super) fn subscribe_step(&mut self) -> Result<Step, ClientError> {
        let local = self.db.local();
        let connection = &local.connection;
        self.live_seq = state::seq(connection)?;
        Ok(Step::Subscribe(Subscribe {
            client_id: local.client_id.clone(),
            cursor: state::cursor(connection)?.unwrap_or_default(),
            schemas: self.known.readers(),
        }))
    }

    pub(super) fn on_pulled(
        &mut self,
        result: Result<PullPage, TransportError>,
    ) -> Result<(), ClientError> {
        let page = match result {
            Ok(page) => page,
            Err(error) => {
                if let Some(refusal) = is_expired(&error) {
                    return self.on_expired(refusal);
                }
                if let TransportError::TooLong { .. } = error {
                    self.page_limit = (self.page_limit / 2).max(1);
                }
                return self.failed(Exchange::Pull, error);
            }
        };
        let since = std::mem::take(&mut self.since);
        let merged = self
            .check(&page)
            .and_then(|()| brings_on(&since, &page))
            .and_then(|()| {
                self.merge(|work, schemas| {
                    apply::page(work, &since, &page, schemas).map(Merged::Page)
                })
            });
        match merged {
            Ok(merged) => self.on_read(Exchange::Pull, &merged, &page),
            Err(error) => self.unread(Exchange::Pull, error),
        }
    }

    pub(super) fn on_chunk(
        &mut self,
        result: Result<Option<PullPage>, TransportError>,
    ) -> Result<(), ClientError> {
        let page = match result {
            Ok(Some(page)) => page,
            Ok(None) => {
                let error = protocol("the checkpoint ended before its last chunk");
                let now_ms = self.now_ms();
                let broken = Failure::Refused {
                    retry_after_ms: None,
                };
                return match self.machine.failed(Exchange::Chunk, broken, now_ms) {
                    None => Ok(()),
                    Some(lane) => Err(self.errors.note(lane, error, now_ms)),
                };
            }
            Err(error) => {
                return match is_expired(&error) {
                    Some(refusal) => self.load_again(refusal),
                    None => self.failed(Exchange::Chunk, error),
                };
            }
        };
        let expected = self.loading.take();
        let mut behind = None;
        let merged = self.check(&page).and_then(|()| {
            self.merge(|work, schemas| {
                let before = apply::loading(work.tx)?;
                let (true, Some(before)) = (before == expected, before) else {
                    // Another process has loaded it meanwhile, or has begun anew: this chunk does not follow on it.
                    return Ok(Merged::Page(Applied::STALE));
                };
                let brings = !page.deltas.is_empty() || !page.removed.is_empty();
                if page.has_more && !brings && before.resume == page.notes.resume {
                    return Err(protocol("a chunk of the checkpoint brings nothing"));
                }
                let applied = apply::chunk(work, &page, schemas)?;
                if applied.stale && before.resume.is_none() {
                    // Nothing says where it could be gone on with.
                    log::load_again(work)?;
                }
                behind = apply::loading(work.tx)?;
                Ok(Merged::Page(applied))
            })
        });
        self.loading = behind;
        match merged {
            Ok(merged) => self.on_read(Exchange::Chunk, &merged, &page),
            Err(error) => self.unread(Exchange::Chunk, error),
        }
    }

    pub(super) fn on_subscribed(
        &mut self,
        result: Result<(), TransportError>,
    ) -> Result<(), ClientError> {
        let now_ms = self.now_ms();
        match result {
            Ok(()) => {
                self.answered(Exchange::Subscribe);
                self.machine.subscribed(now_ms);
            }
            Err(error) => {
                if is_expired(&error).is_some() {
                    self.machine.be_behind();
                }
                // Without a live connection there are polls: nothing to show a person.
                let failure = super::errors::failure_of(&error, Exchange::Subscribe);
                let lane = self.machine.failed(Exchange::Subscribe, failure, now_ms);
                if lane.is_none() && failure == Failure::Token {
                    self.token_error = Some(error);
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_live(&mut self, page: &PullPage) -> Result<(), ClientError> {
        if !self.machine.is_open() {
            return Ok(());
        }
        let live_seq = self.live_seq;
        let merged = self.check(page).and_then(|()| {
            self.merge(|work, schemas| {
                let seq = state::seq(work.tx)?;
                if live_seq > seq || apply::loading(work.tx)?.is_some() {
                    return Ok(Merged::Gap);
                }
                if page.cursor <= seq {
                    return Ok(Merged::Known);
                }
                let cursor = state::cursor(work.tx)?.unwrap_or_default();
                brings_on(&cursor, page)?;
                apply::page(work, &cursor, page, schemas).map(Merged::Page)
            })
        });
        let now_ms = self.now_ms();
        match merged {
            Ok(merged) => {
                self.live_seq = self.live_seq.max(page.cursor);
                self.errors.forget(Exchange::Pull.lane());
                self.machine.live(read(&merged, Read::Last), now_ms);
                self.heed(&page.notes);
                Ok(())
            }
            Err(error) => {
                let failure = super::errors::failure_here(&error);
                match self.machine.live_failed(failure, now_ms) {
                    None => Ok(()),
                    Some(lane) => Err(self.errors.note(lane, error, now_ms)),
                }
            }
        }
    }

    pub(super) fn on_live_ended(&mut self, error: &TransportError) {
        let now_ms = self.now_ms();
        self.machine.live_ended(now_ms);
        if super::errors::failure_of(error, Exchange::Subscribe) == Failure::Schema {
            self.machine.want_schemas();
        }
    }

    /// The cursor cannot be gone on from: the tables that it says, or all, are loaded from a checkpoint.
    fn on_expired(&mut self, refusal: &Refusal) -> Result<(), ClientError> {
        let begun = log::tables_of(refusal).and_then(|(tables, then)| {
            self.db.keep(|work| match apply::loading(work.tx)? {
                // Another process was told so, too, and is loading already.
                Some(_) => Ok(()),
                None => apply::begin_checkpoint(work, &tables, then.as_ref()).map(|_| ()),
            })
        });
        self.started_over(begun, Exchange::Pull, refusal)
    }

    /// The checkpoint cannot be gone on with: it is loaded from its beginning.
    fn load_again(&mut self, refusal: &Refusal) -> Result<(), ClientError> {
        let begun = self.db.keep(log::load_again);
        self.started_over(begun.map(|_| ()), Exchange::Chunk, refusal)
    }

    fn started_over(
        &mut self,
        begun: Result<(), ClientError>,
        exchange: Exchange,
        refusal: &Refusal,
    ) -> Result<(), ClientError> {
        if let Err(error) = begun {
            return Err(self.failed_here(exchange, error));
        }
        let now_ms = self.now_ms();
        let waits = match exchange {
            Exchange::Chunk => self.machine.loaded(Read::StartOver, now_ms),
            _ => self.machine.pulled(Read::StartOver, now_ms),
        };
        match waits {
            None => Ok(()),
            Some(lane) => {
                let error = TransportError::Refused(Box::new(refusal.clone()));
                Err(self.errors.note(lane, error.into(), now_ms))
            }
        }
    }

    /// Refuses a page whose checksum is another one than its content's.
    fn check(&mut self, page: &PullPage) -> Result<(), ClientError> {
        let checksum = page_checksum(page);
        match page.notes.checksum {
            Some(told) if told != checksum => {
                self.mismatches += 1;
                Err(protocol(format!(
                    "a page up to seq {} has checksum {checksum} and tells {told}",
                    page.cursor
                )))
            }
            _ => Ok(()),
        }
    }

    /// Merges a page in one transaction.
    fn merge(
        &self,
        apply: impl FnOnce(&mut Work<'_>, &[TableSchema]) -> Result<Merged, ClientError>,
    ) -> Result<Merged, ClientError> {
        let forgets = self.options.keep_until == KeepUntil::Confirmed;
        let schemas = &self.known.gateway;
        self.db.keep(|work| {
            let merged = apply(work, schemas)?;
            if let Merged::Page(applied) = &merged {
                log::heed_epoch(work, *applied)?;
            }
            if forgets {
                outbox::forget(work, Seq::MAX)?;
            }
            Ok(merged)
        })
    }

    fn on_read(
        &mut self,
        exchange: Exchange,
        merged: &Merged,
        page: &PullPage,
    ) -> Result<(), ClientError> {
        let now_ms = self.now_ms();
        let all = match page.has_more {
            true => Read::More,
            false => Read::Last,
        };
        self.answered(exchange);
        let waits = match exchange {
            Exchange::Chunk => self.machine.loaded(read(merged, all), now_ms),
            _ => {
                self.page_limit = self
                    .page_limit
                    .saturating_mul(2)
                    .min(self.options.page_limit);
                self.machine.pulled(read(merged, all), now_ms)
            }
        };
        self.heed(&page.notes);
        match waits {
            None => Ok(()),
            Some(lane) => {
                let error = protocol(
                    "what it sends never follows on what is here: its log changes, or another program syncs this file",
                );
                Err(self.errors.note(lane, error, now_ms))
            }
        }
    }

    /// A page could not be taken. When it is asked for again at once, that is nobody's concern.
    fn unread(&mut self, exchange: Exchange, error: ClientError) -> Result<(), ClientError> {
        let now_ms = self.now_ms();
        let failure = super::errors::failure_here(&error);
        match self.machine.failed(exchange, failure, now_ms) {
            None => Ok(()),
            Some(lane) => Err(self.errors.note(lane, error, now_ms)),
        }
    }
}

/// Refuses a page behind `since` whose cursor contradicts it, goes back, or stays where it is though there is more: such
/// pages could be asked for without end. One of another log is judged by that.
fn brings_on(since: &str, page: &PullPage) -> Result<(), ClientError> {
    let Some(next) = &page.notes.next else {
        return Ok(());
    };
    if next.epoch != page.epoch || next.seq != page.cursor {
        return Err(protocol("a page's cursor is none of its end"));
    }
    // Only the empty cursor is none: the file's are those that a gateway gave.
    let begin = match since.parse::<Cursor>().ok() {
        Some(since) if since.epoch != page.epoch => return Ok(()),
        Some(since) => since.seq,
        None => Seq::ZERO,
    };
    if next.seq < begin {
        return Err(protocol("a page's cursor goes back"));
    }
    if page.has_more && next.seq == begin {
        let what = "there is more behind this page, at its own beginning";
        return Err(protocol(what));
    }
    Ok(())
}

/// What the machine must know: `all` when the page was merged.
fn read(merged: &Merged, all: Read) -> Read {
    match merged {
        Merged::Page(applied) if applied.other_log => Read::StartOver,
        Merged::Page(applied) if applied.stale => Read::Stale,
        Merged::Page(_) | Merged::Known => all,
        Merged::Gap => Read::Stale,
    }
}
