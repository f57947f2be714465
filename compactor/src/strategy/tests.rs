//! The strategy on states made by hand, and on many made by chance, to which its jobs are applied.

use std::sync::Arc;
use std::time::Duration;

use super::timing::{millis, mixed};
use super::*;

const NOW_MS: u64 = 1_700_000_000_000;
const MIB: u64 = 1 << 20;

/// Chance, from a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = mixed(self.0);
        self.0 % end
    }
}

fn sized(bytes: u64) -> FileState {
    FileState {
        path: format!("f{bytes}").into(),
        bytes,
        rows: bytes.max(1),
        is_ordered: true,
        ..FileState::default()
    }
}

fn base_of(files: Vec<FileState>) -> TableState {
    TableState {
        base: Arc::new(FileSet {
            files,
            ..FileSet::default()
        }),
        ..TableState::default()
    }
}

fn always() -> RewritePolicy {
    RewritePolicy {
        every: Some(Duration::ZERO),
        target_bytes: 64 * MIB,
        ..RewritePolicy::default()
    }
}

fn chosen(files: Vec<FileState>, policy: RewritePolicy) -> Option<FileChoice> {
    let policy = MaintenancePolicy {
        rewrite: policy,
        ..MaintenancePolicy::default()
    };
    let due = jobs(&base_of(files), &policy, NOW_MS);
    due.into_iter().find_map(|job| match job {
        Job::RewriteBase(choice) => Some(choice),
        _ => None,
    })
}

const FEW: Waiting = Waiting {
    bytes: 99,
    rows: 89_999,
    files: 9,
    since_ms: Some(NOW_MS - 999),
};

/// A table for which no fold is due yet.
fn waits() -> TableState {
    let big = FileState {
        rows: 900_000,
        ..sized(512 * MIB)
    };
    TableState {
        waiting: FEW,
        ..base_of(vec![big])
    }
}

/// Why a fold is the first thing that is due.
fn fold_due(state: &TableState) -> Option<Reason> {
    let policy = MaintenancePolicy {
        fold: FoldPolicy {
            when_bytes: 100,
            when_rows: 90_000,
            when_files: 10,
            read_percent: 10,
            max_age: Duration::from_millis(1_000),
        },
        ..MaintenancePolicy::default()
    };
    let due = jobs(state, &policy, NOW_MS);
    let first = due.first().filter(|job| job.kind() == JobKind::Fold);
    first.map(Job::reason)
}

#[test]
fn a_fold_is_due_by_bytes_rows_files_cost_age_or_pressure() {
    let with = |waiting: Waiting| fold_due(&TableState { waiting, ..waits() });
    assert_eq!(with(FEW), None);
    assert_eq!(with(Waiting { bytes: 100, ..FEW }), Some(Reason::Bytes));
    let rows = 90_000;
    assert_eq!(with(Waiting { rows, ..FEW }), Some(Reason::Rows));
    assert_eq!(with(Waiting { files: 10, ..FEW }), Some(Reason::Files));
    let since_ms = Some(NOW_MS - 1_000);
    assert_eq!(with(Waiting { since_ms, ..FEW }), Some(Reason::Age));
    let small_base = TableState {
        waiting: FEW,
        ..base_of(vec![sized(899_989)])
    };
    assert_eq!(fold_due(&small_base), Some(Reason::ReadCost));
    let pressed = TableState {
        is_pressed: true,
        ..waits()
    };
    assert_eq!(fold_due(&pressed), Some(Reason::Pressure));
}

#[test]
fn no_fold_is_due_of_nothing_in_a_pause_or_before_its_retry() {
    let pressed = TableState {
        is_pressed: true,
        ..waits()
    };
    let nothing = TableState {
        waiting: Waiting {
            rows: 0,
            since_ms: Some(NOW_MS - 1_000),
            ..FEW
        },
        ..pressed.clone()
    };
    assert_eq!(fold_due(&nothing), None);
    let paused = TableState {
        is_paused: true,
        ..pressed.clone()
    };
    assert_eq!(fold_due(&paused), None);
    let due = Some(Reason::Pressure);
    let set_back = NOW_MS + 60_000;
    for (ended_ms, expected) in [
        (NOW_MS - 9_999, None),
        (NOW_MS - 10_000, due),
        (set_back, due),
    ] {
        let mut failed = pressed.clone();
        let failures = 1;
        let ran = Ran { ended_ms, failures };
        failed.ran.insert(JobKind::Fold, ran);
        assert_eq!(fold_due(&failed), expected, "{ended_ms}");
    }
}

#[test]
fn waits_double_and_end() {
    let seconds = [1, 2, 3, 4, 30, u32::MAX].map(|n| backoff(n).as_secs());
    assert_eq!(seconds, [10, 20, 40, 80, 1_800, 1_800]);
}

#[test]
fn an_interval_begins_soon_and_comes_back_within_a_tenth_of_itself() {
    let every = Duration::from_secs(1_000);
    for seed in 0..500 {
        let first = |now_ms| interval_is_over(None, (NOW_MS, seed), every, now_ms);
        assert!(first(NOW_MS + 100_000), "seed {seed}");
        let ran = Ran {
            ended_ms: NOW_MS,
            failures: 0,
        };
        let next = |now_ms| interval_is_over(Some(&ran), (0, seed), every, now_ms);
        assert!(
            !next(NOW_MS + 899_999) && next(NOW_MS + 1_100_000),
            "seed {seed}"
        );
        assert!(next(NOW_MS - 1_100_001), "the clock was set back");
    }
    let begins = |seed| {
        (0..=100_u64).find(|s| interval_is_over(None, (NOW_MS, seed), every, NOW_MS + s * 1_000))
    };
    let spread: std::collections::BTreeSet<_> = (0..100).map(begins).collect();
    assert!(spread.len() > 30, "{spread:?}");
}

#[test]
fn small_files_are_put_together_with_their_like_and_large_ones_are_left_alone() {
    let mut files: Vec<FileState> = (0..8).map(|n| sized(100_000 + n)).collect();
    files.push(sized(15 * MIB));
    files.push(sized(64 * MIB));
    let choice = chosen(files.clone(), always()).unwrap();
    assert_eq!(
        (choice.files, choice.reason),
        ((0..8).collect(), Reason::Small)
    );
    assert_eq!(
        chosen(files[1..].to_vec(), always()),
        None,
        "seven are not enough"
    );
}

#[test]
fn files_of_two_partitions_are_not_put_together() {
    let files = (0..14).map(|n| FileState {
        partition: n % 2,
        ..sized(1_000)
    });
    assert_eq!(chosen(files.clone().collect(), always()), None);
    let more = files.chain([sized(1_000)]);
    let choice = chosen(more.collect(), always()).unwrap();
    assert_eq!(choice.files, [0, 2, 4, 6, 8, 10, 12, 14]);
}

#[test]
fn what_a_rewrite_would_make_is_put_together_with_files_like_it_at_once() {
    let mut files: Vec<FileState> = (0..8).map(|_| sized(200_000)).collect();
    files.extend((0..7).map(|_| sized(1_600_000)));
    let choice = chosen(files, always()).unwrap();
    assert_eq!(choice.files.len(), 15);
}

#[test]
fn dead_rows_and_files_out_of_order_are_written_anew_alone() {
    let dead = |dead_rows| FileState {
        rows: 100,
        dead_rows,
        ..sized(64 * MIB)
    };
    assert_eq!(chosen(vec![dead(29)], always()), None);
    let choice = chosen(vec![dead(0), dead(30)], always()).unwrap();
    assert_eq!((choice.files, choice.reason), (vec![1], Reason::Dead));
    let ragged = FileState {
        is_ordered: false,
        ..sized(64 * MIB)
    };
    let choice = chosen(vec![ragged], always()).unwrap();
    assert_eq!(choice.reason, Reason::Ragged);
    let wide = |range| FileState {
        range: Some(range),
        ..sized(64 * MIB)
    };
    let mut files: Vec<FileState> = (0..8).map(|n| wide((n * 10, n * 10 + 10))).collect();
    assert_eq!(
        chosen(files.clone(), always()),
        None,
        "neighbours meet at one value"
    );
    files.extend((0..7).map(|_| wide((5, 65))));
    let choice = chosen(files, always()).unwrap();
    assert_eq!(choice.reason, Reason::Ragged);
    assert!(
        choice.files.contains(&8) && choice.files.len() == 9,
        "{choice:?}"
    );
}

#[test]
fn a_budget_is_kept_but_for_the_first_two() {
    let files: Vec<FileState> = (0..100).map(|_| sized(MIB)).collect();
    for (budget, expected) in [(0, 2), (MIB, 2), (10 * MIB, 10), (u64::MAX, 100)] {
        let policy = RewritePolicy {
            bytes_per_run: budget,
            ..always()
        };
        let choice = chosen(files.clone(), policy).unwrap();
        assert_eq!(choice.files.len(), expected);
    }
}

#[test]
fn manifests_are_put_together_when_enough_of_them_can_be() {
    let check = |base, log, expected| {
        let set = |mergeable| {
            let manifests = Manifests {
                count: 1_000,
                mergeable,
            };
            Arc::new(FileSet {
                manifests,
                ..FileSet::default()
            })
        };
        let state = TableState {
            base: set(base),
            log: set(log),
            ..TableState::default()
        };
        let due = jobs(&state, &MaintenancePolicy::default(), NOW_MS);
        assert_eq!(
            due.contains(&Job::RewriteManifests),
            expected,
            "{base} {log}"
        );
    };
    check(49, 0, false);
    check(20, 30, true);
    check(0, 0, false);
}

/// What a job does to the files that it was chosen for: their live rows in files of the target size, in order.
fn rewritten(set: &FileSet, choice: &FileChoice, target_bytes: u64) -> FileSet {
    let mut files = Vec::new();
    let mut by_partition: std::collections::BTreeMap<u32, (u64, u64, u32, u32)> =
        Default::default();
    for (place, file) in set.files.iter().enumerate() {
        if choice.files.binary_search(&place).is_err() {
            files.push(file.clone());
            continue;
        }
        let (bytes, rows, least, greatest) =
            by_partition
                .entry(file.partition)
                .or_insert((0, 0, u32::MAX, 0));
        let live = file.rows - file.dead_rows;
        *bytes += u64::try_from(u128::from(file.bytes) * u128::from(live) / u128::from(file.rows))
            .unwrap();
        *rows += live;
        let range = file.range.unwrap_or((0, 0));
        (*least, *greatest) = ((*least).min(range.0), (*greatest).max(range.1));
    }
    for (partition, (bytes, rows, least, greatest)) in by_partition {
        let parts = if rows == 0 {
            0
        } else {
            bytes.div_ceil(target_bytes).max(1)
        };
        for part in 0..parts {
            let width = u64::from(greatest - least) + 1;
            let at = |part: u64| least + u32::try_from(width * part / parts).unwrap();
            files.push(FileState {
                path: format!("{partition}-{part}").into(),
                bytes: bytes / parts,
                rows: (rows / parts).max(1),
                dead_rows: 0,
                partition,
                is_ordered: true,
                range: Some((at(part), at(part + 1).saturating_sub(1).max(at(part)))),
            });
        }
    }
    FileSet {
        files,
        ..set.clone()
    }
}

fn random_set(chance: &mut Chance) -> FileSet {
    let count = chance.below(200);
    let partitions = 1 + chance.below(4);
    let sorted = chance.below(2) == 0;
    let mut file = |n| {
        let rows = 1 + chance.below(10_000);
        let dead_rows = match chance.below(3) {
            0 => chance.below(rows + 1),
            _ => 0,
        };
        let least = u32::try_from(chance.below(1_000)).unwrap();
        let width = u32::try_from(chance.below(300)).unwrap();
        let exponent = chance.below(27);
        FileState {
            path: format!("{n}").into(),
            bytes: (1 << exponent) + chance.below(1 << exponent),
            rows,
            dead_rows,
            partition: u32::try_from(chance.below(partitions)).unwrap(),
            is_ordered: !sorted || chance.below(4) > 0,
            range: sorted.then_some((least, least + width)),
        }
    };
    FileSet {
        files: (0..count).map(&mut file).collect(),
        ..FileSet::default()
    }
}

#[test]
fn every_rewrite_is_a_fixed_point_whatever_the_files_are() {
    for seed in 0..400 {
        let mut chance = Chance(seed);
        let set = random_set(&mut chance);
        let budget = [u64::MAX, 300 * MIB, 1][usize::try_from(chance.below(3)).unwrap()];
        let policy = RewritePolicy {
            bytes_per_run: budget,
            ..always()
        };
        let live = |set: &FileSet| set.files.iter().map(|file| file.bytes).sum::<u64>();
        let (mut now, mut runs, mut written) = (set.clone(), 0, 0_u64);
        while let Some(choice) = chosen(now.files.clone(), policy) {
            let first_two: u64 = choice
                .files
                .iter()
                .take(2)
                .map(|place| now.files[*place].bytes)
                .sum();
            assert!(
                choice.bytes <= budget.max(first_two) || budget == 1,
                "seed {seed}: {choice:?}"
            );
            written += choice.bytes;
            let next = rewritten(&now, &choice, policy.target_bytes);
            assert_ne!(next.files, now.files, "seed {seed}: {choice:?}");
            now = next;
            runs += 1;
            assert!(runs <= 2_000, "seed {seed}: it does not end");
        }
        if budget == u64::MAX {
            assert!(runs <= 12, "seed {seed}: {runs} runs");
            assert!(
                written <= 6 * live(&set).max(1),
                "seed {seed}: {written} bytes written"
            );
        }
    }
}

#[test]
fn with_all_jobs_applied_nothing_is_due_until_time_passes() {
    for seed in 0..300 {
        let mut chance = Chance(seed);
        let policy = MaintenancePolicy::default();
        let rows = chance.below(400_000);
        let mut state = TableState {
            is_pressed: chance.below(2) == 0,
            waiting: Waiting {
                rows,
                bytes: rows * 200,
                files: chance.below(1_000),
                since_ms: (rows > 0).then(|| NOW_MS - chance.below(10_000_000)),
            },
            base: Arc::new(random_set(&mut chance)),
            log: Arc::new(random_set(&mut chance)),
            begun_ms: NOW_MS - chance.below(200_000_000),
            seed: chance.below(u64::MAX),
            ..TableState::default()
        };
        let mut base = FileSet::clone(&state.base);
        base.manifests.mergeable = chance.below(100);
        state.log_due.files = chance.below(3);
        state.base = Arc::new(base);
        let mut runs = 0;
        while let Some(job) = jobs(&state, &policy, NOW_MS).into_iter().next() {
            apply(&mut state, &job);
            assert!(
                !jobs(&state, &policy, NOW_MS)
                    .iter()
                    .any(|again| again.kind() == job.kind() && again.reason() == job.reason()),
                "seed {seed}: {job:?} is due again at once"
            );
            runs += 1;
            assert!(runs <= 16, "seed {seed}");
        }
        let later = NOW_MS + millis(Duration::from_secs(2 * 24 * 60 * 60));
        let kinds: Vec<JobKind> = jobs(&state, &policy, later).iter().map(Job::kind).collect();
        let timed = [JobKind::Expire, JobKind::DropLog, JobKind::RemoveOrphans];
        assert!(
            timed.iter().all(|kind| kinds.contains(kind)),
            "seed {seed}: {kinds:?}"
        );
    }
}

fn apply(state: &mut TableState, job: &Job) {
    let target_bytes = MaintenancePolicy::default().rewrite.target_bytes;
    match job {
        Job::Fold(_) => state.waiting = Waiting::default(),
        Job::RewriteBase(choice) => {
            state.base = Arc::new(rewritten(&state.base, choice, target_bytes))
        }
        Job::RewriteLog => state.log_due = LogDue::default(),
        Job::RewriteManifests => {
            for set in [&mut state.base, &mut state.log] {
                let mut made = FileSet::clone(set);
                made.manifests.mergeable = 0;
                *set = Arc::new(made);
            }
        }
        Job::Expire | Job::DropLog | Job::RemoveOrphans => {}
    }
    let ran = Ran {
        ended_ms: NOW_MS,
        failures: 0,
    };
    state.ran.insert(job.kind(), ran);
}
