//! What the sqllogictest files of `tests/slt` run against: a lake of their own, whose clock stands still.
//!
//! Besides SQL a file may say, as a `statement ok`:
//!
//! | text | does |
//! |---|---|
//! | `table {json}` | makes or evolves a table from its definition |
//! | `clock 2023-11-14T22:13:20Z` | sets the lake's clock; that is where it stands at the beginning |
//! | `push ana 2023-11-14T22:13:20Z update people 7 {"name": "Ana"}` | pushes one delta of client `ana` with that stamp; a line each makes them one push, `2023-11-14T22:13:20Z+3` is the stamp with the counter 3 |
//! | `restart` | closes the lake and opens it again |
//!
//! An `EXPLAIN` gives one row a line, indented with dashes, without what differs from run to run: the paths of files.
//! Snapshot ids differ too; `let id` with `control substitution on` names them (then a dollar is written `\$`).
//!
//! Invariant: a file's answers follow from its text alone.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use lakesync::Lake;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, ManualClock, Op, Push, RowDelta, RowId,
    Schemas as _, Seq, TableName, Value, WallClock,
};
use serde_json::value::RawValue;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType};
use thiserror::Error;

/// The wall clock at the start of every file, in milliseconds since 1970: 2023-11-14T22:13:20Z.
const START_MS: u64 = 1_700_000_000_000;

/// Why a statement failed, as its author reads it.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ScriptError(String);

type Output = DBOutput<DefaultColumnType>;

/// A lake that a file of statements is run against.
#[derive(Debug)]
pub struct ScriptedLake {
    folder: PathBuf,
    clock: Arc<ManualClock>,
    lake: Option<Lake>,
}

impl ScriptedLake {
    /// An empty lake in `folder`.
    pub async fn open(folder: PathBuf) -> ScriptedLake {
        let mut scripted = ScriptedLake {
            folder,
            clock: Arc::new(ManualClock::new(START_MS)),
            lake: None,
        };
        scripted.restart().await;
        scripted
    }

    async fn restart(&mut self) {
        drop(self.lake.take());
        let clock = Arc::clone(&self.clock) as Arc<dyn WallClock>;
        let lake = Lake::builder(&self.folder).with_clock(clock).open().await;
        self.lake = Some(lake.expect("a folder of its own"));
    }

    fn lake(&self) -> &Lake {
        self.lake.as_ref().expect("open between statements")
    }

    async fn push(&self, lines: &str) -> Result<(), ScriptError> {
        let gateway = self.lake().gateway("public").map_err(said)?;
        let live = gateway.live();
        let mut deltas = Vec::new();
        for line in lines.lines() {
            let line = line.strip_prefix("push ").unwrap_or(line);
            deltas.push(delta(line, &|table| live.schema(table))?);
        }
        let push = Push {
            client_id: deltas[0].client_id.clone(),
            deltas,
            last_seen: Seq::ZERO,
            schemas: None,
        };
        gateway.push(push).await.map_err(said)?;
        Ok(())
    }

    async fn query(&self, sql: &str) -> Result<Output, ScriptError> {
        let frame = self.lake().sql(sql).await.map_err(said)?;
        let types = frame.schema().fields().iter();
        let types = types.map(|field| column_type(field.data_type())).collect();
        let batches = frame.collect().await;
        let batches = batches.map_err(|error| said(lakesync::Error::from(error)))?;
        let explains = sql.trim_start().get(..7);
        let rows = match explains.is_some_and(|word| word.eq_ignore_ascii_case("explain")) {
            true => plan_lines(&batches),
            false => cells(&batches),
        };
        Ok(DBOutput::Rows { types, rows })
    }
}

#[async_trait]
impl AsyncDB for ScriptedLake {
    type Error = ScriptError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<Output, ScriptError> {
        let done = DBOutput::StatementComplete(0);
        match sql.split_once([' ', '\n']) {
            _ if sql == "restart" => self.restart().await,
            Some(("table", definition)) => {
                self.lake().create_table(definition).await.map_err(said)?;
            }
            Some(("clock", time)) => self.clock.set(wall_ms(time)?),
            Some(("push", _)) => self.push(sql).await?,
            _ => return self.query(sql).await,
        }
        Ok(done)
    }

    async fn shutdown(&mut self) {
        drop(self.lake.take());
    }

    fn engine_name(&self) -> &'static str {
        "lakesync"
    }
}

fn said(error: impl std::error::Error) -> ScriptError {
    ScriptError(error.to_string())
}

fn wrong(line: &str, reason: &str) -> ScriptError {
    ScriptError(format!("`{line}`: {reason}"))
}

type SchemaOf<'a> = dyn Fn(&TableName) -> Option<Arc<lakesync_proto::TableSchema>> + 'a;

/// `ana 2023-11-14T22:13:20Z update people 7 {"name": "Ana"}`.
fn delta(line: &str, schema: &SchemaOf<'_>) -> Result<RowDelta, ScriptError> {
    let mut words = line.splitn(6, ' ');
    let mut word = || words.next().ok_or_else(|| wrong(line, "a word is missing"));
    let client_id = ClientId::parse(word()?).map_err(said)?;
    let hlc = stamp(word()?)?;
    let op = match word()? {
        "insert" => Op::Insert,
        "update" => Op::Update,
        "delete" => Op::Delete,
        _ => return Err(wrong(line, "the third word is insert, update or delete")),
    };
    let table = TableName::parse(word()?).map_err(said)?;
    let row_id = RowId::parse(word()?).map_err(said)?;
    let schema = schema(&table).ok_or_else(|| wrong(line, "there is no such table"))?;
    let values: std::collections::BTreeMap<String, Box<RawValue>> = match words.next() {
        Some(json) => serde_json::from_str(json).map_err(said)?,
        None => std::collections::BTreeMap::new(),
    };
    let mut changes = Vec::new();
    for (name, value) in values {
        let column = ColumnName::parse(&name).map_err(said)?;
        let known = schema.column(&name);
        let known = known.ok_or_else(|| wrong(line, "there is no such column"))?;
        let value = Value::from_json_text(value.get(), known.column_type).map_err(said)?;
        changes.push(ColumnChange { column, value });
    }
    let key = DeltaKey {
        table,
        row_id,
        client_id,
        hlc,
    };
    Ok(RowDelta::new(op, key, changes))
}

fn stamp(text: &str) -> Result<Hlc, ScriptError> {
    let (time, counter) = text.split_once('+').unwrap_or((text, "0"));
    let counter = counter.parse();
    let counter = counter.map_err(|_| wrong(text, "the counter is no number"))?;
    Hlc::new(wall_ms(time)?, counter).map_err(said)
}

/// Milliseconds since 1970 of `2023-11-14T22:13:20Z`.
fn wall_ms(text: &str) -> Result<u64, ScriptError> {
    let time = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(text.trim());
    let nanos = time.map_err(said)?;
    u64::try_from(nanos / 1_000_000).map_err(said)
}

fn column_type(data_type: &DataType) -> DefaultColumnType {
    match data_type {
        _ if data_type.is_integer() => DefaultColumnType::Integer,
        _ if data_type.is_floating() => DefaultColumnType::FloatingPoint,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    }
}

fn cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => {
                    let text = array_value_to_string(column, row);
                    let text = text.expect("every type of a result can be shown");
                    match text.is_empty() {
                        true => "(empty)".to_owned(),
                        false => text.replace('\n', "\\n"),
                    }
                }
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    rows
}

/// The lines of the plans, without the paths of files.
fn plan_lines(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |column: usize| {
                array_value_to_string(batch.column(column), row).expect("plans are texts")
            };
            rows.push(vec![cell(0)]);
            for line in cell(1).lines() {
                let text = line.trim_start();
                let dashes = "-".repeat(line.len() - text.len());
                rows.push(vec![format!("{dashes}{}", without_paths(text))]);
            }
        }
    }
    rows
}

/// `file_groups={1 group: [[a/b.parquet, a/c.parquet]]}` as `file_groups={1 group: 2 files}`.
fn without_paths(line: &str) -> String {
    let Some((before, rest)) = line.split_once(": [[") else {
        return line.to_owned();
    };
    let Some((files, after)) = rest.split_once("]]}") else {
        return line.to_owned();
    };
    let count = files.matches(".parquet").count();
    let files = if count == 1 { "file" } else { "files" };
    format!("{before}: {count} {files}}}{after}")
}
