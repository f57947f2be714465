//! Who may do what: what the endpoints run, whose pages may ask, which gateway a statement is for.

use serde_json::{Value as Json, json};

use crate::server::{Server, TABLE, run};

fn said(answer: &Json) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

#[test]
fn no_endpoint_writes_a_file_or_runs_what_it_may_not_inside_an_explain() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let file = folder.path().join("stolen.csv");
    let copy = format!("copy (select 1 as n) to '{}'", file.display());
    let insert = "insert into t (batch) values (1)";
    let explained = |sql: &str| format!("explain analyze {sql}");
    for (path, sql, reason) in [
        ("/v1/sql", copy.clone(), "COPY"),
        ("/v1/sql", explained(&copy), "COPY"),
        ("/v1/admin/sql", copy.clone(), "COPY"),
        ("/v1/admin/sql", format!("explain {copy}"), "COPY"),
        ("/v1/admin/sql", explained(&copy), "COPY"),
        ("/v1/sql", insert.to_owned(), "only reads"),
        ("/v1/sql", explained(insert), "only reads"),
        ("/v1/sql", "update t set batch = 2".to_owned(), "only reads"),
        ("/v1/sql", explained("delete from t"), "only reads"),
        (
            "/v1/sql",
            "with one as (select 1) delete from t".to_owned(),
            "only reads",
        ),
        (
            "/v1/sql",
            "merge into t using (select 1 as one) s on t.batch = s.one when matched then delete"
                .to_owned(),
            "only reads",
        ),
        (
            "/v1/admin/sql",
            "drop table t".to_owned(),
            "a table is not dropped",
        ),
        (
            "/v1/sql",
            "create table u (a bigint)".to_owned(),
            "only reads",
        ),
        (
            "/v1/sql",
            "alter table t add column a bigint".to_owned(),
            "only reads",
        ),
        (
            "/v1/sql",
            "set datafusion.execution.batch_size = 1".to_owned(),
            "not kept",
        ),
    ] {
        let (status, answer) = server.post(path, json!({ "sql": sql }).to_string().as_bytes());
        assert_eq!(status, 400, "{path} {sql}: {answer}");
        assert!(said(&answer).contains(reason), "{path} {sql}: {answer}");
    }
    assert!(!file.exists());
    assert_eq!(server.sql("select count(*) as n from t")[0]["n"], 0);
    let sql = json!({ "sql": explained(insert) }).to_string();
    let (status, answer) = server.post("/v1/admin/sql", sql.as_bytes());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(server.sql("select count(*) as n from t")[0]["n"], 1);
}

#[test]
fn a_page_of_another_site_cannot_ask_the_server_for_anything() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let post = |path: &str, header: &str, value: &str| {
        let mut answer = ureq::post(format!("{}{path}", server.url))
            .config()
            .http_status_as_error(false)
            .build()
            .header("content-type", "text/plain")
            .header(header, value)
            .send(r#"{"sql": "select 1 as n"}"#)
            .unwrap();
        let body = answer.body_mut().read_to_string().unwrap();
        let body: Json = serde_json::from_str(&body).unwrap();
        (answer.status().as_u16(), body)
    };
    for path in [
        "/v1/sql",
        "/v1/admin/sql",
        "/v1/admin/flush/public",
        "/v1/sync/public/push",
    ] {
        for (header, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let (status, body) = post(path, header, value);
            assert_eq!(
                (status, &body["code"]),
                (403, &json!("FORBIDDEN")),
                "{path}: {body}"
            );
            assert!(said(&body).contains(value), "{path}: {body}");
        }
    }
    let (status, body) = post("/v1/sql", "origin", &server.url);
    assert_eq!((status, &body["rows"]), (200, &json!([{"n": 1}])), "{body}");
}

#[test]
fn routes_and_methods_that_are_not_there_are_answered_with_a_body() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (status, answer) = server.get("/v1/nothing");
    assert_eq!((status, &answer["code"]), (404, &json!("NOT_FOUND")));
    assert!(said(&answer).contains("/v1/nothing"), "{answer}");
    for path in ["/v1/sql", "/v1/sync/public/push"] {
        let (status, answer) = server.get(path);
        assert_eq!(status, 405, "{path}: {answer}");
        assert!(said(&answer).contains("GET"), "{path}: {answer}");
    }
}

#[test]
fn the_gateway_of_sql_is_the_one_that_was_named_and_a_typo_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let file = folder.path().join("rows.ndjson");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let at = |args: &[&str]| {
        let place = ["--dir", dir.to_str().unwrap()];
        run(&[args, &place].concat())
    };
    std::fs::write(&file, "{\"v\":1}\n{\"v\":2}\n").unwrap();
    let push = ["push", file.to_str().unwrap(), "--table", "t"];
    let pushed = at(&[&push[..], &["--gateway", "Shop-1"]].concat());
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let sql = |gateway: &str, sql: &str| {
        let ran = at(&["sql", "--format", "csv", "--gateway", gateway, "-c", sql]);
        match ran.status.success() {
            true => Ok(text(&ran.stdout)),
            false => Err(text(&ran.stderr)),
        }
    };
    let check = |v: u64| {
        let insert = format!("insert into t (v) values ({v})");
        sql("Shop-1", &insert).unwrap();
        let max = "select max(v) as n from t";
        assert_eq!(sql("Shop-1", max).unwrap(), format!("n\n{v}\n"));
        let flushed = sql("Shop-1", "call system.flush()").unwrap();
        assert!(flushed.contains("\nt,"), "{flushed}");
        let compacted = sql("Shop-1", "call system.compact('t')").unwrap();
        assert!(compacted.contains("\nt,"), "{compacted}");
        let count = sql("public", "select count(*) as n from lake.\"Shop-1\".t").unwrap();
        assert_eq!(count, format!("n\n{v}\n"));
        let error = sql("public", max).unwrap_err();
        assert!(error.contains("public.t"), "{error}");
        let error = sql("Shop", max).unwrap_err();
        assert!(
            error.contains("`Shop`") && error.contains("Shop-1, public"),
            "{error}"
        );
        assert!(!dir.join("gateways/Shop.db").exists());
    };
    check(3);
    let mut server = Server::start(&dir);
    check(4);
    let sum = json!({ "sql": "select sum(v) as n from t", "gateway": "Shop-1" }).to_string();
    let (_, answer) = server.post("/v1/sql", sum.as_bytes());
    assert_eq!(answer["rows"], json!([{"n": 10}]), "{answer}");
    let (status, answer) = server.post("/v1/sql", sum.replace("Shop-1", "Shop").as_bytes());
    assert!(
        status == 400 && said(&answer).contains("Shop-1, public"),
        "{answer}"
    );
    assert_eq!(server.terminate(), 0);
}
