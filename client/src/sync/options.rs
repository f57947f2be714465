//! What an application asks of a session, at its beginning and later.
//!
//! Invariant: options are data; what does the work is given apart from them.

use std::time::Duration;

use lakesync_proto::limits::PULL_MAX;

/// How often the gateway is asked when live pages are not to be had, as the TypeScript client did.
const POLL: Duration = Duration::from_secs(10);

/// A poll asks no more often than this, whatever the options say: an empty answer costs a round trip.
const POLL_MIN: Duration = Duration::from_millis(50);

/// Deltas of a page: large enough that a page's transaction costs little of its rows, small enough that own edits get
/// their turn between pages.
const PAGE_LIMIT: u32 = 5_000;

/// When the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// When everything has been sent and everything has come.
    Once,
    /// When it is told to stop.
    Keep,
}

/// How news come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updates {
    /// As they happen, over a connection that stays open; by polls when there is none to be had.
    Live,
    /// By polls only.
    Poll,
}

/// How long confirmed edits stay in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepUntil {
    /// Until the warehouse has them: a gateway that loses its disk is given them again.
    Durable,
    /// Until a page has confirmed them.
    Confirmed,
}

/// How a database that has nothing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSync {
    /// With the merged rows of one moment.
    Checkpoint,
    /// With the gateway's log from its beginning: every edit there ever was, as far as the gateway still has it.
    Log,
}

/// How a session goes about it. The default stays live and keeps edits until the warehouse has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    pub(crate) mode: Mode,
    pub(crate) poll: Duration,
    pub(crate) page_limit: u32,
    pub(crate) keep_until: KeepUntil,
    pub(crate) updates: Updates,
    pub(crate) first_sync: FirstSync,
}

impl Default for SessionOptions {
    fn default() -> SessionOptions {
        SessionOptions {
            mode: Mode::Keep,
            poll: POLL,
            page_limit: PAGE_LIMIT,
            keep_until: KeepUntil::Durable,
            updates: Updates::Live,
            first_sync: FirstSync::Checkpoint,
        }
    }
}

impl SessionOptions {
    /// A session that ends when everything has been sent and everything has come.
    pub fn once() -> SessionOptions {
        SessionOptions::default().with_mode(Mode::Once)
    }

    /// When it ends.
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> SessionOptions {
        self.mode = mode;
        self
    }

    /// How often the gateway is asked when live pages are not to be had; at least 50 ms.
    #[must_use]
    pub fn with_poll(mut self, every: Duration) -> SessionOptions {
        self.poll = every.max(POLL_MIN);
        self
    }

    /// Deltas of a page at most: from 1 to [`PULL_MAX`].
    #[must_use]
    pub fn with_page_limit(mut self, deltas: u32) -> SessionOptions {
        let most = u32::try_from(PULL_MAX).expect("ten thousand fits 32 bits");
        self.page_limit = deltas.clamp(1, most);
        self
    }

    /// How long confirmed edits stay in the outbox.
    #[must_use]
    pub fn with_keep_until(mut self, keep_until: KeepUntil) -> SessionOptions {
        self.keep_until = keep_until;
        self
    }

    /// How news come.
    #[must_use]
    pub fn with_updates(mut self, updates: Updates) -> SessionOptions {
        self.updates = updates;
        self
    }

    /// How a database that has nothing begins.
    #[must_use]
    pub fn with_first_sync(mut self, first_sync: FirstSync) -> SessionOptions {
        self.first_sync = first_sync;
        self
    }
}

/// What the application wants of a running session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wish {
    /// Ask the gateway now, whatever the session waits for.
    SyncNow,
    /// End. The exchange under way is finished first.
    Stop,
    /// There is a network again, or a new token: try at once.
    Online,
    /// Ask nothing until [`Wish::Online`].
    Offline,
    /// Take news live from now on.
    Live,
    /// Take news by polls from now on.
    Poll,
    /// Once everything is here, compare it with the gateway, table by table.
    Verify,
}
