//! Trimming: the durable log lets go of what nobody reads in it any more.
//!
//! ```text
//!   pushes   flushed by every table and older than the pull window      → pulls below read the flushed log
//!   clients  whose newest stamp is older than the late window           → one mark for all of them
//!   pages    unused, when they are a quarter of the file and more       → the file becomes smaller
//! ```
//! Each is done in short steps on the writer's thread, so that a push waits for one step at most.
//!
//! **Invariants:** trimming changes where something is looked up, never an answer · a crash between two steps leaves a
//! log that opens as if trimming had ended there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lakesync_proto::{Hlc, Seq};
use lakesync_providers::crash;

use crate::durable::{FileSize, Trimmed};
use crate::error::Result;
use crate::flushed_mark;
use crate::gateway::Gateway;
use crate::writer::{Task, Writer};

/// How long a client's mark is kept at least (90 days) after its newest stamp. With a longer late window it is that.
const CLIENT_AGE: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How often marks are looked through (daily): all of them are read.
const CLIENTS_EVERY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum TrimStep {
    /// Some of the pushes up to a flushed seq that arrived before a moment (milliseconds since 1970).
    Pushes(Seq, u64),
    /// Those of some clients after this one that have sent nothing stamped from here on.
    Clients(String, Hlc),
    /// Some unused pages.
    Pages,
    /// Nothing; the file's size is asked for, and the WAL brought into it.
    Size,
}

/// What became of one step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stepped {
    pub(crate) trimmed: Trimmed,
    pub(crate) size: FileSize,
}

/// When something was looked through last.
#[derive(Debug, Default)]
pub(crate) struct Trimming {
    clients_at_ms: AtomicU64,
}

/// What a compaction of the durable log did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogCompaction {
    /// Pushes that pulls read in the flushed log from now on.
    pub pushes: u64,
    /// Their size, in bytes.
    pub push_bytes: u64,
    /// Clients whose marks became one.
    pub clients: u64,
    /// The database's size before, in bytes.
    pub bytes_before: u64,
    /// The same now.
    pub bytes_after: u64,
}

impl Gateway {
    /// Compacts the durable log: lets go of pushes that every table has flushed and that are older than the pull window,
    /// of the marks of clients that have been away for long, and of unused pages.
    ///
    /// # Errors
    /// When the database cannot be written; what was done until then stays done.
    pub async fn compact_log(&self) -> Result<LogCompaction> {
        let before = self.step(TrimStep::Size).await?.size;
        let (pushes, push_bytes) = self.trim_pushes().await?;
        let clients = self.trim_clients().await?;
        self.shrink().await?;
        let after = self.step(TrimStep::Size).await?.size;
        Ok(LogCompaction {
            pushes,
            push_bytes,
            clients,
            bytes_before: before.bytes,
            bytes_after: after.bytes,
        })
    }

    /// What [`Gateway::compact_log`] does, after a flush: the marks of clients once a day only.
    pub(crate) async fn trim_flushed(&self) -> Result<()> {
        let (pushes, _) = self.trim_pushes().await?;
        let now_ms = self.components.clock.now_ms();
        let at_ms = &self.upkeep.trimming.clients_at_ms;
        if now_ms.saturating_sub(at_ms.load(Ordering::Relaxed)) >= CLIENTS_EVERY_MS {
            at_ms.store(now_ms, Ordering::Relaxed);
            self.trim_clients().await?;
        }
        match pushes {
            0 => Ok(()),
            _ => self.shrink().await,
        }
    }

    async fn trim_pushes(&self) -> Result<(u64, u64)> {
        let flushed = flushed_mark::flushed_to(&self.live.views());
        let before_ms = self.ago_ms(self.config.pull_window);
        let (mut pushes, mut bytes) = (0, 0);
        loop {
            let step = self.step(TrimStep::Pushes(flushed, before_ms)).await?;
            pushes += step.trimmed.gone;
            bytes += step.trimmed.bytes;
            if step.trimmed.next.is_none() {
                return Ok((pushes, bytes));
            }
            crash::point("trim.after_pushes");
        }
    }

    async fn trim_clients(&self) -> Result<u64> {
        let window = self.config.late_window.unwrap_or(CLIENT_AGE);
        let below = Hlc::new(self.ago_ms(window.max(CLIENT_AGE)), 0).unwrap_or(Hlc::ZERO);
        let (mut after, mut clients) = (String::new(), 0);
        loop {
            let step = self.step(TrimStep::Clients(after, below)).await?;
            clients += step.trimmed.gone;
            match step.trimmed.next {
                Some(next) => after = next,
                None => return Ok(clients),
            }
            crash::point("trim.after_clients");
        }
    }

    async fn shrink(&self) -> Result<()> {
        let mut shrunk = false;
        while self.step(TrimStep::Pages).await?.trimmed.next.is_some() {
            shrunk = true;
            crash::point("trim.after_pages");
        }
        if shrunk {
            self.step(TrimStep::Size).await?;
        }
        Ok(())
    }

    async fn step(&self, step: TrimStep) -> Result<Stepped> {
        self.ask(|reply| Task::Trim(step, reply)).await
    }

    /// The moment so long ago, in milliseconds since 1970.
    fn ago_ms(&self, time: Duration) -> u64 {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.components.clock.now_ms().saturating_sub(time_ms)
    }
}

impl Writer {
    /// Does one step of the trimming.
    pub(crate) fn trim(&mut self, step: TrimStep) -> Result<Stepped> {
        self.check_open()?;
        let mut stepped = Stepped::default();
        match step {
            TrimStep::Pushes(flushed, before_ms) => {
                stepped.trimmed = self.log.trim_pushes(flushed, before_ms)?;
                // What is flushed is found there, whether SQLite still has it for pulls or not.
                if self.dedup.knows_up_to(flushed) {
                    self.sent.begin_trim();
                    self.dedup.forget(flushed);
                }
                self.stats.known_ids(self.dedup.len());
            }
            TrimStep::Clients(after, below) => {
                stepped.trimmed = self.log.forget_clients(&after, below)?;
                if stepped.trimmed.gone > 0 {
                    self.sent.forget(below, self.log.forgotten_clients()?);
                }
            }
            TrimStep::Pages => stepped.trimmed = self.log.shrink()?,
            TrimStep::Size => {
                self.log.checkpoint()?;
                stepped.size = self.log.size()?;
            }
        }
        Ok(stepped)
    }
}
