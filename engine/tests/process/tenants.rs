//! Two tenants on one server: who may ask what, on every route, and that no byte of the one is in an answer to the other.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::server::{Server, delta, push_body};

const SECRET: &str = "the present secret of two tenants, long enough";
const PREVIOUS: &str = "the secret before it, which is long enough too";
/// What only the second tenant has: in its values, row ids, client ids and the name of a table.
const SENTINEL: &str = "zebrafish";

const ALPHA: &str = r#"{"table": "t", "columns": [{"name": "batch", "type": "long"}, {"name": "note", "type": "string"}]}"#;
const BETA: &str =
    r#"{"table": "zebrafish", "columns": [{"name": "zebrafish_column", "type": "string"}]}"#;

struct World {
    server: Server,
    _folder: TempDir,
    now_s: u64,
}

fn start() -> World {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "gateways = [\"alpha\", \"beta\"]\n[auth]\nhs256_secrets = [\"{SECRET}\", \"{PREVIOUS}\"]\n"
    );
    let server = Server::start_with(folder.path(), &config);
    let file = tempfile::NamedTempFile::new().unwrap();
    let modified = file.as_file().metadata().unwrap().modified().unwrap();
    let now_s = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let world = World {
        server,
        _folder: folder,
        now_s,
    };
    let admin = world.token(&json!({"role": "admin", "gw": ["alpha", "beta"]}));
    for (path, body) in [
        ("/v1/admin/schema/alpha", ALPHA),
        ("/v1/admin/schema/beta", ALPHA),
        ("/v1/admin/schema/beta", BETA),
    ] {
        let (status, answer) = world.ask(&admin, "POST", path, body);
        assert_eq!(status, 200, "{path}: {answer}");
    }
    world
}

impl World {
    fn token(&self, claims: &Json) -> String {
        let mut all =
            json!({"sub": "ana", "gw": "alpha", "role": "client", "exp": self.now_s + 600});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        signed(Algorithm::HS256, SECRET, &all)
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let authorization = format!("Bearer {token}");
        let headers: &[(&str, &str)] = match token {
            "" => &[],
            _ => &[("authorization", &authorization)],
        };
        self.server.ask(method, path, headers, body.as_bytes())
    }
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Json) -> String {
    encode(
        &Header::new(algorithm),
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

/// What a route asks for.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Any,
    Writer,
    Admin,
}

/// Every route behind a token; `{g}` is the gateway.
const ROUTES: [(&str, &str, Needs); 24] = [
    ("GET", "/v1/sync/{g}/pull?since=0&clientId=ana", Needs::Any),
    ("GET", "/v1/sync/{g}/pull?cursor=&clientId=ana", Needs::Any),
    ("GET", "/v1/sync/{g}/schema", Needs::Any),
    ("GET", "/v1/sync/{g}/checkpoint?clientId=ana", Needs::Any),
    ("GET", "/v1/sync/{g}/digest", Needs::Any),
    ("GET", "/v1/sync/{g}/actions", Needs::Any),
    ("POST", "/v1/sync/{g}/push", Needs::Writer),
    ("POST", "/v1/sync/{g}/action", Needs::Writer),
    ("POST", "/v1/admin/schema/{g}", Needs::Admin),
    ("POST", "/v1/admin/sync-rules/{g}", Needs::Admin),
    ("GET", "/v1/admin/sync-rules/{g}", Needs::Admin),
    ("POST", "/v1/admin/rules/explain/{g}", Needs::Admin),
    ("POST", "/v1/admin/flush/{g}", Needs::Admin),
    ("GET", "/v1/admin/metrics/{g}", Needs::Admin),
    ("GET", "/v1/admin/connectors/{g}", Needs::Admin),
    ("POST", "/v1/admin/connectors/{g}", Needs::Admin),
    ("DELETE", "/v1/admin/connectors/{g}/jira", Needs::Admin),
    ("GET", "/v1/admin/actions/{g}/dead", Needs::Admin),
    ("POST", "/v1/admin/gateways/{g}", Needs::Admin),
    ("GET", "/v1/admin/gateways", Needs::Admin),
    ("GET", "/v1/admin/status", Needs::Admin),
    ("POST", "/v1/admin/sql", Needs::Admin),
    ("POST", "/v1/sql", Needs::Any),
    ("GET", "/v1/sync/{g}/ws", Needs::Any),
];

#[test]
#[expect(clippy::too_many_lines, reason = "a table of tokens")]
fn every_route_refuses_every_bad_token_and_serves_good_ones() {
    let world = start();
    let now = world.now_s;
    let claims = |change: &dyn Fn(&mut Json)| {
        let mut claims = json!({"sub": "ana", "gw": "alpha", "role": "admin", "exp": now + 600});
        change(&mut claims);
        claims
    };
    let hs256 = |change: &dyn Fn(&mut Json)| signed(Algorithm::HS256, SECRET, &claims(change));
    let good = hs256(&|_| {});
    let parts: Vec<&str> = good.split('.').collect();
    let header = |json: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json)
    };
    let bad: Vec<(&str, String)> = vec![
        ("none at all", String::new()),
        ("garbage", "garbage".to_owned()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        (
            "alg none",
            format!("{}.{}.", header(r#"{"alg":"none","typ":"JWT"}"#), parts[1]),
        ),
        (
            "alg nOnE",
            format!("{}.{}.", header(r#"{"alg":"nOnE","typ":"JWT"}"#), parts[1]),
        ),
        (
            "alg none, signed",
            format!("{}.{}.{}", header(r#"{"alg":"none"}"#), parts[1], parts[2]),
        ),
        ("empty signature", format!("{}.{}.", parts[0], parts[1])),
        ("trailing bytes", format!("{good}AA")),
        ("another part", format!("{good}.AAAA")),
        ("HS512", signed(Algorithm::HS512, SECRET, &claims(&|_| {}))),
        ("HS384", signed(Algorithm::HS384, SECRET, &claims(&|_| {}))),
        (
            "another secret",
            signed(
                Algorithm::HS256,
                "not our secret, but as long as ours is",
                &claims(&|_| {}),
            ),
        ),
        (
            "an empty secret",
            signed(Algorithm::HS256, "", &claims(&|_| {})),
        ),
        ("expired", hs256(&|c| c["exp"] = json!(now - 3_600))),
        (
            "no exp",
            hs256(&|c| drop(c.as_object_mut().unwrap().remove("exp"))),
        ),
        (
            "exp as text",
            hs256(&|c| c["exp"] = json!((now + 600).to_string())),
        ),
        ("exp negative", hs256(&|c| c["exp"] = json!(-1))),
        ("not yet", hs256(&|c| c["nbf"] = json!(now + 3_600))),
        (
            "no sub",
            hs256(&|c| drop(c.as_object_mut().unwrap().remove("sub"))),
        ),
        ("empty sub", hs256(&|c| c["sub"] = json!(""))),
        ("sub as number", hs256(&|c| c["sub"] = json!(7))),
        (
            "no gw",
            hs256(&|c| drop(c.as_object_mut().unwrap().remove("gw"))),
        ),
        ("gw as number", hs256(&|c| c["gw"] = json!(7))),
        ("unknown role", hs256(&|c| c["role"] = json!("root"))),
        ("role as list", hs256(&|c| c["role"] = json!(["admin"]))),
        (
            "oversized",
            hs256(&|c| c["padding"] = json!("x".repeat(9_000))),
        ),
    ];
    for (method, path, _) in ROUTES {
        let path = path.replace("{g}", "alpha");
        for (what, token) in &bad {
            let (status, answer) = world.ask(token, method, &path, "{}");
            assert_eq!(status, 401, "{what} on {method} {path}: {answer}");
            assert!(
                answer.contains("AUTH_ERROR"),
                "{what} on {method} {path}: {answer}"
            );
        }
        let (status, answer) =
            world
                .server
                .ask(method, &path, &[("authorization", "Basic YTpi")], b"{}");
        assert_eq!(status, 401, "another scheme on {method} {path}: {answer}");
    }
    let previous = signed(Algorithm::HS256, PREVIOUS, &claims(&|_| {}));
    for token in [
        &good,
        &previous,
        &hs256(&|c| c["gw"] = json!(["beta", "alpha"])),
        &hs256(&|c| c["iat"] = json!(now + 5)),
    ] {
        let (status, answer) = world.ask(token, "GET", "/v1/sync/alpha/schema", "");
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn roles_and_scopes_open_what_they_say_and_no_more() {
    let world = start();
    for (method, path, needs) in ROUTES {
        let here = path.replace("{g}", "alpha");
        for (role, opens) in [
            ("reader", needs == Needs::Any),
            ("client", needs != Needs::Admin && here != "/v1/sql"),
            ("ingest", needs != Needs::Admin && here != "/v1/sql"),
            ("admin", true),
        ] {
            let token = world.token(&json!({"role": role}));
            let (status, answer) = world.ask(&token, method, &here, "{}");
            assert_ne!(status, 401, "{role} on {method} {here}: {answer}");
            assert_eq!(
                status != 403,
                opens,
                "{role} on {method} {here}: {status} {answer}"
            );
            assert!(
                status < 500 || status == 501,
                "{role} on {method} {here}: {status} {answer}"
            );
        }
        if path.contains("{g}") {
            let there = path.replace("{g}", "beta");
            let (status, answer) = world.ask(
                &world.token(&json!({"role": "admin"})),
                method,
                &there,
                "{}",
            );
            assert_eq!(status, 403, "{method} {there}: {answer}");
            assert!(
                answer.contains("Gateway ID mismatch"),
                "{method} {there}: {answer}"
            );
        }
    }
}

#[test]
fn a_client_pushes_as_itself_and_ingest_as_anybody() {
    let world = start();
    let body = |client: &str, row: &str| {
        String::from_utf8(push_body(vec![delta(client, row, 1_700_000_000_000, 1)])).unwrap()
    };
    let client = world.token(&json!({}));
    let (status, answer) = world.ask(&client, "POST", "/v1/sync/alpha/push", &body("ana", "r1"));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = world.ask(&client, "POST", "/v1/sync/alpha/push", &body("bo", "r2"));
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("Client ID mismatch"), "{answer}");
    let ingest = world.token(&json!({"role": "ingest", "sub": "loader"}));
    let (status, answer) = world.ask(&ingest, "POST", "/v1/sync/alpha/push", &body("bo", "r2"));
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = world.ask(
        &client,
        "GET",
        "/v1/sync/alpha/pull?since=0&clientId=bo",
        "",
    );
    assert_eq!(status, 403, "{answer}");
}

/// Statements that a tenant may try on its own SQL route and on the other's.
const STATEMENTS: [&str; 18] = [
    "select * from beta.t",
    "select * from lake.beta.t",
    "select * from \"beta\".\"t$deltas\"",
    "select * from beta.\"t$snapshots\"",
    "explain select * from beta.t",
    "describe beta.t",
    "insert into beta.t (batch) values (1)",
    "call system.compact('beta.t')",
    "explain call system.compact('t')",
    "explain verbose select * from t",
    "show tables",
    "select * from information_schema.tables",
    "select * from information_schema.columns",
    "select * from information_schema.schemata",
    "select * from information_schema.views",
    "select * from information_schema.df_settings",
    "select * from nowhere",
    "select nothing from t",
];

/// Puts the sentinel wherever the second tenant can put it.
fn hide_the_sentinel(world: &World) {
    let beta = world.token(&json!({"role": "admin", "gw": "beta", "sub": SENTINEL}));
    let insert = format!("insert into {SENTINEL} ({SENTINEL}_column) values ('{SENTINEL}')");
    let insert = json!({"gateway": "beta", "sql": insert}).to_string();
    let (status, answer) = world.ask(&beta, "POST", "/v1/admin/sql", &insert);
    assert_eq!(status, 200, "{answer}");
    let good = push_body(vec![delta(SENTINEL, SENTINEL, 1_700_000_000_000, 1)]);
    let bad = json!({"clientId": SENTINEL, "deltas": [{"zebrafish": 1}]}).to_string();
    for body in [String::from_utf8(good).unwrap(), bad] {
        world.ask(&beta, "POST", "/v1/sync/beta/push", &body);
    }
    world.ask(&beta, "POST", "/v1/admin/flush/beta", "");
    let pull = format!("/v1/sync/beta/pull?since=0&clientId={SENTINEL}");
    let (_, seen) = world.ask(&beta, "GET", &pull, "");
    assert!(seen.contains(SENTINEL), "the owner sees it: {seen}");
}

#[test]
fn no_byte_of_one_tenant_is_in_an_answer_to_the_other() {
    let world = start();
    hide_the_sentinel(&world);
    let alpha = world.token(&json!({"role": "admin"}));
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let (status, answer) = world.ask(token, method, path, body);
        assert!(
            !answer.contains(SENTINEL),
            "{method} {path} {body}: {answer}"
        );
        (status, answer)
    };
    for (method, path, _) in ROUTES {
        for g in ["alpha", "beta"] {
            ask(&alpha, method, &path.replace("{g}", g), "{}");
        }
    }
    for path in [
        "/",
        "/health",
        "/ready",
        "/metrics",
        "/v1/openapi.json",
        "/docs/",
        "/v1/connectors/types",
    ] {
        ask("", "GET", path, "");
        ask(&alpha, "GET", path, "");
    }
    for (route, sql) in ["/v1/sql", "/v1/admin/sql"]
        .iter()
        .flat_map(|route| STATEMENTS.map(|sql| (route, sql)))
    {
        let own = json!({"gateway": "alpha", "sql": sql}).to_string();
        let (status, answer) = ask(&alpha, "POST", route, &own);
        assert!(
            !sql.contains("beta") || status >= 400,
            "{sql} on {route}: {status} {answer}"
        );
        let (status, answer) = ask(
            &alpha,
            "POST",
            route,
            &json!({"gateway": "beta", "sql": sql}).to_string(),
        );
        assert!(status >= 400, "{sql} on {route}: {status} {answer}");
    }
}
