//! `lakesync client sync`: push what waits, pull what is new; once, or until it is told to stop.
//!
//! Invariant: what it does is what an application's own session does; ended at any moment, the file is one that the next
//! sync goes on from.

use std::io::{Write as _, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use lakesync_client::{
    ChangedRows, Changes, HttpTransport, LocalDb, Phase, SessionOptions, Status, SyncHandle,
};

use super::address::{Address, TokenArgs, hint};
use super::{blocking, counted, explained, open};
use crate::cli::CliError;

/// How often a sync that takes long says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often a live session's status is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  lakesync client sync ana.db
  lakesync client sync ana.db --live      # what others do comes as they do it; Ctrl-C ends it
  lakesync client sync ana.db --verify    # then compares the rows with the gateway's, and mends what differs";

/// What `lakesync client sync` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SyncArgs {
    #[command(flatten)]
    file: super::FileArgs,
    /// Stays, with live updates, until Ctrl-C.
    #[arg(long)]
    live: bool,
    /// Compares the rows with the gateway's at the end; a table that differs is loaded anew.
    #[arg(long, conflicts_with = "live")]
    verify: bool,
    #[command(flatten)]
    token: TokenArgs,
}

/// Syncs.
pub(super) async fn run(args: SyncArgs) -> Result<(), CliError> {
    let (file, token) = (args.file.file.clone(), args.token.clone());
    let (db, transport) = blocking(move || {
        let db = open(&file)?;
        let transport = Address::of(&db, &file)?.transport(&token)?;
        Ok((db, transport))
    })
    .await?;
    match args.live {
        true => live(db, transport).await,
        false => once(db, transport, &args).await,
    }
}

async fn once(db: LocalDb, transport: HttpTransport, args: &SyncArgs) -> Result<(), CliError> {
    let began = Instant::now();
    let watched = db.clone();
    let before = blocking(move || watched.overview().map_err(explained)).await?;
    let (synced_db, verify) = (db.clone(), args.verify);
    let mut syncing = tokio::task::spawn_blocking(move || {
        let failed = |error| hint(explained(error));
        let synced = synced_db.sync(&transport).map_err(failed)?;
        let differed = match verify {
            true => Some(synced_db.verify(&transport).map_err(failed)?),
            false => None,
        };
        Ok::<_, CliError>((synced, differed))
    });
    let mut progress = tokio::time::interval(PROGRESS_EVERY);
    progress.tick().await;
    let (synced, differed) = loop {
        tokio::select! {
            done = &mut syncing => break done??,
            _ = progress.tick() => say(&line(&db.status())),
        }
    };
    let last_error = db.status().last_error;
    let after = blocking(move || db.overview().map_err(explained)).await?;
    let seconds = began.elapsed().as_secs_f64();
    say(&format!(
        "{} acknowledged, {} applied in {seconds:.1} s; everything up to seq {} is here",
        counted(synced.acknowledged, "edit"),
        counted(synced.applied, "change"),
        after.seq.as_u64()
    ));
    refused(
        &args.file.file,
        before.outbox.rejected,
        after.outbox.rejected,
    );
    match (differed, last_error) {
        (None, _) => {}
        (Some(0), _) => say("verified: the confirmed rows are the gateway's"),
        (Some(_), Some(error)) => return Err(error.message.into()),
        (Some(tables), None) => say(&format!(
            "{} differed, and came anew",
            counted(tables, "table")
        )),
    }
    if after.outbox.pending > 0 {
        say(&format!(
            "{} to send; `lakesync client status {}` says what waits for what",
            counted(after.outbox.pending, "edit"),
            args.file.file.display()
        ));
    }
    Ok(())
}

/// Dead letters that came with this sync.
fn refused(file: &Path, before: u64, after: u64) {
    if after > before {
        say(&format!(
            "{} refused; `lakesync client outbox {} dead` says why",
            counted(after - before, "edit"),
            file.display()
        ));
    }
}

async fn live(db: LocalDb, transport: HttpTransport) -> Result<(), CliError> {
    let watched = db.clone();
    let watch = blocking(move || {
        let tables = watched.overview().map_err(explained)?.tables;
        let names: Vec<&str> = tables.iter().map(|known| known.table.as_str()).collect();
        watched.watch(&names).map_err(explained)
    })
    .await?;
    let handle = SyncHandle::start(db.clone(), transport, SessionOptions::default());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut said = line(&db.status());
    let stopped = tokio::signal::ctrl_c();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            ended = &mut stopped => {
                ended?;
                break;
            }
            _ = looks.tick() => {
                let now = line(&handle.status());
                if now != said {
                    say(&now);
                    said = now;
                }
                if let Some(changes) = watch.try_next() {
                    arrived(&changes);
                }
            }
        }
    }
    blocking(move || {
        handle.stop();
        let waiting = db.overview().map_err(explained)?.outbox.pending;
        say(&format!("stopped; {} to send", counted(waiting, "edit")));
        Ok(())
    })
    .await
}

/// Which tables the edits of others have changed.
fn arrived(changes: &Changes) {
    for (table, rows) in &changes.tables {
        match rows {
            ChangedRows::Some(rows) => {
                let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                say(&format!("{table}: {} changed", counted(count, "row")));
            }
            ChangedRows::Many => say(&format!("{table}: many rows changed")),
        }
    }
}

/// A status in one line.
fn line(status: &Status) -> String {
    let phase = match status.phase {
        Phase::Offline => "offline".to_owned(),
        Phase::Connecting => "connecting".to_owned(),
        Phase::Loading { rows } => format!("first sync: {rows} rows so far"),
        Phase::Pulling => "pulling".to_owned(),
        Phase::Pushing => "pushing".to_owned(),
        Phase::Live => "live: up to date".to_owned(),
        Phase::Idle => "up to date".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
        _ => "syncing".to_owned(),
    };
    let counts = &status.counts;
    let waiting = match counts.pending + counts.in_flight {
        0 => String::new(),
        waiting => format!(", {} to send", counted(waiting, "edit")),
    };
    let refused = match counts.rejected {
        0 => String::new(),
        refused => format!(", {refused} refused"),
    };
    let error = match &status.last_error {
        None => String::new(),
        Some(error) => format!("; {}", error.message),
    };
    format!("{phase}{waiting}{refused}{error}")
}

fn say(text: &str) {
    // A terminal that has gone away is no reason to end.
    drop(writeln!(stderr(), "{text}"));
}
