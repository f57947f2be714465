//! What happened, and what the machine makes of it.
//!
//! Invariant: what is tried again at once is counted, and after so many times in a row its lane waits.

use super::{
    AtOnce, Connection, Exchange, Expiry, Failure, LIVE_POLL_MS, Lane, Machine, OutboxMark, Place,
    Read, Running, SchemaNeed, Sent, Stream, Token, Verify,
};
use crate::sync::options::{Updates, Wish};

/// Refusals in a row that may be answered by sending the rest at once. Each takes at least one edit out of the way, so it
/// is no loop; but a gateway that refuses everything is given a rest.
const REFUSALS_MAX: u32 = 1_000;

/// Edits in a row that are set aside for a schema and followed by others at once. One for each table that the gateway has
/// lost is enough, because its schemas are asked for in between; a gateway that names a table and denies it is no loop.
const HELD_MAX: u32 = 16;

/// Stampings anew in a row that are sent at once: the second is for a clock that moved meanwhile.
const RESTAMPS_MAX: u32 = 2;

/// Beginnings anew in a row, without a page in between, that are made at once; those count that another process causes.
const BEGINNINGS_MAX: u32 = 2;

/// Comparisons after one wish: the first, two that meet at another cursor, one after a reload.
const VERIFY_TRIES: u32 = 4;

impl Machine {
    pub(crate) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Stop => self.wish = Running::Stopping,
            _ if self.wish == Running::Stopping => {}
            Wish::SyncNow => self.try_everything(),
            Wish::Online => {
                self.wish = Running::Online;
                self.try_everything();
            }
            Wish::Offline => self.wish = Running::Offline,
            Wish::Live => self.updates = Updates::Live,
            Wish::Poll => {
                self.updates = Updates::Poll;
                if self.is_open() {
                    self.connection = Connection::Closing;
                }
            }
            Wish::Verify => {
                self.verify = Verify::Wanted {
                    tries: VERIFY_TRIES,
                };
                self.lanes.clear(Lane::Verify);
            }
        }
    }

    fn try_everything(&mut self) {
        self.lanes.clear_all();
        self.nothing_of = None;
        self.at_once = AtOnce::default();
        self.be_behind();
        if self.token == Token::Renewed {
            self.token = Token::Good;
        }
    }

    /// Whether a reply of this exchange is waited for; it is not any more.
    pub(crate) fn take_under_way(&mut self, exchange: Exchange) -> bool {
        let is_it = match (self.under_way, exchange) {
            (Some(Exchange::Checkpoint | Exchange::Chunk), Exchange::Chunk) => true,
            (under_way, exchange) => under_way == Some(exchange),
        };
        if is_it {
            self.under_way = None;
        }
        is_it
    }

    /// There was nothing to send; what the outbox held is `mark`.
    pub(crate) fn nothing_to_send(&mut self, mark: OutboxMark) {
        self.under_way = None;
        self.nothing_of = Some(mark);
    }

    /// The gateway has looked at a push: the lane that waits now, when it has refused too much in a row.
    pub(crate) fn sent(&mut self, sent: Sent, now_ms: u64) -> Option<Lane> {
        let (count, most) = match sent {
            Sent::Taken => {
                self.answered(Lane::Push);
                self.at_once.refusals = 0;
                self.at_once.held = 0;
                self.at_once.restamps = 0;
                if !self.is_open() {
                    self.be_behind();
                }
                return None;
            }
            Sent::Held => {
                self.schemas = SchemaNeed::Wanted;
                (&mut self.at_once.held, HELD_MAX)
            }
            Sent::Smaller => (&mut self.at_once.refusals, REFUSALS_MAX),
            Sent::Restamped => (&mut self.at_once.restamps, RESTAMPS_MAX),
        };
        *count += 1;
        let is_much = *count > most;
        if is_much {
            *count = 0;
        }
        // A refusal is an answer, but no success: from rest to rest the waits grow.
        self.answered(Lane::Link);
        if !is_much {
            return None;
        }
        self.lanes.fail(Lane::Push, now_ms, None);
        Some(Lane::Push)
    }

    /// What a page of a pull came to: the lane that waits now, when it was of no use too often in a row.
    pub(crate) fn pulled(&mut self, read: Read, now_ms: u64) -> Option<Lane> {
        let waits = self.took(read, now_ms);
        match read {
            Read::More => self.place = Place::Behind { more: true },
            Read::Last => self.place = Place::UpToDate { at_ms: now_ms },
            Read::Stale | Read::StartOver => self.be_behind(),
        }
        if matches!(read, Read::More | Read::Last) {
            self.at_once.beginnings = 0;
        }
        waits
    }

    /// What a chunk came to; as of a page.
    pub(crate) fn loaded(&mut self, read: Read, now_ms: u64) -> Option<Lane> {
        let waits = self.took(read, now_ms);
        self.stream = match read {
            Read::More => Stream::Open,
            Read::Last | Read::Stale | Read::StartOver => Stream::Closed,
        };
        if read == Read::Last {
            self.be_behind();
        }
        waits
    }

    fn took(&mut self, read: Read, now_ms: u64) -> Option<Lane> {
        self.answered(Lane::Read);
        match read {
            Read::More | Read::Last => {
                self.at_once.schemas = 0;
                self.at_once.garbled = 0;
                None
            }
            Read::Stale | Read::StartOver => self.begin_anew(now_ms),
        }
    }

    /// What was read is of no use: the checkpoint must be loaded, or another process has moved the cursor.
    fn begin_anew(&mut self, now_ms: u64) -> Option<Lane> {
        self.stream = Stream::Closed;
        self.be_behind();
        self.at_once.beginnings = self.at_once.beginnings.saturating_add(1);
        let failures = self.at_once.beginnings.saturating_sub(BEGINNINGS_MAX);
        if failures == 0 {
            return None;
        }
        // The chunks of a checkpoint that was loaded in vain are no success: from one beginning to the next the waits grow.
        self.lanes.fail_again(Lane::Read, failures, now_ms);
        Some(Lane::Read)
    }

    /// The gateway's schemas have come, with this hash over all of them.
    pub(crate) fn heard_schemas(&mut self, hash: u64) {
        self.answered(Lane::Schemas);
        self.schemas = SchemaNeed::None;
        self.nothing_of = None;
        // Hearing them raises the registry's version by itself: no reason to read once more what cannot be read.
        self.registry = None;
        if self.schemas_hash.replace(hash) != Some(hash) {
            self.lanes.clear(Lane::Read);
        }
    }

    /// An answer shows that the gateway's schemas are others than those known here.
    pub(crate) fn want_schemas(&mut self) {
        self.schemas = SchemaNeed::Wanted;
        self.lanes.clear(Lane::Schemas);
    }

    /// The live connection is open.
    pub(crate) fn subscribed(&mut self, now_ms: u64) {
        self.answered(Lane::Link);
        self.connection = Connection::Open { since_ms: now_ms };
        self.expiry = Expiry::Unheard;
    }

    /// What a live page did.
    pub(crate) fn live(&mut self, read: Read, now_ms: u64) {
        match read {
            Read::More | Read::Last => {
                self.took(read, now_ms);
                if let Place::UpToDate { at_ms } = &mut self.place {
                    *at_ms = now_ms;
                }
            }
            Read::Stale => self.close(now_ms),
            Read::StartOver => {
                self.close(now_ms);
                self.begin_anew(now_ms);
            }
        }
    }

    /// The live connection has ended, by itself.
    pub(crate) fn live_ended(&mut self, now_ms: u64) {
        if self.is_open() {
            self.close(now_ms);
            self.connection = Connection::Closed;
        }
    }

    /// The live connection must be opened anew, after a while, and what came meanwhile is pulled.
    fn close(&mut self, now_ms: u64) {
        if let Connection::Open { since_ms } = self.connection {
            if now_ms.saturating_sub(since_ms) >= LIVE_POLL_MS {
                self.lanes.clear(Lane::Live);
            }
            self.connection = Connection::Closing;
        }
        self.lanes.fail(Lane::Live, now_ms, None);
        self.be_behind();
    }

    /// The token of the live connection ends soon. Said once for each connection: the application is not asked for tokens
    /// without end.
    pub(crate) fn expiring(&mut self) {
        if self.is_open() && self.token == Token::Good && self.expiry == Expiry::Unheard {
            self.expiry = Expiry::Heard;
            self.token = Token::Ending;
        }
    }

    /// There is a new token.
    pub(crate) fn renewed(&mut self, now_ms: u64) {
        match self.token {
            Token::Refused => self.token = Token::Renewed,
            Token::Ending => {
                self.token = Token::Good;
                self.close(now_ms);
            }
            Token::Good | Token::Renewed => {}
        }
    }

    /// There is no new token.
    pub(crate) fn not_renewed(&mut self, now_ms: u64) {
        if self.token == Token::Refused {
            self.lanes.fail(Lane::Link, now_ms, None);
        }
        self.token = Token::Good;
    }

    /// An exchange has failed: the lane that waits now; none when it is tried again at once.
    pub(crate) fn failed(
        &mut self,
        exchange: Exchange,
        failure: Failure,
        now_ms: u64,
    ) -> Option<Lane> {
        if exchange.lane() == Lane::Read {
            self.stream = Stream::Closed;
        }
        let (lane, asked_ms) = match failure {
            Failure::NoAnswer => (Lane::Link, None),
            Failure::Token if self.token == Token::Renewed => {
                self.token = Token::Good;
                (Lane::Link, None)
            }
            Failure::Token => {
                self.token = Token::Refused;
                return None;
            }
            Failure::Refused { retry_after_ms } => (exchange.lane(), retry_after_ms),
            Failure::Local => (exchange.lane(), None),
            Failure::Schema | Failure::Garbled if self.is_tried_at_once(exchange, failure) => {
                return None;
            }
            Failure::Schema | Failure::Garbled => (exchange.lane(), None),
        };
        if lane != Lane::Link {
            self.lanes.clear(Lane::Link);
        }
        self.lanes.fail(lane, now_ms, asked_ms);
        if failure == Failure::Schema {
            // They are asked for when what needs them is tried again, not before.
            self.lanes.wait_like(Lane::Schemas, lane);
        }
        Some(lane)
    }

    /// Whether a page that could not be taken is asked for again without a wait: once after asking for the schemas, once
    /// after an answer that was damaged on its way.
    fn is_tried_at_once(&mut self, exchange: Exchange, failure: Failure) -> bool {
        let tries = match failure {
            Failure::Schema => {
                self.schemas = SchemaNeed::Wanted;
                &mut self.at_once.schemas
            }
            _ => &mut self.at_once.garbled,
        };
        *tries = tries.saturating_add(1);
        exchange.lane() == Lane::Read && *tries == 1
    }

    /// The file could not be read.
    pub(crate) fn failed_locally(&mut self, now_ms: u64) {
        self.lanes.fail(Lane::Local, now_ms, None);
    }

    /// The file can be read again.
    pub(crate) fn found_facts(&mut self) {
        self.lanes.clear(Lane::Local);
    }

    /// Whether the file is left alone for now, because it could not be read.
    pub(crate) fn spares_the_file(&self, now_ms: u64) -> bool {
        !self.lanes.is_ready(Lane::Local, now_ms)
    }

    /// A live page could not be taken.
    pub(crate) fn live_failed(&mut self, failure: Failure, now_ms: u64) -> Option<Lane> {
        self.close(now_ms);
        self.failed(Exchange::Pull, failure, now_ms)
    }

    /// The rows are the gateway's, or cannot be compared.
    pub(crate) fn verified(&mut self) {
        self.answered(Lane::Verify);
        self.verify = Verify::No;
    }

    /// The rows were not at the gateway's cursor, or some have been loaded anew: to be compared again, a few times.
    pub(crate) fn verify_again(&mut self) {
        self.answered(Lane::Verify);
        self.verify = match self.verify {
            Verify::Wanted { tries } if tries > 1 => Verify::Wanted { tries: tries - 1 },
            _ => Verify::No,
        };
        self.be_behind();
    }

    /// Whether another comparison will be made.
    pub(crate) fn verify(&self) -> Verify {
        self.verify
    }

    /// The gateway has answered as it should.
    fn answered(&mut self, lane: Lane) {
        if self.token == Token::Renewed {
            self.token = Token::Good;
        }
        for lane in [lane, Lane::Link] {
            self.lanes.clear(lane);
        }
    }

    /// There may be something new.
    pub(crate) fn be_behind(&mut self) {
        if let Place::UpToDate { .. } = self.place {
            self.place = Place::Behind { more: false };
        }
    }
}
