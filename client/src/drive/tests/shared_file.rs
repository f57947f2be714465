//! One file, and several programs that use it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use lakesync_proto::ClientId;
use tempfile::TempDir;

use super::gateway::Gateway;
use super::{add, database, titles, todos, until};
use crate::drive::driver::{Driver, Turn};
use crate::{LocalDb, SessionOptions, SyncHandle, SystemClock};

/// Tells the test's own program, when it is run once more, that it is the other one, and which file to write.
const FILE: &str = "LAKESYNC_TEST_OTHER_PROGRAM_WRITES";

const EDITS: usize = 15;

fn open(path: &Path) -> LocalDb {
    let client_id = ClientId::parse("ada").unwrap();
    LocalDb::open(path, client_id, Arc::new(SystemClock)).unwrap()
}

fn file() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("ada.db");
    open(&path).register(&todos()).unwrap();
    (dir, path)
}

fn turn_until_it_waits(driver: &mut Driver, gateway: &Gateway) {
    for _ in 0..100 {
        match driver.turn(gateway) {
            Turn::Went => {}
            Turn::Wait(_) => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("it never waits");
}

#[test]
fn whoever_watches_hears_of_another_programs_edits_while_a_session_runs() {
    let gateway = Gateway::new(vec![todos()]);
    let (_dir, path) = file();
    let (here, there) = (open(&path), open(&path));
    let mut driver = Driver::new(here.clone(), SessionOptions::default());
    let watch = here.watch(&["todos"]).unwrap();
    turn_until_it_waits(&mut driver, &gateway);
    add(&there, "milk");
    turn_until_it_waits(&mut driver, &gateway);
    let changes = watch.try_next().expect("it was told");
    assert!(changes.origins.elsewhere, "{changes:?}");
    assert_eq!(gateway.arrived(), 1, "and sent");
}

#[test]
fn two_sessions_on_one_file_send_every_edit_once_and_hear_everything() {
    let gateway = Gateway::new(vec![todos()]);
    let (_dir, path) = file();
    let handles = [open(&path), open(&path)];
    let syncing = handles
        .clone()
        .map(|db| SyncHandle::start(db, gateway.clone(), SessionOptions::default()));
    let ben = database("ben");
    std::thread::scope(|scope| {
        for (name, db) in ["one", "two"].into_iter().zip(&handles) {
            scope.spawn(move || {
                for edit in 0..EDITS {
                    add(db, &format!("{name} {edit}"));
                }
            });
        }
        for edit in 0..EDITS {
            add(&ben, &format!("ben {edit}"));
            ben.sync(&gateway).unwrap();
        }
    });
    syncing.iter().for_each(SyncHandle::sync_now);
    until(|| {
        let counts = handles[0].outbox_counts().unwrap();
        counts.pending + counts.in_flight + counts.acknowledged == 0
    });
    syncing.iter().for_each(SyncHandle::sync_now);
    until(|| titles(&handles[1]).len() == 3 * EDITS);
    ben.sync(&gateway).unwrap();
    assert_eq!(titles(&ben), titles(&handles[0]));
    assert_eq!(gateway.arrived(), 3 * EDITS, "no edit was sent as two");
    assert_eq!(handles[0].outbox_counts().unwrap().rejected, 0);
    assert!(syncing.into_iter().all(SyncHandle::stop));
}

/// The other program: does nothing unless it is run as that.
#[test]
fn another_program() {
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let db = open(Path::new(&path));
    for edit in 0..EDITS {
        add(&db, &format!("theirs {edit}"));
    }
}

#[test]
fn edits_of_another_process_are_sent_and_told_while_this_one_edits_and_syncs() {
    let gateway = Gateway::new(vec![todos()]);
    let (_dir, path) = file();
    let db = open(&path);
    let watch = db.watch(&["todos"]).unwrap();
    let syncing = SyncHandle::start(db.clone(), gateway.clone(), SessionOptions::default());
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "drive::tests::shared_file::another_program"])
        .env(FILE, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    for edit in 0..EDITS {
        add(&db, &format!("ours {edit}"));
    }
    assert!(other.wait().unwrap().success());
    let mut elsewhere = false;
    until(|| {
        let changes = watch.try_next();
        elsewhere |= changes.is_some_and(|changes| changes.origins.elsewhere);
        elsewhere && gateway.arrived() == 2 * EDITS
    });
    assert!(syncing.stop());
    assert_eq!(titles(&db).len(), 2 * EDITS);
    assert_eq!(gateway.arrived(), 2 * EDITS, "no edit was sent as two");
}
