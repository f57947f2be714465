//! `lakesync client sql`: statements in, rows out, on the local database. No gateway is needed.
//!
//! Invariant: each statement is a transaction, unless the text itself begins one; one that is still open at the end is
//! rolled back, and that is an error. What it writes to a synced table is captured like an application's edit.

use std::io::{Read as _, Write as _};

use clap::Args;
use lakesync_client::SqlValue;
use lakesync_client::rusqlite::{self, Batch, Connection, Statement};

use super::rows::Table;
use super::{explained, open};
use crate::cli::CliError;
use crate::cli::render::{Format, RenderError};
use crate::syntax::SQL_BYTES_MAX;

/// Most rows of one result, which are held to be written in columns: some hundred bytes each.
const ROWS_MAX: usize = 1_000_000;

const EXAMPLES: &str = "\
Examples:
  lakesync client sql ana.db 'select * from todos'
  lakesync client sql ana.db \"insert into todos (title) values ('Buy milk'); update todos set done = 1\"
  lakesync client sql ana.db --format ndjson 'select title from todos where not done' | jq -r .title
  lakesync client sql ana.db < script.sql

The dialect is SQLite's. Each statement is a transaction; `begin; …; commit` makes several one.";

/// What `lakesync client sql` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SqlArgs {
    #[command(flatten)]
    file: super::FileArgs,
    /// The statements, separated by semicolons; without them they are read from standard input.
    sql: Option<String>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Runs the statements one after another; the first that fails ends it.
pub(super) fn run(args: &SqlArgs) -> Result<(), CliError> {
    let sql = match &args.sql {
        Some(sql) => sql.clone(),
        None => {
            let mut sql = String::new();
            std::io::stdin()
                .take(SQL_BYTES_MAX as u64 + 1)
                .read_to_string(&mut sql)?;
            sql
        }
    };
    if sql.len() > SQL_BYTES_MAX {
        return Err(format!("the statements exceed {SQL_BYTES_MAX} bytes").into());
    }
    let db = open(&args.file.file)?;
    let mut failed = None;
    let ran = db.with_connection(|connection| {
        let written = statements(connection, &sql, args.format);
        let open = !connection.is_autocommit();
        if open {
            connection.execute_batch("ROLLBACK")?;
        }
        failed = match written {
            Err(error) => Some(error),
            Ok(()) if open => {
                Some("the transaction was begun and not committed: nothing of it was kept".into())
            }
            Ok(()) => None,
        };
        Ok(())
    });
    ran.map_err(explained)?;
    match failed {
        Some(error) if is_closed_output(error.as_ref()) => Ok(()),
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn statements(connection: &Connection, sql: &str, format: Format) -> Result<(), CliError> {
    let mut batch = Batch::new(connection, sql);
    while let Some(mut statement) = batch.next()? {
        if statement.column_count() > 0 {
            let table = table(&mut statement)?;
            note(format, "row", table.write(format)?);
        } else {
            let writes = !statement.readonly();
            let before = connection.total_changes();
            statement.execute([])?;
            if writes {
                let changed = connection.total_changes().saturating_sub(before);
                let direct = usize::try_from(connection.changes()).unwrap_or(usize::MAX);
                // Triggers change rows of the client's own; those that the statement itself changed are told.
                note(format, "change", if changed == 0 { 0 } else { direct });
            }
        }
    }
    Ok(())
}

fn table(statement: &mut Statement<'_>) -> Result<Table, CliError> {
    let mut table = Table::new(statement.column_names());
    let width = table.columns.len();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if table.rows.len() == ROWS_MAX {
            return Err(format!("the result has more than {ROWS_MAX} rows; add a LIMIT").into());
        }
        let values = (0..width).map(|column| row.get::<_, SqlValue>(column));
        table.rows.push(values.collect::<rusqlite::Result<_>>()?);
    }
    Ok(table)
}

fn note(format: Format, noun: &str, count: usize) {
    if format == Format::Table {
        let end = if count == 1 { "" } else { "s" };
        drop(writeln!(std::io::stderr(), "({count} {noun}{end})"));
    }
}

fn is_closed_output(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<RenderError>()
        .is_some_and(RenderError::is_closed_output)
}
