//! What another program commits on top of ours: a `replace` is taken over, all else is refused by name.

use std::collections::HashMap;

use iceberg::spec::{
    MAIN_BRANCH, Operation, Snapshot, SnapshotReference, SnapshotRetention, Summary,
};
use iceberg::{TableRequirement, TableUpdate};
use lakesync_proto::Seq;

use super::summary::{BASE_SEQ, foreign, settled, watermarks};
use super::*;

/// Moves `main` to a snapshot.
async fn move_main(lake: &Lake, snapshot_id: i64, mut before: Vec<TableUpdate>) -> Table {
    let retention = SnapshotRetention::branch(None, None, None);
    before.push(TableUpdate::SetSnapshotRef {
        ref_name: MAIN_BRANCH.to_owned(),
        reference: SnapshotReference::new(snapshot_id, retention),
    });
    let catalog = lake.warehouse.catalog();
    let none: Vec<TableRequirement> = Vec::new();
    catalog
        .commit(&lake.ident(), none, before, None)
        .await
        .unwrap()
}

/// A snapshot on top of the current one, with the same files and nothing of ours in its summary.
async fn commit(lake: &Lake, operation: Operation) -> Table {
    let table = lake.base().await;
    let metadata = table.metadata();
    let parent = metadata.current_snapshot();
    let list = match parent {
        Some(parent) => parent.manifest_list().to_owned(),
        None => panic!("a table without a snapshot"),
    };
    let id = metadata.last_sequence_number() + 1;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(metadata.next_sequence_number())
        .with_timestamp_ms(metadata.last_updated_ms())
        .with_manifest_list(list)
        .with_schema_id(metadata.current_schema_id())
        .with_summary(Summary {
            operation,
            additional_properties: HashMap::new(),
        })
        .build();
    move_main(lake, id, vec![TableUpdate::AddSnapshot { snapshot }]).await
}

fn fold(expected: Option<&str>, next: &str) -> Commit<'static> {
    Commit::append(Vec::new())
        .expecting(BASE_SEQ, expected.map(str::to_owned))
        .with_property(BASE_SEQ, next)
}

async fn folded(lake: &Lake, expected: Option<&str>, next: &str) -> Result<Table, CommitError> {
    fold(expected, next)
        .run(&lake.warehouse, &lake.ident())
        .await
}

fn current(table: &Table) -> Option<i64> {
    table.metadata().current_snapshot_id()
}

fn base_seq(table: &Table) -> Option<u64> {
    let marks = watermarks(table, current(table)).unwrap();
    marks.base_seq.map(Seq::as_u64)
}

#[tokio::test]
async fn commits_go_on_after_a_foreign_replace_and_keep_what_was_below_it() {
    let lake = Lake::with_table().await;
    folded(&lake, None, "5").await.unwrap();
    commit(&lake, Operation::Replace).await;
    let table = commit(&lake, Operation::Replace).await;
    assert_eq!(base_seq(&table), Some(5));
    assert_eq!(foreign(&table, current(&table)).unwrap(), None);
    // A commit that sets no watermark hands them on.
    let table = lake.append(&[&["a"]]).await;
    assert_eq!(summary_of(&table)[BASE_SEQ], "5");
    commit(&lake, Operation::Replace).await;
    let error = folded(&lake, Some("4"), "9").await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict { .. }), "{error}");
    let table = folded(&lake, Some("5"), "9").await.unwrap();
    assert_eq!(base_seq(&table), Some(9));
}

#[tokio::test]
async fn nothing_goes_on_top_of_rows_that_another_program_changed_until_they_are_taken_back() {
    for operation in [Operation::Append, Operation::Overwrite, Operation::Delete] {
        let lake = Lake::with_table().await;
        let ours = current(&folded(&lake, None, "5").await.unwrap()).unwrap();
        let word = operation.as_str();
        let theirs = current(&commit(&lake, operation.clone()).await).unwrap();
        // The rewrite of a change is a change.
        let table = commit(&lake, Operation::Replace).await;
        let expected = ForeignSnapshot {
            table: lake.ident().to_string(),
            snapshot: theirs,
            operation: word.to_owned(),
            below: Below::Ours(ours),
        };
        assert_eq!(
            foreign(&table, current(&table)).unwrap().as_ref(),
            Some(&expected)
        );
        assert_eq!(base_seq(&table), None);
        let marks = settled(&table, current(&table)).unwrap();
        assert_eq!(marks.base_seq.map(Seq::as_u64), Some(5));

        let plain = Commit::append(Vec::new())
            .run(&lake.warehouse, &lake.ident())
            .await;
        for error in [folded(&lake, Some("5"), "9").await, plain].map(Result::unwrap_err) {
            assert_eq!(error.kind(), CommitErrorKind::Conflict);
            assert!(!error.is_retryable());
            let text = error.to_string();
            for part in [word, &theirs.to_string(), &ours.to_string(), "roll"] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(LakeError::from(error).kind(), LakeErrorKind::Foreign);
        }
        move_main(&lake, ours, Vec::new()).await;
        let table = folded(&lake, Some("5"), "9").await.unwrap();
        assert_eq!(base_seq(&table), Some(9));
    }
}

#[tokio::test]
async fn a_replace_whose_parent_has_expired_is_not_taken_for_a_table_without_deltas() {
    let lake = Lake::with_table().await;
    let ours = current(&folded(&lake, None, "5").await.unwrap()).unwrap();
    commit(&lake, Operation::Replace).await;
    let expire = TableUpdate::RemoveSnapshots {
        snapshot_ids: vec![ours],
    };
    let catalog = lake.warehouse.catalog();
    let ident = lake.ident();
    let table = catalog
        .commit(&ident, Vec::new(), vec![expire], None)
        .await
        .unwrap();
    let found = foreign(&table, current(&table)).unwrap().unwrap();
    assert_eq!(found.below, Below::Expired);
    assert!(found.to_string().contains("restore"), "{found}");
    let error = folded(&lake, None, "9").await.unwrap_err();
    assert!(matches!(error, CommitError::Foreign(_)), "{error}");
}

#[tokio::test]
async fn a_first_commit_expects_that_there_is_no_snapshot_at_all() {
    let lake = Lake::with_table().await;
    // Ours, and without a watermark.
    lake.append(&[&["a"]]).await;
    let error = folded(&lake, None, "5").await.unwrap_err();
    assert!(matches!(error, CommitError::Conflict { .. }), "{error}");

    let lake = Lake::with_table().await;
    let catalog = lake.warehouse.catalog();
    let files = lake.files(&[&["a"]]).await;
    let transaction = iceberg::transaction::Transaction::new(&lake.base().await);
    let append = transaction.fast_append().add_data_files(files);
    use iceberg::transaction::ApplyTransactionAction;
    let transaction = append.apply(transaction).unwrap();
    transaction.commit(catalog.as_ref()).await.unwrap();
    let error = folded(&lake, None, "5").await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CommitError::Foreign(_)), "{text}");
    assert!(text.contains("append") && text.contains("remove"), "{text}");
}
