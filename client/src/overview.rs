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
    /// What is known of the gateway's table of this name.
    pub schema: SchemaOverview,
}

/// How a table here and the gateway's table of that name go together, as far as the gateway has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaOverview {
    /// They have the same columns.
    Same,
    /// The gateway was never asked.
    NotAsked,
    /// The gateway has no such table: its edits wait until there is one.
    Missing,
    /// The gateway lacks columns: edits of them wait until it has them.
    GatewayBehind,
    /// The gateway has columns that come here with the first edit that needs them.
    GatewayAhead,
    /// They cannot be brought together; edits wait until one of them is changed.
    Conflict {
        /// Why.
        reason: String,
    },
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
    let asked = state::schemas_hash(connection)?.is_some();
    let tables = work.registry.tables();
    let tables = tables.map(|table| {
        Ok(TableOverview {
            table: table.schema.table.clone(),
            rows: rows(connection, table)?,
            waiting: waiting(connection, table)?,
            schema: schema(table, asked),
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
        outbox: outbox::counts(connection)?,
    })
}

fn rows(connection: &Connection, table: &LocalTable) -> Result<u64, ClientError> {
    // A table's name is an identifier without quotes.
    let sql = format!("SELECT count(*) FROM \"{}\"", table.schema.table);
    count(connection.query_row(&sql, [], |row| row.get(0))?)
}

fn waiting(connection: &Connection, table: &LocalTable) -> Result<u64, ClientError> {
    let sql = "SELECT count(*) FROM _lakesync_outbox WHERE state = 0 AND table_number = ?1";
    count(connection.query_row(sql, [table.number], |row| row.get(0))?)
}

fn count(counted: i64) -> Result<u64, ClientError> {
    u64::try_from(counted).map_err(|_| ClientError::Damaged {
        what: format!("{counted} rows were counted"),
    })
}

fn schema(table: &LocalTable, asked: bool) -> SchemaOverview {
    if let Some(reason) = &table.conflict {
        return SchemaOverview::Conflict {
            reason: reason.clone(),
        };
    }
    let Some(gateway) = &table.gateway else {
        return match asked {
            true => SchemaOverview::Missing,
            false => SchemaOverview::NotAsked,
        };
    };
    let lacks = |mine: &lakesync_proto::TableSchema, theirs: &lakesync_proto::TableSchema| {
        let mut columns = theirs.columns.iter();
        columns.any(|column| mine.column(column.name.as_ref()).is_none())
    };
    if lacks(gateway, &table.schema) {
        SchemaOverview::GatewayBehind
    } else if lacks(&table.schema, gateway) {
        SchemaOverview::GatewayAhead
    } else {
        SchemaOverview::Same
    }
}
