//! `lakesync client`: the local database of a client, for a person to make, look into, edit and sync.
//!
//! Invariant: whatever it does goes through `lakesync-client`, as an application's own writes do: an edit made here is
//! captured and synced, and a file that an application has open may be used meanwhile.

mod address;
mod guard;
mod init;
mod outbox;
mod rows;
mod sql;
mod status;
mod sync;

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use lakesync_client::{ClientError, LocalDb, rusqlite};

use super::CliError;
use crate::clock::SystemClock;

/// What `lakesync client --help` says below the commands.
const EXAMPLES: &str = "\
Examples:
  lakesync serve &
  lakesync client init ana.db --client-id ana --url http://localhost:7420 --schema todos.json --create-tables
  lakesync client sql ana.db \"insert into todos (title) values ('Buy milk')\"
  lakesync client outbox ana.db            # what waits to be sent
  lakesync client sync ana.db              # push, pull, done; --live stays
  lakesync client status ana.db --verify   # where it stands; the same rows as the gateway?

A file that an application made needs `init` as well, once, to be told the gateway's address; its rows stay.
An edit that the gateway refuses is a dead letter: `lakesync client outbox FILE dead` says why.";

/// What to do with a client's database.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum ClientCommand {
    /// Makes a local database, or tells one that is there which gateway it syncs with.
    Init(init::InitArgs),
    /// Shows where it stands: its place, its outbox, its tables; `--verify` compares it with the gateway.
    Status(status::StatusArgs),
    /// Pushes what waits and pulls what is new; `--live` stays until Ctrl-C.
    Sync(sync::SyncArgs),
    /// Runs SQL on the local database, offline; writes are captured as edits.
    Sql(sql::SqlArgs),
    /// Lists the edits that are not confirmed yet, and the refused ones: why, and what to do with them.
    Outbox(outbox::OutboxArgs),
}

/// Runs a command.
///
/// # Errors
/// What the database or the gateway refused, with the next step.
pub async fn run(command: ClientCommand) -> Result<(), CliError> {
    match command {
        ClientCommand::Init(args) => blocking(move || init::run(&args)).await,
        ClientCommand::Status(args) => blocking(move || status::run(&args)).await,
        ClientCommand::Sync(args) => sync::run(args).await,
        ClientCommand::Sql(args) => blocking(move || sql::run(&args)).await,
        ClientCommand::Outbox(args) => blocking(move || outbox::run(&args)).await,
    }
}

/// Runs what waits for SQLite and for the network where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await?
}

/// Opens the client database that is there.
fn open(file: &Path) -> Result<LocalDb, CliError> {
    if !file.exists() {
        return Err(format!(
            "there is no {}; `lakesync client init` makes a local database",
            file.display()
        )
        .into());
    }
    LocalDb::reopen(file, Arc::new(SystemClock)).map_err(|error| match error {
        ClientError::NoClient => format!(
            "{} is no local database of a LakeSync client; `lakesync client init` makes one, under another name",
            file.display()
        )
        .into(),
        error => unopened(file, error),
    })
}

/// A file that SQLite does not open, or does not read.
fn unopened(file: &Path, error: ClientError) -> CliError {
    match error {
        ClientError::Database(error) => format!("{}: {error}", file.display()).into(),
        error => explained(error),
    }
}

/// An error of the client with everything that caused it: SQLite's own words are in the source, and what is behind those
/// are its numbers for them.
fn explained(error: ClientError) -> CliError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = match error.is::<rusqlite::Error>() {
            true => None,
            false => error.source(),
        };
    }
    text.into()
}

/// `1 edit`, `2 edits`.
fn counted(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// The file that a command works on.
#[derive(clap::Args, Debug)]
struct FileArgs {
    /// The local database, an SQLite file.
    file: PathBuf,
}
