//! How each file of a base is brought up to date: a pure function of what is known before anything is read.
//!
//! **Invariant:** a file that no change touches stays as it is.

use super::MergeOptions;
use crate::config::WriteMode;

/// What is known of a data file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileState {
    /// Its rows, dead ones too.
    pub(crate) rows: u64,
    /// Its size.
    pub(crate) bytes: u64,
    /// Its dead rows.
    pub(crate) dead: u64,
    /// Its rows that the changes touch, at most.
    pub(crate) touched: u64,
    /// How its table divided rows into partitions when it was written.
    pub(crate) layout: Layout,
}

/// By which partition spec a file was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The one that files are written by now.
    #[default]
    Current,
    /// An older one: delete files cannot be written for it any more.
    Older,
}

/// What becomes of a data file that changes touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It is replaced by a file without its dead and deleted rows.
    Rewrite,
    /// It stays; touched rows are deleted from it and stand in new files.
    Delete,
}

impl FileState {
    /// Its touched and dead rows of a hundred, at most; of no rows all.
    fn share_percent(&self) -> u64 {
        let gone = self.touched.saturating_add(self.dead).min(self.rows);
        gone.saturating_mul(100)
            .checked_div(self.rows)
            .unwrap_or(100)
    }
}

/// What becomes of each of the files, if the changes do touch it.
///
/// Those with the greatest share come first when the bytes of a run do not suffice for all; one file is rewritten
/// however large it is, so that no file waits for ever.
pub(crate) fn treatments(files: &[FileState], options: &MergeOptions) -> Vec<Treatment> {
    let mut treatments = vec![Treatment::Delete; files.len()];
    if options.mode == WriteMode::EqualityDeletes {
        return treatments;
    }
    let must =
        |file: &FileState| options.mode == WriteMode::CopyOnWrite || file.layout == Layout::Older;
    let share_min = u64::from(options.rewrite_percent);
    let mut wanted: Vec<usize> = (0..files.len())
        .filter(|at| files[*at].touched > 0)
        .filter(|at| must(&files[*at]) || files[*at].share_percent() >= share_min)
        .collect();
    wanted.sort_by_key(|at| {
        (
            !must(&files[*at]),
            u64::MAX - files[*at].share_percent(),
            *at,
        )
    });
    let mut bytes = 0_u64;
    for at in wanted {
        let after = bytes.saturating_add(files[at].bytes);
        if !must(&files[at]) && bytes > 0 && after > options.bytes_per_run {
            continue;
        }
        bytes = after;
        treatments[at] = Treatment::Rewrite;
    }
    treatments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: u64, dead: u64, touched: u64) -> FileState {
        FileState {
            rows,
            bytes: rows * 10,
            dead,
            touched,
            layout: Layout::Current,
        }
    }

    fn rewritten(files: &[FileState], options: &MergeOptions) -> Vec<usize> {
        let treatments = treatments(files, options);
        let all = treatments.iter().enumerate();
        all.filter(|(_, treatment)| **treatment == Treatment::Rewrite)
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn touched_and_dead_rows_count_together_and_untouched_files_never() {
        let options = MergeOptions {
            rewrite_percent: 30,
            ..MergeOptions::default()
        };
        let files = [
            file(100, 0, 29),
            file(100, 0, 30),
            file(100, 25, 5),
            file(100, 99, 0),
            file(1, 0, 1),
            file(1000, 0, 1),
        ];
        assert_eq!(rewritten(&files, &options), [1, 2, 4]);
    }

    #[test]
    fn the_bytes_of_a_run_go_to_the_most_touched_and_suffice_for_one() {
        let options = MergeOptions {
            rewrite_percent: 30,
            bytes_per_run: 2_000,
            ..MergeOptions::default()
        };
        let files = [file(100, 0, 40), file(100, 0, 90), file(100, 0, 50)];
        assert_eq!(rewritten(&files, &options), [1, 2]);
        let options = MergeOptions {
            bytes_per_run: 1,
            ..options
        };
        assert_eq!(rewritten(&files, &options), [1]);
    }

    #[test]
    fn copy_on_write_rewrites_what_is_touched_and_equality_deletes_nothing() {
        let files = [file(100, 50, 0), file(100, 0, 1)];
        let of = |mode| MergeOptions {
            mode,
            bytes_per_run: 1,
            ..MergeOptions::default()
        };
        assert_eq!(rewritten(&files, &of(WriteMode::CopyOnWrite)), [1]);
        assert_eq!(
            rewritten(&[file(1, 0, 1)], &of(WriteMode::EqualityDeletes)),
            [0; 0]
        );
    }

    #[test]
    fn a_file_of_an_older_layout_is_rewritten_when_it_is_touched() {
        let older = FileState {
            layout: Layout::Older,
            ..file(1_000, 0, 1)
        };
        assert_eq!(
            rewritten(&[older, file(1_000, 0, 1)], &MergeOptions::default()),
            [0]
        );
    }
}
