//! `DELETE FROM t [USING …] [WHERE …]`
//!
//! **Invariant:** a row is deleted, and counted, once, however many rows of USING match it.

use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{Delete, FromTable, TableWithJoins, With};
use lakesync_proto::columns;
use lakesync_providers::{Verb, WritePlan};

use super::refused;
use super::select::{Selected, named, table};
use super::target::Target;
use crate::error::Result;

/// Plans a DELETE.
pub(super) async fn plan(
    state: &SessionState,
    with: Option<With>,
    delete: Delete,
) -> Result<LogicalPlan> {
    let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
    let relation = match tables.as_slice() {
        [TableWithJoins { relation, joins }] if joins.is_empty() && delete.tables.is_empty() => {
            relation.clone()
        }
        _ => {
            return Err(refused(
                "DELETE of a join",
                "write DELETE FROM t USING s WHERE t.… = s.…",
            ));
        }
    };
    if delete.returning.is_some() {
        return Err(refused("RETURNING", "SELECT the rows before"));
    }
    if delete.limit.is_some() || !delete.order_by.is_empty() {
        return Err(refused(
            "DELETE … ORDER BY … LIMIT",
            "write WHERE row_id IN (SELECT row_id FROM t ORDER BY … LIMIT …)",
        ));
    }
    let target = Target::of(state, Verb::Delete, &relation).await?;
    let mut from = vec![table(relation)];
    from.extend(delete.using.unwrap_or_default());
    let query = Selected {
        with,
        projection: vec![named(target.row_id(), columns::ROW_ID)],
        from,
        selection: delete.selection,
    };
    target.plan(state, query.into(), WritePlan::delete()).await
}
