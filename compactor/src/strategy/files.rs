//! Which files are written anew, and together.
//!
//! ```text
//!   bytes   0 ─── 64 KiB ─── 512 KiB ─── 4 MiB ─── … ─── ¼ target ───────── target
//!             ×8 ─────► ×8 ──────►  ×8 ─────►                large enough
//! ```
//! Small files are put together with others of like size: a file that was just made of eight has moved to the next size,
//! so each byte is written once a size, not once a run.
//!
//! **Invariants:** files of two partitions are never chosen for one file · what is chosen is not chosen again when it has
//! been written anew · within the byte budget, but for the
//! first two files, so that something is done however small it is.

use std::collections::BTreeMap;

use super::job::{FileChoice, Reason};
use super::policy::RewritePolicy;
use super::state::{FileSet, FileState};

/// The upper end of the first size, in bytes: below it a file costs its opening and nothing else.
const FIRST_SIZE_BYTES: u64 = 64 << 10;

/// The files of a base that are to be written anew; none when all are well.
#[must_use]
pub fn of_base(set: &FileSet, policy: &RewritePolicy) -> Option<FileChoice> {
    choose(set, policy, |files| {
        let mut chosen = dead(files, policy.dead_percent);
        chosen.extend(unordered(files));
        chosen.extend(overlapping(files, policy.depth_max));
        chosen.extend(small(files, policy));
        chosen
    })
}

/// A file and its place in the set.
type Placed<'a> = (usize, &'a FileState);

fn choose(
    set: &FileSet,
    policy: &RewritePolicy,
    of_partition: impl Fn(&[Placed<'_>]) -> Vec<(usize, Reason)>,
) -> Option<FileChoice> {
    let mut partitions: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for (place, file) in set.files.iter().enumerate() {
        partitions
            .entry(file.partition)
            .or_default()
            .push((place, file));
    }
    let mut choice: Option<FileChoice> = None;
    for files in partitions.values() {
        let mut chosen = of_partition(files);
        chosen.sort_by_key(|(place, _)| *place);
        chosen.dedup_by_key(|(place, _)| *place);
        let before = choice.as_ref().map_or(0, |choice| choice.bytes);
        let mut budget = policy.bytes_per_run.saturating_sub(before);
        if before == 0 {
            // However small the budget is, something is done.
            let first = chosen.iter().take(2);
            budget = budget.max(first.map(|(place, _)| set.files[*place].bytes).sum());
        }
        let taken = within(set, &chosen, budget);
        // One file alone is written anew only for what is wrong with it.
        let alone = taken.len() == 1 && taken[0].1 == Reason::Small;
        if taken.is_empty() || alone {
            continue;
        }
        let bytes: u64 = taken.iter().map(|(place, _)| set.files[*place].bytes).sum();
        let grown = choice.get_or_insert(FileChoice {
            files: Vec::new(),
            bytes: 0,
            reason: taken[0].1,
        });
        grown.files.extend(taken.iter().map(|(place, _)| *place));
        grown.bytes += bytes;
    }
    if let Some(choice) = &mut choice {
        choice.files.sort_unstable();
    }
    choice
}

/// As many of the chosen as the budget lets in.
fn within(set: &FileSet, chosen: &[(usize, Reason)], budget: u64) -> Vec<(usize, Reason)> {
    let mut taken_bytes = 0_u64;
    let fits = |(place, _): &&(usize, Reason)| {
        taken_bytes = taken_bytes.saturating_add(set.files[*place].bytes);
        taken_bytes <= budget
    };
    chosen.iter().take_while(fits).copied().collect()
}

fn dead(files: &[Placed<'_>], percent: u64) -> Vec<(usize, Reason)> {
    let is_dead = |file: &FileState| {
        file.dead_rows > 0
            && u128::from(file.dead_rows) * 100 >= u128::from(file.rows) * u128::from(percent)
    };
    files
        .iter()
        .filter(|(_, file)| is_dead(file))
        .map(|(place, _)| (*place, Reason::Dead))
        .collect()
}

fn unordered<'a>(files: &'a [Placed<'_>]) -> impl Iterator<Item = (usize, Reason)> + 'a {
    let unordered = files.iter().filter(|(_, file)| !file.is_ordered);
    unordered.map(|(place, _)| (*place, Reason::Ragged))
}

/// The files that cover the value that most of them cover, when those are too many.
fn overlapping(files: &[Placed<'_>], depth_max: usize) -> Vec<(usize, Reason)> {
    let mut ends: Vec<(u32, bool)> = Vec::new();
    for (_, file) in files {
        if let Some((least, greatest)) = file.range {
            // At one rank files begin before others end: both have the value.
            ends.extend([(least, false), (greatest, true)]);
        }
    }
    ends.sort_unstable();
    let (mut depth, mut deepest, mut at) = (0_usize, 0_usize, 0_u32);
    for (rank, is_end) in ends {
        if is_end {
            depth -= 1;
            continue;
        }
        depth += 1;
        if depth > deepest {
            (deepest, at) = (depth, rank);
        }
    }
    if deepest <= depth_max.max(1) {
        return Vec::new();
    }
    let covers = |file: &FileState| {
        file.range
            .is_some_and(|(least, greatest)| least <= at && at <= greatest)
    };
    files
        .iter()
        .filter(|(_, file)| covers(file))
        .map(|(place, _)| (*place, Reason::Ragged))
        .collect()
}

/// The small files of the sizes that have enough of them, and those of larger sizes that the result would join.
fn small(files: &[Placed<'_>], policy: &RewritePolicy) -> Vec<(usize, Reason)> {
    let least = policy.small_files_min.max(2);
    let limit = policy.target_bytes / 4;
    let mut sizes: BTreeMap<u32, Vec<Placed<'_>>> = BTreeMap::new();
    for placed in files.iter().filter(|(_, file)| file.bytes < limit) {
        sizes
            .entry(size(placed.1.bytes, least))
            .or_default()
            .push(*placed);
    }
    let Some(first) = sizes
        .iter()
        .find(|(_, files)| files.len() >= least)
        .map(|(size, _)| *size)
    else {
        return Vec::new();
    };
    let mut chosen: Vec<Placed<'_>> = Vec::new();
    let mut next = Some(first);
    while let Some(now) = next {
        chosen.extend(sizes.remove(&now).unwrap_or_default());
        let bytes: u64 = chosen.iter().map(|(_, file)| file.bytes).sum();
        let joined = size(bytes, least);
        // The result is one more file of its size, and so may be enough there; sizes above may be enough alone.
        next = sizes
            .iter()
            .find(|(size, files)| {
                let more = usize::from(bytes < limit && **size == joined);
                files.len() + more >= least
            })
            .map(|(size, _)| *size);
    }
    chosen
        .into_iter()
        .map(|(place, _)| (place, Reason::Small))
        .collect()
}

/// The size of a file as a step: `factor` files of one step make one of the next at least, but for the first.
fn size(bytes: u64, factor: usize) -> u32 {
    let factor = u64::try_from(factor).unwrap_or(u64::MAX);
    let (mut end, mut step) = (FIRST_SIZE_BYTES, 0);
    while bytes >= end && step < u64::BITS {
        (end, step) = (end.saturating_mul(factor), step + 1);
    }
    step
}
