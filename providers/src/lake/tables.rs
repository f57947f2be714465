//! Tables: each is a pair of Iceberg tables, a base and a log.
//!
//! **Invariant**: the log leads. A table exists when its log does, and its schema is the one stored in
//! the log. A crash between the two leaves a base that is missing or one version behind; whoever loads
//! the table next finishes it, with the same result.

use std::sync::Arc;

use iceberg::spec::FormatVersion;
use iceberg::table::Table;
use iceberg::{ErrorKind, TableCreation, TableUpdate};
use lakesync_proto::{Evolution, GatewayId, TableName, TableSchema};

use super::catalog::{DELETE_OLD_METADATA, Fence};
use super::commit::change_table;
use super::error::LakeError;
use super::schema::{self, Kind, LOG_SUFFIX};
use super::warehouse::{Warehouse, namespace_of};

/// A table: its base, its log, its schema.
#[derive(Debug, Clone)]
pub struct TablePair {
    /// The merged rows in the user's schema.
    pub base: Table,
    /// The flushed deltas.
    pub log: Table,
    /// The schema of both.
    pub schema: Arc<TableSchema>,
}

impl Warehouse {
    /// Makes a table: its log, then its base. Finishes what a crash left, and does nothing when both
    /// are there with this schema.
    ///
    /// # Errors
    /// `AlreadyExists` when the table has another schema, `NotFound` without the gateway.
    pub async fn create_table(
        &self,
        gateway: &GatewayId,
        schema: &TableSchema,
    ) -> Result<(), LakeError> {
        let log = self.create_or_load(Kind::Log, gateway, schema).await?;
        let stored = schema::stored(&log)?;
        if stored != *schema {
            return Err(LakeError::AlreadyExists {
                what: "table",
                name: format!("{gateway}.{}", schema.table),
                advice: format!("it has schema version {}: evolve it", stored.version),
            });
        }
        self.settled_base(gateway, schema).await?;
        Ok(())
    }

    /// The names of a gateway's tables, sorted: those that have a log.
    ///
    /// # Errors
    /// `NotFound` without the gateway.
    pub async fn tables(&self, gateway: &GatewayId) -> Result<Vec<TableName>, LakeError> {
        let found = self.catalog().list_tables(&namespace_of(gateway)).await;
        let found = found.map_err(LakeError::iceberg("list its tables", gateway))?;
        let logs = found
            .iter()
            .filter_map(|ident| ident.name().strip_suffix(LOG_SUFFIX));
        Ok(logs
            .filter_map(|name| TableName::parse(name).ok())
            .collect())
    }

    /// Loads a table as it is now, and finishes what a crash left.
    ///
    /// # Errors
    /// `NotFound` without the table, `Corrupt` when it is not one of ours.
    pub async fn load(
        &self,
        gateway: &GatewayId,
        table: &TableName,
    ) -> Result<TablePair, LakeError> {
        let ident = Kind::Log.ident(gateway, table);
        let log = match self.catalog().load_table(&ident).await {
            Ok(log) => log,
            Err(e) if e.kind() == ErrorKind::TableNotFound => {
                return Err(LakeError::NotFound {
                    what: "table",
                    name: format!("{gateway}.{table}"),
                });
            }
            Err(e) => return Err(LakeError::iceberg("load the table", &ident)(e)),
        };
        let schema = schema::stored(&log)?;
        let base = self.settled_base(gateway, &schema).await?;
        Ok(TablePair {
            base,
            log,
            schema: Arc::new(schema),
        })
    }

    /// Brings a table to a new schema: its log, then its base. Does nothing when it is there.
    ///
    /// # Errors
    /// `Invalid` when the table is at another schema of this version or beyond, or a type cannot
    /// change; `Fenced` for a writer that was taken over.
    pub async fn evolve(
        &self,
        gateway: &GatewayId,
        evolution: &Evolution,
        fence: Option<&Fence>,
    ) -> Result<TablePair, LakeError> {
        let schema = &evolution.schema;
        self.evolve_one(Kind::Log, gateway, schema, fence).await?;
        self.evolve_one(Kind::Base, gateway, schema, fence).await?;
        self.load(gateway, &schema.table).await
    }

    /// The base at this schema, which the log has: created, or brought up to it, where it is not.
    async fn settled_base(
        &self,
        gateway: &GatewayId,
        schema: &TableSchema,
    ) -> Result<Table, LakeError> {
        let base = self.create_or_load(Kind::Base, gateway, schema).await?;
        if schema::stored(&base)? == *schema {
            return Ok(base);
        }
        // Without a fence: the log, which was fenced, has decided.
        self.evolve_one(Kind::Base, gateway, schema, None).await
    }

    async fn evolve_one(
        &self,
        kind: Kind,
        gateway: &GatewayId,
        schema: &TableSchema,
        fence: Option<&Fence>,
    ) -> Result<Table, LakeError> {
        let ident = kind.ident(gateway, &schema.table);
        let plan = |table: &Table| schema::evolution(kind, table, schema);
        change_table(self, &ident, fence, plan).await
    }

    async fn create_or_load(
        &self,
        kind: Kind,
        gateway: &GatewayId,
        schema: &TableSchema,
    ) -> Result<Table, LakeError> {
        let ident = kind.ident(gateway, &schema.table);
        let refused = |action| LakeError::iceberg(action, &ident);
        let exists = self.catalog().table_exists(&ident).await;
        if exists.map_err(refused("look for the table"))? {
            let loaded = self.catalog().load_table(&ident).await;
            return loaded.map_err(refused("load the table"));
        }
        let creation = creation(kind, ident.name(), schema)?;
        let created = self
            .catalog()
            .create_table(ident.namespace(), creation)
            .await;
        let table = match created {
            Ok(table) => table,
            // Another process was first, or an earlier answer was lost.
            Err(e) if e.kind() == ErrorKind::TableAlreadyExists => {
                let loaded = self.catalog().load_table(&ident).await;
                return loaded.map_err(refused("load the table"));
            }
            Err(e) => return Err(refused("create the table")(e)),
        };
        let plan = |table: &Table| recorded_ids(kind, table, schema);
        change_table(self, table.identifier(), None, plan).await
    }
}

/// Corrects the recorded field ids of a new table if the catalog gave it other ones.
fn recorded_ids(
    kind: Kind,
    table: &Table,
    schema: &TableSchema,
) -> Result<Vec<TableUpdate>, LakeError> {
    let assigned = schema::assigned_ids(kind, table, schema);
    if schema::column_ids(table)? == assigned {
        return Ok(Vec::new());
    }
    Ok(vec![TableUpdate::SetProperties {
        updates: schema::properties(schema, &assigned),
    }])
}

fn creation(kind: Kind, name: &str, schema: &TableSchema) -> Result<TableCreation, LakeError> {
    let (iceberg, ids) = schema::created(kind, schema)?;
    let spec = schema::partition_spec(kind, &iceberg, schema);
    let spec = spec.map_err(LakeError::iceberg("make its partition spec", &schema.table))?;
    let order = schema::sort_order(kind, &iceberg, schema);
    let order = order.map_err(LakeError::iceberg("make its sort order", &schema.table))?;
    let mut properties = schema::properties(schema, &ids);
    // One metadata file a commit: without this a busy log fills its directory with old ones.
    properties.insert(DELETE_OLD_METADATA.to_owned(), "true".to_owned());
    Ok(TableCreation::builder()
        .name(name.to_owned())
        .schema(iceberg)
        .partition_spec_opt(spec)
        .sort_order_opt(order)
        .properties(properties)
        .format_version(FormatVersion::V2)
        .build())
}
