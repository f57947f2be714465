//! Maintenance as people and machines ask for it: commands with and without a server, pauses over HTTP, metrics.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::server::{Server, run};

fn answer(args: &[&str]) -> (i32, Json, String) {
    let ran = run(args);
    let code = ran.status.code().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    let rows = serde_json::from_slice(&ran.stdout).unwrap_or(Json::Null);
    (code, rows, said)
}

/// Three rows of `people`, pushed and flushed.
fn people(folder: &Path) -> String {
    let (dir, file) = (folder.join("data"), folder.join("rows.ndjson"));
    let dir = dir.to_str().unwrap().to_owned();
    fs::write(
        &file,
        "{\"id\":1,\"name\":\"a\"}\n{\"id\":2,\"name\":\"b\"}\n{\"id\":3,\"name\":\"c\"}\n",
    )
    .unwrap();
    let push = [
        "push",
        file.to_str().unwrap(),
        "--table",
        "people",
        "--key",
        "id",
        "--dir",
        &dir,
    ];
    let pushed = run(&push);
    assert!(
        pushed.status.success(),
        "{}",
        String::from_utf8_lossy(&pushed.stderr)
    );
    let flushed = run(&["sql", "--dir", &dir, "-c", "call system.flush()"]);
    assert!(
        flushed.status.success(),
        "{}",
        String::from_utf8_lossy(&flushed.stderr)
    );
    dir
}

#[test]
fn commands_do_what_their_procedures_do_with_and_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let dir = people(folder.path());
    let with = |command: &[&str]| {
        let mut args = command.to_vec();
        args.extend(["--dir", &dir, "--json"]);
        answer(&args)
    };
    let (code, rows, said) = with(&["compact", "people", "--dry-run"]);
    assert_eq!((code, &rows[0]["rows"]), (0, &json!(3)), "{said}");
    assert_eq!(rows[0]["files_added"], 0, "{rows}");
    let (code, rows, said) = with(&["optimize", "people"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(
        (&rows[0]["job"], &rows[0]["status"]),
        (&json!("compact"), &json!("done")),
        "{rows}"
    );
    for command in [
        vec!["maintain", "--dry-run"],
        vec!["maintain", "people"],
        vec![
            "expire",
            "people",
            "--older-than",
            "7 days",
            "--retain-last",
            "2",
        ],
        vec!["vacuum", "--retain", "30 days", "--dry-run"],
    ] {
        let (code, rows, said) = with(&command);
        assert_eq!(code, 0, "{command:?}: {rows} {said}");
    }
    for (command, said) in [
        (vec!["compact", "nowhere"], "nowhere"),
        (vec!["compact", "people", "--mode", "fast"], "merge-on-read"),
        (
            vec!["expire", "people", "--older-than", "yesterday"],
            "INTERVAL",
        ),
    ] {
        let (code, _, error) = with(&command);
        assert_eq!(code, 1, "{command:?}");
        assert!(error.contains(said), "{command:?}: {error}");
    }

    let mut server = Server::start(Path::new(&dir));
    let (code, rows, said) = with(&["compact", "people"]);
    assert_eq!(
        (code, rows[0]["table"].as_str()),
        (0, Some("people")),
        "{said}"
    );
    let url = server.url.clone();
    let (code, rows, said) = answer(&["maintain", "people", "--url", &url, "--json"]);
    assert_eq!(code, 0, "{rows} {said}");
    let (code, _, said) = answer(&["maintain", "--url", "lake.example"]);
    assert_eq!(code, 1);
    assert!(said.contains("https://"), "{said}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn a_pause_over_http_is_shown_and_jobs_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let dir = people(folder.path());
    let mut server = Server::start(Path::new(&dir));
    let post = |path: &str, body: &[u8]| server.post(path, body);
    let (status, paused) = post(
        "/v1/admin/maintenance/public/pause",
        br#"{"tables": ["people"]}"#,
    );
    assert_eq!(
        (status, &paused["paused"]),
        (200, &json!(["people"])),
        "{paused}"
    );
    let (status, error) = post(
        "/v1/admin/maintenance/public/pause",
        br#"{"tables": ["nowhere"]}"#,
    );
    assert_eq!(status, 400, "{error}");
    let (status, error) = post("/v1/admin/maintenance/elsewhere/pause", b"");
    assert_eq!(status, 400, "{error}");
    let (status, rows) = post(
        "/v1/admin/sql",
        br#"{"sql": "call system.compact('people')"}"#,
    );
    assert_eq!(status, 200, "{rows}");
    let (_, shown) = server.get("/v1/admin/status");
    let maintenance = &shown["gateways"][0]["maintenance"];
    assert_eq!(maintenance["paused"], json!(["people"]), "{maintenance}");
    let kinds = maintenance["kinds"].as_array().unwrap();
    assert!(
        kinds
            .iter()
            .any(|kind| kind["kind"] == "compact" && kind["runs"] == 1),
        "{maintenance}"
    );
    let (_, metrics) = server.ask("GET", "/metrics", &[], b"");
    let line = "lakesync_maintenance_total{gateway=\"public\",kind=\"compact\",status=\"ok\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    let (status, paused) = post("/v1/admin/maintenance/public/resume", b"");
    assert_eq!((status, &paused["paused"]), (200, &json!([])), "{paused}");
    assert_eq!(server.terminate(), 0);
}
