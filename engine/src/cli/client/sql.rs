//! `lakesync client sql`: statements in, rows out, on the local database. No gateway is needed.
//!
//! Invariant: the statements of one call are one transaction: all of them count or none. What they write to a synced table
//! is captured like an application's edit.

use std::io::{Read as _, Write as _};

use clap::Args;
use lakesync_client::SqlValue;
use lakesync_client::rusqlite::fallible_iterator::FallibleIterator as _;
use lakesync_client::rusqlite::{self, Batch, Connection, Statement};

use super::open;
use super::rows::Table;
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

The dialect is SQLite's. All statements of a call are one transaction: when one fails, none has happened.";

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
    db.with_connection(|connection| statements(connection, &sql, args.format))
}

fn statements(connection: &Connection, sql: &str, format: Format) -> Result<(), CliError> {
    let mut batch = Batch::new(connection, sql);
    let mut read = true;
    while let Some(mut statement) = batch.next()? {
        if controls_transaction(&statement.expanded_sql().unwrap_or_default()) {
            return Err("the statements of a call are one transaction: leave out begin, commit and rollback".into());
        }
        if statement.column_count() > 0 {
            let table = table(&mut statement)?;
            // Whoever reads only the beginning, as `head` does, still wants the writes that follow.
            if read {
                match table.write(format) {
                    Err(error) if is_closed_output(error.as_ref()) => read = false,
                    written => note(format, "row", written?),
                }
            }
        } else if statement.readonly() {
            statement.execute([])?;
        } else {
            note(format, "change", statement.execute([])?);
        }
    }
    Ok(())
}

/// SQLite calls these read-only, as they change no row; inside a transaction they end or nest it.
fn controls_transaction(sql: &str) -> bool {
    let mut text = sql.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}', ';']);
    loop {
        let rest = match (text.strip_prefix("--"), text.strip_prefix("/*")) {
            (Some(comment), _) => comment.split_once('\n'),
            (None, Some(comment)) => comment.split_once("*/"),
            (None, None) => break,
        };
        text = rest.map_or("", |(_, rest)| rest.trim_start());
    }
    let first: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    let controls = ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"];
    controls.contains(&first.to_ascii_uppercase().as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_end_the_transaction_are_known_behind_comments_too() {
        for sql in [
            "begin",
            " ; COMMIT",
            "-- why\nEnd transaction",
            "/* a */ -- b\n /**/rollback",
            "savepoint a",
        ] {
            assert!(controls_transaction(sql), "{sql}");
        }
        for sql in [
            "select 1",
            "",
            "--",
            "/*",
            "insert into begin values (1)",
            "endless",
        ] {
            assert!(!controls_transaction(sql), "{sql}");
        }
    }
}
