//! `lakesync client sql`: statements in, rows out, on the local database. No gateway is needed.
//!
//! Invariant: the statements of one call are one transaction: all of them count or none. What they write to a synced table
//! is captured like an application's edit.

use std::io::{Read as _, Write as _};

use clap::Args;
use lakesync_client::rusqlite::fallible_iterator::FallibleIterator as _;
use lakesync_client::rusqlite::{self, Batch, Connection, Statement};
use lakesync_client::{ClientError, SqlValue};

use super::guard::{Shapes, refuse_own};
use super::open;
use super::rows::Table;
use crate::cli::CliError;
use crate::cli::render::{Format, RenderError};
use crate::syntax::SQL_BYTES_MAX;

/// Most rows of one result, which are held to be written in columns: some hundred bytes each.
const ROWS_MAX: usize = 1_000_000;

/// SQLite calls these read-only, as they change no row; inside a transaction they end or nest it.
const CONTROLS: [&str; 6] = ["BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"];

/// How statements begin that change rows; one with a WITH that only reads has columns.
const WRITES: [&str; 5] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"];

const EXAMPLES: &str = "\
Examples:
  lakesync client sql ana.db 'select * from todos'
  lakesync client sql ana.db \"insert into todos (title) values ('Buy milk'); update todos set done = 1\"
  lakesync client sql ana.db --format ndjson 'select title from todos where not done' | jq -r .title
  lakesync client sql ana.db < script.sql

The dialect is SQLite's. All statements of a call are one transaction: when one fails, none has happened.
A boolean is 0 or 1, a date '2026-01-31', a timestamp '2026-01-31T09:30:00.000000Z', a decimal and JSON are text.";

/// What `lakesync client sql` is asked for.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct SqlArgs {
    #[command(flatten)]
    file: super::FileArgs,
    /// The statements, separated by semicolons; without them they are read from standard input.
    sql: Option<String>,
    /// The statements, as `lakesync sql` takes them.
    #[arg(short, long, value_name = "SQL", conflicts_with = "sql")]
    command: Option<String>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Runs the statements one after another; the first that fails ends it.
pub(super) fn run(args: &SqlArgs) -> Result<(), CliError> {
    let sql = match args.sql.as_ref().or(args.command.as_ref()) {
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
    db.with_connection(|connection| statements(connection, &sql, args))
}

fn statements(connection: &Connection, sql: &str, args: &SqlArgs) -> Result<(), CliError> {
    Run {
        connection,
        shapes: Shapes::of(connection)?,
        args,
    }
    .all(sql)
}

/// The statements of a call.
struct Run<'a> {
    connection: &'a Connection,
    shapes: Shapes,
    args: &'a SqlArgs,
}

impl Run<'_> {
    fn all(&self, sql: &str) -> Result<(), CliError> {
        let format = self.args.format;
        let mut batch = Batch::new(self.connection, sql);
        let mut read = true;
        while let Some(mut statement) = batch.next().map_err(|error| self.worded(error))? {
            let text = statement.expanded_sql().unwrap_or_default();
            let verb = first_word(&text);
            if CONTROLS.contains(&verb.as_str()) {
                return Err("the statements of a call are one transaction: leave out begin, commit and rollback".into());
            }
            if !statement.readonly()
                && let Some(refusal) = refuse_own(&text)
            {
                return Err(refusal.into());
            }
            if statement.column_count() > 0 {
                let table = self.table(&mut statement)?;
                // Whoever reads only the beginning, as `head` does, still wants the writes that follow.
                if read {
                    match table.write(format) {
                        Err(error) if is_closed_output(error.as_ref()) => read = false,
                        written => note(format, "row", written?),
                    }
                }
                continue;
            }
            let changed = statement.execute([]).map_err(|error| self.worded(error))?;
            // Of what changes no rows SQLite tells the number of the statement before.
            match WRITES.contains(&verb.as_str()) {
                true => note(format, "change", changed),
                false => {
                    if let Some(refusal) = self.shapes.refuse_change(self.connection)? {
                        return Err(refusal.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn table(&self, statement: &mut Statement<'_>) -> Result<Table, CliError> {
        let mut table = Table::new(statement.column_names());
        let width = table.columns.len();
        let worded = |error| self.worded(error);
        let mut rows = statement.query([]).map_err(worded)?;
        while let Some(row) = rows.next().map_err(worded)? {
            if table.rows.len() == ROWS_MAX {
                return Err(
                    format!("the result has more than {ROWS_MAX} rows; add a LIMIT").into(),
                );
            }
            let values = (0..width).map(|column| row.get::<_, SqlValue>(column));
            table.rows.push(values.collect::<rusqlite::Result<_>>()?);
        }
        Ok(table)
    }

    /// What SQLite says, in the words of the schema where it has some, and which tables there are when one is not.
    fn worded(&self, error: rusqlite::Error) -> CliError {
        let text = match ClientError::from(error) {
            ClientError::Database(error) => error.to_string(),
            error => error.to_string(),
        };
        if !text.starts_with("no such table: ") {
            return text.into();
        }
        let file = self.args.file.file.display();
        match tables(self.connection) {
            Ok(tables) if tables.is_empty() => format!(
                "{text}; there are none yet: `lakesync client sync {file}` brings the gateway's"
            )
            .into(),
            Ok(tables) => format!("{text}; there are: {}", tables.join(", ")).into(),
            Err(_) => text.into(),
        }
    }
}

/// The names of the tables and views that are not the client's own.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = r"SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
        AND name NOT LIKE '\_lakesync\_%' ESCAPE '\' ORDER BY name LIMIT 20";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// The first word of a statement, in capitals.
fn first_word(sql: &str) -> String {
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
    first.to_ascii_uppercase()
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
            assert!(CONTROLS.contains(&first_word(sql).as_str()), "{sql}");
        }
        for sql in [
            "select 1",
            "",
            "--",
            "/*",
            "insert into begin values (1)",
            "endless",
        ] {
            assert!(!CONTROLS.contains(&first_word(sql).as_str()), "{sql}");
        }
    }
}
