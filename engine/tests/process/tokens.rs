//! A server with a secret: who is asked for a token, what each role may, and that tenants see nothing of each other.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::server::{Server, TABLE, answer_as, delta, lakesync, push_body, run};

const SECRET: &str = "a secret of a test, and long enough for it";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory whose configuration has a secret and these gateways.
fn configured(folder: &Path, gateways: &str) {
    let config = format!("gateways = [{gateways}]\n[auth]\nhs256_secrets = [\"{SECRET}\"]\n");
    std::fs::write(folder.join("lakesync.toml"), config).unwrap();
}

/// What `lakesync token` mints for `args`.
fn token(dir: &Path, args: &str) -> String {
    let mut command = vec!["token", "--dir", dir.to_str().unwrap()];
    command.extend(args.split(' '));
    let minted = run(&command);
    assert!(minted.status.success(), "{}", text(&minted.stderr));
    text(&minted.stdout).trim().to_owned()
}

#[test]
fn tokens_are_asked_for_and_the_tools_of_the_machine_bring_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    configured(dir, "\"public\"");
    let server = Server::start(dir);
    let (status, answer) = server.get("/v1/sync/public/schema");
    assert_eq!((status, &answer["code"]), (401, &json!("AUTH_ERROR")));
    let pull = "/v1/sync/public/pull?since=0&clientId=ana";
    let ana = server.with_token(&token(dir, "--sub ana"));
    assert_eq!(ana.get(pull).0, 200);
    assert_eq!(ana.get("/v1/sync/public/pull?since=0&clientId=bo").0, 403);
    assert_eq!(ana.get("/v1/sync/other/schema").0, 403);
    let put = ana.post("/v1/admin/schema/public", TABLE.as_bytes());
    assert_eq!(put.0, 403, "{}", put.1);
    let later = ana.with_token(&token(dir, "--sub ana --claim team=red --ttl 2s"));
    assert_eq!(later.get(pull).0, 200);

    let rows = folder.path().join("rows.ndjson");
    std::fs::write(&rows, "{\"v\":1}\n{\"v\":2}\n").unwrap();
    let place = ["--dir", dir.to_str().unwrap()];
    let push = ["push", rows.to_str().unwrap(), "--table", "r"];
    let pushed = run(&[&push[..], &place].concat());
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let sql = ["sql", "--format", "csv", "-c", "select sum(v) as n from r"];
    let asked = run(&[&sql[..], &place].concat());
    assert_eq!(text(&asked.stdout), "n\n3\n", "{}", text(&asked.stderr));
    let refused = lakesync()
        .args(sql)
        .args(place)
        .env("LAKESYNC_TOKEN", "no.token.atall")
        .output()
        .unwrap();
    assert!(!refused.status.success());
    assert!(
        text(&refused.stderr).contains("LAKESYNC_TOKEN"),
        "{}",
        text(&refused.stderr)
    );
}

fn without_id(mut answer: Json) -> String {
    if let Json::Object(fields) = &mut answer {
        fields.remove("requestId");
    }
    answer.to_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn a_tenant_finds_no_word_of_another_in_sql() {
    const SENTINEL: &str = "sentinel-of-b";
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    configured(dir, "\"tenant_a\", \"tenant_b\"");
    let server = Server::start(dir);
    let ask = |token: &str, path: &str, sql: &str| {
        let body = json!({ "sql": sql }).to_string();
        answer_as(&server.url, path, body.as_bytes(), Some(token)).unwrap()
    };
    for (tenant, note) in [("tenant_a", "of a"), ("tenant_b", SENTINEL)] {
        let admin = token(dir, &format!("--sub root --role admin --gateway {tenant}"));
        let put = format!("/v1/admin/schema/{tenant}");
        let put = answer_as(&server.url, &put, TABLE.as_bytes(), Some(&admin)).unwrap();
        assert_eq!(put.0, 200, "{}", put.1);
        let insert = format!("insert into t (note) values ('{note}')");
        let (status, said) = ask(&admin, "/v1/admin/sql", &insert);
        assert_eq!(status, 200, "{said}");
    }
    let reader = token(dir, "--sub rita --role reader --gateway tenant_a");
    let admin = token(dir, "--sub root --role admin --gateway tenant_a");
    let both = token(
        dir,
        "--sub rita --role reader --gateway tenant_a --gateway tenant_b",
    );
    let (status, said) = ask(&reader, "/v1/sql", "select note from t");
    assert_eq!(
        (status, &said["rows"]),
        (200, &json!([{"note": "of a"}])),
        "{said}"
    );
    let across = "select note from lake.tenant_b.t";
    let (status, said) = ask(&both, "/v1/sql", across);
    assert_eq!(status, 400, "two gateways and no `gateway`: {said}");
    let body = json!({ "sql": across, "gateway": "tenant_a" }).to_string();
    let (status, said) = answer_as(&server.url, "/v1/sql", body.as_bytes(), Some(&both)).unwrap();
    assert_eq!(
        (status, &said["rows"]),
        (200, &json!([{"note": SENTINEL}])),
        "{said}"
    );

    for (path, sql) in [
        ("/v1/sql", across),
        ("/v1/sql", "select * from information_schema.tables"),
        ("/v1/sql", "select * from information_schema.columns"),
        ("/v1/sql", "select * from information_schema.schemata"),
        ("/v1/sql", "show tables"),
        ("/v1/sql", "explain select * from lake.tenant_b.t"),
        ("/v1/sql", "select * from tenant_b.\"t$deltas\""),
        ("/v1/sql", "select * from tenant_b.t version as of 1"),
        ("/v1/sql", "explain call system.compact('tenant_b.t')"),
        ("/v1/admin/sql", "call system.flush('tenant_b.t')"),
        ("/v1/admin/sql", "call system.compact('tenant_b.t')"),
        (
            "/v1/admin/sql",
            "insert into lake.tenant_b.t (note) values ('x')",
        ),
        (
            "/v1/admin/sql",
            "insert into t (note) select note from lake.tenant_b.t",
        ),
    ] {
        let token = if path == "/v1/sql" { &reader } else { &admin };
        let (status, said) = ask(token, path, sql);
        let asked = sql.contains("tenant_b");
        assert_eq!(status, if asked { 400 } else { 200 }, "{sql}: {said}");
        // What the caller wrote may come back; anything else of b may not.
        let said = without_id(said);
        assert!(!said.contains(SENTINEL), "{sql}: {said}");
        assert!(asked || !said.contains("tenant_b"), "{sql}: {said}");
        // What is not there at all is answered in the same words.
        let (_, nothing) = ask(token, path, &sql.replace("tenant_b", "tenant_x"));
        assert_eq!(said.replace("tenant_b", "tenant_x"), without_id(nothing));
    }
    let gateway = json!({ "sql": "select 1", "gateway": "tenant_b" }).to_string();
    let (status, said) =
        answer_as(&server.url, "/v1/sql", gateway.as_bytes(), Some(&reader)).unwrap();
    assert!(
        status == 400
            && said["error"]
                .as_str()
                .unwrap()
                .ends_with("it has: tenant_a"),
        "{said}"
    );
}

#[test]
fn sql_is_for_readers_and_admins_and_only_admins_write() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    configured(dir, "\"public\"");
    let server = Server::start(dir);
    let sql = json!({ "sql": "select 1 as n" }).to_string();
    for (role, read, write) in [
        ("reader", 200, 403),
        ("client", 403, 403),
        ("ingest", 403, 403),
        ("admin", 200, 200),
    ] {
        let token = token(dir, &format!("--sub someone --role {role}"));
        let ask = |path| answer_as(&server.url, path, sql.as_bytes(), Some(&token)).unwrap();
        for (path, expected) in [("/v1/sql", read), ("/v1/admin/sql", write)] {
            let (status, said) = ask(path);
            assert_eq!(status, expected, "{role} {path}: {said}");
        }
    }
    let (status, _) = answer_as(&server.url, "/v1/sql", sql.as_bytes(), None).unwrap();
    assert_eq!(status, 401);
    let ingest = token(dir, "--sub loader --role ingest");
    let admin = token(dir, "--sub root --role admin");
    let put = answer_as(
        &server.url,
        "/v1/admin/schema/public",
        TABLE.as_bytes(),
        Some(&admin),
    );
    assert_eq!(put.unwrap().0, 200);
    let push = push_body(vec![delta("loader", "r", 1_700_000_000_000, 1)]);
    let pushed: (u16, Json) =
        answer_as(&server.url, "/v1/sync/public/push", &push, Some(&ingest)).unwrap();
    assert_eq!(pushed.0, 200, "{}", pushed.1);
}
