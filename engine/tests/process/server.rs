//! A running `lakesync serve`, and how to talk to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, Push, RowDelta, RowId, Seq, TableName,
    Value, encode_push_json,
};
use serde_json::Value as Json;

/// The table that most tests use.
pub(crate) const TABLE: &str = r#"{"table": "t", "columns": [{"name": "batch", "type": "long"}, {"name": "note", "type": "string"}]}"#;

/// The binary under test.
pub(crate) fn lakesync() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lakesync"))
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    lakesync().args(args).output().expect("the binary starts")
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Its base URL.
    pub(crate) url: String,
}

impl Server {
    /// Serves `dir` on a free port and waits until it listens.
    pub(crate) fn start(dir: &Path) -> Server {
        let mut child = lakesync()
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut said = String::new();
        let url = loop {
            let Some(line) = lines.next().transpose().expect("stderr is text") else {
                panic!("the server ended before it listened: {said}");
            };
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
            said.push_str(&line);
        };
        // Read the rest, or the server would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, url }
    }

    /// Serves `dir` with this configuration file.
    pub(crate) fn start_with(dir: &Path, config: &str) -> Server {
        std::fs::create_dir_all(dir).expect("a folder");
        std::fs::write(dir.join("lakesync.toml"), config).expect("its configuration");
        Server::start(dir)
    }

    /// Any request; gives status and text.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, String) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let request = request.body(body).expect("a request");
        let request = ureq::Agent::new_with_defaults()
            .configure_request(request)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .force_send_body()
            .build();
        let answer = ureq::Agent::new_with_defaults()
            .run(request)
            .expect("an answer");
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .into_with_config()
            .limit(1 << 30)
            .read_to_vec();
        (
            status,
            String::from_utf8_lossy(&body.expect("a body")).into_owned(),
        )
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end that no process can prepare for.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
    }

    /// Asks it to end, and waits for its exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill exists");
        assert!(asked.success());
        self.child
            .wait()
            .expect("it was ours")
            .code()
            .expect("it ended by itself")
    }

    /// Sends a body; gives status and JSON answer.
    pub(crate) fn post(&self, path: &str, body: &[u8]) -> (u16, Json) {
        answer(&self.url, path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Asks; gives status and JSON answer.
    pub(crate) fn get(&self, path: &str) -> (u16, Json) {
        let answer = ureq::get(format!("{}{path}", self.url))
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        read(answer.expect("an answer"))
    }

    /// One statement's rows.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Json> {
        let (status, answer) = self.post(
            "/v1/sql",
            Json::from_iter([("sql", sql)]).to_string().as_bytes(),
        );
        assert_eq!(status, 200, "{sql}: {answer}");
        answer["rows"].as_array().expect("rows").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a body; an error when the server went away.
pub(crate) fn answer(url: &str, path: &str, body: &[u8]) -> Result<(u16, Json), ureq::Error> {
    let answer = ureq::post(format!("{url}{path}"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("content-type", "application/json")
        .send(body)?;
    let status = answer.status().as_u16();
    let text = answer
        .into_body()
        .into_with_config()
        .limit(1 << 30)
        .read_to_string()?;
    Ok((
        status,
        serde_json::from_str(&text).unwrap_or(Json::String(text)),
    ))
}

fn read(answer: ureq::http::Response<ureq::Body>) -> (u16, Json) {
    let status = answer.status().as_u16();
    let text = answer
        .into_body()
        .into_with_config()
        .limit(1 << 30)
        .read_to_string()
        .expect("a body");
    (
        status,
        serde_json::from_str(&text).unwrap_or(Json::String(text)),
    )
}

/// A delta of the table [`TABLE`].
pub(crate) fn delta(client: &str, row: &str, wall_ms: u64, batch: i64) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(wall_ms, 0).unwrap(),
    };
    let columns = vec![ColumnChange {
        column: ColumnName::parse("batch").unwrap(),
        value: Value::Long(batch),
    }];
    RowDelta::new(Op::Insert, key, columns)
}

/// The body of a push.
pub(crate) fn push_body(deltas: Vec<RowDelta>) -> Vec<u8> {
    let push = Push {
        client_id: deltas[0].client_id.clone(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    };
    encode_push_json(&push)
}
