//! What a person finds on looking into a client database.
//!
//! Invariant: one transaction reads it all, so its numbers belong together, and nobody is asked.

use lakesync_proto::{Epoch, Seq, TableName};
use rusqlite::Connection;

use crate::db::LocalDb;
use crate::error::ClientError;
use crate::local::Work;
use crate::outbox::{self, OutboxCounts};
use crate::schema::LocalTable;
use crate::state;
use crate::sync::{SchemaState, difference};

/// The state of a client database, see [`LocalDb::overview`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Everything of the gateway up to here has been applied.
    pub seq: Seq,
    /// The log that `seq` counts in; none before the first answer.
    pub epoch: Option<Epoch>,
    /// The native cursor, as the gateway gave it; none before the first sync has come to its end.
    pub cursor: Option<String>,
    /// What the gateway's warehouse holds, as it last said.
    pub durable: Seq,
    /// What the gateway's wall clock shows more than this machine's, in milliseconds; 0 while they differ by less than
    /// two seconds.
    pub skew_ms: i64,
    /// Whether a checkpoint has been loaded in part: the next sync goes on with it.
    pub is_loading: bool,
    /// Whether the gateway's tables are known.
    pub knows_gateway: bool,
    /// Own edits, by state.
    pub outbox: OutboxCounts,
    /// The registered tables, by name.
    pub tables: Vec<TableOverview>,
}

/// One table of a client database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOverview {
    /// Its name.
    pub table: TableName,
    /// Visible rows.
    pub rows: u64,
    /// Edits that wait to be sent.
    pub waiting: u64,
    /// How it differs from the gateway's table of this name; none when it does not, or when nobody has asked yet.
    pub schema: Option<SchemaState>,
}

impl LocalDb {
    /// What this database holds and where it stands, for a person to read.
    ///
    /// # Errors
    /// When the database fails.
    pub fn overview(&self) -> Result<Overview, ClientError> {
        self.keep(read)
    }
}

fn read(work: &mut Work<'_>) -> Result<Overview, ClientError> {
    let connection = work.tx;
    let knows_gateway = state::schemas_hash(connection)?.is_some();
    let waiting = outbox::waiting(connection)?;
    let tables = work.registry.tables().map(|table| {
        let waiting = waiting.get(&table.number).copied().unwrap_or(0);
        Ok(TableOverview {
            table: table.schema.table.clone(),
            rows: rows(connection, table)?,
            waiting,
            schema: match knows_gateway {
                true => difference(table, waiting),
                false => None,
            },
        })
    });
    Ok(Overview {
        tables: tables.collect::<Result<_, ClientError>>()?,
        seq: state::seq(connection)?,
        epoch: state::epoch(connection)?,
        cursor: state::cursor(connection)?,
        durable: state::durable(connection)?,
        skew_ms: state::skew_ms(connection)?,
        is_loading: state::checkpoint(connection)?.is_some(),
        knows_gateway,
        outbox: outbox::counts(connection)?,
    })
}

fn rows(connection: &Connection, table: &LocalTable) -> Result<u64, ClientError> {
    // A table's name is an identifier without quotes.
    let sql = format!("SELECT count(*) FROM \"{}\"", table.schema.table);
    let counted: i64 = connection.query_row(&sql, [], |row| row.get(0))?;
    Ok(u64::try_from(counted).expect("SQLite counts from 0"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};

    use super::*;

    fn schema(columns: &[&str]) -> TableSchema {
        let columns: Vec<String> = columns
            .iter()
            .map(|name| format!(r#"{{"name": "{name}", "type": "string"}}"#))
            .collect();
        let json = format!(r#"{{"table": "t", "columns": [{}]}}"#, columns.join(","));
        let definition = TableDefinition::from_json(json.as_bytes()).unwrap();
        TableSchema::from_definition(&definition).unwrap()
    }

    #[test]
    fn an_overview_counts_rows_and_edits_and_tells_schemas_apart() {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let db = LocalDb::open(":memory:", ClientId::parse("ana").unwrap(), clock).unwrap();
        db.register(&schema(&["a", "b"])).unwrap();
        db.execute("INSERT INTO t (a) VALUES ('x'), ('y')", [])
            .unwrap();
        let overview = db.overview().unwrap();
        let table = &overview.tables[0];
        assert_eq!(
            (table.rows, table.waiting, overview.outbox.pending),
            (2, 2, 2)
        );
        assert_eq!((&table.schema, overview.knows_gateway), (&None, false));
        let waiting = 2;
        let without = TableDefinition::from_json(
            br#"{"table": "t", "columns": [{"name": "a", "type": "string"}]}"#,
        );
        let dropped = schema(&["a", "b"]).evolve(&without.unwrap()).unwrap();
        for (theirs, state) in [
            (vec![], Some(SchemaState::UnknownToGateway { waiting })),
            (
                vec![schema(&["a"])],
                Some(SchemaState::GatewayBehind { waiting }),
            ),
            (vec![schema(&["a", "b"])], None),
            // What the gateway has dropped it still takes, so nothing waits for it.
            (vec![dropped.schema], None),
            (
                vec![schema(&["a", "b", "c"])],
                Some(SchemaState::GatewayAhead),
            ),
        ] {
            let hash = lakesync_proto::schemas_hash(&theirs);
            let noted = db.keep(|work| work.registry.note_gateway(work.tx, &theirs, hash));
            assert!(noted.unwrap().is_empty());
            let overview = db.overview().unwrap();
            assert_eq!(
                (&overview.tables[0].schema, overview.knows_gateway),
                (&state, true)
            );
        }
    }

    #[test]
    fn a_file_is_reopened_as_the_client_it_belongs_to_and_no_other_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let clock = || Arc::new(ManualClock::new(1_700_000_000_000));
        let path = folder.path().join("ana.db");
        let ana = ClientId::parse("ana").unwrap();
        drop(LocalDb::open(&path, ana.clone(), clock()).unwrap());
        assert_eq!(LocalDb::reopen(&path, clock()).unwrap().client_id(), ana);
        let other = folder.path().join("other.db");
        Connection::open(&other)
            .unwrap()
            .execute_batch("CREATE TABLE t (a)")
            .unwrap();
        let refused = LocalDb::reopen(&other, clock()).unwrap_err();
        assert!(matches!(refused, ClientError::NoClient), "{refused}");
        let missing = folder.path().join("missing.db");
        LocalDb::reopen(&missing, clock()).unwrap_err();
        assert!(!missing.exists());
    }
}
