//! What the screen shows, as text with styles; a pure function of the state.
//!
//! Invariant: a frame has exactly as many lines as the screen, none wider than it in characters.

use lakesync_client::{Phase, Status};

use crate::todos::Todo;

/// Lines that are not the list: the title, a line below it, the message, the keys.
const FIXED_LINES: usize = 4;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    Plain,
    Bold,
    Dim,
    Done,
    Chosen,
    Good,
    Waiting,
    Bad,
}

/// A line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub pieces: Vec<(Look, String)>,
}

/// What is being typed, and what for.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    None,
    New(String),
    Rename(String),
}

/// The state of the screen.
#[derive(Debug)]
pub struct View {
    pub who: String,
    pub todos: Vec<Todo>,
    pub chosen: usize,
    pub prompt: Prompt,
    pub status: Status,
    pub message: String,
}

impl Line {
    fn of(pieces: impl IntoIterator<Item = (Look, String)>) -> Line {
        Line {
            pieces: pieces.into_iter().collect(),
        }
    }

    fn chars(&self) -> usize {
        self.pieces
            .iter()
            .map(|(_, text)| text.chars().count())
            .sum()
    }

    /// Cut to `width`, so that nothing wraps.
    fn cut(mut self, width: usize) -> Line {
        let mut left = width;
        for (_, text) in &mut self.pieces {
            // A control character in a title must not move the cursor.
            *text = text
                .chars()
                .filter(|c| !c.is_control())
                .take(left)
                .collect();
            left -= text.chars().count();
        }
        self
    }

    #[cfg(test)]
    pub fn text(&self) -> String {
        self.pieces.iter().map(|(_, text)| text.as_str()).collect()
    }
}

/// The screen's lines.
pub fn frame(view: &View, width: usize, height: usize) -> Vec<Line> {
    let room = height.saturating_sub(FIXED_LINES).max(1);
    let mut lines = vec![title(view, width), Line::default()];
    // The chosen one is always on the screen.
    let first = (view.chosen + 1).saturating_sub(room);
    let shown = view.todos.iter().enumerate().skip(first).take(room);
    lines.extend(shown.map(|(at, todo)| entry(todo, at == view.chosen, width)));
    if view.todos.is_empty() {
        lines.push(Line::of([(
            Look::Dim,
            "   nothing to do; a adds".to_owned(),
        )]));
    }
    lines.resize(height.saturating_sub(2), Line::default());
    lines.push(prompt(view));
    lines.push(keys(view, width));
    lines.truncate(height);
    lines.into_iter().map(|line| line.cut(width)).collect()
}

fn title(view: &View, width: usize) -> Line {
    let left = view.todos.iter().filter(|todo| !todo.done).count();
    let (look, status) = told(&view.status);
    let mut line = Line::of([
        (Look::Bold, format!(" {}", view.who)),
        (Look::Dim, format!("  {left} to do")),
    ]);
    let gap = width.saturating_sub(line.chars() + status.chars().count() + 1);
    line.pieces.push((Look::Plain, " ".repeat(gap)));
    line.pieces.push((look, status));
    line
}

/// The sync status in a few words.
fn told(status: &Status) -> (Look, String) {
    let waiting = status.counts.pending + status.counts.in_flight;
    let waits = match waiting {
        0 => String::new(),
        waiting => format!(" · {waiting} to send"),
    };
    if status.counts.rejected > 0 {
        let refused = status.counts.rejected;
        return (Look::Bad, format!("! {refused} refused{waits}"));
    }
    match status.phase {
        Phase::Offline | Phase::Stopped => (Look::Waiting, format!("○ offline{waits}")),
        Phase::Connecting => (Look::Waiting, format!("◌ connecting{waits}")),
        Phase::Loading { rows } => (Look::Waiting, format!("◌ loading {rows}{waits}")),
        Phase::Live if waiting == 0 => (Look::Good, "● live".to_owned()),
        Phase::Idle if waiting == 0 => (Look::Good, "● up to date".to_owned()),
        _ => (Look::Waiting, format!("◌ syncing{waits}")),
    }
}

fn entry(todo: &Todo, chosen: bool, width: usize) -> Line {
    let mark = if chosen { " › " } else { "   " };
    let tick = if todo.done { "[x] " } else { "[ ] " };
    let look = match (chosen, todo.done) {
        (true, _) => Look::Chosen,
        (false, true) => Look::Done,
        (false, false) => Look::Plain,
    };
    let mut line = Line::of([
        (
            if chosen { Look::Bold } else { Look::Plain },
            mark.to_owned(),
        ),
        (look, format!("{tick}{}", todo.title)),
    ]);
    if chosen {
        let gap = width.saturating_sub(line.chars());
        line.pieces.push((Look::Chosen, " ".repeat(gap)));
    }
    line
}

fn prompt(view: &View) -> Line {
    let typing = |what: &str, text: &str| {
        Line::of([
            (Look::Bold, format!(" {what}: ")),
            (Look::Plain, format!("{text}▏")),
        ])
    };
    match &view.prompt {
        Prompt::New(text) => typing("new", text),
        Prompt::Rename(text) => typing("rename", text),
        Prompt::None if !view.message.is_empty() => {
            Line::of([(Look::Bad, format!(" {}", view.message))])
        }
        Prompt::None => match &view.status.last_error {
            Some(error) => Line::of([(Look::Bad, format!(" {}", error.message))]),
            None => Line::default(),
        },
    }
}

fn keys(view: &View, width: usize) -> Line {
    let keys = match (&view.prompt, width < 72) {
        (Prompt::None, true) => " a add  e edit  ␣ done  d del  o offline  q quit",
        (Prompt::None, false) => {
            " a add   e edit   space done   d delete   J K move   o offline/online   q quit"
        }
        _ => " enter keeps it   esc does not",
    };
    Line::of([(Look::Dim, keys.to_owned())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(todos: &[(&str, bool)]) -> View {
        let todos = todos.iter().enumerate().map(|(at, (title, done))| Todo {
            row_id: at.to_string(),
            title: (*title).to_owned(),
            done: *done,
            place: 0.0,
        });
        View {
            who: "ana".to_owned(),
            todos: todos.collect(),
            chosen: 0,
            prompt: Prompt::None,
            status: Status::default(),
            message: String::new(),
        }
    }

    fn text(view: &View, width: usize, height: usize) -> Vec<String> {
        let lines = frame(view, width, height);
        lines
            .iter()
            .map(|line| line.text().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn a_frame_shows_the_list_and_how_syncing_goes() {
        let mut shown = view(&[("Buy milk", false), ("Fix bike", true)]);
        shown.status.counts.pending = 2;
        let expected = [
            " ana  1 to do       ○ offline · 2 to send",
            "",
            " › [ ] Buy milk",
            "   [x] Fix bike",
            "",
            " new: Call E▏",
            " enter keeps it   esc does not",
        ];
        shown.prompt = Prompt::New("Call E".to_owned());
        assert_eq!(text(&shown, 42, 7), expected);
        shown.status.phase = Phase::Live;
        shown.status.counts.pending = 0;
        assert!(text(&shown, 42, 7)[0].ends_with("● live"));
    }

    #[test]
    fn every_frame_fits_its_screen_and_has_the_chosen_one() {
        let titles: Vec<String> = (0..50)
            .map(|at| format!("{at} {}\n\u{1b}[2J", "long ".repeat(at)))
            .collect();
        let todos: Vec<(&str, bool)> = titles.iter().map(|title| (title.as_str(), false)).collect();
        for (width, height) in [(80, 24), (48, 13), (20, 5), (3, 4), (1, 1), (200, 60)] {
            for chosen in [0, 7, 49] {
                let mut view = view(&todos);
                view.chosen = chosen;
                let lines = frame(&view, width, height);
                assert_eq!(lines.len(), height);
                assert!(lines.iter().all(|line| line.chars() <= width));
                let text: Vec<String> = lines.iter().map(Line::text).collect();
                assert!(!text.concat().contains(['\n', '\u{1b}']));
                if width > 20 && height > 4 {
                    let chosen = format!("› [ ] {chosen} ");
                    assert!(text.concat().contains(chosen.trim_end()), "{text:?}");
                }
            }
        }
    }
}
