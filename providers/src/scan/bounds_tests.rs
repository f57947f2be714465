//! What plans take from manifests: files that are left out, constants, counts and extremes without a scan.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{
    CatalogProvider as _, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider as _,
};
use datafusion::prelude::SessionContext;

use super::tests::{Scene, files_left_out, plan, scene_with};
use crate::session::session;
use crate::union::{Touched, UnionTable};

const DEFINITION: &str = r#"{"table": "t", "columns": [
    {"name": "v", "type": "long"}, {"name": "f", "type": "number"}, {"name": "at", "type": "timestamp"},
    {"name": "day", "type": "date"}, {"name": "b", "type": "boolean"}, {"name": "s", "type": "string"},
    {"name": "none", "type": "long"}, {"name": "one", "type": "string"}]}"#;

const HOUR: i64 = 3_600_000_000;

/// Rows `row <n>` with these values of `v`; everything else follows from them.
fn file(v: &[Option<i64>], none: Option<i64>, one: &str) -> (RecordBatch, usize) {
    let each = || v.iter().copied();
    let ids = (0..v.len()).map(|row| format!("row {row} of {one}"));
    let at = TimestampMicrosecondArray::from_iter(each().map(|v| Some(v? * HOUR)));
    let columns: [(&str, ArrayRef); 9] = [
        ("row_id", Arc::new(StringArray::from_iter_values(ids))),
        ("v", Arc::new(Int64Array::from_iter(each()))),
        (
            "f",
            Arc::new(
                each()
                    .map(|v| Some(f64::from(i32::try_from(v?).ok()?) / 2.0))
                    .collect::<Float64Array>(),
            ),
        ),
        ("at", Arc::new(at.with_timezone("+00:00"))),
        (
            "day",
            Arc::new(
                each()
                    .map(|v| i32::try_from(v?).ok())
                    .collect::<Date32Array>(),
            ),
        ),
        (
            "b",
            Arc::new(each().map(|v| Some(v? > 0)).collect::<BooleanArray>()),
        ),
        (
            "s",
            Arc::new(
                each()
                    .map(|v| Some(format!("{:03}", v?)))
                    .collect::<StringArray>(),
            ),
        ),
        (
            "none",
            Arc::new(each().map(|_| none).collect::<Int64Array>()),
        ),
        (
            "one",
            Arc::new(each().map(|_| Some(one)).collect::<StringArray>()),
        ),
    ];
    (RecordBatch::try_from_iter(columns).unwrap(), 1_000)
}

/// Files of −1 to 1, of the evenings of two days, and of one null.
async fn scene() -> Scene {
    let files = [
        file(&[Some(-1), Some(0), Some(1)], None, "a"),
        file(&[Some(20), Some(23), None, Some(32)], None, "b"),
        file(&[None], Some(5), "c"),
    ];
    scene_with(DEFINITION, files.into()).await
}

/// A scene as table `t`, to be asked in SQL.
pub(super) struct Asked {
    ctx: SessionContext,
}

impl Asked {
    pub(super) fn of(scene: &Scene) -> Self {
        Self::as_touched(scene, Touched::Patched)
    }

    pub(super) fn as_touched(scene: &Scene, touched: Touched) -> Self {
        let ctx = session(&scene.view().warehouse);
        let table = UnionTable::new(scene.view(), None).unwrap();
        let schema = Arc::new(MemorySchemaProvider::new());
        let table = Arc::new(table.with_touched(touched));
        schema.register_table("t".to_owned(), table).unwrap();
        let catalog = Arc::new(MemoryCatalogProvider::new());
        catalog.register_schema("public", schema).unwrap();
        ctx.register_catalog("lake", catalog);
        Self { ctx }
    }

    pub(super) async fn plan(&self, sql: &str) -> String {
        plan(self.ctx.sql(sql).await.unwrap()).await
    }

    pub(super) async fn rows(&self, sql: &str) -> String {
        let rows = self.ctx.sql(sql).await.unwrap().collect().await.unwrap();
        let shown = pretty_format_batches(&rows).unwrap().to_string();
        let rows = shown.lines().filter(|line| line.starts_with('|')).skip(1);
        let cells = rows.map(|line| {
            line.replace('|', "")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        });
        cells.collect::<Vec<_>>().join(", ")
    }

    async fn left_out(&self, condition: &str) -> (usize, usize) {
        let sql = format!("select v from t where {condition}");
        files_left_out(self.ctx.sql(&sql).await.unwrap()).await
    }

    async fn scans(&self, sql: &str) -> bool {
        self.plan(sql).await.contains("DataSourceExec")
    }
}

#[tokio::test]
async fn counts_and_extremes_of_whole_columns_are_answered_without_a_scan() {
    let scene = scene().await;
    let asked = Asked::of(&scene);
    for (sql, rows) in [
        ("select count(*) from t", "8"),
        ("select count(v), count(none), count(one) from t", "6 1 8"),
        ("select min(v), max(v) from t", "-1 32"),
        ("select min(day), max(day) from t", "1969-12-31 1970-02-02"),
        (
            "select min(at), max(at) from t",
            "1969-12-31T23:00:00Z 1970-01-02T08:00:00Z",
        ),
        ("select min(none), max(none) from t", "5 5"),
        ("select min(b), max(b) from t", "false true"),
    ] {
        assert_eq!(asked.rows(sql).await, rows, "{sql}");
        assert!(!asked.scans(sql).await, "{sql}");
    }
    // Bounds of texts may be shortened, and those of floating point have lost the sign of zero.
    for (sql, rows) in [
        ("select min(s), max(s) from t", "-01 032"),
        ("select min(f), max(f) from t", "-0.5 16.0"),
        ("select max(v) from t where v < 32", "23"),
        ("select count(*) from t where v < 32", "5"),
    ] {
        assert_eq!(asked.rows(sql).await, rows, "{sql}");
        assert!(asked.scans(sql).await, "{sql}");
    }
}

#[tokio::test]
async fn files_are_left_out_by_bounds_of_every_type_and_by_their_nulls() {
    let scene = scene().await;
    let asked = Asked::of(&scene);
    for (condition, left_out, rows) in [
        ("v > 5", 2, "20, 23, 32"),
        ("f > 5", 2, "20, 23, 32"),
        ("at > '1970-01-01T10:00:00Z'", 2, "20, 23, 32"),
        ("at > timestamp '1970-01-01 10:00:00'", 2, "20, 23, 32"),
        ("cast(at as date) > date '1970-01-01'", 2, "32"),
        ("day between '1969-01-01' and '1970-01-02'", 2, "-1, 0, 1"),
        ("not b", 1, "-1, 0"),
        ("s >= '020'", 2, "20, 23, 32"),
        ("one = 'a'", 2, "-1, 0, 1"),
        ("one in ('a', 'c') and v is not null", 2, "-1, 0, 1"),
        ("v is null and one > 'b'", 2, ""),
        ("none is not null", 2, ""),
        ("at is null", 1, ", "),
    ] {
        let sql = format!("select v from t where {condition} order by v");
        assert_eq!(asked.rows(&sql).await, rows, "{condition}");
        let found = asked.left_out(condition).await;
        assert_eq!(found, (left_out, 3 - left_out), "{condition}");
    }
}

#[tokio::test]
async fn a_filter_on_a_cast_that_keeps_no_order_leaves_no_row_out() {
    let scene = scene().await;
    let asked = Asked::of(&scene);
    for (condition, rows) in [
        ("cast(at as time) >= time '21:00:00'", "-1, 23"),
        ("cast(at as time) = time '23:00:00'", "-1, 23"),
        ("cast(v as boolean) = false", "0"),
        ("not cast(v as boolean) and one = 'a'", "0"),
    ] {
        let sql = format!("select v from t where {condition} order by v");
        assert_eq!(asked.rows(&sql).await, rows, "{condition}");
    }
    // A filter that a TopK makes while it runs is one too.
    let latest = "select v from t where at is not null order by cast(at as time) desc, v limit 2";
    assert_eq!(asked.rows(latest).await, "-1, 23");
}

#[tokio::test]
async fn a_column_of_one_value_is_read_right_with_rows_masked_and_patched() {
    let mut scene = scene().await;
    scene.change("row 1 of b", Some(99));
    scene.change("row 0 of a", None);
    let asked = Asked::of(&scene);
    assert_eq!(
        asked
            .rows("select v, one, none from t order by one, v")
            .await,
        "0 a, 1 a, 20 b, 32 b, 99 b, b, c 5"
    );
    assert_eq!(asked.rows("select one from t where v = 99").await, "b");
    assert_eq!(
        asked
            .rows("select count(*) from t where one = 'b' and v is not null")
            .await,
        "3"
    );
    assert_eq!(
        asked.rows("select min(v), max(v), count(*) from t").await,
        "0 99 7"
    );
}
