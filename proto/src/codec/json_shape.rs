//! The shapes of JSON bodies, generic in how deep they are taken apart at once.
//!
//! Invariant: a shape holds slices of the body, and decides nothing. Taken apart at once ([`Whole`]), a body is parsed
//! in one pass; part by part (`Raw`), each part's place is known, which is what an error needs. Objects are read from
//! objects only: serde would take an array of the values as well, the wire does not.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::codec::json_body::Raw;
use crate::limits::{COLUMNS_MAX, PULL_MAX, PUSH_DELTAS_MAX};

/// A push's deltas, taken apart.
pub(super) type PushDeltas<'b> = Whole<WireDelta<'b, Columns<'b>>, PUSH_DELTAS_MAX>;
/// A page's deltas, taken apart.
pub(super) type PageDeltas<'b> = Whole<WireDelta<'b, Columns<'b>>, PULL_MAX>;
/// A delta's columns, taken apart.
pub(super) type Columns<'b> = Whole<WireColumn<'b>, COLUMNS_MAX>;

/// A push whose deltas are `D`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "D: Deserialize<'de>"))]
pub(super) struct WirePush<'b, D> {
    #[serde(borrow)]
    pub(super) client_id: Raw<'b>,
    pub(super) deltas: D,
    #[serde(borrow)]
    pub(super) last_seen_hlc: Raw<'b>,
    #[serde(borrow)]
    pub(super) schemas: Raw<'b>,
}

/// A delta whose columns are `C`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "C: Deserialize<'de>"))]
pub(super) struct WireDelta<'b, C> {
    #[serde(borrow)]
    pub(super) op: Raw<'b>,
    #[serde(borrow)]
    pub(super) table: Raw<'b>,
    #[serde(borrow)]
    pub(super) row_id: Raw<'b>,
    #[serde(borrow)]
    pub(super) client_id: Raw<'b>,
    pub(super) columns: C,
    #[serde(borrow)]
    pub(super) hlc: Raw<'b>,
    #[serde(borrow)]
    pub(super) delta_id: Raw<'b>,
    #[serde(borrow)]
    pub(super) seq: Raw<'b>,
}

#[derive(Deserialize)]
pub(super) struct WireColumn<'b> {
    #[serde(borrow)]
    pub(super) column: Raw<'b>,
    /// Present even when it is null: null is a value.
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) value: Raw<'b>,
}

/// A pull's answer whose deltas are `D`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "D: Deserialize<'de>"))]
pub(super) struct WirePage<'b, D> {
    pub(super) deltas: D,
    #[serde(borrow)]
    pub(super) server_hlc: Raw<'b>,
    #[serde(borrow)]
    pub(super) has_more: Raw<'b>,
    #[serde(borrow)]
    pub(super) epoch: Raw<'b>,
    #[serde(borrow)]
    pub(super) removed: Raw<'b>,
    #[serde(borrow)]
    pub(super) cursor: Raw<'b>,
    #[serde(borrow)]
    pub(super) checksum: Raw<'b>,
    #[serde(borrow)]
    pub(super) durable_seq: Raw<'b>,
    #[serde(borrow)]
    pub(super) schemas: Raw<'b>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireAck<'b> {
    #[serde(borrow)]
    pub(super) accepted: Raw<'b>,
    #[serde(borrow)]
    pub(super) server_hlc: Raw<'b>,
    #[serde(borrow)]
    pub(super) outcomes: Raw<'b>,
    #[serde(borrow)]
    pub(super) epoch: Raw<'b>,
    #[serde(borrow)]
    pub(super) cursor: Raw<'b>,
    #[serde(borrow)]
    pub(super) checksum: Raw<'b>,
    #[serde(borrow)]
    pub(super) durable_seq: Raw<'b>,
    #[serde(borrow)]
    pub(super) schemas: Raw<'b>,
}

#[derive(Deserialize)]
pub(super) struct WireOutcome<'b> {
    #[serde(borrow)]
    pub(super) outcome: Raw<'b>,
    #[serde(borrow)]
    pub(super) seq: Raw<'b>,
    #[serde(borrow)]
    pub(super) ignored: Raw<'b>,
}

fn present<'de: 'b, 'b, D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'b>, D::Error> {
    <&'b RawValue>::deserialize(deserializer).map(Some)
}

/// A list of at most `MAX` objects, taken apart.
pub(super) struct Whole<T, const MAX: usize>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Whole<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
    type Value = Whole<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Object(item)) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            list.push(item);
        }
        Ok(Whole(list))
    }
}

/// A shape that is read from an object and nothing else.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

struct Keys<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Keys<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}
