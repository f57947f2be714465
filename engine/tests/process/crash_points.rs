//! The process ends at every named moment of every job, one after the other.
//!
//! Invariant: the points are read from the source, so none is missing here: a point that no job passes is a failure.
//! After each end every answer is what it was, and the job runs to its end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, Op, RowDelta, RowId, TableName, Value,
};
use serde_json::{Value as Json, json};

use crate::server::{Server, answer, push_body};

const TABLE: &str = r#"{"table": "t", "columns": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}"#;
/// Long ago, so that no machine's clock refuses the stamps as too far ahead.
const START_MS: u64 = 1_700_000_000_000;
const ROWS: u64 = 60;

/// A statement that runs a job.
struct Job {
    /// What its points begin with.
    name: &'static str,
    /// What has to be done before, by a process that does not end.
    before: &'static [&'static str],
    call: &'static str,
    /// Whether moments of the past may be gone afterwards.
    forgets: bool,
}

/// The same for a job that may let go of history.
const fn forgetting(
    name: &'static str,
    before: &'static [&'static str],
    call: &'static str,
) -> Job {
    Job {
        forgets: true,
        ..job(name, before, call)
    }
}

const fn job(name: &'static str, before: &'static [&'static str], call: &'static str) -> Job {
    Job {
        name,
        before,
        call,
        forgets: false,
    }
}

/// At least one for each job. Its own points are passed by one of them; every one passes those of a commit.
const JOBS: &[Job] = &[
    job(
        "fold",
        &[],
        "call system.compact('t', mode => 'merge-on-read')",
    ),
    job(
        "fold",
        &[],
        "call system.compact('t', mode => 'copy-on-write')",
    ),
    job(
        "fold",
        &[],
        "call system.compact('t', mode => 'equality-deletes')",
    ),
    job(
        "rewrite",
        &[COMPACT],
        "call system.rewrite_data_files('t', rewrite_all => true)",
    ),
    job(
        "rewrite_log",
        &[],
        "call system.rewrite_data_files('t$deltas')",
    ),
    job("manifests", &[], "call system.rewrite_manifests('t')"),
    forgetting("expire", &[COMPACT], EXPIRE),
    forgetting("drop_log", &[COMPACT, EXPIRE], "call system.drop_log('t')"),
    job(
        "orphans",
        &[],
        "call system.remove_orphan_files('t', older_than => INTERVAL '24 hours')",
    ),
    job(
        "rollback",
        &[COMPACT],
        "call system.rollback_to_snapshot('t', snapshot_id => {first})",
    ),
];

const COMPACT: &str = "call system.compact('t')";
const EXPIRE: &str =
    "call system.expire_snapshots('t', older_than => INTERVAL '0 seconds', retain_last => 1)";
/// Nothing is done but what is asked for.
const CALM: [&str; 2] = ["--set", "maintenance.scheduler=off"];
/// Points between steps of hundreds of pushes and thousands of clients: no process ends there; the gateway's tests repeat the
/// steps.
const LONG: &str = "trim.";

#[test]
fn every_named_end_leaves_a_lake_that_answers_as_before_and_a_job_that_runs() {
    let points = points();
    let folder = tempfile::tempdir().unwrap();
    // Locations of files are whole paths, so a copy of a lake works only where the lake was.
    let (dir, model) = (folder.path().join("lake"), folder.path().join("model"));
    prepare(&dir);
    copy(&dir, &model);
    let mut ends = 0;
    for point in points.iter().filter(|point| !point.starts_with(LONG)) {
        let (name, _) = point.split_once('.').unwrap();
        let any = name == "commit";
        let mut reached = 0;
        for job in JOBS.iter().filter(|job| any || job.name == name) {
            std::fs::remove_dir_all(&dir).unwrap();
            copy(&model, &dir);
            reached += usize::from(crash(&dir, point, job));
            // One way there is enough, but for a point that every job has.
            if reached > 0 && !any {
                break;
            }
        }
        assert!(reached > 0, "no job of {name} passes {point}");
        ends += reached;
    }
    eprintln!("{ends} ends at {} points: {points:?}", points.len());
}

/// The names of all points in the source of the product.
fn points() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = BTreeSet::new();
    for part in ["providers", "gateway", "compactor", "engine"] {
        read_points(&root.join(part).join("src"), &mut found);
    }
    found
}

fn read_points(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_points(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let code: Vec<&str> = code.collect();
        for call in code.join("\n").split("crash::point(").skip(1) {
            let name = call.trim_start().strip_prefix('"');
            let name =
                name.unwrap_or_else(|| panic!("{}: a point without a plain name", path.display()));
            found.insert(name.split('"').next().unwrap().to_owned());
        }
    }
}

/// A lake with a folded part, a flushed part with updates, deletes and late writes, and a hot part.
fn prepare(dir: &Path) {
    let mut server = Server::start_args(dir, &CALM);
    assert_eq!(
        server.post("/v1/admin/schema/public", TABLE.as_bytes()).0,
        200
    );
    let call = |sql: &str| admin(&server, sql).unwrap();
    for half in 0..2 {
        let rows = half * ROWS..(half + 1) * ROWS;
        push(
            &server,
            rows.map(|row| edit(Op::Insert, row, 10_000 + row, 1))
                .collect(),
        );
        call("call system.flush('t')");
        call("call system.compact('t')");
    }
    for round in 1..4 {
        let touched = (0..2 * ROWS).filter(|row| row % 4 == round);
        let updates = touched.map(|row| edit(Op::Update, row, 20_000 + round, round + 1));
        push(&server, updates.collect());
        let deleted = edit(Op::Delete, ROWS + round, 30_000 + round, 0);
        let late = edit(Op::Update, ROWS + 10 + round, round, 9);
        let new = edit(Op::Insert, 3 * ROWS + round, 40_000 + round, 5);
        push(&server, vec![deleted, late, new]);
        call("call system.flush('t')");
    }
    push(&server, vec![edit(Op::Update, 1, 50_000, 7)]);
    server.kill();
    let orphan = dir.join("warehouse/public/t/data/orphan.parquet");
    std::fs::write(&orphan, "of a writer that ended").unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_millis(START_MS);
    let orphan = std::fs::File::options().write(true).open(orphan);
    orphan.unwrap().set_modified(long_ago).unwrap();
}

fn edit(op: Op, row: u64, after_ms: u64, value: u64) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("t").unwrap(),
        row_id: RowId::parse(&format!("row {row:03}")).unwrap(),
        client_id: ClientId::parse("ana").unwrap(),
        hlc: Hlc::new(START_MS + after_ms, 0).unwrap(),
    };
    let change = |name: &str, value| ColumnChange {
        column: ColumnName::parse(name).unwrap(),
        value,
    };
    let columns = match op {
        Op::Delete => Vec::new(),
        Op::Update => vec![change("a", Value::Long(value.cast_signed()))],
        Op::Insert => vec![
            change("a", Value::Long(value.cast_signed())),
            change("b", Value::from("text")),
        ],
    };
    RowDelta::new(op, key, columns)
}

fn push(server: &Server, deltas: Vec<RowDelta>) {
    let (status, said) = server.post("/v1/sync/public/push", &push_body(deltas));
    assert_eq!(status, 200, "{said}");
}

/// A statement of an administrator; an error when the process went away under it.
fn admin(server: &Server, sql: &str) -> Option<Json> {
    let body = json!({ "sql": sql }).to_string();
    let (status, said) = answer(&server.url, "/v1/admin/sql", body.as_bytes()).ok()?;
    assert_eq!(status, 200, "{sql}: {said}");
    Some(said)
}

/// What a statement answers; none when it asks for history that is not kept any more.
type Answer = Option<Vec<Json>>;

fn ask(server: &Server, sql: &str) -> Answer {
    let body = json!({ "sql": sql }).to_string();
    let (status, said) = server.post("/v1/sql", body.as_bytes());
    if status == 200 {
        return Some(said["rows"].as_array().unwrap().clone());
    }
    let gone = said.to_string().contains("its history is kept from");
    assert!(gone, "{sql}: {said}");
    None
}

/// Everything that a lake answers: now, at moments of the past, and delta by delta.
fn answers(server: &Server, last: u64) -> Vec<Answer> {
    let now = ask(server, "select * from t order by row_id");
    let moments = (0..=last).step_by(29).chain([last]);
    let then = moments.map(|seq| {
        let sql = format!("select row_id, a, b from t at (seq => {seq}) order by row_id");
        ask(server, &sql)
    });
    let changes = "select _seq, row_id, op, after from changes('t', 0) order by _seq";
    [now]
        .into_iter()
        .chain(then)
        .chain([ask(server, changes)])
        .collect()
}

/// Whether the answers are what they were, or are not given any more where the job may let go of history.
fn same(about: &str, job: &Job, before: &[Answer], after: &[Answer]) {
    assert!(after[0].is_some(), "{about}: now");
    for (nth, (before, after)) in before.iter().zip(after).enumerate() {
        let may_be_gone = job.forgets && after.is_none();
        assert!(
            may_be_gone || before == after,
            "{about}: answer {nth}: {before:?}, then {after:?}"
        );
    }
}

/// Ends the process at a point of a job, and looks at what is left; false when the job does not pass it.
fn crash(dir: &Path, point: &str, job: &Job) -> bool {
    let about = format!("{} at {point}", job.call);
    if !job.before.is_empty() {
        let mut server = Server::start_args(dir, &CALM);
        for sql in job.before {
            admin(&server, sql).unwrap();
        }
        server.kill();
    }
    let mut arguments = CALM.to_vec();
    arguments.extend(["--set", "sync.late_window=1 day"]);
    let mut server = Server::start_in(dir, &arguments, &[("LAKESYNC_CRASH_AT", point)]);
    let first = "select snapshot_id from \"t$snapshots\" where kind = 'base' order by seq limit 1";
    let first = server.sql(first)[0]["snapshot_id"].to_string();
    let call = job.call.replace("{first}", first.trim_matches('"'));
    let call = call.as_str();
    let last = server.sql("select max(_seq) as s from \"t$deltas\"")[0]["s"].as_u64();
    let last = last.unwrap();
    let before = answers(&server, last);
    if admin(&server, call).is_some() {
        server.kill();
        return false;
    }
    let said = server.wait_for_crash();
    assert!(
        said.contains(&format!("crashed at {point}")),
        "{about}: {said}"
    );

    let server = Server::start_args(dir, &CALM);
    same(
        &format!("{about}: after the end"),
        job,
        &before,
        &answers(&server, last),
    );
    assert!(admin(&server, call).is_some(), "{about}: again");
    same(
        &format!("{about}: after it ran again"),
        job,
        &before,
        &answers(&server, last),
    );
    push(&server, vec![edit(Op::Insert, 900, 60_000, 1)]);
    let counted = server.sql("select count(*) as n from t where row_id = 'row 900'");
    assert_eq!(counted[0]["n"], 1, "{about}: it works on");
    true
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => {
                std::fs::copy(&path, &target).unwrap();
                let written = path.metadata().unwrap().modified().unwrap();
                let copied = std::fs::File::options().write(true).open(target);
                copied.unwrap().set_modified(written).unwrap();
            }
        }
    }
}
