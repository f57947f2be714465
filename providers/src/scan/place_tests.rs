//! Places of touched rows: with and without key indexes, whatever the hash, in parts, and confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array as _, Int64Array, RecordBatch, StringArray};
use lakesync_proto::{Hlc, columns};

use super::key_indexes::Limits;
use super::seed::Seed;
use super::tests::{Scene, row_id, scene, scene_of};
use super::*;
use crate::fold::Part;
use crate::lake::{
    Commit, PositionDeletes, WriteOptions, write_data_files, write_position_deletes,
};
use crate::session::session;

/// What is found of a row: its file and position, when it is confirmed.
type Found = BTreeMap<String, Option<(i32, i64)>>;

const LATE_TO: u64 = 100;

/// Deltas of these rows: each has its place in the list as its seq and HLC.
fn deltas(rows: &[i64]) -> RecordBatch {
    let ids = rows.iter().map(|v| row_id(*v).to_string());
    let count = i64::try_from(rows.len()).unwrap();
    let hlcs = (0..count).map(|n| Hlc::new(u64::try_from(n).unwrap() + 1, 0).unwrap().as_i64());
    let batch = RecordBatch::try_from_iter([
        (
            columns::ROW_ID,
            Arc::new(StringArray::from_iter_values(ids)) as _,
        ),
        (
            columns::SEQ,
            Arc::new(Int64Array::from_iter_values(0..count)) as _,
        ),
        (
            columns::HLC,
            Arc::new(Int64Array::from_iter_values(hlcs)) as _,
        ),
    ]);
    batch.unwrap()
}

/// Looks rows up, in one of `of` parts after another, and confirms what is found.
async fn find(indexes: &KeyIndexes, scene: &Scene, rows: &[i64], of: u64) -> Found {
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let late_to = Hlc::new(LATE_TO, 0).unwrap();
    let mut found = Found::new();
    for index in 0..of {
        let part = Part { index, of };
        let expected = (u64::try_from(rows.len()).unwrap() / 2, late_to);
        let touched = TouchedRows::with_indexes(indexes.clone(), (&ctx, &base), part, expected);
        let mut touched = touched.await.unwrap();
        for some in rows.chunks(1_000) {
            touched.add(&deltas(some)).unwrap();
        }
        let places = touched.find().await.unwrap();
        let mut asked: Vec<String> = rows.iter().map(|v| row_id(*v).to_string()).collect();
        asked.sort();
        asked.dedup();
        let keys = places.keys(&StringArray::from_iter_values(&asked));
        let mut keyed: Vec<(i64, String)> = keys
            .iter()
            .zip(asked)
            .filter_map(|(key, id)| Some((key?, id)))
            .collect();
        keyed.sort();
        let mut check = PlaceCheck::new(&ctx, &base, places.by_file().to_vec());
        for some in keyed.chunks(77) {
            let keys: Vec<i64> = some.iter().map(|(key, _)| *key).collect();
            let ids = StringArray::from_iter_values(some.iter().map(|(_, id)| id));
            let confirmed = check.confirm(&keys, &ids).await.unwrap();
            for ((key, id), holds) in some.iter().zip(&confirmed) {
                let place = Places::of_key(*key).filter(|_| holds == Some(true));
                assert_eq!(found.insert(id.clone(), place), None, "{id} is of one part");
            }
        }
        let counted: u64 = places.by_file().iter().sum::<u64>() + places.elsewhere();
        assert!(counted <= u64::try_from(keyed.len()).unwrap());
    }
    found
}

fn expected(rows: impl IntoIterator<Item = i64>) -> Found {
    let place = |v: i64| match v {
        0..1_000 => Some((0, v)),
        1_000..51_000 => Some((1, v - 1_000)),
        _ => None,
    };
    let rows = rows.into_iter();
    rows.map(|v| (row_id(v).to_string(), place(v))).collect()
}

#[tokio::test]
async fn rows_are_found_with_an_index_and_without_few_and_many_in_one_part_and_in_several() {
    let scene = scene().await;
    let many: Vec<i64> = (0..60_000).step_by(3).chain([7, 7, 50_999]).collect();
    let few = [999, 0, 77_777, 1_000, 50_999, 0];
    for indexed in [false, true] {
        let indexes = KeyIndexes::new(Limits::default());
        if indexed {
            make(&indexes, &scene).await;
        }
        for of in [1, 3] {
            assert_eq!(find(&indexes, &scene, &few, of).await, expected(few));
            let found = find(&indexes, &scene, &many, of).await;
            assert_eq!(found, expected(many.iter().copied()));
        }
    }
}

#[tokio::test]
async fn rows_whose_hashes_meet_are_told_apart_by_their_ids() {
    let scene = scene_of(&[(0..1_000, 100), (1_000..1_500, 100)], row_id).await;
    let rows: Vec<i64> = (0..2_000).step_by(7).collect();
    let hashes: [fn(Seed, &[u8]) -> u64; 2] =
        [|_, _| 7, |seed, id| seed.hash(id) & 0xf000_0000_0000_0003];
    for hash in hashes {
        let indexes = KeyIndexes::with_hash(Limits::default(), hash);
        let found = find(&indexes, &scene, &rows, 1).await;
        for (id, place) in &found {
            let v: i64 = id.strip_prefix("row ").unwrap().parse().unwrap();
            let expected = match v {
                0..1_000 => Some((0, v)),
                1_000..1_500 => Some((1, v - 1_000)),
                _ => None,
            };
            assert_eq!(*place, expected, "{id}");
        }
        assert_eq!(found.len(), rows.len());
    }
}

#[tokio::test]
async fn keys_order_places_and_then_arrivals_and_late_rows_are_marked() {
    let scene = scene().await;
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let late_to = Hlc::new(2, 0).unwrap();
    let mut touched = TouchedRows::new(&ctx, &base, Part::WHOLE, (9, late_to))
        .await
        .unwrap();
    touched
        .add(&deltas(&[90_000, 1_001, 80_000, 5, 90_000, 70_000]))
        .unwrap();
    let places = touched.find().await.unwrap();
    assert_eq!((places.by_file(), places.elsewhere()), (&[1, 1][..], 3));
    let ids = [5, 1_001, 90_000, 80_000, 70_000, 4].map(|v| row_id(v).to_string());
    let ids = StringArray::from_iter_values(ids);
    let keys = places.keys(&ids);
    assert!(keys.is_null(5), "nobody asked for it");
    let known = &keys.values()[..5];
    assert!(known.is_sorted(), "{known:?}");
    let late: Vec<bool> = places.late(&ids).iter().flatten().collect();
    assert_eq!(late, [false, true, true, false, false, false]);
}

#[tokio::test]
async fn a_dead_position_is_no_place_and_a_row_that_lives_elsewhere_is_found_there() {
    let scene = scene().await;
    let view = scene.view();
    let base = &view.base.table;
    let files = view.base.data_files(&view.warehouse).await.unwrap();
    // Row 5 is dead and replaced, row 6 is dead, and of the other file every second row is.
    let dead = [
        (0, BTreeSet::from([5, 6])),
        (1, (0..50_000).step_by(2).collect()),
    ];
    let dead = dead.map(
        |(file, positions): (usize, BTreeSet<u64>)| PositionDeletes {
            path: files[file].path.clone(),
            partition: files[file].partition.clone(),
            positions: positions.into_iter().collect(),
        },
    );
    let options = WriteOptions::new("test");
    let row = RecordBatch::try_from_iter([(
        "row_id",
        Arc::new(StringArray::from(vec![row_id(5).to_string()])) as _,
    )]);
    let new = write_data_files(base, vec![row.unwrap()], &options);
    let deletes = write_position_deletes(base, &dead, &options).await.unwrap();
    let commit = Commit::row_delta(new.await.unwrap(), deletes);
    let committed = commit
        .run(&view.warehouse, base.identifier())
        .await
        .unwrap();
    scene.live.compacted(view.table(), committed).unwrap();

    let view = scene.view();
    let files = view.base.data_files(&view.warehouse).await.unwrap();
    let new = files.iter().position(|file| file.rows == 1).unwrap();
    let old = files.iter().position(|file| file.rows == 1_000).unwrap();
    let large = files.iter().position(|file| file.rows == 50_000).unwrap();
    let [new, old, large] = [new, old, large].map(|at| i32::try_from(at).unwrap());
    for indexed in [false, true] {
        let indexes = KeyIndexes::new(Limits::default());
        if indexed {
            make(&indexes, &scene).await;
        }
        let found = find(&indexes, &scene, &[5, 6, 7, 1_000, 1_001], 1).await;
        let expected = [
            (5, Some((new, 0))),
            (6, None),
            (7, Some((old, 7))),
            (1_000, None),
            (1_001, Some((large, 1))),
        ];
        let expected = expected.map(|(v, place)| (row_id(v).to_string(), place));
        assert_eq!(found, Found::from(expected), "indexed: {indexed}");
    }
}

/// Makes the indexes of a scene's two files, beside them where they are worth it.
async fn make(indexes: &KeyIndexes, scene: &Scene) {
    let view = scene.view();
    let ctx = session(&view.warehouse);
    let base = view.base.scan(&view.warehouse).await.unwrap();
    let ids = [row_id(1), row_id(1_001)];
    let mut locator = Locator::new(indexes, &ctx, &base, ids.iter().collect())
        .unwrap()
        .unwrap();
    while let Next::Rows(_) = locator.next(Columns::RowId).await.unwrap() {}
}
