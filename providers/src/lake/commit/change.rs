//! Changes of a table that make no snapshot: schema, properties.
//!
//! **Invariant**: a change is planned from the table as it is, and planning it again once it took
//! effect gives nothing to do. So it may be repeated freely: after a lost race, after a lost answer,
//! after a crash.

use iceberg::spec::MAIN_BRANCH;
use iceberg::table::Table;
use iceberg::{TableIdent, TableRequirement, TableUpdate};

use super::RetryPolicy;
use crate::lake::catalog::Fence;
use crate::lake::error::{CommitError, CommitErrorKind, LakeError};
use crate::lake::warehouse::Warehouse;

/// Applies the updates that `plan` gives for the table, until it gives none, and returns the table.
///
/// # Errors
/// What `plan` returns; and `Conflict` after too many lost races, `Fenced`, `Unknown` or `Failed` as
/// for [`Commit::run`](super::Commit::run).
pub async fn change_table<P>(
    warehouse: &Warehouse,
    ident: &TableIdent,
    fence: Option<&Fence>,
    plan: P,
) -> Result<Table, LakeError>
where
    P: Fn(&Table) -> Result<Vec<TableUpdate>, LakeError> + Send + Sync,
{
    let retry = RetryPolicy::default();
    let catalog = warehouse.catalog();
    let mut lost = None;
    let mut attempt = 0;
    loop {
        let loaded = catalog.load_table(ident).await;
        let table = loaded.map_err(LakeError::iceberg("load the table", ident))?;
        let updates = plan(&table)?;
        if updates.is_empty() {
            return Ok(table);
        }
        if attempt >= retry.attempts {
            let reason = format!("{attempt} attempts lost against other commits");
            return Err(lost
                .unwrap_or_else(|| CommitError::conflict(ident, reason))
                .into());
        }
        match catalog
            .commit(ident, requirements(&table), updates, fence)
            .await
        {
            Ok(table) => return Ok(table),
            Err(error) => match error.kind() {
                CommitErrorKind::Conflict | CommitErrorKind::Unknown => lost = Some(error),
                CommitErrorKind::Fenced | CommitErrorKind::Failed => return Err(error.into()),
            },
        }
        retry.wait(attempt).await;
        attempt += 1;
    }
}

fn requirements(table: &Table) -> Vec<TableRequirement> {
    let metadata = table.metadata();
    vec![
        TableRequirement::UuidMatch {
            uuid: metadata.uuid(),
        },
        TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN_BRANCH.to_owned(),
            snapshot_id: metadata.current_snapshot_id(),
        },
        TableRequirement::CurrentSchemaIdMatch {
            current_schema_id: metadata.current_schema_id(),
        },
        TableRequirement::LastAssignedFieldIdMatch {
            last_assigned_field_id: metadata.last_column_id(),
        },
    ]
}
