//! Every way a token can be wrong, and what is said to it.
//!
//! **Invariant:** [`refused_tokens`] is the one list; the routes' tests send the same tokens to every route.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::keys::{TestKey, jwks, signed_part};
use crate::auth::*;

/// When all tests here happen, in seconds since 1970.
pub(crate) const NOW_S: u64 = 1_700_000_000;

pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";
const PREVIOUS: &str = "the secret before it, also long enough";
const FOREIGN: &str = "a secret that this server does not know";

const HS: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const RS: &str = r#"{"alg":"RS256","typ":"JWT","kid":"rsa"}"#;
const ES: &str = r#"{"alg":"ES256","typ":"JWT","kid":"ec"}"#;
const ED: &str = r#"{"alg":"EdDSA","typ":"JWT","kid":"ed"}"#;

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

fn public_keys() -> Vec<u8> {
    jwks(&[
        TestKey::Rsa.jwk("rsa"),
        TestKey::Ec1.jwk("ec"),
        TestKey::Ed.jwk("ed"),
        TestKey::RsaSmall.jwk("small"),
        // A key set is public: what is called a secret in it must verify nothing.
        json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2VjcmV0"}),
    ])
}

/// An authenticator with two secrets, a key set, an issuer and an audience.
pub(crate) fn authenticator() -> Authenticator {
    let config = AuthConfig {
        hs256: vec![secret(SECRET), secret(PREVIOUS)],
        jwks: Some(JwksSource::Url("https://issuer.example/jwks".to_owned())),
        issuer: Some("https://issuer.example".to_owned()),
        audience: Some("lakesync".to_owned()),
        ..AuthConfig::default()
    };
    Authenticator::with_fetch(config, Arc::new(|_| Ok(public_keys()))).unwrap()
}

fn sound() -> Json {
    json!({
        "sub": "ada", "gw": "shop", "role": "client", "iat": NOW_S, "exp": NOW_S + 3_600,
        "iss": "https://issuer.example", "aud": "lakesync",
    })
}

/// A sound payload with one claim changed; null takes it away.
fn with(name: &str, value: Json) -> String {
    let mut payload = sound();
    match value {
        Json::Null => drop(payload.as_object_mut().unwrap().remove(name)),
        value => payload[name] = value,
    }
    payload.to_string()
}

fn hs(payload: impl AsRef<[u8]>) -> String {
    TestKey::Secret(SECRET).sign(HS, payload)
}

fn hs_header(header: &str) -> String {
    TestKey::Secret(SECRET).sign(header, sound().to_string())
}

/// Tokens that must be taken.
fn taken_tokens() -> Vec<(&'static str, String)> {
    let sound = sound().to_string();
    let minted = {
        let (sub, gw) = ("ada".parse().unwrap(), "shop".parse().unwrap());
        let mut claims = MintClaims::new(sub, vec![gw], Role::Client, NOW_S, NOW_S + 60);
        claims.issuer = Some("https://issuer.example".to_owned());
        claims.audience = Some("lakesync".to_owned());
        mint(&secret(SECRET), &claims)
    };
    vec![
        ("minted", minted),
        ("HS256", hs(&sound)),
        (
            "HS256 with the previous secret",
            TestKey::Secret(PREVIOUS).sign(HS, &sound),
        ),
        ("no typ", hs_header(r#"{"alg":"HS256"}"#)),
        (
            "typ in small letters",
            hs_header(r#"{"alg":"HS256","typ":"jwt"}"#),
        ),
        (
            "typ of an access token",
            hs_header(r#"{"alg":"HS256","typ":"at+jwt"}"#),
        ),
        (
            "keys in the header",
            hs_header(
                r#"{"alg":"HS256","jku":"http://evil.example","x5u":"http://evil.example","jwk":{"kty":"oct","k":"AA"}}"#,
            ),
        ),
        (
            "a kid on HS256",
            hs_header(r#"{"alg":"HS256","kid":"any"}"#),
        ),
        ("RS256", TestKey::Rsa.sign(RS, &sound)),
        ("ES256", TestKey::Ec1.sign(ES, &sound)),
        ("EdDSA", TestKey::Ed.sign(ED, &sound)),
        ("several gateways", hs(with("gw", json!(["shop", "stock"])))),
        (
            "several audiences",
            hs(with("aud", json!(["other", "lakesync"]))),
        ),
        ("exp within the leeway", hs(with("exp", json!(NOW_S - 29)))),
        (
            "exp with a fraction",
            hs(with("exp", json!(NOW_S as f64 + 0.5))),
        ),
        ("nbf within the leeway", hs(with("nbf", json!(NOW_S + 30)))),
        // Only nbf says from when a token is good: a legacy issuer's clock may be ahead.
        (
            "iat in the far future",
            hs(with("iat", json!(NOW_S + 1_000_000))),
        ),
        ("no role", hs(with("role", Json::Null))),
    ]
}

/// Tokens that must be refused, each with a part of what is said.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn refused_tokens() -> Vec<(&'static str, String, &'static str)> {
    let sound = sound().to_string();
    let good = hs(&sound);
    let unsigned = signed_part(r#"{"alg":"none","typ":"JWT"}"#, &sound);
    let signature = good.rsplit_once('.').unwrap().1.to_owned();
    let public = TestKey::Rsa.jwk("rsa")["n"].as_str().unwrap().to_owned();
    let twice = sound.replacen('{', r#"{"sub":"admin","#, 1);
    let many: Vec<String> = (0..101).map(|i| format!("g{i}")).collect();
    vec![
        ("nothing", String::new(), "no JWT"),
        ("a word", "token".to_owned(), "no JWT"),
        ("two parts", "a.b".to_owned(), "no JWT"),
        ("four parts", format!("{good}.x"), "no JWT"),
        ("five parts, as of a JWE", "a.b.c.d.e".to_owned(), "no JWT"),
        (
            "too large",
            hs(with("x", json!("x".repeat(9_000)))),
            "8192 are allowed",
        ),
        ("a space at the end", format!("{good} "), "base64url"),
        ("a new line at the end", format!("{good}\n"), "base64url"),
        ("padding at the end", format!("{good}="), "base64url"),
        (
            "not base64url",
            good.replacen('.', ".+", 1),
            "signature is wrong",
        ),
        ("alg none", format!("{unsigned}."), "not signed"),
        (
            "alg none with a signature",
            format!("{unsigned}.{signature}"),
            "`alg`",
        ),
        (
            "alg nOnE",
            format!("{}.{signature}", signed_part(r#"{"alg":"nOnE"}"#, &sound)),
            "`alg`",
        ),
        ("alg empty", hs_header(r#"{"alg":""}"#), "`alg`"),
        ("alg missing", hs_header(r#"{"typ":"JWT"}"#), "`alg`"),
        ("alg a number", hs_header(r#"{"alg":256}"#), "`alg`"),
        (
            "alg in small letters",
            hs_header(r#"{"alg":"hs256"}"#),
            "`alg`",
        ),
        ("alg HS512", hs_header(r#"{"alg":"HS512"}"#), "`alg`"),
        (
            "alg PS256",
            TestKey::Rsa.sign(r#"{"alg":"PS256","kid":"rsa"}"#, &sound),
            "`alg`",
        ),
        (
            "alg twice",
            hs_header(r#"{"alg":"none","alg":"HS256"}"#),
            "twice",
        ),
        (
            "typ of something else",
            hs_header(r#"{"alg":"HS256","typ":"logout+jwt"}"#),
            "`typ`",
        ),
        (
            "typ a number",
            hs_header(r#"{"alg":"HS256","typ":1}"#),
            "`typ`",
        ),
        (
            "crit",
            hs_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#),
            "`crit`",
        ),
        (
            "header a list",
            hs_header("[]"),
            "header is not one JSON object",
        ),
        (
            "header broken",
            hs_header("{"),
            "header is not one JSON object",
        ),
        (
            "empty signature",
            format!("{}.", signed_part(HS, &sound)),
            "not signed",
        ),
        (
            "cut signature",
            good[..good.len() - 3].to_owned(),
            "signature is wrong",
        ),
        (
            "signature of another payload",
            format!("{}.{signature}", signed_part(HS, with("sub", json!("eve")))),
            "signature is wrong",
        ),
        (
            "foreign secret",
            TestKey::Secret(FOREIGN).sign(HS, &sound),
            "signature is wrong",
        ),
        (
            "empty secret",
            TestKey::Secret("").sign(HS, &sound),
            "signature is wrong",
        ),
        (
            "secret of the key set",
            TestKey::Secret("secret").sign(r#"{"alg":"HS256","kid":"oct"}"#, &sound),
            "signature is wrong",
        ),
        (
            "HS256 by the public key",
            TestKey::Secret(Box::leak(public.into_boxed_str()))
                .sign(r#"{"alg":"HS256","kid":"rsa"}"#, &sound),
            "signature is wrong",
        ),
        (
            "HS256 signature under RS256",
            TestKey::Secret(SECRET).sign(RS, &sound),
            "signature is wrong",
        ),
        (
            "RS256 without kid",
            TestKey::Rsa.sign(r#"{"alg":"RS256"}"#, &sound),
            "no `kid`",
        ),
        (
            "kid a number",
            TestKey::Ec1.sign(r#"{"alg":"ES256","kid":1}"#, &sound),
            "`kid` is no string",
        ),
        (
            "kid unknown",
            TestKey::Ec1.sign(r#"{"alg":"ES256","kid":"gone"}"#, &sound),
            "names no known key",
        ),
        (
            "kid a path",
            TestKey::Ec1.sign(r#"{"alg":"ES256","kid":"../../dev/null"}"#, &sound),
            "names no known key",
        ),
        (
            "kid of another kind of key",
            TestKey::Ec1.sign(r#"{"alg":"ES256","kid":"rsa"}"#, &sound),
            "another `alg`",
        ),
        (
            "kid of a secret",
            TestKey::Ec1.sign(r#"{"alg":"ES256","kid":"oct"}"#, &sound),
            "names no known key",
        ),
        (
            "kid of a key too short",
            TestKey::RsaSmall.sign(r#"{"alg":"RS256","kid":"small"}"#, &sound),
            "names no known key",
        ),
        (
            "another key of the same kind",
            TestKey::Ec2.sign(ES, &sound),
            "signature is wrong",
        ),
        ("payload a list", hs("[]"), "payload is not one JSON object"),
        (
            "payload broken",
            hs("{\"sub\":"),
            "payload is not one JSON object",
        ),
        (
            "payload with more after it",
            hs(format!("{sound}{{}}")),
            "payload is not one JSON object",
        ),
        (
            "payload not UTF-8",
            hs(b"{\"sub\":\"\xff\"}"),
            "payload is not one JSON object",
        ),
        ("sub twice", hs(&twice), "twice"),
        ("exp missing", hs(with("exp", Json::Null)), "no `exp`"),
        (
            "exp a string",
            hs(with("exp", json!((NOW_S + 60).to_string()))),
            "`exp` is no number",
        ),
        (
            "exp true",
            hs(with("exp", json!(true))),
            "`exp` is no number",
        ),
        (
            "exp a list",
            hs(with("exp", json!([NOW_S + 60]))),
            "`exp` is no number",
        ),
        (
            "exp negative",
            hs(with("exp", json!(-1))),
            "`exp` is no number",
        ),
        (
            "exp beyond all time",
            hs(sound.replace(&(NOW_S + 3_600).to_string(), "1e300")),
            "`exp` is no number",
        ),
        (
            "exp passed",
            hs(with("exp", json!(NOW_S - 30))),
            "expired 30 s ago",
        ),
        ("exp zero", hs(with("exp", json!(0))), "expired"),
        (
            "nbf to come",
            hs(with("nbf", json!(NOW_S + 31))),
            "good only in 31 s",
        ),
        (
            "nbf a string",
            hs(with("nbf", json!("0"))),
            "`nbf` is no number",
        ),
        ("iss missing", hs(with("iss", Json::Null)), "`iss`"),
        (
            "iss of another",
            hs(with("iss", json!("https://issuer.example/"))),
            "`iss`",
        ),
        (
            "iss a list",
            hs(with("iss", json!(["https://issuer.example"]))),
            "`iss`",
        ),
        ("aud missing", hs(with("aud", Json::Null)), "`aud`"),
        (
            "aud of another",
            hs(with("aud", json!(["lake", "sync"]))),
            "`aud`",
        ),
        ("aud a part", hs(with("aud", json!("lakesync2"))), "`aud`"),
        ("sub missing", hs(with("sub", Json::Null)), "no `sub`"),
        ("sub empty", hs(with("sub", json!(""))), "no client id"),
        ("sub a number", hs(with("sub", json!(7))), "no `sub`"),
        (
            "sub too long",
            hs(with("sub", json!("s".repeat(257)))),
            "no client id",
        ),
        (
            "sub with a control character",
            hs(with("sub", json!("a\u{0}b"))),
            "no client id",
        ),
        ("gw missing", hs(with("gw", Json::Null)), "no `gw`"),
        ("gw empty", hs(with("gw", json!(""))), "no gateway name"),
        (
            "gw an empty list",
            hs(with("gw", json!([]))),
            "names no gateway",
        ),
        ("gw a number", hs(with("gw", json!(1))), "no `gw`"),
        (
            "gw with a number",
            hs(with("gw", json!(["shop", 1]))),
            "no string",
        ),
        (
            "gw a pattern",
            hs(with("gw", json!("*"))),
            "no gateway name",
        ),
        (
            "gw of too many",
            hs(with("gw", json!(many))),
            "100 are allowed",
        ),
        ("role unknown", hs(with("role", json!("root"))), "no role"),
        (
            "role in capitals",
            hs(with("role", json!("Admin"))),
            "no role",
        ),
        (
            "role a list",
            hs(with("role", json!(["admin"]))),
            "`role` is no string",
        ),
    ]
}

#[tokio::test]
async fn sound_tokens_are_taken() {
    let authenticator = authenticator();
    for (name, token) in taken_tokens() {
        for round in ["fresh", "known"] {
            let identity = authenticator.identify(&token, NOW_S).await;
            let identity = identity.unwrap_or_else(|error| panic!("{name}, {round}: {error}"));
            assert_eq!(identity.subject.as_ref().unwrap(), &"ada", "{name}");
            assert!(
                identity.reaches("shop") && !identity.reaches("other"),
                "{name}"
            );
            assert_eq!(identity.role, Role::Client, "{name}");
        }
    }
}

#[tokio::test]
async fn unsound_tokens_are_refused_with_the_reason() {
    let authenticator = authenticator();
    for (name, token, reason) in refused_tokens() {
        for round in ["fresh", "again"] {
            match authenticator.identify(&token, NOW_S).await {
                Ok(identity) => panic!("{name}, {round}: taken as {identity:?}"),
                Err(refusal) => {
                    assert_eq!(refusal.code.as_str(), "AUTH_ERROR", "{name}");
                    let text = refusal.message;
                    assert!(text.starts_with("Bearer token refused"), "{name}: {text}");
                    assert!(text.contains(reason), "{name}: {text}");
                    assert!(
                        !text.contains("ada") && !text.contains("secret of"),
                        "{name}: {text}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn no_changed_character_passes() {
    let authenticator = authenticator();
    let tokens = [
        (hs(sound().to_string()), 1),
        (TestKey::Ed.sign(ED, sound().to_string()), 9),
    ];
    for (token, step) in tokens {
        authenticator.identify(&token, NOW_S).await.unwrap();
        for i in (0..token.len()).step_by(step) {
            for other in ["A", "B", "_", "."] {
                let mut changed = token.clone();
                changed.replace_range(i..=i, other);
                if changed != token {
                    let taken = authenticator.identify(&changed, NOW_S).await;
                    assert!(taken.is_err(), "at {i}: {changed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_known_token_ends_when_it_says() {
    let authenticator = authenticator();
    let token = hs(with("exp", json!(NOW_S + 60)));
    let identity = authenticator.identify(&token, NOW_S).await.unwrap();
    assert_eq!(identity.expires_s, Some(NOW_S + 60));
    authenticator.identify(&token, NOW_S + 89).await.unwrap();
    let ended = authenticator
        .identify(&token, NOW_S + 90)
        .await
        .unwrap_err();
    assert!(ended.message.contains("expired 30 s ago"), "{ended}");
    // A clock that was set back does not revive what is not good yet.
    let later = hs(with("nbf", json!(NOW_S)));
    authenticator.identify(&later, NOW_S).await.unwrap();
    assert!(authenticator.identify(&later, NOW_S - 31).await.is_err());
}

#[tokio::test]
async fn claims_keep_their_types_and_registered_ones_are_not_for_rules() {
    let mut payload = sound();
    for (name, value) in [
        ("org", json!("acme")),
        ("teams", json!(["a", "b"])),
        ("level", json!(7)),
        ("ratio", json!(-0.5)),
        ("staff", json!(false)),
        ("mixed", json!(["x", 1, true])),
        ("account", json!(9_007_199_254_740_993_u64)),
        ("nested", json!({"a": 1})),
        ("holes", json!(["a", null])),
        ("nothing", json!(null)),
        ("empty", json!([])),
        ("jti", json!("1")),
        ("nbf", json!(NOW_S)),
    ] {
        payload[name] = value;
    }
    // Digits that no number holds: two such accounts must not become one.
    let payload = payload
        .to_string()
        .replacen('{', r#"{"huge":99999999999999999999999,"#, 1);
    let identity = authenticator().identify(&hs(payload), NOW_S).await.unwrap();
    let claims: std::collections::BTreeMap<_, _> = identity
        .claims
        .iter()
        .map(|(name, values)| (name, format!("{values:?}")))
        .collect();
    let expected = [
        ("account", r#"[Text("9007199254740993")]"#),
        ("level", "[Number(7.0)]"),
        ("mixed", r#"[Text("x"), Number(1.0), Boolean(true)]"#),
        ("org", r#"[Text("acme")]"#),
        ("ratio", "[Number(-0.5)]"),
        ("staff", "[Boolean(false)]"),
        ("sub", r#"[Text("ada")]"#),
        ("teams", r#"[Text("a"), Text("b")]"#),
    ];
    let found: Vec<_> = claims
        .iter()
        .map(|(name, values)| (*name, values.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn without_issuer_and_audience_any_are_taken_and_without_a_key_set_only_secrets() {
    let config = AuthConfig {
        hs256: vec![secret(SECRET)],
        ..AuthConfig::default()
    };
    let authenticator = Authenticator::new(config).unwrap();
    for payload in [
        with("iss", json!("any")),
        with("aud", Json::Null),
        with("aud", json!(7)),
    ] {
        authenticator.identify(&hs(payload), NOW_S).await.unwrap();
    }
    let refused = authenticator
        .identify(&TestKey::Ec1.sign(ES, sound().to_string()), NOW_S)
        .await;
    assert!(refused.unwrap_err().message.contains("not configured"));

    let config = AuthConfig {
        jwks: Some(JwksSource::Url("https://issuer.example/jwks".to_owned())),
        ..AuthConfig::default()
    };
    let authenticator = Authenticator::with_fetch(config, Arc::new(|_| Ok(public_keys()))).unwrap();
    let refused = authenticator
        .identify(&hs(sound().to_string()), NOW_S)
        .await;
    assert!(refused.unwrap_err().message.contains("not configured"));
    authenticator
        .identify(&TestKey::Ec1.sign(ES, sound().to_string()), NOW_S)
        .await
        .unwrap();
}

#[test]
fn configurations_that_cannot_work_are_refused() {
    let error = |config| Authenticator::new(config).unwrap_err().to_string();
    let jwks = |source| AuthConfig {
        jwks: Some(source),
        ..AuthConfig::default()
    };
    assert!(error(AuthConfig::default()).contains("no key"));
    let three = vec![secret(SECRET), secret(PREVIOUS), secret(FOREIGN)];
    assert!(
        error(AuthConfig {
            hs256: three,
            ..AuthConfig::default()
        })
        .contains("2 are allowed")
    );
    assert!(error(jwks(JwksSource::Url("file:///etc/passwd".into()))).contains("https://"));
    assert!(error(jwks(JwksSource::Url("https://".into()))).contains("https://"));
    assert!(error(jwks(JwksSource::File("/no/such/file".into()))).contains("/no/such/file"));
    assert!(Secret::parse("short").unwrap_err().contains("openssl rand"));
    assert!(Secret::parse(&format!("{}\n", " ".repeat(40))).is_err());
    let shown = format!(
        "{:?}",
        AuthConfig {
            hs256: vec![secret(SECRET)],
            ..AuthConfig::default()
        }
    );
    assert!(!shown.contains("thirty"), "{shown}");
    assert_eq!(secret(&format!("{SECRET}\n")), secret(SECRET));
}

#[test]
fn a_minted_token_cannot_be_given_two_meanings() {
    let claims = MintClaims::new("ada".parse().unwrap(), Vec::new(), Role::Client, 0, 1);
    for name in [
        "sub", "gw", "exp", "iat", "nbf", "iss", "aud", "jti", "role",
    ] {
        assert!(
            claims.clone().with_claim(name, json!("x")).is_err(),
            "{name}"
        );
    }
    claims.with_claim("org", json!(["acme"])).unwrap();
}
