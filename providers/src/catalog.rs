//! The lake as a DataFusion catalog: `lake.<gateway>.<table>`, pinned for one statement. Tables that other programs made
//! in a gateway's namespace stand beside its own, read-only, as they are when their name is looked up.
//!
//! **Invariant:** every table of a statement is read at the views that were taken when its catalog was
//! made; nothing here asks for a newer one.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as QueryResult;

use crate::error::Result;
use crate::foreign::ForeignTable;
use crate::lake::Warehouse;
use crate::live::Views;
use crate::metadata::{MetadataCatalog, MetadataSchema, metadata_table};
use crate::travel::{PastTable, Pinned};
use crate::union::UnionTable;
use crate::view::ReadView;
use crate::write::WriteSink;

/// The gateway of tables that are named without one, unless another was set.
const PUBLIC: &str = "public";

/// The tables of all gateways at the moment a statement began.
#[derive(Debug, Default)]
pub struct LakeCatalog {
    schemas: BTreeMap<String, Arc<LakeSchema>>,
    warehouse: Option<Warehouse>,
    /// The gateway of tables without a schema.
    default: Option<String>,
}

#[derive(Debug)]
struct LakeSchema {
    views: Views,
    sink: Option<Arc<dyn WriteSink>>,
    /// Where the tables of other programs are.
    warehouse: Option<Warehouse>,
    /// Their names, once somebody has asked for all names.
    foreign: OnceLock<Vec<String>>,
}

impl LakeCatalog {
    /// A catalog without gateways, in which the tables that other programs make in `warehouse` are tables too.
    #[must_use]
    pub fn over(warehouse: Warehouse) -> Self {
        Self {
            warehouse: Some(warehouse),
            ..Self::default()
        }
    }

    /// Adds a gateway's tables; they are writable when there is a `sink`.
    #[must_use]
    pub fn with_gateway(mut self, views: Views, sink: Option<Arc<dyn WriteSink>>) -> Self {
        let name = views.gateway.to_string();
        let schema = LakeSchema {
            views,
            sink,
            warehouse: self.warehouse.clone(),
            foreign: OnceLock::new(),
        };
        self.schemas.insert(name, Arc::new(schema));
        self
    }

    /// Looks up the names of the tables that other programs made, for a statement that lists tables. A statement that
    /// names them needs no list.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn list_foreign(&self) -> Result<()> {
        let Some(warehouse) = &self.warehouse else {
            return Ok(());
        };
        for schema in self.schemas.values() {
            let names = warehouse.foreign_tables(&schema.views.gateway).await?;
            schema.foreign.get_or_init(|| names);
        }
        Ok(())
    }

    /// With `gateway` for tables that are named without one: `t.snapshots` is then of its table `t`.
    #[must_use]
    pub fn with_default(mut self, gateway: &str) -> Self {
        self.default = Some(gateway.to_owned());
        self
    }

    /// Each gateway as a catalog of metadata tables.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = (&str, MetadataCatalog)> {
        let schemas = self.schemas.iter();
        schemas.map(|(name, schema)| (name.as_str(), MetadataCatalog(schema.views.clone())))
    }

    /// The tables of a gateway.
    pub(crate) fn views(&self, gateway: &str) -> Option<&Views> {
        Some(&self.schemas.get(gateway)?.views)
    }

    /// The lakes that the tables are in; some more than once.
    pub(crate) fn warehouses(&self) -> impl Iterator<Item = &Warehouse> {
        let views = self.schemas.values();
        let first = views.filter_map(|schema| schema.views.tables.values().next());
        let first = first.map(|view| &view.warehouse);
        self.warehouse.iter().chain(first)
    }
}

impl CatalogProvider for LakeCatalog {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if let Some(schema) = self.schemas.get(name) {
            return Some(Arc::clone(schema) as Arc<dyn SchemaProvider>);
        }
        let default = self.default.as_deref().unwrap_or(PUBLIC);
        let view = self.schemas.get(default)?.view(name)?;
        Some(Arc::new(MetadataSchema(Arc::clone(view))))
    }
}

impl LakeSchema {
    fn view(&self, name: &str) -> Option<&Arc<ReadView>> {
        self.views.tables.get(name)
    }

    async fn provider(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(pinned) = Pinned::parse(name) {
            return Ok(Some(self.pinned(pinned).await?));
        }
        if let Some(view) = self.view(name) {
            let sink = self.sink.as_ref().map(Arc::clone);
            return Ok(Some(Arc::new(UnionTable::new(Arc::clone(view), sink)?)));
        }
        let Some((table, kind)) = name.rsplit_once('$') else {
            return self.foreign(name).await;
        };
        let Some(view) = self.view(table) else {
            return Ok(None);
        };
        Ok(Some(metadata_table(view, kind).await?))
    }

    async fn foreign(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(warehouse) = &self.warehouse else {
            return Ok(None);
        };
        let table = ForeignTable::load(warehouse, &self.views.gateway, name).await?;
        Ok(table.map(|table| Arc::new(table) as Arc<dyn TableProvider>))
    }

    async fn pinned(&self, pinned: Pinned) -> Result<Arc<dyn TableProvider>> {
        if self.view(&pinned.table).is_none()
            && let Some(warehouse) = &self.warehouse
        {
            let (gateway, name) = (&self.views.gateway, &pinned.table);
            let past = ForeignTable::load_as_of(warehouse, gateway, name, &pinned.as_of).await?;
            if let Some(past) = past {
                return Ok(Arc::new(past));
            }
        }
        let table = PastTable::new(&self.views, pinned)?;
        table.check().await?;
        Ok(Arc::new(table))
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        let own = self.views.tables.keys().map(ToString::to_string);
        own.chain(self.foreign.get().into_iter().flatten().cloned())
            .collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.provider(name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        let of_table = name.rsplit_once('$').map_or(name, |(table, _)| table);
        let foreign = || {
            let mut names = self.foreign.get().into_iter().flatten();
            names.any(|known| known == name)
        };
        Pinned::parse(name).is_some() || self.view(of_table).is_some() || foreign()
    }
}
