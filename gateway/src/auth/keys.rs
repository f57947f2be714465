//! The keys that verify tokens: secrets of our own, and the public keys of a JSON Web Key Set.
//!
//! **Invariant:** a key verifies one algorithm, fixed by what kind of key it is. A public key is never a secret: HS256
//! looks at secrets only, the others at public keys only.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::Value as Json;

use super::config::Secret;
use super::token::Compact;

/// Bytes of a key set: a hundred RSA keys with their certificates.
pub const JWKS_BYTES_MAX: usize = 1 << 20;

/// Keys of a set that are looked at.
const KEYS_MAX: usize = 100;

/// Bytes of an RSA modulus: 2048 bits, below which keys can be factored.
const RSA_BYTES_MIN: usize = 256;

/// Bytes of an RSA modulus: 4096 bits, beyond which one check takes long enough to be an attack.
const RSA_BYTES_MAX: usize = 512;

/// Bytes of an Ed25519 key, and of a coordinate of P-256.
const CURVE_BYTES: usize = 32;

/// Whether a secret made the token's signature.
pub(super) fn signed_by(secrets: &[Secret], token: &Compact<'_>) -> bool {
    secrets
        .iter()
        .any(|secret| verifies(token, &DecodingKey::from_secret(secret.bytes())))
}

fn verifies(token: &Compact<'_>, key: &DecodingKey) -> bool {
    let message = token.signed.as_bytes();
    crypto::verify(token.signature, message, key, token.algorithm).unwrap_or(false)
}

/// The public keys of one key set, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct KeySet(BTreeMap<String, Vec<(Algorithm, DecodingKey)>>);

impl KeySet {
    /// Reads a key set. Keys that are no signing keys of a known kind are passed over, as RFC 7517 asks.
    ///
    /// # Errors
    /// A phrase when it is no key set, or holds no key that could verify anything.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Json>,
        }
        if bytes.len() > JWKS_BYTES_MAX {
            return Err(format!("it is larger than {JWKS_BYTES_MAX} bytes"));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| format!("it is no JWKS ({error})"))?;
        let mut set = Self::default();
        for key in document.keys.into_iter().take(KEYS_MAX) {
            match read_key(key) {
                Ok((kid, algorithm, key)) => set.add(kid, algorithm, key),
                Err(reason) => tracing::debug!(reason, "a key of the JWKS is passed over"),
            }
        }
        match set.0.is_empty() {
            true => Err("it holds no RS256, ES256 or EdDSA key with a `kid`".to_owned()),
            false => Ok(set),
        }
    }

    /// The first key of a name and algorithm stands.
    fn add(&mut self, kid: String, algorithm: Algorithm, key: DecodingKey) {
        let named = self.0.entry(kid).or_default();
        if named.iter().all(|(known, _)| *known != algorithm) {
            named.push((algorithm, key));
        }
    }

    /// Whether there is a key of this name.
    pub(super) fn knows(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    /// Checks the token's signature by the key that it names.
    ///
    /// # Errors
    /// A phrase that says why not.
    pub(super) fn verify(&self, kid: &str, token: &Compact<'_>) -> Result<(), String> {
        let named = self.0.get(kid).ok_or("its `kid` names no known key")?;
        let (_, key) = named
            .iter()
            .find(|(algorithm, _)| *algorithm == token.algorithm)
            .ok_or("the key that its `kid` names is for another `alg`")?;
        match verifies(token, key) {
            true => Ok(()),
            false => Err("its signature is wrong".to_owned()),
        }
    }
}

/// One member of a key set, as far as it is of use here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn read_key(key: Json) -> Result<(String, Algorithm, DecodingKey), String> {
    let jwk: Jwk = serde_json::from_value(key).map_err(|error| error.to_string())?;
    let kid = jwk.kid.clone().ok_or("it has no `kid`")?;
    let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
    let ops = jwk.key_ops.as_ref();
    if !signs || ops.is_some_and(|ops| ops.iter().all(|op| op != "verify")) {
        return Err(format!("`{kid}` is not for signatures"));
    }
    let (name, algorithm, key) = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("RSA", _) => ("RS256", Algorithm::RS256, rsa(&jwk)?),
        ("EC", Some("P-256")) => ("ES256", Algorithm::ES256, p256(&jwk)?),
        ("OKP", Some("Ed25519")) => ("EdDSA", Algorithm::EdDSA, ed25519(&jwk)?),
        (kty, _) => return Err(format!("`{kid}` is of a kind that is not known: {kty}")),
    };
    if jwk.alg.as_deref().is_some_and(|alg| alg != name) {
        return Err(format!("`{kid}` is for another algorithm than {name}"));
    }
    // An empty signature is wrong by every sound key, and an error by a broken one.
    crypto::verify("", b"", &key, algorithm).map_err(|error| format!("`{kid}`: {error}"))?;
    Ok((kid, algorithm, key))
}

fn rsa(jwk: &Jwk) -> Result<DecodingKey, String> {
    let (n, e) = (part("n", &jwk.n)?, part("e", &jwk.e)?);
    let n_bytes = n.iter().skip_while(|byte| **byte == 0).count();
    match n_bytes {
        RSA_BYTES_MIN..=RSA_BYTES_MAX => Ok(DecodingKey::from_rsa_raw_components(&n, &e)),
        _ => Err(format!("its modulus has {n_bytes} bytes")),
    }
}

fn p256(jwk: &Jwk) -> Result<DecodingKey, String> {
    let (x, y) = (part("x", &jwk.x)?, part("y", &jwk.y)?);
    if x.len() != CURVE_BYTES || y.len() != CURVE_BYTES {
        return Err("its coordinates are not of P-256".to_owned());
    }
    DecodingKey::from_ec_components(&URL_SAFE_NO_PAD.encode(x), &URL_SAFE_NO_PAD.encode(y))
        .map_err(|error| error.to_string())
}

fn ed25519(jwk: &Jwk) -> Result<DecodingKey, String> {
    let x = part("x", &jwk.x)?;
    match x.len() {
        CURVE_BYTES => Ok(DecodingKey::from_ed_der(&x)),
        n => Err(format!("its key has {n} bytes")),
    }
}

fn part(name: &str, text: &Option<String>) -> Result<Vec<u8>, String> {
    let text = text.as_deref().ok_or(format!("it has no `{name}`"))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("its `{name}` is not base64url"))
}
