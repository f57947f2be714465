//! What one commit does to manifests, sequence numbers, summaries and rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use iceberg::spec::{DataContentType, ManifestContentType, ManifestStatus, Operation, Struct};
use lakesync_proto::{Hlc, ManualClock, Seq};

use super::summary::{BASE_SEQ, COMMIT_ID, MAX_HLC, MAX_SEQ, watermarks};
use super::*;

const TOTALS: [&str; 4] = [
    "total-data-files",
    "total-records",
    "total-delete-files",
    "total-position-deletes",
];

#[tokio::test]
async fn two_appends_make_two_snapshots() {
    let lake = Lake::with_table().await;
    let first = lake.append(&[&["a", "b"]]).await;
    let second = lake.append(&[&["c"], &["d"]]).await;
    assert_eq!(scanned(&second).await, ["aA", "bB", "cC", "dD"]);

    let metadata = second.metadata();
    let snapshot = metadata.current_snapshot().unwrap();
    let parent = first.metadata().current_snapshot_id();
    assert_eq!(snapshot.parent_snapshot_id(), parent);
    assert_eq!(snapshot.sequence_number(), 2);
    assert_eq!(snapshot.summary().operation, Operation::Append);
    let history: Vec<_> = metadata
        .history()
        .iter()
        .map(|log| log.snapshot_id)
        .collect();
    assert_eq!(history, [parent.unwrap(), snapshot.snapshot_id()]);
    assert_eq!(counts(&second, &TOTALS), ["3", "4", "0", "0"]);
    assert_eq!(
        counts(
            &second,
            &["added-data-files", "added-records", "deleted-records"]
        ),
        ["2", "2", "-"]
    );
    let statuses = entries(&second, ManifestContentType::Data).await;
    let numbers: BTreeSet<_> = statuses.values().map(|e| (e.1, e.2, e.3)).collect();
    let current = snapshot.snapshot_id();
    assert_eq!(
        numbers,
        BTreeSet::from([(parent.unwrap(), 1, 1), (current, 2, 2)])
    );
    assert!(statuses.values().all(|e| e.0 == ManifestStatus::Added));
}

#[tokio::test]
async fn a_rewrite_touches_only_the_manifests_of_its_inputs() {
    let lake = Lake::with_table().await;
    let first = lake.append(&[&["a"], &["b"]]).await;
    let second = lake.append(&[&["c"]]).await;
    let before = manifests_of(&second).await;
    let files = live_files(&second, None).await.unwrap();
    let (kept, gone) = (path_of(&files, "a"), path_of(&files, "b"));
    let added = lake.files(&[&["b", "bb"]]).await;
    let new = added[0].file_path().to_owned();
    let read = second.metadata().current_snapshot_id().unwrap();
    let third = Commit::rewrite(read, [gone.clone()], added)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(scanned(&third).await, ["aA", "bB", "bbBB", "cC"]);

    let snapshots: Vec<i64> = [&first, &second, &third]
        .map(|table| table.metadata().current_snapshot_id().unwrap())
        .to_vec();
    let statuses = entries(&third, ManifestContentType::Data).await;
    assert_eq!(
        statuses[&kept],
        (ManifestStatus::Existing, snapshots[0], 1, 1)
    );
    assert_eq!(
        statuses[&gone],
        (ManifestStatus::Deleted, snapshots[2], 1, 1)
    );
    assert_eq!(statuses[&new], (ManifestStatus::Added, snapshots[2], 3, 3));
    let other = path_of(&files, "c");
    assert_eq!(
        statuses[&other],
        (ManifestStatus::Added, snapshots[1], 2, 2)
    );

    let untouched = before.iter().find(|m| m.sequence_number == 2).unwrap();
    let after = manifests_of(&third).await;
    assert!(
        after.contains(untouched),
        "the manifest of c is carried on as it is"
    );
    assert_eq!(after.len(), 3);
    assert_eq!(counts(&third, &TOTALS), ["3", "4", "0", "0"]);
    let summary = third.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.operation, Operation::Replace);
    assert_eq!(
        counts(
            &third,
            &["deleted-data-files", "deleted-records", "added-data-files"]
        ),
        ["1", "1", "1"]
    );
    // The past is as it was.
    let past = live_files(&third, Some(snapshots[1])).await.unwrap();
    assert_eq!(past.len(), 3);
}

#[tokio::test]
async fn a_manifest_without_live_files_is_dropped_by_the_next_commit() {
    let lake = Lake::with_table().await;
    let first = lake.append(&[&["a"]]).await;
    let read = first.metadata().current_snapshot_id().unwrap();
    let files = live_files(&first, None).await.unwrap();
    let second = Commit::overwrite(read, [files[0].path.clone()], Vec::new())
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(manifests_of(&second).await.len(), 1);
    assert!(live_files(&second, None).await.unwrap().is_empty());
    let third = lake.append(&[&["b"]]).await;
    assert_eq!(manifests_of(&third).await.len(), 1);
    assert_eq!(scanned(&third).await, ["bB"]);
    assert_eq!(counts(&third, &TOTALS), ["1", "1", "0", "0"]);
}

fn deletes_of(path: &str, positions: &[u64]) -> PositionDeletes {
    PositionDeletes {
        path: path.to_owned(),
        partition: Struct::empty(),
        positions: positions.iter().copied().collect(),
    }
}

#[tokio::test]
async fn a_row_delta_adds_rows_and_deletes_others() {
    let lake = Lake::with_table().await;
    let table = lake.append(&[&["a", "b", "c"], &["x"]]).await;
    let files = live_files(&table, None).await.unwrap();
    let target = path_of(&files, "a");
    let options = WriteOptions::new("test");
    let deletes = [deletes_of(&target, &[0, 2])];
    let deletes = write_position_deletes(&table, &deletes, &options);
    let deletes = deletes.await.unwrap();
    let data = lake.files(&[&["c"]]).await;
    let table = Commit::row_delta(data, deletes)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(scanned(&table).await, ["bB", "cC", "xX"]);
    assert_eq!(counts(&table, &TOTALS), ["3", "5", "1", "2"]);
    let summary = table.metadata().current_snapshot().unwrap().summary();
    assert_eq!(summary.operation, Operation::Overwrite);

    let files = live_files(&table, None).await.unwrap();
    let delete = files
        .iter()
        .find(|file| file.content == DataContentType::PositionDeletes)
        .unwrap();
    assert_eq!(delete.referenced_data_file.as_ref(), Some(&target));
    assert_eq!((delete.rows, delete.sequence_number), (2, 2));

    // The fold of it: the data file and its deletes go, what is left of it comes.
    let read = table.metadata().current_snapshot_id().unwrap();
    let rest = lake.files(&[&["b"]]).await;
    let table = Commit::rewrite(read, [target, delete.path.clone()], rest)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_eq!(scanned(&table).await, ["bB", "cC", "xX"]);
    assert_eq!(counts(&table, &TOTALS), ["3", "3", "0", "0"]);
    assert_eq!(
        counts(
            &table,
            &["removed-delete-files", "removed-position-deletes"]
        ),
        ["1", "2"]
    );
    assert!(
        entries(&table, ManifestContentType::Deletes)
            .await
            .values()
            .all(|e| { e.0 == ManifestStatus::Deleted && e.2 == 2 && e.3 == 2 })
    );
}

#[tokio::test]
async fn a_rewrite_can_pin_the_sequence_number_of_its_inputs() {
    let lake = Lake::with_table().await;
    let table = lake.append(&[&["a"]]).await;
    let old = live_files(&table, None).await.unwrap();
    let read = table.metadata().current_snapshot_id().unwrap();
    lake.append(&[&["b"]]).await;
    let added = lake.files(&[&["a"]]).await;
    let new = added[0].file_path().to_owned();
    let table = Commit::rewrite(read, [old[0].path.clone()], added)
        .with_sequence_number(old[0].sequence_number)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    let (status, _, data, file) = entries(&table, ManifestContentType::Data).await[&new];
    assert_eq!((status, data, file), (ManifestStatus::Added, 1, 3));
    assert_eq!(scanned(&table).await, ["aA", "bB"]);
}

#[tokio::test]
async fn watermarks_stay_until_they_are_set_anew() {
    let lake = Lake::with_table().await;
    let hlc = Hlc::from_u64(99).unwrap();
    let table = Commit::append(Vec::new())
        .with_property(MAX_SEQ, Seq::from_u64(7).unwrap())
        .with_property(MAX_HLC, hlc)
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    let first_id = summary_of(&table)[COMMIT_ID].clone();
    let table = Commit::append(lake.files(&[&["a"]]).await)
        .with_property(BASE_SEQ, Seq::from_u64(5).unwrap())
        .with_property(MAX_SEQ, Seq::from_u64(8).unwrap())
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    assert_ne!(summary_of(&table)[COMMIT_ID], first_id);
    let marks = watermarks(&table, table.metadata().current_snapshot_id()).unwrap();
    assert_eq!(marks.max_seq, Some(Seq::from_u64(8).unwrap()));
    assert_eq!(marks.base_seq, Some(Seq::from_u64(5).unwrap()));
    assert_eq!((marks.min_hlc, marks.max_hlc), (None, Some(hlc)));
    assert_eq!(watermarks(&table, None).unwrap(), Default::default());
    assert_eq!(
        watermarks(&table, Some(1)).unwrap_err().kind(),
        LakeErrorKind::NotFound
    );
}

#[tokio::test]
async fn an_unreadable_watermark_is_named() {
    let lake = Lake::with_table().await;
    let table = Commit::append(Vec::new())
        .with_property(MAX_SEQ, "many")
        .run(&lake.warehouse, &lake.ident())
        .await
        .unwrap();
    let error = watermarks(&table, table.metadata().current_snapshot_id()).unwrap_err();
    assert_eq!(error.kind(), LakeErrorKind::Corrupt);
    assert!(error.to_string().contains("lakesync.max-seq"), "{error}");
}

#[tokio::test]
async fn a_commit_can_expect_a_watermark() {
    let lake = Lake::with_table().await;
    let fold = |expected: Option<&str>, next: &str| {
        Commit::append(Vec::new())
            .expecting(BASE_SEQ, expected.map(str::to_owned))
            .with_property(BASE_SEQ, next)
    };
    let ident = lake.ident();
    fold(None, "5").run(&lake.warehouse, &ident).await.unwrap();
    let again = fold(None, "5").run(&lake.warehouse, &ident).await;
    assert_eq!(again.unwrap_err().kind(), CommitErrorKind::Conflict);
    fold(Some("5"), "9")
        .run(&lake.warehouse, &ident)
        .await
        .unwrap();
    assert_eq!(summary_of(&lake.base().await)[BASE_SEQ], "9");
    assert_eq!(lake.base().await.metadata().snapshots().len(), 2);
}

#[tokio::test]
async fn a_commit_of_the_same_id_takes_effect_once() {
    let lake = Lake::with_table().await;
    let id = uuid::Uuid::new_v4();
    let files = lake.files(&[&["a"]]).await;
    for _ in 0..2 {
        let table = Commit::append(files.clone())
            .with_commit_id(id)
            .run(&lake.warehouse, &lake.ident())
            .await
            .unwrap();
        assert_eq!(scanned(&table).await, ["aA"]);
        assert_eq!(table.metadata().snapshots().len(), 1);
    }
}

#[tokio::test]
async fn nonsense_is_refused_before_anything_is_written() {
    let lake = Lake::with_table().await;
    let files = lake.files(&[&["a"]]).await;
    let before = lake.on_disk();
    let twice = [files.clone(), files.clone()].concat();
    let error = Commit::append(twice)
        .run(&lake.warehouse, &lake.ident())
        .await;
    assert_eq!(error.unwrap_err().kind(), CommitErrorKind::Failed);
    // A file of the base in the log: its partition does not fit.
    let log = Kind::Log.ident(&lake.gateway, &name("t"));
    let error = Commit::append(files)
        .run(&lake.warehouse, &log)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("partition"), "{error}");
    let missing = TableIdent::from_strs(["public", "nothing"]).unwrap();
    let error = Commit::append(Vec::new())
        .run(&lake.warehouse, &missing)
        .await;
    assert_eq!(error.unwrap_err().kind(), CommitErrorKind::Failed);
    assert_eq!(lake.on_disk(), before);
}

#[tokio::test]
async fn a_clock_that_goes_back_neither_reorders_nor_damages_a_table() {
    // Long ago: no time is by the machine's clock.
    let begun = 1_000_000_000_000;
    let clock = Arc::new(ManualClock::new(begun));
    let lake = Lake::with_table_by(Arc::clone(&clock)).await;
    let created = lake.base().await.metadata().last_updated_ms();
    assert_eq!(u64::try_from(created), Ok(begun));
    clock.advance(3_600_000);
    lake.append(&[&["a"]]).await;
    clock.advance(3_600_000);
    lake.append(&[&["b"]]).await;
    clock.set(1);
    let table = lake.append(&[]).await;
    let history = table.metadata().history().iter();
    let times: Vec<_> = history.map(|log| log.timestamp_ms).collect();
    let hours = [1, 2, 2].map(|n| created + n * 3_600_000);
    assert_eq!(
        times, hours,
        "the last is not before the one that precedes it"
    );
    // A change without a snapshot, while the clock is behind.
    let property = [("k".to_owned(), "v".to_owned())];
    let plan = |table: &Table| match table.metadata().properties().contains_key("k") {
        true => Ok(Vec::new()),
        false => Ok(vec![iceberg::TableUpdate::SetProperties {
            updates: property.clone().into(),
        }]),
    };
    let changed = change_table(&lake.warehouse, &lake.ident(), None, plan)
        .await
        .unwrap();
    let files = |table: &Table| table.metadata().metadata_log().to_vec();
    let log = files(&changed);
    assert_eq!(log[..3], files(&table), "what was there is as it was");
    assert_eq!(log[3].timestamp_ms, times[2]);
    assert_eq!(changed.metadata().last_updated_ms(), times[1]);

    // A rollback repeats an entry of the history.
    let first = table.metadata().history()[0].snapshot_id;
    let rollback = iceberg::TableUpdate::SetSnapshotRef {
        ref_name: "main".to_owned(),
        reference: iceberg::spec::SnapshotReference::new(
            first,
            iceberg::spec::SnapshotRetention::branch(None, None, None),
        ),
    };
    let catalog = lake.warehouse.catalog();
    catalog
        .commit(&lake.ident(), vec![], vec![rollback], None)
        .await
        .unwrap();
    let reread = lake.reopened().await;
    let base = reread.load(&lake.gateway, &name("t")).await.unwrap().base;
    assert_eq!(scanned(&base).await, ["aA"]);
    let history = base.metadata().history();
    assert_eq!(history.len(), 4);
    assert_eq!(history[3].snapshot_id, first);
    assert_eq!(history[3].timestamp_ms, times[2]);
}
