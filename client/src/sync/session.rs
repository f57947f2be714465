//! The session: the machine's decisions carried out on the database.
//!
//! Invariant: one exchange at a time is under way, and what its answer says is in the file before the next is decided. A
//! session that is dropped at any moment leaves a file that the next one goes on from.

mod errors;
mod facts;
mod log;
mod pages;
mod pushes;
mod report;
mod schemas;
mod verify;

use lakesync_proto::{Seq, TableName, limits};

use crate::LocalDb;
use crate::apply::Loading;
use crate::error::ClientError;
use crate::outbox::Batch;
use crate::skew;
use crate::sync::backoff;
use crate::sync::machine::{Ask, Exchange, Facts, Failure, Lane, Machine};
use crate::sync::options::{SessionOptions, Wish};
use crate::sync::status::Status;
use crate::sync::step::{Reply, Step};
use crate::transport::TransportError;
use errors::Errors;
use schemas::Known;

/// Edits of a push at most: as many as a gateway takes. Bytes bound it as well.
const PUSH_DELTAS: usize = limits::PUSH_DELTAS_MAX;

/// Decisions that one call of [`Session::next`] makes at most: the first may be to push, and find nothing to push.
const DECISIONS_MAX: u32 = 4;

/// A known skew is corrected when it is off by more than this, in milliseconds.
const SKEW_CHANGE_MS_MIN: u64 = 1_000;

/// Syncs one database with one gateway, without doing any I/O but that database's.
///
/// A driver asks for the [`Step`], does it, and gives its [`Reply`]:
///
/// ```
/// # use std::sync::Arc;
/// # use lakesync_client::{ClientError, LocalDb, Reply, Session, SessionOptions, Step, Transport};
/// fn sync_once(db: &LocalDb, transport: &dyn Transport) -> Result<(), ClientError> {
///     let mut session = Session::new(db.clone(), SessionOptions::once());
///     let mut chunks = None;
///     let mut failed = Ok(());
///     loop {
///         let reply = match session.next()? {
///             Step::Push(push) => Reply::Pushed(transport.push(&push)),
///             Step::Pull(pull) => Reply::Pulled(transport.pull(&pull)),
///             Step::Schemas => Reply::Schemas(transport.schemas()),
///             Step::Checkpoint(request) => Reply::Chunk(transport.checkpoint(&request).and_then(|mut opened| {
///                 let first = opened.next();
///                 chunks = Some(opened);
///                 first
///             })),
///             Step::Chunk => Reply::Chunk(chunks.as_mut().map_or(Ok(None), |chunks| chunks.next())),
///             Step::RefreshToken => Reply::Token(false),
///             Step::Wait { .. } | Step::Stopped => return failed,
///             // Of a session that stays.
///             _ => return failed,
///         };
///         failed = failed.and(session.on_reply(reply));
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Session {
    db: LocalDb,
    options: SessionOptions,
    machine: Machine,
    /// What the file said last.
    facts: Facts,
    /// By which answers are read.
    known: Known,
    /// What is on its way.
    batch: Option<Batch>,
    /// Whether what an earlier session left on its way has been put back.
    is_recovered: bool,
    /// Edits of the next push at most; less than usual while one that the gateway refuses is looked for.
    push_limit: usize,
    /// Deltas of the next page at most; less than usual after one that was too long.
    page_limit: u32,
    /// Where the page that is under way begins.
    since: String,
    /// How far the open checkpoint is; what another process does to it shows by this.
    loading: Option<Loading>,
    /// Where the live connection is.
    live_seq: Seq,
    /// Whether tables that differed have been loaded anew since the wish to compare.
    is_reloaded: bool,
    /// Whether the gateway has answered yet.
    has_answered: bool,
    /// Whether the last step was the end.
    has_stopped: bool,
    /// The gateway's tables that this database cannot have, and why.
    untaken: Vec<(TableName, String)>,
    errors: Errors,
    /// Why the token was not accepted, until it is known whether there is another one.
    token_error: Option<TransportError>,
    last_synced_ms: Option<u64>,
    mismatches: u64,
    status: Status,
}

impl Session {
    /// A session that has asked nothing yet.
    pub fn new(db: LocalDb, options: SessionOptions) -> Session {
        let machine = Machine::new(&options, backoff::seed(&db.client_id()));
        let page_limit = options.page_limit;
        Session {
            db,
            options,
            machine,
            facts: Facts::default(),
            known: Known::default(),
            batch: None,
            is_recovered: false,
            push_limit: PUSH_DELTAS,
            page_limit,
            since: String::new(),
            loading: None,
            live_seq: Seq::ZERO,
            is_reloaded: false,
            has_answered: false,
            has_stopped: false,
            untaken: Vec::new(),
            errors: Errors::default(),
            token_error: None,
            last_synced_ms: None,
            mismatches: 0,
            status: Status::default(),
        }
    }

    /// What to do now. Asked again before the reply was given, it is the same exchange again.
    ///
    /// # Errors
    /// When the local database fails. It is in the [`Status`], and the next step is a wait.
    #[expect(
        clippy::should_implement_trait,
        reason = "a session is no iterator: its next step waits for the reply to the last"
    )]
    pub fn next(&mut self) -> Result<Step, ClientError> {
        let step = self.decide();
        self.has_stopped = matches!(step, Ok(Step::Stopped));
        self.publish();
        step
    }

    fn decide(&mut self) -> Result<Step, ClientError> {
        let now_ms = self.now_ms();
        for _ in 0..DECISIONS_MAX {
            if !self.machine.spares_the_file(now_ms)
                && let Err(error) = self.read_facts()
            {
                self.machine.failed_locally(now_ms);
                return Err(self.errors.note_local(error, now_ms));
            }
            match self.machine.next(&self.facts, now_ms) {
                Ask::Unsubscribe => return Ok(Step::Unsubscribe),
                Ask::Stopped => {
                    self.note_synced();
                    return Ok(Step::Stopped);
                }
                Ask::Wait { until_ms } => {
                    self.note_synced();
                    return Ok(Step::Wait { until_ms });
                }
                Ask::Do(exchange) => match self.step(exchange) {
                    Ok(Some(step)) => return Ok(step),
                    Ok(None) => {}
                    Err(error) => {
                        self.machine.take_under_way(exchange);
                        return Err(self.failed_here(exchange, error));
                    }
                },
            }
        }
        // Somebody writes between any two looks: the driver comes back at once.
        self.machine.let_go();
        Ok(Step::Wait {
            until_ms: Some(now_ms),
        })
    }

    /// The step of an exchange; none when there is nothing to exchange after all.
    fn step(&mut self, exchange: Exchange) -> Result<Option<Step>, ClientError> {
        match exchange {
            Exchange::Push => self.push_step(),
            Exchange::Pull => self.pull_step().map(Some),
            Exchange::Checkpoint => self.checkpoint_step().map(Some),
            Exchange::Chunk => Ok(Some(Step::Chunk)),
            Exchange::Schemas => Ok(Some(Step::Schemas)),
            Exchange::Subscribe => self.subscribe_step().map(Some),
            Exchange::RefreshToken => Ok(Some(Step::RefreshToken)),
            Exchange::Digest => Ok(Some(Step::Digest {
                client_id: self.db.client_id(),
            })),
        }
    }

    /// What came of a step. Replies that nobody waits for any more, as those of a connection that was closed, are
    /// ignored.
    ///
    /// # Errors
    /// What went wrong: the gateway could not be reached or refused, or the local database failed. It is in the
    /// [`Status`] and the session goes on, after a wait where that helps: a driver that stays ignores it, one that syncs
    /// once goes on until [`Step::Wait`] or [`Step::Stopped`] and ends with the first error.
    pub fn on_reply(&mut self, reply: Reply) -> Result<(), ClientError> {
        let result = self.take(reply);
        self.publish();
        result
    }

    fn take(&mut self, reply: Reply) -> Result<(), ClientError> {
        let now_ms = self.now_ms();
        match reply {
            Reply::Live(page) => return self.on_live(&page),
            Reply::LiveEnded(error) => {
                self.on_live_ended(&error);
                return Ok(());
            }
            Reply::Expiring => {
                self.machine.expiring();
                return Ok(());
            }
            _ => {}
        }
        let exchange = match reply {
            Reply::Pushed(_) => Exchange::Push,
            Reply::Pulled(_) => Exchange::Pull,
            Reply::Chunk(_) => Exchange::Chunk,
            Reply::Schemas(_) => Exchange::Schemas,
            Reply::Subscribed(_) => Exchange::Subscribe,
            Reply::Digest(_) => Exchange::Digest,
            _ => Exchange::RefreshToken,
        };
        if !self.machine.take_under_way(exchange) {
            return Ok(());
        }
        match reply {
            Reply::Pushed(result) => self.on_pushed(result),
            Reply::Pulled(result) => self.on_pulled(result),
            Reply::Chunk(result) => self.on_chunk(result),
            Reply::Schemas(result) => self.on_schemas(result),
            Reply::Subscribed(result) => self.on_subscribed(result),
            Reply::Digest(result) => self.on_digest(result),
            Reply::Token(is_new) => self.on_token(is_new, now_ms),
            Reply::Live(_) | Reply::LiveEnded(_) | Reply::Expiring => Ok(()),
        }
    }

    fn on_token(&mut self, is_new: bool, now_ms: u64) -> Result<(), ClientError> {
        let refused = self.token_error.take();
        if is_new {
            self.machine.renewed(now_ms);
            return Ok(());
        }
        self.machine.not_renewed(now_ms);
        match refused {
            None => Ok(()),
            Some(error) => Err(self.errors.note(Lane::Link, error.into(), now_ms)),
        }
    }

    /// What an answer showed as the gateway's wall clock, in milliseconds since the Unix epoch. Drivers tell it with
    /// each reply, when the transport knows it.
    ///
    /// # Errors
    /// When the local database fails.
    pub fn on_clock(&mut self, gateway_ms: u64) -> Result<(), ClientError> {
        let (own_ms, known_ms) = self.clocks()?;
        let skew_ms = skew::between(gateway_ms, own_ms);
        let is_small = skew_ms.abs_diff(known_ms) <= SKEW_CHANGE_MS_MIN;
        if skew_ms == known_ms || (is_small && skew_ms != 0) {
            return Ok(());
        }
        self.set_skew(skew_ms)
    }

    /// What the application wants; the next step follows it.
    pub fn wish(&mut self, wish: Wish) {
        if wish == Wish::Verify {
            self.is_reloaded = false;
        }
        self.machine.wish(wish);
        self.publish();
    }

    /// How syncing goes.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    fn now_ms(&self) -> u64 {
        self.db.local().wall_clock.now_ms()
    }

    /// The gateway has answered as it should.
    fn answered(&mut self, exchange: Exchange) {
        self.has_answered = true;
        self.errors.forget(exchange.lane());
    }

    /// An exchange with the gateway has failed.
    fn failed(&mut self, exchange: Exchange, error: TransportError) -> Result<(), ClientError> {
        let now_ms = self.now_ms();
        let failure = errors::failure_of(&error, exchange);
        match self.machine.failed(exchange, failure, now_ms) {
            None => {
                self.token_error = (failure == Failure::Token).then_some(error);
                Ok(())
            }
            Some(lane) => Err(self.errors.note(lane, error.into(), now_ms)),
        }
    }

    /// What the gateway said could not be taken, or the database failed.
    fn failed_here(&mut self, exchange: Exchange, error: ClientError) -> ClientError {
        let now_ms = self.now_ms();
        let failure = errors::failure_here(&error);
        match self.machine.failed(exchange, failure, now_ms) {
            None => error,
            Some(lane) => self.errors.note(lane, error, now_ms),
        }
    }
}
