//! The files of one snapshot with what their manifests say of them, worked out once for all plans over the snapshot.
//!
//! **Invariant:** no file is opened: a plan over a thousand files reads nothing.

use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PrunableStatistics;
use datafusion::common::{DFSchema, Statistics};
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::utils::conjunction;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_optimizer::pruning::PruningPredicate;
use iceberg::table::Table;

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
    facts: OnceLock<Facts>,
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
            infos,
            facts: OnceLock::new(),
        }
    }

    /// These files, whose rows are in no order.
    pub(crate) fn unordered(infos: Arc<[DataFileInfo]>) -> Self {
        Self {
            order: None,
            infos,
            facts: OnceLock::new(),
        }
    }

    /// What their manifests say.
    pub(crate) fn infos(&self) -> &[DataFileInfo] {
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

    /// Of each file whether one of these filters holds for none of its rows; nothing when that is not known of any.
    pub(crate) fn left_out(
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
        self.facts.get_or_init(|| {
            let bounds = self.infos.iter().map(|file| file_bounds(schema, file));
            let bounds: Vec<_> = bounds.map(|bounds| bounds.map(Arc::new)).collect();
            Facts {
                total: table_statistics(schema, &self.infos, &bounds),
                bounds,
            }
        })
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
