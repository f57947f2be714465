//! How far a checkpoint has been read: the token by which it is resumed.
//!
//! ```text
//! text = native cursor │ "." │ base64url without padding of: selection (8 bytes BE) │ last row
//! last row ::=                                      nothing yet
//!            │ table length (1 byte) table │ row id   everything up to this row
//! ```
//! **Invariant:** a place says everything that the rest of a checkpoint depends on; one of another log, other rules,
//! other claims or another request is refused, never read as if it were this one's.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lakesync_proto::{Cursor, RowId, TableName};
use sha2::{Digest as _, Sha256};

use super::CheckpointForm;

/// A place in one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The log, the seq of the checkpoint, and what its rows were filtered by.
    pub(crate) cursor: Cursor,
    /// The request, see [`selection`].
    pub(crate) selection: u64,
    /// The last row that has been given.
    pub(crate) last: Option<(TableName, RowId)>,
}

/// A hash of what was asked for: the form, and the tables unless all of them were.
pub(crate) fn selection(form: CheckpointForm, tables: Option<&[TableName]>) -> u64 {
    let mut hash = Sha256::new();
    hash.update(match form {
        CheckpointForm::Native => "native",
        CheckpointForm::Legacy => "legacy",
    });
    // No table's name has these characters.
    match tables {
        None => hash.update("*"),
        Some(tables) => {
            for table in tables {
                hash.update("/");
                hash.update(table.as_str());
            }
        }
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*digest.first_chunk().expect("32 bytes"))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.selection.to_be_bytes().to_vec();
        if let Some((table, row_id)) = &self.last {
            let length = u8::try_from(table.as_str().len()).expect("a name has up to 64 bytes");
            bytes.push(length);
            bytes.extend(table.as_str().as_bytes());
            bytes.extend(row_id.as_str().as_bytes());
        }
        write!(f, "{}.{}", self.cursor, URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is no place of ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (cursor, rest) = text.split_once('.').ok_or(NoPlace)?;
        let cursor = cursor.parse().map_err(|_| NoPlace)?;
        let rest = URL_SAFE_NO_PAD.decode(rest).map_err(|_| NoPlace)?;
        let (selection, rest) = rest.split_first_chunk().ok_or(NoPlace)?;
        let last = match rest.split_first() {
            None => None,
            Some((length, rest)) => {
                let (table, row_id) = rest.split_at_checked((*length).into()).ok_or(NoPlace)?;
                let table = str::from_utf8(table).map_err(|_| NoPlace)?;
                let row_id = str::from_utf8(row_id).map_err(|_| NoPlace)?;
                let table = TableName::parse(table).map_err(|_| NoPlace)?;
                let row_id = RowId::parse(row_id).map_err(|_| NoPlace)?;
                Some((table, row_id))
            }
        };
        Ok(Self {
            cursor,
            selection: u64::from_be_bytes(*selection),
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::{Epoch, Seq};

    use super::*;

    fn place(last: Option<(&str, &str)>) -> Place {
        Place {
            cursor: Cursor {
                epoch: Epoch::parse("5f0c3c1e-0000-4000-8000-000000000001").unwrap(),
                seq: Seq::from_u64(7).unwrap(),
                rules: 3,
                claims: u64::MAX,
            },
            selection: 9,
            last: last.map(|(table, row)| {
                let table = TableName::parse(table).unwrap();
                (table, RowId::parse(row).unwrap())
            }),
        }
    }

    #[test]
    fn a_place_comes_back_from_its_text_and_nothing_else_is_one() {
        for place in [place(None), place(Some(("todos", "é.\"[,]")))] {
            let text = place.to_string();
            assert_eq!(text.parse(), Ok(place));
        }
        let text = place(None).to_string();
        for cut in 0..text.len() {
            assert_eq!(text[..cut].parse::<Place>(), Err(NoPlace), "{cut}");
        }
        for wrong in ["", ".", "7", &format!("x{text}"), &format!("{text}BQ")] {
            assert_eq!(wrong.parse::<Place>(), Err(NoPlace), "{wrong}");
        }
    }

    #[test]
    fn every_part_of_a_request_is_in_its_selection() {
        let tables = |names: &[&str]| -> Vec<TableName> {
            let names = names.iter().map(|name| TableName::parse(name).unwrap());
            names.collect()
        };
        let (one, two) = (tables(&["ab"]), tables(&["a", "b"]));
        let native = CheckpointForm::Native;
        let all = [
            selection(native, None),
            selection(CheckpointForm::Legacy, None),
            selection(native, Some(&one)),
            selection(native, Some(&two)),
            selection(native, Some(&[])),
        ];
        let distinct: std::collections::BTreeSet<u64> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
