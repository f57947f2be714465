//! Commits: one new snapshot of a table, or none.
//!
//! **Invariant**: a [`Commit`] takes effect at most once, whatever happens to the answer, and never on
//! top of a state that contradicts what it was planned from.
//!
//! A commit's steps, repeated on a fresh copy of the table when another commit was first:
//! ```text
//! load the table ─► is our commit id among its snapshots? then it is done
//!   ─► validate: nothing foreign below, watermarks as expected, inputs still live, no deletes added for them meanwhile
//!   ─► write manifests: added files, and those manifests that hold a removed path
//!   ─► write the manifest list ─► catalog: requirements, fence, compare-and-set
//! ```
//! Appends and row deltas move on top of whatever came between. A rewrite does so only while all its
//! inputs are live and have got no new delete file; otherwise it is a conflict, and must be planned
//! again. Nothing goes on top of rows that another program changed ([`ForeignSnapshot`](super::ForeignSnapshot)). When
//! the catalog's answer is lost, the table is read again and the commit id looked for.

mod attempt;
mod change;
mod grouped;
mod manifests;
mod merge;
mod totals;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iceberg::TableIdent;
use iceberg::spec::{DataContentType, DataFile, Operation};
use iceberg::table::Table;
use uuid::Uuid;

use super::catalog::Fence;
use super::error::{CommitError, CommitErrorKind};
use super::summary::COMMIT_ID;
use super::warehouse::Warehouse;

pub use change::change_table;
pub use merge::{MergedManifests, merge_manifests, mergeable_manifests};
pub(super) use validate::only_target;

/// How often, and with what pauses, a commit is repeated after it lost against another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all; at least one is made.
    pub attempts: u32,
    /// The pause after the first lost attempt; it doubles from then on.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
        }
    }
}

impl RetryPolicy {
    /// The pause after the `attempt`th lost attempt, counted from 0.
    #[must_use]
    pub fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt);
        let pause = self.first_pause.saturating_mul(doubled);
        pause.min(self.longest_pause)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "another process tells nobody when it is done: backing off is all there is"
    )]
    async fn wait(&self, attempt: u32) {
        tokio::time::sleep(self.pause(attempt)).await;
    }
}

/// What becomes of the manifests that hold no removed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    AsTheyAre,
    Merged,
}

/// A new snapshot to be: which files come, which go, and what must hold for that.
#[derive(Debug)]
#[must_use = "a commit does nothing until it is run"]
pub struct Commit<'a> {
    operation: Operation,
    add: Vec<DataFile>,
    remove: BTreeSet<String>,
    /// The snapshot the removal was planned from.
    read_snapshot: Option<i64>,
    /// Files that must be live though they stay.
    require: BTreeSet<String>,
    carried: Carried,
    sequence_number: Option<i64>,
    properties: BTreeMap<String, String>,
    expected: BTreeMap<String, Option<String>>,
    fence: Option<&'a Fence>,
    commit_id: Uuid,
    retry: RetryPolicy,
}

impl<'a> Commit<'a> {
    fn new(operation: Operation, add: Vec<DataFile>) -> Self {
        Self {
            operation,
            add,
            remove: BTreeSet::new(),
            read_snapshot: None,
            require: BTreeSet::new(),
            carried: Carried::AsTheyAre,
            sequence_number: None,
            properties: BTreeMap::new(),
            expected: BTreeMap::new(),
            fence: None,
            commit_id: Uuid::new_v4(),
            retry: RetryPolicy::default(),
        }
    }

    /// Adds data files. With none it only sets properties of a new snapshot.
    pub fn append(files: Vec<DataFile>) -> Self {
        Self::new(Operation::Append, files)
    }

    /// Adds data files and delete files. Data files that a position-delete file names must be live
    /// when it takes effect: a concurrent rewrite of them is a conflict.
    pub fn row_delta(data: Vec<DataFile>, deletes: Vec<DataFile>) -> Self {
        let operation = match (data.is_empty(), deletes.is_empty()) {
            (_, true) => Operation::Append,
            (true, false) => Operation::Delete,
            (false, false) => Operation::Overwrite,
        };
        let require = deletes.iter().filter_map(validate::only_target).collect();
        let mut commit = Self::new(operation, data);
        commit.require = require;
        commit.add.extend(deletes);
        commit
    }

    /// Replaces files by others with the same rows (operation `replace`): every reader may skip it.
    /// `read_snapshot` is the snapshot it was planned from.
    pub fn rewrite(
        read_snapshot: i64,
        remove: impl IntoIterator<Item = String>,
        add: Vec<DataFile>,
    ) -> Self {
        Self::new(Operation::Replace, add).removing(read_snapshot, remove)
    }

    /// Replaces files by others with changed rows (operation `overwrite`), as a fold does.
    pub fn overwrite(
        read_snapshot: i64,
        remove: impl IntoIterator<Item = String>,
        add: Vec<DataFile>,
    ) -> Self {
        Self::new(Operation::Overwrite, add).removing(read_snapshot, remove)
    }

    /// Removes files and their rows (operation `delete`): deltas of a log that nothing needs any more.
    pub fn delete(read_snapshot: i64, remove: impl IntoIterator<Item = String>) -> Self {
        Self::new(Operation::Delete, Vec::new()).removing(read_snapshot, remove)
    }

    /// The same files in fewer manifests (operation `replace`).
    fn merging_manifests() -> Self {
        let mut commit = Self::new(Operation::Replace, Vec::new());
        commit.carried = Carried::Merged;
        commit
    }

    /// Also removes files (data or delete files) that were live in `read_snapshot`.
    pub fn removing(mut self, read_snapshot: i64, paths: impl IntoIterator<Item = String>) -> Self {
        self.read_snapshot = Some(read_snapshot);
        self.remove.extend(paths);
        if self.operation == Operation::Append && !self.remove.is_empty() {
            self.operation = Operation::Overwrite;
        }
        self
    }

    /// Also requires that these files are still live when the commit takes effect.
    pub fn requiring_files(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        self.require.extend(paths);
        self
    }

    /// Gives the added data files this data sequence number, so that equality deletes committed
    /// after it still apply to them. Only for rewrites.
    pub fn with_sequence_number(mut self, sequence_number: i64) -> Self {
        self.sequence_number = Some(sequence_number);
        self
    }

    /// Sets a property of the snapshot's summary.
    pub fn with_property(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.properties.insert(key.into(), value.to_string());
        self
    }

    /// Requires that the table has this watermark when the commit takes effect; `None`: that it has no
    /// snapshot at all. That makes a commit conditional: a fold on the base seq it was planned from.
    pub fn expecting(mut self, key: impl Into<String>, value: Option<String>) -> Self {
        self.expected.insert(key.into(), value);
        self
    }

    /// Requires that the writer still holds the namespace.
    pub fn with_fence(mut self, fence: &'a Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Names the commit, so that repeating it after a crash is recognised and does nothing.
    pub fn with_commit_id(mut self, commit_id: Uuid) -> Self {
        self.commit_id = commit_id;
        self
    }

    /// How often to repeat it.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Commits, and returns the table with the new snapshot.
    ///
    /// # Errors
    /// By [`CommitError::kind`]: `Conflict` must be planned again, `Fenced` must stop, `Unknown` must
    /// read the table before repeating (or repeat under the same commit id), `Failed` did nothing.
    ///
    /// Not cancel safe: a dropped call may still commit; repeat it under the same commit id.
    pub async fn run(
        self,
        warehouse: &Warehouse,
        ident: &TableIdent,
    ) -> Result<Table, CommitError> {
        self.check(ident)?;
        let catalog = warehouse.catalog();
        let mut unclear = None;
        let mut attempt = 0;
        loop {
            let loaded = catalog.load_table(ident).await;
            let table =
                loaded.map_err(|e| unclear.take().unwrap_or(CommitError::failed(ident, e)))?;
            if self.is_in(&table) {
                return Ok(table);
            }
            if attempt >= self.retry.attempts.max(1) {
                let tries = format!("{attempt} attempts lost against other commits");
                return Err(unclear.unwrap_or_else(|| CommitError::conflict(ident, tries)));
            }
            match self.attempt(warehouse, &table, attempt).await {
                Ok(table) => return Ok(table),
                Err(attempt::Stop::Final(error)) => {
                    // An earlier attempt of unknown fate outweighs one that certainly failed.
                    let failed = error.kind() == CommitErrorKind::Failed;
                    return Err(unclear.filter(|_| failed).unwrap_or(error));
                }
                Err(attempt::Stop::Again(error)) => {
                    unclear = (error.kind() == CommitErrorKind::Unknown).then_some(error);
                }
            }
            self.retry.wait(attempt).await;
            attempt += 1;
        }
    }

    /// Whether this commit took effect already.
    fn is_in(&self, table: &Table) -> bool {
        let ours = self.commit_id.to_string();
        let mut snapshots = table.metadata().snapshots();
        snapshots.any(|snapshot| {
            let summary = &snapshot.summary().additional_properties;
            summary.get(COMMIT_ID) == Some(&ours)
        })
    }

    fn check(&self, ident: &TableIdent) -> Result<(), CommitError> {
        let mut seen = BTreeSet::new();
        let twice = self.add.iter().find(|file| !seen.insert(file.file_path()));
        if let Some(file) = twice {
            let reason = format!("{} is added twice", file.file_path());
            return Err(CommitError::failed(ident, reason));
        }
        let has_deletes = self
            .add
            .iter()
            .any(|file| file.content_type() != DataContentType::Data);
        if self.operation == Operation::Append && has_deletes {
            let reason = "delete files cannot be appended: commit them as a row delta";
            return Err(CommitError::failed(ident, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = RetryPolicy {
            attempts: 100,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(75),
        };
        let pauses: Vec<_> = (0..5).map(|n| retry.pause(n).as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 75, 75]);
        assert_eq!(retry.pause(u32::MAX).as_millis(), 75);
    }
}
