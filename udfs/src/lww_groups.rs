//! `lww` over many groups at once: the form that `GROUP BY` runs.
//!
//! **Invariant:** the same rule as the accumulator of one group (`lww`): per group the write with the greatest stamp.

use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, new_empty_array,
};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use crate::argument::as_type;

/// The winners so far, by group: an empty stamp means that no write was seen.
#[derive(Debug)]
pub(crate) struct LwwGroups {
    data_type: DataType,
    none: ScalarValue,
    stamps: Vec<Box<[u8]>>,
    values: Vec<ScalarValue>,
    /// Bytes that stamps and values hold beyond their places in the vectors.
    heap_bytes: usize,
}

impl LwwGroups {
    pub(crate) fn new(data_type: DataType) -> Result<Self> {
        Ok(Self {
            none: ScalarValue::try_from(&data_type)?,
            data_type,
            stamps: Vec::new(),
            values: Vec::new(),
            heap_bytes: 0,
        })
    }

    fn fold(
        &mut self,
        (values, stamps): (&ArrayRef, &ArrayRef),
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let fresh = total.saturating_sub(self.values.len());
        self.heap_bytes += fresh * heap_of(&self.none);
        self.stamps
            .resize(self.stamps.len() + fresh, Box::default());
        self.values
            .resize(self.values.len() + fresh, self.none.clone());
        let stamps = as_type(stamps, &DataType::Binary)?;
        let stamps = stamps.as_binary::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if counts && !stamps.is_null(row) && stamps.value(row) > self.stamps[group].as_ref() {
                self.take(group, stamps.value(row), values, row)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, group: usize, stamp: &[u8], values: &ArrayRef, row: usize) -> Result<()> {
        let mut value = ScalarValue::try_from_array(values, row)?;
        value.compact();
        self.heap_bytes -= self.stamps[group].len() + heap_of(&self.values[group]);
        self.heap_bytes += stamp.len() + heap_of(&value);
        self.stamps[group] = stamp.into();
        self.values[group] = value;
        Ok(())
    }

    /// Takes out the groups to emit: their stamps and values.
    fn emit(&mut self, emit_to: EmitTo) -> Result<(BinaryArray, ArrayRef)> {
        let stamps = emit_to.take_needed(&mut self.stamps);
        let values = emit_to.take_needed(&mut self.values);
        let freed = stamps.iter().map(|stamp| stamp.len()).sum::<usize>();
        self.heap_bytes -= freed + values.iter().map(heap_of).sum::<usize>();
        let mut keys = BinaryBuilder::with_capacity(stamps.len(), stamps.len() * 64);
        for stamp in &stamps {
            match stamp.is_empty() {
                true => keys.append_null(),
                false => keys.append_value(stamp),
            }
        }
        let values = match values.is_empty() {
            true => new_empty_array(&self.data_type),
            false => ScalarValue::iter_to_array(values)?,
        };
        Ok((keys.finish(), values))
    }
}

/// What a value holds beyond its place in a vector.
fn heap_of(value: &ScalarValue) -> usize {
    value.size() - size_of::<ScalarValue>()
}

impl GroupsAccumulator for LwwGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        match values {
            [values, stamps] => self.fold(
                (values, stamps),
                group_indices,
                opt_filter,
                total_num_groups,
            ),
            _ => exec_err!("lww takes two arguments, got {}", values.len()),
        }
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        match values {
            [stamps, values] => self.fold(
                (values, stamps),
                group_indices,
                opt_filter,
                total_num_groups,
            ),
            _ => exec_err!("a state of lww has two columns, got {}", values.len()),
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit_to)?.1)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (stamps, values) = self.emit(emit_to)?;
        Ok(vec![Arc::new(stamps), values])
    }

    fn size(&self) -> usize {
        self.heap_bytes
            + self.stamps.capacity() * size_of::<Box<[u8]>>()
            + self.values.capacity() * size_of::<ScalarValue>()
    }
}
