//! `rule_rows`: what the rules look at of each row, in the gateway's database.
//!
//! ```text
//! rule_rows  version │ table_name │ row_id │ state (proto::encode_batch of the state's deltas)
//! ```
//! Seqs mean nothing in it: deltas of the state have the seq 1. Of a row that was deleted those of the state in which it
//! last existed follow, with the seq 2; they are older than its DELETE, so merging them too changes nothing.
//!
//! **Invariant:** a row of a version is whole: it is replaced, never changed in part.

use lakesync_proto::{RowId, RowState, Seq, SeqDelta, TableName, encode_batch, row_deltas};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use crate::durable::{AppendError, DurableLog, broken};
use crate::error::Result;

/// The table's definition.
pub(crate) const RULE_ROWS: &str = "
    create table rule_rows (
        version integer not null, table_name text not null, row_id text not null, state blob not null,
        primary key (version, table_name, row_id)
    ) without rowid;
";

/// The seq of deltas of a row's state.
fn now() -> Seq {
    Seq::ZERO.next()
}

/// What is kept of a row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) state: RowState,
    /// The state in which it last existed, when it does not any more and that is known.
    pub(crate) last: Option<RowState>,
}

impl Kept {
    /// What deltas of a row of `rule_rows` say.
    pub(crate) fn read(deltas: &[SeqDelta]) -> Self {
        let mut kept = Self::default();
        for delta in deltas {
            match delta.seq == now() {
                true => kept.state.apply(&delta.delta),
                false => kept.last.get_or_insert_default().apply(&delta.delta),
            }
        }
        kept
    }

    /// Notes that the row is in another state now.
    pub(crate) fn step(&mut self, step: impl FnOnce(&mut RowState)) {
        let before = self.state.exists().then(|| self.state.clone());
        step(&mut self.state);
        self.last = match self.state.exists() {
            true => None,
            false => before.or(self.last.take()),
        };
    }
}

/// A row of `rule_rows`.
#[derive(Debug)]
pub(crate) struct RuleRow {
    version: u64,
    table: TableName,
    row_id: RowId,
    state: Vec<u8>,
}

impl RuleRow {
    pub(crate) fn of(version: u64, (table, row_id): (TableName, RowId), row: &Kept) -> Self {
        let mut deltas: Vec<SeqDelta> = Vec::new();
        let states = std::iter::once(&row.state).chain(&row.last);
        for (state, seq) in states.zip([now(), now().next()]) {
            let state = row_deltas(&table, &row_id, state).into_iter();
            deltas.extend(state.map(|delta| SeqDelta { seq, delta }));
        }
        Self {
            version,
            table,
            row_id,
            state: encode_batch(&deltas),
        }
    }
}

impl DurableLog {
    /// The state of one row as a version of the rules has it, encoded.
    pub(crate) fn rule_row(
        &self,
        version: u64,
        table: &TableName,
        row_id: &RowId,
    ) -> Result<Option<Vec<u8>>> {
        let found = self.connection.prepare_cached(
            "select state from rule_rows where version = ?1 and table_name = ?2 and row_id = ?3",
        );
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        found
            .and_then(|mut found| {
                let key = params![version, table.as_ref(), row_id.as_str()];
                found.query_row(key, |row| row.get(0)).optional()
            })
            .map_err(|error| broken(&self.path, &error))
    }

    /// Writes rows of the rules and keys of `meta` in one fsynced transaction.
    ///
    /// # Errors
    /// As [`DurableLog::append`].
    pub(crate) fn set_rules(
        &mut self,
        rows: &[RuleRow],
        meta: &[(&str, &str)],
    ) -> std::result::Result<(), AppendError> {
        let put = |tx: &Transaction<'_>| {
            put_rule_rows(tx, rows)?;
            for (key, value) in meta {
                let pair = params![key, value];
                tx.execute("insert or replace into meta values (?1, ?2)", pair)?;
            }
            Ok(())
        };
        let tx = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(AppendError::RolledBack)?;
        put(&tx).map_err(AppendError::RolledBack)?;
        tx.commit().map_err(AppendError::Unknown)
    }

    /// Forgets up to `limit` rows of rules of other versions than `keep`; gives how many.
    pub(crate) fn forget_rule_rows(&mut self, keep: &[u64], limit: usize) -> Result<usize> {
        let keep: Vec<String> = keep.iter().map(u64::to_string).collect();
        let sql = format!(
            "delete from rule_rows where (version, table_name, row_id) in
             (select version, table_name, row_id from rule_rows where version not in ({}) limit {limit})",
            keep.join(", ")
        );
        self.connection
            .execute(&sql, [])
            .map_err(|error| broken(&self.path, &error))
    }
}

/// Writes rows into a transaction.
pub(crate) fn put_rule_rows(tx: &Transaction<'_>, rows: &[RuleRow]) -> rusqlite::Result<()> {
    let mut put = tx.prepare_cached("insert or replace into rule_rows values (?1, ?2, ?3, ?4)")?;
    for row in rows {
        let version = i64::try_from(row.version).unwrap_or(i64::MAX);
        put.execute(params![
            version,
            row.table.as_ref(),
            row.row_id.as_str(),
            row.state
        ])?;
    }
    Ok(())
}
