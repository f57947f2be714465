//! The id of a delta: the SHA-256 of its content's canonical text.
//!
//! Invariant: one id names one content. The op is not hashed (the legacy contract), so whoever keeps ids compares the
//! op too. The canonical text is one line of JSON without spaces:
//!
//! ```text
//! {"clientId":…,"columns":[{"column":…,"value":…},…],"hlc":"…","rowId":…,"table":…}
//! ```
//!
//! Columns stand in the delta's order, keys inside `json` values are sorted, numbers and strings are as JavaScript
//! writes them ([`Value::write_canonical`](crate::Value::write_canonical)).

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::canonical::write_string;
use crate::delta::{ColumnChange, DeltaKey};
use crate::hex;
use crate::id::IdError;
use crate::number::push_digits;

/// The id of a delta. Its text is 64 lower-case hexadecimal digits; order is bytewise.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeltaId([u8; 32]);

impl DeltaId {
    /// Takes the 32 bytes of a hash.
    pub fn from_bytes(bytes: [u8; 32]) -> DeltaId {
        DeltaId(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`IdError`] on anything else.
    pub fn parse(text: &str) -> Result<DeltaId, IdError> {
        let refused = || IdError::new("delta id", text, "64 hexadecimal digits are needed");
        hex::parse(text).map(DeltaId).ok_or_else(refused)
    }

    /// The id of the delta that `key` and `columns` make.
    pub(crate) fn of(key: &DeltaKey, columns: &[ColumnChange]) -> DeltaId {
        DeltaId(Sha256::digest(canonical_text(key, columns)).into())
    }

    /// Appends the 64 lower-case digits.
    pub(crate) fn write_hex(&self, out: &mut String) {
        hex::write(&self.0, out);
    }
}

/// What an id hashes.
fn canonical_text(key: &DeltaKey, columns: &[ColumnChange]) -> String {
    let mut out = String::with_capacity(160 + 48 * columns.len());
    out.push_str("{\"clientId\":");
    write_string(key.client_id.as_str(), &mut out);
    out.push_str(",\"columns\":[");
    for (i, change) in columns.iter().enumerate() {
        out.push_str(if i == 0 {
            "{\"column\":"
        } else {
            ",{\"column\":"
        });
        write_string(change.column.as_str(), &mut out);
        out.push_str(",\"value\":");
        change.value.write_canonical(&mut out);
        out.push('}');
    }
    out.push_str("],\"hlc\":\"");
    push_digits(key.hlc, &mut out);
    out.push_str("\",\"rowId\":");
    write_string(key.row_id.as_str(), &mut out);
    out.push_str(",\"table\":");
    write_string(key.table.as_str(), &mut out);
    out.push('}');
    out
}

impl fmt::Display for DeltaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.write_hex(&mut text);
        f.write_str(&text)
    }
}

impl fmt::Debug for DeltaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeltaId({self})")
    }
}

impl FromStr for DeltaId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<DeltaId, IdError> {
        DeltaId::parse(text)
    }
}

impl Serialize for DeltaId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeltaId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DeltaId, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        DeltaId::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back() {
        let text = "564ec04d5afc4de1b3c7a3083c5fb0b39511e23cdf142e74bf75a1ff90df87ad";
        assert_eq!(DeltaId::parse(text).unwrap().to_string(), text);
        assert_eq!(
            DeltaId::parse(&text.to_uppercase()).unwrap().to_string(),
            text
        );
        for bad in [
            "",
            "d1",
            &text[1..],
            &text.replace('5', "g"),
            &"é".repeat(32),
        ] {
            assert!(DeltaId::parse(bad).is_err(), "{bad}");
        }
    }
}
