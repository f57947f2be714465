//! The row ids that somebody looks for in the files of a base, and which of them a file may have.
//!
//! A file is spared by the bounds of its manifest entry, then by those of its row groups: row ids that grow with time
//! (UUIDv7, counters) meet few files, and the key indexes of the others are neither loaded nor made.
//!
//! **Invariant:** an id that is left out is in no row of the file.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use iceberg::spec::{Datum, PrimitiveLiteral};
use lakesync_proto::{RowId, columns};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::key_index::KeyIndex;
use super::key_indexes::KeyIndexes;
use super::seed::Seed;
use crate::lake::DataFileInfo;

/// Row ids, ascending, each once.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    ids: Vec<&'a RowId>,
    /// Their hashes by each seed that an index has: nearly always the same one.
    hashes: Mutex<HashMap<Seed, Arc<[u64]>>>,
}

impl<'a> Asked<'a> {
    /// These, which are ascending and each there once.
    pub(super) fn new(ids: Vec<&'a RowId>) -> Self {
        Self {
            ids,
            hashes: Mutex::default(),
        }
    }

    /// Which of them `id` is.
    pub(super) fn place(&self, id: &str) -> Option<u32> {
        let place = self.ids.binary_search_by(|known| known.as_str().cmp(id));
        let place = place.ok()?;
        Some(u32::try_from(place).expect("nobody asks for 4 billion rows"))
    }

    /// Those that a file may have by its manifest entry, in which the row ids have the field id `field`.
    pub(super) fn within_file(&self, info: &DataFileInfo, field: Option<i32>) -> Range<usize> {
        let side = |bounds: &'_ HashMap<i32, Datum>| match bounds.get(&field?)?.literal() {
            PrimitiveLiteral::String(text) => Some(text.clone().into_bytes()),
            _ => None,
        };
        let (lower, upper) = (side(&info.lower_bounds), side(&info.upper_bounds));
        self.within(lower.as_deref(), upper.as_deref())
    }

    /// Those of `range` that a file may have by the statistics of its row groups.
    pub(super) fn within_groups(
        &self,
        range: Range<usize>,
        footer: &ParquetMetaData,
    ) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for group in footer.row_groups() {
            let (lower, upper) = bounds(group);
            let some = self.within(lower, upper);
            let some = some.start.max(range.start)..some.end.min(range.end);
            if !some.is_empty() {
                found.push(some);
            }
        }
        found.sort_unstable_by_key(|some| some.start);
        let mut end = 0;
        for some in &mut found {
            some.start = some.start.max(end);
            end = end.max(some.end);
        }
        found.retain(|some| !some.is_empty());
        found
    }

    /// The positions where the file of `index` may have those of `ranges`, ascending.
    pub(super) fn positions(
        &self,
        ranges: &[Range<usize>],
        index: &KeyIndex,
        indexes: &KeyIndexes,
    ) -> Vec<u32> {
        let hashes = self.hashes(index.seed(), indexes);
        let hashes = ranges.iter().flat_map(|range| &hashes[range.clone()]);
        let found = hashes.flat_map(|hash| index.find(*hash));
        let mut positions: Vec<u32> = found.collect();
        positions.sort_unstable();
        positions.dedup();
        positions
    }

    fn within(&self, lower: Option<&[u8]>, upper: Option<&[u8]>) -> Range<usize> {
        let below = |bound: &[u8], id: &&RowId| id.as_str().as_bytes() < bound;
        let start = lower.map_or(0, |lower| self.ids.partition_point(|id| below(lower, id)));
        let end = upper.map_or(self.ids.len(), |upper| {
            let up_to = |id: &&RowId| id.as_str().as_bytes() <= upper;
            self.ids.partition_point(up_to)
        });
        start..end.max(start)
    }

    fn hashes(&self, seed: Seed, indexes: &KeyIndexes) -> Arc<[u64]> {
        // Whoever panics here has changed nothing.
        let mut known = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let hashes = known.entry(seed).or_insert_with(|| {
            let ids = self.ids.iter();
            ids.map(|id| indexes.hash(seed, id.as_str())).collect()
        });
        Arc::clone(hashes)
    }
}

/// The bounds of a row group's row ids; a side that is not known is open.
fn bounds(group: &RowGroupMetaData) -> (Option<&[u8]>, Option<&[u8]>) {
    let mut columns = group.columns().iter();
    let ids = columns.find(|column| column.column_path().string() == columns::ROW_ID);
    match ids.and_then(|ids| ids.statistics()) {
        // The deprecated ones may be of another order.
        Some(known @ Statistics::ByteArray(_)) if !known.is_min_max_deprecated() => {
            (known.min_bytes_opt(), known.max_bytes_opt())
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{DataContentType, DataFileFormat, Struct};

    use super::*;

    const FIELD: i32 = 1;

    fn file(lower: Option<&str>, upper: Option<&str>) -> DataFileInfo {
        let bound = |text: Option<&str>| {
            let bounds = text.map(|text| (FIELD, Datum::string(text)));
            bounds.into_iter().collect()
        };
        DataFileInfo {
            path: "file:///f".to_owned(),
            content: DataContentType::Data,
            format: DataFileFormat::Parquet,
            bytes: 1,
            rows: 1,
            partition: Struct::empty(),
            spec_id: 0,
            lower_bounds: bound(lower),
            upper_bounds: bound(upper),
            null_counts: HashMap::new(),
            sort_order_id: None,
            sequence_number: 1,
            snapshot_id: None,
            referenced_data_file: None,
            equality_ids: Vec::new(),
        }
    }

    #[test]
    fn a_file_may_have_the_ids_between_its_bounds_and_those_at_them() {
        let ids = ["a", "b", "c", "ca", "d"].map(|id| RowId::parse(id).unwrap());
        let asked = Asked::new(ids.iter().collect());
        let within = |lower, upper| asked.within_file(&file(lower, upper), Some(FIELD));
        assert_eq!(within(Some("b"), Some("c")), 1..3);
        assert_eq!(within(Some("b"), None), 1..5);
        assert_eq!(within(None, Some("c")), 0..3);
        assert_eq!(within(None, None), 0..5);
        assert!(within(Some("cb"), Some("cz")).is_empty());
        assert!(within(Some("e"), None).is_empty());
        assert!(within(None, Some("A")).is_empty());
        // Bounds of another column are none.
        assert_eq!(asked.within_file(&file(Some("e"), None), Some(2)), 0..5);
        assert_eq!(asked.place("ca"), Some(3));
        assert_eq!(asked.place("e"), None);
    }
}
