//! A session with what it needs to be driven, one turn at a time.
//!
//! Invariant: a turn is one exchange at most, so a wish is never further away than the answer to it. What the live
//! connection tells and what the session wants take turns: neither keeps the other waiting.

use std::sync::Arc;
use std::time::Duration;

use crate::LocalDb;
use crate::drive::carrier::Carrier;
use crate::drive::remote::SyncRemote;
use crate::error::ClientError;
use crate::sync::{Reply, Session, SessionOptions, Step};
use crate::transport::Transport;
use crate::watch::Signal;

/// Longest wait at once. The wall clock may be set meanwhile, and another program may have edited the file, which wakes
/// nobody here.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long to wait when the local database could not even say what to do.
const FAILED_WAIT: Duration = Duration::from_secs(1);

/// A session, what it has open, and what is wished of it.
#[derive(Debug)]
pub(crate) struct Driver {
    db: LocalDb,
    session: Session,
    carrier: Carrier,
    remote: SyncRemote,
    moved: Moved,
    last: Last,
}

/// Whose turn the last one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// The session's.
    Step,
    /// The live connection's.
    Told,
}

/// How much has gone over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Own edits that the gateway has said to have.
    pub(crate) acknowledged: u64,
    /// Deltas and withdrawn rows that came.
    pub(crate) applied: u64,
}

/// What came of a turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// It went on.
    Went,
    /// Something failed, which the session has noted; it goes on.
    Failed(ClientError),
    /// There is nothing to do for this long, unless something happens.
    Wait(Duration),
    /// As [`Turn::Wait`], because the session could not tell what to do.
    Stuck(Duration, ClientError),
    /// The session has ended.
    Stopped,
}

impl Driver {
    pub(crate) fn new(db: LocalDb, options: SessionOptions) -> Driver {
        let signal = db.hub().signal();
        Driver {
            session: Session::new(db.clone(), options),
            carrier: Carrier::new(signal),
            remote: SyncRemote::new(db.clone()),
            moved: Moved::default(),
            last: Last::Step,
            db,
        }
    }

    /// For those who are to wish something of it.
    pub(crate) fn remote(&self) -> SyncRemote {
        self.remote.clone()
    }

    /// Raised whenever a waiting session should look again. Read its generation before the turn that says to wait.
    pub(crate) fn signal(&self) -> Arc<Signal> {
        self.db.hub().signal()
    }

    /// What has gone over the wire since the beginning.
    pub(crate) fn moved(&self) -> Moved {
        self.moved
    }

    /// Does one step.
    pub(crate) fn turn(&mut self, transport: &dyn Transport) -> Turn {
        for wish in self.remote.take() {
            self.session.wish(wish);
        }
        if self.last == Last::Step
            && let Some(turn) = self.hear()
        {
            return turn;
        }
        self.last = Last::Step;
        let step = match self.session.next() {
            Ok(step) => step,
            Err(error) => return Turn::Stuck(FAILED_WAIT, error),
        };
        let reply = self.carrier.carry(transport, &step);
        match step {
            Step::Wait { until_ms } => return self.wait(until_ms),
            Step::Stopped => return Turn::Stopped,
            _ => {}
        }
        let Some(reply) = reply else {
            return Turn::Went;
        };
        self.moved.count(&reply);
        // First the clock: by it the reply's stamps are judged. A chunk is no answer of its own.
        let clock = match step {
            Step::Chunk => Ok(()),
            _ => match transport.gateway_ms() {
                Some(gateway_ms) => self.session.on_clock(gateway_ms),
                None => Ok(()),
            },
        };
        went(clock.and(self.session.on_reply(reply)))
    }

    /// Hands over what the live connection has told, if anything.
    fn hear(&mut self) -> Option<Turn> {
        let told = self.carrier.told()?;
        self.last = Last::Told;
        self.moved.count(&told);
        Some(went(self.session.on_reply(told)))
    }

    fn wait(&mut self, until_ms: Option<u64>) -> Turn {
        // What was told before this turn raises no signal any more.
        if let Some(turn) = self.hear() {
            return turn;
        }
        // Other programs on the file wake nobody: those who watch hear of them here. A file that cannot be read now says so
        // to the session.
        let _ = self.db.poll();
        Turn::Wait(self.until(until_ms))
    }

    fn until(&self, until_ms: Option<u64>) -> Duration {
        let Some(until_ms) = until_ms else {
            return WAIT_MAX;
        };
        let now_ms = self.db.local().wall_clock.now_ms();
        WAIT_MAX.min(Duration::from_millis(until_ms.saturating_sub(now_ms)))
    }
}

impl Moved {
    fn count(&mut self, reply: &Reply) {
        match reply {
            Reply::Pushed(Ok(ack)) => self.acknowledged += u64::from(ack.accepted),
            Reply::Pulled(Ok(page)) | Reply::Chunk(Ok(Some(page))) | Reply::Live(page) => {
                let changes = page.deltas.len() + page.removed.len();
                self.applied += u64::try_from(changes).unwrap_or(u64::MAX);
            }
            _ => {}
        }
    }
}

fn went(result: Result<(), ClientError>) -> Turn {
    match result {
        Ok(()) => Turn::Went,
        Err(error) => Turn::Failed(error),
    }
}
