//! Which files a filter leaves out because their rows are in other buckets.
//!
//! The bounds of a file's values say nothing when rows are divided by a hash: every file has small and large ones. The
//! filters that fix a value do: `c = 7`, `c IN (7, 9)`, and what AND and OR make of them.
//!
//! **Invariant:** a file is left out only when no row that it holds can pass the filter; rows that deltas have made of
//! them since are not its own.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{Literal, Transform};
use iceberg::table::Table;

use crate::lake::{DataFileInfo, bucket_of};

/// A bucket field of a partition spec.
#[derive(Clone, Debug)]
struct Bucket {
    spec_id: i32,
    /// Its place in the partition.
    place: usize,
    column: String,
    /// A value of another type has another hash.
    column_type: DataType,
    parts: u32,
}

/// The bucket fields of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buckets(Vec<Bucket>);

impl Buckets {
    /// Of all partition specs that files of `table` may have.
    pub(crate) fn of(table: &Table) -> Self {
        let metadata = table.metadata();
        let schema = metadata.current_schema();
        let specs = metadata.partition_specs_iter();
        let fields = specs.flat_map(|spec| {
            let fields = spec.fields().iter().enumerate();
            fields.filter_map(|(place, field)| match field.transform {
                Transform::Bucket(parts) => {
                    let column = schema.field_by_id(field.source_id)?;
                    Some(Bucket {
                        spec_id: spec.spec_id(),
                        place,
                        column: column.name.clone(),
                        column_type: type_to_arrow_type(&column.field_type).ok()?,
                        parts,
                    })
                }
                _ => None,
            })
        });
        Self(fields.collect())
    }

    /// For each file, whether the filters leave it out.
    pub(crate) fn leave_out(&self, filters: &[Expr], files: &[DataFileInfo]) -> Vec<bool> {
        let wishes: Vec<Wish> = filters.iter().map(|filter| self.wish(filter)).collect();
        let wished = |file: &DataFileInfo| wishes.iter().all(|wish| wish.may_be_in(file));
        files.iter().map(|file| !wished(file)).collect()
    }

    fn wish(&self, filter: &Expr) -> Wish {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => Wish::All(vec![self.wish(left), self.wish(right)]),
                Operator::Or => Wish::Any(vec![self.wish(left), self.wish(right)]),
                Operator::Eq => match (left.as_ref(), right.as_ref()) {
                    (Expr::Column(column), Expr::Literal(value, _))
                    | (Expr::Literal(value, _), Expr::Column(column)) => {
                        self.of_value(&column.name, value)
                    }
                    _ => Wish::Unknown,
                },
                _ => Wish::Unknown,
            },
            Expr::InList(list) if !list.negated => match list.expr.as_ref() {
                Expr::Column(column) => {
                    let values = list.list.iter().map(|value| match value {
                        Expr::Literal(value, _) => self.of_value(&column.name, value),
                        _ => Wish::Unknown,
                    });
                    Wish::Any(values.collect())
                }
                _ => Wish::Unknown,
            },
            _ => Wish::Unknown,
        }
    }

    fn of_value(&self, column: &str, value: &ScalarValue) -> Wish {
        let stored = match value {
            ScalarValue::Utf8View(text) => &ScalarValue::Utf8(text.clone()),
            other => other,
        };
        let fields = self.0.iter().filter(|field| field.column == column);
        let wishes = fields.map(|field| match bucket_of(field.parts, stored) {
            Some(bucket) if stored.data_type() == field.column_type => {
                Wish::Bucket(field.clone(), bucket)
            }
            _ => Wish::Unknown,
        });
        Wish::All(wishes.collect())
    }
}

/// What a filter asks of a file.
#[derive(Debug)]
enum Wish {
    /// Nothing that is known here.
    Unknown,
    /// Rows of this bucket.
    Bucket(Bucket, i32),
    All(Vec<Wish>),
    Any(Vec<Wish>),
}

impl Wish {
    fn may_be_in(&self, file: &DataFileInfo) -> bool {
        match self {
            Self::Unknown => true,
            Self::All(wishes) => wishes.iter().all(|wish| wish.may_be_in(file)),
            Self::Any(wishes) => wishes.iter().any(|wish| wish.may_be_in(file)),
            Self::Bucket(field, _) if field.spec_id != file.spec_id => true,
            // A row whose value is null equals nothing.
            Self::Bucket(field, bucket) => match file.partition.iter().nth(field.place) {
                Some(value) => value == Some(&Literal::int(*bucket)),
                None => true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use datafusion::logical_expr::{col, lit};
    use iceberg::spec::{DataContentType, Struct};

    use super::*;

    const PARTS: u32 = 8;

    fn buckets() -> Buckets {
        let field = |place, column: &str, column_type| Bucket {
            spec_id: 1,
            place,
            column: column.to_owned(),
            column_type,
            parts: PARTS,
        };
        Buckets(vec![
            field(0, "n", DataType::Int64),
            field(1, "s", DataType::Utf8),
        ])
    }

    fn file(spec_id: i32, n: Option<i32>, s: Option<i32>) -> DataFileInfo {
        DataFileInfo {
            path: String::new(),
            content: DataContentType::Data,
            format: iceberg::spec::DataFileFormat::Parquet,
            bytes: 1,
            rows: 1,
            partition: Struct::from_iter([n.map(Literal::int), s.map(Literal::int)]),
            spec_id,
            lower_bounds: HashMap::new(),
            upper_bounds: HashMap::new(),
            null_counts: HashMap::new(),
            sort_order_id: None,
            sequence_number: 1,
            snapshot_id: None,
            referenced_data_file: None,
            equality_ids: Vec::new(),
        }
    }

    /// The buckets of `n` that a filter leaves.
    fn left(filter: Expr) -> Vec<i32> {
        let parts = i32::try_from(PARTS).unwrap();
        let files: Vec<_> = (0..parts).map(|n| file(1, Some(n), Some(0))).collect();
        let out = buckets().leave_out(&[filter], &files);
        let kept = (0..parts).zip(out).filter(|(_, out)| !out);
        kept.map(|(n, _)| n).collect()
    }

    #[test]
    fn a_value_is_in_its_bucket_and_in_no_other() {
        let of = |n: i64| bucket_of(PARTS, &ScalarValue::from(n)).unwrap();
        let all: Vec<i32> = (0..8).collect();
        // Iceberg's own example: the hash of 34 is 2017239379.
        assert_eq!(of(34), 2_017_239_379 % 8);
        let (one, other) = (1..100)
            .map(|n| (34, n))
            .find(|(a, b)| of(*a) != of(*b))
            .unwrap();
        let mut both = vec![of(one), of(other)];
        both.sort_unstable();
        assert_eq!(left(col("n").eq(lit(one))), [of(one)]);
        assert_eq!(left(lit(one).eq(col("n"))), [of(one)]);
        assert_eq!(
            left(col("n").in_list(vec![lit(one), lit(other)], false)),
            both
        );
        assert_eq!(
            left(col("n").eq(lit(one)).or(col("n").eq(lit(other)))),
            both
        );
        assert_eq!(
            left(col("n").eq(lit(one)).and(col("n").gt(lit(7_i64)))),
            [of(one)]
        );
        assert!(left(col("n").eq(lit(one)).and(col("n").eq(lit(other)))).is_empty());
        for nothing_known in [
            col("n").gt(lit(one)),
            col("n").not_eq(lit(one)),
            col("n").in_list(vec![lit(one)], true),
            col("n").eq(lit(one)).or(col("m").eq(lit(1))),
            col("n").eq(lit(34_i32)),
            col("n").eq(lit(ScalarValue::Int64(None))),
            !(col("n").eq(lit(one))),
        ] {
            assert_eq!(left(nothing_known.clone()), all, "{nothing_known}");
        }
    }

    #[test]
    fn nulls_and_other_specs_are_known_for_what_they_are() {
        let filter = [col("n").eq(lit(34_i64))];
        let files = [
            file(1, None, Some(0)),
            file(2, None, None),
            file(1, Some(3), None),
        ];
        assert_eq!(buckets().leave_out(&filter, &files), [true, false, false]);
    }
}
