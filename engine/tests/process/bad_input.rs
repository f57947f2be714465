//! Bad input: a clear error that says what to do, nothing lost, nothing half written, and the server lives on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value as Json, json};

use crate::server::{Server, TABLE, delta, lakesync, push_body, run};

const NOW: u64 = 1_700_000_000_000;

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_bad_push_is_refused_by_index_and_reason_and_nothing_of_it_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let good = |n: u64| {
        serde_json::from_slice::<Json>(&push_body(vec![delta("ana", &format!("r{n}"), NOW, 1)]))
            .unwrap()
    };
    let with = |change: &dyn Fn(&mut Json)| {
        let mut body = good(0);
        let mut second = good(1)["deltas"][0].clone();
        change(&mut second);
        body["deltas"].as_array_mut().unwrap().push(second);
        body.to_string()
    };
    let year_ahead = delta("ana", "r1", year_from_now(), 1);
    let year_ahead =
        serde_json::from_slice::<Json>(&push_body(vec![year_ahead])).unwrap()["deltas"][0].clone();
    let cases: Vec<(&str, String, u16, &str, Option<u64>)> = vec![
        ("empty body", String::new(), 400, "JSON", None),
        (
            "malformed",
            "{\"clientId\": \"ana\", ".to_owned(),
            400,
            "JSON",
            None,
        ),
        ("null", "null".to_owned(), 400, "", None),
        (
            "no fields",
            "{\"clientId\":\"ana\",\"deltas\":[{}]}".to_owned(),
            400,
            "",
            Some(0),
        ),
        (
            "unknown table",
            with(&|d| d["table"] = json!("nowhere")),
            422,
            "nowhere",
            Some(1),
        ),
        (
            "unknown column",
            with(&|d| d["columns"][0]["column"] = json!("colour")),
            422,
            "colour",
            Some(1),
        ),
        (
            "wrong type",
            with(&|d| d["columns"][0]["value"] = json!("seven")),
            422,
            "long",
            Some(1),
        ),
        (
            "forged id",
            with(&|d| d["deltaId"] = json!("0".repeat(64))),
            400,
            "delta id",
            Some(1),
        ),
        (
            "forged client",
            with(&|d| d["clientId"] = json!("bo")),
            403,
            "Client ID mismatch",
            Some(1),
        ),
        (
            "op",
            with(&|d| d["op"] = json!("UPSERT")),
            400,
            "UPSERT",
            Some(1),
        ),
        (
            "hlc",
            with(&|d| d["hlc"] = json!("-1")),
            400,
            "hlc",
            Some(1),
        ),
        (
            "a year ahead",
            with(&|d| *d = year_ahead.clone()),
            409,
            "clock",
            Some(1),
        ),
        (
            "same id, other op",
            with(&|d| {
                *d = good(0)["deltas"][0].clone();
                d["op"] = json!("UPDATE");
            }),
            409,
            "one id names one delta",
            Some(1),
        ),
    ];
    for (name, body, status, said, index) in cases {
        let (found, answer) = server.post("/v1/sync/public/push", body.as_bytes());
        assert_eq!(found, status, "{name}: {answer}");
        assert!(
            answer["error"]
                .as_str()
                .is_some_and(|text| text.contains(said)),
            "{name}: {answer}"
        );
        assert_eq!(answer["index"].as_u64(), index, "{name}: {answer}");
        assert!(answer["code"].is_string(), "{name}: {answer}");
    }
    let (_, page) = server.get("/v1/sync/public/pull?since=0&clientId=x");
    assert_eq!(
        page["deltas"],
        json!([]),
        "nothing of a refused push is stored"
    );
    assert_eq!(
        server
            .post("/v1/sync/public/push", good(0).to_string().as_bytes())
            .0,
        200,
        "the server lives on"
    );
}

fn year_from_now() -> u64 {
    // The file system's clock is the machine's.
    let file = tempfile::NamedTempFile::new().unwrap();
    let modified = file.as_file().metadata().unwrap().modified().unwrap();
    let since_1970 = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_millis()).unwrap() + 365 * 24 * 3_600_000
}

#[test]
fn a_body_of_100_mb_is_refused_before_it_is_read_with_and_without_a_length() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let address = server.url.strip_prefix("http://").unwrap();
    let head = "POST /v1/sync/public/push HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let mut declared = TcpStream::connect(address).unwrap();
    write!(declared, "{head}content-length: 104857600\r\n\r\n").unwrap();
    let mut answer = String::new();
    declared.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("Payload too large"),
        "{answer}"
    );

    let mut chunked = TcpStream::connect(address).unwrap();
    write!(chunked, "{head}transfer-encoding: chunked\r\n\r\n").unwrap();
    let chunk = vec![b' '; 1 << 20];
    let mut taken = 0;
    // The server stops reading past its limit; a write then fails, or the loop ends with its 100 MB.
    for _ in 0..100 {
        let sent = write!(chunked, "{:x}\r\n", chunk.len())
            .and_then(|()| chunked.write_all(&chunk))
            .and_then(|()| chunked.write_all(b"\r\n"));
        match sent {
            Ok(()) => taken += 1,
            Err(_) => break,
        }
    }
    let mut answer = Vec::new();
    drop(chunked.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 413") || (answer.is_empty() && taken < 100),
        "{taken} MB taken: {answer}"
    );
    assert_eq!(server.get("/health").0, 200);
}

#[test]
fn unknown_routes_tables_and_cursors_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (status, answer) = server.get("/v1/sync/elsewhere/pull?since=0&clientId=x");
    assert_eq!(
        (status, answer["code"].as_str()),
        (404, Some("NOT_FOUND")),
        "{answer}"
    );
    for (query, said) in [
        ("clientId=x", "since"),
        ("since=x&clientId=x", "since"),
        ("since=0", "clientId"),
        ("since=0&clientId=x&limit=0", "limit"),
    ] {
        let (status, answer) = server.get(&format!("/v1/sync/public/pull?{query}"));
        assert_eq!(status, 400, "{query}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(said),
            "{query}: {answer}"
        );
    }
    let (status, answer) = server.post("/v1/admin/flush/public?table=nowhere", b"");
    assert_eq!(status, 422, "{answer}");
    for (body, said) in [
        ("{", "schema"),
        (r#"{"table": "a b", "columns": []}"#, "a b"),
        (
            r#"{"table": "t", "columns": [{"name": "row_id", "type": "string"}]}"#,
            "row_id",
        ),
    ] {
        let (status, answer) = server.post("/v1/admin/schema/public", body.as_bytes());
        assert_eq!(status, 422, "{body}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(said),
            "{body}: {answer}"
        );
    }
    let (status, answer) = server.post("/v1/sql", br#"{"sql": "insert into t values (1)"}"#);
    assert_eq!(status, 400, "{answer}");
    let (status, answer) = server.post("/v1/sql", br#"{"sql": "call system.flush()"}"#);
    assert!(
        status == 400 && answer["error"].as_str().unwrap().contains("only reads"),
        "{answer}"
    );
}

#[test]
fn a_directory_that_is_held_says_by_whom() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let second = run(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--dir",
        folder.path().to_str().unwrap(),
    ]);
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        said.contains("in use by process") && said.contains(&server.url),
        "{said}"
    );
}

#[test]
fn a_truncated_gateway_database_is_refused_and_left_as_it_is() {
    for keep in [0.0, 0.3, 0.9] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path());
        assert_eq!(
            server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
            200
        );
        for batch in 0..40_u64 {
            let deltas = (0..50).map(|n| delta("ana", &format!("{batch}-{n}"), NOW + batch, 1));
            assert_eq!(
                server
                    .post("/v1/sync/public/push", &push_body(deltas.collect()))
                    .0,
                200
            );
        }
        assert_eq!(server.terminate(), 0);
        let database = folder.path().join("gateways/public.db");
        let whole = fs::read(&database).unwrap();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a small file"
        )]
        let kept = (whole.len() as f64 * keep) as usize;
        fs::write(&database, &whole[..kept]).unwrap();
        let mut refused = lakesync();
        let refused = refused
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{keep}: {said}");
        assert!(
            said.contains("public.db") && (said.contains("damaged") || said.contains("truncated")),
            "{keep}: {said}"
        );
        assert!(
            fs::read(&database).unwrap() == whole[..kept],
            "{keep}: a refused file is not touched"
        );
        fs::remove_file(&database).unwrap();
        fs::write(
            folder.path().join("gateways/public.db-wal"),
            b"acknowledged pushes",
        )
        .unwrap();
        let orphaned = run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--dir",
            folder.path().to_str().unwrap(),
        ]);
        let said = String::from_utf8(orphaned.stderr).unwrap();
        assert!(
            orphaned.status.code() == Some(1) && said.contains("-wal"),
            "{said}"
        );
        fs::remove_file(folder.path().join("gateways/public.db-wal")).unwrap();
        fs::write(&database, &whole).unwrap();
        let server = Server::start(folder.path());
        assert_eq!(
            server.sql("select count(*) as n from t")[0]["n"],
            2_000,
            "the good copy opens"
        );
    }
}
