//! Aligned text tables for terminals.
//!
//! ```text
//! ┌────────┬──────┐
//! │ client │ rows │
//! ├────────┼──────┤
//! │ alice  │   12 │
//! └────────┴──────┘
//! ```
//!
//! Invariant: a cell takes one line and sends no control character to a terminal, whatever it holds. Widths are counted
//! in characters.

use std::fmt;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table for people, of things that are not Arrow. A column whose cells are all numbers is aligned to the right.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
    align: Option<Vec<Align>>,
}

impl TextTable {
    /// A table with these columns and no rows.
    pub fn new<T: Into<String>>(headers: impl IntoIterator<Item = T>) -> TextTable {
        TextTable {
            headers: headers.into_iter().map(|h| one_line(&h.into())).collect(),
            rows: Vec::new(),
            align: None,
        }
    }

    /// The same table with each column aligned as said, instead of by its cells.
    #[must_use]
    pub fn with_align(mut self, align: Vec<Align>) -> TextTable {
        self.align = Some(align);
        self
    }

    /// Adds a row. Missing cells stay empty; more cells than there are headers get columns without one.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut TextTable {
        self.rows
            .push(cells.into_iter().map(|c| one_line(&c.into())).collect());
        self
    }

    /// How many rows the table has.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the table has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn columns(&self) -> usize {
        let widest = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        self.headers.len().max(widest)
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .filter_map(move |row| row.get(column))
            .map(String::as_str)
    }

    fn width(&self, column: usize) -> usize {
        let header = self.headers.get(column).map_or("", String::as_str);
        self.cells(column)
            .chain([header])
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    }

    fn align_of(&self, column: usize) -> Align {
        if let Some(align) = self.align.as_ref().and_then(|align| align.get(column)) {
            return *align;
        }
        let mut filled = self
            .cells(column)
            .filter(|cell| !cell.is_empty())
            .peekable();
        if filled.peek().is_some() && filled.all(is_number) {
            Align::Right
        } else {
            Align::Left
        }
    }
}

impl fmt::Display for TextTable {
    /// Lines without a line end after the last one; nothing for a table without columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<(usize, Align)> = (0..self.columns())
            .map(|column| (self.width(column), self.align_of(column)))
            .collect();
        if columns.is_empty() {
            return Ok(());
        }
        rule(f, &columns, ["┌", "┬", "┐\n"])?;
        cells(f, &columns, &self.headers)?;
        rule(f, &columns, ["├", "┼", "┤\n"])?;
        for row in &self.rows {
            cells(f, &columns, row)?;
        }
        rule(f, &columns, ["└", "┴", "┘"])
    }
}

fn rule(
    f: &mut fmt::Formatter<'_>,
    columns: &[(usize, Align)],
    [left, between, right]: [&str; 3],
) -> fmt::Result {
    for (place, (width, _)) in columns.iter().enumerate() {
        f.write_str(if place == 0 { left } else { between })?;
        write!(f, "{:─<1$}", "", width + 2)?;
    }
    f.write_str(right)
}

fn cells(f: &mut fmt::Formatter<'_>, columns: &[(usize, Align)], row: &[String]) -> fmt::Result {
    for (place, (width, align)) in columns.iter().enumerate() {
        let cell = row.get(place).map_or("", String::as_str);
        match align {
            Align::Left => write!(f, "│ {cell:<width$} ")?,
            Align::Right => write!(f, "│ {cell:>width$} ")?,
        }
    }
    f.write_str("│\n")
}

/// Digits with signs, points, grouping and a unit like `%`; not a date, and not a word.
fn is_number(cell: &str) -> bool {
    let digits = cell.trim_start_matches(['-', '+']).trim_end_matches('%');
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || ".,_ ".contains(c))
}

/// Text that takes one line and is safe on a terminal: control characters are written as escapes.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_and_numbers_stand_right() {
        let mut table = TextTable::new(["name", "rows", "when", "share"]);
        table
            .row(["été", "7", "2026-01-02", "3.5 %"])
            .row(["b", "1,200", "2026-01-03", "12 %"]);
        assert_eq!(
            table.to_string(),
            "\
┌──────┬───────┬────────────┬───────┐
│ name │  rows │ when       │ share │
├──────┼───────┼────────────┼───────┤
│ été  │     7 │ 2026-01-02 │ 3.5 % │
│ b    │ 1,200 │ 2026-01-03 │  12 % │
└──────┴───────┴────────────┴───────┘"
        );
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let mut table = TextTable::new(["a"]);
        table.row(["x\ny\u{1b}[31m\t"]);
        assert!(
            table.to_string().contains("│ x\\ny\\u{1b}[31m\\t │"),
            "{table}"
        );
        assert_eq!(table.to_string().lines().count(), 5);
    }

    #[test]
    fn rows_of_any_length_keep_their_cells() {
        let mut table = TextTable::new(["a", "b"]);
        table.row(["1"]).row(["1", "2", "three"]);
        let shown = table.to_string();
        assert!(shown.contains("three"), "{shown}");
        let widths: Vec<usize> = shown.lines().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{shown}");
    }

    #[test]
    fn a_table_without_columns_is_nothing() {
        assert_eq!(TextTable::new(Vec::<String>::new()).to_string(), "");
        assert_eq!(TextTable::new(["a"]).to_string().lines().count(), 4);
    }
}
