//! Joining a database to a lake that went on without it: what a new epoch begins with.
//!
//! A database that was restored from a copy, or found again, may hold deltas that the lake has passed by: their seqs lie
//! below what other deltas have been flushed with since, so nothing would flush them any more.
//!
//! ```text
//!   in the lake under its own seq           stays
//!   in the lake under another seq           goes: its client has sent it again meanwhile
//!   not in the lake, above all of it        stays: it waits for the next flush
//!   not in the lake, and passed by          moves to the end of the log, under a seq of the new epoch
//!   the same, and below the lake's floor    goes: the log has dropped it, or nothing can be compared with it any more
//! ```
//! **Invariant:** afterwards every delta of database and lake has one seq, no seq names two of them, and whatever the
//! lake lacks is above it. All of it is one transaction, and doing it again changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use lakesync_proto::{DeltaId, Hlc, Seq, SeqDelta, TableName};
use lakesync_providers::{Live, known_deltas, read_log, session};

use crate::durable::{DurableLog, StoredPush};
use crate::error::Result;
use crate::opening::{READ_DELTAS, before, lake_floor};

/// How far apart, in seqs, two stored deltas may be for the lake to be read from one to the other.
const NEAR: u64 = 10_000;

/// The seqs that the lake has deltas under: more than one for an id that it has twice.
type LakeSeqs = HashMap<DeltaId, HashSet<Seq>>;

/// What the transaction does.
#[derive(Debug, Default)]
struct Exchange {
    /// What is stamped below it has left the logs, or may have.
    floor: Hlc,
    /// The first seqs of the pushes that do not stay as they are.
    firsts: Vec<Seq>,
    /// What is stored instead.
    pushes: Vec<StoredPush>,
    /// How many deltas are in the lake under other seqs.
    gone: usize,
    /// How many were accepted again.
    moved: usize,
    /// How many are stamped below the floor.
    below: usize,
}

/// Joins `log` to the lake of `live`, which ends at `lake_to`; what it has passed by is stored above `end`.
pub(crate) async fn rejoin(
    log: &mut DurableLog,
    live: &Live,
    (lake_to, end): (Seq, Seq),
) -> Result<()> {
    if lake_to == Seq::ZERO {
        return Ok(());
    }
    let mut exchange = Exchange {
        floor: lake_floor(live),
        ..Exchange::default()
    };
    let (mut at, mut end) = (Seq::ZERO, end);
    loop {
        let pushes = log.read(at, READ_DELTAS, live)?;
        let last = pushes.last().and_then(|push| push.deltas.last());
        let Some(last) = last.map(|delta| delta.seq) else {
            break;
        };
        at = last;
        let found = lake_seqs(live, &pushes).await?;
        for push in pushes {
            end = exchange.look_at(push, &found, (lake_to, end));
        }
    }
    if exchange.firsts.is_empty() {
        return Ok(());
    }
    log.exchange(&exchange.firsts, &exchange.pushes)?;
    tracing::warn!(
        gateway = %live.gateway(),
        accepted_again = exchange.moved,
        taken_out = exchange.gone,
        below_floor = exchange.below,
        "the database was restored beside a lake that had gone on: what the lake lacks is at the end of the log now"
    );
    Ok(())
}

impl Exchange {
    /// Sorts the deltas of a push; gives the last seq that has been given out.
    fn look_at(
        &mut self,
        push: StoredPush,
        found: &LakeSeqs,
        (lake_to, mut end): (Seq, Seq),
    ) -> Seq {
        let floor = self.floor;
        let stays = |delta: &SeqDelta| match found.get(&delta.delta.delta_id) {
            Some(seqs) => seqs.contains(&delta.seq),
            None => delta.seq > lake_to && delta.delta.hlc >= floor,
        };
        if push.deltas.iter().all(stays) {
            return end;
        }
        self.firsts
            .extend(push.deltas.first().map(|delta| delta.seq));
        let (mut kept, mut moved) = (Vec::<StoredPush>::new(), Vec::new());
        for (index, mut delta) in push.deltas.into_iter().enumerate() {
            if stays(&delta) {
                let follows = |piece: &&mut StoredPush| {
                    let last = piece.deltas.last();
                    last.is_some_and(|last| last.seq.next() == delta.seq)
                };
                let effect = push.moved.get(index).map(Arc::clone);
                match kept.last_mut().filter(follows) {
                    Some(piece) => {
                        piece.deltas.push(delta);
                        piece.moved.extend(effect);
                    }
                    None => kept.push(StoredPush {
                        arrived_ms: push.arrived_ms,
                        deltas: vec![delta],
                        moved: effect.into_iter().collect(),
                    }),
                }
            } else if found.contains_key(&delta.delta.delta_id) {
                self.gone += 1;
            } else if delta.delta.hlc < floor {
                self.below += 1;
            } else {
                end = end.next();
                delta.seq = end;
                moved.push(delta);
            }
        }
        self.moved += moved.len();
        self.pushes.extend(kept);
        if !moved.is_empty() {
            // What they do under the rules was said of another log; the rules begin anew with the epoch.
            self.pushes.push(StoredPush {
                arrived_ms: push.arrived_ms,
                deltas: moved,
                moved: Vec::new(),
            });
        }
        end
    }
}

/// Where the lake has the deltas of these pushes: looked for in their places first, then anywhere by their rows.
async fn lake_seqs(live: &Live, pushes: &[StoredPush]) -> Result<LakeSeqs> {
    let mut by_table: BTreeMap<&TableName, Vec<&SeqDelta>> = BTreeMap::new();
    for delta in pushes.iter().flat_map(|push| &push.deltas) {
        by_table.entry(&delta.delta.table).or_default().push(delta);
    }
    let ctx = session(live.warehouse());
    let mut found = LakeSeqs::new();
    for (table, deltas) in by_table {
        let view = live
            .view(table.as_ref())
            .expect("a delta is decoded by the schema of its table");
        for run in deltas.chunk_by(|a, b| b.seq.as_u64() - a.seq.as_u64() <= NEAR) {
            let (first, last) = (run[0].seq, run[run.len() - 1].seq);
            let log = (&*view.log, &*view.schema);
            let range = (before(first), last);
            note(
                &mut found,
                read_log(&ctx, live.warehouse(), log, range).await?,
            );
        }
        let elsewhere = deltas.iter().filter(|delta| {
            let seqs = found.get(&delta.delta.delta_id);
            !seqs.is_some_and(|seqs| seqs.contains(&delta.seq))
        });
        let rows = elsewhere.map(|delta| delta.delta.row_id.clone()).collect();
        note(&mut found, known_deltas(&view, &rows).await?);
    }
    Ok(found)
}

fn note(found: &mut LakeSeqs, known: Vec<Arc<SeqDelta>>) {
    for delta in known {
        let seqs = found.entry(delta.delta.delta_id).or_default();
        seqs.insert(delta.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::membership::Membership;
    use crate::rules::moved::Moved;
    use lakesync_proto::{DeltaKey, Op, RowDelta};

    fn seq(number: u64) -> Seq {
        Seq::from_u64(number).unwrap()
    }

    fn delta(number: u64) -> SeqDelta {
        let key = DeltaKey {
            table: "t".parse().unwrap(),
            row_id: "r".parse().unwrap(),
            client_id: "ana".parse().unwrap(),
            hlc: Hlc::new(number, 0).unwrap(),
        };
        SeqDelta {
            seq: seq(number),
            delta: RowDelta::new(Op::Delete, key, Vec::new()),
        }
    }

    /// What a delta did under the rules, told apart by its number.
    fn effect(number: u64) -> Arc<Moved> {
        Arc::new(Moved {
            rules: number,
            known: false,
            existed: false,
            exists: false,
            before: Membership(Vec::new()),
            after: Membership(Vec::new()),
        })
    }

    #[test]
    fn a_push_is_cut_where_deltas_leave_it_and_each_keeps_what_it_did_under_the_rules() {
        let push = StoredPush {
            arrived_ms: 7,
            deltas: (11..=16).map(delta).collect(),
            moved: (11..=16).map(effect).collect(),
        };
        let places = [(11, 11), (12, 12), (14, 99), (15, 15), (15, 98)];
        let mut found = LakeSeqs::new();
        for (number, place) in places {
            let seqs = found.entry(delta(number).delta.delta_id).or_default();
            seqs.insert(seq(place));
        }
        let mut exchange = Exchange::default();
        assert_eq!(
            exchange.look_at(push, &found, (seq(15), seq(100))),
            seq(101)
        );
        assert_eq!(exchange.firsts, [seq(11)]);
        assert_eq!((exchange.gone, exchange.moved), (1, 1));
        let stored = exchange.pushes.iter().map(|push| {
            assert_eq!(push.arrived_ms, 7);
            let seqs = push.deltas.iter().map(|delta| delta.seq.as_u64());
            let rules = push.moved.iter().map(|moved| moved.rules);
            (seqs.collect(), rules.collect())
        });
        let stored: Vec<(Vec<u64>, Vec<u64>)> = stored.collect();
        let expected = [
            (vec![11, 12], vec![11, 12]),
            (vec![15, 16], vec![15, 16]),
            (vec![101], vec![]),
        ];
        assert_eq!(stored, expected);
        assert_eq!(exchange.pushes[2].deltas[0].delta, delta(13).delta);
    }

    #[test]
    fn what_the_lakes_floor_has_let_go_is_not_accepted_again() {
        let push = StoredPush {
            arrived_ms: 7,
            deltas: (11..=16).map(delta).collect(),
            moved: Vec::new(),
        };
        let mut exchange = Exchange {
            floor: Hlc::new(14, 0).unwrap(),
            ..Exchange::default()
        };
        let found = LakeSeqs::from([(delta(12).delta.delta_id, HashSet::from([seq(12)]))]);
        assert_eq!(
            exchange.look_at(push, &found, (seq(15), seq(100))),
            seq(102)
        );
        assert_eq!(
            (exchange.below, exchange.moved),
            (2, 2),
            "11 and 13, 14 and 15"
        );
        let kept = exchange.pushes.iter().flat_map(|push| &push.deltas);
        let kept: Vec<u64> = kept.map(|delta| delta.seq.as_u64()).collect();
        assert_eq!(kept, [12, 16, 101, 102]);
    }

    #[test]
    fn a_push_that_stays_whole_is_not_written_again() {
        let push = StoredPush {
            arrived_ms: 7,
            deltas: vec![delta(11), delta(12)],
            moved: Vec::new(),
        };
        let mut exchange = Exchange::default();
        let end = exchange.look_at(push, &LakeSeqs::new(), (seq(10), seq(100)));
        assert_eq!(end, seq(100));
        assert!(exchange.firsts.is_empty() && exchange.pushes.is_empty());
    }
}
