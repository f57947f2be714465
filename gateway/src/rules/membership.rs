//! The buckets that one state of a row belongs to, as bytes: what the durable log keeps beside every delta.
//!
//! ```text
//! membership ::= entry*                    none for a row that is not there, or that nobody may see
//! entry      ::= term u64 │ keys u8 │ values u32 │ key hash 16 bytes × keys │ values as a JSON array
//! ```
//! All numbers are big-endian. A term is one alternative of one bucket's condition for one table; its number is a hash
//! of what it says, so it means the same after a restart and after a change of the schema. A key hash is that of a
//! column's value which a claim must equal; the values are those that the rest of the term's condition on claims
//! asks for.
//!
//! **Invariant:** bytes that are none of ours belong to nobody: reading them never panics and shows nothing.

use lakesync_proto::{ColumnType, Value};
use lakesync_providers::predicate::Field;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The bucket instances that one state of a row belongs to; encoded, as the durable log keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Membership(pub(crate) Vec<u8>);

/// Names a term: a hash of its bucket, its table and its place among the alternatives.
pub(super) type TermId = u64;

/// A value that a claim must equal: the first half of a SHA-256 of its canonical text.
pub(super) type KeyHash = [u8; 16];

const HEAD_BYTES: usize = 13;
const KEY_BYTES: usize = 16;

/// One term that a row belongs to, for those whose claims fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) term: TermId,
    keys: &'a [u8],
    pub(super) values: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The hashes of the keys, in the term's order.
    pub(super) fn keys(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.keys.chunks_exact(KEY_BYTES)
    }

    /// The values, when they are of these fields.
    pub(super) fn values(&self, fields: &[Field]) -> Option<Vec<Value>> {
        let raw: Vec<&RawValue> = serde_json::from_slice(self.values).ok()?;
        if raw.len() != fields.len() {
            return None;
        }
        let value = |(raw, field): (&&RawValue, &Field)| {
            Value::from_json_text(raw.get(), field.column_type).ok()
        };
        raw.iter().zip(fields).map(value).collect()
    }
}

impl Membership {
    /// That of a row which is not there, or which nobody may see.
    pub(crate) const NONE: Self = Self(Vec::new());

    /// Adds a term. One that cannot be written, with more keys or values than numbers have room for, is left out:
    /// then the row is not seen through it.
    pub(super) fn add(&mut self, term: TermId, keys: &[KeyHash], values: &[Value]) {
        let values = match values.is_empty() {
            true => String::new(),
            false => array(values),
        };
        let (Ok(count), Ok(bytes)) = (u8::try_from(keys.len()), u32::try_from(values.len())) else {
            return;
        };
        self.0.extend(term.to_be_bytes());
        self.0.push(count);
        self.0.extend(bytes.to_be_bytes());
        self.0.extend(keys.iter().flatten());
        self.0.extend(values.as_bytes());
    }

    /// Its terms; reading ends at what is none.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (head, after) = rest.split_at_checked(HEAD_BYTES)?;
            let term = TermId::from_be_bytes(head[..8].try_into().expect("eight bytes"));
            let keys = usize::from(head[8]) * KEY_BYTES;
            let values = u32::from_be_bytes(head[9..].try_into().expect("four bytes"));
            let (keys, after) = after.split_at_checked(keys)?;
            let (values, after) = after.split_at_checked(usize::try_from(values).ok()?)?;
            rest = after;
            Some(Entry { term, keys, values })
        })
    }
}

/// Values as a JSON array that reads back by their types.
fn array(values: &[Value]) -> String {
    let mut out = String::from("[");
    for value in values {
        if out.len() > 1 {
            out.push(',');
        }
        match value {
            // Normal already; the canonical form would round large integers in it.
            Value::Json(text) => out.push_str(text),
            other => other.write_canonical(&mut out),
        }
    }
    out.push(']');
    out
}

/// The hash of a value that a claim may equal; none for null, which equals nothing.
pub(super) fn key_hash(value: &Value, column_type: ColumnType) -> Option<KeyHash> {
    let text = match value {
        Value::Null => return None,
        Value::Json(text) => text.clone(),
        Value::Decimal(decimal) => plain(&decimal.to_string()),
        other => {
            let mut text = String::new();
            other.write_canonical(&mut text);
            text
        }
    };
    let kind = match column_type {
        // One number, whatever the column has room for: the column may grow.
        ColumnType::Decimal { .. } => "decimal".to_owned(),
        other => other.to_string(),
    };
    let mut hash = Sha256::new();
    // A text never equals a number that is written alike.
    hash.update(kind);
    hash.update([0]);
    hash.update(text);
    hash.finalize()[..KEY_BYTES].try_into().ok()
}

/// A decimal's text without the zeros that end its fraction.
fn plain(text: &str) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lakesync_proto::ColumnName;

    use super::*;

    fn field(column_type: ColumnType) -> Field {
        Field {
            column: Some(ColumnName::parse("c").unwrap()),
            column_type,
        }
    }

    #[test]
    fn terms_read_back() {
        let values = [
            Value::from("a\"é"),
            Value::Long(i64::MIN),
            Value::Number(0.1 + 0.2),
            Value::Json("{\"n\":9007199254740993}".to_owned()),
            Value::Null,
            Value::Binary(vec![0, 255]),
        ];
        let types = [
            ColumnType::String,
            ColumnType::Long,
            ColumnType::Number,
            ColumnType::Json,
            ColumnType::Date,
            ColumnType::Binary,
        ];
        let mut membership = Membership::NONE;
        assert_eq!(membership.entries().count(), 0);
        membership.add(7, &[], &[]);
        membership.add(u64::MAX, &[[1; 16], [2; 16]], &values);
        let entries: Vec<_> = membership.entries().collect();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].term, entries[0].keys().len()), (7, 0));
        assert_eq!(entries[1].keys().collect::<Vec<_>>(), [[1; 16], [2; 16]]);
        let fields = types.map(field);
        assert_eq!(entries[1].values(&fields).unwrap(), values);
        assert_eq!(entries[1].values(&fields[1..]), None);
    }

    #[test]
    fn bytes_that_are_none_of_ours_end_the_reading() {
        let mut membership = Membership::NONE;
        membership.add(7, &[[1; 16]], &[Value::from("a")]);
        let whole = membership.0.clone();
        for end in 0..whole.len() {
            assert_eq!(Membership(whole[..end].to_vec()).entries().count(), 0);
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            for entry in Membership(broken).entries() {
                drop(entry.values(&[field(ColumnType::Long)]));
            }
        }
    }

    #[test]
    fn equal_values_hash_alike_and_types_apart() {
        let hash = |value: Value, column_type| key_hash(&value, column_type);
        assert_eq!(
            hash(Value::Number(-0.0), ColumnType::Number),
            hash(Value::Number(0.0), ColumnType::Number)
        );
        assert_ne!(
            hash(Value::Number(1.0), ColumnType::Number),
            hash(Value::Long(1), ColumnType::Long)
        );
        let json = |text: &str| hash(Value::Json(text.to_owned()), ColumnType::Json);
        assert_ne!(json("9007199254740993"), json("9007199254740992"));
        assert_eq!(hash(Value::Null, ColumnType::Long), None);
        let decimal = |text: &str, precision, scale| {
            let of = ColumnType::decimal(precision, scale).unwrap();
            hash(Value::from_json(&text.into(), of).unwrap(), of)
        };
        assert_eq!(decimal("100.00", 5, 2), decimal("100.000", 9, 3));
        assert_eq!(decimal("100.00", 5, 2), decimal("100", 5, 0));
        assert_ne!(decimal("100.00", 5, 2), decimal("1.00", 5, 2));
    }
}
