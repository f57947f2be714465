//! A gateway whose database was lost, restored from a copy, or taken over by another process.

use std::sync::Arc;
use std::time::Duration;

use lakesync::Lake;
use lakesync_gateway::{Components, Error, Gateway, GatewayConfig};
use lakesync_proto::{DeltaId, ErrorCode, GatewayId, Outcome, Push, Seq, WallClock};

use crate::gateway::{NOW_MS, World, count, delta, delta_of, gateway, pulled, push, refusal, seq};

/// How far above everything known the seqs of a new epoch begin: no cursor that the lost part gave out is among them.
const STEP: u64 = 1 << 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_begins_a_new_epoch_above_the_lake_and_knows_what_was_flushed() {
    let world = World::new();
    let flushed = push(
        (0..4)
            .map(|n| delta("ana", &format!("r{n}"), NOW_MS, 1))
            .collect(),
    );
    let lost = push(vec![delta("ana", "r9", NOW_MS + 1, 1)]);
    let lake = world.open().await;
    gateway(&lake).push(flushed.clone()).await.unwrap();
    gateway(&lake).flush(None).await.unwrap();
    gateway(&lake).push(lost.clone()).await.unwrap();
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    for entry in std::fs::read_dir(world.folder.path().join("gateways")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch, "clients must start over");
    assert_eq!(pulled(&gateway(&lake), 3).await, [1, 2, 3, 4]);
    // A client that sees the new epoch sends everything again.
    let again = gateway(&lake).push(flushed).await.unwrap();
    assert!(
        again
            .outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Duplicate(_))),
        "{again:?}"
    );
    let again = gateway(&lake).push(lost).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Accepted(seq(STEP + 5))]);
    // A legacy client that had been given seq 5, which is lost, hears so however much has come since.
    let error = gateway(&lake).pull(seq(5), 10).await.unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::CursorExpired);
    assert_eq!(pulled(&gateway(&lake), 3).await, [1, 2, 3, 4, STEP + 5]);
    assert_eq!(count(&lake, "t").await, 5);
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    assert_eq!(
        *gateway(&world.open().await).epoch(),
        epoch,
        "an ordinary restart keeps the epoch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_an_old_copy_begins_a_new_epoch() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let epoch = gateway(&lake).epoch().clone();
    drop(lake);
    let copy = std::fs::read(&database).unwrap();
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r2", NOW_MS, 1)]))
        .await
        .unwrap();
    gateway(&lake).flush(None).await.unwrap();
    assert_eq!(*gateway(&lake).epoch(), epoch);
    drop(lake);
    std::fs::write(&database, copy).unwrap();
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch);
    gateway(&lake)
        .push(push(vec![delta("ana", "r3", NOW_MS, 1)]))
        .await
        .unwrap();
    for limit in [1, 100] {
        let seqs = pulled(&gateway(&lake), limit).await;
        assert_eq!(
            seqs,
            [1, 2, STEP + 3],
            "the gap in the copy is filled from the lake, by pages of {limit}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_that_was_written_on_keeps_its_gap_filled_and_knows_what_the_lake_has() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let one = |row: &str| push(vec![delta("ana", row, NOW_MS, 1)]);
    let lake = world.open().await;
    gateway(&lake).push(one("r1")).await.unwrap();
    drop(lake);
    let copy = std::fs::read(&database).unwrap();
    let lake = world.open().await;
    gateway(&lake).push(one("r2")).await.unwrap();
    gateway(&lake).push(one("r3")).await.unwrap();
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    std::fs::write(&database, copy).unwrap();
    let lake = world.open().await;
    gateway(&lake).push(one("r4")).await.unwrap();
    let again = gateway(&lake).push(one("r2")).await.unwrap();
    assert_eq!(
        again.outcomes,
        [Outcome::Duplicate(seq(2))],
        "the lake has it, the copy does not"
    );
    drop(lake);
    // The gap is in the middle now: 1, then 4.
    let lake = world.open().await;
    let again = gateway(&lake).push(one("r3")).await.unwrap();
    assert_eq!(again.outcomes, [Outcome::Duplicate(seq(3))]);
    for limit in [1, 2, 100] {
        assert_eq!(
            pulled(&gateway(&lake), limit).await,
            [1, 2, 3, STEP + 4],
            "limit {limit}"
        );
    }
    assert_eq!(count(&lake, "\"t$deltas\"").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_before_the_last_flush_is_told_by_its_fence_and_stale_cursors_start_over() {
    let world = World::new();
    let database = world.folder.path().join("gateways/public.db");
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let epoch = gateway(&lake).epoch().clone();
    // A copy of the files while the server runs, as a backup makes it.
    let files =
        ["public.db", "public.db-wal", "public.db-shm"].map(|name| database.with_file_name(name));
    let copies = files.clone().map(|file| std::fs::read(file).unwrap());
    for row in ["r2", "r3"] {
        gateway(&lake)
            .push(push(vec![delta("ana", row, NOW_MS, 1)]))
            .await
            .unwrap();
        gateway(&lake).flush(None).await.unwrap();
    }
    gateway(&lake)
        .push(push(vec![delta("ana", "r4", NOW_MS, 1)]))
        .await
        .unwrap();
    drop(lake);
    for (file, copy) in files.iter().zip(copies) {
        std::fs::write(file, copy).unwrap();
    }
    let lake = world.open().await;
    assert_ne!(*gateway(&lake).epoch(), epoch);
    assert_eq!(
        pulled(&gateway(&lake), 10).await,
        [1, 2, 3],
        "r4 was lost with the disk"
    );
    let error = gateway(&lake).pull(seq(4), 10).await.unwrap_err();
    assert_eq!(refusal(error).0, ErrorCode::CursorExpired);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_that_was_taken_over_cannot_flush() {
    let world = World::new();
    let lake = world.open().await;
    let first = Arc::clone(&gateway(&lake));
    first
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    let components = Components {
        warehouse: first.live().warehouse().clone(),
        database: world.folder.path().join("other.db"),
        clock: Arc::clone(&world.clock) as Arc<dyn WallClock>,
        lock: None,
    };
    let id = GatewayId::parse("public").unwrap();
    let second = Gateway::open(id, components, GatewayConfig::default())
        .await
        .unwrap();
    let error = first.flush(None).await.unwrap_err();
    assert!(matches!(error, Error::Commit(_)), "{error}");
    let late = push(vec![delta("ana", "r9", NOW_MS, 1)]);
    let error = first.push(late).await.unwrap_err();
    assert!(
        matches!(error, Error::Poisoned { .. }),
        "nothing is acknowledged that nobody will flush: {error}"
    );
    second
        .push(push(vec![delta("bo", "r2", NOW_MS, 1)]))
        .await
        .unwrap();
    assert_eq!(second.flush(None).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_catalog_beside_a_trimmed_database_is_refused_by_name() {
    let mut world = World::new();
    world.config.pull_window = Duration::ZERO;
    let catalog = world.folder.path().join("catalog.db");
    drop(world.open().await);
    let older = std::fs::read(&catalog).unwrap();
    let lake = world.open().await;
    gateway(&lake)
        .push(push(vec![delta("ana", "r1", NOW_MS, 1)]))
        .await
        .unwrap();
    world.clock.advance(1);
    // The database forgets r1 now: only the lake has it, and an older catalog does not know where.
    gateway(&lake).flush(None).await.unwrap();
    gateway(&lake)
        .push(push(vec![delta("ana", "r2", NOW_MS, 1)]))
        .await
        .unwrap();
    drop(lake);
    let newest = std::fs::read(&catalog).unwrap();
    std::fs::write(&catalog, older).unwrap();
    let refused = lakesync::Lake::open(world.folder.path()).await.unwrap_err();
    assert!(
        refused.to_string().contains("catalog.db is an older copy"),
        "{refused}"
    );
    std::fs::write(&catalog, newest).unwrap();
    let lake = world.open().await;
    assert_eq!(pulled(&gateway(&lake), 10).await, [1, 2]);
}

/// The server has ended: the gateway's files go, and those of `files` come instead.
fn put_files(world: &World, files: &[(String, Vec<u8>)]) {
    let folder = world.folder.path().join("gateways");
    for entry in std::fs::read_dir(&folder).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A copy of the gateway's files as they are now, with the server running or not.
fn files(world: &World) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(world.folder.path().join("gateways")).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    });
    files.collect()
}

async fn pulled_ids(lake: &Lake) -> Vec<(u64, DeltaId)> {
    let (mut since, mut ids) = (Seq::ZERO, Vec::new());
    loop {
        let page = gateway(lake).pull(since, 2).await.unwrap();
        let found = page.deltas.iter();
        ids.extend(found.map(|delta| (delta.seq.as_u64(), delta.delta.delta_id)));
        since = page.cursor;
        if !page.has_more {
            return ids;
        }
    }
}

async fn outcomes(lake: &Lake, deltas: Push) -> Vec<Outcome> {
    gateway(lake).push(deltas).await.unwrap().outcomes
}

/// What SQL and pulls must have, in order.
async fn assert_log(lake: &Lake, expected: &[(u64, DeltaId)]) {
    assert_eq!(pulled_ids(lake).await, expected);
    let of_tables = count(lake, "\"t$deltas\"").await + count(lake, "\"u$deltas\"").await;
    assert_eq!(usize::try_from(of_tables).unwrap(), expected.len());
}

async fn with_second_table(world: &World) -> Lake {
    let lake = world.open().await;
    let table = r#"{"table": "u", "columns": [{"name": "v", "type": "long"}]}"#;
    lake.create_table(table).await.unwrap();
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_lake_has_passed_by_brings_back_what_the_lake_lacks() {
    let world = World::new();
    let lake = with_second_table(&world).await;
    let one = |row: &str| delta("ana", row, NOW_MS, 1);
    let (a, b, c, d, z) = (one("a"), one("b"), one("c"), one("d"), one("z"));
    let e = delta_of("u", "ana", "e", NOW_MS, 1);
    outcomes(&lake, push(vec![a.clone()])).await;
    gateway(&lake).flush(None).await.unwrap();
    let tail = push(vec![b.clone(), c.clone(), d.clone(), e.clone()]);
    outcomes(&lake, tail.clone()).await;
    drop(lake);
    let copy = files(&world);
    // The first disaster: the database is lost. Only one of the four comes again before the lake goes on.
    put_files(&world, &[]);
    let lake = world.open().await;
    let again = outcomes(&lake, push(vec![c.clone()])).await;
    assert_eq!(again, [Outcome::Accepted(seq(STEP + 2))]);
    outcomes(&lake, push(vec![z.clone()])).await;
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    // The second one: somebody finds the copy.
    put_files(&world, &copy);
    let base = 2 * STEP + 3;
    let expected = [
        (1, a.delta_id),
        (STEP + 2, c.delta_id),
        (STEP + 3, z.delta_id),
        (base + 1, b.delta_id),
        (base + 2, d.delta_id),
        (base + 3, e.delta_id),
    ];
    for restart in 0..2 {
        let lake = world.open().await;
        assert_log(&lake, &expected).await;
        let unflushed = gateway(&lake).live().hot().unflushed_deltas;
        assert_eq!(unflushed, 3, "restart {restart}: they are not durable yet");
        let known = [base + 1, STEP + 2, base + 2, base + 3];
        let known = known.map(|number| Outcome::Duplicate(seq(number)));
        assert_eq!(outcomes(&lake, tail.clone()).await, known);
        assert_log(&lake, &expected).await;
    }
    // The third one finds everything in the lake.
    let lake = world.open().await;
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    put_files(&world, &[]);
    let lake = world.open().await;
    assert_log(&lake, &expected).await;
    let again = outcomes(&lake, tail).await;
    let is_known = |outcome: &Outcome| matches!(outcome, Outcome::Duplicate(_));
    assert!(again.iter().all(is_known), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seq_that_two_branches_of_a_log_gave_out_names_one_delta_afterwards() {
    let world = World::new();
    let lake = with_second_table(&world).await;
    let empty = files(&world);
    let one = |table: &str, row: &str| delta_of(table, "ana", row, NOW_MS, 1);
    let first = [one("t", "a"), one("u", "b"), one("t", "c")];
    outcomes(&lake, push(first.to_vec())).await;
    let copy = files(&world);
    drop(lake);
    // Nothing was flushed in between: this copy is of the same epoch, and its seqs are given out again.
    put_files(&world, &empty);
    let lake = world.open().await;
    let second = [one("t", "x"), one("t", "y")];
    outcomes(&lake, push(second.to_vec())).await;
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    put_files(&world, &copy);
    let lake = world.open().await;
    let base = STEP + 3;
    let expected = [
        (1, second[0].delta_id),
        (2, second[1].delta_id),
        (3, first[2].delta_id),
        (base + 1, first[0].delta_id),
        (base + 2, first[1].delta_id),
    ];
    assert_log(&lake, &expected).await;
    let known = [base + 1, base + 2, 3].map(|number| Outcome::Duplicate(seq(number)));
    assert_eq!(outcomes(&lake, push(first.to_vec())).await, known);
    gateway(&lake).flush(None).await.unwrap();
    drop(lake);
    let lake = world.open().await;
    assert_log(&lake, &expected).await;
}
