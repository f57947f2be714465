//! Plans over files that are sorted, and over very many: what needs no sort, and what reads nothing.

use std::fs;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use lakesync_proto::RowId;

use super::bounds_tests::Asked;
use super::tests::{Scene, scene_in_order, scene_of};
use crate::union::Touched;

/// A file of rows `row <v>` with these values, sorted by them.
fn file(v: &[Option<i64>]) -> (RecordBatch, usize) {
    let ids = v.iter().map(|v| format!("row {}", v.unwrap_or(-1)));
    let texts = v.iter().map(|v| Some(format!("text {}", v.unwrap_or(-1))));
    let batch = RecordBatch::try_from_iter([
        ("row_id", Arc::new(StringArray::from_iter_values(ids)) as _),
        (
            "v",
            Arc::new(v.iter().copied().collect::<Int64Array>()) as _,
        ),
        ("s", Arc::new(texts.collect::<StringArray>()) as _),
    ]);
    (batch.unwrap(), 1_000)
}

const DEFINITION: &str = r#"{"table": "t", "columns": [{"name": "v", "type": "long"}, {"name": "s", "type": "string"}]}"#;

async fn sorted_by(order: &str, files: &[&[i64]]) -> Scene {
    let files = files.iter().map(|v| {
        let v: Vec<_> = v.iter().copied().map(Some).collect();
        file(&v)
    });
    scene_in_order(DEFINITION, Some(order), files.collect()).await
}

/// The files of the tests, not in the order of their values.
const FILES: [&[i64]; 3] = [&[6, 7, 9], &[1, 2, 3, 4], &[4, 5, 6]];
const BY_V: &str = "select v from t order by v";

#[tokio::test]
async fn rows_of_sorted_files_are_not_sorted_again() {
    let scene = sorted_by("v", &FILES).await;
    let asked = Asked::of(&scene);
    for (sql, rows) in [
        (BY_V, "1, 2, 3, 4, 4, 5, 6, 6, 7, 9"),
        ("select v from t order by v limit 3", "1, 2, 3"),
        (
            "select s from t where v > 5 order by v",
            "text 6, text 6, text 7, text 9",
        ),
        (
            "select distinct v from t where v < 5 order by v",
            "1, 2, 3, 4",
        ),
    ] {
        assert_eq!(asked.rows(sql).await, rows, "{sql}");
        let plan = asked.plan(sql).await;
        assert!(plan.contains("output_ordering"), "{sql}: {plan}");
        if !sql.contains("distinct") {
            assert!(!plan.contains("SortExec"), "{sql}: {plan}");
        }
    }
    let plan = asked.plan("select s from t order by v desc").await;
    assert!(plan.contains("SortExec"), "{plan}");
    let latest = "select v from t order by v desc limit 4";
    assert_eq!(asked.rows(latest).await, "9, 7, 6, 6");
}

#[tokio::test]
async fn descending_files_are_read_from_the_greatest_on() {
    let scene = sorted_by("v desc", &[&[3, 2, 1], &[9, 5, 4]]).await;
    let asked = Asked::of(&scene);
    // Files say that nulls are last; there is none, so what SQL means without saying holds too.
    let sql = "select v from t order by v desc";
    assert_eq!(asked.rows(sql).await, "9, 5, 4, 3, 2, 1");
    let plan = asked.plan(sql).await;
    assert!(!plan.contains("SortExec"), "{plan}");
}

#[tokio::test]
async fn what_has_no_order_is_sorted() {
    let overlapping = sorted_by("v", &[&[1, 5], &[2, 9]]).await;
    let asked = Asked::of(&overlapping);
    assert!(asked.plan(BY_V).await.contains("SortExec"));
    assert_eq!(asked.rows(BY_V).await, "1, 2, 5, 9");
    // Nulls are last in each file, and so in the middle of two.
    let files = [file(&[Some(1), None]), file(&[Some(2), Some(3)])];
    let nulls = scene_in_order(DEFINITION, Some("v"), files.into()).await;
    let asked = Asked::of(&nulls);
    assert!(asked.plan(BY_V).await.contains("SortExec"));
    assert_eq!(asked.rows(BY_V).await, "1, 2, 3, ");
    // One file has the order that it has, with its nulls where they are.
    let one = scene_in_order(DEFINITION, Some("v"), vec![file(&[Some(1), None])]).await;
    let asked = Asked::of(&one);
    for (nulls, rows) in [("first", ", 1"), ("last", "1, ")] {
        let sql = format!("select v from t order by v nulls {nulls}");
        assert_eq!(asked.rows(&sql).await, rows);
        let sorts = asked.plan(&sql).await.contains("SortExec");
        assert_eq!(sorts, nulls == "first");
    }
}

#[tokio::test]
async fn masked_files_keep_their_order_and_patched_ones_while_the_sorted_column_is_not_patched() {
    let mut scene = sorted_by("v", &[&[1, 2, 3], &[10, 20, 30, 40, 50, 60, 70, 80, 90]]).await;
    scene.change("row 20", None);
    let without = "1, 2, 3, 10, 30, 40, 50, 60, 70, 80, 90";
    for touched in [Touched::Masked, Touched::Patched] {
        let asked = Asked::as_touched(&scene, touched);
        assert_eq!(asked.rows(BY_V).await, without, "{touched:?}");
        let plan = asked.plan(BY_V).await;
        assert!(!plan.contains("SortExec"), "{touched:?}: {plan}");
    }
    // 30 becomes 5: it moves, whether it is patched or comes from the overlay.
    scene.change("row 30", Some(5));
    let moved = "1, 2, 3, 5, 10, 40, 50, 60, 70, 80, 90";
    for (touched, sorted) in [(Touched::Patched, "file"), (Touched::Masked, "overlay")] {
        let asked = Asked::as_touched(&scene, touched);
        assert_eq!(asked.rows(BY_V).await, moved, "{touched:?}");
        let plan = asked.plan(BY_V).await;
        assert!(plan.contains("SortExec"), "{touched:?}: {plan}");
        let kept = plan.contains("output_ordering");
        assert_eq!(kept, sorted == "overlay", "{touched:?}: {plan}");
    }
}

#[tokio::test]
async fn a_plan_over_a_thousand_files_reads_none_of_them() {
    let dense = |v: i64| RowId::parse(&format!("{v:08}")).unwrap();
    let files: Vec<_> = (0..1_000).map(|n| (n * 100..n * 100 + 100, 100)).collect();
    let mut scene = scene_of(&files, dense).await;
    for n in 0..1_000 {
        scene.change(&format!("{:08}", n * 100 + 7), (n % 2 == 0).then_some(-n));
    }
    let view = scene.view();
    view.resolved().await.unwrap();
    let base = view.base.scan(&view.warehouse).await.unwrap();
    for file in base.files() {
        fs::remove_file(file.path.strip_prefix("file://").unwrap()).unwrap();
    }
    let masked = Asked::as_touched(&scene, Touched::Masked);
    let patched = Asked::as_touched(&scene, Touched::Patched);
    for sql in [
        "select s, v from t where v > 17",
        "select count(*) from t",
        "select s from t order by v limit 10",
        "select s from t where row_id = '00000107'",
    ] {
        masked.plan(sql).await;
        patched.plan(sql).await;
    }
    let plan = patched
        .plan("select s from t where v between 50010 and 50020")
        .await;
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
    assert_eq!(masked.rows("select count(*) from t").await, "99500");
}
