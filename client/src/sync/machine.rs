//! What to ask the gateway next, decided from what is known: no database, no payloads, no clock.
//!
//! ```text
//!  schemas unknown or changed ─► Schemas
//!  edits wait ────────────────► Push ───────┐ in turns
//!  nothing here, or told so ──► Checkpoint, Chunk, Chunk …  ├─► up to date ─► (Digest) ─► Subscribe ─► live pages
//!  behind ────────────────────► Pull, Pull …┘                      └─► Wait until the next poll, or Stopped
//!  401 ─► RefreshToken          a failure closes its lane until its wait is over; the other lanes go on
//! ```
//! Invariant: one exchange is under way at a time. Between two failures of one lane there is a wait, so nothing that a
//! gateway answers makes the machine ask without end; a wait always ends, so every failure is followed by another try.

mod events;
mod lane;
#[cfg(test)]
mod tests;

use lane::Lanes;
pub(crate) use lane::{Failure, Lane};

use crate::sync::options::{Mode, SessionOptions, Updates};

/// How often the gateway is asked even while live, in milliseconds: what would be lost by a connection that is open and
/// brings nothing comes with the next one.
const LIVE_POLL_MS: u64 = 60_000;

/// What the file says, read before each decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// What there is to send.
    pub(crate) outbox: OutboxMark,
    /// Whether the gateway's schemas have been heard.
    pub(crate) schemas_known: bool,
    /// Whether a checkpoint must be loaded: one is half loaded, or nothing is here.
    pub(crate) loading: bool,
}

/// Tells one content of the outbox from another, without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutboxMark {
    /// The last change that nobody has sealed; 0 without.
    pub(crate) change: i64,
    /// How many entries wait, and the last of them.
    pub(crate) waiting: (i64, i64),
    /// The version of the registered schemas: entries may wait for one.
    pub(crate) registry: i64,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Do(Exchange),
    Unsubscribe,
    Wait { until_ms: Option<u64> },
    Stopped,
}

/// What has a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    Push,
    Pull,
    Checkpoint,
    Chunk,
    Schemas,
    Subscribe,
    RefreshToken,
    Digest,
}

/// What a push came to, when the gateway has looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The gateway has it.
    Taken,
    /// An edit, or half of the batch, is out of the way; the rest may go.
    Smaller,
    /// Edits were stamped anew.
    Restamped,
    /// An edit waits for a schema.
    Held,
}

/// What a page or a chunk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// There is more.
    More,
    /// That was the last one.
    Last,
    /// Nothing was done, because another process had moved the cursor.
    Stale,
    /// The gateway wants the client to begin anew with a checkpoint.
    StartOver,
}

/// Whether live pages come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Closed,
    /// Since this wall clock.
    Open {
        since_ms: u64,
    },
    /// It must be closed.
    Closing,
}

/// How far this database is, as last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// There may be more, or there is more.
    Behind { more: bool },
    /// It had everything at this wall clock.
    UpToDate { at_ms: u64 },
}

/// Why a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// It is not.
    Good,
    /// The gateway refused the one there is.
    Refused,
    /// There was a new one, and it has not been used with success yet.
    Renewed,
    /// The one of the live connection ends.
    Ending,
}

/// Whether the live connection has said that its token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expiry {
    Unheard,
    Heard,
}

/// Whether the rows are compared with the gateway's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    No,
    /// With this many tries left to meet at one cursor.
    Wanted {
        tries: u32,
    },
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    mode: Mode,
    updates: Updates,
    poll_ms: u64,
    lanes: Lanes,
    wish: Running,
    under_way: Option<Exchange>,
    place: Place,
    connection: Connection,
    stream: Stream,
    token: Token,
    expiry: Expiry,
    verify: Verify,
    /// What the outbox held when nothing of it could be sent.
    nothing_of: Option<OutboxMark>,
    schemas: SchemaNeed,
    sent_last: bool,
    /// Failures in a row that were answered without a wait.
    at_once: AtOnce,
    registry: Option<i64>,
    /// The hash over the gateway's schemas as last heard.
    schemas_hash: Option<u64>,
}

/// Whether it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Online,
    Offline,
    Stopping,
}

/// Whether a checkpoint's stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Closed,
    Open,
}

/// Whether the gateway's schemas are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaNeed {
    None,
    Wanted,
}

/// What was answered at once, in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AtOnce {
    refusals: u32,
    held: u32,
    restamps: u32,
    beginnings: u32,
    schemas: u32,
    garbled: u32,
}

impl Machine {
    pub(crate) fn new(options: &SessionOptions, seed: u64) -> Machine {
        Machine {
            mode: options.mode,
            updates: options.updates,
            poll_ms: u64::try_from(options.poll.as_millis()).unwrap_or(u64::MAX),
            lanes: Lanes::new(seed),
            wish: Running::Online,
            under_way: None,
            place: Place::Behind { more: true },
            connection: Connection::Closed,
            stream: Stream::Closed,
            token: Token::Good,
            expiry: Expiry::Unheard,
            verify: Verify::No,
            nothing_of: None,
            schemas: SchemaNeed::None,
            sent_last: false,
            at_once: AtOnce::default(),
            registry: None,
            schemas_hash: None,
        }
    }

    /// What to do now. While a reply is owed it is the same exchange again, a stream opened anew.
    pub(crate) fn next(&mut self, facts: &Facts, now_ms: u64) -> Ask {
        if let Some(under_way) = self.under_way {
            let again = match under_way {
                Exchange::Chunk => Exchange::Checkpoint,
                other => other,
            };
            self.under_way = Some(again);
            return Ask::Do(again);
        }
        if self
            .registry
            .replace(facts.outbox.registry)
            .is_some_and(|before| before != facts.outbox.registry)
        {
            // What could not be read for want of a schema is tried again.
            self.lanes.clear(Lane::Read);
        }
        let ask = self.decide(facts, now_ms);
        match ask {
            Ask::Do(exchange) => {
                self.under_way = Some(exchange);
                self.sent_last = exchange == Exchange::Push;
            }
            Ask::Wait { .. } => self.let_go(),
            Ask::Unsubscribe | Ask::Stopped => {}
        }
        ask
    }

    /// A checkpoint's stream is not held open through a wait: the gateway pays for it.
    pub(crate) fn let_go(&mut self) {
        self.stream = Stream::Closed;
    }

    fn decide(&mut self, facts: &Facts, now_ms: u64) -> Ask {
        let must_close = self.connection == Connection::Closing
            || (self.wish != Running::Online && self.is_open());
        if must_close {
            self.connection = Connection::Closed;
            return Ask::Unsubscribe;
        }
        match self.wish {
            Running::Stopping => return Ask::Stopped,
            Running::Offline => return Ask::Wait { until_ms: None },
            Running::Online => {}
        }
        if let Some(until_ms) = self.lanes.first_wait([Lane::Local, Lane::Link], now_ms) {
            return Ask::Wait {
                until_ms: Some(until_ms),
            };
        }
        if matches!(self.token, Token::Refused | Token::Ending) {
            return Ask::Do(Exchange::RefreshToken);
        }
        let lanes = self.due(facts, now_ms);
        let ready = |lane: Lane| lanes.contains(&Some(lane)) && self.lanes.is_ready(lane, now_ms);
        let exchange = if ready(Lane::Schemas) {
            Exchange::Schemas
        } else if ready(Lane::Push) && !(self.sent_last && ready(Lane::Read)) {
            Exchange::Push
        } else if ready(Lane::Read) {
            self.reading(facts)
        } else if ready(Lane::Verify) {
            Exchange::Digest
        } else if ready(Lane::Live) {
            Exchange::Subscribe
        } else if self.mode == Mode::Once && lanes.iter().all(Option::is_none) {
            return Ask::Stopped;
        } else {
            let until = self.lanes.first_wait(lanes.into_iter().flatten(), now_ms);
            return Ask::Wait {
                until_ms: earlier(until, self.poll_at().filter(|poll_ms| *poll_ms > now_ms)),
            };
        };
        Ask::Do(exchange)
    }

    /// The lanes that have something to do, whether they may do it now or not.
    fn due(&self, facts: &Facts, now_ms: u64) -> [Option<Lane>; 5] {
        let schemas = !facts.schemas_known || self.schemas == SchemaNeed::Wanted;
        let push = self.nothing_of != Some(facts.outbox);
        let read = facts.loading || self.is_behind(now_ms);
        let settled = !push && !read;
        let verify = settled && self.verify != Verify::No;
        let live = settled
            && self.mode == Mode::Keep
            && self.updates == Updates::Live
            && self.connection == Connection::Closed;
        // A session that ends is not kept by schemas that nothing has been waiting for. What is still in the outbox may wait
        // for just these.
        let (waiting, _) = facts.outbox.waiting;
        let ends = self.mode == Mode::Once && settled && waiting == 0;
        let schemas = schemas && !(ends && facts.schemas_known);
        [
            schemas.then_some(Lane::Schemas),
            push.then_some(Lane::Push),
            read.then_some(Lane::Read),
            verify.then_some(Lane::Verify),
            live.then_some(Lane::Live),
        ]
    }

    fn reading(&self, facts: &Facts) -> Exchange {
        match (facts.loading, self.stream) {
            (true, Stream::Open) => Exchange::Chunk,
            (true, Stream::Closed) => Exchange::Checkpoint,
            (false, _) => Exchange::Pull,
        }
    }

    fn is_behind(&self, now_ms: u64) -> bool {
        match self.place {
            Place::Behind { .. } => true,
            // A wall clock that was set back must not put the next poll off.
            Place::UpToDate { at_ms } => {
                self.poll_at().is_some_and(|poll_ms| now_ms >= poll_ms)
                    || (self.mode == Mode::Keep && now_ms < at_ms)
            }
        }
    }

    /// When the gateway is asked again though nothing happened.
    fn poll_at(&self) -> Option<u64> {
        let every_ms = match self.connection {
            Connection::Open { .. } => LIVE_POLL_MS.max(self.poll_ms),
            Connection::Closed | Connection::Closing => self.poll_ms,
        };
        match (self.mode, self.place) {
            (Mode::Keep, Place::UpToDate { at_ms }) => Some(at_ms.saturating_add(every_ms)),
            _ => None,
        }
    }
}

/// What a status tells.
impl Machine {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.connection, Connection::Open { .. })
    }

    /// When everything was here and nothing was left to send, if that is so now.
    pub(crate) fn synced_at(&self, facts: &Facts) -> Option<u64> {
        match self.place {
            Place::UpToDate { at_ms } if self.nothing_of == Some(facts.outbox) => Some(at_ms),
            _ => None,
        }
    }

    /// Whether everything was here when last asked.
    pub(crate) fn is_up_to_date(&self) -> bool {
        matches!(self.place, Place::UpToDate { .. })
    }

    /// Whether pages are known to be missing.
    pub(crate) fn is_known_behind(&self) -> bool {
        self.place == Place::Behind { more: true }
    }

    pub(crate) fn under_way(&self) -> Option<Exchange> {
        self.under_way
    }

    /// Whether nothing is asked: the application said so, or there was no answer.
    pub(crate) fn is_offline(&self) -> bool {
        self.wish == Running::Offline || self.lanes.has_failed(Lane::Link)
    }

    /// When a lane that has failed is tried again.
    pub(crate) fn retry_at(&self, now_ms: u64) -> Option<u64> {
        self.lanes.first_wait(Lane::ALL, now_ms)
    }
}

impl Exchange {
    pub(crate) fn lane(self) -> Lane {
        match self {
            Exchange::Push => Lane::Push,
            Exchange::Pull | Exchange::Checkpoint | Exchange::Chunk => Lane::Read,
            Exchange::Schemas => Lane::Schemas,
            Exchange::Subscribe => Lane::Live,
            Exchange::RefreshToken => Lane::Link,
            Exchange::Digest => Lane::Verify,
        }
    }
}

fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}
