//! Time-travel clauses become names of pinned tables, which the schema provider resolves like any other name.
//!
//! `FROM s.t VERSION AS OF 41 AS x` becomes `FROM s."t@version:41" AS x`; without an alias of its own the table keeps
//! its name as alias, so that `t.col` still resolves. `EXPLAIN` shows the pinned name, so a plan says what it reads.
//!
//! Invariant: after [`rewrite`] the clauses that are left are right in form and place, on tables, and name moments that
//! have to be evaluated: [`pin`](super::pin) does that before the statement is planned. DataFusion plans a table with
//! `..` and would answer with today's rows; so a clause that cannot be honoured is an error here, and so are the other
//! clauses that DataFusion would drop without a word (`TABLESAMPLE`, hints, partitions, ordinality, argument names).
//!
//! A pinned name needs no secret mark: `@` and `:` cannot stand in a table name of ours, and the token pass refuses a
//! pinned name that somebody types. Through a plain DataFusion session such a name may be typed, and then means the same.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Delete, FromTable, FunctionArg, Ident, ObjectName, ObjectNamePart, Query, Spanned,
    Statement as SqlStatement, TableAlias, TableFactor, TableVersion, TableWithJoins, Update,
    VisitMut, VisitorMut, With,
};
use lakesync_providers::{Arrival, AsOf, Pinned};

use super::clause::{Clause, WORKS, literal, refuse};
use super::error::{Position, SyntaxError, SyntaxErrorKind};
use super::{lookup_name, visit_parts};

/// What to tell somebody who types a pinned name.
pub(super) fn typed_pin(pinned: &Pinned) -> SyntaxError {
    let (table, as_of) = (&pinned.table, &pinned.as_of);
    let arrival = as_of.arrival().map(|arrival| match arrival {
        Arrival::Version(id) => ("VERSION", id.to_string()),
        Arrival::Ref(name) => ("VERSION", quoted(name)),
        Arrival::Seq(seq) => ("SEQ", seq.to_string()),
        Arrival::Timestamp(_) => ("TIMESTAMP", quoted(&time_of(as_of))),
    });
    let hlc = as_of.hlc().map(|hlc| ("HLC", hlc.to_string()));
    let clause = match (arrival, hlc) {
        (Some((kind @ ("VERSION" | "TIMESTAMP"), value)), None) => format!("{kind} AS OF {value}"),
        (arrival, hlc) => {
            let parts = arrival.into_iter().chain(hlc);
            let parts: Vec<_> = parts
                .map(|(kind, value)| format!("{kind} => {value}"))
                .collect();
            format!("AT ({})", parts.join(", "))
        }
    };
    refuse(
        format!("\"{}\" is not a name to type", pinned.name()),
        format!("write {table} {clause}"),
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The time of a moment, as its name has it.
fn time_of(as_of: &AsOf) -> String {
    let name = as_of.to_string();
    let time = name.strip_prefix("timestamp:").unwrap_or(&name);
    time.split('@').next().unwrap_or(time).to_owned()
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
        let Some(clause) = version else {
            return ControlFlow::Continue(());
        };
        let at = clause_position(clause, name);
        if args.is_some() {
            return stop(
                refuse(
                    format!("{name} is a table function, which has no earlier state"),
                    "put the clause after a table name",
                ),
                at,
            );
        }
        if let Some(error) = self.cannot_travel(name) {
            return stop(error, at);
        }
        let as_of = Clause::of(clause).and_then(|clause| clause.as_of(|expr| Ok(literal(expr))));
        match as_of {
            Ok(Some(as_of)) => {
                *version = None;
                pin_table(name, alias, as_of);
                ControlFlow::Continue(())
            }
            // Its moment is known when the statement runs.
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error.or_at(at))),
        }
    }
}

impl Travel {
    fn now_visible(&mut self, name: String) {
        if let Some(names) = self.names.last_mut() {
            names.push(name);
        }
    }

    /// What is wrong with reading `name` as of an earlier state, when something is.
    fn cannot_travel(&self, name: &ObjectName) -> Option<SyntaxError> {
        let Some(ObjectNamePart::Identifier(last)) = name.0.last() else {
            return Some(refuse(
                "only a table name can be read as of an earlier state",
                WORKS,
            ));
        };
        let table = lookup_name(last);
        if table.contains('$') {
            return Some(refuse(
                format!("{table} is a metadata table, which has no earlier state"),
                "leave the clause out and filter on snapshot_id or _seq",
            ));
        }
        let is_with_query = self.names.iter().flatten().any(|name| *name == table);
        (name.0.len() == 1 && is_with_query).then(|| {
            refuse(
                format!("{table} is a WITH query, which has no earlier state"),
                "put the clause after the table name inside the WITH query",
            )
        })
    }
}

/// Gives a table the name that it is planned by as of a moment; what it was called stays its alias.
pub(super) fn pin_table(name: &mut ObjectName, alias: &mut Option<TableAlias>, as_of: AsOf) {
    let Some(ObjectNamePart::Identifier(last)) = name.0.last_mut() else {
        return;
    };
    let table = lookup_name(last);
    let pinned = Pinned { table, as_of };
    let pinned = Ident::with_quote_and_span('"', last.span, pinned.name());
    let typed = std::mem::replace(last, pinned);
    alias.get_or_insert(TableAlias {
        explicit: true,
        name: typed,
        columns: Vec::new(),
    });
}

fn stop(error: SyntaxError, at: Option<Position>) -> Flow {
    ControlFlow::Break(Box::new(error.at(at)))
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
    if let Some(argument) = named_argument(factor) {
        let error = SyntaxError::new(
            SyntaxErrorKind::Statement,
            format!(
                "a table function takes its arguments by position, and the name in {argument} would be dropped"
            ),
            "write the values alone, in their order",
        );
        return stop(error, Position::of(argument.span()));
    }
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
pub(super) fn clause_position(clause: &TableVersion, name: &ObjectName) -> Option<Position> {
    let (TableVersion::ForSystemTimeAsOf(value)
    | TableVersion::TimestampAsOf(value)
    | TableVersion::VersionAsOf(value)
    | TableVersion::Function(value)) = clause;
    Position::of(value.span()).or_else(|| Position::of(name.span()))
}

/// The first argument of a table function that is no plain value.
fn named_argument(factor: &TableFactor) -> Option<&FunctionArg> {
    let arguments = match factor {
        TableFactor::Table {
            args: Some(arguments),
            ..
        } => &arguments.args,
        TableFactor::Function { args, .. } => args,
        _ => return None,
    };
    let mut arguments = arguments.iter();
    arguments.find(|argument| !matches!(argument, FunctionArg::Unnamed(_)))
}
