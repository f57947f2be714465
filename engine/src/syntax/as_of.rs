//! Time-travel clauses become names of pinned tables, which the schema provider resolves like any other name.
//!
//! `FROM s.t VERSION AS OF 41 AS x` becomes `FROM s."t@version:41" AS x`; without an alias of its own the table keeps
//! its name as alias, so that `t.col` still resolves. `EXPLAIN` shows the pinned name, so a plan says what it reads.
//!
//! Invariant: after [`rewrite`] no clause is left in the statement. DataFusion plans a table with `..` and would answer
//! with today's rows; so a clause that cannot be honoured is an error here, and so are the other clauses that
//! DataFusion would drop without a word (`TABLESAMPLE`, hints, partitions, ordinality).
//!
//! A pinned name needs no secret mark: `@` and `:` cannot stand in a table name of ours, and the token pass refuses a
//! pinned name that somebody types. Through a plain DataFusion session such a name may be typed, and then means the same.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Delete, Expr, FromTable, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArguments, Ident, ObjectName, ObjectNamePart, Query, Spanned,
    Statement as SqlStatement, TableAlias, TableFactor, TableVersion, TableWithJoins, Update,
    Value, VisitMut, VisitorMut, With,
};
use lakesync_providers::Pinned;

use super::error::{Position, SyntaxError, SyntaxErrorKind};
use super::{lookup_name, visit_parts};

/// What to tell somebody who types a pinned name.
pub(super) fn typed_pin(pinned: &Pinned) -> SyntaxError {
    refuse(
        format!("\"{}\" is not a name to type", pinned.name()),
        format!("write {} VERSION AS OF {}", pinned.table, pinned.snapshot),
    )
}

/// Rewrites all time-travel clauses of a statement.
///
/// # Errors
/// `TimeTravel` for a clause that cannot be honoured, `Statement` for another clause that DataFusion would ignore.
pub(super) fn rewrite(statement: &mut Statement) -> Result<(), SyntaxError> {
    match visit_parts(statement, &mut Travel::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

type Flow = ControlFlow<Box<SyntaxError>>;

/// Walks a statement and knows which names are those of `WITH` queries.
#[derive(Default)]
struct Travel {
    /// For each query that is open, the names of its `WITH` queries that are visible by now.
    names: Vec<Vec<String>>,
    /// The `WITH` lists of the open queries, already rewritten and to be put back.
    rewritten: Vec<Option<With>>,
}

impl VisitorMut for Travel {
    type Break = Box<SyntaxError>;

    fn pre_visit_statement(&mut self, statement: &mut SqlStatement) -> Flow {
        match statement {
            SqlStatement::Update(Update { table, .. }) => refuse_written(&table.relation),
            SqlStatement::Merge(merge) => refuse_written(&merge.table),
            SqlStatement::Delete(Delete {
                from: FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables),
                ..
            }) => tables.iter().map(relation).try_for_each(refuse_written),
            _ => ControlFlow::Continue(()),
        }
    }

    /// Visits the `WITH` queries itself, one after the other, because each sees only those before it: in
    /// `WITH t AS (SELECT * FROM t VERSION AS OF 3) …` the inner `t` is the table.
    fn pre_visit_query(&mut self, query: &mut Query) -> Flow {
        self.names.push(Vec::new());
        let mut with = query.with.take();
        let recursive = with.as_ref().is_some_and(|with| with.recursive);
        for cte in with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            let name = lookup_name(&cte.alias.name);
            if recursive {
                self.now_visible(name);
                cte.visit(self)?;
            } else {
                cte.visit(self)?;
                self.now_visible(name);
            }
        }
        self.rewritten.push(with);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> Flow {
        self.names.pop();
        query.with = self.rewritten.pop().flatten();
        ControlFlow::Continue(())
    }

    /// The token pass sees identifiers; this sees a name typed as a string: `FROM 't@version:3'`.
    fn pre_visit_relation(&mut self, name: &mut ObjectName) -> Flow {
        let last = name.0.last().and_then(ObjectNamePart::as_ident);
        match last.and_then(|last| Pinned::parse(&last.value)) {
            Some(pinned) if last.is_some_and(|last| last.quote_style == Some('\'')) => {
                stop(typed_pin(&pinned), Position::of(name.span()))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> Flow {
        refuse_ignored(factor)?;
        let TableFactor::Table {
            name,
            alias,
            version,
            args,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let Some(clause) = version.take() else {
            return ControlFlow::Continue(());
        };
        let at = clause_position(&clause, name);
        if args.is_some() {
            return stop(
                refuse(
                    format!("{name} is a table function, which has no earlier state"),
                    "put the clause after a table name",
                ),
                at,
            );
        }
        match snapshot_of(&clause) {
            Ok(snapshot) => self.pin(name, alias, snapshot, at),
            Err(error) => stop(error, at),
        }
    }
}

impl Travel {
    fn now_visible(&mut self, name: String) {
        if let Some(names) = self.names.last_mut() {
            names.push(name);
        }
    }

    fn pin(
        &self,
        name: &mut ObjectName,
        alias: &mut Option<TableAlias>,
        snapshot: i64,
        at: Option<Position>,
    ) -> Flow {
        let bare = name.0.len() == 1;
        let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else {
            return stop(
                refuse(
                    "only a table name can be read as of an earlier state",
                    WORKS,
                ),
                at,
            );
        };
        let table = lookup_name(last);
        if table.contains('$') {
            return stop(
                refuse(
                    format!("{table} is a metadata table, which has no earlier state"),
                    "leave the clause out and filter on snapshot_id or _seq",
                ),
                at,
            );
        }
        if bare && self.names.iter().flatten().any(|name| *name == table) {
            return stop(
                refuse(
                    format!("{table} is a WITH query, which has no earlier state"),
                    "put the clause after the table name inside the WITH query",
                ),
                at,
            );
        }
        let pinned = Pinned { table, snapshot };
        let pinned = Ident::with_quote_and_span('"', last.span, pinned.name());
        let typed = std::mem::replace(last, pinned);
        alias.get_or_insert(TableAlias {
            explicit: true,
            name: typed,
            columns: Vec::new(),
        });
        ControlFlow::Continue(())
    }
}

const WORKS: &str = "what works is t VERSION AS OF <snapshot id> and t AT (VERSION => <snapshot id>); \
     the ids are in the table t$snapshots";

fn refuse(message: impl Into<String>, next: impl Into<String>) -> SyntaxError {
    SyntaxError::new(SyntaxErrorKind::TimeTravel, message, next)
}

fn stop(error: SyntaxError, at: Option<Position>) -> Flow {
    ControlFlow::Break(Box::new(error.at(at)))
}

/// The snapshot id a clause names; any other coordinate is refused.
fn snapshot_of(clause: &TableVersion) -> Result<i64, SyntaxError> {
    match clause {
        TableVersion::VersionAsOf(value) => snapshot_id(value),
        TableVersion::TimestampAsOf(_) | TableVersion::ForSystemTimeAsOf(_) => {
            Err(refuse("reading as of a time is not supported", WORKS))
        }
        TableVersion::Function(Expr::Function(function)) => argument(function),
        TableVersion::Function(other) => Err(refuse(
            format!("{other} is not a time-travel clause"),
            WORKS,
        )),
    }
}

/// The `VERSION` argument of `AT (VERSION => …)`.
fn argument(function: &Function) -> Result<i64, SyntaxError> {
    let name = function.name.to_string();
    if name.eq_ignore_ascii_case("BEFORE") {
        return Err(refuse("BEFORE (…) is not supported", WORKS));
    }
    let plain = function.filter.is_none()
        && function.over.is_none()
        && function.null_treatment.is_none()
        && function.within_group.is_empty()
        && function.parameters == FunctionArguments::None;
    let FunctionArguments::List(list) = &function.args else {
        return Err(refuse(
            format!("{name} takes VERSION => <snapshot id>"),
            WORKS,
        ));
    };
    if !plain || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
        return Err(refuse(
            format!("{function} is more than a time-travel clause"),
            WORKS,
        ));
    }
    match list.args.as_slice() {
        [
            FunctionArg::Named {
                name: coordinate,
                arg: FunctionArgExpr::Expr(value),
                operator: FunctionArgOperator::RightArrow,
            },
        ] if coordinate.quote_style.is_none() => {
            if coordinate.value.eq_ignore_ascii_case("VERSION") {
                return snapshot_id(value);
            }
            Err(refuse(
                format!("{name} ({coordinate} => …) is not supported"),
                WORKS,
            ))
        }
        [_, _, ..] => Err(refuse(
            format!("{name} takes one coordinate, found {}", list.args.len()),
            WORKS,
        )),
        _ => Err(refuse(
            format!("{name} takes VERSION => <snapshot id>"),
            WORKS,
        )),
    }
}

fn snapshot_id(value: &Expr) -> Result<i64, SyntaxError> {
    let Expr::Value(value) = value else {
        return Err(refuse(format!("{value} is not a snapshot id"), WORKS));
    };
    match &value.value {
        Value::Number(digits, _) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
            .parse()
            .map_err(|_| refuse(format!("{digits} is too large for a snapshot id"), WORKS)),
        Value::Placeholder(name) => Err(refuse(
            format!("the parameter {name} cannot name a snapshot"),
            "write the snapshot id into the statement",
        )),
        Value::Number(other, _) => Err(refuse(format!("{other} is not a snapshot id"), WORKS)),
        tag => Err(refuse(
            format!("{tag} would be a tag or branch, which are not supported"),
            WORKS,
        )),
    }
}

fn relation(table: &TableWithJoins) -> &TableFactor {
    &table.relation
}

fn refuse_written(factor: &TableFactor) -> Flow {
    match factor {
        TableFactor::Table {
            name,
            version: Some(clause),
            ..
        } => stop(
            refuse(
                format!("{name} is written here, and history cannot be changed"),
                "leave the clause out",
            ),
            clause_position(clause, name),
        ),
        _ => ControlFlow::Continue(()),
    }
}

/// Clauses that DataFusion's planner drops, which would make wrong answers of right ones.
fn refuse_ignored(factor: &TableFactor) -> Flow {
    let (clause, span) = match factor {
        TableFactor::Table {
            name,
            sample,
            with_hints,
            with_ordinality,
            partitions,
            json_path,
            index_hints,
            ..
        } => {
            let clause = if sample.is_some() {
                "TABLESAMPLE"
            } else if !with_hints.is_empty() {
                "WITH (hints)"
            } else if *with_ordinality {
                "WITH ORDINALITY"
            } else if !partitions.is_empty() {
                "PARTITION (…)"
            } else if json_path.is_some() || !index_hints.is_empty() {
                "a path or index hint"
            } else {
                return ControlFlow::Continue(());
            };
            (clause, name.span())
        }
        TableFactor::Derived {
            sample: Some(_),
            subquery,
            ..
        } => ("TABLESAMPLE", subquery.span()),
        _ => return ControlFlow::Continue(()),
    };
    let error = SyntaxError::new(
        SyntaxErrorKind::Statement,
        format!("{clause} after a table is not supported and would have no effect"),
        "leave it out",
    );
    stop(error, Position::of(span))
}

/// Where a clause is: at its value, or at the table's name when the parser did not keep that place.
fn clause_position(clause: &TableVersion, name: &ObjectName) -> Option<Position> {
    let (TableVersion::ForSystemTimeAsOf(value)
    | TableVersion::TimestampAsOf(value)
    | TableVersion::VersionAsOf(value)
    | TableVersion::Function(value)) = clause;
    Position::of(value.span()).or_else(|| Position::of(name.span()))
}
