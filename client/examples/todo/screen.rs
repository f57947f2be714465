//! The full screen: keys in, frames out.
//!
//! Invariant: the terminal is given back as it was, also after a panic.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{cursor, execute, queue, terminal};
use lakesync_client::ClientError;

use crate::frame::{Line, Look, Prompt, View, frame};
use crate::link::Link;
use crate::todos::{Todos, read};

/// How long a key is waited for before the status and the list are looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;

/// Shows the list until the person has had enough.
pub fn run(todos: &Todos, link: &mut Link) -> Result<(), Box<dyn std::error::Error>> {
    let _terminal = Terminal::take()?;
    let watch = todos.watch()?;
    let mut view = View {
        who: todos.db().client_id().to_string(),
        todos: todos.list()?,
        chosen: 0,
        prompt: Prompt::None,
        status: link.status(),
        message: String::new(),
    };
    let mut drawn = Vec::new();
    loop {
        // The list is what the query says, whoever changed it.
        if let Some(rows) = watch.try_next()? {
            view.todos = read(rows.rows);
            view.chosen = view.chosen.min(view.todos.len().saturating_sub(1));
        }
        view.status = link.status();
        draw(&view, &mut drawn)?;
        if !event::poll(LOOK_EVERY)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                view.message.clear();
                match press(&mut view, key, todos, link) {
                    Ok(Next::Go) => {}
                    Ok(Next::Quit) => return Ok(()),
                    Err(error) => view.message = error.to_string(),
                }
            }
            Event::Resize(..) => drawn.clear(),
            _ => {}
        }
    }
}

enum Next {
    Go,
    Quit,
}

fn press(
    view: &mut View,
    key: KeyEvent,
    todos: &Todos,
    link: &mut Link,
) -> Result<Next, ClientError> {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Ok(Next::Quit);
    }
    match std::mem::replace(&mut view.prompt, Prompt::None) {
        Prompt::None => command(view, key, todos, link),
        Prompt::New(text) => {
            match typed(text, key) {
                Typed::More(text) => view.prompt = Prompt::New(text),
                Typed::Done(title) => {
                    todos.add(&title)?;
                    view.chosen = view.todos.len();
                }
                Typed::Not => {}
            }
            Ok(Next::Go)
        }
        Prompt::Rename(text) => {
            match typed(text, key) {
                Typed::More(text) => view.prompt = Prompt::Rename(text),
                Typed::Done(title) => {
                    if let Some(todo) = view.todos.get(view.chosen) {
                        todos.rename(todo, &title)?;
                    }
                }
                Typed::Not => {}
            }
            Ok(Next::Go)
        }
    }
}

fn command(
    view: &mut View,
    key: KeyEvent,
    todos: &Todos,
    link: &mut Link,
) -> Result<Next, ClientError> {
    let last = view.todos.len().saturating_sub(1);
    let chosen = view.todos.get(view.chosen);
    match (key.code, chosen) {
        (KeyCode::Char('q') | KeyCode::Esc, _) => return Ok(Next::Quit),
        (KeyCode::Char('o'), _) => link.toggle(),
        (KeyCode::Char('a'), _) => view.prompt = Prompt::New(String::new()),
        (KeyCode::Char('e'), Some(todo)) => view.prompt = Prompt::Rename(todo.title.clone()),
        (KeyCode::Char(' ' | 'x') | KeyCode::Enter, Some(todo)) => {
            todos.set_done(todo, !todo.done)?
        }
        (KeyCode::Char('d') | KeyCode::Delete, Some(todo)) => todos.delete(todo)?,
        (KeyCode::Char('j') | KeyCode::Down, _) => view.chosen = last.min(view.chosen + 1),
        (KeyCode::Char('k') | KeyCode::Up, _) => view.chosen = view.chosen.saturating_sub(1),
        (KeyCode::Char('J'), Some(_)) if view.chosen < last => {
            todos.shift(&view.todos, view.chosen, view.chosen + 1)?;
            view.chosen += 1;
        }
        (KeyCode::Char('K'), Some(_)) if view.chosen > 0 => {
            todos.shift(&view.todos, view.chosen, view.chosen - 1)?;
            view.chosen -= 1;
        }
        _ => {}
    }
    Ok(Next::Go)
}

enum Typed {
    More(String),
    Done(String),
    Not,
}

fn typed(mut text: String, key: KeyEvent) -> Typed {
    match key.code {
        KeyCode::Esc => return Typed::Not,
        KeyCode::Enter if text.trim().is_empty() => return Typed::Not,
        KeyCode::Enter => return Typed::Done(text.trim().to_owned()),
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
        KeyCode::Char(c) if text.chars().count() < TITLE_CHARS_MAX => text.push(c),
        _ => {}
    }
    Typed::More(text)
}

/// Writes the lines that differ from those on the screen.
fn draw(view: &View, drawn: &mut Vec<Line>) -> io::Result<()> {
    let (width, height) = terminal::size()?;
    let lines = frame(view, usize::from(width), usize::from(height));
    if lines == *drawn {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    queue!(out, BeginSynchronizedUpdate)?;
    if drawn.len() != lines.len() {
        drawn.clear();
        queue!(out, Clear(ClearType::All))?;
    }
    for (row, line) in (0..height).zip(&lines) {
        if drawn.get(usize::from(row)) == Some(line) {
            continue;
        }
        queue!(out, cursor::MoveTo(0, row))?;
        for (look, text) in &line.pieces {
            wear(&mut out, *look)?;
            queue!(out, Print(text), ResetColor, SetAttribute(Attribute::Reset))?;
        }
        queue!(out, Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, EndSynchronizedUpdate)?;
    *drawn = lines;
    out.flush()
}

fn wear(out: &mut impl Write, look: Look) -> io::Result<()> {
    match look {
        Look::Plain => Ok(()),
        Look::Bold => queue!(out, SetAttribute(Attribute::Bold)),
        Look::Dim => queue!(out, SetForegroundColor(Color::DarkGrey)),
        Look::Done => queue!(
            out,
            SetForegroundColor(Color::DarkGrey),
            SetAttribute(Attribute::CrossedOut)
        ),
        Look::Chosen => queue!(out, SetAttribute(Attribute::Reverse)),
        Look::Good => queue!(out, SetForegroundColor(Color::Green)),
        Look::Waiting => queue!(out, SetForegroundColor(Color::Yellow)),
        Look::Bad => queue!(out, SetForegroundColor(Color::Red)),
    }
}

/// The terminal while this program has it.
struct Terminal;

impl Terminal {
    fn take() -> io::Result<Terminal> {
        let shown = std::panic::take_hook();
        // The message of a panic belongs on the screen that the person came from.
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            shown(panic);
        }));
        terminal::enable_raw_mode()?;
        let taken = Terminal;
        execute!(
            io::stdout(),
            EnterAlternateScreen,
            DisableLineWrap,
            cursor::Hide
        )?;
        Ok(taken)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // Nobody is left to be told when the terminal itself has gone.
    drop(execute!(
        io::stdout(),
        cursor::Show,
        EnableLineWrap,
        LeaveAlternateScreen
    ));
    drop(terminal::disable_raw_mode());
}
