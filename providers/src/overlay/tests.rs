//! What a refresh costs, counted; what it leaves behind when it fails or is given up; and the budget.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::array_value_to_string;
use datafusion::logical_expr::{col, lit};

use super::*;
use crate::scan::tests::scene;
use crate::session::session;
use crate::union::{Touched, UnionTable};
use crate::view::ReadView;

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter();
            let cells = cells.map(|cells| array_value_to_string(cells, row).unwrap());
            lines.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}

/// All that a view's overlay says, in no order of its making.
async fn said(view: &ReadView) -> Vec<String> {
    let resolved = view.resolved().await.unwrap();
    let mut said = Vec::new();
    for held in &resolved.chunks {
        let live = |row| held.live.as_ref().is_none_or(|live| live.value(row));
        for row in (0..held.chunk.rows.num_rows()).filter(|row| live(*row)) {
            let cells = held.chunk.rows.columns().iter();
            let cells: Vec<_> = cells
                .map(|cells| array_value_to_string(cells, row).unwrap())
                .collect();
            let decided = held.chunk.decided.iter();
            let decided = decided.map(|bits| bits.as_ref().is_some_and(|bits| bits.value(row)));
            let decided: Vec<bool> = decided.collect();
            said.push(format!(
                "{cells:?} {:?} {decided:?}",
                held.chunk.places[row]
            ));
        }
    }
    for (file, patch) in &resolved.patches {
        let rows = patch.rows().iter().map(|row| row.position);
        said.push(format!("{file}: {:?}", rows.collect::<Vec<_>>()));
        said.push(format!("{file} without {:?}", patch.deleted()));
        let base = view.base.scan(&view.warehouse).await.unwrap();
        let path = &base.files()[usize::try_from(*file).unwrap()].path;
        let left = resolved
            .masks
            .as_ref()
            .unwrap()
            .of(path)
            .map(|mask| mask.left());
        said.push(format!("{file} leaves {left:?}"));
    }
    said.sort();
    said
}

async fn grown_is_anew(view: &ReadView) {
    assert_eq!(said(view).await, said(&view.anew()).await);
}

async fn work(view: &ReadView) -> Work {
    view.resolved().await.unwrap().work
}

#[tokio::test]
async fn a_refresh_costs_what_is_new_whatever_is_hot() {
    let mut scene = scene().await;
    let touched: Vec<_> = (0..20_000).map(|row| (row, Some(row + 1))).collect();
    scene.push(&touched);
    let first = work(&scene.view()).await;
    assert_eq!(
        (first.deltas, first.rows_folded, first.rows_read),
        (20_000, 20_000, 20_000)
    );
    grown_is_anew(&scene.view()).await;
    // One that is touched already, one of the base, one that is nowhere, and a delete of each kind.
    for (row, to, read) in [
        (7, Some(70), 0),
        (30_000, Some(1), 1),
        (90_000, Some(2), 0),
        (8, None, 0),
        (30_001, None, 1),
        (90_001, None, 0),
        (8, Some(80), 0),
        (30_001, Some(3), 0),
    ] {
        scene.edit(row, to);
        let view = scene.view();
        let done = work(&view).await;
        let expected = (1, 1, read);
        let done = (done.deltas, done.rows_folded, done.rows_read);
        assert_eq!(done, expected, "row {row}");
        grown_is_anew(&view).await;
    }
    // A hundred at once, half of them touched before.
    let hundred: Vec<_> = (19_950..20_050).map(|row| (row, Some(0))).collect();
    scene.push(&hundred);
    let done = work(&scene.view()).await;
    assert_eq!(
        (done.deltas, done.rows_folded, done.rows_read),
        (100, 100, 50)
    );
    grown_is_anew(&scene.view()).await;
}

#[tokio::test]
async fn many_small_refreshes_leave_few_chunks_and_move_rows_seldom() {
    let mut scene = scene().await;
    let (mut moved, mut folded) = (0, 0);
    for n in 0..400_i64 {
        // Seven new rows, and three that were touched before.
        let new = (0..7).map(|at| (n * 7 + at, Some(n)));
        let old = (0..3).map(|at| ((n * 31 + at * 57) % (n * 7 + 1), Some(-n)));
        scene.push(&new.chain(old).collect::<Vec<_>>());
        let done = work(&scene.view()).await;
        (moved, folded) = (moved + done.rows_moved, folded + done.rows_folded);
    }
    let view = scene.view();
    let resolved = view.resolved().await.unwrap();
    assert_eq!(resolved.row_count(), 2_800);
    assert!(
        resolved.chunks.len() <= 24,
        "{} chunks",
        resolved.chunks.len()
    );
    assert!(moved <= folded * 6, "{moved} moved of {folded}");
    grown_is_anew(&view).await;
}

#[tokio::test]
async fn a_row_that_is_written_all_the_time_stays_one_row() {
    let mut scene = scene().await;
    for n in 0..200 {
        scene.edit(5, (n % 9 != 8).then_some(n));
        assert_eq!(work(&scene.view()).await.rows_folded, 1);
    }
    let view = scene.view();
    let resolved = view.resolved().await.unwrap();
    assert_eq!((resolved.row_count(), resolved.chunks.len()), (1, 1));
    grown_is_anew(&view).await;
}

#[tokio::test]
async fn an_older_view_sees_its_own_rows() {
    let mut scene = scene().await;
    scene.edit(1, Some(-1));
    let older = scene.view();
    let expected = said(&older.anew()).await;
    scene.push(&[(1, Some(-2)), (2, None)]);
    let newer = scene.view();
    grown_is_anew(&newer).await;
    assert_eq!(said(&older).await, expected);
    scene.edit(3, Some(-3));
    assert_eq!(
        work(&scene.view()).await.deltas,
        1,
        "the older view took nothing back"
    );
    grown_is_anew(&scene.view()).await;
}

/// Hides the data files of a lake, and shows them again when dropped.
struct Hidden(Vec<(std::path::PathBuf, std::path::PathBuf)>);

impl Hidden {
    fn files(folder: &std::path::Path) -> Self {
        let mut found = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "parquet") {
                    let away = path.with_extension("away");
                    std::fs::rename(&path, &away).unwrap();
                    found.push((path, away));
                }
            }
        }
        assert!(!found.is_empty());
        Self(found)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        for (path, away) in &self.0 {
            std::fs::rename(away, path).unwrap();
        }
    }
}

#[tokio::test]
async fn a_refresh_that_fails_or_is_given_up_changes_nothing() {
    let mut scene = scene().await;
    scene.push(&[(1, Some(-1)), (2, None)]);
    grown_is_anew(&scene.view()).await;
    scene.push(&[(1, Some(-5)), (50_000, Some(-6)), (3, None)]);
    let view = scene.view();
    let hidden = Hidden::files(scene.folder.path());
    view.resolved().await.unwrap_err();
    view.resolved().await.unwrap_err();
    drop(hidden);
    // Given up at its first wait, and at later ones.
    for waits in 1..6 {
        let view = ReadView {
            overlay: Arc::clone(&view.overlay),
            ..view.anew()
        };
        let mut resolved = Box::pin(view.resolved());
        for _ in 0..waits {
            if futures::poll!(&mut resolved).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let done = work(&scene.view()).await;
    assert!(done.deltas == 3 || done.deltas == 0, "{done:?}");
    grown_is_anew(&scene.view()).await;
}

/// What a scan of the view gives, in this way of reading.
async fn read(view: &Arc<ReadView>, touched: Touched, low: i64) -> Vec<String> {
    let ctx = session(&view.warehouse);
    let table = UnionTable::new(Arc::clone(view), None).unwrap();
    let rows = ctx
        .read_table(Arc::new(table.with_touched(touched)))
        .unwrap();
    let rows = rows.filter(col("v").gt_eq(lit(low))).unwrap();
    lines(&rows.collect().await.unwrap())
}

fn within(view: &ReadView, budget: Budget) -> ReadView {
    ReadView {
        overlay: Arc::new(Overlay::within(budget)),
        ..view.anew()
    }
}

#[tokio::test]
async fn rows_that_find_no_room_are_completed_by_the_query() {
    let mut scene = scene().await;
    let budgets = [Budget::new(0), Budget::new(40_000), Budget::new(200_000)];
    let overlays = budgets.map(|budget| Arc::new(Overlay::within(budget)));
    let pushes: [Vec<(i64, Option<i64>)>; 5] = [
        (0..2_000).map(|row| (row, Some(100_000 + row))).collect(),
        (20_000..20_400).map(|row| (row, None)).collect(),
        (1_500..2_500)
            .map(|row| (row, Some(200_000 + row)))
            .collect(),
        (1_000..1_200).map(|row| (row, None)).collect(),
        // Revived, and rows that the base never had.
        (1_100..1_150)
            .chain(70_000..70_100)
            .map(|row| (row, Some(300_000 + row)))
            .collect(),
    ];
    for edits in pushes {
        scene.push(&edits);
        let view = scene.view();
        for (at, overlay) in overlays.iter().enumerate() {
            let bound = Arc::new(ReadView {
                overlay: Arc::clone(overlay),
                ..view.anew()
            });
            let resolved = bound.resolved().await.unwrap();
            let decided = resolved
                .chunks
                .iter()
                .filter(|held| !held.is_whole())
                .count();
            assert!(decided > 0 || at == 2, "budget {at} bounds something");
            for touched in [Touched::Patched, Touched::Masked, Touched::Joined] {
                for low in [0, 100_500, 300_000] {
                    let found = read(&bound, touched, low).await;
                    let expected = read(&view, Touched::Joined, low).await;
                    assert!(found == expected, "budget {at}, {touched:?} from {low}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_kept_whole_is_given_back_with_the_last_view() {
    let mut scene = scene().await;
    scene.push(&(0..3_000).map(|row| (row, Some(row))).collect::<Vec<_>>());
    let budget = Budget::new(64 << 20);
    let view = within(&scene.view(), budget.clone());
    view.resolved().await.unwrap();
    assert!(budget.reserve(64 << 20).is_none(), "something is kept");
    drop(view);
    assert!(budget.reserve(64 << 20).is_some());
}
