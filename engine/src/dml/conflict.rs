//! `INSERT … ON CONFLICT (key) DO NOTHING | DO UPDATE SET … [WHERE …]`: a MERGE on the key.
//!
//! **Invariant:** the conflict is that of the row id, which is the key; there is no other unique thing in a table.

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    ConflictTarget, Ident, MergeClauseKind, ObjectName, OnConflictAction, OnInsert, Query, SetExpr,
    TableAlias, TableAliasColumnDef, TableFactor,
};
use lakesync_proto::columns;
use lakesync_providers::Repeats;

use super::insert::{Given, given, with_defaults};
use super::merge::{Clause, Does, Parts, planned};
use super::refused;
use super::select::{and, column, equal, quoted};
use super::target::Target;
use crate::error::{Error, Result};
use crate::syntax::lookup_name;

/// The name of the rows that are inserted.
const EXCLUDED: &str = "excluded";

/// What an INSERT says besides its rows.
pub(super) struct Conflict {
    pub(super) on: OnInsert,
    pub(super) columns: Vec<Ident>,
}

/// Plans an INSERT with ON CONFLICT.
pub(super) async fn plan(
    state: &SessionState,
    (name, target): (ObjectName, Target),
    mut source: Query,
    conflict: Conflict,
) -> Result<LogicalPlan> {
    let OnInsert::OnConflict(on) = conflict.on else {
        return Err(refused(
            "ON DUPLICATE KEY",
            "write ON CONFLICT (key) DO UPDATE SET …",
        ));
    };
    let count = width(&source, &target, &conflict.columns)?;
    let given = given(&target, &conflict.columns, count)?;
    let key = key(&target, &given)?;
    check_target(&target, on.conflict_target.as_ref(), &key)?;
    let with = source.with.take();
    let excluded = Ident::new(EXCLUDED);
    let of_excluded = |name: &str| column(std::slice::from_ref(&excluded), name);
    let values = given
        .iter()
        .map(|one| (one.clone(), of_excluded(one.name())));
    let mut clauses = Vec::new();
    let repeats = match on.action {
        OnConflictAction::DoNothing => Repeats::First,
        OnConflictAction::DoUpdate(update) => {
            clauses.push(Clause {
                kind: MergeClauseKind::Matched,
                condition: update.selection,
                does: Does::Update(target.assignments(update.assignments)?),
            });
            Repeats::Refused
        }
    };
    clauses.push(Clause {
        kind: MergeClauseKind::NotMatched,
        condition: None,
        does: Does::Insert(values.collect(), repeats),
    });
    let on = key
        .iter()
        .map(|name| equal(column(&target.qualifier, name), of_excluded(name)))
        .reduce(and);
    let parts = Parts {
        with,
        relation: relation(name),
        source: derived(source, &given),
        on: on.ok_or_else(|| Error::Invalid("the table has no key".to_owned()))?,
        clauses,
        target,
    };
    planned(state, parts).await
}

/// How many values the rows have: what VALUES shows, else what the list of columns says.
fn width(source: &Query, target: &Target, listed: &[Ident]) -> Result<usize> {
    match (source.body.as_ref(), listed) {
        (SetExpr::Values(values), _) => Ok(values.rows.first().map_or(0, Vec::len)),
        (_, []) => Ok(target.schema().columns.len()),
        (_, listed) => Ok(listed.len()),
    }
}

/// What two rows have in common when they are the same row.
fn key(target: &Target, given: &[Given]) -> Result<Vec<String>> {
    let schema = target.schema();
    let key: Vec<String> = match schema.primary_key.as_slice() {
        [] => vec![columns::ROW_ID.to_owned()],
        key => key.iter().map(ToString::to_string).collect(),
    };
    match key
        .iter()
        .find(|name| !given.iter().any(|one| one.name() == *name))
    {
        None => Ok(key),
        Some(missing) => Err(Error::Invalid(format!(
            "ON CONFLICT compares `{missing}`, and the INSERT into `{}` gives no value for it; add it to the list of \
             columns",
            schema.table
        ))),
    }
}

fn check_target(target: &Target, conflict: Option<&ConflictTarget>, key: &[String]) -> Result<()> {
    let named = match conflict {
        None => return Ok(()),
        Some(ConflictTarget::OnConstraint(_)) => {
            return Err(refused("ON CONFLICT ON CONSTRAINT", "name the key columns"));
        }
        Some(ConflictTarget::Columns(names)) => names,
    };
    let mut named: Vec<String> = named.iter().map(lookup_name).collect();
    let mut key = key.to_vec();
    named.sort();
    key.sort();
    match named == key || named == [columns::ROW_ID] {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "rows of `{}` are in conflict by their key only; write ON CONFLICT ({})",
            target.schema().table,
            key.join(", ")
        ))),
    }
}

fn relation(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// The rows as a table of the columns that they are for.
fn derived(source: Query, given: &[Given]) -> TableFactor {
    let columns = given.iter().map(|one| TableAliasColumnDef {
        name: quoted(one.name()),
        data_type: None,
    });
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(with_defaults(source)),
        alias: Some(TableAlias {
            explicit: true,
            name: Ident::new(EXCLUDED),
            columns: columns.collect(),
        }),
        sample: None,
    }
}
