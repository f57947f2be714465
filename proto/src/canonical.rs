//! JSON text as JavaScript writes it: what a delta id hashes and what a `json` value holds.
//!
//! Invariant: equal values have equal text. Strings are escaped as `JSON.stringify` does, numbers have their shortest
//! JavaScript form, object keys are sorted by UTF-16 code unit, there is no space.

use std::cmp::Ordering;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::limits::JSON_DEPTH_MAX;

/// Appends a JSON string: short escapes where there are some, `\u00xx` for other control characters, the rest raw.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (i, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain_from..i]);
        plain_from = i + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}

/// Appends a number's shortest JavaScript form; -0 is `0` and what is not finite is `null`.
pub(crate) fn write_number(number: f64, out: &mut String) {
    match number.is_finite() {
        true => out.push_str(ryu_js::Buffer::new().format_finite(number)),
        false => out.push_str("null"),
    }
}

/// How integers inside `json` values are written.
#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub(crate) enum Integers {
    /// With all digits: a stored value is never rewritten.
    Exact,
    /// As the 64-bit float that JavaScript makes of them: a delta id must be what a legacy client computes.
    AsFloats,
}

/// The normal text of any JSON value that serde can read.
pub(crate) fn normal_text<'de, D: Deserializer<'de>>(
    value: D,
    integers: Integers,
) -> Result<String, D::Error> {
    let mut out = String::new();
    Normal {
        out: &mut out,
        integers,
        depth: 0,
    }
    .deserialize(value)?;
    Ok(out)
}

/// Appends the canonical form of a normal `json` text: the same, but for integers beyond 2^53.
pub(crate) fn write_canonical_json(text: &str, out: &mut String) {
    // 2^53 has 16 digits; shorter runs cannot hold an integer that a float would round.
    let long_run = text
        .as_bytes()
        .windows(16)
        .any(|run| run.iter().all(u8::is_ascii_digit));
    let rewritten = long_run.then(|| {
        let mut reader = serde_json::Deserializer::from_str(text);
        normal_text(&mut reader, Integers::AsFloats)
    });
    match rewritten {
        Some(Ok(canonical)) => out.push_str(&canonical),
        _ => out.push_str(text),
    }
}

/// Writes one JSON value into `out` while serde reads it; no tree is built.
struct Normal<'a> {
    out: &'a mut String,
    integers: Integers,
    depth: usize,
}

impl Normal<'_> {
    /// The writer for the parts of an array or object.
    fn inner<E: Error>(&mut self) -> Result<Normal<'_>, E> {
        if self.depth == JSON_DEPTH_MAX {
            return Err(E::custom(format!(
                "JSON is nested deeper than {JSON_DEPTH_MAX} levels"
            )));
        }
        Ok(Normal {
            out: self.out,
            integers: self.integers,
            depth: self.depth + 1,
        })
    }

    fn again(&mut self) -> Normal<'_> {
        Normal {
            out: self.out,
            integers: self.integers,
            depth: self.depth,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Normal<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Normal<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.integers {
            Integers::Exact => self.out.push_str(&value.to_string()),
            Integers::AsFloats => write_number(value as f64, self.out),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.integers {
            Integers::Exact => self.out.push_str(&value.to_string()),
            Integers::AsFloats => write_number(value as f64, self.out),
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        write_number(value, self.out);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        write_string(value, self.out);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        inner.out.push('[');
        let start = inner.out.len();
        loop {
            let end = inner.out.len();
            if end > start {
                inner.out.push(',');
            }
            if items.next_element_seed(inner.again())?.is_none() {
                inner.out.truncate(end);
                break;
            }
        }
        inner.out.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        let start = inner.out.len();
        // Each entry as (key, where its value's text begins); the texts stand one after another in `out`.
        let mut keys: Vec<(String, usize)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            keys.push((key, inner.out.len()));
            entries.next_value_seed(inner.again())?;
        }
        let texts = inner.out.split_off(start);
        let ends = keys
            .iter()
            .skip(1)
            .map(|(_, begin)| begin - start)
            .chain([texts.len()]);
        let mut sorted: Vec<(&str, &str)> = keys
            .iter()
            .zip(ends)
            .map(|((key, begin), end)| (key.as_str(), &texts[begin - start..end]))
            .collect();
        sorted.sort_by(|a, b| utf16_order(a.0, b.0));
        // The sort is stable, so of a repeated key the last entry stands last: the one JavaScript keeps.
        inner.out.push('{');
        for (i, (key, text)) in sorted.iter().enumerate() {
            if sorted.get(i + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            if inner.out.len() > start + 1 {
                inner.out.push(',');
            }
            write_string(key, inner.out);
            inner.out.push(':');
            inner.out.push_str(text);
        }
        inner.out.push('}');
        Ok(())
    }
}

/// JavaScript's order of strings. It differs from bytewise order only beyond U+FFFF.
fn utf16_order(a: &str, b: &str) -> Ordering {
    match a.is_ascii() && b.is_ascii() {
        true => a.cmp(b),
        false => a.encode_utf16().cmp(b.encode_utf16()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        normal_text(
            &mut serde_json::Deserializer::from_str(text),
            Integers::Exact,
        )
        .unwrap()
    }

    fn canonical(text: &str) -> String {
        let mut out = String::new();
        write_canonical_json(&normal(text), &mut out);
        out
    }

    #[test]
    fn strings_are_escaped_as_javascript_does() {
        let mut out = String::new();
        write_string(
            "é\u{2028}😀\"\\/\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}",
            &mut out,
        );
        assert_eq!(
            out,
            "\"é\u{2028}😀\\\"\\\\/\\n\\r\\t\\b\\f\\u0001\\u001f\u{7f}\""
        );
    }

    #[test]
    fn keys_are_sorted_by_utf16_code_unit() {
        assert_eq!(
            normal(r#"{"b":1,"a":[1,{"d":null,"c":2}]}"#),
            r#"{"a":[1,{"c":2,"d":null}],"b":1}"#
        );
        // U+1F600 is D83D DE00 in UTF-16, below U+FF5E; in UTF-8 it is above.
        assert_eq!(
            normal("{\"\u{ff5e}\":1,\"😀\":2}"),
            "{\"😀\":2,\"\u{ff5e}\":1}"
        );
    }

    #[test]
    fn of_a_repeated_key_the_last_stands() {
        assert_eq!(
            normal(r#"{"a":1,"b":{},"a":2,"b":[]}"#),
            r#"{"a":2,"b":[]}"#
        );
        assert_eq!(
            normal(r#"{"a":"{","b":{"{":"{"}}"#),
            r#"{"a":"{","b":{"{":"{"}}"#
        );
    }

    #[test]
    fn empty_things_stay_empty() {
        assert_eq!(
            normal(r#" [ [ ] , { } , "" , [ [ ] ] ] "#),
            r#"[[],{},"",[[]]]"#
        );
    }

    #[test]
    fn integers_keep_their_digits_in_a_value_and_lose_them_in_an_id() {
        let text = "[9007199254740993,-9223372036854775808,18446744073709551615,1.0,-0,1e21,123456789012345680000]";
        let exact = "[9007199254740993,-9223372036854775808,18446744073709551615,1,0,1e+21,123456789012345680000]";
        assert_eq!(normal(text), exact);
        let floats = "[9007199254740992,-9223372036854776000,18446744073709552000,1,0,1e+21,123456789012345680000]";
        assert_eq!(canonical(text), floats);
        assert_eq!(
            canonical(r#""9007199254740993""#),
            r#""9007199254740993""#,
            "a string is no number"
        );
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(normal(&nested(JSON_DEPTH_MAX)), nested(JSON_DEPTH_MAX));
        for deep in [nested(JSON_DEPTH_MAX + 1), nested(100_000)] {
            let mut reader = serde_json::Deserializer::from_str(&deep);
            let error = normal_text(&mut reader, Integers::Exact)
                .unwrap_err()
                .to_string();
            assert!(error.contains("deeper than 100"), "{error}");
        }
    }
}
