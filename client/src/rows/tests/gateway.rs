//! A gateway in a few lines: a log as one client hears it, and the merge of all that was accepted.
//!
//! Invariant: nothing stamped below the floor is accepted, so what is settled is older than whatever comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{
    Hlc, PullPage, Removed, RowDelta, RowId, RowState, Seq, SeqDelta, Stamp, TableName, Value,
    page_checksum, row_deltas,
};

use super::seq;
use super::world::{cursor, page};
use crate::dice::Dice;

pub(super) type Row = (TableName, RowId);

/// What one seq tells this client.
#[derive(Debug, Clone)]
pub(super) enum Told {
    /// The rules hide it.
    Nothing,
    /// A delta, or a row whole.
    Deltas(Vec<RowDelta>),
    /// A row that left.
    Removed(Row),
}

#[derive(Default)]
pub(super) struct Gateway {
    /// Seq 1 is the first.
    pub(super) log: Vec<Told>,
    pub(super) merged: BTreeMap<Row, RowState>,
    accepted: BTreeSet<[u8; 32]>,
    /// Rows that the client does not see.
    pub(super) hidden: BTreeSet<Row>,
    pub(super) floor: Hlc,
}

impl Gateway {
    pub(super) fn end(&self) -> Seq {
        seq(u64::try_from(self.log.len()).unwrap())
    }

    /// Takes a delta; none when it is too late.
    pub(super) fn accept(&mut self, delta: &RowDelta) -> Option<Seq> {
        let row = (delta.table.clone(), delta.row_id.clone());
        if delta.hlc < self.floor {
            return None;
        }
        assert!(self.accepted.insert(*delta.delta_id.as_bytes()));
        self.merged.entry(row.clone()).or_default().apply(delta);
        self.log.push(match self.hidden.contains(&row) {
            true => Told::Nothing,
            false => Told::Deltas(vec![delta.clone()]),
        });
        Some(self.end())
    }

    /// A row leaves the client's sight.
    pub(super) fn hide(&mut self, row: Row) {
        if self.hidden.insert(row.clone()) {
            self.log.push(Told::Removed(row));
        }
    }

    /// A row comes into the client's sight, whole.
    pub(super) fn show(&mut self, row: &Row) {
        if self.hidden.remove(row) {
            let whole = self.whole(row);
            self.log.push(Told::Deltas(whole));
        }
    }

    /// A row as deltas, without the clocks below the floor.
    fn whole(&self, row: &Row) -> Vec<RowDelta> {
        let mut state = self.merged.get(row).cloned().unwrap_or_default();
        let old = |stamp: &Stamp| stamp.hlc < self.floor;
        if !state.exists() {
            state.written = None;
        }
        let deleted = state.deleted.clone();
        state
            .cells
            .retain(|_, cell| deleted.as_ref().is_none_or(|deleted| cell.stamp > *deleted));
        state.deleted.take_if(|stamp| old(stamp));
        if state.written.as_ref().is_some_and(old) {
            state.written = Some(Stamp::settled());
        }
        for cell in state.cells.values_mut() {
            if old(&cell.stamp) {
                cell.stamp = Stamp::settled();
            }
        }
        let mut deltas = row_deltas(&row.0, &row.1, &state);
        // A row may be cut anywhere.
        if let Some(at) = deltas.iter().position(|delta| delta.columns.len() > 1) {
            let mut rest = deltas[at].clone();
            deltas[at].columns.truncate(1);
            rest.columns.remove(0);
            rest.op = lakesync_proto::Op::Update;
            deltas.insert(at + 1, rest);
        }
        deltas
    }

    /// The page behind a seq, of so many seqs; and some of what was told before once more.
    pub(super) fn page(&self, rng: &mut Dice, since: Seq, limit: u64) -> PullPage {
        let to = self.end().as_u64().min(since.as_u64() + limit);
        let mut sent = page(&[], &[], to);
        for number in since.as_u64() + 1..=to {
            match &self.log[usize::try_from(number - 1).unwrap()] {
                Told::Nothing => {}
                Told::Deltas(deltas) => sent.deltas.extend(deltas.iter().map(|delta| {
                    Arc::new(SeqDelta {
                        seq: seq(number),
                        delta: delta.clone(),
                    })
                })),
                Told::Removed((table, row_id)) => sent.removed.push(Removed {
                    seq: seq(number),
                    table: table.clone(),
                    row_id: row_id.clone(),
                }),
            }
        }
        sent.has_more = to < self.end().as_u64();
        let twice: Vec<_> = sent
            .deltas
            .iter()
            .filter(|_| rng.one_in(8))
            .cloned()
            .collect();
        for delta in twice {
            let place = sent.deltas.partition_point(|other| other.seq <= delta.seq);
            sent.deltas.insert(place, delta);
        }
        sent.notes.checksum = Some(page_checksum(&sent));
        sent
    }

    /// The rows that the client sees, in chunks of so many deltas.
    pub(super) fn checkpoint(&self, size: usize) -> Vec<PullPage> {
        let at = self.end();
        let seen = self.merged.keys().filter(|row| !self.hidden.contains(row));
        let deltas: Vec<RowDelta> = seen.flat_map(|row| self.whole(row)).collect();
        let mut chunks: Vec<&[RowDelta]> = deltas.chunks(size).collect();
        chunks.push(&[]);
        let last = chunks.len() - 1;
        let chunk = |(number, deltas): (usize, &[RowDelta])| {
            let deltas: Vec<(u64, RowDelta)> = deltas
                .iter()
                .map(|delta| (at.as_u64(), delta.clone()))
                .collect();
            let mut chunk = page(&deltas, &[], at.as_u64());
            chunk.has_more = number < last;
            chunk.notes.next = (number == last).then(|| cursor(at));
            chunk.notes.resume = Some(number.to_string());
            chunk
        };
        chunks.into_iter().enumerate().map(chunk).collect()
    }

    /// What the client must show in the end.
    pub(super) fn seen(&self) -> super::world::Shown {
        let rows = self.merged.iter();
        let rows = rows.filter(|(row, state)| state.exists() && !self.hidden.contains(row));
        rows.map(|(row, state)| {
            let cells = state.visible_cells();
            let cells = cells.filter(|(_, cell)| cell.value != Value::Null);
            let cells = cells.map(|(name, cell)| (name.clone(), cell.value.clone()));
            (row.clone(), cells.collect())
        })
        .collect()
    }
}
