//! The order of a table's rows, as far as its files have it: a scan that says so needs no sort above it.
//!
//! ```text
//!   files sorted by v, disjoint     1 ── 9   9 ─────── 40   41 ── 60
//!   dealt out to two groups         └──── group 1 ──┘└── group 2 ──┘     each in order, of about as many bytes
//! ```
//! **Invariant:** the rows of a group come in the order that is declared. Nulls are outside all bounds, so files with a
//! null in a sorted column follow no other.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use iceberg::spec::{NullOrder, SortDirection, Transform};
use iceberg::table::Table;

use super::file_bounds::field_id;
use crate::lake::DataFileInfo;

/// The order that the rows of each of `files` have by the metadata of `table`, as columns of `schema`; none when they have
/// different ones, or none.
pub(crate) fn declared_order(
    table: &Table,
    schema: &Schema,
    files: &[DataFileInfo],
) -> Option<LexOrdering> {
    let id = files.first()?.sort_order_id?;
    if files.iter().any(|file| file.sort_order_id != Some(id)) {
        return None;
    }
    let order = table.metadata().sort_order_by_id(i64::from(id))?;
    let fields = order.fields.iter().map_while(|field| {
        let mut columns = schema.fields().iter().enumerate();
        let of_field = |column| field_id(column) == Some(field.source_id);
        let (at, column) = columns.find(|(_, column)| of_field(column))?;
        let options = SortOptions {
            descending: field.direction == SortDirection::Descending,
            nulls_first: field.null_order == NullOrder::First,
        };
        let column = Arc::new(Column::new(column.name(), at));
        let known = field.transform == Transform::Identity;
        known.then(|| PhysicalSortExpr::new(column, options))
    });
    LexOrdering::new(fields)
}

/// The same order, and where no file has a null in a sorted column with nulls where SQL expects them unless told
/// otherwise: it makes no difference then, and DataFusion takes the two for different orders.
pub(crate) fn as_asked_for(order: &LexOrdering, files: &[FileGroup]) -> LexOrdering {
    let mut all = files.iter().flat_map(FileGroup::iter);
    if !all.all(|file| span(file, order).is_some()) {
        return order.clone();
    }
    let fields = order.iter().map(|field| {
        let mut field = field.clone();
        field.options.nulls_first = field.options.descending;
        field
    });
    LexOrdering::new(fields).unwrap_or_else(|| order.clone())
}

/// The least and the greatest values of a file's sorted columns, in the order's sense.
struct Span {
    file: PartitionedFile,
    first: Vec<ScalarValue>,
    last: Vec<ScalarValue>,
}

/// The files in groups in which one follows another in `order`: as many groups as `partitions`, or fewer when there is
/// less than `split_bytes_min` to divide. The files come back when they overlap.
///
/// # Errors
/// The files as they were given.
pub(crate) fn in_order(
    files: Vec<PartitionedFile>,
    order: &LexOrdering,
    partitions: usize,
    split_bytes_min: usize,
) -> Result<Vec<FileGroup>, Vec<PartitionedFile>> {
    let spans: Option<Vec<_>> = files.iter().map(|file| span(file, order)).collect();
    let mut spans = match spans {
        Some(spans) => spans,
        // One file follows no other, whatever is in it.
        None if files.len() == 1 => return Ok(dealt(files, partitions, split_bytes_min)),
        None => return Err(files),
    };
    spans.sort_by(|a, b| compare(&a.first, &b.first, order).then(compare(&a.last, &b.last, order)));
    let disjoint = spans
        .windows(2)
        .all(|pair| compare(&pair[0].last, &pair[1].first, order) != Ordering::Greater);
    match disjoint {
        true => {
            let files = spans.into_iter().map(|span| span.file);
            Ok(dealt(files.collect(), partitions, split_bytes_min))
        }
        false => Err(files),
    }
}

fn span(file: &PartitionedFile, order: &LexOrdering) -> Option<Span> {
    let known = file.statistics.as_ref()?;
    let mut span = Span {
        file: file.clone(),
        first: Vec::new(),
        last: Vec::new(),
    };
    for field in order.iter() {
        let column = field.expr.as_any().downcast_ref::<Column>()?;
        let column = known.column_statistics.get(column.index())?;
        if column.null_count != Precision::Exact(0) {
            return None;
        }
        let [least, greatest] = [&column.min_value, &column.max_value];
        let (Precision::Exact(least), Precision::Exact(greatest)) = (least, greatest) else {
            return None;
        };
        let (first, last) = match field.options.descending {
            true => (greatest, least),
            false => (least, greatest),
        };
        span.first.push(first.clone());
        span.last.push(last.clone());
    }
    Some(span)
}

fn compare(a: &[ScalarValue], b: &[ScalarValue], order: &LexOrdering) -> Ordering {
    let fields = a.iter().zip(b).zip(order.iter());
    let each = fields.map(|((a, b), field)| {
        // Values of one column compare.
        let ordering = a.partial_cmp(b).unwrap_or(Ordering::Equal);
        match field.options.descending {
            true => ordering.reverse(),
            false => ordering,
        }
    });
    each.fold(Ordering::Equal, Ordering::then)
}

/// Files that follow one another, cut where the bytes are even.
fn dealt(files: Vec<PartitionedFile>, partitions: usize, split_bytes_min: usize) -> Vec<FileGroup> {
    let bytes: u64 = files.iter().map(|file| file.object_meta.size).sum();
    let count = u64::try_from(partitions.max(1)).unwrap_or(1);
    if usize::try_from(bytes).is_ok_and(|bytes| bytes < split_bytes_min) {
        let each = files.len().div_ceil(partitions.max(1)).max(1);
        let groups = files.chunks(each);
        return groups.map(|files| FileGroup::new(files.to_vec())).collect();
    }
    let share = bytes.div_ceil(count).max(1);
    let mut groups: Vec<Vec<PartitionedFile>> = Vec::new();
    let mut before = 0_u64;
    for file in files {
        let size = file.object_meta.size;
        let mut start = 0;
        while start < size {
            let group = (before + start) / share;
            let end = size.min((group + 1) * share - before);
            let part = match (start, end) {
                (0, end) if end == size => file.clone(),
                (start, end) => file.clone().with_range(signed(start), signed(end)),
            };
            if u64::try_from(groups.len()).is_ok_and(|groups| groups <= group) {
                groups.push(Vec::new());
            }
            groups.last_mut().expect("one was just made").push(part);
            start = end;
        }
        before += size;
    }
    groups.into_iter().map(FileGroup::new).collect()
}

/// A place in a file as DataFusion counts it.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::{ColumnStatistics, Statistics};

    use super::*;

    fn order(descending: bool) -> LexOrdering {
        let options = SortOptions {
            descending,
            nulls_first: false,
        };
        let fields = [("a", 0), ("b", 1)]
            .map(|(name, at)| PhysicalSortExpr::new(Arc::new(Column::new(name, at)), options));
        LexOrdering::new(fields).unwrap()
    }

    /// A file of so many bytes whose `a` and `b` lie between these.
    fn file(
        name: &str,
        bytes: u64,
        (a, b): ((i64, i64), (i64, i64)),
        nulls: usize,
    ) -> PartitionedFile {
        let column = |(least, greatest): (i64, i64)| {
            ColumnStatistics::new_unknown()
                .with_null_count(Precision::Exact(nulls))
                .with_min_value(Precision::Exact(ScalarValue::from(least)))
                .with_max_value(Precision::Exact(ScalarValue::from(greatest)))
        };
        let schema = Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Int64, true),
        ]);
        let mut statistics = Statistics::new_unknown(&schema);
        statistics.column_statistics = vec![column(a), column(b)];
        PartitionedFile::new(name, bytes).with_statistics(Arc::new(statistics))
    }

    fn shown(groups: &[FileGroup]) -> Vec<Vec<String>> {
        let part = |file: &PartitionedFile| match &file.range {
            Some(range) => format!("{}:{}-{}", file.path(), range.start, range.end),
            None => file.path().to_string(),
        };
        let groups = groups.iter();
        groups
            .map(|group| group.iter().map(part).collect())
            .collect()
    }

    fn disjoint() -> Vec<PartitionedFile> {
        vec![
            file("late", 30, ((9, 20), (0, 5)), 0),
            file("first", 10, ((1, 4), (0, 9)), 0),
            // It begins where the first one ends, and so does `b`.
            file("second", 20, ((4, 9), (9, 9)), 0),
        ]
    }

    #[test]
    fn files_that_follow_one_another_are_dealt_out_in_their_order_and_evenly() {
        let mut files = disjoint();
        files[0] = file("late", 30, ((10, 20), (0, 5)), 0);
        let groups = |partitions, from| {
            let groups = in_order(files.clone(), &order(false), partitions, from);
            shown(&groups.unwrap())
        };
        assert_eq!(groups(1, 0), [["first", "second", "late"]]);
        assert_eq!(groups(2, 0), [vec!["first", "second"], vec!["late"]]);
        assert_eq!(
            groups(4, 0),
            [
                vec!["first", "second:0-5"],
                vec!["second:5-20"],
                vec!["late:0-15"],
                vec!["late:15-30"]
            ]
        );
        // Too little to be divided within files.
        assert_eq!(groups(2, 61), [vec!["first", "second"], vec!["late"]]);
        assert_eq!(groups(8, 61), [["first"], ["second"], ["late"]]);
    }

    #[test]
    fn files_that_overlap_in_any_sorted_column_or_hold_nulls_have_no_order_together() {
        // `second` may end with (9, 9) and `late` begin with (9, 0).
        assert!(in_order(disjoint(), &order(false), 2, 0).is_err());
        let nulls = vec![
            file("a", 1, ((1, 2), (1, 2)), 1),
            file("b", 1, ((3, 4), (1, 2)), 0),
        ];
        assert!(in_order(nulls.clone(), &order(false), 2, 0).is_err());
        let unknown = vec![PartitionedFile::new("a", 1), PartitionedFile::new("b", 1)];
        assert!(in_order(unknown, &order(false), 2, 0).is_err());
        // One file has the order that it has.
        assert!(in_order(nulls[..1].to_vec(), &order(false), 2, 0).is_ok());
    }

    #[test]
    fn files_in_descending_order_begin_with_the_greatest() {
        let files = vec![
            file("low", 1, ((1, 3), (1, 1)), 0),
            file("high", 1, ((4, 9), (1, 1)), 0),
        ];
        let groups = in_order(files, &order(true), 1, 0).unwrap();
        assert_eq!(shown(&groups), [["high", "low"]]);
    }
}
