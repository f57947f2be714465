//! `lake_at('t', 'seq', 5)`: a table as of a past moment for sessions whose SQL has no clause for it.
//!
//! The arguments are a table's name as SQL writes it (`'t'`, `'g.t'`, `'lake.g."T"'`), then one or two coordinates, each a
//! kind and a value: `'seq'`, `'timestamp'`, `'version'`, `'ref'`, `'hlc'`; of two, one is `'hlc'`. Values are constants.
//!
//! **Invariant:** every argument is used, or the call is an error.

use std::fmt;
use std::sync::Arc;

use datafusion::catalog::{TableFunctionImpl, TableProvider};
use datafusion::common::{
    Result as QueryResult, ScalarValue, TableReference, plan_datafusion_err, plan_err,
};
use datafusion::logical_expr::Expr;

use super::moment::{hlc_of, micros_of, ref_of, seq_of, version_of};
use super::past_table::PastTable;
use super::pinned::{Arrival, AsOf, Pinned};
use crate::catalog::LakeCatalog;

const USAGE: &str = "lake_at takes a table and one coordinate, as in lake_at('t', 'seq', 5), or two of which one is 'hlc'; \
     the others are 'timestamp', 'version' and 'ref'";

/// The table function.
pub(crate) struct LakeAt {
    catalog: Arc<LakeCatalog>,
    /// The catalog's name in its session.
    name: String,
    default_schema: String,
}

impl LakeAt {
    /// Over the tables of `catalog`, which its session calls `name`.
    pub(crate) fn new(catalog: &Arc<LakeCatalog>, name: &str, default_schema: &str) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            name: name.to_owned(),
            default_schema: default_schema.to_owned(),
        }
    }
}

impl fmt::Debug for LakeAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeAt").finish_non_exhaustive()
    }
}

impl TableFunctionImpl for LakeAt {
    fn call(&self, args: &[Expr]) -> QueryResult<Arc<dyn TableProvider>> {
        let args: Vec<&ScalarValue> = args.iter().map(constant).collect::<QueryResult<_>>()?;
        let [table, coordinates @ ..] = args.as_slice() else {
            return plan_err!("{USAGE}");
        };
        if !matches!(coordinates.len(), 2 | 4) {
            return plan_err!("{USAGE}; these are {} arguments", args.len());
        }
        let Some(Some(table)) = table.try_as_str() else {
            return plan_err!("{table} is not the name of a table; {USAGE}");
        };
        let reference = TableReference::parse_str(table).resolve(&self.name, &self.default_schema);
        let views =
            (*reference.catalog == *self.name).then(|| self.catalog.views(&reference.schema));
        let Some(views) = views.flatten() else {
            return plan_err!("table '{table}' not found");
        };
        let pinned = Pinned {
            table: reference.table.to_string(),
            as_of: as_of(coordinates)?,
        };
        Ok(Arc::new(PastTable::new(views, pinned)?))
    }
}

fn constant(arg: &Expr) -> QueryResult<&ScalarValue> {
    match arg {
        Expr::Literal(value, _) => Ok(value),
        other => plan_err!("lake_at: `{other}` is not a constant"),
    }
}

fn as_of(coordinates: &[&ScalarValue]) -> QueryResult<AsOf> {
    let (mut arrival, mut hlc) = (None, None);
    for pair in coordinates.chunks_exact(2) {
        let (kind, value) = (pair[0], pair[1]);
        let kind = kind.try_as_str().flatten().unwrap_or_default();
        let known = match kind.to_ascii_lowercase().as_str() {
            "seq" => seq_of(value).map(|seq| arrival.replace(Arrival::Seq(seq)).is_some()),
            "timestamp" => {
                let micros = micros_of(value);
                micros.map(|micros| arrival.replace(Arrival::Timestamp(micros)).is_some())
            }
            "version" => version_of(value).map(|version| arrival.replace(version).is_some()),
            "ref" => ref_of(value).map(|name| arrival.replace(name).is_some()),
            "hlc" => hlc_of(value).map(|latest| hlc.replace(latest).is_some()),
            _ => return plan_err!("lake_at has no coordinate {}; {USAGE}", pair[0]),
        };
        if known.map_err(|wrong| plan_datafusion_err!("lake_at: {wrong}"))? {
            return plan_err!("{USAGE}; these are two of one kind");
        }
    }
    AsOf::new(arrival, hlc).ok_or_else(|| plan_datafusion_err!("{USAGE}"))
}
