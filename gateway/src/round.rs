//! The pushes of one commit, as they are being let in.
//!
//! Steps for a push: look every delta up → refuse reused ids and what is too old → give seqs to the new ones → move
//! their rows in the ledger → refuse what the write rules forbid. Pushes of one round see each other.
//!
//! **Invariant:** a refused push leaves nothing behind in the round.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ColumnName, DeltaId, ErrorCode, Hlc, Op, Outcome, RowDelta, Schemas, Seq, SeqDelta,
    Value,
};

use crate::admission::{check_floor, check_window};
use crate::config::DeltaIds;
use crate::durable::StoredPush;
use crate::error::{Refusal, Result};
use crate::rules::Audience;
use crate::rules::ledger::{Draft, Ledger, Step, Stored};
use crate::rules::rows::RuleRow;
use crate::rules::ruling::check_in_force;
use crate::writer::{Job, Sender, Writer};

type Known = HashMap<DeltaId, (Seq, Op)>;

/// The pushes of one commit.
#[derive(Debug)]
pub(crate) struct Round {
    seq: Seq,
    pub(crate) pushes: Vec<StoredPush>,
    /// Deltas of this commit, which `Dedup` does not know yet.
    fresh: Known,
    pub(crate) newest: HashMap<ClientId, Hlc>,
    draft: Draft,
    /// The steps of each push's rows.
    steps: Vec<Vec<Step>>,
    /// The stored push that was looked at last.
    looked_at: Option<StoredPush>,
}

/// What a push would add to the round.
struct Entry {
    outcomes: Vec<Outcome>,
    accepted: Vec<SeqDelta>,
    /// The place in the push of each accepted delta.
    places: Vec<usize>,
    own: Known,
}

impl Round {
    pub(crate) fn new(seq: Seq, ledger: &Ledger) -> Self {
        Self {
            seq,
            pushes: Vec::new(),
            fresh: HashMap::new(),
            newest: HashMap::new(),
            draft: Draft::new(ledger),
            steps: Vec::new(),
            looked_at: None,
        }
    }

    /// Lets a push in whole, with seqs for its new deltas, or refuses it whole.
    pub(crate) fn admit(&mut self, writer: &Writer, mut job: Job) -> (Job, Result<Vec<Outcome>>) {
        let deltas = std::mem::take(&mut job.deltas);
        let entry = self.look_up(writer, deltas, &job);
        let outcomes = entry.and_then(|entry| self.enter(writer, entry, &job));
        (job, outcomes)
    }

    fn look_up(&mut self, writer: &Writer, deltas: Vec<RowDelta>, job: &Job) -> Result<Entry> {
        let mut entry = Entry {
            outcomes: Vec::with_capacity(deltas.len()),
            accepted: Vec::new(),
            places: Vec::new(),
            own: HashMap::new(),
        };
        let mut known_again = Vec::new();
        let mut seq = self.seq;
        for (index, delta) in deltas.into_iter().enumerate() {
            let id = delta.delta_id;
            let known = writer.dedup.get(&id);
            let known = known.or_else(|| {
                let here = self.fresh.get(&id).or_else(|| entry.own.get(&id));
                here.or_else(|| job.older.get(&id)).copied()
            });
            if let Some((seq, op)) = known {
                if op != delta.op {
                    return Err(reused(&delta, op.name()).at(index).into());
                }
                entry.outcomes.push(Outcome::Duplicate(seq));
                known_again.push((seq, index, delta));
                continue;
            }
            check_floor(&delta, writer.floor).map_err(|refusal| refusal.at(index))?;
            check_window(&delta, job.oldest).map_err(|refusal| refusal.at(index))?;
            seq = seq.next();
            entry.own.insert(id, (seq, delta.op));
            entry.outcomes.push(Outcome::Accepted(seq));
            entry.accepted.push(SeqDelta { seq, delta });
            entry.places.push(index);
        }
        if writer.delta_ids == DeltaIds::Accept {
            // By seq, so that each stored push is read once.
            known_again.sort_by_key(|(seq, ..)| *seq);
            for (seq, index, delta) in known_again {
                if self.differs(writer, &entry.accepted, (&delta, seq))? {
                    return Err(reused(&delta, "other content").at(index).into());
                }
            }
        }
        Ok(entry)
    }

    /// Whether the delta that was accepted as `seq` is another one. Only ids that are not verified need a look.
    fn differs(
        &mut self,
        writer: &Writer,
        accepted: &[SeqDelta],
        (delta, seq): (&RowDelta, Seq),
    ) -> Result<bool> {
        let own = accepted.iter().find(|known| known.seq == seq);
        let round = self.pushes.iter().find_map(|push| nth(push, seq));
        if let Some(known) = own.or(round) {
            return Ok(!is_same(&known.delta, delta, writer.live.as_ref()));
        }
        let held = self.looked_at.as_ref().and_then(|push| nth(push, seq));
        if held.is_none() {
            let before = Seq::from_u64(seq.as_u64().saturating_sub(1)).unwrap_or(Seq::ZERO);
            let read = writer.log.read(before, 1, writer.live.as_ref())?;
            self.looked_at = read.into_iter().next();
        }
        let held = self.looked_at.as_ref().and_then(|push| nth(push, seq));
        // What only the flushed log has was compared when it was looked up there.
        Ok(held.is_some_and(|known| !is_same(&known.delta, delta, writer.live.as_ref())))
    }

    fn enter(&mut self, writer: &Writer, entry: Entry, job: &Job) -> Result<Vec<Outcome>> {
        let schemas: &dyn Schemas = writer.live.as_ref();
        let log = &writer.log;
        self.draft.begin();
        let mut steps = Vec::new();
        let added = entry.accepted.iter().try_for_each(|delta| {
            steps.extend(self.draft.add(&delta.delta, Stored { log, schemas })?);
            Ok(())
        });
        let audience = match &job.sender {
            Sender::Audience(audience) => Arc::clone(audience),
            Sender::Claims(claims) => writer.ledger.current.audience(claims),
        };
        let allowed = added.and_then(|()| self.guard(writer, &entry, (&steps, &audience)));
        if let Err(error) = allowed {
            self.draft.undo();
            return Err(error);
        }
        for delta in &entry.accepted {
            let client = delta.delta.client_id.clone();
            let newest = self.newest.entry(client).or_default();
            *newest = (*newest).max(delta.delta.hlc);
        }
        self.fresh.extend(entry.own);
        if let Some(last) = entry.accepted.last() {
            self.seq = last.seq;
            self.steps.push(steps);
            self.pushes.push(StoredPush {
                arrived_ms: job.arrived_ms,
                deltas: entry.accepted,
                moved: Vec::new(),
            });
        }
        Ok(entry.outcomes)
    }

    /// Refuses the push whose writer may not write a row as it was or as it would be.
    fn guard(
        &mut self,
        writer: &Writer,
        entry: &Entry,
        (steps, audience): (&[Step], &Audience),
    ) -> Result<()> {
        let rules = &writer.ledger.current;
        check_in_force(audience, rules.version())?;
        if audience.is_everything() {
            return Ok(());
        }
        let guarded = |delta: &SeqDelta| rules.guards_writes(&delta.delta.table);
        if !entry.accepted.iter().any(guarded) {
            return Ok(());
        }
        let (moved, lasts) = (self.draft.moved(steps), self.draft.lasts(steps));
        for (index, delta) in entry.accepted.iter().enumerate() {
            let Some(moved) = moved.get(index).filter(|_| guarded(delta)) else {
                continue;
            };
            let before = match (moved.existed, delta.delta.op) {
                (true, _) => audience.may_write(&moved.before),
                // It would hide what others write later: only who could have deleted the row may do so again.
                (false, Op::Delete) => {
                    let last = lasts.get(index).and_then(Option::as_ref);
                    last.is_some_and(|last| audience.may_write(last))
                }
                (false, _) => true,
            };
            let after = !moved.exists || audience.may_write(&moved.after);
            if !(before && after) {
                return Err(forbidden(&delta.delta).at(entry.places[index]).into());
            }
        }
        Ok(())
    }

    /// Gives the pushes what they did to who sees their rows; the rows of the ledger that they change.
    pub(crate) fn finish(&mut self) -> Vec<RuleRow> {
        for (push, steps) in self.pushes.iter_mut().zip(&self.steps) {
            push.moved = self.draft.moved(steps);
        }
        self.draft.rows()
    }
}

/// The delta of a push with this seq.
fn nth(push: &StoredPush, seq: Seq) -> Option<&SeqDelta> {
    let first = push.deltas.first()?.seq.as_u64();
    let index = usize::try_from(seq.as_u64().checked_sub(first)?).ok()?;
    push.deltas.get(index)
}

fn forbidden(delta: &RowDelta) -> Refusal {
    Refusal::new(
        ErrorCode::Forbidden,
        format!(
            "row `{}` of `{}` may not be written with this token: no bucket of the sync rules that says \"write\" holds \
             it, as it was and as it would be",
            delta.row_id, delta.table
        ),
    )
}

/// Whether a delta is the one that is known by its id. The flushed log gives columns in the schema's order, and without
/// those that were dropped since.
pub(crate) fn is_same(known: &RowDelta, sent: &RowDelta, schemas: &dyn Schemas) -> bool {
    let schema = schemas.schema(&sent.table);
    let kept = |delta: &RowDelta| -> BTreeMap<ColumnName, Value> {
        let columns = delta.columns.iter();
        let kept = columns.filter(|change| {
            let schema = schema.as_ref();
            schema.is_none_or(|schema| schema.column(change.column.as_ref()).is_some())
        });
        kept.map(|change| (change.column.clone(), change.value.clone()))
            .collect()
    };
    known.op == sent.op && known.key() == sent.key() && kept(known) == kept(sent)
}

pub(crate) fn reused(delta: &RowDelta, before: &str) -> Refusal {
    Refusal::new(
        ErrorCode::DeltaIdReused,
        format!(
            "delta id {} (row `{}` of `{}`) was accepted before as {before}, now it comes as {}; one id names one \
             delta: stamp the row again",
            delta.delta_id,
            delta.row_id,
            delta.table,
            delta.op.name()
        ),
    )
}
