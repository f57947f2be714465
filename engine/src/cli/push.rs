//! `lakesync push`: the rows or deltas of an NDJSON file into a table.
//!
//! **Invariant:** batches are acknowledged one after another, so when it ends early everything that was
//! reported is durable, and running it again is harmless: deltas are recognised, rows are written anew.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _, stderr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use lakesync_proto::{
    ClientId, ColumnType, DeltaKey, HlcClock, Op, Outcome, Push, RowDelta, RowId, Seq,
    TableDefinition, TableName, TableSchema, WallClock as _, decode_push_json, limits,
};
use uuid::Uuid;

use super::connection::Connection;
use super::rows::{DeltaLine, Import, Line, LineKind, Row, RowReader, parse_type_override};
use super::{CliError, DirArgs};
use crate::clock::SystemClock;

/// How many rows go into one push: enough to share an fsync, few enough to see progress.
const BATCH_ROWS: usize = 5_000;
/// How many bytes of values go into one push; the body limit is larger, as JSON takes more room.
const BATCH_BYTES: usize = limits::PUSH_BODY_BYTES_MAX / 4;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What `lakesync push` is asked for.
#[derive(Args, Debug)]
pub struct PushArgs {
    #[command(flatten)]
    place: DirArgs,
    /// The NDJSON file; - reads standard input.
    file: PathBuf,
    /// The table that rows go to; it is made from the first rows when there is none. Deltas name theirs.
    #[arg(long)]
    table: Option<String>,
    /// The key columns of the rows, separated by commas; without a key a row has the id that its
    /// `row_id` says, or gets a new one.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    key: Vec<String>,
    /// The type of a column of a new table, as in `price=decimal(15,2)`; may be given several times.
    #[arg(long = "type", value_name = "COLUMN=TYPE", value_parser = parse_type_override)]
    types: Vec<(String, ColumnType)>,
    /// The client id that rows are stamped with.
    #[arg(long, default_value = "import")]
    client: String,
}

/// Pushes the whole file.
///
/// # Errors
/// What the file, the table or the gateway refused, by line; earlier batches stay.
pub async fn run(args: PushArgs) -> Result<(), CliError> {
    let input: Box<dyn BufRead + Send> = match args.file.as_os_str() == "-" {
        true => Box::new(BufReader::new(std::io::stdin())),
        false => {
            let file = File::open(&args.file)
                .map_err(|error| format!("{}: {error}", args.file.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut reader = RowReader::new(input);
    let Some(kind) = reader.kind()? else {
        return Err(format!("{} holds no lines", args.file.display()).into());
    };
    let connection = Connection::open_or_create(&args.place.dir, &args.place.gateway).await?;
    let mut progress = Progress::new();
    let pushed = match kind {
        LineKind::Row => rows(&args, &connection, &mut reader, &mut progress).await,
        LineKind::Delta => deltas(&connection, &mut reader, &mut progress).await,
    };
    match &pushed {
        Ok(()) => progress.end(),
        Err(_) => progress.cut_short(),
    }
    pushed
}

async fn rows(
    args: &PushArgs,
    connection: &Connection,
    reader: &mut RowReader<Box<dyn BufRead + Send>>,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let table = args
        .table
        .as_deref()
        .ok_or("plain rows need a table: add --table NAME (and --key COLUMNS)")?;
    let mut target = target(args, connection, reader, &TableName::parse(table)?).await?;
    let client_id = ClientId::parse(&args.client)?;
    let mut clock = HlcClock::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    while let Some(line) = reader.next_line()? {
        let Line::Row(row) = line else { continue };
        let delta = delta_of(&row, &target.schema, &client_id, &mut clock)?;
        bytes += delta.bytes();
        batch.push(delta);
        if batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
            target.make(connection).await?;
            send(connection, &client_id, std::mem::take(&mut batch), progress).await?;
            bytes = 0;
        }
    }
    target.make(connection).await?;
    send(connection, &client_id, batch, progress).await
}

/// The table that rows go to.
struct Target {
    schema: Arc<TableSchema>,
    /// How to make it, while it does not exist: only once its first rows have been read.
    to_make: Option<TableDefinition>,
}

impl Target {
    async fn make(&mut self, connection: &Connection) -> Result<(), CliError> {
        if let Some(definition) = self.to_make.take() {
            connection.put_schema(definition).await?;
            drop(writeln!(stderr(), "made {}", described(&self.schema)));
        }
        Ok(())
    }
}

/// `orders (o_orderkey long, …), key o_orderkey`.
fn described(schema: &TableSchema) -> String {
    let columns = schema.columns.iter();
    let columns: Vec<String> = columns
        .map(|column| format!("{} {}", column.name, column.column_type))
        .collect();
    let key: Vec<&str> = schema.primary_key.iter().map(AsRef::as_ref).collect();
    let key = match key.is_empty() {
        true => "no key".to_owned(),
        false => format!("key {}", key.join(", ")),
    };
    format!("table {} ({}), {key}", schema.table, columns.join(", "))
}

async fn target(
    args: &PushArgs,
    connection: &Connection,
    reader: &mut RowReader<Box<dyn BufRead + Send>>,
    table: &TableName,
) -> Result<Target, CliError> {
    if let Some(schema) = connection.schema(table).await? {
        check_known(args, &schema)?;
        return Ok(Target {
            schema,
            to_make: None,
        });
    }
    let import = Import::new(table.clone(), args.key.clone(), args.types.clone());
    let definition = reader.infer(&import)?;
    Ok(Target {
        schema: Arc::new(TableSchema::from_definition(&definition)?),
        to_make: Some(definition),
    })
}

/// What the command says of a table that exists must be true of it.
fn check_known(args: &PushArgs, schema: &TableSchema) -> Result<(), CliError> {
    let table = &schema.table;
    let key: Vec<&str> = schema.primary_key.iter().map(AsRef::as_ref).collect();
    if !args.key.is_empty() && args.key != key {
        let (key, asked) = (key.join(","), args.key.join(","));
        return Err(format!("`{table}` exists with the key ({key}), not ({asked})").into());
    }
    for (name, asked) in &args.types {
        let reason = match schema.column(name).map(|column| column.column_type) {
            Some(column_type) if column_type == *asked => continue,
            Some(column_type) => format!("has `{name}` as {column_type}, not {asked}"),
            None => format!("has no column `{name}`"),
        };
        return Err(format!(
            "`{table}` exists and {reason}; POST /v1/admin/schema changes a table"
        )
        .into());
    }
    Ok(())
}

fn delta_of(
    row: &Row,
    schema: &TableSchema,
    client_id: &ClientId,
    clock: &mut HlcClock,
) -> Result<RowDelta, CliError> {
    let changes = row.changes(schema)?;
    let of_key = schema.row_id(&|name| {
        let change = changes.iter().find(|change| change.column.as_ref() == name);
        change.map(|change| change.value.clone())
    });
    let at = |reason: String| format!("line {}: {reason}", row.line);
    let of_key = of_key.map_err(|error| at(error.to_string()))?;
    let given = row.row_id.as_deref().map(RowId::parse).transpose();
    let row_id = match (of_key, given.map_err(|error| at(error.to_string()))?) {
        (Some(key), Some(given)) if key != given => {
            let reason =
                format!("row_id is `{given}`, but the key makes it `{key}`; leave row_id out");
            return Err(at(reason).into());
        }
        (Some(key), _) => key,
        (None, Some(given)) => given,
        (None, None) => RowId::parse(&Uuid::now_v7().to_string())?,
    };
    let key = DeltaKey {
        table: schema.table.clone(),
        row_id,
        client_id: client_id.clone(),
        hlc: clock.now(SystemClock.now_ms())?,
    };
    Ok(RowDelta::new(Op::Insert, key, changes))
}

async fn deltas(
    connection: &Connection,
    reader: &mut RowReader<Box<dyn BufRead + Send>>,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let mut batch: Vec<DeltaLine> = Vec::new();
    let mut bytes = 0;
    while let Some(line) = reader.next_line()? {
        let Line::Delta(delta) = line else { continue };
        // One push carries one client's deltas.
        let ends = batch
            .first()
            .is_some_and(|first| first.client_id != delta.client_id);
        if ends || batch.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
            send_lines(connection, std::mem::take(&mut batch), progress).await?;
            bytes = 0;
        }
        bytes += delta.json.len();
        batch.push(delta);
    }
    send_lines(connection, batch, progress).await
}

async fn send_lines(
    connection: &Connection,
    lines: Vec<DeltaLine>,
    progress: &mut Progress,
) -> Result<(), CliError> {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        return Ok(());
    };
    let span = format!("lines {} to {}", first.line, last.line);
    let client_id = ClientId::parse(&first.client_id)?;
    let deltas: Vec<&str> = lines.iter().map(|line| line.json.as_str()).collect();
    let body = format!(
        "{{\"clientId\":{},\"deltas\":[{}],\"lastSeenHlc\":\"0\"}}",
        serde_json::Value::from(first.client_id.as_str()),
        deltas.join(",")
    );
    let schemas = connection.schemas().await?;
    let push =
        decode_push_json(body.as_bytes(), &schemas).map_err(|error| format!("{span}: {error}"))?;
    send(connection, &client_id, push.deltas, progress)
        .await
        .map_err(|error| format!("{span}: {error}").into())
}

async fn send(
    connection: &Connection,
    client_id: &ClientId,
    deltas: Vec<RowDelta>,
    progress: &mut Progress,
) -> Result<(), CliError> {
    if deltas.is_empty() {
        return Ok(());
    }
    let push = Push {
        client_id: client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let ack = connection.push(push).await?;
    progress.add(&ack.outcomes);
    Ok(())
}

/// What has been acknowledged, said once a second.
#[derive(Debug)]
struct Progress {
    began: Instant,
    said: Instant,
    accepted: usize,
    duplicates: usize,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            began: now,
            said: now,
            accepted: 0,
            duplicates: 0,
        }
    }

    fn add(&mut self, outcomes: &[Outcome]) {
        let new = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Accepted(_)))
            .count();
        self.accepted += new;
        self.duplicates += outcomes.len() - new;
        if self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            drop(writeln!(stderr(), "{} …", self.text()));
        }
    }

    fn end(&self) {
        drop(writeln!(stderr(), "{}, durable", self.text()));
    }

    /// Says what stays when the rest is refused.
    fn cut_short(&self) {
        let kept = self.accepted + self.duplicates;
        let kept = match kept {
            0 => "nothing was pushed".to_owned(),
            kept => {
                format!("the first {kept} were pushed and stay; correct the rest and push again")
            }
        };
        drop(writeln!(stderr(), "{kept}"));
    }

    fn text(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let total = self.accepted + self.duplicates;
        let known = match self.duplicates {
            0 => String::new(),
            duplicates => format!(" ({duplicates} were there before)"),
        };
        format!("{total} deltas acknowledged{known} in {seconds:.1} s")
    }
}
