//! Two writers on one table: who wins, who moves on top, who must plan again.

use std::time::Duration;

use iceberg::spec::Struct;

use super::faults::Fault;
use super::*;

/// A commit by another process, to be made at the worst moment.
async fn theirs(lake: &Lake, commit: Commit<'static>) -> Fault {
    let (warehouse, ident) = (lake.reopened().await, lake.ident());
    Fault::Before(Box::pin(async move {
        commit.run(&warehouse, &ident).await.unwrap();
    }))
}

async fn deletes_of_first_row(lake: &Lake, path: &str) -> Vec<DataFile> {
    let deletes = PositionDeletes {
        path: path.to_owned(),
        partition: Struct::empty(),
        positions: [0].into(),
    };
    let options = WriteOptions::new("test");
    write_position_deletes(&lake.base().await, &[deletes], &options)
        .await
        .unwrap()
}

/// A table with a file of `a` and one of `b`; their paths and the snapshot.
async fn two_files(lake: &Lake) -> (String, String, i64) {
    let table = lake.append(&[&["a"], &["b"]]).await;
    let files = live_files(&table, None).await.unwrap();
    let snapshot = table.metadata().current_snapshot_id().unwrap();
    (path_of(&files, "a"), path_of(&files, "b"), snapshot)
}

#[tokio::test]
async fn an_append_that_loses_moves_on_top() {
    let lake = Lake::with_table().await;
    let other = theirs(&lake, Commit::append(lake.files(&[&["b"]]).await)).await;
    let warehouse = lake.with_faults([other]);
    let commit = Commit::append(lake.files(&[&["a"]]).await);
    let table = commit.run(&warehouse, &lake.ident()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA", "bB"]);
    assert_eq!(table.metadata().snapshots().len(), 2);
    // What the lost attempt wrote is gone: two manifests, two lists.
    let avro = |path: &PathBuf| path.extension().is_some_and(|e| e == "avro");
    assert_eq!(lake.on_disk().iter().filter(|path| avro(path)).count(), 4);
}

#[tokio::test]
async fn a_commit_gives_up_after_its_attempts() {
    let lake = Lake::with_table().await;
    let retry = RetryPolicy {
        attempts: 2,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };
    let others = [
        theirs(&lake, Commit::append(Vec::new())).await,
        theirs(&lake, Commit::append(Vec::new())).await,
    ];
    let warehouse = lake.with_faults(others);
    let commit = Commit::append(lake.files(&[&["a"]]).await).with_retry(retry);
    let error = commit.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Conflict);
    assert!(error.is_retryable());
    assert_eq!(lake.base().await.metadata().snapshots().len(), 2);
}

#[tokio::test]
async fn a_rewrite_moves_on_top_of_appends() {
    let lake = Lake::with_table().await;
    let (a, b, read) = two_files(&lake).await;
    let other = theirs(&lake, Commit::append(lake.files(&[&["c"]]).await)).await;
    let warehouse = lake.with_faults([other]);
    let rewrite = Commit::rewrite(read, [a, b], lake.files(&[&["a", "b"]]).await);
    let table = rewrite.run(&warehouse, &lake.ident()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA", "bB", "cC"]);
    assert_eq!(live_files(&table, None).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_rewrite_whose_input_is_gone_conflicts() {
    let lake = Lake::with_table().await;
    let (a, b, read) = two_files(&lake).await;
    let faster = Commit::rewrite(read, [b.clone()], lake.files(&[&["b"]]).await);
    let warehouse = lake.with_faults([theirs(&lake, faster).await]);
    let rewrite = Commit::rewrite(read, [a, b.clone()], lake.files(&[&["a", "b"]]).await);
    let error = rewrite.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Conflict);
    assert!(error.to_string().contains(&b), "{error}");
    assert_eq!(scanned(&lake.base().await).await, ["aA", "bB"]);
}

#[tokio::test]
async fn a_rewrite_whose_input_got_deletes_conflicts() {
    let lake = Lake::with_table().await;
    let (a, b, read) = two_files(&lake).await;
    let deletes = deletes_of_first_row(&lake, &b).await;
    let other = theirs(&lake, Commit::row_delta(Vec::new(), deletes)).await;
    let warehouse = lake.with_faults([other]);
    let rewrite = Commit::rewrite(read, [b.clone()], lake.files(&[&["b"]]).await);
    let error = rewrite.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Conflict);
    assert_eq!(scanned(&lake.base().await).await, ["aA"], "b stays deleted");
    // The other file has no new deletes.
    let rewrite = Commit::rewrite(read, [a], lake.files(&[&["a"]]).await);
    let table = rewrite.run(&lake.warehouse, &lake.ident()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA"]);
}

#[tokio::test]
async fn deletes_that_the_rewrite_has_read_do_not_stand_in_its_way() {
    let lake = Lake::with_table().await;
    let (_, b, _) = two_files(&lake).await;
    let deletes = deletes_of_first_row(&lake, &b).await;
    let delete_path = deletes[0].file_path().to_owned();
    let delta = Commit::row_delta(Vec::new(), deletes);
    let table = delta.run(&lake.warehouse, &lake.ident()).await.unwrap();
    let read = table.metadata().current_snapshot_id().unwrap();
    let rewrite = Commit::rewrite(read, [b, delete_path], Vec::new());
    let table = rewrite.run(&lake.warehouse, &lake.ident()).await.unwrap();
    assert_eq!(scanned(&table).await, ["aA"]);
    assert_eq!(live_files(&table, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn deletes_of_a_file_that_was_rewritten_conflict() {
    let lake = Lake::with_table().await;
    let (_, b, read) = two_files(&lake).await;
    let deletes = deletes_of_first_row(&lake, &b).await;
    let rewrite = Commit::rewrite(read, [b], lake.files(&[&["b"]]).await);
    let warehouse = lake.with_faults([theirs(&lake, rewrite).await]);
    let delta = Commit::row_delta(lake.files(&[&["c"]]).await, deletes);
    let error = delta.run(&warehouse, &lake.ident()).await.unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Conflict);
    assert_eq!(scanned(&lake.base().await).await, ["aA", "bB"]);
}

#[tokio::test]
async fn a_rewrite_needs_the_snapshot_that_it_was_planned_from() {
    let lake = Lake::with_table().await;
    let (_, b, _) = two_files(&lake).await;
    let rewrite = Commit::rewrite(12345, [b], lake.files(&[&["b"]]).await);
    let error = rewrite
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_two_processes_lose_nothing() {
    const COMMITS: usize = 8;
    let lake = Lake::with_table().await;
    let mut writers = Vec::new();
    for writer in ["a", "b"] {
        let warehouse = lake.reopened().await;
        let (ident, base) = (lake.ident(), lake.base().await);
        writers.push(tokio::spawn(async move {
            for n in 0..COMMITS {
                let id = format!("{writer}{n}");
                let files = write(&base, &[&[&id]]).await;
                let retry = RetryPolicy {
                    attempts: 100,
                    ..RetryPolicy::default()
                };
                let commit = Commit::append(files).with_retry(retry);
                let table = commit.run(&warehouse, &ident).await.unwrap();
                assert!(live_files(&table, None).await.unwrap().len() > n);
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let table = lake.base().await;
    assert_eq!(scanned(&table).await.len(), 2 * COMMITS);
    assert_eq!(table.metadata().snapshots().len(), 2 * COMMITS);
    assert_eq!(counts(&table, &["total-records"]), ["16"]);
    let sequence = table.metadata().last_sequence_number();
    assert_eq!(sequence, i64::try_from(2 * COMMITS).unwrap());
}
