//! Making tokens: for development, for tests, and for servers that share the secret.
//!
//! **Invariant:** what is minted is what [`Authenticator`](super::Authenticator) takes, and a legacy gateway too.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use lakesync_proto::{ClientId, GatewayId};
use serde_json::{Map, Value as Json, json};

use super::claims::REGISTERED;
use super::config::Secret;
use super::identity::Role;

/// What a minted token says.
#[derive(Clone, Debug)]
pub struct MintClaims {
    /// `sub`: who holds it, which is its client id.
    pub subject: ClientId,
    /// `gw`: where it is good for.
    pub gateways: Vec<GatewayId>,
    /// `role`.
    pub role: Role,
    /// `iat`: now, in seconds since 1970.
    pub issued_s: u64,
    /// `exp`: when it ends, in seconds since 1970.
    pub expires_s: u64,
    /// `iss`, when the server asks for one.
    pub issuer: Option<String>,
    /// `aud`, when the server asks for one.
    pub audience: Option<String>,
    extra: Map<String, Json>,
}

impl MintClaims {
    /// A token of `subject` for `gateways`, from `issued_s` to `expires_s`, both in seconds since 1970.
    #[must_use]
    pub fn new(
        subject: ClientId,
        gateways: Vec<GatewayId>,
        role: Role,
        issued_s: u64,
        expires_s: u64,
    ) -> Self {
        Self {
            subject,
            gateways,
            role,
            issued_s,
            expires_s,
            issuer: None,
            audience: None,
            extra: Map::new(),
        }
    }

    /// Adds a claim that sync rules may ask for.
    ///
    /// # Errors
    /// A sentence when the name is one of those with a meaning of their own, such as `sub`.
    pub fn with_claim(mut self, name: &str, value: Json) -> Result<Self, String> {
        if REGISTERED.contains(&name) || name == "sub" {
            return Err(format!(
                "the claim `{name}` has a meaning of its own; give it by its own option"
            ));
        }
        self.extra.insert(name.to_owned(), value);
        Ok(self)
    }

    fn payload(&self) -> Json {
        let mut payload = self.extra.clone();
        let gateways = match &*self.gateways {
            // A legacy gateway reads a string only.
            [one] => json!(one),
            several => json!(several),
        };
        payload.insert("sub".to_owned(), json!(self.subject));
        payload.insert("gw".to_owned(), gateways);
        payload.insert("role".to_owned(), json!(self.role.as_str()));
        payload.insert("iat".to_owned(), json!(self.issued_s));
        payload.insert("exp".to_owned(), json!(self.expires_s));
        if let Some(issuer) = &self.issuer {
            payload.insert("iss".to_owned(), json!(issuer));
        }
        if let Some(audience) = &self.audience {
            payload.insert("aud".to_owned(), json!(audience));
        }
        Json::Object(payload)
    }
}

/// A token, signed with HS256.
#[must_use]
pub fn mint(secret: &Secret, claims: &MintClaims) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let payload = URL_SAFE_NO_PAD.encode(claims.payload().to_string());
    let signed = format!("{header}.{payload}");
    let key = EncodingKey::from_secret(secret.bytes());
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256)
        .expect("HMAC takes a key of any length");
    format!("{signed}.{signature}")
}
