//! Planning of calls: names resolved as tables are, arguments checked, nothing dropped.
//!
//! DataFusion plans a table function's arguments itself when nobody else does: it leaves out the named ones, and those
//! that it cannot plan, and then knows no names but those in lower case.
//!
//! **Invariant:** a call means what it says, or is refused with the argument that is wrong.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result as QueryResult, ScalarValue, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor,
};
use lakesync_proto::{ColumnName, RowId, Seq};

use super::table::{HistoryTable, What};
use crate::catalog::LakeCatalog;
use crate::error::{Error, Result};
use crate::live::Views;
use crate::travel::{AsOf, Pinned};
use crate::view::ReadView;

/// Plans calls over the tables of a lake.
#[derive(Debug)]
pub(crate) struct CallPlanner {
    lake: Arc<LakeCatalog>,
    /// The name that the lake has among the session's catalogs.
    catalog: String,
}

/// A function that is planned here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Changes,
    History,
    CellInfo,
}

impl Function {
    const ALL: [Function; 3] = [Function::Changes, Function::History, Function::CellInfo];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Function::Changes => "changes",
            Function::History => "history",
            Function::CellInfo => "cell_info",
        }
    }

    /// The arguments, those that may be left out last.
    fn arguments(self) -> (&'static [&'static str], usize) {
        match self {
            Function::Changes => (&["table", "from_seq", "to_seq"], 2),
            Function::History => (&["table", "row_id"], 2),
            Function::CellInfo => (&["table", "row_id", "column"], 2),
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Function::Changes => "changes('table', from_seq [, to_seq])",
            Function::History => "history('table', 'row_id')",
            Function::CellInfo => "cell_info('table', 'row_id' [, 'column'])",
        }
    }

    fn refused(self, reason: impl ToString) -> Error {
        Error::Argument {
            call: self.name(),
            reason: reason.to_string(),
        }
    }
}

impl CallPlanner {
    /// A planner for the lake that is called `catalog` in the session.
    pub(crate) fn new(lake: Arc<LakeCatalog>, catalog: &str) -> Self {
        Self {
            lake,
            catalog: catalog.to_owned(),
        }
    }

    fn table(&self, call: &Call, context: &dyn RelationPlannerContext) -> Result<HistoryTable> {
        let function = call.function;
        let (views, view, as_of) = self.view(&call.text(0)?, context)?;
        let table = |what| {
            let table = HistoryTable::new(&view, what)?;
            Ok::<_, Error>(match as_of.clone() {
                Some(as_of) => table.at_moment(as_of, views),
                None => table,
            })
        };
        match function {
            Function::Changes => {
                let to = (call.values.len() > 2).then(|| call.seq(2)).transpose()?;
                let from = call.seq(1)?.unwrap_or(Seq::ZERO);
                Ok(table(What::Changes)?.between(from, to.flatten()))
            }
            Function::History => Ok(table(What::History)?.of_row(&call.row_id(1)?)),
            Function::CellInfo => {
                let column = match call.values.len() {
                    3 => Some(column(function, &view, &call.text(2)?)?),
                    _ => None,
                };
                Ok(table(What::CellInfo(column, views.floor))?.of_row(&call.row_id(1)?))
            }
        }
    }

    /// The table with this name, as SQL names tables, and the moment that it is pinned to.
    fn view(&self, name: &str, context: &dyn RelationPlannerContext) -> Result<Named<'_>> {
        // No table of ours has an `@` in its name.
        let plain = name.split('@').next().unwrap_or_default();
        let as_of = Pinned::parse(name).map(|pinned| pinned.as_of);
        let options = &context.context_provider().options().catalog;
        let default = match options.default_catalog == self.catalog {
            true => options.default_schema.as_str(),
            false => "public",
        };
        let reference = TableReference::parse_str(plain).resolve(&self.catalog, default);
        let ours = *reference.catalog == *self.catalog && as_of.is_some() == (plain != name);
        let views = self.lake.views(&reference.schema).filter(|_| ours);
        let view = views.and_then(|views| Some((views, views.tables.get(&*reference.table)?)));
        match view {
            Some((views, view)) => Ok((views, Arc::clone(view), as_of)),
            None => Err(Error::UnknownTable {
                gateway: reference.schema.to_string(),
                table: name.to_owned(),
            }),
        }
    }
}

/// A table with those of its gateway.
type Named<'a> = (&'a Views, Arc<ReadView>, Option<AsOf>);

impl RelationPlanner for CallPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> QueryResult<RelationPlanning> {
        let Some((function, arguments, alias)) = call(&relation, context) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let call = Call::new(function, arguments, context)?;
        let table = self.table(&call, context)?;
        let source = provider_as_source(Arc::new(table));
        let plan = LogicalPlanBuilder::scan(function.name(), source, None)?.build()?;
        let planned = PlannedRelation::new(plan, alias);
        Ok(RelationPlanning::Planned(Box::new(planned)))
    }
}

/// The call of one of our functions, if the relation is one.
fn call(
    relation: &TableFactor,
    context: &dyn RelationPlannerContext,
) -> Option<(Function, Vec<FunctionArg>, Option<TableAlias>)> {
    let (name, arguments, alias) = match relation {
        TableFactor::Table {
            name,
            args: Some(arguments),
            alias,
            ..
        } => (name, &arguments.args, alias),
        TableFactor::Function {
            name, args, alias, ..
        } => (name, args, alias),
        _ => return None,
    };
    let function = Function::named(&context.normalize_ident(only_part(name)?))?;
    Some((function, arguments.clone(), alias.clone()))
}

fn only_part(name: &ObjectName) -> Option<Ident> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.clone()),
        _ => None,
    }
}

/// A call with its arguments as constants.
struct Call {
    function: Function,
    values: Vec<ScalarValue>,
}

impl Call {
    fn new(
        function: Function,
        arguments: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<Self> {
        let (names, least) = function.arguments();
        if arguments.len() < least || arguments.len() > names.len() {
            let count = arguments.len();
            return Err(function.refused(format!(
                "{count} argument{} given; it is called as {}",
                if count == 1 { "" } else { "s" },
                function.usage()
            )));
        }
        let mut values = Vec::with_capacity(arguments.len());
        for (argument, name) in arguments.into_iter().zip(names) {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = argument else {
                return Err(function.refused(format!(
                    "`{argument}`: arguments have no names here, their order decides; it is called as {}",
                    function.usage()
                )));
            };
            let shown = expr.to_string();
            let not_constant = |reason: &dyn std::fmt::Display| {
                function.refused(format!("{name} is `{shown}`: {reason}"))
            };
            let planned = context.sql_to_expr(expr, &DFSchema::empty());
            let planned = planned.map_err(|error| not_constant(&error.strip_backtrace()))?;
            let constant = constant(planned, context);
            match constant.map_err(|error| not_constant(&error.strip_backtrace()))? {
                Expr::Literal(value, _) => values.push(value),
                _ => return Err(not_constant(&"it is no constant")),
            }
        }
        Ok(Self { function, values })
    }

    fn text(&self, at: usize) -> Result<String> {
        match self.values[at].try_as_str() {
            Some(Some(text)) => Ok(text.to_owned()),
            _ => Err(self.wrong(at, "a text in single quotes")),
        }
    }

    /// None stands for a null.
    fn seq(&self, at: usize) -> Result<Option<Seq>> {
        let value = &self.values[at];
        if value.is_null() && at > 1 {
            return Ok(None);
        }
        let number = match value.data_type().is_integer() && !value.is_null() {
            true => value.to_string().parse::<i64>().ok(),
            false => None,
        };
        let seq = number.and_then(|number| Seq::from_i64(number).ok());
        seq.map(Some)
            .ok_or_else(|| self.wrong(at, "a whole number, 0 or more"))
    }

    fn row_id(&self, at: usize) -> Result<String> {
        let text = self.text(at)?;
        let id = RowId::parse(&text);
        let id = id.map_err(|error| self.function.refused(error))?;
        Ok(id.to_string())
    }

    fn wrong(&self, at: usize, expected: &str) -> Error {
        let name = self.function.arguments().0[at];
        let value = &self.values[at];
        let reason = format!(
            "{name} is {value} ({}), and must be {expected}; it is called as {}",
            value.data_type(),
            self.function.usage()
        );
        self.function.refused(reason)
    }
}

fn constant(expr: Expr, context: &dyn RelationPlannerContext) -> QueryResult<Expr> {
    let options = context.context_provider().options();
    let simplify = SimplifyContext::default().with_config_options(Arc::new(options.clone()));
    let simplifier = ExprSimplifier::new(simplify);
    let expr = simplifier.coerce(expr, &DFSchema::empty())?;
    simplifier.simplify(expr)
}

fn column(function: Function, view: &ReadView, name: &str) -> Result<ColumnName> {
    match view.schema.column(name) {
        Some(column) => Ok(column.name.clone()),
        None => {
            let known = view
                .schema
                .columns
                .iter()
                .map(|column| column.name.as_str());
            let known: Vec<&str> = known.collect();
            Err(function.refused(format!(
                "`{}` has no column `{name}`; it has {}",
                view.table(),
                known.join(", ")
            )))
        }
    }
}
