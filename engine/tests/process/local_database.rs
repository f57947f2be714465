//! `lakesync client`: what a person does to a client's database, with a server and without one.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use crate::server::{Server, lakesync, run};

const SECRET: &str = "a secret of a test, and long enough for it";
const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "due", "type": "date"}]}"#;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder with databases, and the commands on them.
struct Desk {
    folder: tempfile::TempDir,
    token: Option<String>,
}

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("todos.json"), TODOS).unwrap();
        Desk {
            folder,
            token: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `lakesync client`; arguments that are names of this folder's files are their paths.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let file = |arg: &&str| match arg.ends_with(".db") || arg.ends_with(".json") {
            true => self.path(arg).to_str().unwrap().to_owned(),
            false => (*arg).to_owned(),
        };
        let mut command = lakesync();
        command.arg("client").args(args.iter().map(file));
        if let Some(token) = &self.token {
            command.env("LAKESYNC_TOKEN", token);
        }
        let ran = command.output().unwrap();
        let code = ran.status.code().unwrap();
        (code, text(&ran.stdout), text(&ran.stderr))
    }

    /// What a command that must go well writes.
    fn out(&self, args: &[&str]) -> String {
        let (code, out, said) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {said}");
        out
    }

    /// What a command that must fail says.
    fn refused(&self, args: &[&str]) -> String {
        let (code, out, said) = self.run(args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}: {said}");
        said
    }

    fn json(&self, args: &[&str]) -> Json {
        serde_json::from_str(&self.out(args)).unwrap()
    }

    fn init(&self, who: &str, url: &str, more: &[&str]) {
        let (file, id) = (format!("{who}.db"), ["--client-id", who, "--url", url]);
        self.out(&[&["init", &file], &id[..], more].concat());
    }
}

#[test]
fn a_database_is_made_edited_offline_synced_and_compared() {
    let desk = Desk::new();
    let server = Server::start(&desk.path("data"));
    desk.init(
        "ana",
        &server.url,
        &["--schema", "todos.json", "--create-tables"],
    );
    let insert = "insert into todos (title) values ('Buy milk'), ('Fix bike'); update todos set done = 1 where title like 'Fix%'";
    desk.out(&["sql", "ana.db", insert]);
    assert_eq!(
        desk.json(&["status", "ana.db", "--json"])["outbox"]["pending"],
        3
    );
    let waiting = desk.out(&["outbox", "ana.db", "list", "--format", "ndjson"]);
    let first: Json = serde_json::from_str(waiting.lines().next().unwrap()).unwrap();
    assert_eq!(first["edit"], "INSERT title = \"Buy milk\"");
    assert_eq!(first["state"], "waits");

    desk.out(&["sync", "ana.db"]);
    desk.init("bo", &server.url, &[]);
    desk.out(&["sync", "bo.db", "--verify"]);
    let rows = [
        "sql",
        "bo.db",
        "--format",
        "csv",
        "select title, done from todos order by title",
    ];
    assert_eq!(desk.out(&rows), "title,done\nBuy milk,\nFix bike,1\n");
    assert_eq!(
        server.sql("select count(*) as n from todos"),
        [json!({"n": 2})]
    );

    desk.out(&["sql", "bo.db", "delete from todos where done"]);
    desk.out(&["sync", "bo.db"]);
    let behind = desk.json(&["status", "ana.db", "--verify", "--json"]);
    assert_eq!(behind["verified"], json!({"lag": 1}));
    desk.out(&["sync", "ana.db"]);
    let status = desk.json(&["status", "ana.db", "--verify", "--json"]);
    assert_eq!(status["verified"], json!({"equal": true, "rows": 1}));
    assert_eq!(
        status["tables"],
        json!([{"table": "todos", "rows": 1, "waiting": 0, "schema": "same"}])
    );
    assert!(desk.out(&["status", "ana.db"]).contains("as the gateway's"));
}

#[test]
fn without_a_server_it_works_and_says_what_waits() {
    let desk = Desk::new();
    desk.init("ana", "http://127.0.0.1:1", &["--schema", "todos.json"]);
    desk.out(&[
        "sql",
        "ana.db",
        "insert into todos (title) values ('Buy milk')",
    ]);
    let said = desk.refused(&["sync", "ana.db"]);
    assert!(
        said.contains("no answer from http://127.0.0.1:1/"),
        "{said}"
    );
    assert!(said.contains("`lakesync serve` starts one"), "{said}");
    let said = desk.refused(&["status", "ana.db", "--verify"]);
    assert!(said.contains("/digest: "), "{said}");
    let status = desk.json(&["status", "ana.db", "--json"]);
    assert_eq!(
        (&status["synced"], &status["outbox"]["pending"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(status["tables"][0]["schema"], "notAsked");

    // Another address, the same edits.
    let server = Server::start(&desk.path("data"));
    desk.init("ana", &server.url, &[]);
    desk.out(&["sync", "ana.db"]);
    let status = desk.json(&["status", "ana.db", "--json"]);
    assert_eq!(status["tables"][0]["schema"], "unknownToGateway");
    assert_eq!(status["outbox"]["pending"], 1);
    assert_eq!(
        server.post("/v1/admin/schema/public", TODOS.as_bytes()).0,
        200
    );
    desk.out(&["sync", "ana.db"]);
    assert_eq!(
        server.sql("select title from todos"),
        [json!({"title": "Buy milk"})]
    );
}

#[test]
fn the_statements_of_a_call_count_all_or_not_at_all() {
    let desk = Desk::new();
    desk.init("ana", "http://127.0.0.1:1", &["--schema", "todos.json"]);
    for (sql, reason) in [
        (
            "insert into todos (title) values ('a'); update todos set due = 'soon'",
            "column due of todos takes a date",
        ),
        (
            "insert into todos (title) values ('a'); select nope",
            "no such column: nope",
        ),
        (
            "insert into todos (title) values ('a'); commit",
            "leave out begin, commit",
        ),
    ] {
        let said = desk.refused(&["sql", "ana.db", sql]);
        assert!(said.contains(reason), "{said}");
    }
    assert_eq!(
        desk.out(&["sql", "ana.db", "--format", "json", "select * from todos"]),
        "[]\n"
    );
    assert_eq!(
        desk.json(&["status", "ana.db", "--json"])["outbox"]["pending"],
        0
    );
}

/// What would leave a file that does not sync any more is refused before it is done.
#[test]
fn sql_changes_neither_the_clients_own_tables_nor_the_shape_of_a_synced_one() {
    let desk = Desk::new();
    desk.init("ana", "http://127.0.0.1:1", &["--schema", "todos.json"]);
    let own = "insert into todos (title) values ('a'); create table notes (text); insert into notes values ('mine')";
    let (code, _, said) = desk.run(&["sql", "ana.db", own]);
    assert_eq!((code, said.as_str()), (0, "(1 change)\n(1 change)\n"));
    for (sql, reason) in [
        ("drop table todos", "todos is synced"),
        (
            "alter table TODOS rename column title to name",
            "todos is synced",
        ),
        (
            "drop trigger _lakesync_insert_1",
            "_lakesync_insert_1 is the client's own",
        ),
        (
            "delete from _lakesync_outbox",
            "_lakesync_outbox is the client's own",
        ),
        ("update _lakesync_changes set kind = 3", "it may be read"),
    ] {
        let said = desk.refused(&["sql", "ana.db", sql]);
        assert!(said.contains(reason), "{sql}: {said}");
    }
    desk.out(&[
        "sql",
        "ana.db",
        "alter table notes add column at; drop table notes",
    ]);
    let counts = "select (select count(*) from todos), (select count(*) from _lakesync_outbox)";
    assert_eq!(
        desk.json(&["status", "ana.db", "--json"])["outbox"]["pending"],
        1
    );
    let shown = desk.out(&["sql", "ana.db", "--format", "csv", counts]);
    assert!(shown.ends_with("\n1,1\n"), "{shown}");
}

#[test]
fn what_sqlite_says_is_told_with_the_tables_that_there_are() {
    let desk = Desk::new();
    desk.init("cy", "http://127.0.0.1:1", &[]);
    let said = desk.refused(&["sql", "cy.db", "select * from todos"]);
    assert!(said.contains("lakesync client sync"), "{said}");
    desk.init("cy", "http://127.0.0.1:1", &["--schema", "todos.json"]);
    let said = desk.refused(&["sql", "cy.db", "-c", "select * from toods"]);
    assert!(
        said.ends_with("no such table: toods; there are: todos\n"),
        "{said}"
    );
    let said = desk.refused(&["sql", "cy.db", "insert into todos (due) values ('soon')"]);
    assert!(
        said.ends_with("column due of todos takes a date like 2026-01-31\n"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_no_clients_is_refused_with_the_next_step() {
    let desk = Desk::new();
    let said = desk.refused(&["status", "none.db"]);
    assert!(said.contains("lakesync client init"), "{said}");
    assert!(!desk.path("none.db").exists());
    let said = desk.refused(&["status", "todos.json"]);
    assert!(
        said.ends_with("todos.json: file is not a database\n"),
        "{said}"
    );
    std::fs::write(desk.path("empty.db"), "").unwrap();
    assert!(
        desk.refused(&["sync", "empty.db"])
            .contains("lakesync client init")
    );
    desk.init("ana", "http://127.0.0.1:1", &[]);
    let other = [
        "init",
        "ana.db",
        "--client-id",
        "bo",
        "--url",
        "http://127.0.0.1:1",
    ];
    assert!(desk.refused(&other).contains("belongs to client ana"));
    let (code, _, said) = desk.run(&["outbox", "ana.db", "retry"]);
    assert_eq!(code, 2, "{said}");
    let said = desk.refused(&["outbox", "ana.db", "discard", "7"]);
    assert!(said.contains("dead` lists them"), "{said}");
}

/// An edit that a rule forbids is a dead letter; one that it does not goes on beside it.
#[test]
fn a_refused_edit_is_listed_with_its_reason_retried_and_given_up() {
    let mut desk = Desk::new();
    let data = desk.path("data");
    std::fs::create_dir(&data).unwrap();
    let config = format!("[auth]\nhs256_secrets = [\"{SECRET}\"]\n");
    std::fs::write(data.join("lakesync.toml"), config).unwrap();
    let server = Server::start(&data);
    let admin = server.with_token(&token(&data, "--sub root --role admin"));
    assert_eq!(
        admin.post("/v1/admin/schema/public", TODOS.as_bytes()).0,
        200
    );
    let rules = json!({"version": 1, "buckets": [{"name": "open", "tables": ["todos"], "write": true,
        "filters": [{"column": "title", "op": "neq", "value": "secret"}]}]});
    let put = admin.post("/v1/admin/sync-rules/public", rules.to_string().as_bytes());
    assert_eq!(put.0, 200, "{}", put.1);

    initialise_with_a_token(&mut desk, &data, &admin.url);
    desk.out(&[
        "sql",
        "ana.db",
        "insert into todos (title) values ('Buy milk'), ('secret')",
    ]);
    desk.out(&["sync", "ana.db"]);
    let rows = [
        "sql",
        "ana.db",
        "--format",
        "csv",
        "select title from todos order by title",
    ];
    assert_eq!(
        desk.out(&rows),
        "title\nBuy milk\n",
        "the refused edit shows no more"
    );

    let dead = ["outbox", "ana.db", "dead", "--format", "ndjson"];
    let letter: Json = serde_json::from_str(&desk.out(&dead)).unwrap();
    assert_eq!(letter["edit"], "INSERT title = \"secret\"");
    assert_eq!(letter["code"], "FORBIDDEN");
    let entry = letter["entry"].to_string();
    let shown = desk.out(&["outbox", "ana.db", "dead"]);
    assert!(
        shown.starts_with(&format!("{entry}  INSERT title = \"secret\"\n")),
        "{shown}"
    );
    assert!(shown.contains("FORBIDDEN: row `"), "{shown}");
    let status = desk.out(&["status", "ana.db"]);
    assert!(status.contains("refused   1 dead letter: "), "{status}");
    desk.out(&["outbox", "ana.db", "retry", &entry]);
    assert_eq!(
        desk.out(&rows),
        "title\nBuy milk\nsecret\n",
        "it waits again"
    );
    desk.out(&["sync", "ana.db"]);
    let letter: Json = serde_json::from_str(&desk.out(&dead)).unwrap();
    desk.out(&["outbox", "ana.db", "discard", &letter["entry"].to_string()]);
    assert_eq!(desk.out(&dead), "");
}

/// Makes `ana.db`, and sees that every command says what to do about a token that is missing or wrong.
fn initialise_with_a_token(desk: &mut Desk, data: &Path, url: &str) {
    let id = ["init", "ana.db", "--client-id", "ana", "--url", url];
    let said = desk.refused(&id);
    assert!(said.contains("LAKESYNC_TOKEN"), "{said}");
    assert!(
        !desk.path("ana.db").exists(),
        "a gateway that says no is no reason for a file"
    );
    desk.token = Some(token(data, "--sub ana"));
    desk.init("ana", url, &[]);
    for command in ["sync", "status"] {
        let verified = [command, "ana.db", "--verify", "--token", "no.such.token"];
        let said = desk.refused(&verified);
        assert!(
            said.contains("status 401") && said.contains("LAKESYNC_TOKEN"),
            "{said}"
        );
    }
}

fn token(dir: &Path, args: &str) -> String {
    let mut command = vec!["token", "--dir", dir.to_str().unwrap()];
    command.extend(args.split(' '));
    let minted = run(&command);
    assert!(minted.status.success(), "{}", text(&minted.stderr));
    text(&minted.stdout).trim().to_owned()
}
