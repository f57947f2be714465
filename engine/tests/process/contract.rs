//! What TypeScript LakeSync got wrong, against our server, in the words of its own contract: JSON over HTTP, bare seqs
//! as cursors, an answer's `serverHlc` adopted without a thought.
//!
//! Invariant: nothing here knows how the server works; a test passes because a client sees what it must see.

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value, encode_push_json,
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::server::Server;

const TODOS: &str = r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"},
    {"name": "n", "type": "long"}, {"name": "meta", "type": "json"}]}"#;
const NOTES: &str = r#"{"table": "notes", "columns": [{"name": "text", "type": "string"}]}"#;
const NOW_MS: u64 = 1_700_000_000_000;

/// A server with two tables.
struct Gateway {
    server: Server,
    folder: TempDir,
}

impl Gateway {
    fn start() -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path());
        for table in [TODOS, NOTES] {
            let (status, answer) = server.post("/v1/admin/schema/public", table.as_bytes());
            assert_eq!(status, 200, "{answer}");
        }
        Gateway { server, folder }
    }

    fn restart(self) -> Gateway {
        let Gateway { mut server, folder } = self;
        server.kill();
        let server = Server::start(folder.path());
        Gateway { server, folder }
    }

    /// Pushes what one client has, having seen everything up to `seen`; gives the answer.
    fn push(&self, deltas: &[RowDelta], seen: &str) -> Json {
        let (status, answer) = self.try_push(deltas, seen);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    fn try_push(&self, deltas: &[RowDelta], seen: &str) -> (u16, Json) {
        let push = Push {
            client_id: deltas[0].client_id.clone(),
            deltas: deltas.to_vec(),
            last_seen: Seq::ZERO,
            schemas: None,
        };
        let mut body: Json = serde_json::from_slice(&encode_push_json(&push)).unwrap();
        body["lastSeenHlc"] = json!(seen);
        let body = body.to_string();
        self.server.post("/v1/sync/public/push", body.as_bytes())
    }

    fn page(&self, since: &str, limit: usize) -> Json {
        let path = format!("/v1/sync/public/pull?since={since}&clientId=reader&limit={limit}");
        let (status, page) = self.server.get(&path);
        assert_eq!(status, 200, "{page}");
        page
    }

    /// Every delta above `since` and the cursor behind it, as a client that adopts each answer's `serverHlc`.
    fn pull(&self, since: &str, limit: usize) -> (Vec<Json>, String) {
        let (mut deltas, mut since) = (Vec::new(), since.to_owned());
        loop {
            let page = self.page(&since, limit);
            deltas.extend(page["deltas"].as_array().unwrap().clone());
            since = page["serverHlc"].as_str().unwrap().to_owned();
            if page["hasMore"] == false {
                return (deltas, since);
            }
        }
    }

    fn rows(&self, since: &str) -> Vec<String> {
        let rows = self.pull(since, 100).0;
        let mut rows: Vec<String> = rows
            .iter()
            .map(|d| d["rowId"].as_str().unwrap().to_owned())
            .collect();
        rows.sort();
        rows
    }

    fn flush(&self) {
        let (status, answer) = self.server.post("/v1/admin/flush/public", b"");
        assert_eq!(
            (status, &answer["flushed"]),
            (200, &json!(true)),
            "{answer}"
        );
    }
}

/// A delta `wall_ms` milliseconds after the day that all tests live in.
fn delta(
    op: Op,
    (table, row): (&str, &str),
    client: &str,
    wall_ms: u64,
    columns: &[(&str, Value)],
) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse(table).unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(NOW_MS + wall_ms, 0).unwrap(),
    };
    let changes = columns.iter().map(|(column, value)| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value: value.clone(),
    });
    RowDelta::new(op, key, changes.collect())
}

fn title(client: &str, row: &str, wall_ms: u64, text: &str) -> RowDelta {
    delta(
        Op::Insert,
        ("todos", row),
        client,
        wall_ms,
        &[("title", Value::from(text))],
    )
}

#[test]
fn a_late_delta_below_a_readers_cursor_arrives() {
    let gateway = Gateway::start();
    // Arrival a10, b500, c20, d30: every reader gets what arrived behind its cursor, whatever it is stamped.
    let mut cursors = Vec::new();
    for (row, wall_ms) in [("a", 10), ("b", 500), ("c", 20), ("d", 30)] {
        gateway.push(&[title("w", row, wall_ms, row)], "0");
        cursors.push(gateway.pull("0", 100).1);
    }
    assert_eq!(gateway.rows("0"), ["a", "b", "c", "d"]);
    assert_eq!(gateway.rows(&cursors[0]), ["b", "c", "d"]);
    assert_eq!(gateway.rows(&cursors[1]), ["c", "d"]);
    assert_eq!(gateway.rows(&cursors[2]), ["d"]);
    assert!(gateway.rows(&cursors[3]).is_empty());
}

#[test]
fn a_page_that_ends_among_equal_hlcs_loses_none_of_them() {
    let gateway = Gateway::start();
    let deltas: Vec<RowDelta> = (0..9)
        .map(|n| title("poll", &format!("r{n}"), 7, "same moment"))
        .collect();
    gateway.push(&deltas, "0");
    let expected: Vec<String> = (0..9).map(|n| format!("r{n}")).collect();
    for limit in 1..=10 {
        let (pulled, _) = gateway.pull("0", limit);
        let rows: Vec<&str> = pulled
            .iter()
            .map(|d| d["rowId"].as_str().unwrap())
            .collect();
        assert_eq!(rows, expected, "in pages of {limit}");
    }
}

#[test]
fn a_client_far_behind_that_adopts_every_answers_cursor_misses_nothing() {
    let gateway = Gateway::start();
    let deltas: Vec<RowDelta> = (0..1_500)
        .map(|n| title("w", &format!("r{n}"), n, "x"))
        .collect();
    gateway.push(&deltas, "0");
    // The first page is full; its cursor must be its last delta, not the server's present.
    assert_eq!(gateway.pull("0", 1_000).0.len(), 1_500);
}

#[test]
fn the_cursor_of_a_push_answer_skips_no_delta_of_another_client() {
    let gateway = Gateway::start();
    gateway.push(&[title("ana", "seen", 1, "x")], "0");
    let seen = gateway.pull("0", 100).1;
    // Bo pushes between Ana's pull and Ana's push.
    gateway.push(&[title("bo", "between", 2, "x")], "0");
    let answer = gateway.push(&[title("ana", "own", 3, "x")], &seen);
    assert!(
        gateway
            .rows(answer["serverHlc"].as_str().unwrap())
            .contains(&"between".to_owned())
    );
    // With nobody between, Ana's cursor moves above her own deltas.
    let (_, seen) = gateway.pull("0", 100);
    let answer = gateway.push(&[title("ana", "alone", 4, "x")], &seen);
    assert!(
        gateway
            .rows(answer["serverHlc"].as_str().unwrap())
            .is_empty()
    );
}

#[test]
fn flush_and_restart_hide_nothing_from_any_cursor() {
    let mut gateway = Gateway::start();
    let mut cursors = vec!["0".to_owned()];
    for n in 0..6 {
        gateway.push(&[title("w", &format!("r{n}"), n, "x")], "0");
        cursors.push(gateway.pull("0", 100).1);
        if n % 2 == 0 {
            gateway.flush();
        }
        if n == 3 {
            gateway = gateway.restart();
        }
    }
    gateway = gateway.restart();
    gateway.flush();
    for (n, cursor) in cursors.iter().enumerate() {
        assert_eq!(gateway.rows(cursor).len(), 6 - n, "behind cursor {n}");
    }
}

#[test]
fn a_losing_delta_pushed_five_times_is_there_once() {
    let gateway = Gateway::start();
    gateway.push(&[title("ana", "r", 100, "wins")], "0");
    let loser = title("bo", "r", 50, "loses");
    let first = gateway.push(std::slice::from_ref(&loser), "0");
    assert_eq!(first["outcomes"][0]["outcome"], "accepted");
    for again in 0..5 {
        if again == 3 {
            gateway.flush();
        }
        let answer = gateway.push(std::slice::from_ref(&loser), "0");
        assert_eq!(answer["accepted"], 1, "a re-push counts as accepted");
        assert_eq!(answer["outcomes"][0]["outcome"], "duplicate");
        assert_eq!(answer["outcomes"][0]["seq"], first["outcomes"][0]["seq"]);
    }
    assert_eq!(gateway.pull("0", 100).0.len(), 2);
    assert_eq!(
        gateway.server.sql("select title from todos"),
        [json!({"title": "wins"})]
    );
}

#[test]
fn two_clients_that_edit_different_columns_both_keep_their_edit() {
    let gateway = Gateway::start();
    let update = |client: &str, wall_ms, column: &str, value| {
        delta(
            Op::Update,
            ("todos", "r"),
            client,
            wall_ms,
            &[(column, value)],
        )
    };
    gateway.push(&[title("ana", "r", 1, "first")], "0");
    gateway.push(&[update("ana", 10, "title", Value::from("ana's"))], "0");
    gateway.push(&[update("bo", 30, "n", Value::Long(3))], "0");
    // Stamped between the two: newer than Ana's title, older than Bo's number.
    gateway.push(&[update("cyd", 20, "title", Value::from("cyd's"))], "0");
    let expected = [json!({"title": "cyd's", "n": 3})];
    let rows = || gateway.server.sql("select title, n from todos");
    assert_eq!(rows(), expected);
    gateway.flush();
    assert_eq!(rows(), expected);
    gateway.server.post(
        "/v1/admin/sql",
        br#"{"sql": "call system.compact('todos')"}"#,
    );
    assert_eq!(rows(), expected);
}

#[test]
fn a_push_to_two_tables_is_flushed_to_both_with_their_own_columns() {
    let gateway = Gateway::start();
    let note = delta(
        Op::Insert,
        ("notes", "n1"),
        "ana",
        2,
        &[("text", Value::from("a note"))],
    );
    gateway.push(&[title("ana", "r1", 1, "a todo"), note], "0");
    gateway.flush();
    assert_eq!(
        gateway.server.sql("select title from todos"),
        [json!({"title": "a todo"})]
    );
    assert_eq!(
        gateway.server.sql("select text from notes"),
        [json!({"text": "a note"})]
    );
    let gateway = gateway.restart();
    assert_eq!(
        gateway.server.sql("select text from notes"),
        [json!({"text": "a note"})]
    );
    assert_eq!(gateway.pull("0", 100).0.len(), 2);
}

#[test]
fn values_keep_their_type_and_their_text() {
    let gateway = Gateway::start();
    let meta = r#"{"a_hlc":"007","deep":{"hlc":"","serverHlc":"12"},"list":["1",1]}"#;
    let columns = [
        (
            "title",
            Value::from(r#"{"looks": "like JSON", "hlc": "5"}"#),
        ),
        ("done", Value::Null),
        ("n", Value::Long(9_007_199_254_740_993)),
        ("meta", Value::json(meta).unwrap()),
    ];
    gateway.push(
        &[delta(Op::Insert, ("todos", "r"), "ana", 1, &columns)],
        "0",
    );
    let check = |gateway: &Gateway| {
        let (pulled, _) = gateway.pull("0", 10);
        let columns: Vec<(&str, &Json)> = pulled[0]["columns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|change| (change["column"].as_str().unwrap(), &change["value"]))
            .collect();
        let meta: Json = serde_json::from_str(meta).unwrap();
        let expected = [
            ("title", &json!(r#"{"looks": "like JSON", "hlc": "5"}"#)),
            ("done", &Json::Null),
            ("n", &json!("9007199254740993")),
            ("meta", &meta),
        ];
        assert_eq!(columns, expected);
    };
    check(&gateway);
    gateway.flush();
    let gateway = gateway.restart();
    check(&gateway);
    // An explicit null is a write: it clears what an older write had set.
    gateway.push(
        &[delta(
            Op::Update,
            ("todos", "r"),
            "bo",
            0,
            &[("done", Value::Boolean(true))],
        )],
        "0",
    );
    assert_eq!(
        gateway.server.sql("select done from todos"),
        [json!({"done": null})]
    );
}

#[test]
fn a_forged_client_id_is_refused_and_an_empty_push_is_not() {
    let gateway = Gateway::start();
    let forged = [
        title("ana", "r1", 1, "x"),
        title("zz", "r2", 1, "would win ties"),
    ];
    let (status, answer) = gateway.try_push(&forged, "0");
    assert_eq!(
        (status, answer["code"].as_str(), answer["index"].as_u64()),
        (403, Some("FORBIDDEN"), Some(1))
    );
    assert!(gateway.rows("0").is_empty(), "a batch is refused whole");
    let (status, answer) = gateway.server.post(
        "/v1/sync/public/push",
        br#"{"clientId":"ana","deltas":[],"lastSeenHlc":"0"}"#,
    );
    assert_eq!((status, &answer["accepted"]), (200, &json!(0)), "{answer}");
}

#[test]
fn what_ended_the_other_process_is_refused_and_the_server_serves_on() {
    let gateway = Gateway::start();
    let bodies = [
        "null",
        "[]",
        "7",
        "\"\"",
        "{}",
        "{\"clientId\":\"a\"}",
        "{\"clientId\":\"a\",\"deltas\":null}",
        "{\"clientId\":\"a\",\"deltas\":[{}]}",
        "{\"clientId\":\"a\",\"deltas\":[null]}",
        "{\"clientId\":\"a\",\"deltas\":{}}",
        "{\"clientId\":\"a\",\"deltas\":[{\"op\":\"INSERT\",\"table\":\"todos\",\"rowId\":\"r\",\"clientId\":\"a\",\"hlc\":1.5,\"deltaId\":\"x\",\"columns\":[]}]}",
        "{\"clientId\":\"a\",\"deltas\":[{\"op\":\"INSERT\",\"table\":\"todos\",\"rowId\":\"r\",\"clientId\":\"a\",\"hlc\":\"1\",\"deltaId\":\"x\"}]}",
        "{\"clientId\":\"a\",\"deltas\":[{\"op\":\"INSERT\",\"table\":\"todos\",\"rowId\":\"r\",\"clientId\":\"a\",\"hlc\":\"1\",\"deltaId\":\"x\",\"columns\":null}]}",
        "{\"clientId\":7,\"deltas\":[]}",
        "\u{0}",
        "{\"clientId\":\"a\",\"deltas\":[]",
        "{\"__proto__\":{},\"clientId\":\"a\",\"deltas\":[{\"toString\":1}]}",
    ];
    for body in bodies {
        let (status, answer) = gateway.server.post("/v1/sync/public/push", body.as_bytes());
        assert!((400..423).contains(&status), "{body}: {status} {answer}");
        assert!(
            answer["error"].is_string() && answer["code"].is_string(),
            "{body}: {answer}"
        );
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(
        gateway
            .server
            .post("/v1/sync/public/push", deep.as_bytes())
            .0,
        400
    );
    gateway.push(&[title("ana", "r", 1, "still here")], "0");
}

#[test]
fn legacy_paths_lead_to_the_versioned_ones_with_their_query() {
    let gateway = Gateway::start();
    gateway.push(
        &[title("ana", "r1", 1, "x"), title("ana", "r2", 2, "x")],
        "0",
    );
    let answer = ureq::get(format!(
        "{}/sync/public/pull?since=1&clientId=a",
        gateway.server.url
    ))
    .config()
    .max_redirects(0)
    .http_status_as_error(false)
    .build()
    .call()
    .unwrap();
    assert_eq!(answer.status(), 308);
    assert_eq!(
        answer.headers()["location"],
        "/v1/sync/public/pull?since=1&clientId=a"
    );
    // And a client that follows it gets the page.
    let (status, page) = gateway.server.get("/sync/public/pull?since=1&clientId=a");
    assert_eq!(
        (status, page["deltas"][0]["rowId"].as_str()),
        (200, Some("r2")),
        "{page}"
    );
}
