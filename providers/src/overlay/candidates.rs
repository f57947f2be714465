//! The hot deltas of one row, as the overlay keeps them between refreshes.
//!
//! **Invariant:** [`Candidates::state`] is the merge of all deltas that were added. A row that is written again and
//! again costs a fold of [`DELTAS_MAX`] deltas at most.

use std::sync::Arc;

use lakesync_proto::{Hlc, RowState, SeqDelta};

/// How many deltas of a row are kept by themselves: they are shared with the view, so each costs a pointer. The merged
/// state of more is smaller than they are.
const DELTAS_MAX: usize = 16;

/// What is known of one row above the base.
#[derive(Clone, Debug)]
pub(super) enum Candidates {
    /// One delta: most rows have no more.
    One(Arc<SeqDelta>),
    /// A few deltas.
    Few(Arc<[Arc<SeqDelta>]>),
    /// Many, merged.
    Merged(Arc<RowState>),
}

impl Candidates {
    /// Of a row's first deltas; there is one at least.
    pub(super) fn new(deltas: &[Arc<SeqDelta>]) -> Self {
        match deltas {
            [one] => Self::One(Arc::clone(one)),
            few if few.len() <= DELTAS_MAX => Self::Few(few.into()),
            many => Self::Merged(Arc::new(merged(RowState::default(), many))),
        }
    }

    /// With more deltas of the row.
    pub(super) fn with(&self, more: &[Arc<SeqDelta>]) -> Self {
        let known = match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Few(few) => few,
            Self::Merged(state) => {
                return Self::Merged(Arc::new(merged(RowState::clone(state), more)));
            }
        };
        let all: Vec<_> = known.iter().chain(more).map(Arc::clone).collect();
        Self::new(&all)
    }

    /// The merge of all of them.
    pub(super) fn state(&self) -> RowState {
        match self {
            Self::One(one) => merged(RowState::default(), std::slice::from_ref(one)),
            Self::Few(few) => merged(RowState::default(), few),
            Self::Merged(state) => RowState::clone(state),
        }
    }

    /// The least stamp that can still decide something.
    pub(super) fn oldest(&self) -> Option<Hlc> {
        match self {
            Self::One(one) => Some(one.delta.hlc),
            Self::Few(few) => few.iter().map(|delta| delta.delta.hlc).min(),
            Self::Merged(state) => {
                let cells = state.cells.values().map(|cell| &cell.stamp);
                let rows = state.deleted.iter().chain(&state.written);
                cells.chain(rows).map(|stamp| stamp.hlc).min()
            }
        }
    }

    /// The merge of those that are stamped above `hlc`.
    pub(super) fn state_above(&self, hlc: Hlc) -> RowState {
        let mut state = self.state();
        // What is above in the merge of all is the merge of what is above: a greatest stamp is one of them or below.
        state.cells.retain(|_, cell| cell.stamp.hlc > hlc);
        state.deleted.take_if(|stamp| stamp.hlc <= hlc);
        state.written.take_if(|stamp| stamp.hlc <= hlc);
        state
    }
}

fn merged(mut state: RowState, deltas: &[Arc<SeqDelta>]) -> RowState {
    deltas.iter().for_each(|delta| state.apply(&delta.delta));
    state
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{
        ClientId, ColumnChange, ColumnName, DeltaKey, Op, RowDelta, RowId, Seq, TableName, Value,
    };

    use super::*;

    fn delta(number: u64) -> Arc<SeqDelta> {
        let key = DeltaKey {
            table: TableName::parse("t").unwrap(),
            row_id: RowId::parse("r").unwrap(),
            client_id: ClientId::parse("c").unwrap(),
            // Neither ascending nor without repetition.
            hlc: Hlc::new(1 + number * 7 % 23, 0).unwrap(),
        };
        let change = ColumnChange {
            column: ColumnName::parse(&format!("c{}", number % 3)).unwrap(),
            value: Value::Long(i64::try_from(number).unwrap()),
        };
        let delta = match number % 5 {
            4 => RowDelta::new(Op::Delete, key, Vec::new()),
            _ => RowDelta::new(Op::Update, key, vec![change]),
        };
        let seq = Seq::from_u64(number).unwrap();
        Arc::new(SeqDelta { seq, delta })
    }

    #[test]
    fn however_many_deltas_come_in_whatever_steps_the_state_is_their_merge() {
        for step in [1, 2, 7, 40] {
            let all: Vec<_> = (1..=40).map(delta).collect();
            let mut parts = all.chunks(step);
            let mut candidates = Candidates::new(parts.next().unwrap());
            let mut known = step;
            loop {
                let upto = &all[..known.min(all.len())];
                assert_eq!(candidates.state(), merged(RowState::default(), upto));
                for hlc in [0, 1, 11, 12, 22, 30] {
                    let hlc = Hlc::new(hlc, 0).unwrap();
                    let above: Vec<_> = upto.iter().filter(|d| d.delta.hlc > hlc).collect();
                    let above: Vec<_> = above.into_iter().map(Arc::clone).collect();
                    let expected = merged(RowState::default(), &above);
                    assert_eq!(candidates.state_above(hlc), expected, "{known} above {hlc}");
                }
                let Some(more) = parts.next() else { break };
                candidates = candidates.with(more);
                known += step;
            }
            let merged = matches!(candidates, Candidates::Merged(_));
            assert!(merged, "forty deltas are more than are kept");
        }
    }
}
