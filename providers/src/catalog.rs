//! The lake as a DataFusion catalog: `lake.<gateway>.<table>`, pinned for one statement.
//!
//! **Invariant:** every table of a statement is read at the views that were taken when its catalog was
//! made; nothing here asks for a newer one.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as QueryResult;
use datafusion::datasource::ViewTable;

use crate::error::{Error, Result};
use crate::live::Views;
use crate::log::deltas_plan;
use crate::snapshots::snapshots;
use crate::travel::{Pinned, at_snapshot};
use crate::union::UnionTable;
use crate::view::ReadView;
use crate::write::WriteSink;

/// The tables of all gateways at the moment a statement began.
#[derive(Debug, Default)]
pub struct LakeCatalog {
    schemas: BTreeMap<String, Arc<LakeSchema>>,
}

#[derive(Debug)]
struct LakeSchema {
    views: Views,
    sink: Option<Arc<dyn WriteSink>>,
}

impl LakeCatalog {
    /// Adds a gateway's tables; they are writable when there is a `sink`.
    #[must_use]
    pub fn with_gateway(mut self, views: Views, sink: Option<Arc<dyn WriteSink>>) -> Self {
        let name = views.gateway.to_string();
        self.schemas
            .insert(name, Arc::new(LakeSchema { views, sink }));
        self
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
        let schema = self.schemas.get(name)?;
        Some(Arc::clone(schema) as Arc<dyn SchemaProvider>)
    }
}

impl LakeSchema {
    fn view(&self, name: &str) -> Option<&Arc<ReadView>> {
        self.views.tables.get(name)
    }

    async fn provider(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(pinned) = Pinned::parse(name) {
            return Ok(Some(self.pinned(&pinned).await?));
        }
        if let Some(view) = self.view(name) {
            let sink = self.sink.as_ref().map(Arc::clone);
            return Ok(Some(Arc::new(UnionTable::new(Arc::clone(view), sink)?)));
        }
        let Some((table, kind)) = name.rsplit_once('$') else {
            return Ok(None);
        };
        let Some(view) = self.view(table) else {
            return Ok(None);
        };
        match kind {
            "deltas" => Ok(Some(Arc::new(ViewTable::new(
                deltas_plan(view).await?,
                None,
            )))),
            "snapshots" => Ok(Some(Arc::new(snapshots(view)?))),
            _ => Ok(None),
        }
    }

    async fn pinned(&self, pinned: &Pinned) -> Result<Arc<dyn TableProvider>> {
        let now = self
            .view(&pinned.table)
            .ok_or_else(|| Error::UnknownTable {
                gateway: self.views.gateway.to_string(),
                table: pinned.table.clone(),
            })?;
        let past = at_snapshot(now, pinned.snapshot).await?;
        Ok(Arc::new(UnionTable::new(Arc::new(past), None)?))
    }
}

#[async_trait]
impl SchemaProvider for LakeSchema {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        self.views.tables.keys().map(ToString::to_string).collect()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.provider(name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        let of_table = name.rsplit_once('$').map_or(name, |(table, _)| table);
        Pinned::parse(name).is_some() || self.view(of_table).is_some()
    }
}
