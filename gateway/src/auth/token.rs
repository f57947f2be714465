//! A compact token taken apart: `base64url(header).base64url(payload).base64url(signature)`.
//!
//! **Invariant:** nothing in a token chooses how it is verified: its `alg` only picks among keys that have that one
//! algorithm, and keys or addresses inside the header (`jwk`, `jku`, `x5u`) are never looked at.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value as Json};

/// Bytes of a token: what common servers take as one header.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// A token that is well formed and not verified.
#[derive(Debug)]
pub(super) struct Compact<'a> {
    /// What is signed: header and payload as they came.
    pub(super) signed: &'a str,
    /// The signature as it came, in base64url.
    pub(super) signature: &'a str,
    /// The one algorithm that may verify it.
    pub(super) algorithm: Algorithm,
    /// The name of the key.
    pub(super) key_id: Option<String>,
    payload: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// A phrase that says what is wrong with it, without repeating it.
    pub(super) fn parse(token: &'a str) -> Result<Self, String> {
        if token.len() > TOKEN_BYTES_MAX {
            let n = token.len();
            return Err(format!("it has {n} bytes, {TOKEN_BYTES_MAX} are allowed"));
        }
        let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, signature, header, payload))
        });
        let (signed, signature, header, payload) =
            parts.ok_or("it is no JWT: three parts with two points between them are needed")?;
        if decode_part("signature", signature)?.is_empty() {
            return Err("it is not signed".to_owned());
        }
        let header = members("header", header)?;
        Ok(Self {
            signed,
            signature,
            algorithm: algorithm(&header)?,
            key_id: key_id(&header)?,
            payload,
        })
    }

    /// The claims, to be believed only after the signature was verified.
    pub(super) fn claims(&self) -> Result<Map<String, Json>, String> {
        members("payload", self.payload)
    }
}

fn algorithm(header: &Map<String, Json>) -> Result<Algorithm, String> {
    if header.contains_key("crit") {
        return Err("its header has `crit`, and no extension is understood here".to_owned());
    }
    match header.get("typ") {
        None => {}
        Some(Json::String(typ)) if ["jwt", "at+jwt"].contains(&&*typ.to_ascii_lowercase()) => {}
        Some(_) => return Err("its header's `typ` is not `JWT`".to_owned()),
    }
    match header.get("alg").and_then(Json::as_str) {
        Some("HS256") => Ok(Algorithm::HS256),
        Some("RS256") => Ok(Algorithm::RS256),
        Some("ES256") => Ok(Algorithm::ES256),
        Some("EdDSA") => Ok(Algorithm::EdDSA),
        _ => Err("its header's `alg` is none of HS256, RS256, ES256 and EdDSA".to_owned()),
    }
}

fn key_id(header: &Map<String, Json>) -> Result<Option<String>, String> {
    match header.get("kid") {
        None => Ok(None),
        Some(Json::String(kid)) => Ok(Some(kid.clone())),
        Some(_) => Err("its header's `kid` is no string".to_owned()),
    }
}

fn decode_part(part: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("its {part} is not base64url without padding"))
}

fn members(part: &str, text: &str) -> Result<Map<String, Json>, String> {
    let bytes = decode_part(part, text)?;
    match serde_json::from_slice(&bytes) {
        Ok(Members(map)) => Ok(map),
        Err(error) => Err(format!("its {part} is not one JSON object ({error})")),
    }
}

/// A JSON object that names nothing twice: two readers of one token must not see two subjects.
struct Members(Map<String, Json>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
        let mut map = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Json>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(Members(map))
    }
}
