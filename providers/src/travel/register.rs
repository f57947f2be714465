//! A lake in anybody's session.

use std::sync::Arc;

use datafusion::prelude::SessionContext;

use super::guard::RefuseDropped;
use super::lake_at::LakeAt;
use crate::catalog::LakeCatalog;
use crate::error::Result;
use crate::functions::CallPlanner;
use crate::metadata::WithMetadata;

/// Makes a catalog known to `ctx` as `name`, with its files, the functions of `lakesync_udfs`, and table functions.
///
/// The tables stay as they were when `catalog` was made; register another one to see what came since. Of the past they
/// may be asked by a pinned name (`select * from "t@seq:5"`, see [`Pinned`](crate::Pinned)) or by
/// `lake_at('t', 'seq', 5)`; time-travel clauses, and named arguments of table functions, are refused.
///
/// # Errors
/// When the session takes no more planners.
pub fn register(ctx: &SessionContext, name: &str, catalog: &Arc<LakeCatalog>) -> Result<()> {
    for warehouse in catalog.warehouses() {
        let url = warehouse.object_store_url();
        ctx.register_object_store(url.as_ref(), warehouse.object_store());
    }
    lakesync_udfs::register(ctx);
    let config = ctx.copied_config();
    let schema = &config.options().catalog.default_schema;
    let lake_at = LakeAt::new(catalog, name, schema);
    ctx.register_udtf("lake_at", Arc::new(lake_at));
    WithMetadata::register(ctx, catalog.metadata());
    ctx.register_relation_planner(Arc::new(RefuseDropped))?;
    // It comes before the other, whose refusals know nothing of its functions.
    ctx.register_relation_planner(Arc::new(CallPlanner::new(Arc::clone(catalog), name)))?;
    ctx.register_catalog(name, Arc::clone(catalog) as _);
    Ok(())
}
