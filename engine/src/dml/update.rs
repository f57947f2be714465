//! `UPDATE t SET … [FROM …] [WHERE …]`
//!
//! **Invariant:** what is written of a row is the columns that the statement sets, equal values too; it never is one
//! that it does not name.

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Update, UpdateTableFromKind, With};
use lakesync_proto::columns;
use lakesync_providers::{Assigned, Verb, WritePlan};

use super::refused;
use super::select::{Selected, named, table};
use super::target::Target;
use crate::error::Result;

/// Plans an UPDATE.
pub(super) async fn plan(
    state: &SessionState,
    with: Option<With>,
    update: Update,
) -> Result<LogicalPlan> {
    refuse(&update)?;
    let target = Target::of(state, Verb::Update, &update.table.relation).await?;
    let set = target.assignments(update.assignments)?;
    let mut projection = vec![named(target.row_id(), columns::ROW_ID)];
    let mut assigned = Vec::with_capacity(set.len());
    for (column, value) in set {
        let input = projection.len();
        projection.push(named(value, column.as_str()));
        assigned.push(Assigned { column, input });
    }
    let mut from = vec![table(update.table.relation)];
    from.extend(match update.from {
        Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => from,
        None => Vec::new(),
    });
    let query = Selected {
        with,
        projection,
        from,
        selection: update.selection,
    };
    let writes = WritePlan::update(assigned);
    target.plan(state, query.into(), writes).await
}

fn refuse(update: &Update) -> Result<()> {
    if !update.table.joins.is_empty() {
        return Err(refused(
            "UPDATE of a join",
            "write UPDATE t SET … FROM s WHERE t.… = s.…",
        ));
    }
    if update.returning.is_some() {
        return Err(refused("RETURNING", "SELECT the rows afterwards"));
    }
    if update.or.is_some() {
        return Err(refused("UPDATE OR …", "leave OR … out"));
    }
    if update.limit.is_some() {
        return Err(refused(
            "UPDATE … LIMIT",
            "write WHERE row_id IN (SELECT row_id FROM t ORDER BY … LIMIT …)",
        ));
    }
    Ok(())
}
