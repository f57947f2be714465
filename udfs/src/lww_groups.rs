//! `lww` over many groups at once: the form that `GROUP BY` runs.
//!
//! A winner is remembered by its place in the batch that it came in, so that a write that loses costs a comparison and
//! one that wins costs no copy; values are gathered when groups are emitted, a column at a time. Batches that few
//! winners are left of are gathered into one.
//!
//! **Invariant:** the same rule as the accumulator of one group (`lww`): per group the write with the greatest stamp.
//! What is held has at most twice as many rows as there are groups, and a few thousand more.

use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, UInt32Array, new_null_array,
};
use datafusion::arrow::compute::{interleave, take};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use crate::argument::as_type;

/// So many rows more than twice the groups may be held (two batches of DataFusion's).
const SLACK_ROWS: usize = 16 * 1024;

/// A batch of which fewer rows than one of so many win is not held whole.
const SPARSE: usize = 4;

/// Where a group's winner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Winner {
    batch: u32,
    row: u32,
}

/// A group that no write was seen of.
const NONE: Winner = Winner {
    batch: u32::MAX,
    row: 0,
};

/// Rows that winners are among.
#[derive(Debug)]
struct Held {
    stamps: BinaryArray,
    values: ArrayRef,
    bytes: usize,
}

impl Held {
    fn new(stamps: BinaryArray, values: ArrayRef) -> Result<Self> {
        let bytes =
            stamps.to_data().get_slice_memory_size()? + values.to_data().get_slice_memory_size()?;
        Ok(Self {
            stamps,
            values,
            bytes,
        })
    }
}

/// The winners so far, by group.
#[derive(Debug)]
pub(crate) struct LwwGroups {
    data_type: DataType,
    winners: Vec<Winner>,
    held: Vec<Held>,
    held_rows: usize,
    held_bytes: usize,
}

impl LwwGroups {
    pub(crate) fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            winners: Vec::new(),
            held: Vec::new(),
            held_rows: 0,
            held_bytes: 0,
        }
    }

    fn fold(
        &mut self,
        (values, stamps): (&ArrayRef, &ArrayRef),
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.winners.resize(total.max(self.winners.len()), NONE);
        let stamps = as_type(stamps, &DataType::Binary)?;
        let stamps = stamps.as_binary::<i32>();
        let batch = short(self.held.len());
        let mut won: Vec<(usize, u32)> = Vec::new();
        for (row, &group) in groups.iter().enumerate() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if !counts || stamps.is_null(row) {
                continue;
            }
            let winner = self.winners[group];
            let beaten = match winner {
                NONE => true,
                Winner { batch: at, row: of } if at == batch => {
                    stamps.value(row) > stamps.value(long(of))
                }
                Winner { batch: at, row: of } => {
                    stamps.value(row) > self.held[long(at)].stamps.value(long(of))
                }
            };
            if beaten {
                let row = short(row);
                self.winners[group] = Winner { batch, row };
                won.push((group, row));
            }
        }
        self.hold(stamps, values, &won)
    }

    /// Holds a batch in which these groups have won.
    fn hold(
        &mut self,
        stamps: &BinaryArray,
        values: &ArrayRef,
        won: &[(usize, u32)],
    ) -> Result<()> {
        if won.is_empty() {
            return Ok(());
        }
        let held = if won.len() * SPARSE < stamps.len() {
            let batch = short(self.held.len());
            let mut rows = Vec::with_capacity(won.len());
            for (group, row) in won {
                let last = Winner { batch, row: *row };
                if self.winners[*group] == last {
                    self.winners[*group].row = short(rows.len());
                    rows.push(*row);
                }
            }
            let rows = UInt32Array::from(rows);
            let stamps = take(stamps, &rows, None)?;
            Held::new(
                stamps.as_binary::<i32>().clone(),
                take(values, &rows, None)?,
            )?
        } else {
            Held::new(stamps.clone(), Arc::clone(values))?
        };
        self.held_rows += held.stamps.len();
        self.held_bytes += held.bytes;
        self.held.push(held);
        self.shrink()
    }

    /// Gathers the winners when most rows that are held are none.
    fn shrink(&mut self) -> Result<()> {
        if self.held_rows <= 2 * self.winners.len() + SLACK_ROWS {
            return Ok(());
        }
        let some: Vec<Winner> = self
            .winners
            .iter()
            .copied()
            .filter(|w| *w != NONE)
            .collect();
        let gathered = match some.is_empty() {
            true => None,
            false => {
                let (stamps, values) = self.gather(&some)?;
                Some(Held::new(stamps, values)?)
            }
        };
        let kept = self.winners.iter_mut().filter(|winner| **winner != NONE);
        for (winner, row) in kept.zip(0..) {
            *winner = Winner { batch: 0, row };
        }
        self.held_rows = some.len();
        self.held_bytes = gathered.as_ref().map_or(0, |held| held.bytes);
        self.held = gathered.into_iter().collect();
        Ok(())
    }

    /// The stamps and values of winners; null for groups that have none.
    fn gather(&self, winners: &[Winner]) -> Result<(BinaryArray, ArrayRef)> {
        let (no_stamp, no_value) = (
            new_null_array(&DataType::Binary, 1),
            new_null_array(&self.data_type, 1),
        );
        let mut stamps: Vec<&dyn Array> = self.held.iter().map(|held| &held.stamps as _).collect();
        let mut values: Vec<&dyn Array> = self.held.iter().map(|h| h.values.as_ref()).collect();
        stamps.push(no_stamp.as_ref());
        values.push(no_value.as_ref());
        let none = self.held.len();
        let places = winners.iter().map(|winner| match *winner {
            NONE => (none, 0),
            Winner { batch, row } => (long(batch), long(row)),
        });
        let places: Vec<(usize, usize)> = places.collect();
        let stamps = interleave(&stamps, &places)?;
        Ok((
            stamps.as_binary::<i32>().clone(),
            interleave(&values, &places)?,
        ))
    }

    /// Takes out the groups to emit: their stamps and values.
    fn emit(&mut self, emit_to: EmitTo) -> Result<(BinaryArray, ArrayRef)> {
        let winners = emit_to.take_needed(&mut self.winners);
        let gathered = self.gather(&winners)?;
        self.shrink()?;
        Ok(gathered)
    }
}

fn long(number: u32) -> usize {
    usize::try_from(number).expect("no smaller machine than 32 bits is built for")
}

fn short(number: usize) -> u32 {
    u32::try_from(number).expect("a batch has fewer than 4 billion rows, and few of them are held")
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
        self.held_bytes
            + self.winners.capacity() * size_of::<Winner>()
            + self.held.capacity() * size_of::<Held>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use datafusion::arrow::array::{BinaryBuilder, StringArray};

    use super::*;

    /// A small deterministic generator (SplitMix64).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            usize::try_from((z ^ (z >> 31)) % limit).unwrap()
        }
    }

    type Expected = BTreeMap<usize, (Vec<u8>, Option<String>)>;

    /// Gives some writes to the groups from `first` on, and to the model.
    fn write(
        groups: &mut LwwGroups,
        model: &mut Expected,
        random: &mut Random,
        (first, total, filter_of): (usize, usize, u64),
    ) {
        let rows = 1 + random.below(9_000);
        let (mut stamps, mut texts) = (BinaryBuilder::new(), Vec::new());
        let (mut at, mut keep) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let group = random.below(u64::try_from(total).unwrap());
            let stamp = random.below(1_000_000).to_be_bytes();
            let text = (random.below(5) > 0).then(|| format!("{row} of {stamp:?}"));
            let (kept, written) = (random.below(filter_of) == 0, random.below(50) > 0);
            at.push(group);
            keep.push(kept);
            match written {
                true => stamps.append_value(stamp),
                false => stamps.append_null(),
            }
            if kept && written {
                let known = model.entry(first + group).or_default();
                if stamp.as_slice() > known.0.as_slice() {
                    *known = (stamp.into(), text.clone());
                }
            }
            texts.push(text);
        }
        let values: ArrayRef = Arc::new(StringArray::from(texts));
        let stamps: ArrayRef = Arc::new(stamps.finish());
        let keep = BooleanArray::from(keep);
        groups
            .update_batch(&[values, stamps], &at, Some(&keep), total)
            .unwrap();
    }

    fn check(values: &ArrayRef, model: &Expected, first: usize) {
        for (row, value) in values.as_string::<i32>().iter().enumerate() {
            let expected = model
                .get(&(first + row))
                .and_then(|known| known.1.as_deref());
            assert_eq!(value, expected, "group {}", first + row);
        }
    }

    #[test]
    fn whatever_is_written_emitted_and_gathered_the_greatest_stamps_value_is_given() {
        for (seed, filter_of) in [(1, 1), (2, 1), (3, 20), (4, 3)] {
            let mut random = Random(seed);
            let mut groups = LwwGroups::new(DataType::Utf8);
            let (mut model, mut first, mut total) = (Expected::new(), 0, 0);
            for _ in 0..40 {
                total += 1 + random.below(3_000);
                write(
                    &mut groups,
                    &mut model,
                    &mut random,
                    (first, total, filter_of),
                );
                assert!(groups.held_rows <= 2 * total + SLACK_ROWS);
                if random.below(3) == 0 {
                    let some = 1 + random.below(u64::try_from(total).unwrap());
                    let values = groups.evaluate(EmitTo::First(some)).unwrap();
                    check(&values, &model, first);
                    (first, total) = (first + some, total - some);
                }
            }
            // What one has seen another goes on with.
            let mut other = LwwGroups::new(DataType::Utf8);
            let states = groups.state(EmitTo::All).unwrap();
            let at: Vec<usize> = (0..total).collect();
            other.merge_batch(&states, &at, None, total).unwrap();
            check(&other.evaluate(EmitTo::All).unwrap(), &model, first);
        }
    }

    #[test]
    fn what_has_been_emitted_is_let_go() {
        let mut random = Random(7);
        let mut groups = LwwGroups::new(DataType::Utf8);
        for _ in 0..30 {
            write(
                &mut groups,
                &mut Expected::new(),
                &mut random,
                (0, 5_000, 1),
            );
            groups.evaluate(EmitTo::All).unwrap();
            assert!(groups.held_rows <= SLACK_ROWS + 9_000);
        }
    }
}
