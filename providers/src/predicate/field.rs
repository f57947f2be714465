//! What a condition may name: the columns of its table, and the row id.
//!
//! **Invariant:** a field's Arrow type is the one that its values are built in, so a condition that was planned can be
//! evaluated.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use datafusion::common::{DFSchema, TableReference};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, Volatility, create_udf};
use datafusion::prelude::{Column, SessionContext};
use lakesync_proto::{ColumnName, ColumnType, TableSchema, columns};

use super::error::PredicateError;
use crate::columnar;
use crate::error::Result;

/// The function that stands for a claim; it is planned and never called.
pub(super) const JWT: &str = "jwt";

/// The planner of all conditions: DataFusion's functions, ours and [`JWT`].
pub(super) static PLANNER: LazyLock<SessionState> = LazyLock::new(|| {
    let ctx = SessionContext::new();
    lakesync_udfs::register(&ctx);
    let called = Arc::new(|_: &[_]| {
        Err(datafusion::error::DataFusionError::Internal(
            "a claim is replaced before a condition is evaluated".to_owned(),
        ))
    });
    let (takes, gives) = (vec![DataType::Utf8], DataType::Utf8);
    ctx.register_udf(create_udf(JWT, takes, gives, Volatility::Immutable, called));
    ctx.state()
});

/// A column of the table, or the row id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The column; none for the row id.
    pub column: Option<ColumnName>,
    /// Its type.
    pub column_type: ColumnType,
}

impl Field {
    /// The field of this name.
    pub(super) fn named(schema: &TableSchema, name: &str) -> Option<Self> {
        if name == columns::ROW_ID {
            return Some(Self {
                column: None,
                column_type: ColumnType::String,
            });
        }
        schema.column(name).map(|column| Self {
            column: Some(column.name.clone()),
            column_type: column.column_type,
        })
    }

    /// Its name in SQL.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.column {
            Some(column) => column.as_str(),
            None => columns::ROW_ID,
        }
    }

    /// It as an expression.
    pub(super) fn expr(&self) -> Expr {
        Expr::Column(Column::from_name(self.name()))
    }
}

/// All fields of a table as the planner takes them, with and without the table's name.
pub(super) fn table_schema(schema: &TableSchema) -> Result<DFSchema, PredicateError> {
    let names = schema.columns.iter().map(|column| column.name.as_str());
    let names = std::iter::once(columns::ROW_ID).chain(names);
    let fields: Vec<Field> = names
        .filter_map(|name| Field::named(schema, name))
        .collect();
    let table = TableReference::bare(schema.table.as_str());
    arrow_schema(&fields)
        .map_err(|error| PredicateError::new(error.to_string()))
        .and_then(|schema| {
            DFSchema::try_from_qualified_schema(table, &schema)
                .map_err(|error| PredicateError::new(error.strip_backtrace()))
        })
}

/// The Arrow schema of some fields.
pub(super) fn arrow_schema(fields: &[Field]) -> Result<Arc<Schema>> {
    let field = |field: &Field| {
        let data_type = arrow_type(field.column_type)?;
        Ok(ArrowField::new(field.name(), data_type, true))
    };
    let fields: Vec<ArrowField> = fields.iter().map(field).collect::<Result<_>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

/// Some fields as the planner takes them.
pub(super) fn plan_schema(fields: &[Field]) -> Result<DFSchema, PredicateError> {
    let schema = arrow_schema(fields).map_err(|error| PredicateError::new(error.to_string()))?;
    DFSchema::try_from(schema).map_err(|error| PredicateError::new(error.strip_backtrace()))
}

/// The Arrow type of a column type.
pub(super) fn arrow_type(column_type: ColumnType) -> Result<DataType> {
    let none = columnar::column(column_type, std::iter::empty())?;
    Ok(none.data_type().clone())
}

/// The column type that a claim is read as when it meets an expression of this Arrow type.
pub(super) fn claim_type(data_type: &DataType) -> Option<ColumnType> {
    let column_type = match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            ColumnType::String
        }
        DataType::Boolean => ColumnType::Boolean,
        data_type if data_type.is_integer() => ColumnType::Long,
        data_type if data_type.is_floating() => ColumnType::Number,
        DataType::Decimal128(precision, scale) => {
            ColumnType::decimal(*precision, u8::try_from(*scale).ok()?).ok()?
        }
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(_, _) => ColumnType::Timestamp,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => ColumnType::Binary,
        _ => return None,
    };
    Some(column_type)
}
