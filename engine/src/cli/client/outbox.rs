//! `lakesync client outbox`: own edits that are not confirmed yet, and those that the gateway refused.
//!
//! Invariant: nothing is lost here but by `discard`, and that names its entry.

use std::io::{Write as _, stdout};
use std::path::Path;

use clap::{Args, Subcommand};
use lakesync_client::{ClientError, DeadLetter, EntryState, LocalDb, OutboxEntry, SqlValue};
use lakesync_proto::{ColumnChange, Op, Value};

use super::rows::Table;
use super::{counted, explained, open};
use crate::cli::CliError;
use crate::cli::render::Format;
use crate::cli::text_table::one_line;

const EXAMPLES: &str = "\
Examples:
  lakesync client outbox ana.db                        # what is not confirmed yet, oldest first
  lakesync client outbox ana.db dead                   # what was refused, and why
  lakesync client outbox ana.db retry 17               # send it again, as an edit made now
  lakesync client outbox ana.db retry --all-too-late   # all that came later than the gateway takes them
  lakesync client outbox ana.db discard 17             # give it up

An edit that was refused no longer shows in the rows: they are as the gateway has them. A retry brings it back.";

/// Longest value shown of an edit, in characters: what tells one from another.
const VALUE_CHARS_MAX: usize = 40;
/// Entries shown when nobody says how many.
const SHOWN: usize = 100;

/// What `lakesync client outbox` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct OutboxArgs {
    #[command(flatten)]
    file: super::FileArgs,
    #[command(subcommand)]
    command: Option<OutboxCommand>,
}

#[derive(Debug, Subcommand)]
enum OutboxCommand {
    /// Lists the edits that the gateway has not confirmed, oldest first.
    List(ListArgs),
    /// Lists the edits that the gateway refused, with its reasons.
    Dead(ListArgs),
    /// Sends refused edits again, as edits made now.
    Retry(RetryArgs),
    /// Gives a refused edit up for good.
    Discard {
        /// The number of the entry, as `dead` shows it.
        entry: i64,
    },
}

#[derive(Args, Debug)]
struct ListArgs {
    /// Most entries to show.
    #[arg(long, value_name = "COUNT", default_value_t = SHOWN)]
    limit: usize,
    /// How they are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct RetryArgs {
    /// The number of the entry, as `dead` shows it.
    entry: Option<i64>,
    /// All that were refused because they came too late.
    #[arg(long)]
    all_too_late: bool,
}

/// Does it.
pub(super) fn run(args: &OutboxArgs) -> Result<(), CliError> {
    let db = open(&args.file.file)?;
    let first = ListArgs {
        limit: SHOWN,
        format: Format::Table,
    };
    let file = &args.file.file;
    match args.command.as_ref().unwrap_or(&OutboxCommand::List(first)) {
        OutboxCommand::List(args) => list(&db, args, file),
        OutboxCommand::Dead(args) => dead(&db, args),
        OutboxCommand::Retry(retried) => retry(&db, retried, file),
        OutboxCommand::Discard { entry } => {
            let discarded = db.discard(*entry);
            discarded.map_err(|error| unknown(error, file))?;
            say(&format!("edit {entry} is given up"))
        }
    }
}

fn list(db: &LocalDb, args: &ListArgs, file: &Path) -> Result<(), CliError> {
    let mut table = Table::new(["entry", "state", "table", "row_id", "edit", "made_at"]);
    for entry in db.outbox(args.limit).map_err(explained)? {
        table.rows.push(vec![
            SqlValue::Integer(entry.entry),
            words(state(&entry)),
            words(entry.table.to_string()),
            words(entry.row_id.to_string()),
            words(edit(entry.op, &entry.columns)),
            words(time(entry.hlc.wall_ms())),
        ]);
    }
    let counts = db.outbox_counts().map_err(explained)?;
    let shown = table.write(args.format)?;
    if args.format != Format::Table {
        return Ok(());
    }
    let all = counts.pending + counts.in_flight + counts.acknowledged + counts.kept;
    let dead = match counts.rejected {
        0 => String::new(),
        dead => format!(
            "; {}: `lakesync client outbox {} dead`",
            counted(dead, "dead letter"),
            file.display()
        ),
    };
    let all = counted(all, "edit");
    say(&format!("({shown} of {all}{dead})"))
}

fn dead(db: &LocalDb, args: &ListArgs) -> Result<(), CliError> {
    let letters = db.dead_letters(args.limit).map_err(explained)?;
    if args.format != Format::Table {
        let mut table = Table::new([
            "entry",
            "table",
            "row_id",
            "edit",
            "code",
            "reason",
            "request",
            "refused_at",
        ]);
        table.rows.extend(letters.into_iter().map(dead_row));
        table.write(args.format)?;
        return Ok(());
    }
    if letters.is_empty() {
        return say("(no dead letters)");
    }
    // A reason is a sentence or two: beside the others in one line, no terminal is wide enough for it.
    let mut out = stdout().lock();
    for letter in &letters {
        write!(out, "{}", letter_text(letter))?;
    }
    drop(out);
    let late = letters.iter().filter(|letter| letter.is_too_late()).count();
    let next = match late {
        0 => "`retry ENTRY` sends one again, `discard ENTRY` gives it up".to_owned(),
        late => format!("{late} came too late: `retry --all-too-late` sends them as edits of now"),
    };
    let all = db.outbox_counts().map_err(explained)?.rejected;
    let shown = letters.len();
    say(&format!(
        "({shown} of {}; {next})",
        counted(all, "dead letter")
    ))
}

/// A dead letter for a person: what was written, where, and why it was refused.
fn letter_text(letter: &DeadLetter) -> String {
    let entry = letter.entry.to_string();
    let indent = " ".repeat(entry.len());
    let request = match &letter.reason.request_id {
        Some(request) => format!(" (request {request})"),
        None => String::new(),
    };
    let lines = [
        format!("{entry}  {}", dead_edit(letter)),
        format!(
            "{indent}  row {} of {}, refused at {}",
            letter.row_id,
            letter.table,
            time(letter.reason.at_ms)
        ),
        format!(
            "{indent}  {}: {}{request}",
            letter.reason.code, letter.reason.message
        ),
    ];
    lines.iter().map(|line| one_line(line) + "\n").collect()
}

fn dead_edit(letter: &DeadLetter) -> String {
    match (letter.op, &letter.captured) {
        (Some(op), _) => edit(op, &letter.columns),
        (None, captured) => captured.clone().unwrap_or_default(),
    }
}

fn dead_row(letter: DeadLetter) -> Vec<SqlValue> {
    let edit = dead_edit(&letter);
    vec![
        SqlValue::Integer(letter.entry),
        words(letter.table.to_string()),
        words(letter.row_id),
        words(edit),
        words(letter.reason.code),
        words(letter.reason.message),
        letter.reason.request_id.map_or(SqlValue::Null, words),
        words(time(letter.reason.at_ms)),
    ]
}

fn retry(db: &LocalDb, args: &RetryArgs, file: &Path) -> Result<(), CliError> {
    let count = match args.entry {
        Some(entry) => {
            let retried = db.retry(entry);
            retried.map_err(|error| unknown(error, file))?;
            1
        }
        None => db.retry_all_too_late().map_err(explained)?,
    };
    let noun = if count == 1 { "edit goes" } else { "edits go" };
    say(&format!("{count} {noun} with the next sync"))
}

/// An entry that is no dead letter is one that the person has misread.
fn unknown(error: ClientError, file: &Path) -> CliError {
    match error {
        ClientError::NoDeadLetter { entry } => format!(
            "edit {entry} is no dead letter; `lakesync client outbox {} dead` lists them",
            file.display()
        )
        .into(),
        error => explained(error),
    }
}

fn state(entry: &OutboxEntry) -> String {
    match entry.state {
        EntryState::Pending { held: true, .. } => "waits for the gateway's schema".to_owned(),
        EntryState::Pending { in_doubt: true, .. } => "waits, may have arrived".to_owned(),
        EntryState::Pending { .. } => "waits".to_owned(),
        EntryState::InFlight => "on its way".to_owned(),
        EntryState::Acknowledged(seq) => format!("acknowledged as {}", seq.as_u64()),
        EntryState::Kept(seq) => format!("kept, confirmed as {}", seq.as_u64()),
        _ => "known to a newer version".to_owned(),
    }
}

/// An edit in one line: `UPDATE title = "Buy milk"`.
fn edit(op: Op, columns: &[ColumnChange]) -> String {
    let verb = match op {
        Op::Insert => "INSERT",
        Op::Update => "UPDATE",
        Op::Delete => "DELETE",
    };
    let changes = columns.iter().map(|change| {
        let value = change.value.to_json().to_string();
        let mut shown: String = value.chars().take(VALUE_CHARS_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        format!("{} = {shown}", change.column)
    });
    let changes: Vec<String> = changes.collect();
    format!("{verb} {}", changes.join(", "))
        .trim_end()
        .to_owned()
}

/// RFC 3339 in UTC, to the millisecond.
fn time(ms: u64) -> String {
    let micros = i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1_000));
    let text = micros.and_then(|micros| Value::Timestamp(micros).text());
    text.unwrap_or_else(|| format!("{ms} ms"))
}

fn words(text: impl Into<String>) -> SqlValue {
    SqlValue::Text(text.into())
}

fn say(text: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stderr(), "{text}")?)
}
