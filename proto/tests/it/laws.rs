//! The laws of the merge rule, and the order of stamps.

use lakesync_proto::{ClientId, DeltaId, DeltaKey, Hlc, Op, RowDelta, RowState, Stamp, Value};
use proptest::prelude::*;

use crate::samples::{change, column, key};

/// Deltas of one row that collide as often as possible: few clocks, clients and columns.
fn histories() -> impl Strategy<Value = Vec<RowDelta>> {
    let value = prop_oneof![Just(Value::Null), (0..3_i64).prop_map(Value::Long)];
    let columns = prop::collection::btree_map(prop::sample::select(vec!["x", "y"]), value, 0..3);
    let op = prop::sample::select(vec![Op::Insert, Op::Update, Op::Update, Op::Delete]);
    let delta = (
        op,
        1..5_u64,
        prop::sample::select(vec!["a", "b", "ab"]),
        columns,
    );
    let delta = delta.prop_map(|(op, hlc, client, columns)| {
        let columns = columns.into_iter().filter(|_| op != Op::Delete);
        let columns = columns.map(|(name, value)| change(name, value)).collect();
        RowDelta::new(op, key("t", "r", client, hlc), columns)
    });
    prop::collection::vec(delta, 0..10)
}

fn merged<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> RowState {
    let mut state = RowState::default();
    deltas.into_iter().for_each(|delta| state.apply(delta));
    state
}

fn join(mut a: RowState, b: &RowState) -> RowState {
    a.merge(b.clone());
    a
}

/// The rule of DESIGN section 2, read aloud: no clocks are kept, every question looks at all deltas.
fn visible_by_the_book<'a>(deltas: &'a [RowDelta], name: &str) -> Option<&'a Value> {
    let deleted = deltas
        .iter()
        .filter(|delta| delta.op == Op::Delete)
        .map(RowDelta::stamp)
        .max();
    let writes = deltas
        .iter()
        .filter(|delta| delta.op != Op::Delete && Some(delta.stamp()) > deleted);
    let writes = writes.filter_map(|delta| {
        let change = delta.columns.iter().find(|change| change.column == name)?;
        Some((delta.stamp(), &change.value))
    });
    writes.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, value)| value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_order_duplication_and_batching_gives_the_same_state(
        deltas in histories(),
        order in any::<prop::sample::Index>(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let expected = merged(&deltas);
        let mut shuffled = deltas.clone();
        if !deltas.is_empty() {
            shuffled.rotate_left(order.index(deltas.len()));
            shuffled.extend(again.iter().map(|index| deltas[index.index(deltas.len())].clone()));
            shuffled.reverse();
        }
        prop_assert_eq!(&merged(&shuffled), &expected);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(shuffled.len() + 1)).collect();
        cuts.extend([0, shuffled.len()]);
        cuts.sort_unstable();
        let batches = cuts.windows(2).map(|ends| merged(&shuffled[ends[0]..ends[1]]));
        prop_assert_eq!(batches.fold(RowState::default(), |a, b| join(a, &b)), expected);
    }

    #[test]
    fn merge_is_commutative_associative_and_idempotent(a in histories(), b in histories(), c in histories()) {
        let (a, b, c) = (merged(&a), merged(&b), merged(&c));
        prop_assert_eq!(join(a.clone(), &b), join(b.clone(), &a));
        prop_assert_eq!(join(join(a.clone(), &b), &c), join(a.clone(), &join(b.clone(), &c)));
        prop_assert_eq!(join(a.clone(), &a), a.clone());
        prop_assert_eq!(join(a.clone(), &RowState::default()), a);
    }

    #[test]
    fn what_shows_is_what_the_rule_says(deltas in histories()) {
        let state = merged(&deltas);
        for name in ["x", "y"] {
            prop_assert_eq!(state.visible(&column(name)), visible_by_the_book(&deltas, name));
        }
        let deleted = deltas.iter().filter(|delta| delta.op == Op::Delete).map(RowDelta::stamp).max();
        let exists = deltas.iter().any(|delta| delta.op != Op::Delete && Some(delta.stamp()) > deleted);
        prop_assert_eq!(state.exists(), exists);
        let shown: Vec<_> = state.visible_cells().map(|(name, cell)| (name, Some(&cell.value))).collect();
        prop_assert!(shown.iter().all(|(name, value)| state.visible(name) == *value));
        prop_assert!(exists || shown.is_empty());
    }

    #[test]
    fn the_bytes_of_a_stamp_sort_like_the_stamp(a in stamp(), b in stamp()) {
        prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
        prop_assert_eq!(Stamp::from_bytes(&a.to_bytes()).unwrap(), a);
    }

    #[test]
    fn no_bytes_make_a_stamp_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(stamp) = Stamp::from_bytes(&bytes) {
            prop_assert_eq!(stamp.to_bytes(), bytes);
        }
    }
}

fn stamp() -> impl Strategy<Value = Stamp> {
    let hlc =
        prop_oneof![0..3_u64, 0..=i64::MAX as u64].prop_map(|hlc| Hlc::from_u64(hlc).unwrap());
    let client = prop_oneof!["[ abé\u{ff5e}😀]{1,3}", "[^\\p{Cc}]{1,5}"]
        .prop_map(|text| ClientId::parse(&text).unwrap());
    let id = prop_oneof![(0..3_u8).prop_map(|byte| [byte; 32]), any::<[u8; 32]>()]
        .prop_map(DeltaId::from_bytes);
    (hlc, client, id).prop_map(|(hlc, client_id, delta_id)| Stamp {
        hlc,
        client_id,
        delta_id,
    })
}

fn write(client: &str, hlc: u64, op: Op, columns: &[(&str, Value)]) -> RowDelta {
    let columns = columns
        .iter()
        .map(|(name, value)| change(name, value.clone()))
        .collect();
    RowDelta::new(op, key("t", "r", client, hlc), columns)
}

#[test]
fn equal_clocks_are_decided_by_client_bytes_then_delta_id() {
    // Beyond U+FFFF bytes and UTF-16 order differ; bytes decide.
    let (low, high) = ("\u{ff5e}", "😀");
    let tie = [
        write(high, 1, Op::Update, &[("x", Value::Long(1))]),
        write(low, 1, Op::Update, &[("x", Value::Long(2))]),
    ];
    for state in [merged(&tie), merged(tie.iter().rev())] {
        assert_eq!(state.visible(&column("x")), Some(&Value::Long(1)));
    }
    let (a, b) = (
        write("a", 1, Op::Update, &[("x", Value::Long(1))]),
        write("a", 1, Op::Update, &[("x", Value::Long(2))]),
    );
    let winner = if a.delta_id > b.delta_id { &a } else { &b };
    for state in [merged([&a, &b]), merged([&b, &a])] {
        assert_eq!(state.visible(&column("x")), Some(&winner.columns[0].value));
    }
}

#[test]
fn the_lost_column_edit_of_the_old_gateway_is_kept() {
    // A sets x at 1, B sets y at 3, C sets x at 2: x is C's.
    let state = merged(&[
        write("a", 1, Op::Update, &[("x", Value::Long(1))]),
        write("b", 3, Op::Update, &[("y", Value::Long(3))]),
        write("c", 2, Op::Update, &[("x", Value::Long(2))]),
    ]);
    assert_eq!(state.visible(&column("x")), Some(&Value::Long(2)));
}

#[test]
fn an_explicit_null_is_a_value_and_absent_is_not() {
    let state = merged(&[
        write(
            "a",
            1,
            Op::Insert,
            &[("x", Value::Long(1)), ("y", Value::Long(1))],
        ),
        write("a", 2, Op::Update, &[("x", Value::Null)]),
    ]);
    assert_eq!(state.visible(&column("x")), Some(&Value::Null));
    assert_eq!(state.visible(&column("y")), Some(&Value::Long(1)));
    assert_eq!(state.visible(&column("z")), None);
}

#[test]
fn a_revived_row_shows_only_what_was_written_after_the_delete() {
    let deltas = [
        write(
            "a",
            1,
            Op::Insert,
            &[("x", Value::Long(1)), ("y", Value::Long(1))],
        ),
        write("b", 5, Op::Delete, &[]),
        write("c", 6, Op::Update, &[("y", Value::Long(6))]),
        write("d", 4, Op::Update, &[("x", Value::Long(4))]),
    ];
    let state = merged(&deltas);
    assert!(state.exists());
    assert_eq!(state.visible(&column("x")), None);
    assert_eq!(state.visible(&column("y")), Some(&Value::Long(6)));
    assert!(!merged(&deltas[..2]).exists());
    // The same clock: the greater client wins, whatever it does.
    let tie = [
        write("a", 7, Op::Delete, &[]),
        write("b", 7, Op::Update, &[("x", Value::Null)]),
    ];
    assert!(merged(&tie).exists());
}

#[test]
fn a_row_of_no_columns_exists() {
    let state = merged(&[write("a", 1, Op::Insert, &[])]);
    assert!(state.exists() && state.visible_cells().next().is_none());
    assert!(!RowState::default().exists());
}

#[test]
fn a_delete_and_an_empty_insert_of_one_stamp_delete() {
    // They have the same delta id, so the gateway refuses the second; the rule still gives one answer.
    let DeltaKey { hlc, .. } = key("t", "r", "a", 1);
    let both = [
        write("a", hlc.as_u64(), Op::Insert, &[]),
        write("a", hlc.as_u64(), Op::Delete, &[]),
    ];
    assert_eq!(both[0].delta_id, both[1].delta_id);
    assert!(!merged(&both).exists() && !merged(both.iter().rev()).exists());
}
