//! A running `lakesync serve`, and how to talk to it.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

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
    said: Option<std::thread::JoinHandle<String>>,
    token: Option<String>,
}

impl Server {
    /// Serves `dir` on a free port and waits until it listens.
    pub(crate) fn start(dir: &Path) -> Server {
        Self::start_args(dir, &[])
    }

    /// The same with more arguments. Rows of these tests are stamped long ago, so that no clock finds them too new.
    pub(crate) fn start_args(dir: &Path, args: &[&str]) -> Server {
        Self::start_in(dir, args, &[])
    }

    /// The same with more variables in its environment.
    pub(crate) fn start_in(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Server {
        let (child, url, lines, mut said) = Self::launch(dir, args, variables);
        // Read the rest, or the server would block on a full pipe.
        let rest = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                said.push_str(&line);
                said.push('\n');
            }
            said
        });
        Server {
            child,
            url,
            said: Some(rest),
            token: None,
        }
    }

    /// The same, and its stderr is closed as soon as it listens.
    pub(crate) fn start_deaf(dir: &Path) -> Server {
        let (child, url, lines, _) = Self::launch(dir, &[], &[]);
        drop(lines);
        Server {
            child,
            url,
            said: None,
            token: None,
        }
    }

    /// Starts the process and waits until it listens: with its URL, the rest of its stderr, and what it said before.
    fn launch(
        dir: &Path,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> (Child, String, Lines<BufReader<ChildStderr>>, String) {
        let mut child = lakesync()
            .envs(variables.iter().copied())
            .args(["serve", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir)
            .args(["--set", "sync.late_window=none"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut said = String::new();
        let url = loop {
            let Some(line) = lines.next().transpose().expect("stderr is text") else {
                panic!("the server ended before it listened: {said}");
            };
            said.push_str(&line);
            said.push('\n');
            // Text says it at the line's begin, JSON in a message.
            if let Some((_, url)) = line.split_once("listening on ") {
                break url.split('"').next().unwrap().to_owned();
            }
        };
        (child, url, lines, said)
    }

    /// Asks with this bearer token from now on.
    pub(crate) fn with_token(mut self, token: &str) -> Server {
        self.token = Some(token.to_owned());
        self
    }

    /// Everything that it wrote to stderr, once it has ended.
    pub(crate) fn said(&mut self) -> String {
        let said = self.said.take().expect("asked once");
        said.join().expect("lines are read")
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
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .build()
            .new_agent();
        let answer = match method {
            "GET" | "DELETE" => agent.run(request.body(()).expect("a request")),
            _ => agent.run(request.body(body).expect("a request")),
        };
        let answer = answer.expect("an answer");
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

    /// The end that no process can prepare for.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
    }

    /// Waits for an end that nobody asked for; everything that it wrote to stderr.
    pub(crate) fn wait_for_crash(mut self) -> String {
        let status = self.child.wait().expect("it was ours");
        assert!(!status.success(), "it ended well");
        self.said()
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
        let answer = answer_as(&self.url, path, body, self.token.as_deref());
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Asks; gives status and JSON answer.
    pub(crate) fn get(&self, path: &str) -> (u16, Json) {
        let mut request = agent().get(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.call().expect("an answer"))
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
    answer_as(url, path, body, None)
}

/// The same with a bearer token.
pub(crate) fn answer_as(
    url: &str,
    path: &str,
    body: &[u8],
    token: Option<&str>,
) -> Result<(u16, Json), ureq::Error> {
    let mut request = agent().post(format!("{url}{path}"));
    request = request.header("content-type", "application/json");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = request.send(body)?;
    let status = answer.status().as_u16();
    let body = answer.into_body().into_with_config().limit(1 << 30);
    let text = body.read_to_string()?;
    let json = serde_json::from_str(&text);
    Ok((status, json.unwrap_or(Json::String(text))))
}

/// Takes any certificate: who is spoken to is not what these tests are about.
fn agent() -> ureq::Agent {
    let tls = ureq::tls::TlsConfig::builder();
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let config = config.tls_config(tls.disable_verification(true).build());
    config.build().into()
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
