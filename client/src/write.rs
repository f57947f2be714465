//! Local edits: stamp, delta, outbox, merge, in one transaction.
//!
//! Invariant: an edit is stamped above everything this client has stamped or learned, also after a restart and when
//! the wall clock steps back. It merges like any other delta: against a value whose stamp lies beyond the drift bound,
//! which the clock refused to learn, it loses here as it will lose everywhere.

use lakesync_proto::{
    ColumnChange, ColumnName, DeltaKey, Hlc, HlcClock, Op, RowDelta, RowId, TableName, Value,
};
use rusqlite::{Connection, TransactionBehavior};

use crate::client::Client;
use crate::error::ClientError;
use crate::row_name::new_row_id;
use crate::{outbox, state, store};

impl Client {
    /// Adds a row. Its id is made of the key columns; a table without a key gets a new UUID.
    ///
    /// # Errors
    /// [`ClientError::RowExists`]; [`ClientError::Check`] when a value does not fit its column.
    pub fn insert(
        &mut self,
        table: &str,
        values: &[(&str, Value)],
    ) -> Result<RowDelta, ClientError> {
        self.write(Edit {
            op: Op::Insert,
            table,
            row_id: None,
            values,
        })
    }

    /// Changes columns of a row; the others stay as they are.
    ///
    /// # Errors
    /// [`ClientError::RowMissing`]; [`ClientError::Check`] when a value does not fit its column or the column is part
    /// of the key.
    pub fn update(
        &mut self,
        table: &str,
        row_id: &str,
        changes: &[(&str, Value)],
    ) -> Result<RowDelta, ClientError> {
        self.write(Edit {
            op: Op::Update,
            table,
            row_id: Some(row_id),
            values: changes,
        })
    }

    /// Removes a row.
    ///
    /// # Errors
    /// [`ClientError::RowMissing`].
    pub fn delete(&mut self, table: &str, row_id: &str) -> Result<RowDelta, ClientError> {
        self.write(Edit {
            op: Op::Delete,
            table,
            row_id: Some(row_id),
            values: &[],
        })
    }

    fn write(&mut self, edit: Edit<'_>) -> Result<RowDelta, ClientError> {
        let table = self.registry.table(&TableName::parse(edit.table)?)?;
        let columns = changes(edit.values)?;
        let row_id = edit.row_id.map(RowId::parse).transpose()?;
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let hlc = tick(&transaction, self.wall_clock.now_ms())?;
        let row_id = match row_id {
            Some(row_id) => row_id,
            None => new_row_id(&table.schema, &columns, &self.client_id, hlc)?,
        };
        let key = DeltaKey {
            table: table.schema.table.clone(),
            row_id,
            client_id: self.client_id.clone(),
            hlc,
        };
        let delta = RowDelta::new(edit.op, key, columns);
        table
            .schema
            .check(&delta)
            .map_err(|source| ClientError::Check {
                table: table.schema.table.clone(),
                source,
            })?;
        let before = store::load(&transaction, table, &delta.row_id)?;
        check_presence(&delta, before.exists())?;
        let mut after = before.clone();
        after.apply(&delta);
        store::save(&transaction, table, &delta.row_id, &before, &after)?;
        outbox::add(&transaction, &delta)?;
        transaction.commit()?;
        Ok(delta)
    }
}

/// One local edit, as it was asked for.
struct Edit<'a> {
    op: Op,
    table: &'a str,
    row_id: Option<&'a str>,
    values: &'a [(&'a str, Value)],
}

fn changes(values: &[(&str, Value)]) -> Result<Vec<ColumnChange>, ClientError> {
    values
        .iter()
        .map(|(name, value)| {
            Ok(ColumnChange {
                column: ColumnName::parse(name)?,
                value: value.clone(),
            })
        })
        .collect()
}

/// The next stamp; the clock moves with the transaction.
fn tick(connection: &Connection, now_ms: u64) -> Result<Hlc, ClientError> {
    let mut clock = HlcClock::starting_at(state::clock(connection)?);
    let hlc = clock.now(now_ms)?;
    state::set_clock(connection, hlc)?;
    Ok(hlc)
}

fn check_presence(delta: &RowDelta, exists: bool) -> Result<(), ClientError> {
    let (table, row_id) = (delta.table.clone(), delta.row_id.clone());
    match (delta.op, exists) {
        (Op::Insert, true) => Err(ClientError::RowExists { table, row_id }),
        (Op::Update | Op::Delete, false) => Err(ClientError::RowMissing { table, row_id }),
        (Op::Insert, false) | (Op::Update | Op::Delete, true) => Ok(()),
    }
}
