//! 64-bit numbers in JSON text.
//!
//! Invariant: written as a decimal string, because a JSON number loses digits beyond 2^53 in most readers; read from a
//! decimal string or from an integer.

use std::fmt::{self, Write as _};

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

/// Parses plain decimal digits: no sign, no space, no fraction.
pub(crate) fn parse_u64(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Parses decimal digits with an optional minus sign.
pub(crate) fn parse_i64(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// Appends decimal digits, without a text in between.
pub(crate) fn push_digits(number: impl fmt::Display, out: &mut String) {
    out.write_fmt(format_args!("{number}"))
        .expect("a String takes every text");
}

/// Serializes as a decimal string.
pub(crate) fn serialize<S: Serializer>(value: u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value)
}

/// Deserializes a decimal string or an unsigned integer.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(U64Visitor)
}

struct U64Visitor;

impl Visitor<'_> for U64Visitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned 64-bit number as a decimal string or an integer")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        Ok(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        u64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse_u64(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
