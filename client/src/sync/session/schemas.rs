//! The gateway's schemas: by which its answers are read.
//!
//! Invariant: an answer is read by what the gateway has, and by what this database has where the gateway is not known to
//! have anything; the next page is read by what the last [`Reply::Schemas`](crate::Reply::Schemas) said.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use lakesync_proto::{Notes, Schemas, TableName, TableSchema, limits, schemas_hash};

use super::Session;
use super::errors::protocol;
use crate::error::ClientError;
use crate::schema::{LocalTable, Registry, TableNumber};
use crate::sync::difference::difference;
use crate::sync::machine::Exchange;
use crate::sync::status::{SchemaState, TableSchemaState};
use crate::transport::TransportError;

/// What is known of the gateway's schemas.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// The version of the registry that this is of; none before the first look.
    pub(super) registry: Option<i64>,
    /// The hash over all of the gateway's; none when they were never heard.
    pub(super) hash: Option<u64>,
    /// What answers are read by.
    pub(super) readers: Arc<Readers>,
    /// The gateway's.
    pub(super) gateway: Vec<TableSchema>,
    /// Tables that differ here and there.
    pub(super) differences: Vec<Difference>,
}

/// How a table's schema here and the gateway's differ; the edits that wait are counted later.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    number: TableNumber,
    table: TableName,
    state: SchemaState,
}

/// Schemas by table.
#[derive(Debug, Default)]
pub(super) struct Readers(BTreeMap<TableName, Arc<TableSchema>>);

impl Schemas for Readers {
    fn schema(&self, table: &TableName) -> Option<Arc<TableSchema>> {
        self.0.get(table).map(Arc::clone)
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("registry", &self.registry)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl Known {
    pub(super) fn of(registry: &Registry, version: i64, hash: Option<u64>) -> Known {
        let mut readers = BTreeMap::new();
        let mut gateway = Vec::new();
        let mut differences = Vec::new();
        for table in registry.tables() {
            let reader = table.gateway.as_ref().unwrap_or(&table.schema);
            readers.insert(table.schema.table.clone(), Arc::clone(reader));
            gateway.extend(table.gateway.as_deref().cloned());
            // Before the gateway's schemas were heard, nothing is known to differ.
            differences.extend(hash.and_then(|_| Difference::of(table)));
        }
        Known {
            registry: Some(version),
            hash,
            readers: Arc::new(Readers(readers)),
            gateway,
            differences,
        }
    }

    pub(super) fn readers(&self) -> Arc<dyn Schemas + Send + Sync> {
        let readers: Arc<Readers> = Arc::clone(&self.readers);
        readers
    }
}

impl Difference {
    fn of(table: &LocalTable) -> Option<Difference> {
        Some(Difference {
            number: table.number,
            table: table.schema.table.clone(),
            state: difference(table, 0)?,
        })
    }

    /// As a status tells it.
    pub(super) fn with(&self, counts: &BTreeMap<TableNumber, u64>) -> TableSchemaState {
        let waiting = counts.get(&self.number).copied().unwrap_or(0);
        let state = match self.state.clone() {
            SchemaState::GatewayBehind { .. } => SchemaState::GatewayBehind { waiting },
            SchemaState::UnknownToGateway { .. } => SchemaState::UnknownToGateway { waiting },
            other => other,
        };
        TableSchemaState {
            table: self.table.clone(),
            state,
        }
    }
}

impl Session {
    pub(super) fn on_schemas(
        &mut self,
        result: Result<Vec<TableSchema>, TransportError>,
    ) -> Result<(), ClientError> {
        let schemas = match result {
            Ok(schemas) => schemas,
            Err(error) => return self.failed(Exchange::Schemas, error),
        };
        if schemas.len() > limits::SCHEMA_NOTE_TABLES_MAX {
            let error = protocol(format!("it has {} tables", schemas.len()));
            return Err(self.failed_here(Exchange::Schemas, error));
        }
        let hash = schemas_hash(&schemas);
        let noted = self
            .db
            .keep(|work| work.registry.note_gateway(work.tx, &schemas, hash));
        match noted {
            Ok(refused) => {
                let reasons = refused.into_iter();
                self.untaken = reasons
                    .map(|refused| (refused.table, refused.reason.to_string()))
                    .collect();
                self.answered(Exchange::Schemas);
                self.machine.heard_schemas(hash);
                Ok(())
            }
            Err(error) => Err(self.failed_here(Exchange::Schemas, error)),
        }
    }

    /// Whether an answer tells of other schemas than those known here.
    pub(super) fn heed(&mut self, notes: &Notes) {
        if let Some(note) = &notes.schemas
            && self.known.hash != Some(note.hash)
        {
            self.machine.want_schemas();
        }
    }
}
