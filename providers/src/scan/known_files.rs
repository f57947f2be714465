//! The files of one snapshot with what their manifests say of them, worked out once for all plans over the snapshot.
//!
//! **Invariant:** no file is opened: a plan over a thousand files reads nothing.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Statistics};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::utils::conjunction;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::table::Table;

use super::buckets::Buckets;
use super::carried_bounds::bounds_decide;
use super::file_bounds::file_bounds;
use super::file_order::declared_order;
use super::table_statistics::table_statistics;
use crate::lake::DataFileInfo;

/// The files of one snapshot.
#[derive(Debug)]
pub(crate) struct KnownFiles {
    infos: Arc<[DataFileInfo]>,
    order: Option<LexOrdering>,
    buckets: Buckets,
    written: Written,
    /// Of texts as they are stored, and as views.
    facts: [OnceLock<Facts>; 2],
}

/// Who wrote the files, and so what their bounds are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// We: bounds of numbers and times are values, and no value is NaN.
    ByUs,
    /// Another program: bounds are no more than that, and NaN is outside of any.
    ByOthers,
}

#[derive(Debug)]
struct Facts {
    bounds: Vec<Option<Arc<Statistics>>>,
    total: Statistics,
}

impl KnownFiles {
    /// These files of `table`, whose rows have `schema`.
    pub(crate) fn new(table: &Table, schema: &Schema, infos: Arc<[DataFileInfo]>) -> Self {
        Self {
            order: declared_order(table, schema, &infos),
            buckets: Buckets::of(table),
            infos,
            written: Written::ByUs,
            facts: Default::default(),
        }
    }

    /// These files of a table that is not ours, whose rows are in no order.
    pub(crate) fn foreign(infos: Arc<[DataFileInfo]>) -> Self {
        Self {
            order: None,
            buckets: Buckets::default(),
            infos,
            written: Written::ByOthers,
            facts: Default::default(),
        }
    }

    /// What their manifests say.
    pub(crate) fn infos(&self) -> &[DataFileInfo] {
        &self.infos
    }

    /// The same, to keep.
    pub(crate) fn shared_infos(&self) -> &Arc<[DataFileInfo]> {
        &self.infos
    }

    /// The order of the rows within each of them; none when they have different ones, or none.
    pub(crate) fn order(&self) -> Option<&LexOrdering> {
        self.order.as_ref()
    }

    /// The bounds of the values of the file at `at`.
    pub(crate) fn bounds(&self, schema: &Schema, at: usize) -> Option<Arc<Statistics>> {
        self.facts(schema).bounds[at].as_ref().map(Arc::clone)
    }

    /// What is known of all rows together.
    pub(crate) fn total(&self, schema: &Schema) -> &Statistics {
        &self.facts(schema).total
    }

    /// Of each file whether one of these filters holds for none of its rows, by its bounds or its buckets.
    pub(crate) fn left_out(
        &self,
        state: &dyn Session,
        schema: &SchemaRef,
        filters: &[Expr],
    ) -> Vec<bool> {
        let mut left_out = self.buckets.leave_out(filters, &self.infos);
        let by_bounds = self.left_out_by_bounds(state, schema, filters);
        for (left_out, outside) in left_out.iter_mut().zip(by_bounds) {
            *left_out |= outside;
        }
        left_out
    }

    /// The same by bounds alone; nothing when they tell nothing of any.
    fn left_out_by_bounds(
        &self,
        state: &dyn Session,
        schema: &SchemaRef,
        filters: &[Expr],
    ) -> Vec<bool> {
        let Some(filter) = decided_by_bounds(state, schema, filters) else {
            return vec![];
        };
        let Ok(filter) = PruningPredicate::try_new(filter, Arc::clone(schema)) else {
            return vec![];
        };
        let bounds = self.facts(schema).bounds.iter().map(|bounds| match bounds {
            Some(bounds) => Arc::clone(bounds),
            None => Arc::new(Statistics::new_unknown(schema)),
        });
        let bounds = PrunableStatistics::new(bounds.collect(), Arc::clone(schema));
        let read = filter.prune(&bounds).unwrap_or_default();
        read.into_iter().map(|read| !read).collect()
    }

    fn facts(&self, schema: &Schema) -> &Facts {
        let mut fields = schema.fields().iter();
        let viewed = fields.any(|field| *field.data_type() == DataType::Utf8View);
        self.facts[usize::from(viewed)].get_or_init(|| {
            let bounds = self.infos.iter().map(|file| file_bounds(schema, file));
            let bounds =
                bounds.map(|bounds| bounds.map(|bounds| self.written.trusted(schema, bounds)));
            let bounds: Vec<_> = bounds.map(|bounds| bounds.map(Arc::new)).collect();
            let mut total = table_statistics(schema, &self.infos, &bounds);
            if self.written == Written::ByOthers {
                for column in &mut total.column_statistics {
                    column.min_value = column.min_value.clone().to_inexact();
                    column.max_value = column.max_value.clone().to_inexact();
                }
            }
            Facts { total, bounds }
        })
    }
}

impl Written {
    /// Those of the bounds that hold.
    fn trusted(self, schema: &Schema, mut bounds: Statistics) -> Statistics {
        if self == Written::ByOthers {
            let columns = bounds.column_statistics.iter_mut();
            for (column, field) in columns.zip(schema.fields()) {
                if field.data_type().is_floating() {
                    column.min_value = Precision::Absent;
                    column.max_value = Precision::Absent;
                }
            }
        }
        bounds
    }
}

/// Those of the filters that bounds may decide, as one.
fn decided_by_bounds(
    state: &dyn Session,
    schema: &SchemaRef,
    filters: &[Expr],
) -> Option<Arc<dyn PhysicalExpr>> {
    let named = DFSchema::try_from(Arc::clone(schema)).ok()?;
    // A filter that cannot be planned is refused where it is planned for the query.
    let planned = filters.iter().filter_map(|filter| {
        let filter = state.create_physical_expr(filter.clone(), &named).ok()?;
        bounds_decide(&filter, schema).then_some(filter)
    });
    let planned: Vec<_> = planned.collect();
    (!planned.is_empty()).then(|| conjunction(planned))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use iceberg::spec::{DataContentType, DataFileFormat, Datum, Struct};
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

    use super::*;

    #[test]
    fn bounds_of_other_programs_are_no_values_and_do_not_bound_what_may_be_nan() {
        let field = |name, data_type, id: i32| {
            let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
            Field::new(name, data_type, true).with_metadata(HashMap::from([id]))
        };
        let schema = Schema::new(vec![
            field("f", DataType::Float64, 1),
            field("v", DataType::Int64, 2),
        ]);
        let bounds = HashMap::from([(1, Datum::double(7.0)), (2, Datum::long(7))]);
        let file = DataFileInfo {
            path: "file:///f".to_owned(),
            content: DataContentType::Data,
            format: DataFileFormat::Parquet,
            bytes: 1,
            rows: 2,
            partition: Struct::empty(),
            spec_id: 0,
            lower_bounds: bounds.clone(),
            upper_bounds: bounds,
            null_counts: HashMap::from([(1, 0), (2, 0)]),
            sort_order_id: None,
            sequence_number: 1,
            snapshot_id: None,
            referenced_data_file: None,
            equality_ids: Vec::new(),
        };
        let files = KnownFiles::foreign(Arc::new([file]));
        let [f, v] = &files.bounds(&schema, 0).unwrap().column_statistics[..] else {
            panic!("two columns");
        };
        let seven = ScalarValue::from(7_i64);
        assert_eq!(
            (&f.min_value, &f.null_count),
            (&Precision::Absent, &Precision::Exact(0))
        );
        assert_eq!(v.min_value, Precision::Exact(seven.clone()));
        let total = &files.total(&schema).column_statistics[1];
        assert_eq!(total.max_value, Precision::Inexact(seven));
    }
}
