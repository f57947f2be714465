//! `lakesync compact | optimize | expire | vacuum | maintain`: the procedures as commands.
//!
//! Each is one `CALL`, in this process, through the server that holds the directory, or through one at `--url`.
//!
//! **Invariant:** a command does what the procedure of its name does, and nothing else: what a script sees of it is the
//! procedure's answer. A job that failed ends with 1, after everything was shown.

use std::io::stdout;
use std::path::PathBuf;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::DataType;
use clap::Args;

use super::CliError;
use super::connection::Connection;
use super::render::{Format, RowWriter};
use super::sql::{self, Answer};

/// What all of them are asked for.
#[derive(Args, Clone, Debug)]
pub struct WhereArgs {
    /// The data directory.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "lakesync-data",
        conflicts_with = "url"
    )]
    dir: PathBuf,
    /// The gateway, which is the SQL schema.
    #[arg(long, value_name = "NAME", default_value = "public")]
    gateway: String,
    /// A server elsewhere, by its URL; $LAKESYNC_TOKEN has the token, whose role is admin.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Tells what would be done and does nothing.
    #[arg(long)]
    dry_run: bool,
    /// Writes one JSON array instead of a table.
    #[arg(long)]
    json: bool,
}

const COMPACT: &str = "\
Folds what is flushed into the base, so that every Iceberg reader sees it. A server does this by itself
(see `lakesync config`, [compact]); use it before another program reads the files, or from cron without a server.

Examples:
  lakesync compact orders
  lakesync compact orders --mode copy-on-write   # for readers that know no delete files
  lakesync compact orders --dry-run --json
  lakesync compact orders --url https://lake.example";

/// `lakesync compact`.
#[derive(Args, Debug)]
#[command(after_help = COMPACT)]
pub struct CompactArgs {
    /// The table.
    table: String,
    /// merge-on-read, copy-on-write or equality-deletes [default: compact.mode].
    #[arg(long)]
    mode: Option<String>,
    #[command(flatten)]
    place: WhereArgs,
}

const OPTIMIZE: &str = "\
Folds what is flushed, then puts small files together, writes files with dead rows or out of order anew, and puts
manifests together, however few there are. Nothing is expired: the past stays readable.

Examples:
  lakesync optimize orders
  lakesync optimize orders --full        # flushes first, and writes every file of the base anew
  lakesync optimize orders --dry-run";

/// `lakesync optimize`.
#[derive(Args, Debug)]
#[command(after_help = OPTIMIZE)]
pub struct OptimizeArgs {
    /// The table.
    table: String,
    /// Flushes first, and writes every file of the base anew.
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    place: WhereArgs,
}

const EXPIRE: &str = "\
Expires snapshots that the history does not keep, and deletes the files that only they reach. Kept are: what the table
is, tagged snapshots, one base snapshot a day of the history, and what somebody reads.

Examples:
  lakesync expire orders --dry-run
  lakesync expire orders --older-than '7 days' --retain-last 5
  lakesync expire orders --older-than '2026-01-31 12:00:00'";

/// `lakesync expire`.
#[derive(Args, Debug)]
#[command(after_help = EXPIRE)]
pub struct ExpireArgs {
    /// The table.
    table: String,
    /// How old a snapshot has to be, as in '7 days', or a time in UTC [default: maintenance.keep_snapshots].
    #[arg(long, value_name = "AGE|TIME")]
    older_than: Option<String>,
    /// How many of the newest are kept whatever their age [default: maintenance.retain_last].
    #[arg(long, value_name = "N")]
    retain_last: Option<u32>,
    #[command(flatten)]
    place: WhereArgs,
}

const VACUUM: &str = "\
Expires snapshots, drops deltas of the log that nothing can need any more, and removes files that no snapshot reaches:
everything that takes room and that the history does not need.

Examples:
  lakesync vacuum --dry-run
  lakesync vacuum orders --retain '7 days'   # time travel is exact for a week; what is older is gone for good";

/// `lakesync vacuum`.
#[derive(Args, Debug)]
#[command(after_help = VACUUM)]
pub struct VacuumArgs {
    /// The tables [default: all of the gateway].
    tables: Vec<String>,
    /// How far back time travel stays exact, in whole hours, as in '7 days' [default: maintenance.history].
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    retain: Option<std::time::Duration>,
    #[command(flatten)]
    place: WhereArgs,
}

const MAINTAIN: &str = "\
Does everything that is due by the settings, as the scheduler of `lakesync serve` would, whatever its intervals. For
directories that no server looks after: run it from cron.

Examples:
  lakesync maintain
  lakesync maintain orders todos --dry-run
  lakesync maintain --json | jq '.[] | select(.status != \"done\")'";

/// `lakesync maintain`.
#[derive(Args, Debug)]
#[command(after_help = MAINTAIN)]
pub struct MaintainArgs {
    /// The tables [default: all of the gateway].
    tables: Vec<String>,
    #[command(flatten)]
    place: WhereArgs,
}

/// Runs `lakesync compact`.
///
/// # Errors
/// When the table is not there, or the compaction fails.
pub async fn compact(args: CompactArgs) -> Result<(), CliError> {
    let mut call = Call::of("compact").table(&args.table);
    if let Some(mode) = &args.mode {
        call = call.with("mode", &quoted(mode));
    }
    call.run(&args.place).await
}

/// Runs `lakesync optimize`.
///
/// # Errors
/// When the table is not there, or a job fails.
pub async fn optimize(args: OptimizeArgs) -> Result<(), CliError> {
    let call = Call::of("optimize").table(&args.table);
    let call = match args.full {
        true => call.with("full", "true"),
        false => call,
    };
    call.run(&args.place).await
}

/// Runs `lakesync expire`.
///
/// # Errors
/// When the table is not there, or the expiry fails.
pub async fn expire(args: ExpireArgs) -> Result<(), CliError> {
    let mut call = Call::of("expire_snapshots").table(&args.table);
    if let Some(text) = &args.older_than {
        // An age is read here, so that it may be written as everywhere on the command line.
        let value = match humantime::parse_duration(text) {
            Ok(age) => format!("INTERVAL '{} seconds'", age.as_secs()),
            Err(_) => quoted(text),
        };
        call = call.with("older_than", &value);
    }
    if let Some(number) = args.retain_last {
        call = call.with("retain_last", &number.to_string());
    }
    call.run(&args.place).await
}

/// Runs `lakesync vacuum`.
///
/// # Errors
/// When a table is not there, or a job fails.
pub async fn vacuum(args: VacuumArgs) -> Result<(), CliError> {
    let mut call = Call::of("vacuum").tables(&args.tables);
    if let Some(retain) = args.retain {
        let hours = retain.as_secs().div_ceil(3_600);
        call = call.with("retain_hours", &hours.to_string());
    }
    call.run(&args.place).await
}

/// Runs `lakesync maintain`.
///
/// # Errors
/// When a table is not there, or a job fails.
pub async fn maintain(args: MaintainArgs) -> Result<(), CliError> {
    Call::of("maintain")
        .tables(&args.tables)
        .run(&args.place)
        .await
}

/// A call as it is put together.
struct Call {
    procedure: &'static str,
    arguments: Vec<String>,
}

impl Call {
    fn of(procedure: &'static str) -> Self {
        Self {
            procedure,
            arguments: Vec::new(),
        }
    }

    fn table(self, name: &str) -> Self {
        let name = quoted(name);
        self.with("\"table\"", &name)
    }

    fn tables(self, names: &[String]) -> Self {
        let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        match quoted.is_empty() {
            true => self,
            false => self.with("\"table\"", &format!("ARRAY[{}]", quoted.join(", "))),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("{name} => {value}"));
        self
    }

    /// Runs it and shows its answer.
    async fn run(mut self, place: &WhereArgs) -> Result<(), CliError> {
        if place.dry_run {
            self = self.with("dry_run", "true");
        }
        let connection = match &place.url {
            Some(url) => Connection::at(url, &place.gateway)?,
            None => Connection::open(&place.dir, &place.gateway).await?,
        };
        let text = format!(
            "CALL system.{}({})",
            self.procedure,
            self.arguments.join(", ")
        );
        let answer = sql::answer(&connection, &text).await?;
        show(&answer, place.json)?;
        match failures(&answer.batches) {
            0 => Ok(()),
            failed => Err(format!("{failed} of the jobs failed; the rows above say why").into()),
        }
    }
}

/// A text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn show(answer: &Answer, json: bool) -> Result<(), CliError> {
    let format = if json { Format::Json } else { Format::Table };
    let mut rows = RowWriter::new(format, &answer.schema, stdout())?;
    for batch in &answer.batches {
        rows.write(batch)?;
    }
    rows.finish()?;
    Ok(())
}

/// How many rows tell of a job that failed.
fn failures(batches: &[RecordBatch]) -> usize {
    let statuses = batches
        .iter()
        .filter_map(|batch| batch.column_by_name("status"));
    let failed = statuses
        .filter(|status| *status.data_type() == DataType::Utf8)
        .map(|status| {
            let texts = status.as_string::<i32>();
            (0..texts.len())
                .filter(|row| texts.is_valid(*row) && texts.value(*row).starts_with("failed"))
                .count()
        });
    failed.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_quotes() {
        let call = Call::of("compact")
            .table("o'brien').flush('x")
            .with("dry_run", "true");
        assert_eq!(
            call.arguments.join(", "),
            "\"table\" => 'o''brien'').flush(''x', dry_run => true"
        );
        let none = Call::of("maintain").tables(&[]);
        assert!(none.arguments.is_empty());
    }
}
