//! `register(ctx, catalog)`: a lake in anyone's session.
//!
//! **Invariant:** what is registered belongs to one moment: the views that the catalog was made of.

use std::sync::Arc;

use datafusion::common::Result as QueryResult;
use datafusion::prelude::SessionContext;

use crate::catalog::LakeCatalog;
use crate::functions::CallPlanner;

/// The name of the lake among the catalogs of a session.
const LAKE: &str = "lake";

/// Makes the tables of `catalog` those of `lake` in `ctx`: `lake.g.t`, or `t` when the session's default catalog and schema
/// are `lake` and `g`; their metadata tables `t$snapshots`, also as `g.t.snapshots`; and the table functions `changes`,
/// `history` and `cell_info`. Also the lake's files and SQL functions, which any plan over them needs.
///
/// The tables stay as they were when the catalog was made; register another one to see what came since.
///
/// # Errors
/// When the session takes no planner of relations.
pub fn register(ctx: &SessionContext, catalog: LakeCatalog) -> QueryResult<()> {
    let options = ctx.copied_config();
    let default = &options.options().catalog.default_schema;
    let lake = Arc::new(catalog.with_default(default));
    if let Some(warehouse) = lake.warehouse() {
        let url = warehouse.object_store_url();
        ctx.register_object_store(url.as_ref(), warehouse.object_store());
    }
    lakesync_udfs::register(ctx);
    for (gateway, metadata) in lake.metadata() {
        // A catalog that is there already means something else by the name.
        if gateway != LAKE && ctx.catalog(gateway).is_none() {
            ctx.register_catalog(gateway, Arc::new(metadata));
        }
    }
    ctx.register_relation_planner(Arc::new(CallPlanner::new(Arc::clone(&lake), LAKE)))?;
    ctx.register_catalog(LAKE, lake);
    Ok(())
}
