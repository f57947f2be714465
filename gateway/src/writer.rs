//! ★ The writer: one thread a gateway owns the durable log and everything that follows a commit.
//!
//! Steps for a group of pushes: look each up (known deltas, floor), give seqs to the new deltas, one
//! fsynced COMMIT for the whole group, publish (dedup, live tables, feed), then answer.
//!
//! **Invariants:** seqs are given here only, so they are dense and in commit order · nothing is published
//! before its commit returned · after a failed commit every push is refused until a restart.

use std::collections::HashMap;
use std::sync::Arc;

use lakesync_proto::{
    ClientId, DeltaId, ErrorCode, GatewayId, Hlc, Op, Outcome, RowDelta, Seq, SeqDelta,
};
use lakesync_providers::{HotPush, Live};
use tokio::sync::{mpsc, oneshot};

use crate::admission::check_floor;
use crate::dedup::Dedup;
use crate::durable::{DurableLog, StoredPush};
use crate::error::{Error, Refusal, Result};
use crate::feed::Feed;

/// A push that was admitted and waits for its commit.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) deltas: Vec<RowDelta>,
    pub(crate) arrived_ms: u64,
    /// Deltas that the durable log has forgotten and the flushed log knows.
    pub(crate) older: HashMap<DeltaId, (Seq, Op)>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Outcome>>>,
}

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Task {
    Push(Job),
    /// Raise the floor, durably; it never sinks.
    Floor(Hlc, oneshot::Sender<Result<Hlc>>),
    /// Forget pushes up to a flushed seq that arrived before a moment (milliseconds since 1970); answers
    /// whether there were any.
    Trim(Seq, u64, oneshot::Sender<Result<bool>>),
}

/// The writer's state; it lives on its own thread.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) gateway: GatewayId,
    pub(crate) log: DurableLog,
    pub(crate) dedup: Dedup,
    pub(crate) floor: Hlc,
    /// The last seq given.
    pub(crate) seq: Seq,
    pub(crate) live: Arc<Live>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) group_pushes_max: usize,
    /// Why nothing is accepted any more.
    pub(crate) poisoned: Option<String>,
}

impl Writer {
    /// Works until every sender is gone.
    pub(crate) fn run(mut self, mut tasks: mpsc::Receiver<Task>) {
        while let Some(task) = tasks.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(task);
            // Pushes that wait share a commit; any other task ends the group and runs after it.
            while let Some(Task::Push(job)) = next {
                group.push(job);
                next = match group.len() < self.group_pushes_max {
                    true => tasks.try_recv().ok(),
                    false => None,
                };
            }
            if !group.is_empty() {
                self.commit(group);
            }
            match next {
                Some(Task::Floor(floor, reply)) => drop(reply.send(self.raise_floor(floor))),
                Some(Task::Trim(flushed, before_ms, reply)) => {
                    drop(reply.send(self.trim(flushed, before_ms)));
                }
                Some(Task::Push(_)) | None => {}
            }
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let mut round = Round::new(self.seq);
        let mut waiting = Vec::with_capacity(group.len());
        for job in group {
            let outcomes = match &self.poisoned {
                Some(reason) => Err(self.closed(reason.clone())),
                None => round
                    .admit(self, job.deltas, job.arrived_ms, &job.older)
                    .map_err(Error::Refused),
            };
            waiting.push((job.reply, outcomes));
        }
        let failed = match round.pushes.is_empty() {
            true => None,
            false => self.log.append(&round.pushes, &round.newest).err(),
        };
        match failed {
            None => self.publish(round),
            Some(error) => self.poisoned = Some(error.to_string()),
        }
        for (reply, outcomes) in waiting {
            let answer = match (&self.poisoned, outcomes) {
                (Some(reason), Ok(_)) => Err(self.closed(reason.clone())),
                (_, outcomes) => outcomes,
            };
            // A client that went away has its answer with its next attempt: the deltas are known then.
            drop(reply.send(answer));
        }
    }

    fn publish(&mut self, round: Round) {
        for push in round.pushes {
            self.dedup.extend(push.deltas.iter());
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
            self.feed.append(&push.deltas, last);
        }
    }

    fn raise_floor(&mut self, floor: Hlc) -> Result<Hlc> {
        if floor > self.floor {
            self.log.set_meta("floor", &floor.to_string())?;
            self.floor = floor;
        }
        Ok(self.floor)
    }

    fn trim(&mut self, flushed: Seq, before_ms: u64) -> Result<bool> {
        let last = self.log.trim(flushed, before_ms)?;
        if let Some(last) = last {
            self.dedup.forget(last);
        }
        Ok(last.is_some())
    }

    fn closed(&self, reason: String) -> Error {
        Error::Poisoned {
            gateway: self.gateway.clone(),
            reason,
        }
    }
}

/// The pushes of one commit, as they are being let in.
#[derive(Debug)]
struct Round {
    seq: Seq,
    pushes: Vec<StoredPush>,
    /// Deltas of this commit, which `Dedup` does not know yet.
    fresh: HashMap<DeltaId, (Seq, Op)>,
    newest: HashMap<ClientId, Hlc>,
}

impl Round {
    fn new(seq: Seq) -> Self {
        Self {
            seq,
            pushes: Vec::new(),
            fresh: HashMap::new(),
            newest: HashMap::new(),
        }
    }

    /// Lets a push in whole, with seqs for its new deltas, or refuses it whole.
    fn admit(
        &mut self,
        writer: &Writer,
        deltas: Vec<RowDelta>,
        arrived_ms: u64,
        older: &HashMap<DeltaId, (Seq, Op)>,
    ) -> Result<Vec<Outcome>, Refusal> {
        let mut outcomes = Vec::with_capacity(deltas.len());
        let mut accepted = Vec::new();
        let mut own: HashMap<DeltaId, (Seq, Op)> = HashMap::new();
        let mut seq = self.seq;
        for (index, delta) in deltas.into_iter().enumerate() {
            let id = delta.delta_id;
            let known = writer.dedup.get(&id);
            let known = known.or_else(|| {
                self.fresh
                    .get(&id)
                    .or_else(|| own.get(&id))
                    .or_else(|| older.get(&id))
                    .copied()
            });
            match known {
                Some((seq, op)) if op == delta.op => outcomes.push(Outcome::Duplicate(seq)),
                Some((_, op)) => return Err(reused(&delta, op).at(index)),
                None => {
                    check_floor(&delta, writer.floor).map_err(|refusal| refusal.at(index))?;
                    seq = seq.next();
                    own.insert(id, (seq, delta.op));
                    outcomes.push(Outcome::Accepted(seq));
                    accepted.push(SeqDelta { seq, delta });
                }
            }
        }
        for delta in &accepted {
            let newest = self
                .newest
                .entry(delta.delta.client_id.clone())
                .or_default();
            *newest = (*newest).max(delta.delta.hlc);
        }
        self.seq = seq;
        self.fresh.extend(own);
        if !accepted.is_empty() {
            self.pushes.push(StoredPush {
                arrived_ms,
                deltas: accepted,
            });
        }
        Ok(outcomes)
    }
}

fn reused(delta: &RowDelta, op: Op) -> Refusal {
    Refusal::new(
        ErrorCode::DeltaIdReused,
        format!(
            "delta id {} (row `{}` of `{}`) was accepted before as {}, now it comes as {}; one id names one delta: \
             stamp the row again",
            delta.delta_id,
            delta.row_id,
            delta.table,
            op.name(),
            delta.op.name()
        ),
    )
}
