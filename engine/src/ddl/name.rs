//! Names in statements about tables.
//!
//! **Invariant**: a name without quotes is in lower case, as queries look it up.

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Spanned as _};
use datafusion::sql::sqlparser::tokenizer::Span;
use lakesync_proto::{ColumnName, TableName};

use super::refused;
use crate::syntax::{SyntaxError, lookup_name};

/// The catalog of every table of ours.
const CATALOG: &str = "lake";

/// A table of ours, as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableRef {
    /// Its gateway; that of the statement when none is said.
    pub(super) gateway: Option<String>,
    /// Its name.
    pub(super) table: TableName,
}

impl TableRef {
    /// Reads `[lake.][gateway.]table`.
    ///
    /// # Errors
    /// When it is longer, of another catalog, or no table name.
    pub(super) fn read(name: &ObjectName) -> Result<TableRef, SyntaxError> {
        let place = span(name);
        let parts: Option<Vec<String>> = name
            .0
            .iter()
            .map(|part| part.as_ident().map(lookup_name))
            .collect();
        let (gateway, table) = match parts.as_deref() {
            Some([table]) => (None, table),
            Some([gateway, table]) => (Some(gateway), table),
            Some([catalog, gateway, table]) if catalog == CATALOG => (Some(gateway), table),
            _ => {
                return Err(refused(
                    place,
                    format!("{name} is no name of a table here"),
                    "name it t, gateway.t or lake.gateway.t",
                ));
            }
        };
        let table = TableName::parse(table)
            .map_err(|error| refused(place, error.to_string(), "choose another name"))?;
        Ok(TableRef {
            gateway: gateway.cloned(),
            table,
        })
    }
}

/// A column's name.
///
/// # Errors
/// When no column can have it.
pub(super) fn column(name: &Ident) -> Result<ColumnName, SyntaxError> {
    ColumnName::parse(&lookup_name(name))
        .map_err(|error| refused(name.span, error.to_string(), "choose another name"))
}

/// Where a name is in the text.
pub(super) fn span(name: &ObjectName) -> Span {
    name.0.first().map_or_else(Span::empty, |part| part.span())
}
