//! The steps of a merge, file by file.
//!
//! **Invariant:** every change is applied once; one that does not fit its file ends the merge with an error.

use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch};
use lakesync_providers::crash;
use lakesync_providers::lake::{EqualityDeleteFile, WriteOptions, arrow_schema};

use super::cells::{Cells, Row};
use super::cursor::{Cursor, Extent, Place, Run};
use super::decide::{Treatment, treatments};
use super::files::Files;
use super::output::{Output, Rows};
use super::positions::Deletes;
use super::read::{ahead, misfit};
use super::{MergeInto, MergeOptions, Merged};
use crate::config::WriteMode;
use crate::error::{Error, Result};
use crate::fold::Changes;
use crate::progress::{Progress, Unit};

/// A merge that is under way.
pub(super) struct Work<'a> {
    into: MergeInto<'a>,
    files: Files,
    treatments: Vec<Treatment>,
    cells: Cells,
    cursor: Cursor,
    output: Output<'a>,
    deletes: Deletes<'a>,
    /// The row ids that are deleted from older files, in the mode that does so.
    equality: Option<EqualityDeleteFile>,
    /// Files that new ones take the place of.
    remove: Vec<String>,
    /// The numbers of the data files among them.
    gone: Vec<usize>,
    /// Data files that got rows deleted.
    deleted_from: u64,
    /// Rows that the changes make it read or write.
    rows_by_estimate: u64,
}

/// What there is to do.
pub(super) enum Steps<'s> {
    /// Apply the changes.
    Changes,
    /// Rewrite these data files.
    Rewrite(&'s [String]),
}

impl<'a> Work<'a> {
    pub(super) async fn begin(
        into: MergeInto<'a>,
        changes: Changes,
        options: &MergeOptions,
    ) -> Result<Self> {
        let files = Files::of(&into).await?;
        let base = arrow_schema(&into.base.table)?;
        let cells = Cells::new(into.schema, &base, &changes.schema)?;
        let by_row_id = options.mode == WriteMode::EqualityDeletes && !files.is_empty();
        let equality = match by_row_id {
            true => {
                let write = WriteOptions::new("deletes");
                Some(EqualityDeleteFile::open(&into.base.table, &write)?)
            }
            false => None,
        };
        let states = files.states(&changes.counts);
        let treatments = treatments(&states, options);
        let rows = states.iter().zip(&treatments);
        let rows = rows.filter(|(file, _)| file.touched > 0);
        let rows = rows.map(|(file, treatment)| match treatment {
            Treatment::Rewrite => file.rows,
            Treatment::Delete => file.touched,
        });
        Ok(Self {
            rows_by_estimate: rows.sum::<u64>().saturating_add(changes.counts.elsewhere),
            treatments,
            files,
            cells,
            cursor: Cursor::new(changes),
            output: Output::open(&into, options).await?,
            deletes: Deletes::of(into.base),
            equality,
            remove: Vec::new(),
            gone: Vec::new(),
            deleted_from: 0,
            into,
        })
    }

    pub(super) async fn run(mut self, steps: Steps<'_>, progress: &Progress) -> Result<Merged> {
        let done = match steps {
            Steps::Changes => self.changes(progress).await,
            Steps::Rewrite(paths) => self.rewrites(paths, progress).await,
        };
        match done {
            Ok(()) => self.finish().await,
            Err(error) => Err(self.discard(error).await),
        }
    }

    async fn changes(&mut self, progress: &Progress) -> Result<()> {
        progress.begin("writing base files", Unit::Rows, self.rows_by_estimate);
        while let Some(place) = self.cursor.place().await? {
            let Place::File(at) = place else {
                self.rows_without_place(progress).await?;
                continue;
            };
            match self.treatments.get(at) {
                Some(Treatment::Rewrite) => self.rewrite(at, progress).await?,
                Some(Treatment::Delete) => self.delete(at, progress).await?,
                None => return Err(misfit("a change is of a file that the base does not have")),
            }
            crash::point("fold.between_files");
        }
        Ok(())
    }

    async fn rewrites(&mut self, paths: &[String], progress: &Progress) -> Result<()> {
        let mut files: Vec<usize> = paths
            .iter()
            .filter_map(|path| self.files.find(path))
            .collect();
        // Files that lie together stay together.
        files.sort_unstable();
        files.dedup();
        let rows = files.iter().filter_map(|at| self.files.get(*at));
        let rows = rows.map(|file| file.rows).sum();
        progress.begin("writing base files", Unit::Rows, rows);
        for at in files {
            self.rewrite(at, progress).await?;
            crash::point("rewrite.between_files");
        }
        Ok(())
    }

    /// Writes a file anew, without its dead and deleted rows.
    async fn rewrite(&mut self, at: usize, progress: &Progress) -> Result<()> {
        let Some(file) = self.files.get(at) else {
            return Err(misfit("a file has no number"));
        };
        self.output.begin_file(file.bytes).await?;
        let mut rows = ahead(self.files.open(at, &self.into).await?.all()?);
        let mut dead = self.files.dead(at);
        let mut first = 0_u32;
        while let Some(batch) = rows.recv().await {
            let batch = batch?;
            let end = u32::try_from(batch.num_rows()).ok();
            let end = end.and_then(|rows| first.checked_add(rows));
            let end = end.ok_or_else(|| misfit("a file has more rows than can be counted"))?;
            let changes = self
                .cursor
                .gather(Place::File(at), Extent::Below(end))
                .await?;
            let here = dead.partition_point(|position| *position < end);
            let kept = kept(first..end, &dead[..here], changes.as_ref())?;
            let changes = changes.as_ref().map(|run| &run.rows);
            for rows in self.cells.rows(&kept, Some(&batch), changes)? {
                self.output.write(Rows::Rewritten, rows).await?;
            }
            progress.add(count(batch.num_rows()));
            dead = &dead[here..];
            first = end;
        }
        if u64::from(first) != file.rows {
            return Err(misfit(
                "a file has another number of rows than its manifest says",
            ));
        }
        if self.cursor.place().await? == Some(Place::File(at)) {
            return Err(misfit("a change is beyond the end of its file"));
        }
        self.remove.push(file.path.clone());
        self.remove.extend(self.files.deletes_of(&file.path));
        self.gone.push(at);
        Ok(())
    }

    /// Deletes the touched rows of a file, and writes what they are now to other files.
    async fn delete(&mut self, at: usize, progress: &Progress) -> Result<()> {
        let Some(file) = self.files.get(at) else {
            return Err(misfit("a file has no number"));
        };
        let mut positions = Vec::new();
        let mut open = None;
        while let Some(run) = self.cursor.gather(Place::File(at), Extent::Enough).await? {
            positions.extend_from_slice(&run.positions);
            progress.add(count(run.rows.num_rows()));
            if let Some(equality) = &mut self.equality {
                equality.write(row_ids(&run.rows)).await?;
            }
            let replaced = Replaced::of(&run, &self.cells);
            let mut next = 0;
            if !replaced.needed.is_empty() {
                let rows = match &open {
                    Some(rows) => rows,
                    None => open.insert(self.files.open(at, &self.into).await?),
                };
                let mut bases = ahead(rows.at(&replaced.needed)?);
                let mut read = 0;
                while let Some(base) = bases.recv().await {
                    let base = base?;
                    read += base.num_rows();
                    let end = replaced.end_of(read)?;
                    let rows = replaced.rows(next..end);
                    next = end;
                    for rows in self.cells.rows(&rows, Some(&base), Some(&run.rows))? {
                        self.output.write(Rows::Other, rows).await?;
                    }
                }
                if read != replaced.needed.len() {
                    return Err(misfit("a file has fewer rows than it gave positions for"));
                }
            }
            let rest = replaced.rows(next..run.rows.num_rows());
            for rows in self.cells.rows(&rest, None, Some(&run.rows))? {
                self.output.write(Rows::Other, rows).await?;
            }
        }
        self.deleted_from += 1;
        if self.equality.is_some() {
            return Ok(());
        }
        let dead = self.files.dead(at);
        self.remove.extend(self.files.deletes_of(&file.path));
        let left = file
            .rows
            .saturating_sub(count(dead.len()) + count(positions.len()));
        if left > 0 {
            return self.deletes.add(file, dead, &positions).await;
        }
        // None of its rows is left, so the file itself can go.
        self.remove.push(file.path.clone());
        self.gone.push(at);
        Ok(())
    }

    /// Writes rows that no file of the base has, or that nobody had to look for.
    async fn rows_without_place(&mut self, progress: &Progress) -> Result<()> {
        let run = self.cursor.gather(Place::Nowhere, Extent::Enough).await?;
        let Some(Run { rows, .. }) = run else {
            return Ok(());
        };
        if let Some(equality) = &mut self.equality {
            equality.write(row_ids(&rows)).await?;
        }
        progress.add(count(rows.num_rows()));
        let exist = exists(&rows, WITHOUT_BASE);
        let new: Vec<Row> = (0..rows.num_rows())
            .filter(|row| exist.value(*row))
            .map(Row::new)
            .collect();
        for rows in self.cells.rows(&new, None, Some(&rows))? {
            self.output.write(Rows::Other, rows).await?;
        }
        Ok(())
    }

    async fn finish(self) -> Result<Merged> {
        let Self {
            files,
            output,
            deletes,
            equality,
            ..
        } = self;
        let mut remove = self.remove;
        remove.extend(files.spent_deletes(&self.gone));
        let add = match output.close().await {
            Ok(add) => add,
            Err(error) => {
                deletes.discard().await;
                if let Some(equality) = equality {
                    equality.discard().await;
                }
                return Err(error);
            }
        };
        crash::point("fold.after_data_files");
        let mut merged = Merged::new(add, Vec::new(), remove);
        let written = match equality {
            Some(equality) => equality.close().await.map_err(Error::from),
            None => Ok(Vec::new()),
        };
        let positions = match written {
            Ok(files) => {
                merged.deletes = files;
                deletes.close().await
            }
            Err(error) => {
                deletes.discard().await;
                Err(error)
            }
        };
        match positions {
            Ok(positions) => {
                merged.deletes.extend(positions);
                let rewritten = self.gone.iter().filter_map(|at| files.get(*at));
                merged.count(rewritten.map(|file| file.bytes), self.deleted_from);
                Ok(merged)
            }
            Err(error) => {
                merged.discard(self.into.base).await;
                Err(error)
            }
        }
    }

    async fn discard(self, error: Error) -> Error {
        let error = self.output.discard(error).await;
        self.deletes.discard().await;
        if let Some(equality) = self.equality {
            equality.discard().await;
        }
        error
    }
}

/// The columns of changes that say whether a row exists.
const WITH_BASE: usize = 3;
const WITHOUT_BASE: usize = 4;

fn exists(changes: &RecordBatch, column: usize) -> &BooleanArray {
    changes.column(column).as_boolean()
}

fn row_ids(changes: &RecordBatch) -> &datafusion::arrow::array::StringArray {
    changes.column(2).as_string()
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

/// The rows of a batch of a file that are left of it, with the changes of some.
fn kept(positions: std::ops::Range<u32>, dead: &[u32], changes: Option<&Run>) -> Result<Vec<Row>> {
    let mut dead = dead.iter().copied().peekable();
    let changed = changes.map_or(&[][..], |run| &run.positions);
    let mut changed = changed.iter().copied().enumerate().peekable();
    let exist = changes.map(|run| exists(&run.rows, WITH_BASE));
    let mut rows = Vec::with_capacity(positions.len());
    for (row, position) in positions.enumerate() {
        let change = changed
            .next_if(|(_, at)| *at == position)
            .map(|(change, _)| change);
        if dead.next_if_eq(&position).is_some() {
            if change.is_some() {
                return Err(misfit("a change is of a row that was deleted before"));
            }
            continue;
        }
        let is_left = match (change, exist) {
            (Some(change), Some(exist)) => exist.value(change),
            _ => true,
        };
        if is_left {
            rows.push(Row {
                base: Some(row),
                change,
            });
        }
    }
    Ok(rows)
}

/// What some touched rows of a file are replaced by.
struct Replaced<'r> {
    exist: &'r BooleanArray,
    complete: BooleanArray,
    /// The positions of the rows that need their old values, and the changes that they are of.
    needed: Vec<u32>,
    changes: Vec<usize>,
}

impl<'r> Replaced<'r> {
    fn of(run: &'r Run, cells: &Cells) -> Self {
        let exist = exists(&run.rows, WITH_BASE);
        let complete = cells.complete(&run.rows);
        let changes = 0..run.rows.num_rows();
        let changes = changes.filter(|row| exist.value(*row) && !complete.value(*row));
        let changes: Vec<usize> = changes.collect();
        Self {
            needed: changes.iter().map(|row| run.positions[*row]).collect(),
            exist,
            complete,
            changes,
        }
    }

    /// Behind the change whose old values are the last of so many.
    fn end_of(&self, read: usize) -> Result<usize> {
        let last = read.checked_sub(1).and_then(|last| self.changes.get(last));
        let last = last.ok_or_else(|| misfit("a file has more rows than it was asked for"))?;
        Ok(last + 1)
    }

    /// The rows that exist among some changes, the first of them that are not complete with the rows of a batch.
    fn rows(&self, changes: std::ops::Range<usize>) -> Vec<Row> {
        let mut old = 0..;
        let exist = changes.filter(|change| self.exist.value(*change));
        let rows = exist.map(|change| Row {
            base: match self.complete.value(change) {
                true => None,
                false => old.next(),
            },
            change: Some(change),
        });
        rows.collect()
    }
}
