//! `MERGE INTO t USING s ON … WHEN … THEN …`
//!
//! ```text
//!   SELECT t.row_id,
//!          CASE WHEN <clause 0 holds> THEN 0 WHEN <clause 1 holds> THEN 1 … END AS "clause$",
//!          CASE WHEN <clause 0 holds> THEN <value> END AS "0$a", …
//!   FROM t FULL JOIN (SELECT *, true AS "source$" FROM s) AS s ON …
//! ```
//! The join keeps what the clauses need: pairs only, or also what one side has alone.
//!
//! **Invariant:** of each pair, or row without a pair, the first clause whose condition is true acts, and no value of
//! another clause is computed for it.

use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr as Planned, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Join, JoinConstraint, JoinOperator, Merge, MergeAction, MergeClause,
    MergeClauseKind, MergeInsertKind, Query, SelectItem, SelectItemQualifiedWildcardKind,
    TableAlias, TableFactor, TableWithJoins, Value, WildcardAdditionalOptions, With,
};
use lakesync_proto::{ColumnName, columns};
use lakesync_providers::{Action, Assigned, Repeats, Verb, WritePlan};

use super::insert::{Given, action, given};
use super::refused;
use super::select::{Selected, and, case, column, named, null, number, quoted, stored, table};
use super::target::Target;
use crate::error::{Error, Result};

/// The clauses of one MERGE: each value is computed under the conditions of those before it.
const CLAUSES_MAX: usize = 32;

/// Bytes of the conditions of a MERGE, as text, repeated for each value that stands under them.
const CONDITIONS_BYTES_MAX: usize = 16 << 20;

/// The column that says which clause acts. No user column can have this name.
const CLAUSE: &str = "clause$";
/// The column that says that a row of the source is there.
const SOURCE: &str = "source$";

/// What a MERGE is made of, whoever writes it.
pub(super) struct Parts {
    pub(super) with: Option<With>,
    pub(super) target: Target,
    pub(super) relation: TableFactor,
    pub(super) source: TableFactor,
    pub(super) on: Expr,
    pub(super) clauses: Vec<Clause>,
}

/// One WHEN clause.
pub(super) struct Clause {
    pub(super) kind: MergeClauseKind,
    pub(super) condition: Option<Expr>,
    pub(super) does: Does,
}

/// What a clause does, with the values that it writes.
pub(super) enum Does {
    Insert(Vec<(Given, Expr)>, Repeats),
    Update(Vec<(ColumnName, Expr)>),
    Delete,
}

/// Plans a MERGE.
pub(super) async fn plan(
    state: &SessionState,
    with: Option<With>,
    merge: Merge,
) -> Result<LogicalPlan> {
    if merge.output.is_some() {
        return Err(refused("RETURNING", "SELECT the rows afterwards"));
    }
    let target = Target::of(state, Verb::Merge, &merge.table).await?;
    let clauses = merge.clauses.into_iter();
    let clauses = clauses.map(|one| clause(&target, one));
    let parts = Parts {
        clauses: clauses.collect::<Result<_>>()?,
        with,
        target,
        relation: merge.table,
        source: merge.source,
        on: *merge.on,
    };
    planned(state, parts).await
}

fn clause(target: &Target, clause: MergeClause) -> Result<Clause> {
    const AFTER_WHEN: &str = "put the condition after WHEN … AND";
    let does = match clause.action {
        MergeAction::Delete { .. } => Does::Delete,
        MergeAction::Update(update) => {
            if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                return Err(refused("WHERE after the SET of a MERGE", AFTER_WHEN));
            }
            Does::Update(target.assignments(update.assignments)?)
        }
        MergeAction::Insert(insert) => {
            if insert.insert_predicate.is_some() {
                return Err(refused("WHERE after the INSERT of a MERGE", AFTER_WHEN));
            }
            let MergeInsertKind::Values(values) = insert.kind else {
                return Err(refused(
                    "INSERT ROW",
                    "write INSERT (a, b) VALUES (s.a, s.b)",
                ));
            };
            let mut rows = values.rows.into_iter();
            let (Some(row), None) = (rows.next(), rows.next()) else {
                return Err(refused(
                    "more than one row of VALUES in a MERGE",
                    "write one",
                ));
            };
            let names = insert.columns.iter();
            let names = names.map(|name| target.own_name(name).map(|name| quoted(&name)));
            let given = given(target, &names.collect::<Result<Vec<_>>>()?, row.len())?;
            let values = row.into_iter().map(stored);
            Does::Insert(given.into_iter().zip(values).collect(), Repeats::Refused)
        }
    };
    Ok(Clause {
        kind: clause.clause_kind,
        condition: clause.predicate,
        does,
    })
}

/// Plans a MERGE of these parts.
pub(super) async fn planned(state: &SessionState, parts: Parts) -> Result<LogicalPlan> {
    check(&parts.clauses)?;
    let by_source =
        (parts.clauses.iter()).any(|clause| clause.kind == MergeClauseKind::NotMatchedBySource);
    let by_target = (parts.clauses.iter()).any(|clause| is_by_target(clause.kind));
    let (source, marker) = match by_source {
        true => marked(parts.source)?,
        false => (parts.source, None),
    };
    let on = JoinConstraint::On(parts.on);
    let join_operator = match (by_source, by_target) {
        (true, true) => JoinOperator::FullOuter(on),
        (true, false) => JoinOperator::LeftOuter(on),
        (false, true) => JoinOperator::RightOuter(on),
        (false, false) => JoinOperator::Inner(on),
    };
    let row_id = parts.target.row_id();
    let (projection, actions) = projection(&row_id, marker.as_ref(), parts.clauses);
    let from = TableWithJoins {
        relation: parts.relation,
        joins: vec![Join {
            relation: source,
            global: false,
            join_operator,
        }],
    };
    let query = Selected {
        with: parts.with,
        projection,
        from: vec![from],
        selection: None,
    };
    let plan = parts
        .target
        .plan(state, query.into(), WritePlan::merge(actions));
    let plan = plan.await?;
    refuse_volatile(&plan)?;
    Ok(plan)
}

fn is_by_target(kind: MergeClauseKind) -> bool {
    matches!(
        kind,
        MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget
    )
}

fn is_same_kind(one: MergeClauseKind, other: MergeClauseKind) -> bool {
    one == other || is_by_target(one) && is_by_target(other)
}

fn check(clauses: &[Clause]) -> Result<()> {
    if clauses.is_empty() {
        return Err(Error::Invalid(
            "a MERGE without WHEN does nothing; add WHEN MATCHED THEN … or WHEN NOT MATCHED THEN …"
                .to_owned(),
        ));
    }
    if clauses.len() > CLAUSES_MAX {
        return Err(Error::Invalid(format!(
            "a MERGE has {} WHEN clauses, more than {CLAUSES_MAX}; split it",
            clauses.len()
        )));
    }
    let mut bytes = 0;
    for (at, clause) in clauses.iter().enumerate() {
        let before = clauses[..at].iter();
        let mut before = before.filter(|other| is_same_kind(other.kind, clause.kind));
        if let Some(earlier) = before.clone().find(|other| other.condition.is_none()) {
            return Err(Error::Invalid(format!(
                "WHEN {} stands after one without AND, so it never acts; put the one without AND last",
                earlier.kind
            )));
        }
        let values = match &clause.does {
            Does::Insert(values, _) => values.len(),
            Does::Update(values) => values.len(),
            Does::Delete => 0,
        };
        let conditions = before.by_ref().chain([clause]);
        let conditions = conditions.filter_map(|clause| clause.condition.as_ref());
        let length: usize = conditions.map(|one| one.to_string().len()).sum();
        bytes += length.saturating_mul(values);
    }
    if bytes > CONDITIONS_BYTES_MAX {
        return Err(Error::Invalid(
            "the WHEN conditions of the MERGE are too long for so many values; compute them in the source, as columns"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The source with a column that is true in each of its rows, and the name of that column.
fn marked(source: TableFactor) -> Result<(TableFactor, Option<Expr>)> {
    let (TableFactor::Table { alias, .. }
    | TableFactor::Derived { alias, .. }
    | TableFactor::Function { alias, .. }) = &source
    else {
        return Err(refused(
            "such a source in a MERGE with NOT MATCHED BY SOURCE",
            "write USING (SELECT …) AS s",
        ));
    };
    let own = match (&source, alias) {
        (_, Some(alias)) => Some(alias.name.clone()),
        (TableFactor::Table { name, .. }, None) => {
            name.0.last().and_then(|name| name.as_ident()).cloned()
        }
        _ => None,
    };
    let Some(name) = own else {
        return Err(Error::Invalid(
            "the source of a MERGE needs a name; write USING (SELECT …) AS s".to_owned(),
        ));
    };
    let all = SelectItem::QualifiedWildcard(
        SelectItemQualifiedWildcardKind::ObjectName(name.clone().into()),
        WildcardAdditionalOptions::default(),
    );
    let there = named(Expr::value(Value::Boolean(true)), SOURCE);
    let query = Selected {
        with: None,
        projection: vec![all, there],
        from: vec![table(source)],
        selection: None,
    };
    let marker = column(std::slice::from_ref(&name), SOURCE);
    let derived = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(Query::from(query)),
        alias: Some(TableAlias {
            explicit: true,
            name,
            columns: Vec::new(),
        }),
        sample: None,
    };
    Ok((derived, Some(marker)))
}

/// The columns of the query, and what the clauses do with them.
fn projection(
    row_id: &Expr,
    marker: Option<&Expr>,
    clauses: Vec<Clause>,
) -> (Vec<SelectItem>, Vec<Action>) {
    let holds: Vec<Expr> = clauses
        .iter()
        .map(|clause| {
            let pair = state(clause.kind, row_id, marker);
            match &clause.condition {
                Some(condition) => and(pair, Expr::Nested(Box::new(condition.clone()))),
                None => pair,
            }
        })
        .collect();
    let kinds: Vec<MergeClauseKind> = clauses.iter().map(|clause| clause.kind).collect();
    let when = |condition: &Expr, result: Expr| CaseWhen {
        condition: condition.clone(),
        result,
    };
    let numbers = holds.iter().enumerate();
    let clause = case(
        numbers
            .map(|(nth, holds)| when(holds, number(nth)))
            .collect(),
    );
    let mut columns = vec![
        named(row_id.clone(), columns::ROW_ID),
        named(clause, CLAUSE),
    ];
    let mut actions = Vec::with_capacity(clauses.len());
    for (nth, clause) in clauses.into_iter().enumerate() {
        let first = columns.len();
        let mut add = |name: &str, value: Expr| {
            let earlier = (0..nth).filter(|other| is_same_kind(kinds[*other], kinds[nth]));
            let mut branches: Vec<CaseWhen> =
                earlier.map(|other| when(&holds[other], null())).collect();
            branches.push(when(&holds[nth], value));
            columns.push(named(case(branches), &format!("{nth}${name}")));
        };
        actions.push(match clause.does {
            Does::Delete => Action::Delete,
            Does::Update(set) => {
                let mut assigned = Vec::with_capacity(set.len());
                for (input, (column, value)) in (first..).zip(set) {
                    add(column.as_str(), value);
                    assigned.push(Assigned { column, input });
                }
                Action::Update(assigned)
            }
            Does::Insert(values, repeats) => {
                let (given, values): (Vec<Given>, Vec<Expr>) = values.into_iter().unzip();
                for (given, value) in given.iter().zip(values) {
                    add(given.name(), value);
                }
                Action::Insert(action(&given, first, repeats))
            }
        });
    }
    (columns, actions)
}

/// Whether a joined row is one that a clause of this kind is for.
fn state(kind: MergeClauseKind, row_id: &Expr, marker: Option<&Expr>) -> Expr {
    let there = Expr::IsNotNull(Box::new(row_id.clone()));
    match (kind, marker) {
        (MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget, _) => {
            Expr::IsNull(Box::new(row_id.clone()))
        }
        (MergeClauseKind::NotMatchedBySource, Some(marker)) => {
            Expr::IsNull(Box::new(marker.clone()))
        }
        (MergeClauseKind::Matched, Some(marker)) => {
            and(there, Expr::IsNotNull(Box::new(marker.clone())))
        }
        (_, None) => there,
    }
}

/// A condition is computed more than once for a row, and has to say the same each time.
fn refuse_volatile(plan: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Dml(dml) = plan else {
        return Ok(());
    };
    let is_volatile = |expr: &Planned| {
        expr.name_for_alias().is_ok_and(|name| name == CLAUSE) && expr.is_volatile()
    };
    match dml.input.expressions().iter().any(is_volatile) {
        true => Err(refused(
            "random() and the like in a WHEN condition",
            "compute it in the source: USING (SELECT *, random() AS r FROM s) AS s",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_clauses_are_told_apart_as_the_standard_does() {
        use MergeClauseKind::{Matched, NotMatched, NotMatchedBySource, NotMatchedByTarget};
        assert!(is_same_kind(NotMatched, NotMatchedByTarget));
        assert!(is_same_kind(Matched, Matched));
        assert!(!is_same_kind(NotMatched, NotMatchedBySource));
        assert!(!is_same_kind(Matched, NotMatchedBySource));
    }
}
