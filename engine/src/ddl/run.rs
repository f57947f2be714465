//! Running statements about tables: through the gateway, as `POST /v1/admin/schema` does.
//!
//! **Invariant**: whether a table is there, and what it is, is decided while nothing else can change it; two statements
//! at once never undo one another.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use lakesync_gateway::Gateway;
use lakesync_proto::{
    ColumnDefinition, ColumnName, GatewayId, TableDefinition, TableName, TableSchema, columns,
};

use super::alter::AlterTable;
use super::column_type::of_arrow;
use super::create::CreateTable;
use super::describe::describe;
use super::name::TableRef;
use super::{Ddl, Kind};
use crate::error::{Error, Result};
use crate::lake::Lake;
use crate::statement::{Grant, Runner};
use crate::syntax::LakeStatement;

/// Who runs a statement, where.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) runner: &'a Runner,
    pub(crate) lake: &'a Lake,
    pub(crate) grant: Grant<'a>,
    /// Where a name without a gateway is.
    pub(crate) gateway: &'a GatewayId,
}

impl Caller<'_> {
    fn gateway_of(self, table: &TableRef) -> Result<Arc<Gateway>> {
        let named = table.gateway.as_deref();
        let name = named.unwrap_or(self.gateway.as_ref());
        self.lake.gateway_for(name, self.grant.identity)
    }

    /// Plans an ordinary statement.
    async fn plan(self, statement: SqlStatement) -> Result<DataFrame> {
        let statement = LakeStatement::Query(Box::new(Statement::Statement(Box::new(statement))));
        let planned = self
            .runner
            .run(self.lake, statement, self.grant, self.gateway);
        Box::pin(planned).await
    }
}

/// Runs a statement about a table; it is done when this returns, and the answer says what it did.
pub(crate) async fn run(caller: Caller<'_>, ddl: Ddl) -> Result<DataFrame> {
    let batch = match ddl.0 {
        Kind::Create(create) => match &create.query {
            None => create_table(caller, &create).await?,
            Some(query) => create_table_as(caller, &create, query).await?,
        },
        Kind::Alter(alter) => alter_table(caller, alter).await?,
        Kind::Describe(table, statement) => {
            let gateway = caller.gateway_of(&table);
            let view = gateway
                .ok()
                .and_then(|gateway| gateway.live().view(table.table.as_ref()));
            match view {
                Some(view) => describe(&view)?,
                None => return caller.plan(*statement).await,
            }
        }
    };
    caller.runner.answer(batch)
}

async fn create_table(caller: Caller<'_>, create: &CreateTable) -> Result<RecordBatch> {
    let (schema, made) = make(caller, create, create.columns.clone()).await?;
    answer(&create.table.table, Some(&schema), made, None)
}

/// Makes the table, and says whether it was not there.
async fn make(
    caller: Caller<'_>,
    create: &CreateTable,
    columns: Vec<ColumnDefinition>,
) -> Result<(Arc<TableSchema>, bool)> {
    let gateway = caller.gateway_of(&create.table)?;
    let definition = TableDefinition {
        table: create.table.table.clone(),
        columns,
        primary_key: create.primary_key.clone(),
        partition_by: Some(create.layout.partition_by.clone()),
        sort_by: Some(create.layout.sort_by.clone()),
    };
    let name = definition.table.clone();
    let if_not_exists = create.if_not_exists;
    let there = format!(
        "table `{name}` exists already in `{}`; CREATE TABLE IF NOT EXISTS passes over it, ALTER TABLE changes it",
        gateway.id()
    );
    let plan = move |held: Option<&TableSchema>| match held {
        None => Ok(Some(definition)),
        Some(_) if if_not_exists => Ok(None),
        Some(_) => Err(there),
    };
    let (schema, made) = gateway.change_table(&name, plan).await?;
    let schema = schema.expect("it is there, or was made just now");
    Ok((schema, made))
}

/// What a column of a query becomes.
enum Taken {
    /// The row id, which is no column of the definition.
    RowId,
    Column(ColumnDefinition),
}

impl Taken {
    fn name(&self) -> &str {
        match self {
            Self::RowId => columns::ROW_ID,
            Self::Column(column) => column.name.as_str(),
        }
    }
}

async fn create_table_as(
    caller: Caller<'_>,
    create: &CreateTable,
    query: &Query,
) -> Result<RecordBatch> {
    let planned = caller
        .plan(SqlStatement::Query(Box::new(query.clone())))
        .await?;
    let taken = columns_of(create, &planned)?;
    let columns = taken.iter().filter_map(|taken| match taken {
        Taken::RowId => None,
        Taken::Column(column) => Some(column.clone()),
    });
    let (schema, made) = make(caller, create, columns.collect()).await?;
    let table = &create.table.table;
    if !made {
        return answer(table, Some(&schema), false, Some(0));
    }
    let gateway = caller.gateway_of(&create.table)?;
    let names: Vec<&str> = taken.iter().map(Taken::name).collect();
    let filled = async {
        let insert = insert(gateway.id(), table, &names, query)?;
        let answer = caller.plan(insert).await?.collect().await?;
        Ok::<_, Error>(count_in(&answer))
    };
    let rows = filled.await.map_err(|source| Error::NotFilled {
        table: table.to_string(),
        source: Box::new(source),
    })?;
    answer(table, Some(&schema), true, Some(rows))
}

/// The columns of the new table: the query's, under the names and types that the statement gives.
fn columns_of(create: &CreateTable, planned: &DataFrame) -> Result<Vec<Taken>> {
    let fields = planned.schema().fields();
    let given = &create.columns;
    if !given.is_empty() && given.len() != fields.len() {
        let text = format!(
            "CREATE TABLE names {} columns and its query gives {}; name all or none",
            given.len(),
            fields.len()
        );
        return Err(Error::Invalid(text));
    }
    let taken = fields.iter().enumerate().map(|(at, field)| {
        let invalid =
            |text: String| Error::Invalid(format!("column {} of the query: {text}", at + 1));
        if let Some(column) = given.get(at) {
            return Ok(Taken::Column(column.clone()));
        }
        if field.name() == columns::ROW_ID {
            return Ok(Taken::RowId);
        }
        let name = ColumnName::parse(field.name());
        let name = name.map_err(|error| invalid(format!("{error}; give it a name with AS")))?;
        let column_type = of_arrow(field.data_type()).map_err(|nearest| {
            invalid(format!(
                "`{name}` is {}, which no column is; cast it to {nearest}",
                field.data_type()
            ))
        })?;
        Ok(Taken::Column(ColumnDefinition { name, column_type }))
    });
    taken.collect()
}

/// `INSERT INTO gateway.table (columns) query`.
fn insert(
    gateway: &GatewayId,
    table: &TableName,
    columns: &[&str],
    query: &Query,
) -> Result<SqlStatement> {
    let columns = columns.join("\", \"");
    let text = format!("INSERT INTO \"{gateway}\".\"{table}\" (\"{columns}\") SELECT 1");
    let parsed = Parser::new(&GenericDialect {})
        .try_with_sql(&text)
        .and_then(|mut parser| parser.parse_statement())
        .map_err(|error| DataFusionError::SQL(Box::new(error), None))?;
    let SqlStatement::Insert(mut insert) = parsed else {
        return Err(Error::Invalid(format!("{text} is no INSERT")));
    };
    insert.source = Some(Box::new(query.clone()));
    Ok(SqlStatement::Insert(insert))
}

/// The rows that an INSERT says it wrote.
fn count_in(answer: &[RecordBatch]) -> u64 {
    let counts = answer.iter().filter(|batch| batch.num_rows() > 0);
    let counts = counts.filter_map(|batch| batch.column(0).as_any().downcast_ref::<UInt64Array>());
    counts.map(|counts| counts.value(0)).sum()
}

async fn alter_table(caller: Caller<'_>, alter: AlterTable) -> Result<RecordBatch> {
    let gateway = caller.gateway_of(&alter.table)?;
    let name = alter.table.table.clone();
    let missing = format!(
        "table `{name}` does not exist in `{}`; `show tables` lists those that do",
        gateway.id()
    );
    let plan = move |held: Option<&TableSchema>| match held {
        Some(held) => alter.apply(held.definition()).map(Some),
        None if alter.if_exists => Ok(None),
        None => Err(missing),
    };
    let (schema, changed) = gateway.change_table(&name, plan).await?;
    answer(&name, schema.as_deref(), changed, None)
}

/// One row: the table, its schema's version, whether that is new, and the rows that were written.
fn answer(
    table: &TableName,
    schema: Option<&TableSchema>,
    changed: bool,
    rows: Option<u64>,
) -> Result<RecordBatch> {
    let version = schema.map(|schema| i64::from(schema.version));
    let mut columns = vec![
        (
            "table",
            Arc::new(StringArray::from_iter_values([table])) as ArrayRef,
        ),
        ("version", Arc::new(Int64Array::from(vec![version]))),
        ("changed", Arc::new(BooleanArray::from(vec![changed]))),
    ];
    if let Some(rows) = rows {
        columns.push(("count", Arc::new(UInt64Array::from(vec![rows]))));
    }
    let batch = RecordBatch::try_from_iter(columns);
    batch.map_err(|error| DataFusionError::from(error).into())
}
