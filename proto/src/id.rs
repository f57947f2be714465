//! Names and ids, checked once when they enter.
//!
//! Invariant: whoever holds one of these types holds a legal name; nothing behind the edge checks again. They are
//! shared text: a clone is a counter. Order is bytewise everywhere, which is what the tie-break of stamps needs.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::columns;
use crate::error::shown;
use crate::limits::{CLIENT_ID_BYTES_MAX, NAME_BYTES_MAX, ROW_ID_BYTES_MAX};

/// A refused name or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no {what}: {reason}")]
pub struct IdError {
    /// What it should have been, in words.
    pub what: &'static str,
    /// The refused text, shortened.
    pub value: String,
    /// Why it was refused.
    pub reason: String,
}

impl IdError {
    pub(crate) fn new(what: &'static str, value: &str, reason: impl Into<String>) -> IdError {
        let (value, reason) = (shown(value), reason.into());
        IdError {
            what,
            value,
            reason,
        }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text and takes it.
            ///
            /// # Errors
            /// [`IdError`] names the rule that the text breaks.
            pub fn parse(text: &str) -> Result<$name, IdError> {
                match $check(text) {
                    Ok(()) => Ok($name(Arc::from(text))),
                    Err(reason) => Err(IdError::new($what, text, reason)),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<$name, IdError> {
                $name::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = Cow::<'_, str>::deserialize(deserializer)?;
                $name::parse(&text).map_err(D::Error::custom)
            }
        }
    };
}

text_id! {
    /// Who wrote a delta: 1 to [`CLIENT_ID_BYTES_MAX`] bytes without control characters.
    ClientId, "client id", check_client_id
}

text_id! {
    /// A table: `[A-Za-z_][A-Za-z0-9_]{0,63}`, not ending in `__deltas`, which names logs.
    TableName, "table name", check_table_name
}

text_id! {
    /// A column of the user's: the pattern of [`TableName`], less the names of Iceberg and of the log.
    ColumnName, "column name", check_column_name
}

text_id! {
    /// A gateway, which is an Iceberg namespace and a SQL schema: `[A-Za-z_][A-Za-z0-9_-]{0,63}`.
    GatewayId, "gateway id", check_gateway_id
}

text_id! {
    /// A row of a table: 1 to [`ROW_ID_BYTES_MAX`] bytes without U+0000.
    RowId, "row id", check_row_id
}

text_id! {
    /// The random id of a gateway's log, a UUID in text form. It changes when the log is lost, restored or replaced.
    Epoch, "epoch", check_epoch
}

/// Iceberg's metadata columns that start with an underscore; the log's columns are in [`columns::LOG`].
const ICEBERG_COLUMNS: [&str; 12] = [
    "_file",
    "_pos",
    "_deleted",
    "_spec_id",
    "_partition",
    "_row_id",
    "_last_updated_sequence_number",
    "_change_type",
    "_change_ordinal",
    "_commit_snapshot_id",
    "_commit_timestamp",
    "_commit_order",
];

/// Names of position delete files, which readers take for their own.
const DELETE_FILE_COLUMNS: [&str; 2] = ["pos", "file_path"];

fn check_length(text: &str, max_bytes: usize) -> Result<(), String> {
    match text.len() {
        0 => Err("it is empty: a non-empty text is needed".to_owned()),
        n if n > max_bytes => Err(format!("it has {n} bytes, {max_bytes} are allowed")),
        _ => Ok(()),
    }
}

fn check_identifier(text: &str, also: &str) -> Result<(), String> {
    check_length(text, NAME_BYTES_MAX)?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !text.chars().all(legal) {
        return Err(format!(
            "it does not match ^[A-Za-z_][A-Za-z0-9_{also}]{{0,63}}$"
        ));
    }
    Ok(())
}

fn check_client_id(text: &str) -> Result<(), String> {
    check_length(text, CLIENT_ID_BYTES_MAX)?;
    match text.chars().any(char::is_control) {
        true => Err("it has a control character".to_owned()),
        false => Ok(()),
    }
}

fn check_table_name(text: &str) -> Result<(), String> {
    if text.contains('$') {
        return Err("`$` separates a table from its metadata, as in t$deltas".to_owned());
    }
    check_identifier(text, "")?;
    match text.to_ascii_lowercase().ends_with("__deltas") {
        true => Err("names that end in __deltas belong to logs".to_owned()),
        false => Ok(()),
    }
}

fn check_column_name(text: &str) -> Result<(), String> {
    check_identifier(text, "")?;
    let reserved = ICEBERG_COLUMNS
        .iter()
        .chain(&DELETE_FILE_COLUMNS)
        .chain(&columns::LOG)
        .chain(&[columns::ARRIVED_DAY]);
    match reserved
        .into_iter()
        .find(|name| name.eq_ignore_ascii_case(text))
    {
        Some(name) => Err(format!(
            "{name} is reserved for Iceberg's and the log's own columns"
        )),
        None => Ok(()),
    }
}

fn check_gateway_id(text: &str) -> Result<(), String> {
    check_identifier(text, "-")
}

fn check_row_id(text: &str) -> Result<(), String> {
    check_length(text, ROW_ID_BYTES_MAX)?;
    match text.contains('\0') {
        true => Err("it has a U+0000".to_owned()),
        false => Ok(()),
    }
}

fn check_epoch(text: &str) -> Result<(), String> {
    let dash = |i: usize| matches!(i, 8 | 13 | 18 | 23);
    let digit = |i: usize, b: u8| {
        if dash(i) {
            b == b'-'
        } else {
            b.is_ascii_hexdigit()
        }
    };
    match text.len() == 36 && text.bytes().enumerate().all(|(i, b)| digit(i, b)) {
        true => Ok(()),
        false => Err("a UUID in its text form is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_pass() {
        for name in ["a", "_a", "A9_", &"x".repeat(64), "row", "file"] {
            TableName::parse(name).unwrap();
            ColumnName::parse(name).unwrap();
        }
        GatewayId::parse("my-gateway").unwrap();
        ClientId::parse("client 1 é").unwrap();
        RowId::parse(&"r".repeat(1_024)).unwrap();
        Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
    }

    #[test]
    fn illegal_names_are_refused_with_the_rule() {
        let table = |name: &str| TableName::parse(name).unwrap_err().to_string();
        assert!(table("").contains("non-empty"));
        assert!(table("9a").contains("does not match"));
        assert!(table("naïve").contains("does not match"));
        assert!(table(&"x".repeat(65)).contains("64 are allowed"));
        assert!(table("t__deltas").contains("__deltas"));
        assert!(table("t__DELTAS").contains("__deltas"));
        assert!(table("t$deltas").contains('$'));
        assert!(GatewayId::parse("-g").is_err());
        assert!(ClientId::parse("a\u{1}").is_err());
        assert!(ClientId::parse(&"c".repeat(257)).is_err());
        assert!(RowId::parse("a\0").is_err());
        assert!(RowId::parse(&"r".repeat(1_025)).is_err());
        assert!(Epoch::parse("0190163d8694739baea5966c26f8ad910000").is_err());
    }

    #[test]
    fn reserved_columns_are_refused_in_any_case() {
        for name in [
            "row_id",
            "ROW_ID",
            "_seq",
            "_Hlc",
            "_set",
            "_file",
            "_POS",
            "pos",
            "file_path",
            "_row_id",
        ] {
            let error = ColumnName::parse(name).unwrap_err();
            assert!(error.reason.contains("reserved"), "{error}");
        }
    }

    #[test]
    fn order_is_bytewise_not_utf16() {
        // In UTF-16 the emoji's surrogates sort below U+FF5E, in UTF-8 above.
        let (tilde, emoji) = (
            ClientId::parse("\u{ff5e}").unwrap(),
            ClientId::parse("😀").unwrap(),
        );
        assert!(tilde < emoji);
    }

    #[test]
    fn serde_checks() {
        assert_eq!(
            serde_json::from_str::<TableName>("\"t\\u006f\"").unwrap(),
            "to"
        );
        assert!(serde_json::from_str::<TableName>("\"a b\"").is_err());
        assert_eq!(
            serde_json::to_string(&RowId::parse("é\"").unwrap()).unwrap(),
            "\"é\\\"\""
        );
    }

    #[test]
    fn a_long_value_is_shortened_in_the_error() {
        let error = TableName::parse(&"é".repeat(1_000)).unwrap_err();
        assert_eq!(error.value.chars().count(), 65);
    }
}
