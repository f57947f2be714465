//! The DataFusion session that every plan of LakeSync is made in.
//!
//! **Invariant:** the lake's object store and our functions are registered in every session, so a plan
//! means the same in the shell, in the gateway and in the compactor.

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::lake::Warehouse;

/// A session over `warehouse`: our functions, its files, time zone UTC, default `lake.public`.
#[must_use]
pub fn session(warehouse: &Warehouse) -> SessionContext {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("lake", "public")
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let ctx = SessionContext::new_with_config(config);
    ctx.register_object_store(
        warehouse.object_store_url().as_ref(),
        warehouse.object_store(),
    );
    lakesync_udfs::register(&ctx);
    ctx
}
