//! Bounds of a length that manifests can bear.
//!
//! **Invariant**: a shortened bound still holds: a prefix of a lower bound is below it; an upper bound
//! that is too long is left out.

use std::collections::HashMap;

use iceberg::spec::{DataFile, DataFileBuilder, Datum, PrimitiveLiteral};
use iceberg::{Error, ErrorKind, Result};

/// Longer bounds than this are shortened, bytes. A value may be megabytes long (a JSON document), and
/// a manifest holds two bounds for every column of every file.
const BOUND_BYTES_MAX: usize = 256;

/// The same data file with bounds of at most [`BOUND_BYTES_MAX`] bytes, and with the id of its rows' order.
pub(super) fn limit(file: DataFile, sort_order_id: Option<i32>) -> Result<DataFile> {
    let bounds = file
        .lower_bounds()
        .values()
        .chain(file.upper_bounds().values());
    if sort_order_id.is_none()
        && bounds
            .map(length_bytes)
            .all(|bytes| bytes <= BOUND_BYTES_MAX)
    {
        return Ok(file);
    }
    let lower = file.lower_bounds().iter();
    let lower: HashMap<_, _> = lower.map(|(id, bound)| (*id, shortened(bound))).collect();
    let upper = file.upper_bounds().iter();
    let upper: HashMap<_, _> = upper
        .filter(|(_, bound)| length_bytes(bound) <= BOUND_BYTES_MAX)
        .map(|(id, bound)| (*id, bound.clone()))
        .collect();
    let mut limited = DataFileBuilder::default();
    if let Some(id) = sort_order_id {
        limited.sort_order_id(id);
    }
    limited
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(lower)
        .upper_bounds(upper)
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .build()
        .map_err(|e| Error::new(ErrorKind::DataInvalid, e.to_string()))
}

fn length_bytes(bound: &Datum) -> usize {
    match bound.literal() {
        PrimitiveLiteral::String(text) => text.len(),
        PrimitiveLiteral::Binary(bytes) => bytes.len(),
        _ => 0,
    }
}

fn shortened(bound: &Datum) -> Datum {
    match bound.literal() {
        PrimitiveLiteral::String(text) if text.len() > BOUND_BYTES_MAX => {
            Datum::string(&text[..text.floor_char_boundary(BOUND_BYTES_MAX)])
        }
        PrimitiveLiteral::Binary(bytes) if bytes.len() > BOUND_BYTES_MAX => {
            Datum::binary(bytes[..BOUND_BYTES_MAX].iter().copied())
        }
        _ => bound.clone(),
    }
}

#[cfg(test)]
mod tests {
    use iceberg::spec::{DataContentType, DataFileFormat};

    use super::*;

    fn limited(lower: Datum, upper: Datum) -> (Option<Datum>, Option<Datum>) {
        let mut file = DataFileBuilder::default();
        file.content(DataContentType::Data)
            .file_path("f".to_owned())
            .file_format(DataFileFormat::Parquet)
            .record_count(1)
            .file_size_in_bytes(1)
            .lower_bounds(HashMap::from([(1, lower)]))
            .upper_bounds(HashMap::from([(1, upper)]));
        let file = limit(file.build().unwrap(), None).unwrap();
        (
            file.lower_bounds().get(&1).cloned(),
            file.upper_bounds().get(&1).cloned(),
        )
    }

    #[test]
    fn short_bounds_stay_exact() {
        let (a, z) = (
            Datum::string("a".repeat(256)),
            Datum::string("z".repeat(256)),
        );
        assert_eq!(limited(a.clone(), z.clone()), (Some(a), Some(z)));
    }

    #[test]
    fn long_bounds_stay_true() {
        let (lower, upper) = limited(
            Datum::string("ä".repeat(1_000_000)),
            Datum::string("z".repeat(257)),
        );
        assert_eq!(lower, Some(Datum::string("ä".repeat(128))));
        assert_eq!(upper, None);
        let odd = format!("x{}", "ä".repeat(200));
        let (lower, _) = limited(Datum::string(&odd), Datum::string("z"));
        assert_eq!(lower, Some(Datum::string(format!("x{}", "ä".repeat(127)))));
        let (lower, upper) = limited(Datum::binary(vec![1; 300]), Datum::binary(vec![9; 300]));
        assert_eq!((lower, upper), (Some(Datum::binary(vec![1; 256])), None));
    }
}
