//! One commit: check, write the new metadata file, swap the pointer.
//!
//! ```text
//! load ─► requirements ─► updates ─► metadata.json (durable) ─► BEGIN IMMEDIATE
//!                                                                 fence is ours?  else Fenced
//!                                                                 pointer moved?  else Conflict
//!                                                               COMMIT            else Unknown
//! ```
//! A crash before COMMIT leaves an unreferenced metadata file and nothing else.

use std::str::FromStr;

use iceberg::spec::TableMetadata;
use iceberg::table::Table;
use iceberg::{Catalog, MetadataLocation, TableIdent, TableRequirement, TableUpdate};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{FENCE, Fence, SqliteCatalog, namespaces, order, tables};
use crate::crash;
use crate::lake::error::CommitError;
use crate::lake::snapshots::named_and_removed;

/// The table property that has old metadata files deleted as they leave the metadata log.
pub(in crate::lake) const DELETE_OLD_METADATA: &str = "write.metadata.delete-after-commit.enabled";

/// What a commit asks for.
pub(super) struct Change {
    pub(super) requirements: Vec<TableRequirement>,
    pub(super) updates: Vec<TableUpdate>,
}

pub(super) async fn commit(
    catalog: &SqliteCatalog,
    ident: &TableIdent,
    change: Change,
    fence: Option<&Fence>,
) -> Result<Table, CommitError> {
    let failed = |e: iceberg::Error| CommitError::failed(ident, e);
    let table = catalog.load_table(ident).await.map_err(failed)?;
    for requirement in &change.requirements {
        if let Err(unmet) = requirement.check(Some(table.metadata())) {
            return Err(CommitError::conflict(ident, unmet.message()));
        }
    }
    if let Some((name, snapshot)) = named_and_removed(table.metadata(), &change.updates) {
        let reason = format!("snapshot {snapshot} would go, and `{name}` names it");
        return Err(CommitError::conflict(ident, reason));
    }
    let next = Next::build(&table, change.updates, catalog.now_ms()).map_err(failed)?;
    let written = next.metadata.write_to(&catalog.file_io, &next.location);
    written.await.map_err(failed)?;
    crash::point("commit.after_metadata");

    let location = next.location.to_string();
    let swap = Swap {
        row: tables::Row::of(ident),
        from: next.previous,
        to: location.clone(),
        fence: fence.cloned(),
    };
    let swapped = catalog
        .with_connection(move |connection| Ok(swap.run(connection)))
        .await
        .map_err(|e| CommitError::unknown(ident, e))?;
    if let Some(refused) = swapped.into_error(ident, fence) {
        if !matches!(refused, CommitError::Unknown { .. }) {
            discard(catalog, &[location]).await;
        }
        return Err(refused);
    }
    crash::point("commit.after_swap");
    discard(catalog, &next.expired).await;
    catalog
        .build(ident, &location, next.metadata)
        // It is committed; that it cannot be shown is not a reason to repeat it.
        .map_err(|e| CommitError::unknown(ident, e))
}

/// Deletes files that nothing refers to. What stays behind is left to orphan removal.
async fn discard(catalog: &SqliteCatalog, uris: &[String]) {
    for uri in uris {
        drop(catalog.file_io.delete(uri).await);
    }
}

/// The state after a commit.
struct Next {
    metadata: TableMetadata,
    location: MetadataLocation,
    previous: String,
    /// Old metadata files that may go once this one is current.
    expired: Vec<String>,
}

impl Next {
    fn build(table: &Table, updates: Vec<TableUpdate>, now_ms: i64) -> iceberg::Result<Self> {
        let previous = table.metadata_location_result()?.to_owned();
        let built = order::apply((table.metadata(), &previous), updates, now_ms)?;
        let metadata = built.metadata;
        let location = match MetadataLocation::from_str(&previous) {
            Ok(location) => location.with_next_version().with_new_metadata(&metadata),
            // Another program named the file in its own way: begin our numbering.
            Err(_) => MetadataLocation::new_with_metadata(metadata.location(), &metadata),
        };
        let delete_old = metadata.properties().get(DELETE_OLD_METADATA);
        let expired = match delete_old.map(String::as_str) {
            Some("true") => built.expired_metadata_logs,
            _ => Vec::new(),
        };
        Ok(Self {
            metadata,
            location,
            previous,
            expired: expired.into_iter().map(|log| log.metadata_file).collect(),
        })
    }
}

/// The transaction, owned so that it can go to another thread.
struct Swap {
    row: tables::Row,
    from: String,
    to: String,
    fence: Option<Fence>,
}

/// What became of it.
enum Swapped {
    Done,
    /// The pointer was elsewhere.
    Lost,
    Fenced,
    /// Refused before COMMIT: it did not happen.
    Refused(rusqlite::Error),
    /// COMMIT did not say yes: it may have happened.
    Unclear(rusqlite::Error),
}

impl Swap {
    fn run(&self, connection: &mut Connection) -> Swapped {
        match self.try_run(connection) {
            Ok(swapped) => swapped,
            Err(e) => Swapped::Refused(e),
        }
    }

    fn try_run(&self, connection: &mut Connection) -> rusqlite::Result<Swapped> {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(fence) = &self.fence {
            let found = namespaces::property(&tx, fence.namespace.as_ref(), FENCE)?;
            if !found.is_some_and(|token| fence.is_held_by(&token)) {
                return Ok(Swapped::Fenced);
            }
        }
        if !tables::swap(&tx, &self.row, &self.from, &self.to)? {
            return Ok(Swapped::Lost);
        }
        match tx.commit() {
            Ok(()) => Ok(Swapped::Done),
            // SQLite promises that a busy COMMIT did nothing.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                Ok(Swapped::Refused(e))
            }
            Err(e) => Ok(Swapped::Unclear(e)),
        }
    }
}

impl Swapped {
    fn into_error(self, ident: &TableIdent, fence: Option<&Fence>) -> Option<CommitError> {
        match self {
            Self::Done => None,
            Self::Lost => Some(CommitError::conflict(ident, "another commit was first")),
            Self::Fenced => Some(CommitError::Fenced {
                namespace: fence.map_or_else(
                    || ident.namespace().to_string(),
                    |fence| fence.namespace.to_string(),
                ),
            }),
            Self::Refused(e) => Some(CommitError::failed(ident, e)),
            Self::Unclear(e) => Some(CommitError::unknown(ident, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::lake::tests::Lake;

    /// A crash between the metadata file and the swap: nothing changed, one orphan is left, and the
    /// next commit works.
    #[tokio::test]
    async fn a_crash_before_the_swap_leaves_an_orphan_and_nothing_else() {
        let lake = Lake::with_table().await;
        let table = lake.append(&[&["a"]]).await;
        let before = lake.on_disk();
        let update = TableUpdate::SetProperties {
            updates: HashMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let next = Next::build(&table, vec![update], 0).unwrap();
        let written = next.metadata.write_to(table.file_io(), &next.location);
        written.await.unwrap();

        let orphans: Vec<_> = lake.on_disk();
        assert_eq!(orphans.len(), before.len() + 1);
        let reopened = lake.reopened().await;
        let after = reopened.catalog().load_table(&lake.ident()).await.unwrap();
        assert_eq!(after.metadata_location(), table.metadata_location());
        assert_eq!(after.metadata(), table.metadata());
        let next = lake.append(&[&["b"]]).await;
        assert_eq!(crate::lake::tests::scanned(&next).await, ["aA", "bB"]);
    }

    /// Both writers read the same state, both passed the requirements: the pointer decides.
    #[tokio::test]
    async fn of_two_swaps_from_one_state_the_second_is_lost() {
        let lake = Lake::with_table().await;
        let table = lake.append(&[&["a"]]).await;
        let path = lake.dir.path().join("catalog.db");
        let mut connection = Connection::open(&path).unwrap();
        let mut swap = |to: &str| {
            let swap = Swap {
                row: tables::Row::of(&lake.ident()),
                from: table.metadata_location().unwrap().to_owned(),
                to: to.to_owned(),
                fence: None,
            };
            swap.run(&mut connection).into_error(&lake.ident(), None)
        };
        assert!(swap("first").is_none());
        let lost = swap("second").unwrap();
        assert!(matches!(lost, CommitError::Conflict { .. }), "{lost}");
        let current = tables::location(&connection, &tables::Row::of(&lake.ident())).unwrap();
        assert_eq!(current.as_deref(), Some("first"));
    }

    /// A program that holds the file through our patience: nothing happened, and that is known.
    #[tokio::test]
    async fn a_busy_catalog_refuses_the_swap() {
        let lake = Lake::with_table().await;
        let path = lake.dir.path().join("catalog.db");
        let holder = Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut connection = Connection::open(&path).unwrap();
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        let swap = Swap {
            row: tables::Row::of(&lake.ident()),
            from: "x".to_owned(),
            to: "y".to_owned(),
            fence: None,
        };
        let refused = swap.run(&mut connection).into_error(&lake.ident(), None);
        assert!(matches!(refused, Some(CommitError::Failed { .. })));
    }

    #[tokio::test]
    async fn old_metadata_files_go_as_they_leave_the_log() {
        let lake = Lake::with_table().await;
        let keep = TableUpdate::SetProperties {
            updates: HashMap::from([(
                "write.metadata.previous-versions-max".to_owned(),
                "2".to_owned(),
            )]),
        };
        let catalog = lake.warehouse.catalog();
        catalog
            .commit(&lake.ident(), vec![], vec![keep], None)
            .await
            .unwrap();
        for _ in 0..5 {
            lake.append(&[]).await;
        }
        let base = lake.dir.path().join("warehouse/public/t/metadata");
        let files = std::fs::read_dir(base)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let metadata = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
        assert_eq!(metadata.count(), 3, "the current one and two before it");
    }
}
