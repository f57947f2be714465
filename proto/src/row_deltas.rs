//! A row's merged state as deltas again: what a checkpoint carries, so that a new client meets a late delta with the
//! same clocks as everybody else.
//!
//! Invariant: applying the deltas of a state, in any order, gives the state, with every stamp. Their delta ids are the
//! stamps' own and name no content: several deltas of one writer may have become one, so nobody computes them again.
//!
//! ```text
//! state                               deltas, ascending by stamp
//! x = 1 @ s1   y = 2 @ s1             s1  UPDATE x = 1, y = 2
//! z = 3 @ s3   deleted @ s2           s2  DELETE
//! written @ s4                        s3  UPDATE z = 3
//!                                     s4  INSERT (no columns)      the row exists since then
//! ```

use std::collections::BTreeMap;

use crate::delta::{ColumnChange, Op, RowDelta};
use crate::id::{RowId, TableName};
use crate::limits::ROW_DELTA_BYTES_MAX;
use crate::merge::{RowState, Stamp};

/// The deltas whose merge is `state`, ascending by stamp: one for each distinct stamp of a cell and for the newest
/// write, and one DELETE for the delete clock. The newest write of a row that exists is an INSERT, the others are
/// UPDATEs. A stamp with more than [`ROW_DELTA_BYTES_MAX`] bytes of values, as a wide settled row may have, makes
/// several deltas of that stamp.
///
/// It holds for every state that deltas can make: no cell is newer than the newest write.
pub fn row_deltas(table: &TableName, row_id: &RowId, state: &RowState) -> Vec<RowDelta> {
    let mut writes: BTreeMap<&Stamp, Vec<ColumnChange>> = BTreeMap::new();
    for (column, cell) in &state.cells {
        writes.entry(&cell.stamp).or_default().push(ColumnChange {
            column: column.clone(),
            value: cell.value.clone(),
        });
    }
    if let Some(written) = &state.written {
        writes.entry(written).or_default();
    }
    let newest = state.written.as_ref().filter(|_| state.exists());
    let delta = |stamp: &Stamp, op: Op, columns: Vec<ColumnChange>| RowDelta {
        op,
        table: table.clone(),
        row_id: row_id.clone(),
        client_id: stamp.client_id.clone(),
        columns,
        hlc: stamp.hlc,
        delta_id: stamp.delta_id,
    };
    let mut deltas = Vec::with_capacity(writes.len() + 1);
    let mut deleted = state.deleted.as_ref();
    for (stamp, columns) in writes {
        // Of a write and a DELETE with one stamp the DELETE stands last: it wins, also for who applies in order.
        if let Some(before) = deleted.take_if(|deleted| *deleted < stamp) {
            deltas.push(delta(before, Op::Delete, Vec::new()));
        }
        let mut op = match Some(stamp) == newest {
            true => Op::Insert,
            false => Op::Update,
        };
        for columns in portions(columns) {
            deltas.push(delta(stamp, op, columns));
            op = Op::Update;
        }
    }
    deltas.extend(deleted.map(|stamp| delta(stamp, Op::Delete, Vec::new())));
    deltas
}

/// Cuts the columns of one stamp; no columns are one portion.
fn portions(columns: Vec<ColumnChange>) -> Vec<Vec<ColumnChange>> {
    let mut portions = vec![Vec::new()];
    let mut bytes = 0;
    for change in columns {
        let more = change.value.bytes();
        let portion = portions.last_mut().expect("there is always one");
        if bytes + more > ROW_DELTA_BYTES_MAX && !portion.is_empty() {
            portions.push(vec![change]);
            bytes = more;
        } else {
            portion.push(change);
            bytes += more;
        }
    }
    portions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta_id::DeltaId;
    use crate::hlc::Hlc;
    use crate::id::ClientId;
    use crate::value::Value;

    fn table() -> TableName {
        TableName::parse("t").unwrap()
    }

    fn row() -> RowId {
        RowId::parse("r").unwrap()
    }

    fn stamp(hlc: u64, client: &str) -> Stamp {
        Stamp {
            hlc: Hlc::from_u64(hlc).unwrap(),
            client_id: ClientId::parse(client).unwrap(),
            delta_id: DeltaId::from_bytes([7; 32]),
        }
    }

    fn delta(op: Op, at: Stamp, cells: &[(&str, i64)]) -> RowDelta {
        let columns = cells.iter().map(|(name, value)| ColumnChange {
            column: name.parse().unwrap(),
            value: Value::Long(*value),
        });
        RowDelta {
            op,
            table: table(),
            row_id: row(),
            client_id: at.client_id.clone(),
            columns: columns.collect(),
            hlc: at.hlc,
            delta_id: at.delta_id,
        }
    }

    fn fold<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> RowState {
        let mut state = RowState::default();
        deltas.into_iter().for_each(|delta| state.apply(delta));
        state
    }

    fn ops(deltas: &[RowDelta]) -> Vec<(Op, u64, usize)> {
        let op = |delta: &RowDelta| (delta.op, delta.hlc.as_u64(), delta.columns.len());
        deltas.iter().map(op).collect()
    }

    #[test]
    fn one_delta_a_stamp_ascending_and_the_newest_is_the_insert() {
        let state = fold(&[
            delta(Op::Update, stamp(1, "a"), &[("x", 1), ("y", 2)]),
            delta(Op::Delete, stamp(2, "b"), &[]),
            delta(Op::Update, stamp(3, "a"), &[("z", 3)]),
            delta(Op::Update, stamp(4, "c"), &[]),
        ]);
        let deltas = row_deltas(&table(), &row(), &state);
        let expected = [
            (Op::Update, 1, 2),
            (Op::Delete, 2, 0),
            (Op::Update, 3, 1),
            (Op::Insert, 4, 0),
        ];
        assert_eq!(ops(&deltas), expected);
        assert_eq!(deltas[0].delta_id, DeltaId::from_bytes([7; 32]));
    }

    #[test]
    fn a_tombstone_is_one_delete_and_a_state_of_nothing_is_none() {
        let tombstone = fold(&[delta(Op::Delete, stamp(2, "b"), &[])]);
        assert_eq!(
            ops(&row_deltas(&table(), &row(), &tombstone)),
            [(Op::Delete, 2, 0)]
        );
        assert!(row_deltas(&table(), &row(), &RowState::default()).is_empty());
    }

    #[test]
    fn a_settled_row_loses_to_everything_that_can_still_come() {
        let settled = fold(&[delta(Op::Insert, Stamp::settled(), &[("x", 1)])]);
        let mut loaded = fold(&row_deltas(&table(), &row(), &settled));
        assert_eq!(loaded, settled);
        assert!(loaded.exists());
        loaded.apply(&delta(Op::Update, stamp(1, "a"), &[("x", 2)]));
        assert_eq!(
            loaded.visible(&"x".parse().unwrap()),
            Some(&Value::Long(2)),
            "the oldest acceptable write is newer"
        );
        loaded.apply(&delta(Op::Delete, stamp(2, "a"), &[]));
        assert!(!loaded.exists());
    }

    #[test]
    fn a_delete_with_the_stamp_of_a_write_stays_the_winner() {
        let both = [
            delta(Op::Delete, stamp(2, "b"), &[]),
            delta(Op::Insert, stamp(2, "b"), &[]),
        ];
        let deltas = row_deltas(&table(), &row(), &fold(&both));
        assert_eq!(ops(&deltas), [(Op::Update, 2, 0), (Op::Delete, 2, 0)]);
        assert_eq!(fold(&deltas), fold(&both));
    }

    #[test]
    fn a_wide_settled_row_becomes_several_deltas_of_one_stamp() {
        let third = "x".repeat(ROW_DELTA_BYTES_MAX / 3);
        let mut insert = delta(Op::Insert, Stamp::settled(), &[("n", 1)]);
        for name in ["a", "b", "c", "d"] {
            insert.columns.push(ColumnChange {
                column: name.parse().unwrap(),
                value: Value::from(third.as_str()),
            });
        }
        let state = fold(&[insert]);
        let deltas = row_deltas(&table(), &row(), &state);
        assert_eq!(
            ops(&deltas),
            [(Op::Insert, 0, 3), (Op::Update, 0, 2)],
            "three thirds fit, four do not"
        );
        assert_eq!(fold(deltas.iter().rev()), state);
    }

    fn any_delta() -> impl Strategy<Value = RowDelta> {
        let op = prop::sample::select(vec![Op::Insert, Op::Update, Op::Delete]);
        let at = (0..6_u64, prop::sample::select(vec!["a", "b"]));
        let cells = prop::collection::btree_map(
            prop::sample::select(vec!["x", "y", "z"]),
            any::<i64>(),
            0..3,
        );
        (op, at, any::<bool>(), cells).prop_map(|(op, (hlc, client), settled, cells)| {
            let at = match settled && hlc == 0 {
                true => Stamp::settled(),
                false => stamp(hlc, client),
            };
            let cells: Vec<_> = cells.into_iter().filter(|_| op != Op::Delete).collect();
            delta(op, at, &cells)
        })
    }

    proptest! {
        #[test]
        fn the_deltas_of_a_state_make_the_state(deltas in prop::collection::vec(any_delta(), 0..12)) {
            let state = fold(&deltas);
            let made = row_deltas(&table(), &row(), &state);
            prop_assert_eq!(&fold(&made), &state);
            prop_assert_eq!(&fold(made.iter().rev()), &state, "in any order");
            let cells = fold(&made);
            prop_assert_eq!(cells.exists(), state.exists());
            prop_assert!(cells.visible_cells().eq(state.visible_cells()));
            prop_assert!(made.windows(2).all(|two| two[0].stamp() <= two[1].stamp()), "ascending");
            let inserts = made.iter().filter(|delta| delta.op == Op::Insert).count();
            prop_assert_eq!(inserts, usize::from(state.exists()));
        }
    }
}
