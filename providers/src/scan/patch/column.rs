//! The decided cells of one column of one file, and how they are written over a freshly decoded batch.
//!
//! A column of fixed width is taken back from the reader, which holds it no longer, and written in place: that costs as
//! much as there are decided cells, whatever the batch is long. A column of texts is copied, run by run, where a batch has
//! a decided cell.
//!
//! **Invariant:** cells that are not decided leave as they came.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray as _, BooleanArray, BooleanBufferBuilder,
    MutableArrayData, PrimitiveArray, downcast_primitive, make_array,
};
use arrow::buffer::{MutableBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use datafusion::common::Result;

use super::kept::Stretch;
use super::wide;

/// The decided cells of one column of one file.
#[derive(Clone, Debug)]
pub(super) struct ColumnPatch {
    /// Where they are, ascending.
    positions: Arc<[u32]>,
    values: Values,
}

/// The values, in the order of the positions.
#[derive(Clone, Debug)]
enum Values {
    /// One array: of fixed width, so that it takes less than the overlay does.
    Together(ArrayRef),
    /// Left where they are: together, texts could be more than 32 bits count.
    Apart(Arc<[ArrayRef]>, Arc<[(usize, usize)]>),
}

impl ColumnPatch {
    /// The cells `at` (which array, which row of it) of `arrays`, for these positions.
    ///
    /// # Errors
    /// Those of Arrow.
    pub(super) fn new(
        positions: Vec<u32>,
        arrays: Vec<ArrayRef>,
        at: Vec<(usize, usize)>,
    ) -> Result<Self> {
        let fixed = arrays.first().is_none_or(|array| fixed(array.data_type()));
        let values = if fixed && !at.is_empty() {
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            Values::Together(interleave(&arrays, &at)?)
        } else {
            Values::Apart(arrays.into(), at.into())
        };
        Ok(Self {
            positions: positions.into(),
            values,
        })
    }

    /// Adds to `edits` where in a batch the cells of a stretch of the file go.
    pub(super) fn edits(&self, edits: &mut Vec<Edit>, stretch: &Stretch) {
        let Range { start, end } = stretch.positions;
        let first = self.positions.partition_point(|at| *at < start);
        let cells = self.positions[first..].iter();
        let cells = cells.take_while(|at| **at < end);
        edits.extend(cells.zip(first..).map(|(at, cell)| Edit {
            row: stretch.offset + wide(*at - start),
            cell,
        }));
    }

    /// The most bytes of text that the array may have with these of the cells in it; 0 for other columns.
    pub(super) fn text_bytes(&self, array: &ArrayRef, edits: &[Edit]) -> usize {
        let (Values::Apart(arrays, at), DataType::Utf8) = (&self.values, array.data_type()) else {
            return 0;
        };
        let texts: Vec<_> = arrays
            .iter()
            .map(|array| array.as_string::<i32>())
            .collect();
        let new = edits.iter().map(|edit| {
            let (array, row) = at[edit.cell];
            texts[array].value(row).len()
        });
        let old = array.as_string::<i32>().value_offsets();
        let old = old
            .last()
            .zip(old.first())
            .map_or(0, |(last, first)| last - first);
        usize::try_from(old).unwrap_or(0) + new.sum::<usize>()
    }

    /// The array with these of the cells in it. `edits` are ascending.
    ///
    /// # Errors
    /// Those of Arrow.
    pub(super) fn write(&self, array: ArrayRef, edits: &[Edit]) -> Result<ArrayRef> {
        if edits.is_empty() {
            return Ok(array);
        }
        match &self.values {
            Values::Together(values) => write(array, edits, values),
            Values::Apart(arrays, at) => {
                let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                let cells: Vec<_> = edits.iter().map(|edit| at[edit.cell]).collect();
                let values = interleave(&arrays, &cells)?;
                let edits = edits.iter().zip(0..);
                let edits: Vec<Edit> = edits
                    .map(|(Edit { row, .. }, cell)| Edit { row: *row, cell })
                    .collect();
                write(array, &edits, &values)
            }
        }
    }
}

/// One cell of a batch to be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// Which row of the batch.
    pub(super) row: usize,
    /// Which of the patch's cells.
    pub(super) cell: usize,
}

fn fixed(data_type: &DataType) -> bool {
    data_type.is_primitive() || *data_type == DataType::Boolean
}

fn write(array: ArrayRef, edits: &[Edit], values: &ArrayRef) -> Result<ArrayRef> {
    macro_rules! in_place {
        ($t:ty) => {
            primitive::<$t>(array, edits, values.as_primitive::<$t>())
        };
    }
    if array.data_type() != values.data_type() {
        return copied(&array, edits, values);
    }
    downcast_primitive! {
        array.data_type() => (in_place),
        DataType::Boolean => Ok(boolean(array.as_boolean(), edits, values.as_boolean())),
        _ => copied(&array, edits, values),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    array: ArrayRef,
    edits: &[Edit],
    values: &PrimitiveArray<T>,
) -> Result<ArrayRef> {
    let owned = array.as_primitive::<T>().clone();
    drop(array);
    let (data_type, cells, nulls) = owned.into_parts();
    let rows = cells.len();
    let nulls = validity(nulls, rows, edits, values.nulls());
    let mut cells = cells.into_inner().into_mutable().unwrap_or_else(|shared| {
        // Somebody else holds it still, as none of DataFusion's readers does: a copy is right too.
        let mut copy = MutableBuffer::with_capacity(shared.len());
        copy.extend_from_slice(shared.as_slice());
        copy
    });
    let written = cells.typed_data_mut::<T::Native>();
    for edit in edits {
        written[edit.row] = values.value(edit.cell);
    }
    let cells = ScalarBuffer::new(cells.into(), 0, rows);
    let array = PrimitiveArray::<T>::try_new(cells, nulls)?;
    Ok(Arc::new(array.with_data_type(data_type)))
}

fn boolean(array: &BooleanArray, edits: &[Edit], values: &BooleanArray) -> ArrayRef {
    let nulls = validity(array.nulls().cloned(), array.len(), edits, values.nulls());
    let mut bits = BooleanBufferBuilder::new(array.len());
    bits.append_buffer(array.values());
    for edit in edits {
        bits.set_bit(edit.row, values.value(edit.cell));
    }
    Arc::new(BooleanArray::new(bits.finish(), nulls))
}

/// Which rows hold a value after the edits: a bit a row, so a copy of them is little.
fn validity(
    nulls: Option<NullBuffer>,
    rows: usize,
    edits: &[Edit],
    values: Option<&NullBuffer>,
) -> Option<NullBuffer> {
    let given = |edit: &Edit| values.is_none_or(|values| values.is_valid(edit.cell));
    if nulls.is_none() && edits.iter().all(given) {
        return None;
    }
    let mut bits = BooleanBufferBuilder::new(rows);
    match &nulls {
        Some(nulls) => bits.append_buffer(nulls.inner()),
        None => bits.append_n(rows, true),
    }
    for edit in edits {
        bits.set_bit(edit.row, given(edit));
    }
    Some(NullBuffer::new(bits.finish()))
}

/// A new array: runs of `array` between the edits, and a value for each of these.
fn copied(array: &ArrayRef, edits: &[Edit], values: &ArrayRef) -> Result<ArrayRef> {
    let values = match values.data_type() == array.data_type() {
        true => Arc::clone(values),
        false => arrow::compute::cast(values, array.data_type())?,
    };
    let (old, new) = (array.to_data(), values.to_data());
    let mut made = MutableArrayData::new(vec![&old, &new], false, array.len());
    let mut next = 0;
    for edit in edits {
        made.extend(0, next, edit.row);
        made.extend(1, edit.cell, edit.cell + 1);
        next = edit.row + 1;
    }
    made.extend(0, next, array.len());
    Ok(make_array(made.freeze()))
}
