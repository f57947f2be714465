//! A JSON body read in place, part by part.
//!
//! Invariant: every part is a slice of the body, so its byte is known and nothing is copied until its meaning is.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::error::Fault;
use crate::error::shown;
use crate::id::Epoch;
use crate::number::parse_u64;
use crate::seq::Seq;
use crate::value_read::string_of;

/// A part of the body that may be missing.
pub(crate) type Raw<'b> = Option<&'b RawValue>;

/// A body that is UTF-8 text, and the readers of its parts.
pub(crate) struct Body<'b>(&'b str);

impl<'b> Body<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Result<Body<'b>, Fault> {
        let no_text = |e: std::str::Utf8Error| {
            Fault::malformed("Invalid JSON: the body is no UTF-8 text").or_at(Some(e.valid_up_to()))
        };
        std::str::from_utf8(bytes).map(Body).map_err(no_text)
    }

    /// The whole body, its syntax checked.
    pub(crate) fn root(&self) -> Result<&'b RawValue, Fault> {
        if self.0.trim_ascii().is_empty() {
            return Err(Fault::malformed("Invalid JSON: the body is empty"));
        }
        serde_json::from_str(self.0).map_err(|e| {
            let lines = self
                .0
                .split_inclusive('\n')
                .take(e.line().saturating_sub(1));
            let before: usize = lines.map(str::len).sum();
            let position = (before + e.column().saturating_sub(1)).min(self.0.len());
            Fault::malformed(format!("Invalid JSON: {e}")).or_at(Some(position))
        })
    }

    /// The whole body in one pass; none when it is anything but `T`.
    pub(crate) fn at_once<T: Deserialize<'b>>(&self) -> Option<T> {
        serde_json::from_str(self.0).ok()
    }

    /// Where a part begins.
    pub(crate) fn at(&self, part: Raw<'b>) -> Option<usize> {
        part.and_then(|raw| {
            raw.get()
                .as_ptr()
                .addr()
                .checked_sub(self.0.as_ptr().addr())
        })
    }

    fn bad(&self, raw: &'b RawValue, field: &str, reason: impl Into<String>) -> Fault {
        Fault::bad(field, reason).or_at(self.at(Some(raw)))
    }

    /// Reads the keys of an object. Serde would take an array of the values as well; the wire does not.
    pub(crate) fn object<T: Deserialize<'b>>(
        &self,
        raw: &'b RawValue,
        field: &str,
    ) -> Result<T, Fault> {
        if !raw.get().starts_with('{') {
            return Err(self.bad(
                raw,
                field,
                format!("expected an object, found {}", shown(raw.get())),
            ));
        }
        serde_json::from_str(raw.get()).map_err(|e| self.bad(raw, field, e.to_string()))
    }

    /// Splits a list into its elements, at most `limit`.
    pub(crate) fn list(
        &self,
        raw: Raw<'b>,
        field: &str,
        limit: usize,
    ) -> Result<Vec<&'b RawValue>, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        if !raw.get().starts_with('[') {
            return Err(self.bad(
                raw,
                field,
                format!("expected an array, found {}", shown(raw.get())),
            ));
        }
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let elements = Elements {
            limit,
            of: PhantomData,
        };
        let (elements, count) = reader
            .deserialize_seq(elements)
            .map_err(|e| self.bad(raw, field, e.to_string()))?;
        match count > limit {
            true => Err(Fault::too_many(field, count, limit).or_at(self.at(Some(raw)))),
            false => Ok(elements),
        }
    }

    pub(crate) fn string(&self, raw: Raw<'b>, field: &str) -> Result<Cow<'b, str>, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        if !raw.get().starts_with('"') {
            return Err(self.bad(
                raw,
                field,
                format!("expected a string, found {}", shown(raw.get())),
            ));
        }
        string_of(raw).map_err(|e| self.bad(raw, field, e.to_string()))
    }

    pub(crate) fn boolean(&self, raw: Raw<'b>, field: &str) -> Result<bool, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        raw.get().parse().map_err(|_| {
            self.bad(
                raw,
                field,
                format!("expected true or false, found {}", shown(raw.get())),
            )
        })
    }

    /// A 64-bit number as a decimal string or an integer.
    pub(crate) fn integer(&self, raw: Raw<'b>, field: &str) -> Result<u64, Fault> {
        let raw = raw.ok_or_else(|| Fault::missing(field))?;
        let text = if raw.get().starts_with('"') {
            self.string(Some(raw), field)?
        } else {
            raw.get().into()
        };
        parse_u64(&text).ok_or_else(|| {
            let reason = format!(
                "expected an unsigned 64-bit integer, as digits or in a string, found {}",
                shown(raw.get())
            );
            self.bad(raw, field, reason)
        })
    }

    pub(crate) fn seq(&self, raw: Raw<'b>, field: &str) -> Result<Seq, Fault> {
        let seq = Seq::from_u64(self.integer(raw, field)?);
        seq.map_err(|e| Fault::bad(field, e.to_string()).or_at(self.at(raw)))
    }

    pub(crate) fn epoch(&self, raw: Raw<'b>) -> Result<Epoch, Fault> {
        let text = self.string(raw, "epoch")?;
        Epoch::parse(&text).map_err(|e| Fault::bad("epoch", e.to_string()).or_at(self.at(raw)))
    }
}

/// Collects at most `limit` elements and counts the rest without keeping them.
struct Elements<'b> {
    limit: usize,
    of: PhantomData<&'b RawValue>,
}

impl<'de: 'b, 'b> Visitor<'de> for Elements<'b> {
    type Value = (Vec<&'b RawValue>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.limit {
            match items.next_element()? {
                Some(element) => elements.push(element),
                None => break,
            }
        }
        let mut count = elements.len();
        while items.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok((elements, count))
    }
}
