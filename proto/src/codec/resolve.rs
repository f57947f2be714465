//! From a body's texts to checked names and typed values, each name checked once a body.
//!
//! Invariant: equal names share one allocation; ten thousand deltas of one client and table cost two.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::Schemas;
use crate::codec::error::{DecodeErrorKind, Fault};
use crate::column_type::ColumnType;
use crate::delta::ColumnChange;
use crate::error::shown;
use crate::id::{ClientId, TableName};
use crate::schema::TableSchema;
use crate::value::Value;
use crate::value_read::ValueError;

/// The names that one body has used so far.
pub(crate) struct Resolver<'s> {
    schemas: &'s dyn Schemas,
    tables: BTreeMap<TableName, Arc<TableSchema>>,
    client: Option<ClientId>,
}

impl<'s> Resolver<'s> {
    pub(crate) fn new(schemas: &'s dyn Schemas) -> Resolver<'s> {
        Resolver {
            schemas,
            tables: BTreeMap::new(),
            client: None,
        }
    }

    pub(crate) fn table(&mut self, text: &str) -> Result<Arc<TableSchema>, Fault> {
        if let Some(schema) = self.tables.get(text) {
            return Ok(Arc::clone(schema));
        }
        let table = TableName::parse(text).map_err(|e| Fault::bad("table", e.to_string()))?;
        let schema = self.schemas.schema(&table).ok_or_else(|| {
            Fault::new(
                DecodeErrorKind::UnknownTable,
                format!("there is no table {text}"),
            )
            .field("table")
        })?;
        self.tables.insert(table, Arc::clone(&schema));
        Ok(schema)
    }

    /// Checks a client id; nearly always it is the one before.
    pub(crate) fn client(&mut self, text: &str) -> Result<ClientId, Fault> {
        if let Some(client) = self
            .client
            .as_ref()
            .filter(|client| client.as_str() == text)
        {
            return Ok(client.clone());
        }
        let client = ClientId::parse(text).map_err(|e| Fault::bad("clientId", e.to_string()))?;
        self.client = Some(client.clone());
        Ok(client)
    }
}

/// Reads the columns of one delta by the table's schema.
pub(crate) struct ColumnReader<'a> {
    schema: &'a TableSchema,
    /// Where the next column is likely to stand in the schema.
    place: usize,
}

impl<'a> ColumnReader<'a> {
    pub(crate) fn new(schema: &'a TableSchema) -> ColumnReader<'a> {
        ColumnReader { schema, place: 0 }
    }

    /// Types one column's value with `read`.
    pub(crate) fn change(
        &mut self,
        name: &str,
        read: impl FnOnce(ColumnType) -> Result<Value, ValueError>,
    ) -> Result<ColumnChange, Fault> {
        let (place, column) = self.schema.find(name, self.place).ok_or_else(|| {
            let reason = format!(
                "table {} has no column {:?}",
                self.schema.table,
                shown(name)
            );
            Fault::new(DecodeErrorKind::UnknownColumn, reason).field(name)
        })?;
        self.place = place + 1;
        let value = read(column.column_type)
            .map_err(|e| Fault::new(DecodeErrorKind::WrongType, e.to_string()).field(name))?;
        Ok(ColumnChange {
            column: column.name.clone(),
            value,
        })
    }
}
