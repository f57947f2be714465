//! Catalogs that are found by name and listed nowhere.
//!
//! **Invariant:** what is listed is what the session had before.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList};
use datafusion::prelude::SessionContext;

use super::MetadataCatalog;

/// The catalogs of a session and, behind them, each gateway as a catalog of metadata tables.
#[derive(Debug)]
pub(crate) struct WithMetadata {
    listed: Arc<dyn CatalogProviderList>,
    hidden: BTreeMap<String, Arc<MetadataCatalog>>,
}

impl WithMetadata {
    /// Makes `g.t.snapshots` known to `ctx` for these gateways, in place of those it knew.
    pub(crate) fn register<'a>(
        ctx: &SessionContext,
        gateways: impl Iterator<Item = (&'a str, MetadataCatalog)>,
    ) {
        let known = Arc::clone(ctx.state_ref().read().catalog_list());
        let listed = match known.as_any().downcast_ref::<Self>() {
            Some(ours) => Arc::clone(&ours.listed),
            None => known,
        };
        let hidden = gateways.map(|(name, catalog)| (name.to_owned(), Arc::new(catalog)));
        let hidden = hidden.collect();
        ctx.register_catalog_list(Arc::new(Self { listed, hidden }));
    }
}

impl CatalogProviderList for WithMetadata {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn register_catalog(
        &self,
        name: String,
        catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        self.listed.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.listed.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let hidden = || Some(Arc::clone(self.hidden.get(name)?) as Arc<dyn CatalogProvider>);
        self.listed.catalog(name).or_else(hidden)
    }
}
