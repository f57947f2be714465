//! What clients have sent that the gateway's memory does not know: when a push has to be looked up in the
//! flushed log before it can be called new.
//!
//! **Invariant:** whatever was accepted and is not among the known deltas in memory is stamped at or below its
//! client's forgotten mark, or the mark of all clients that have none of their own, and the trim count has moved before
//! anything is forgotten. So a push that was looked up
//! under the current count is either known or new.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lakesync_proto::{ClientId, Hlc, RowDelta, RowId, TableName};

/// The marks of one gateway, shared by its requests and its writer.
#[derive(Debug)]
pub(crate) struct Sent {
    marks: Mutex<Marks>,
    trims: AtomicU64,
}

#[derive(Debug)]
struct Marks {
    /// The greatest of them all.
    greatest: Hlc,
    /// The greatest stamp that each client has sent.
    newest: HashMap<ClientId, Hlc>,
    /// The greatest stamp that a client may have sent that is not in `newest`.
    unknown: Hlc,
    /// What `newest` was when deltas were forgotten last; none while memory knows all of them.
    forgotten: Option<HashMap<ClientId, Hlc>>,
}

/// What memory knows of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Every delta that was accepted.
    Whole,
    /// Those since some moment.
    Recent,
}

impl Sent {
    /// `newest` are the marks of clients, `unknown` the greatest stamp of a client that is not among them.
    pub(crate) fn new(newest: HashMap<ClientId, Hlc>, unknown: Hlc, memory: Memory) -> Self {
        let forgotten = (memory == Memory::Recent).then(|| newest.clone());
        let greatest = newest.values().max().copied().unwrap_or_default();
        Self {
            marks: Mutex::new(Marks {
                greatest: greatest.max(unknown),
                newest,
                unknown,
                forgotten,
            }),
            trims: AtomicU64::new(0),
        }
    }

    /// Raises the marks of clients to what was just made durable.
    pub(crate) fn raise(&self, stamps: HashMap<ClientId, Hlc>) {
        let mut marks = self.lock();
        for (client, stamp) in stamps {
            marks.greatest = marks.greatest.max(stamp);
            let mark = marks.newest.entry(client).or_default();
            *mark = (*mark).max(stamp);
        }
    }

    /// The greatest stamp of all that anybody has sent, as far as the database knows: nothing hot is stamped above it.
    pub(crate) fn newest(&self) -> Hlc {
        self.lock().greatest
    }

    /// How often memory has forgotten deltas.
    pub(crate) fn trims(&self) -> u64 {
        self.trims.load(Ordering::Acquire)
    }

    /// Says that memory is about to forget deltas that have been made durable.
    pub(crate) fn begin_trim(&self) {
        let mut marks = self.lock();
        marks.forgotten = Some(marks.newest.clone());
        drop(marks);
        self.trims.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes one mark of those below `below`; `unknown` is the greatest that ever went so.
    pub(crate) fn forget(&self, below: Hlc, unknown: Hlc) {
        let mut marks = self.lock();
        marks.unknown = marks.unknown.max(unknown);
        marks.newest.retain(|_, mark| *mark >= below);
        if let Some(forgotten) = &mut marks.forgotten {
            forgotten.retain(|_, mark| *mark >= below);
        }
    }

    /// The rows whose deltas may have been accepted and forgotten: those not stamped above what their client
    /// had sent when something was forgotten last, or what the lake held then.
    pub(crate) fn suspects<'a>(
        &self,
        deltas: &'a [RowDelta],
    ) -> HashMap<&'a TableName, BTreeSet<RowId>> {
        let mut suspects: HashMap<&TableName, BTreeSet<RowId>> = HashMap::new();
        let marks = self.lock();
        let Some(forgotten) = &marks.forgotten else {
            return suspects;
        };
        for delta in deltas {
            let sent = forgotten.get(&delta.client_id).copied();
            if delta.hlc <= sent.unwrap_or_default().max(marks.unknown) {
                let rows = suspects.entry(&delta.table).or_default();
                rows.insert(delta.row_id.clone());
            }
        }
        suspects
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Every mutation is whole before anything can panic, so a poisoned lock holds a valid state.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lakesync_proto::{DeltaKey, Op};

    fn client(name: &str) -> ClientId {
        ClientId::parse(name).unwrap()
    }

    fn stamp(wall_ms: u64) -> Hlc {
        Hlc::new(wall_ms, 0).unwrap()
    }

    fn is_suspect(sent: &Sent, name: &str, wall_ms: u64) -> bool {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse("r").unwrap(),
            client_id: client(name),
            hlc: stamp(wall_ms),
        };
        let delta = RowDelta::new(Op::Delete, key, Vec::new());
        !sent.suspects(&[delta]).is_empty()
    }

    #[test]
    fn nothing_is_suspect_while_memory_knows_everything() {
        let sent = Sent::new([(client("ana"), stamp(9))].into(), Hlc::ZERO, Memory::Whole);
        assert!(!is_suspect(&sent, "ana", 5));
    }

    #[test]
    fn the_newest_stamp_is_the_greatest_of_any_client() {
        let sent = Sent::new(
            [(client("ana"), stamp(9)), (client("bo"), stamp(4))].into(),
            Hlc::ZERO,
            Memory::Whole,
        );
        assert_eq!(sent.newest(), stamp(9));
        sent.raise([(client("bo"), stamp(12))].into());
        sent.raise([(client("ana"), stamp(10))].into());
        assert_eq!(sent.newest(), stamp(12));
    }

    #[test]
    fn what_a_client_sends_late_after_an_opening_is_not_looked_up_unless_it_may_be_forgotten() {
        let sent = Sent::new(
            [(client("ana"), stamp(9))].into(),
            Hlc::ZERO,
            Memory::Recent,
        );
        assert!(is_suspect(&sent, "ana", 9) && !is_suspect(&sent, "ana", 10));
        assert!(!is_suspect(&sent, "bo", 5), "it has sent nothing");
        sent.raise([(client("ana"), stamp(50)), (client("bo"), stamp(50))].into());
        assert!(
            !is_suspect(&sent, "ana", 20) && !is_suspect(&sent, "bo", 5),
            "memory knows what came since"
        );
        sent.begin_trim();
        assert!(is_suspect(&sent, "ana", 20) && is_suspect(&sent, "bo", 5));
    }

    #[test]
    fn a_database_that_lost_clients_suspects_everything_up_to_the_newest_stamp_of_the_lake() {
        let sent = Sent::new(HashMap::new(), stamp(30), Memory::Recent);
        assert!(is_suspect(&sent, "bo", 30) && !is_suspect(&sent, "bo", 31));
        sent.begin_trim();
        assert!(is_suspect(&sent, "bo", 30), "also after a trim");
    }

    #[test]
    fn clients_that_were_away_for_long_share_a_mark() {
        let marks = [(client("ana"), stamp(9)), (client("bo"), stamp(50))];
        let sent = Sent::new(marks.into(), Hlc::ZERO, Memory::Whole);
        sent.forget(stamp(20), stamp(9));
        assert!(!is_suspect(&sent, "ana", 9), "memory knows everything");
        sent.begin_trim();
        for name in ["ana", "new"] {
            assert!(
                is_suspect(&sent, name, 9) && !is_suspect(&sent, name, 10),
                "{name}"
            );
        }
        assert!(is_suspect(&sent, "bo", 50) && !is_suspect(&sent, "bo", 51));
        let again = Sent::new(HashMap::new(), stamp(9), Memory::Whole);
        assert_eq!(again.newest(), stamp(9), "what it sent may still be hot");
    }
}
