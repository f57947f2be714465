//! What a person types: SQL with and without a server, files to push, exit codes.

use std::fs;

use crate::server::{Server, TABLE, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
fn sql_gives_the_same_rows_embedded_and_through_the_server_that_holds_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, file) = (
        folder.path().join("data"),
        folder.path().join("rows.ndjson"),
    );
    let dir = dir.to_str().unwrap();
    fs::write(&file, "{\"id\":1,\"name\":\"a\",\"at\":\"2024-01-02\"}\n{\"id\":2,\"name\":null,\"at\":\"2024-01-03\"}\n").unwrap();
    let pushed = run(&[
        "push",
        file.to_str().unwrap(),
        "--table",
        "people",
        "--key",
        "id",
        "--dir",
        dir,
    ]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let query = [
        "sql",
        "--dir",
        dir,
        "--format",
        "ndjson",
        "-c",
        "select * from people order by id; select count(*) as n from people",
    ];
    let embedded = run(&query);
    assert_eq!(
        text(&embedded.stdout),
        "{\"row_id\":\"1\",\"id\":1,\"name\":\"a\",\"at\":\"2024-01-02\"}\n\
         {\"row_id\":\"2\",\"id\":2,\"name\":null,\"at\":\"2024-01-03\"}\n{\"n\":2}\n",
        "{}",
        text(&embedded.stderr)
    );
    let mut server = Server::start(folder.path().join("data").as_path());
    let through = run(&query);
    assert_eq!(
        text(&through.stdout),
        text(&embedded.stdout),
        "{}",
        text(&through.stderr)
    );
    let again = run(&[
        "push",
        file.to_str().unwrap(),
        "--table",
        "people",
        "--key",
        "id",
        "--dir",
        dir,
    ]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    let inserted = run(&[
        "sql",
        "--dir",
        dir,
        "-c",
        "insert into people (id, name) values (3, 'c')",
    ]);
    assert!(inserted.status.success(), "{}", text(&inserted.stderr));
    assert_eq!(
        server.sql("select name from people where row_id = '3'")[0]["name"],
        "c"
    );
    assert_eq!(server.terminate(), 0);
    assert_eq!(
        text(
            &run(&[
                "sql",
                "--dir",
                dir,
                "--format",
                "csv",
                "-c",
                "select count(*) as n from people"
            ])
            .stdout
        ),
        "n\n3\n"
    );
}

#[test]
fn a_file_with_a_bad_line_says_what_stays_and_makes_no_table_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.ndjson");
    let (path, dir) = (file.to_str().unwrap(), folder.path().join("data"));
    let push = |content: &str, more: &[&str]| {
        fs::write(&file, content).unwrap();
        let args = [
            "push",
            path,
            "--table",
            "t",
            "--key",
            "id",
            "--dir",
            dir.to_str().unwrap(),
        ];
        text(&run(&[args.as_slice(), more].concat()).stderr)
    };
    let said = push("{\"id\":1}\n{\"id\":12345678901234567890}\n", &[]);
    assert!(
        said.contains("line 2") && said.contains("more than 64 bits"),
        "{said}"
    );
    let said = push("{\"id\":1,\"v\":\"x\"}\n{\"v\":\"y\"}\n", &[]);
    assert!(
        said.contains("line 2") && said.contains("nothing was pushed"),
        "{said}"
    );
    let rows: String = (0..5_500).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    let said = push(&format!("{rows}{{\"id\":\"z\"}}\n"), &[]);
    assert!(
        said.contains("line 5501") && said.contains("the first 5000 were pushed and stay"),
        "{said}"
    );
    let said = push("{\"id\":1}\n", &["--type", "id=string"]);
    assert!(said.contains("has `id` as long, not string"), "{said}");
}

#[test]
fn what_select_shows_can_be_pushed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.ndjson");
    let (file, dir) = (file.to_str().unwrap(), folder.path().join("data"));
    let dir = dir.to_str().unwrap();
    fs::write(
        file,
        "{\"v\":1,\"n\":9007199254740993}\n{\"v\":2,\"n\":null}\n",
    )
    .unwrap();
    let pushed = run(&["push", file, "--table", "t", "--dir", dir]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    let query = [
        "sql",
        "--dir",
        dir,
        "--format",
        "ndjson",
        "-c",
        "select * from t order by v",
    ];
    let shown = run(&query).stdout;
    fs::write(file, &shown).unwrap();
    let again = run(&["push", file, "--table", "t", "--dir", dir]);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(
        text(&run(&query).stdout),
        text(&shown),
        "the same rows under the same ids"
    );
    fs::write(file, "{\"v\":1,\"row_id\":7}\n").unwrap();
    let refused = run(&["push", file, "--table", "t", "--dir", dir]);
    assert!(
        text(&refused.stderr).contains("line 1"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn deltas_of_a_pull_can_be_pushed_as_a_file_and_pushing_them_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let from = Server::start(&folder.path().join("from"));
    assert_eq!(
        from.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let deltas =
        (0..20).map(|n| crate::server::delta("ana", &format!("r{n}"), 1_700_000_000_000 + n, 7));
    assert_eq!(
        from.post(
            "/v1/sync/public/push",
            &crate::server::push_body(deltas.collect())
        )
        .0,
        200
    );
    let (_, page) = from.get("/v1/sync/public/pull?since=0&clientId=x&limit=100");
    let lines: Vec<String> = page["deltas"]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let file = folder.path().join("deltas.ndjson");
    fs::write(&file, lines.join("\n")).unwrap();
    let to = Server::start(&folder.path().join("to"));
    assert_eq!(to.post("/v1/admin/schema/public", TABLE.as_bytes()).0, 200);
    let dir = folder.path().join("to");
    for _ in 0..2 {
        let pushed = run(&[
            "push",
            file.to_str().unwrap(),
            "--dir",
            dir.to_str().unwrap(),
        ]);
        assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    }
    assert_eq!(to.sql("select count(*) as n from \"t$deltas\"")[0]["n"], 20);
}

#[test]
fn a_wrong_statement_exits_with_1_and_says_where_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let missing = run(&["sql", "--dir", dir, "-c", "select 1"]);
    let said = text(&missing.stderr);
    assert!(
        missing.status.code() == Some(1) && said.contains("no LakeSync data"),
        "{said}"
    );
    drop(Server::start(folder.path()));
    for (sql, said) in [
        ("selec 1", "selec"),
        ("select * from nowhere", "show tables"),
        ("update nowhere set a = 1", "nowhere"),
        ("call system.compact('nowhere')", "nowhere"),
        ("call system.explode()", "system.explode"),
    ] {
        let ran = run(&["sql", "--dir", dir, "-c", sql]);
        assert_eq!(ran.status.code(), Some(1), "{sql}");
        assert!(ran.stdout.is_empty(), "{sql}: {}", text(&ran.stdout));
        assert!(
            text(&ran.stderr).contains(said),
            "{sql}: {}",
            text(&ran.stderr)
        );
    }
    assert_eq!(run(&["frobnicate"]).status.code(), Some(2));
    assert!(text(&run(&["--help"]).stdout).contains("demo"));
}

#[test]
fn the_demo_runs_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let ran = run(&["demo", "--dir", dir.to_str().unwrap()]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("answers agree"));
}
