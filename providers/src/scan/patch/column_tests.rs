//! Cells written over arrays of every type, against a plain list of values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, LargeBinaryArray, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;

use super::column::{ColumnPatch, Edit};
use super::kept::Stretch;

fn values(array: &ArrayRef) -> Vec<ScalarValue> {
    let rows = 0..array.len();
    rows.map(|row| ScalarValue::try_from_array(array, row).unwrap())
        .collect()
}

/// An array of each type, once with nulls and once without, with the rows `from ..`.
fn arrays(from: i64) -> Vec<ArrayRef> {
    let numbers = from..from + 40;
    let some = |n: i64| (n % 4 != 1).then_some(n);
    let text = |n: i64| "ä".repeat(usize::try_from(n % 7).unwrap());
    let day = |n: i64| i32::try_from(n).unwrap();
    let decimals = |array: Decimal128Array| array.with_precision_and_scale(20, 4).unwrap();
    vec![
        Arc::new(Int64Array::from_iter_values(numbers.clone())),
        Arc::new(numbers.clone().map(some).collect::<Int64Array>()),
        Arc::new(
            numbers
                .clone()
                .map(|n| some(n).map(|n| day(n).into()))
                .collect::<Float64Array>(),
        ),
        Arc::new(
            numbers
                .clone()
                .map(|n| Some(n % 3 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new(
            numbers
                .clone()
                .map(|n| some(n).map(|n| n % 3 == 0))
                .collect::<BooleanArray>(),
        ),
        Arc::new(
            numbers
                .clone()
                .map(|n| some(n).map(day))
                .collect::<Date32Array>(),
        ),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(numbers.clone()).with_timezone("+00:00"),
        ),
        Arc::new(decimals(
            numbers.clone().map(|n| some(n).map(i128::from)).collect(),
        )),
        Arc::new(
            numbers
                .clone()
                .map(|n| Some(text(n)))
                .collect::<StringArray>(),
        ),
        Arc::new(
            numbers
                .clone()
                .map(|n| some(n).map(text))
                .collect::<StringArray>(),
        ),
        Arc::new(
            numbers
                .map(|n| some(n).map(|n| vec![7; usize::try_from(n % 5).unwrap()]))
                .collect::<LargeBinaryArray>(),
        ),
    ]
}

/// The rows that are overwritten: first and last, neighbours, none, all.
const SETS: [&[usize]; 5] = [
    &[0],
    &[39],
    &[3, 4, 5, 17, 39],
    &[],
    &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
];

#[test]
fn decided_cells_are_replaced_and_no_other_is() {
    for (kind, news) in arrays(1_000).into_iter().enumerate() {
        for olds in arrays(0)
            .into_iter()
            .filter(|olds| olds.data_type() == news.data_type())
        {
            for set in SETS {
                let at: Vec<(usize, usize)> = set.iter().map(|row| (row % 2, 39 - row)).collect();
                let positions = set.iter().map(|row| u32::try_from(row + 100).unwrap());
                let chunks = vec![Arc::clone(&news), news.slice(0, 40)];
                let patch = ColumnPatch::new(positions.collect(), chunks, at.clone()).unwrap();
                let mut edits = Vec::new();
                let stretch = Stretch {
                    offset: 0,
                    positions: 100..140,
                };
                patch.edits(&mut edits, &stretch);
                let mut expected = values(&olds);
                for (row, (_, from)) in set.iter().zip(&at) {
                    expected[*row] = ScalarValue::try_from_array(&news, *from).unwrap();
                }
                for array in [
                    Arc::clone(&olds),
                    arrow::compute::concat(&[&olds]).unwrap(),
                    olds.slice(0, 40),
                ] {
                    let written = patch.write(array, &edits).unwrap();
                    assert_eq!(values(&written), expected, "{kind}: {set:?}");
                    assert_eq!(written.data_type(), olds.data_type());
                }
                assert_eq!(olds.len(), 40, "what others hold stays as it was");
            }
        }
    }
}

#[test]
fn an_array_that_others_hold_is_not_changed_under_them() {
    let patch = ColumnPatch::new(
        vec![2],
        vec![Arc::new(Int64Array::from(vec![9]))],
        vec![(0, 0)],
    );
    let patch = patch.unwrap();
    let edits = [Edit { row: 2, cell: 0 }];
    let held: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let written = patch.write(Arc::clone(&held), &edits).unwrap();
    assert_eq!(written.as_primitive::<Int64Type>().values(), &[1, 2, 9, 4]);
    assert_eq!(held.as_primitive::<Int64Type>().values(), &[1, 2, 3, 4]);
}

#[test]
fn a_column_of_fixed_width_that_nobody_holds_is_written_in_place() {
    let patch = ColumnPatch::new(
        vec![2],
        vec![Arc::new(Int64Array::from(vec![9]))],
        vec![(0, 0)],
    );
    let patch = patch.unwrap();
    let array: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let place = array.as_primitive::<Int64Type>().values().as_ptr();
    let written = patch.write(array, &[Edit { row: 2, cell: 0 }]).unwrap();
    let written = written.as_primitive::<Int64Type>();
    assert_eq!(written.values().as_ptr(), place);
    assert_eq!(written.values(), &[1, 2, 9, 4]);
}

#[test]
fn only_the_cells_of_a_stretch_are_written() {
    let cells = Arc::new(Int64Array::from(vec![10, 20, 30]));
    let patch = ColumnPatch::new(vec![5, 8, 12], vec![cells], vec![(0, 0), (0, 1), (0, 2)]);
    let mut edits = Vec::new();
    for (offset, positions) in [(0, 8..9), (1, 10..12), (3, 12..13)] {
        patch
            .as_ref()
            .unwrap()
            .edits(&mut edits, &Stretch { offset, positions });
    }
    assert_eq!(edits, [Edit { row: 0, cell: 1 }, Edit { row: 3, cell: 2 }]);
}
