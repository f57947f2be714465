//! Lines of NDJSON, one object each.
//!
//! Invariant: a line takes at most [`LINE_BYTES_MAX`] bytes of memory, whatever the input is.

use std::fmt;
use std::io::{BufRead, Read};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{RowError, RowErrorKind};

/// The longest line that is read, in bytes: a row of a few values of the largest size.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// One object, its values still text.
#[derive(Debug)]
pub(super) struct RawLine {
    pub(super) line: u64,
    pub(super) byte: u64,
    pub(super) text: String,
    pub(super) cells: Vec<(String, Box<RawValue>)>,
}

/// Reads lines and counts them.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    line: u64,
    next_byte: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Lines<R> {
        Lines {
            input,
            line: 0,
            next_byte: 0,
        }
    }

    /// The next line that is not blank.
    pub(super) fn next_line(&mut self) -> Result<Option<RawLine>, RowError> {
        loop {
            let byte = self.next_byte;
            let Some(bytes) = self.read()? else {
                return Ok(None);
            };
            let text = self.text(bytes, byte)?;
            if !text.trim().is_empty() {
                return self.object(text, byte).map(Some);
            }
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, RowError> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        self.line += 1;
        let read = (&mut self.input).take(limit).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| {
            let message = format!("the input cannot be read: {source}");
            RowError::new(
                RowErrorKind::Input,
                message,
                "nothing after this line was pushed",
            )
            .at(self.line, Some(self.next_byte))
            .with_source(source)
        })?;
        if read > LINE_BYTES_MAX {
            let message = format!("the line is longer than {LINE_BYTES_MAX} bytes");
            return Err(RowError::new(
                RowErrorKind::Json,
                message,
                "put one JSON object on each line",
            )
            .at(self.line, Some(self.next_byte)));
        }
        self.next_byte += u64::try_from(read).unwrap_or(u64::MAX);
        Ok((read > 0).then_some(bytes))
    }

    fn text(&self, bytes: Vec<u8>, byte: u64) -> Result<String, RowError> {
        let text = String::from_utf8(bytes).map_err(|error| {
            let wrong = u64::try_from(error.utf8_error().valid_up_to()).unwrap_or(0);
            RowError::new(
                RowErrorKind::Json,
                "the text is not UTF-8",
                "save the file as UTF-8",
            )
            .at(self.line, Some(byte + wrong))
        })?;
        // Windows editors put a mark before the first line.
        match (self.line, text.strip_prefix('\u{feff}')) {
            (1, Some(rest)) => Ok(rest.to_owned()),
            _ => Ok(text),
        }
    }

    fn object(&self, text: String, byte: u64) -> Result<RawLine, RowError> {
        match serde_json::from_str(text.trim_end()) {
            Ok(Cells(cells)) => Ok(RawLine {
                line: self.line,
                byte,
                text: text.trim().to_owned(),
                cells,
            }),
            Err(error) => {
                let next = match text.trim_start().bytes().next() {
                    Some(b'[') => {
                        "this looks like a JSON array: put each of its objects on a line of its own"
                    }
                    Some(b'{') => "put one whole JSON object on each line",
                    _ => "each line must be one JSON object, like {\"id\": 1, \"name\": \"a\"}",
                };
                let column = u64::try_from(error.column().saturating_sub(1)).unwrap_or(0);
                // serde_json's place would be "line 1" for every line of the input.
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                Err(RowError::new(RowErrorKind::Json, message, next)
                    .at(self.line, Some(byte + column)))
            }
        }
    }
}

/// The members of an object in their order. A repeated name is an error: one of its values would be lost.
struct Cells(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cells, D::Error> {
        deserializer.deserialize_map(CellsVisitor)
    }
}

struct CellsVisitor;

impl<'de> Visitor<'de> for CellsVisitor {
    type Value = Cells;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cells, A::Error> {
        let mut cells: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if cells.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("{name:?} is there twice")));
            }
            cells.push((name, value));
        }
        Ok(Cells(cells))
    }
}
