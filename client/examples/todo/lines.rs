//! Without a terminal: a command a line in, plain lines out. For scripts, and for tests.
//!
//! Invariant: nothing is asked of the gateway but by `sync`, so what a script sees does not depend on time.

use std::io::{BufRead, Write};

use lakesync_client::Transport;

use crate::link::create_table;
use crate::todos::{Todo, Todos};

const HELP: &str = "add TITLE | done N | undone N | rename N TITLE | delete N | up N | down N | list | sync | quit";

/// Reads commands until `quit` or the end.
pub fn run(
    todos: &Todos,
    transport: Option<&dyn Transport>,
    input: impl BufRead,
    mut out: impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    for line in input.lines() {
        let line = line?;
        let line = line.trim();
        if line == "quit" {
            break;
        }
        if let Err(error) = obey(todos, transport, line, &mut out) {
            write!(out, "{line}: {error}")?;
            let mut source = error.source();
            while let Some(cause) = source {
                write!(out, ": {cause}")?;
                source = cause.source();
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn obey(
    todos: &Todos,
    transport: Option<&dyn Transport>,
    line: &str,
    out: &mut impl Write,
) -> Result<(), Box<dyn std::error::Error>> {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match command {
        "" => {}
        "add" if !rest.is_empty() => todos.add(rest)?,
        "done" => todos.set_done(&numbered(todos, rest)?, true)?,
        "undone" => todos.set_done(&numbered(todos, rest)?, false)?,
        "delete" => todos.delete(&numbered(todos, rest)?)?,
        "rename" => {
            let (number, title) = rest.split_once(' ').ok_or("a number and a title")?;
            todos.rename(&numbered(todos, number)?, title)?;
        }
        "up" | "down" => {
            let list = todos.list()?;
            let from = place(&list, rest)?;
            let to = match command {
                "up" => from.saturating_sub(1),
                _ => (from + 1).min(list.len() - 1),
            };
            if from != to {
                todos.shift(&list, from, to)?;
            }
        }
        "list" => {
            for (at, todo) in todos.list()?.iter().enumerate() {
                let tick = if todo.done { 'x' } else { ' ' };
                writeln!(out, "{} [{tick}] {}", at + 1, todo.title)?;
            }
        }
        "sync" => {
            let transport = transport.ok_or("start with --url to sync")?;
            create_table(transport);
            let synced = todos.db().sync(transport)?;
            writeln!(
                out,
                "sent {}, received {}",
                synced.acknowledged, synced.applied
            )?;
        }
        _ => writeln!(out, "{HELP}")?,
    }
    Ok(())
}

fn numbered(todos: &Todos, number: &str) -> Result<Todo, Box<dyn std::error::Error>> {
    let mut list = todos.list()?;
    let at = place(&list, number)?;
    Ok(list.swap_remove(at))
}

fn place(list: &[Todo], number: &str) -> Result<usize, Box<dyn std::error::Error>> {
    let number: usize = number.parse().map_err(|_| "a number of the list")?;
    let at = number.checked_sub(1).filter(|at| *at < list.len());
    Ok(at.ok_or("no such number in the list")?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakesync_client::LocalDb;
    use lakesync_proto::{ClientId, ManualClock};

    use super::*;

    fn answer(commands: &str) -> String {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let db = LocalDb::open(":memory:", ClientId::parse("ana").unwrap(), clock).unwrap();
        let todos = Todos::new(db).unwrap();
        let mut out = Vec::new();
        run(&todos, None, commands.as_bytes(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_edit_the_list() {
        let script = "add Buy milk\nadd Fix bike\nadd Call Eve\ndone 2\nrename 1 Buy oat milk\nup 3\nlist\nquit\nadd never";
        assert_eq!(
            answer(script),
            "1 [ ] Buy oat milk\n2 [ ] Call Eve\n3 [x] Fix bike\n"
        );
        assert_eq!(
            answer("add a\nadd b\ndown 1\nundone 1\ndelete 2\nlist"),
            "1 [ ] b\n"
        );
    }

    #[test]
    fn what_cannot_be_done_is_said_and_the_next_command_is_read() {
        let said = answer("done 1\nsync\nwhat\nadd a\nlist");
        assert!(said.contains("done 1: no such number"), "{said}");
        assert!(said.contains("sync: start with --url"), "{said}");
        assert!(said.contains("add TITLE"), "{said}");
        assert!(said.ends_with("1 [ ] a\n"), "{said}");
    }
}
