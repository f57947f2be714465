//! Which files of a log are written anew together: pure.
//!
//! ```text
//! a day's files      [1][1][1][1][1][7] [90] [400]        MiB; the target is 512
//! thrifty: as soon as the small ones are as much as the next larger one, they and it become one
//! thorough:          [1 1 1 1 1 7 90 400]                 all of them
//! ```
//! **Invariant**: files of one group are of one day, all folded or none, and all late or none: so a file's seqs and stamps
//! stay narrow, and folds, look-ups of evidence and expiry still leave whole files out by them. Planning the result of a
//! plan gives nothing to do.

use std::collections::BTreeMap;

use lakesync_providers::lake::LogFile;
use lakesync_providers::proto::Seq;

use super::LogRewriteOptions;

/// Files that one run writes anew at most (50,000, of about 2 KiB each in memory); the next takes more.
const FILES_PER_RUN: usize = 50_000;

/// Of a hundred of the target size, what a file must have to be left alone.
const LARGE_PERCENT: u64 = 75;

/// Deltas of a file are late when even the newest is stamped this long before the first of them arrived; flushes keep such
/// deltas apart.
const LATE_MS: u64 = 5 * 60 * 1_000;

/// How much is written for how many files less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effort {
    /// Every delta is rewritten a few times at most, however often this runs: for a schedule.
    #[default]
    Thrifty,
    /// Whatever makes fewer files: for who asks.
    Thorough,
}

/// What the plan is made against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMoment {
    /// Deltas up to this seq are in the base.
    pub base_seq: Seq,
    /// The day that it is, counted from 1970-01-01: nothing arrives on an earlier one any more.
    pub today: i32,
}

/// Files that become one.
#[derive(Clone, Debug, PartialEq)]
pub struct LogGroup {
    /// The day that their deltas arrived on, counted from 1970-01-01.
    pub day: i32,
    /// The files.
    pub files: Vec<LogFile>,
}

impl LogGroup {
    /// The size of the files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.files)
    }

    /// The deltas in them.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.info.rows).sum()
    }
}

/// (day, folded, late)
type Class = (i32, bool, bool);

/// The groups that are due, those that spare most files first.
#[must_use]
pub fn plan_log_rewrite(
    files: Vec<LogFile>,
    at: &LogMoment,
    options: &LogRewriteOptions,
) -> Vec<LogGroup> {
    let large = options.target_file_bytes / 100 * LARGE_PERCENT;
    let mut classes: BTreeMap<Class, Vec<LogFile>> = BTreeMap::new();
    for file in files {
        if let Some(class) = class(&file, at).filter(|_| file.info.bytes < large) {
            classes.entry(class).or_default().push(file);
        }
    }
    let mut groups = Vec::new();
    for ((day, ..), files) in classes {
        let files = match options.effort {
            Effort::Thrifty if day >= at.today => worth_it(files, options.min_files),
            // No file will come to this day any more, so that writing it whole is the last time.
            _ => files,
        };
        let packed = packed(files, options.target_file_bytes).into_iter();
        groups.extend(
            packed
                .filter(|files| files.len() > 1)
                .map(|files| LogGroup { day, files }),
        );
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.files.len()));
    within_a_run(groups, options.bytes_per_run)
}

/// None for a file that no flush of ours wrote: it stays as it is.
fn class(file: &LogFile, at: &LogMoment) -> Option<Class> {
    let (seqs, stamps) = (file.seqs.as_ref()?, file.stamps.as_ref()?);
    let late = stamps.end().wall_ms() + LATE_MS < file.arrived_ms?;
    Some((file.day?, *seqs.end() <= at.base_seq, late))
}

/// The smallest files, as many as make at least twice of the largest of them: a delta is then rewritten no more often than
/// its file can double. None when there are too few.
fn worth_it(mut files: Vec<LogFile>, min_files: usize) -> Vec<LogFile> {
    files.sort_by_key(|file| file.info.bytes);
    let (mut below, mut take) = (0_u64, 0);
    for (nth, file) in files.iter().enumerate() {
        if nth + 1 >= min_files && file.info.bytes <= below {
            take = nth + 1;
        }
        below = below.saturating_add(file.info.bytes);
    }
    files.truncate(take);
    files
}

/// Files put together up to the target, each with the first that it fits with, by their seqs: of two such, neither fits
/// into the other.
fn packed(mut files: Vec<LogFile>, target_bytes: u64) -> Vec<Vec<LogFile>> {
    files.sort_by_key(|file| file.seqs.as_ref().map(|seqs| *seqs.start()));
    let mut bins: Vec<(u64, Vec<LogFile>)> = Vec::new();
    for file in files {
        let more = file.info.bytes;
        match bins
            .iter_mut()
            .find(|(held, _)| held + more <= target_bytes)
        {
            Some((held, bin)) => {
                *held += more;
                bin.push(file);
            }
            None => bins.push((more, vec![file])),
        }
    }
    bins.into_iter().map(|(_, bin)| bin).collect()
}

/// The first groups, as many as one run does; one at least.
fn within_a_run(groups: Vec<LogGroup>, bytes_max: u64) -> Vec<LogGroup> {
    let (mut bytes, mut files) = (0_u64, 0);
    let fits = groups.iter().enumerate().take_while(|(nth, group)| {
        bytes = bytes.saturating_add(group.bytes());
        files += group.files.len();
        *nth == 0 || (bytes <= bytes_max && files <= FILES_PER_RUN)
    });
    let count = fits.count();
    let mut groups = groups;
    groups.truncate(count);
    if let [only] = groups.as_mut_slice() {
        only.files.truncate(FILES_PER_RUN);
    }
    groups
}

fn bytes(files: &[LogFile]) -> u64 {
    files.iter().map(|file| file.info.bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use lakesync_providers::lake::{DataContent, DataFileInfo, FileFormat, day_partition};
    use lakesync_providers::proto::Hlc;

    use super::*;

    const MIB: u64 = 1 << 20;
    const TODAY: i32 = 20_000;

    fn file(day: i32, mib: u64, seq: u64) -> LogFile {
        let arrived_ms = u64::try_from(day).unwrap() * 86_400_000;
        let stamp = Hlc::new(arrived_ms, 0).unwrap();
        let seq = Seq::from_u64(seq).unwrap();
        LogFile {
            info: DataFileInfo {
                path: format!("{day}-{seq}-{mib}"),
                content: DataContent::Data,
                format: FileFormat::Parquet,
                bytes: mib * MIB,
                rows: mib,
                partition: day_partition(0),
                spec_id: 0,
                lower_bounds: HashMap::new(),
                upper_bounds: HashMap::new(),
                null_counts: HashMap::new(),
                sort_order_id: None,
                sequence_number: 1,
                snapshot_id: None,
                referenced_data_file: None,
                equality_ids: Vec::new(),
            },
            day: Some(day),
            seqs: Some(seq..=seq),
            stamps: Some(stamp..=stamp),
            arrived_ms: Some(arrived_ms),
        }
    }

    fn planned(files: Vec<LogFile>, effort: Effort) -> Vec<Vec<u64>> {
        let options = LogRewriteOptions {
            effort,
            ..LogRewriteOptions::default()
        };
        let at = LogMoment {
            base_seq: Seq::from_u64(1_000).unwrap(),
            today: TODAY,
        };
        let groups = plan_log_rewrite(files, &at, &options);
        let sizes = |group: &LogGroup| {
            group
                .files
                .iter()
                .map(|file| file.info.bytes / MIB)
                .collect()
        };
        groups.iter().map(sizes).collect()
    }

    fn of_today(sizes: &[u64]) -> Vec<LogFile> {
        let files = sizes.iter().zip(1..);
        files.map(|(mib, seq)| file(TODAY, *mib, seq)).collect()
    }

    #[test]
    fn todays_files_wait_until_they_are_worth_a_rewrite() {
        let check = |sizes: &[u64], expected: &[&[u64]]| {
            assert_eq!(
                planned(of_today(sizes), Effort::Thrifty),
                expected,
                "{sizes:?}"
            );
        };
        check(&[], &[]);
        check(&[1, 1, 1, 1], &[]);
        check(&[1, 1, 1, 1, 1], &[&[1, 1, 1, 1, 1]]);
        check(&[100, 1, 1, 1, 1], &[]);
        check(&[100, 1, 1, 1, 1, 1], &[&[1, 1, 1, 1, 1]]);
        check(&[5, 1, 1, 1, 1, 1], &[&[5, 1, 1, 1, 1, 1]]);
        check(&[384, 384, 384, 384, 384], &[]);
    }

    #[test]
    fn whoever_asks_and_a_day_that_is_over_get_as_few_files_as_fit() {
        let thorough = planned(of_today(&[100, 1]), Effort::Thorough);
        assert_eq!(thorough, [[100, 1]]);
        let yesterday = vec![file(TODAY - 1, 100, 1), file(TODAY - 1, 1, 2)];
        assert_eq!(planned(yesterday, Effort::Thrifty), [[100, 1]]);
        let thorough = planned(of_today(&[300, 300, 200, 10]), Effort::Thorough);
        assert_eq!(thorough, [vec![300, 200, 10]], "300 alone stays");
    }

    #[test]
    fn days_folded_and_late_deltas_are_kept_apart() {
        let mut late = file(TODAY, 1, 5);
        let old = Hlc::new(1_000, 0).unwrap();
        late.stamps = Some(old..=old);
        let files = vec![
            file(TODAY, 1, 1),
            file(TODAY, 1, 2_000),
            late,
            file(TODAY - 1, 1, 1),
            file(TODAY, 2, 3),
        ];
        assert_eq!(planned(files, Effort::Thorough), [[1, 2]]);
        let mut strange = file(TODAY, 1, 1);
        strange.seqs = None;
        assert!(planned(vec![strange, file(TODAY, 1, 2)], Effort::Thorough).is_empty());
    }

    /// Flushes of any size, planned after each as if the plan was carried out: planning again at once gives nothing, no
    /// delta is rewritten often, and few files are left.
    #[test]
    fn a_day_of_flushes_is_rewritten_a_few_times_over_and_ends_in_few_files() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let (mut files, mut flushed, mut written) = (Vec::new(), 0, 0);
        for seq in 1..=900 {
            let mib = 1 + next(3);
            flushed += mib;
            files.push(file(TODAY, mib, seq));
            for round in 0.. {
                let options = LogRewriteOptions::default();
                let at = LogMoment {
                    base_seq: Seq::from_u64(1_000).unwrap(),
                    today: TODAY,
                };
                let groups = plan_log_rewrite(files.clone(), &at, &options);
                if groups.is_empty() {
                    break;
                }
                assert!(
                    round < 1,
                    "a plan that was carried out leaves nothing to do"
                );
                for group in groups {
                    let gone: Vec<&str> =
                        group.files.iter().map(|f| f.info.path.as_str()).collect();
                    files.retain(|file| !gone.contains(&file.info.path.as_str()));
                    let first = group
                        .files
                        .iter()
                        .filter_map(|f| f.seqs.clone())
                        .min_by_key(|s| *s.start());
                    let mib = group.bytes() / MIB;
                    written += mib;
                    let seq = first.unwrap().start().as_u64();
                    files.push(file(TODAY, mib, seq));
                }
            }
        }
        assert_eq!(
            files.iter().map(|file| file.info.bytes / MIB).sum::<u64>(),
            flushed
        );
        assert!(written < 10 * flushed, "{written} MiB for {flushed}");
        assert!(files.len() < 25, "{} files", files.len());
    }
}
