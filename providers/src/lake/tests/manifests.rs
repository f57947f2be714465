//! Merging manifests: fewer files, the same entries.

use iceberg::spec::Operation;

use super::faults::Fault;
use super::summary::{BASE_SEQ, MAX_SEQ};
use super::*;

/// Each entry's snapshot and sequence numbers; the status may change from added to existing.
async fn live(table: &Table, content: ManifestContentType) -> BTreeMap<String, (i64, i64, i64)> {
    let entries = entries(table, content).await.into_iter();
    let live = entries.filter(|(_, entry)| entry.0 != ManifestStatus::Deleted);
    live.map(|(path, entry)| (path, (entry.1, entry.2, entry.3)))
        .collect()
}

async fn both(table: &Table) -> [BTreeMap<String, (i64, i64, i64)>; 2] {
    [
        live(table, ManifestContentType::Data).await,
        live(table, ManifestContentType::Deletes).await,
    ]
}

/// Five appends, one of them rewritten since, and rows deleted by position in two of them.
async fn busy(lake: &Lake) -> Table {
    for ids in [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]] {
        lake.append(&[&ids]).await;
    }
    let table = lake.append(&[&["i"]]).await;
    let files = live_files(&table, None).await.unwrap();
    let read = table.metadata().current_snapshot_id().unwrap();
    let new = lake.files(&[&["g", "h", "hh"]]).await;
    Commit::rewrite(read, [path_of(&files, "g")], new)
        .with_property(BASE_SEQ, 7)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    let mut table = lake.base().await;
    for first in ["a", "c"] {
        let deletes = PositionDeletes {
            path: path_of(&files, first),
            partition: iceberg::spec::Struct::empty(),
            positions: [1].into(),
        };
        let options = WriteOptions::new("test");
        let deletes = write_position_deletes(&table, &[deletes], &options).await;
        let commit = Commit::row_delta(Vec::new(), deletes.unwrap());
        table = commit.run(&lake.warehouse, &lake.ident()).await.unwrap();
    }
    table
}

#[tokio::test]
async fn merged_manifests_have_the_same_entries_and_the_table_the_same_rows() {
    let lake = Lake::with_table().await;
    let before = busy(&lake).await;
    let rows = ["aA", "cC", "eE", "fF", "gG", "hH", "hhHH", "iI"];
    assert_eq!(scanned(&before).await, rows);
    assert_eq!(mergeable_manifests(&before).await.unwrap(), 7);

    let merged = merge_manifests(&lake.warehouse, &lake.ident(), None).await;
    let merged = merged.unwrap();
    let after = merged.table.unwrap();
    assert_eq!((merged.rewritten, merged.added), (7, 2));
    assert_eq!(manifests_of(&after).await.len(), 2);
    assert_eq!(both(&after).await, both(&before).await);
    assert_eq!(scanned(&after).await, rows);
    let snapshot = after.metadata().current_snapshot().unwrap();
    assert_eq!(snapshot.summary().operation, Operation::Replace);
    let keys = [
        "total-data-files",
        "total-delete-files",
        "total-records",
        BASE_SEQ,
    ];
    assert_eq!(counts(&after, &keys), counts(&before, &keys));
    assert_eq!(
        counts(&after, &["entries-processed", "added-data-files"]),
        ["7", "-"]
    );

    let again = merge_manifests(&lake.warehouse, &lake.ident(), None)
        .await
        .unwrap();
    assert!(again.table.is_none(), "there is nothing left to merge");
    assert_eq!(mergeable_manifests(&after).await.unwrap(), 0);
    // The past is as it was, and rows are still deleted, rewritten and added on top.
    let past = before.metadata().current_snapshot_id();
    assert_eq!(live_files(&after, past).await.unwrap().len(), 7);
    let files = live_files(&after, None).await.unwrap();
    let read = snapshot.snapshot_id();
    let next = Commit::overwrite(read, [path_of(&files, "e")], lake.files(&[&["z"]]).await)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(
        scanned(&next).await,
        ["aA", "cC", "gG", "hH", "hhHH", "iI", "zZ"]
    );
}

#[tokio::test]
async fn an_append_while_manifests_are_merged_is_kept() {
    let lake = Lake::with_table().await;
    busy(&lake).await;
    let (warehouse, ident) = (lake.reopened().await, lake.ident());
    let files = lake.files(&[&["x"]]).await;
    let meanwhile = Fault::Before(Box::pin(async move {
        let commit = Commit::append(files).with_property(MAX_SEQ, 9);
        commit.run(&warehouse, &ident).await.unwrap();
    }));
    let faulty = lake.with_faults([meanwhile]);
    let merged = merge_manifests(&faulty, &lake.ident(), None).await.unwrap();
    let after = merged.table.unwrap();
    assert!(scanned(&after).await.contains(&"xX".to_owned()));
    assert_eq!(counts(&after, &[MAX_SEQ, BASE_SEQ]), ["9", "7"]);
    assert_eq!(
        manifests_of(&after).await.len(),
        2,
        "that of the append is merged too"
    );
}

#[tokio::test]
async fn what_a_refused_merge_wrote_is_gone() {
    let lake = Lake::with_table().await;
    busy(&lake).await;
    let before = lake.on_disk();
    let fence = Fence {
        namespace: lake.gateway.clone(),
        token: "another".to_owned(),
    };
    let refused = merge_manifests(&lake.warehouse, &lake.ident(), Some(&fence)).await;
    assert_eq!(refused.unwrap_err().kind(), CommitErrorKind::Fenced);
    assert_eq!(lake.on_disk(), before);
}

/// A thousand flushes leave a thousand manifests; removing all their files writes one, not a thousand.
#[tokio::test]
async fn a_removal_from_many_manifests_writes_few() {
    let lake = Lake::with_table().await;
    let mut table = lake.base().await;
    for n in 0..40 {
        table = lake.append(&[&[&format!("r{n:02}")]]).await;
    }
    assert_eq!(manifests_of(&table).await.len(), 40);
    let files = live_files(&table, None).await.unwrap();
    let read = table.metadata().current_snapshot_id().unwrap();
    let gone: Vec<String> = files.iter().skip(1).map(|file| file.path.clone()).collect();
    let after = Commit::overwrite(read, gone.clone(), Vec::new())
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(
        manifests_of(&after).await.len(),
        2,
        "the untouched one, and one for all others"
    );
    let statuses = entries(&after, ManifestContentType::Data).await;
    let snapshot = after.metadata().current_snapshot_id().unwrap();
    for path in gone {
        let before = files.iter().find(|file| file.path == path).unwrap();
        let sequence = before.sequence_number;
        assert_eq!(
            statuses[&path],
            (ManifestStatus::Deleted, snapshot, sequence, sequence)
        );
    }
}
