//! The rules of the house, checked: who may use whom, how long a file may be, what every file says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// Which members a member may use (`DESIGN.md`, the house). `tests` and `benches` may use all.
const ARROWS: [(&str, &[&str]); 7] = [
    ("lakesync-proto", &[]),
    ("lakesync-client", &["lakesync-proto"]),
    ("lakesync-udfs", &["lakesync-proto"]),
    ("lakesync-providers", &["lakesync-proto", "lakesync-udfs"]),
    (
        "lakesync-compactor",
        &["lakesync-providers", "lakesync-udfs"],
    ),
    (
        "lakesync-gateway",
        &["lakesync-proto", "lakesync-providers"],
    ),
    (
        "lakesync",
        &[
            "lakesync-client",
            "lakesync-compactor",
            "lakesync-gateway",
            "lakesync-proto",
            "lakesync-providers",
            "lakesync-udfs",
        ],
    ),
];

/// What may not stand below `proto` and `client`, however deep.
const HEAVY: [&str; 7] = [
    "arrow",
    "axum",
    "datafusion",
    "iceberg",
    "object_store",
    "parquet",
    "tokio",
];

/// Crates whose types cross our crates: two versions would be two types.
const ONE_VERSION: [&str; 6] = [
    "arrow",
    "datafusion",
    "iceberg",
    "object_store",
    "parquet",
    "prost",
];

const FILE_LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn metadata() -> Json {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(value: &Json) -> &str {
    value.as_str().unwrap()
}

#[test]
fn members_use_each_other_along_the_arrows_only() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(members.len(), 9, "nine members");
    for package in metadata["packages"].as_array().unwrap() {
        let name = text(&package["name"]);
        let Some((_, allowed)) = ARROWS.iter().find(|(member, _)| *member == name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = text(&dependency["name"]);
            let ours = used.starts_with("lakesync");
            assert!(
                !ours || allowed.contains(&used),
                "{name} uses {used}: there is no such arrow"
            );
        }
    }
}

#[test]
fn nothing_heavy_stands_below_proto_or_client_and_shared_types_have_one_version() {
    let metadata = metadata();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let mut uses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        for dependency in node["deps"].as_array().unwrap() {
            let normal = dependency["dep_kinds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|kind| kind["kind"].is_null());
            if normal {
                uses.entry(text(&node["id"]))
                    .or_default()
                    .push(text(&dependency["pkg"]));
            }
        }
    }
    for light in ["lakesync-proto", "lakesync-client"] {
        let start = names.iter().find(|(_, name)| **name == light).unwrap().0;
        let (mut open, mut seen) = (vec![*start], BTreeSet::new());
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                assert!(
                    !HEAVY.contains(&names[id]),
                    "{light} depends on {}",
                    names[id]
                );
                open.extend(uses.get(id).into_iter().flatten());
            }
        }
    }
    for crate_name in ONE_VERSION {
        let versions = names.values().filter(|name| **name == crate_name).count();
        assert_eq!(versions, 1, "{crate_name} is there in {versions} versions");
    }
}

#[test]
fn every_file_says_what_it_is_and_none_is_too_long_or_named_after_nothing() {
    let mut checked = 0;
    for path in sources(&root()) {
        let content = fs::read_to_string(&path).unwrap();
        let shown = path.strip_prefix(root()).unwrap().display();
        if content.starts_with("// This file is @generated") {
            continue;
        }
        assert!(
            content.starts_with("//!"),
            "{shown} does not begin with what it is"
        );
        let lines = content.lines();
        let code = match is_test(&path) {
            true => 0,
            false => lines.take_while(|line| *line != "#[cfg(test)]").count(),
        };
        assert!(
            code <= FILE_LINES_MAX,
            "{shown} has {code} lines: find the second noun and split"
        );
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["utils", "helpers", "common", "types", "manager"].contains(&stem),
            "{shown} is named after nothing"
        );
        checked += 1;
    }
    assert!(checked > 80, "only {checked} files were found");
}

/// Whether a file is nothing but tests: cases may be many where code may not.
fn is_test(path: &Path) -> bool {
    let within = path.strip_prefix(root()).unwrap();
    let folder = |name: &str| within.components().any(|part| part.as_os_str() == name);
    folder("it")
        || within.ends_with("tests.rs")
        || (folder("tests") && !within.starts_with("tests"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

/// The parts of the client that talk to the world; all others go wherever SQLite goes, a browser too.
const CLIENT_EDGES: [&str; 3] = ["drive", "transport", "system_clock.rs"];

#[test]
fn the_clients_core_and_store_read_no_clock_start_no_thread_and_open_no_connection() {
    let client = root().join("client/src");
    let mut checked = 0;
    for path in sources(&client) {
        let within = path.strip_prefix(&client).unwrap();
        let edge = within.iter().next().and_then(|part| part.to_str());
        if is_test(&path) || CLIENT_EDGES.iter().any(|name| edge == Some(*name)) {
            continue;
        }
        let content = fs::read_to_string(&path).unwrap();
        let code = content
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code.take_while(|line| *line != "#[cfg(test)]") {
            for foreign in [
                "SystemTime",
                "Instant",
                "std::thread",
                "std::net",
                "rand::",
                "tokio",
            ] {
                assert!(
                    !line.contains(foreign),
                    "client/src/{}: `{foreign}` belongs to the edges: {line}",
                    within.display()
                );
            }
        }
        checked += 1;
    }
    assert!(checked > 30, "only {checked} files were found");
}
