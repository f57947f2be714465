//! From a verified payload to an [`Identity`].
//!
//! **Invariant:** a claim is taken as it is written or the token is refused: no default stands in for a claim of the
//! wrong type, and no text becomes a number.

use std::collections::BTreeSet;

use lakesync_proto::{ClaimValue, Claims, ClientId, GatewayId};
use serde_json::{Map, Number, Value as Json};

use super::config::AuthConfig;
use super::identity::{Identity, Role, Scope};

/// Gateways that one token may name.
pub const TOKEN_GATEWAYS_MAX: usize = 100;

/// Claims with a meaning of their own, which sync rules do not see. `sub` is the one that they do.
pub(super) const REGISTERED: [&str; 8] = ["gw", "exp", "iat", "nbf", "iss", "aud", "jti", "role"];

/// Integers up to here are exact as a 64-bit float.
const EXACT_MAX: u64 = 1 << 53;

/// Who a verified token stands for, and from when to when.
#[derive(Clone, Debug)]
pub(super) struct Verified {
    pub(super) identity: Identity,
    not_before_s: Option<u64>,
}

impl Verified {
    /// Reads the claims of a token whose signature was verified.
    ///
    /// # Errors
    /// A phrase that names the claim at fault.
    pub(super) fn read(payload: &Map<String, Json>, config: &AuthConfig) -> Result<Self, String> {
        let expires_s = seconds(payload, "exp")?.ok_or("it has no `exp`: tokens must end")?;
        let not_before_s = seconds(payload, "nbf")?;
        check_issuer(payload, config.issuer.as_deref())?;
        check_audience(payload, config.audience.as_deref())?;
        let subject = subject(payload)?;
        Ok(Self {
            identity: Identity {
                role: role(payload)?,
                scope: Scope::Only(gateways(payload)?),
                claims: rule_claims(payload, &subject),
                subject: Some(subject),
                expires_s: Some(expires_s),
            },
            not_before_s,
        })
    }

    /// Refuses it outside its time.
    ///
    /// # Errors
    /// A phrase that says when it ended or begins.
    pub(super) fn check_time(&self, now_s: u64, leeway_s: u64) -> Result<(), String> {
        let expires_s = self.identity.expires_s.unwrap_or(0);
        if expires_s.saturating_add(leeway_s) <= now_s {
            let ago_s = now_s.saturating_sub(expires_s);
            return Err(format!("it expired {ago_s} s ago; ask for a new one"));
        }
        match self.not_before_s {
            Some(from_s) if from_s > now_s.saturating_add(leeway_s) => {
                let ahead_s = from_s.saturating_sub(now_s);
                Err(format!("it is good only in {ahead_s} s (`nbf`)"))
            }
            _ => Ok(()),
        }
    }
}

/// A NumericDate: a JSON number of seconds since 1970, perhaps with a fraction, which is cut.
fn seconds(payload: &Map<String, Json>, name: &str) -> Result<Option<u64>, String> {
    let Some(value) = payload.get(name) else {
        return Ok(None);
    };
    let whole = value.as_u64().or_else(|| whole_seconds(value.as_f64()?));
    match whole {
        Some(seconds) if seconds <= EXACT_MAX => Ok(Some(seconds)),
        _ => Err(format!(
            "its `{name}` is no number of seconds since 1970 (a JSON number, not a string)"
        )),
    }
}

fn whole_seconds(seconds: f64) -> Option<u64> {
    // The text form of a whole float is its digits: no cast that could cut.
    let legal = (0.0..=9e15).contains(&seconds);
    legal.then(|| format!("{:.0}", seconds.floor()).parse().ok())?
}

fn check_issuer(payload: &Map<String, Json>, wanted: Option<&str>) -> Result<(), String> {
    match wanted {
        Some(issuer) if payload.get("iss").and_then(Json::as_str) != Some(issuer) => {
            Err("its `iss` is not the issuer that this server trusts".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_audience(payload: &Map<String, Json>, wanted: Option<&str>) -> Result<(), String> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let named = match payload.get("aud") {
        Some(Json::String(one)) => one == wanted,
        Some(Json::Array(several)) => several.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    };
    match named {
        true => Ok(()),
        false => Err("its `aud` does not name this server".to_owned()),
    }
}

fn subject(payload: &Map<String, Json>) -> Result<ClientId, String> {
    let text = payload.get("sub").and_then(Json::as_str);
    let text = text.ok_or("it has no `sub`, which is the client id, as a string")?;
    ClientId::parse(text).map_err(|error| format!("its `sub` is no client id: {}", error.reason))
}

fn role(payload: &Map<String, Json>) -> Result<Role, String> {
    match payload.get("role") {
        None => Ok(Role::Client),
        Some(Json::String(name)) => name.parse(),
        Some(_) => Err("its `role` is no string".to_owned()),
    }
}

fn gateways(payload: &Map<String, Json>) -> Result<BTreeSet<GatewayId>, String> {
    let names: &[Json] = match payload.get("gw") {
        Some(one @ Json::String(_)) => std::slice::from_ref(one),
        Some(Json::Array(several)) => several,
        _ => return Err("it has no `gw`: the gateway's name, or a list of them".to_owned()),
    };
    match names.len() {
        0 => return Err("its `gw` names no gateway".to_owned()),
        n if n > TOKEN_GATEWAYS_MAX => {
            return Err(format!(
                "its `gw` names {n} gateways, {TOKEN_GATEWAYS_MAX} are allowed"
            ));
        }
        _ => {}
    }
    let name = |name: &Json| {
        let text = name.as_str().ok_or("its `gw` holds what is no string")?;
        GatewayId::parse(text)
            .map_err(|error| format!("its `gw` holds no gateway name: {}", error.reason))
    };
    names.iter().map(name).collect()
}

/// Claims of strings, numbers, booleans and lists of them; others have no meaning in a rule.
fn rule_claims(payload: &Map<String, Json>, subject: &ClientId) -> Claims {
    let mut claims = Claims::new();
    for (name, value) in payload {
        if REGISTERED.contains(&&**name) {
            continue;
        }
        let values: Option<Vec<ClaimValue>> = match value {
            Json::Array(several) => several.iter().map(claim_value).collect(),
            one => claim_value(one).map(|value| vec![value]),
        };
        claims.set(name.clone(), values.unwrap_or_default());
    }
    claims.set("sub", vec![ClaimValue::Text(subject.to_string())]);
    claims
}

fn claim_value(value: &Json) -> Option<ClaimValue> {
    match value {
        Json::String(text) => Some(ClaimValue::Text(text.clone())),
        Json::Bool(truth) => Some(ClaimValue::Boolean(*truth)),
        Json::Number(number) => number_claim(number),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// An integer that a float would round keeps its digits as a text, or is dropped when they are lost: two tenants must
/// not become one number.
fn number_claim(number: &Number) -> Option<ClaimValue> {
    let magnitude = number
        .as_u64()
        .or_else(|| number.as_i64().map(i64::unsigned_abs));
    match magnitude {
        Some(large) if large > EXACT_MAX => Some(ClaimValue::Text(number.to_string())),
        Some(_) => number.as_f64().map(ClaimValue::Number),
        None => {
            let float = number.as_f64().filter(|float| float.abs() <= 9e15)?;
            Some(ClaimValue::Number(float))
        }
    }
}
