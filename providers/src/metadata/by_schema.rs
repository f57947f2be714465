//! `t.snapshots` and `g.t.snapshots`: a table as if it were a schema, whose tables are its metadata tables.
//!
//! Other engines name them so. A schema or catalog of ours with that name goes first. Neither is listed anywhere: what is
//! listed has the `$`.
//!
//! **Invariant:** `g.t.kind` is `g."t$kind"`, always.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result as QueryResult;

use super::{KINDS, metadata_table};
use crate::live::Views;
use crate::view::ReadView;

/// A table as a schema of its metadata tables.
#[derive(Debug)]
pub(crate) struct MetadataSchema(pub(crate) Arc<ReadView>);

#[async_trait]
impl SchemaProvider for MetadataSchema {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> QueryResult<Option<Arc<dyn TableProvider>>> {
        if !self.table_exist(name) {
            return Ok(None);
        }
        Ok(Some(metadata_table(&self.0, name).await?))
    }

    fn table_exist(&self, name: &str) -> bool {
        KINDS.contains(&name)
    }
}

/// A gateway as a catalog, whose schemas are its tables.
#[derive(Debug)]
pub(crate) struct MetadataCatalog(pub(crate) Views);

impl CatalogProvider for MetadataCatalog {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn schema_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let view = self.0.tables.get(name)?;
        Some(Arc::new(MetadataSchema(Arc::clone(view))))
    }
}
