//! Key indexes on data files: kept beside them, damaged, shared, cancelled, within their memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use futures::FutureExt as _;
use lakesync_proto::RowId;

use super::key_index_file::key_index_uri;
use super::key_indexes::{Beside, Limits};
use super::tests::{Scene, numbers, row_id, scene, scene_of};
use super::*;
use crate::resolve::ids_of;
use crate::session::session;
use crate::union::Touched;

/// Limits under which nothing is kept beside the data files.
fn within(bytes_max: u64) -> Limits {
    Limits {
        bytes_max,
        beside: Beside::Never,
        ..Limits::default()
    }
}

/// Where the rows with these ids are.
async fn find(
    indexes: &KeyIndexes,
    scene: &Scene,
    ids: &[RowId],
) -> Option<BTreeMap<RowId, Place>> {
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let ids: BTreeSet<&RowId> = ids.iter().collect();
    let asked: Vec<&RowId> = ids.into_iter().collect();
    let mut locator = Locator::new(indexes, &ctx, &base, asked.clone()).unwrap()?;
    let mut places = BTreeMap::new();
    loop {
        match locator.next(Columns::All).await.unwrap() {
            Next::Rows(found) => {
                let read = ids_of(&found.rows).unwrap();
                for ((place, at), id) in found.places.into_iter().zip(&read) {
                    let asked = asked[usize::try_from(at).unwrap()];
                    assert_eq!(id, Some(asked.as_str()));
                    assert_eq!(places.insert(asked.clone(), place), None);
                }
            }
            Next::End => return Some(places),
            Next::Unknown => return None,
        }
    }
}

/// The ids that are found among those of the rows, and how many rows are masked.
async fn found(indexes: &KeyIndexes, scene: &Scene, rows: &[i64]) -> Option<(Vec<RowId>, u64)> {
    let ids: Vec<RowId> = rows.iter().copied().map(row_id).collect();
    let located = find(indexes, scene, &ids).await?;
    let masked = u64::try_from(located.len()).unwrap();
    Some((located.into_keys().collect(), masked))
}

/// The index beside the larger file of a scene.
async fn beside(scene: &Scene) -> PathBuf {
    let view = scene.view();
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let larger = base.files().iter().max_by_key(|file| file.rows).unwrap();
    let uri = key_index_uri(&larger.path);
    PathBuf::from(uri.strip_prefix("file://").unwrap())
}

const ROWS: [i64; 4] = [999, 0, 77_777, 1_000];

fn expected() -> Option<(Vec<RowId>, u64)> {
    Some((vec![row_id(0), row_id(1_000), row_id(999)], 3))
}

#[tokio::test]
async fn an_index_that_names_too_much_masks_no_row_too_many() {
    let scene = scene().await;
    let sharp = KeyIndexes::new(within(1 << 20));
    // A hash that knows no difference.
    let blind = KeyIndexes::with_hash(within(1 << 20), |_, _| 7);
    for _again in 0..2 {
        assert_eq!(found(&sharp, &scene, &ROWS).await, expected());
        assert_eq!(found(&blind, &scene, &ROWS).await, expected());
    }
}

#[tokio::test]
async fn indexes_that_have_no_room_are_not_made() {
    let scene = scene().await;
    // The 50,000 rows of one file take 50,000 × 8 bytes and those of the buckets; the 1,000 of the other are few.
    for bytes_max in [0, 408_000] {
        let small = KeyIndexes::new(within(bytes_max));
        assert_eq!(found(&small, &scene, &ROWS).await, None);
        assert_eq!(small.made(), 0);
    }
    let large = KeyIndexes::new(within(460_000));
    assert_eq!(found(&large, &scene, &ROWS).await, expected());
}

#[tokio::test]
async fn a_file_that_is_read_in_many_passes_has_the_same_index() {
    let scene = scene().await;
    let small = KeyIndexes::new(Limits {
        build_bytes_max: 50_000,
        ..within(1 << 20)
    });
    let ids: Vec<RowId> = (0..60_000).step_by(7).map(row_id).collect();
    let located = find(&small, &scene, &ids).await.unwrap();
    assert_eq!(located.len(), 51_000_usize.div_ceil(7));
    let places: BTreeSet<Place> = located.values().copied().collect();
    assert_eq!(places.len(), located.len());
    for (id, place) in &located {
        let v = i64::from(place.position) + if place.file == 0 { 0 } else { 1_000 };
        assert_eq!(*id, row_id(v));
    }
}

#[tokio::test]
async fn an_index_outlives_its_process_beside_its_file() {
    let scene = scene().await;
    let path = beside(&scene).await;
    let first = KeyIndexes::new(Limits::default());
    assert!(!path.exists());
    assert_eq!(found(&first, &scene, &ROWS).await, expected());
    assert_eq!(first.made(), 2);
    let bytes = fs::metadata(&path).unwrap().len();
    assert!(bytes <= 50_000 * 9 + 256, "{bytes}");
    // That of the smaller file is not worth a file.
    let second = KeyIndexes::new(Limits::default());
    assert_eq!(found(&second, &scene, &ROWS).await, expected());
    assert_eq!(second.made(), 1);
    // Nothing takes it for data.
    let view = scene.view();
    let ctx = session(&view.warehouse);
    assert_eq!(
        numbers(scene.frame(&ctx, Touched::Masked)).await.len(),
        51_000
    );
}

#[tokio::test]
async fn whatever_lies_in_an_indexs_place_the_rows_are_found_and_a_good_one_is_put_there() {
    let scene = scene().await;
    let other = scene_of(&[(0..50_000, 60_000)], row_id).await;
    let path = beside(&scene).await;
    let made = KeyIndexes::new(Limits::default());
    found(&made, &scene, &ROWS).await;
    found(&made, &other, &ROWS).await;
    let good = fs::read(&path).unwrap();
    let of_another = fs::read(beside(&other).await).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let broken = [
        Vec::new(),
        b"not an index".to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        [good.clone(), vec![0; 5]].concat(),
        vec![0; good.len()],
        vec![7; 4 << 20],
        of_another,
        flipped(7),
        flipped(30),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
    ];
    for (n, bytes) in broken.into_iter().enumerate() {
        fs::write(&path, &bytes).unwrap();
        let indexes = KeyIndexes::new(Limits::default());
        assert_eq!(found(&indexes, &scene, &ROWS).await, expected(), "{n}");
        assert_eq!(indexes.made(), 2, "{n}");
        let again = KeyIndexes::new(Limits::default());
        found(&again, &scene, &ROWS).await;
        assert_eq!(again.made(), 1, "{n}");
    }
    // Where it can be neither read nor written, it is made for this process.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let indexes = KeyIndexes::new(Limits::default());
    assert_eq!(found(&indexes, &scene, &ROWS).await, expected());
    assert_eq!(indexes.made(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_at_once_share_one_index_of_each_file() {
    let scene = scene().await;
    let indexes = KeyIndexes::new(within(1 << 20));
    let asking = (0..20).map(|_| found(&indexes, &scene, &ROWS));
    for found in futures::future::join_all(asking).await {
        assert_eq!(found, expected());
    }
    assert_eq!(indexes.made(), 2);
}

#[tokio::test]
async fn a_query_that_is_cancelled_while_an_index_is_made_leaves_it_to_others() {
    let scene = scene().await;
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    // The footers are known then, so that nothing else is waited for.
    found(&KeyIndexes::new(within(1 << 20)), &scene, &ROWS).await;
    let indexes = KeyIndexes::new(within(1 << 20));
    let id = row_id(20_000);
    let mut locator = Locator::new(&indexes, &ctx, &base, vec![&id])
        .unwrap()
        .unwrap();
    let mut asking = Box::pin(locator.next(Columns::All));
    // The index is made by a task of its own, which begins while this one waits.
    while indexes.made() == 0 {
        assert!(asking.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(asking);
    drop(locator);
    let located = find(&indexes, &scene, std::slice::from_ref(&id)).await;
    assert_eq!(located.unwrap().len(), 1);
    // By its text the id may be in either file.
    assert_eq!(indexes.made(), 2);
}

fn dense(v: i64) -> RowId {
    RowId::parse(&format!("{v:08}")).unwrap()
}

#[tokio::test]
async fn of_a_thousand_files_only_those_that_may_have_a_row_are_indexed() {
    let files: Vec<_> = (0..1_000).map(|n| (n * 10..n * 10 + 10, 100)).collect();
    let scene = scene_of(&files, dense).await;
    let indexes = KeyIndexes::new(within(1 << 20));
    // Below, above and between the files' bounds there is no row.
    for id in ["", "0", "00000009x", "99999999", "z"] {
        let ids = RowId::parse(id).into_iter().collect::<Vec<_>>();
        assert_eq!(find(&indexes, &scene, &ids).await.unwrap().len(), 0);
    }
    assert_eq!(indexes.made(), 0);
    let ids = [dense(17), dense(18), dense(9_990), dense(10_000)];
    let located = find(&indexes, &scene, &ids).await.unwrap();
    assert_eq!(
        located.keys().collect::<Vec<_>>(),
        [&ids[0], &ids[1], &ids[2]]
    );
    let files: BTreeSet<u32> = located.values().map(|place| place.file).collect();
    assert_eq!(files.len(), 2);
    assert_eq!(indexes.made(), 2);
}

#[tokio::test]
async fn a_row_that_lies_between_the_row_groups_of_a_file_needs_no_index() {
    let scene = scene_of(&[(0..100, 10)], |v| dense(v / 10 * 100 + v % 10)).await;
    let indexes = KeyIndexes::new(within(1 << 20));
    let between = [dense(50), dense(150), dense(899)];
    assert!(find(&indexes, &scene, &between).await.unwrap().is_empty());
    assert_eq!(indexes.made(), 0);
    let ids = [dense(50), dense(109), dense(800)];
    let located = find(&indexes, &scene, &ids).await.unwrap();
    assert_eq!(located.keys().collect::<Vec<_>>(), [&ids[1], &ids[2]]);
}
