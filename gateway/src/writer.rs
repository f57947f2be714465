//! ★ The writer: one thread a gateway owns the durable log and everything that follows a commit.
//!
//! Steps for a group of pushes: let each in or refuse it (`round.rs`), one fsynced COMMIT for the whole group, publish
//! (dedup, live tables, feed), then answer.
//!
//! **Invariants:** seqs are given here only, so they are dense and in commit order · nothing is published
//! before its commit returned · after a failed commit every push is refused until a restart.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use lakesync_proto::{Claims, DeltaId, GatewayId, Hlc, Op, Outcome, RowDelta, Seq, SeqDelta};
use lakesync_providers::{HotPush, Live};
use tokio::sync::{mpsc, oneshot};

use crate::config::DeltaIds;
use crate::dedup::Dedup;
use crate::durable::{AppendError, DurableLog};
use crate::error::{Error, Result};
use crate::feed::Feed;
use crate::pressure::rolled_back;
use crate::round::Round;
use crate::rules::Audience;
use crate::rules::ledger::Ledger;
use crate::rules::ruling::RulesTask;
use crate::sent::Sent;
use crate::stats::Stats;
use crate::trim::{Stepped, TrimStep};

/// A push that was admitted and waits for its commit.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) deltas: Vec<RowDelta>,
    /// Whom the write rules take its sender for.
    pub(crate) sender: Sender,
    /// New deltas that are stamped below this are late.
    pub(crate) oldest: Hlc,
    /// The size of its values.
    pub(crate) bytes: usize,
    pub(crate) arrived_ms: u64,
    /// Deltas that memory has forgotten and the flushed log knows, as of this many trims.
    pub(crate) older: HashMap<DeltaId, (Seq, Op)>,
    pub(crate) trims: u64,
    pub(crate) reply: oneshot::Sender<Result<Answer>>,
}

/// Whom the write rules take a push's sender for.
#[derive(Clone, Debug)]
pub(crate) enum Sender {
    /// One of these.
    Audience(Arc<Audience>),
    /// Whoever has these claims under the rules that the push meets.
    Claims(Arc<Claims>),
}

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is durable and visible.
    Durable(Vec<Outcome>),
    /// Memory has forgotten something since the push was looked up: here it is back, look again.
    LookAgain(Vec<RowDelta>),
}

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    Push(Job),
    /// Raise the floor, durably, to no more than the deltas above a seq are stamped; it never sinks.
    Floor(Hlc, Seq, oneshot::Sender<Result<Hlc>>),
    /// A step of the trimming.
    Trim(TrimStep, oneshot::Sender<Result<Stepped>>),
    /// Set a key of the database's `meta`, durably.
    Meta(&'static str, String, oneshot::Sender<Result<()>>),
    /// A step towards other rules; the answer counts what was done.
    Rules(RulesTask, oneshot::Sender<Result<usize>>),
    /// Take nothing more, for this reason.
    Close(String),
}

/// The writer's state; it lives on its own thread.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) gateway: GatewayId,
    pub(crate) log: DurableLog,
    pub(crate) dedup: Dedup,
    pub(crate) floor: Hlc,
    pub(crate) delta_ids: DeltaIds,
    pub(crate) ledger: Ledger,
    /// The last seq given.
    pub(crate) seq: Seq,
    pub(crate) live: Arc<Live>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) sent: Arc<Sent>,
    pub(crate) stats: Arc<Stats>,
    /// The bytes of pushes that wait in the queue.
    pub(crate) waiting_bytes: Arc<AtomicUsize>,
    pub(crate) group_pushes_max: usize,
    pub(crate) group_bytes_max: usize,
    /// Why nothing is accepted any more.
    pub(crate) poisoned: Option<String>,
}

impl Writer {
    /// Works until every sender is gone.
    pub(crate) fn run(mut self, mut tasks: mpsc::Receiver<Task>) {
        self.stats.known_ids(self.dedup.len());
        while let Some(task) = tasks.blocking_recv() {
            let (mut group, mut bytes) = (Vec::new(), 0);
            let mut next = Some(task);
            // Pushes that wait share a commit; any other task ends the group and runs after it.
            while let Some(Task::Push(job)) = next {
                self.waiting_bytes.fetch_sub(job.bytes, Ordering::AcqRel);
                bytes += job.bytes;
                group.push(job);
                let fits = group.len() < self.group_pushes_max && bytes < self.group_bytes_max;
                next = if fits { tasks.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            if let Some(task) = next {
                self.maintain(task);
            }
        }
    }

    fn maintain(&mut self, task: Task) {
        // A caller that went away asks again; nobody else needs the answer.
        match task {
            Task::Floor(floor, seen, reply) => {
                drop(reply.send(self.raise_floor(floor, seen)));
            }
            Task::Trim(step, reply) => drop(reply.send(self.trim(step))),
            Task::Meta(key, value, reply) => {
                let set = self
                    .check_open()
                    .and_then(|()| self.log.set_meta(key, &value));
                drop(reply.send(set));
            }
            Task::Rules(task, reply) => drop(reply.send(self.rule(task))),
            Task::Close(reason) => self.poisoned = self.poisoned.take().or(Some(reason)),
            Task::Push(_) => unreachable!("pushes are taken into a group"),
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let mut round = Round::new(self.seq, &self.ledger);
        let mut waiting = Vec::with_capacity(group.len());
        for job in group {
            let (reply, answer) = self.admit(&mut round, job);
            waiting.push((reply, answer));
        }
        let failed = match round.pushes.is_empty() {
            true => None,
            false => self.store(&mut round).err(),
        };
        let nothing_stored = match failed {
            None => {
                self.publish(round);
                None
            }
            Some(AppendError::RolledBack(error)) => Some(error),
            Some(AppendError::Unknown(error)) => {
                self.poisoned = Some(format!(
                    "a commit of its log failed ({error}), so what is on disk is unknown; check the disk, then restart \
                     the server: it recovers everything that was acknowledged"
                ));
                None
            }
        };
        for (reply, answer) in waiting {
            let answer = match (answer, &nothing_stored) {
                (Ok(Answer::Durable(_)), Some(error)) => Err(rolled_back(&self.gateway, error)),
                (Ok(Answer::Durable(outcomes)), None) => {
                    self.check_open().map(|()| Answer::Durable(outcomes))
                }
                (answer, _) => answer,
            };
            // A client that went away has its answer with its next attempt: the deltas are known then.
            drop(reply.send(answer));
        }
    }

    /// One fsynced commit of everything that the round let in.
    fn store(&mut self, round: &mut Round) -> std::result::Result<(), AppendError> {
        let rows = round.finish();
        let began = Instant::now();
        self.log.append(&round.pushes, &round.newest, &rows)?;
        let deltas = round.pushes.iter().map(|push| push.deltas.len()).sum();
        self.stats.commit(began.elapsed(), deltas);
        Ok(())
    }

    fn admit(
        &self,
        round: &mut Round,
        job: Job,
    ) -> (oneshot::Sender<Result<Answer>>, Result<Answer>) {
        if let Err(closed) = self.check_open() {
            return (job.reply, Err(closed));
        }
        // What was looked up may have been forgotten in between; only a new look tells.
        if job.trims != self.sent.trims() {
            return (job.reply, Ok(Answer::LookAgain(job.deltas)));
        }
        let (job, outcomes) = round.admit(self, job);
        (job.reply, outcomes.map(Answer::Durable))
    }

    fn publish(&mut self, round: Round) {
        self.sent.raise(round.newest);
        for push in round.pushes {
            self.dedup.extend(push.deltas.iter());
            let moved = push.moved;
            let deltas: Vec<Arc<SeqDelta>> = push.deltas.into_iter().map(Arc::new).collect();
            let Some(last) = deltas.last().map(|delta| delta.seq) else {
                continue;
            };
            self.seq = last;
            let push = HotPush {
                arrived_ms: push.arrived_ms,
                deltas,
            };
            self.live.append(&push, last);
            self.feed.append(&push.deltas, &moved, last);
        }
        self.stats.feed(self.feed.bytes());
        self.stats.known_ids(self.dedup.len());
    }

    fn raise_floor(&mut self, floor: Hlc, seen: Seq) -> Result<Hlc> {
        self.check_open()?;
        // Whoever asked has looked at everything up to `seen`; what came since is hot.
        let views = self.live.views();
        let since = views.tables.values().flat_map(|view| view.hot.after(seen));
        let since = since.flat_map(|push| push.deltas.iter());
        let since = since.filter(|delta| delta.seq > seen);
        let floor = since.map(|delta| delta.delta.hlc).fold(floor, Hlc::min);
        if floor > self.floor {
            self.log.set_meta("floor", &floor.to_string())?;
            self.floor = floor;
            self.live.raise_floor(floor);
        }
        Ok(self.floor)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        match &self.poisoned {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                gateway: self.gateway.clone(),
                reason: reason.clone(),
            }),
        }
    }
}
