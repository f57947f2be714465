//! What the demo prints, and the comparisons that make it a test.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};
use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use lakesync_proto::Value;

use super::story::{Edit, Held, Rows, Story};
use crate::cli::CliError;
use crate::cli::render::{Format, write_batches};
use crate::cli::text_table::TextTable;
use crate::lake::Lake;

const COLUMNS: [&str; 5] = ["id", "title", "status", "points", "owner"];

/// The demo's output so far.
#[derive(Debug)]
pub(super) struct Report {
    checks: usize,
    step: usize,
}

impl Report {
    pub(super) fn new() -> Self {
        Self { checks: 0, step: 0 }
    }

    /// How many answers have been compared and found equal.
    pub(super) fn checks(&self) -> usize {
        self.checks
    }

    pub(super) fn title(&mut self, text: &str) -> Result<(), CliError> {
        self.step += 1;
        Ok(writeln!(stdout(), "\n{}. {text}\n", self.step)?)
    }

    pub(super) fn say(&self, text: &str) -> Result<(), CliError> {
        Ok(writeln!(stdout(), "\n{text}")?)
    }

    pub(super) fn clocks(&self, story: &Story) -> Result<(), CliError> {
        let people = story.people().iter();
        let clocks: Vec<String> = people
            .map(|person| format!("{} {:+} s", person.name, person.skew_ms / 1_000))
            .collect();
        Ok(writeln!(
            stdout(),
            "Their clocks are wrong: {}.",
            clocks.join(", ")
        )?)
    }

    pub(super) fn edits(&self, edits: &[Edit]) -> Result<(), CliError> {
        let mut table = TextTable::new(["client", "edit", "what it shows"]);
        for edit in edits {
            table.row([edit.client, edit.sql, edit.lesson]);
        }
        Ok(writeln!(stdout(), "{table}")?)
    }

    pub(super) fn rows(&self, rows: &Rows) -> Result<(), CliError> {
        let mut table = TextTable::new(COLUMNS);
        for cells in shown(rows) {
            table.row(cells);
        }
        Ok(writeln!(stdout(), "{table}")?)
    }

    /// Shows what every client holds; the rows must be the same.
    pub(super) fn converged(&mut self, all: &[Held]) -> Result<(), CliError> {
        let mut table = TextTable::new(["client"].into_iter().chain(COLUMNS));
        for held in all {
            let rows = shown(&held.rows);
            self.compare(held.client, &rows, &shown(&all[0].rows))?;
            for row in rows {
                table.row([held.client.to_owned()].into_iter().chain(row));
            }
        }
        Ok(writeln!(stdout(), "{table}")?)
    }

    /// Runs a statement and shows its rows; they must be `expected`, when that is given.
    pub(super) async fn query(
        &mut self,
        lake: &Lake,
        sql: &str,
        expected: Option<&Rows>,
    ) -> Result<(), CliError> {
        writeln!(stdout(), "lakesync> {sql}")?;
        let frame = lake.sql(sql).await?;
        let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.map_err(crate::Error::from)?;
        write_batches(Format::Table, &schema, &batches, stdout())?;
        if let Some(expected) = expected {
            self.compare(sql, &cells(&batches)?, &shown(expected))?;
        }
        Ok(())
    }

    /// The id of the newest snapshot of the log.
    pub(super) async fn log_snapshot(&self, lake: &Lake) -> Result<i64, CliError> {
        let sql = "select snapshot_id from \"tasks$snapshots\" where kind = 'log' order by seq desc limit 1";
        let batches = lake
            .sql(sql)
            .await?
            .collect()
            .await
            .map_err(crate::Error::from)?;
        let first = batches.iter().find(|batch| batch.num_rows() > 0);
        let first = first.ok_or("the flush made no snapshot")?;
        Ok(first.column(0).as_primitive::<Int64Type>().value(0))
    }

    /// Lists what is in the data directory.
    pub(super) fn files(&self, root: &Path) -> Result<(), CliError> {
        let mut folders: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let metadata = entry.metadata()?;
                if metadata.is_dir() {
                    open.push(entry.path());
                    continue;
                }
                let shown = folder.strip_prefix(root)?.display().to_string();
                let (files, bytes) = folders.entry(format!("{shown}/")).or_default();
                *files += 1;
                *bytes += metadata.len();
            }
        }
        let mut table = TextTable::new(["folder", "files", "bytes"]);
        for (folder, (files, bytes)) in folders {
            table.row([folder, files.to_string(), bytes.to_string()]);
        }
        Ok(writeln!(stdout(), "{table}")?)
    }

    fn compare(
        &mut self,
        what: &str,
        actual: &[[String; 5]],
        expected: &[[String; 5]],
    ) -> Result<(), CliError> {
        if actual != expected {
            return Err(format!("{what}\n  gives    {actual:?}\n  instead of {expected:?}").into());
        }
        self.checks += 1;
        Ok(())
    }
}

fn shown(rows: &Rows) -> Vec<[String; 5]> {
    let rows = rows.values();
    rows.map(|values| {
        COLUMNS.map(|column| match values.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(value) => value.text().unwrap_or_default(),
        })
    })
    .collect()
}

fn cells(batches: &[RecordBatch]) -> Result<Vec<[String; 5]>, CliError> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut cells = <[String; 5]>::default();
            for (cell, column) in cells.iter_mut().zip(batch.columns()) {
                *cell = arrow::util::display::array_value_to_string(column, row)?;
            }
            rows.push(cells);
        }
    }
    Ok(rows)
}
