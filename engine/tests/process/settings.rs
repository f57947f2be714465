//! The configuration as a person meets it: `lakesync config`, refusals by name, overrides.

use crate::server::{lakesync, run};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn config_prints_what_is_in_force_and_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let file = folder.path().join("lakesync.toml");
    std::fs::write(&file, "[flush]\nmax_bytes = \"1 MiB\"\nmax_age = \"5s\"\n").unwrap();
    let printed = lakesync()
        .args(["config", "--dir", dir, "--set", "log.level=debug"])
        .env("LAKESYNC_FLUSH__MAX_AGE", "7s")
        .env(
            "LAKESYNC_AUTH__HS256_SECRETS",
            "a secret that nobody may ever see printed",
        )
        .output()
        .unwrap();
    let printed = text(&printed.stdout);
    let in_file = format!("max_bytes = \"1 MiB\"  # {}", file.display());
    for line in [
        in_file.as_str(),
        "max_age = \"7s\"  # $LAKESYNC_FLUSH__MAX_AGE",
        "level = \"debug\"  # --set log.level",
        "hs256_secrets = [\"***\"]  # $LAKESYNC_AUTH__HS256_SECRETS",
        "listen = \"127.0.0.1:7420\"  # default",
    ] {
        assert!(
            printed.lines().any(|printed| printed == line),
            "no line {line} in\n{printed}"
        );
    }
    assert!(!printed.contains("nobody may ever see"), "{printed}");
}

#[test]
fn what_is_not_understood_ends_the_command_with_the_place_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let file = folder.path().join("my.toml");
    let (dir, path) = (dir.to_str().unwrap(), file.to_str().unwrap());
    for (content, args, said) in [
        (
            "[flush]\nmax_byte = 1\n",
            vec![],
            "did you mean `flush.max_bytes`?",
        ),
        ("[server]\ncors = [\"*\"]\n", vec![], "`server.cors`"),
        (
            "",
            vec!["--set", "flush.max_age=soon"],
            "--set flush.max_age: `flush.max_age` should be",
        ),
        (
            "",
            vec!["--set", "server.listen=0.0.0.0:0"],
            "nothing says who may ask",
        ),
        (
            "[server.tls]\ncert = \"gone.pem\"\nkey = \"gone.pem\"\n",
            vec![],
            "gone.pem",
        ),
    ] {
        std::fs::write(&file, content).unwrap();
        let serve = ["serve", "--dir", dir, "--config", path];
        let ended = run(&[&serve[..], &args].concat());
        assert_eq!(ended.status.code(), Some(1), "{content}{args:?}");
        let stderr = text(&ended.stderr);
        assert!(stderr.contains(said), "{stderr} lacks {said}");
    }
    let ended = run(&["serve", "--dir", dir, "--config", "nowhere.toml"]);
    assert!(text(&ended.stderr).contains("nowhere.toml"));
    let ended = run(&["token", "--dir", dir, "--sub", "ana"]);
    assert!(
        text(&ended.stderr).contains("hs256_secrets"),
        "{}",
        text(&ended.stderr)
    );
}
