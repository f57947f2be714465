//! SQL writes: the rows of an INSERT become deltas and take the path of a push.
//!
//! **Invariant:** a statement's stamps are above the greatest stamp of the view it read, so its effect is
//! what it reports. It is not serializable against concurrent pushes: a client that stamps higher wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Hlc, HlcClock, Op, Push, RowDelta, RowId,
    TableSchema, Value, limits,
};
use lakesync_providers::{InsertRows, ReadView, WriteError, WriteSink, existing};
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::Gateway;

/// The client id of deltas that SQL statements of nobody in particular make.
const SQL_CLIENT: &str = "sql";

/// Writes what SQL statements insert, in somebody's name.
#[derive(Debug)]
pub struct SqlWriter {
    gateway: Arc<Gateway>,
    client_id: ClientId,
}

impl SqlWriter {
    /// Deltas of its statements are stamped by `subject`, a token's `sub`; by `sql` when there is none.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, subject: Option<&ClientId>) -> Self {
        let nobody = || ClientId::parse(SQL_CLIENT).expect("a short plain word is a client id");
        Self {
            gateway,
            client_id: subject.cloned().unwrap_or_else(nobody),
        }
    }
}

type Row = (RowId, BTreeMap<ColumnName, Value>);

#[async_trait]
impl WriteSink for SqlWriter {
    async fn insert(&self, insert: InsertRows) -> Result<u64, WriteError> {
        let schema = &insert.view.schema;
        let rows = with_ids(schema, insert.rows)?;
        if rows.len() > limits::PUSH_DELTAS_MAX {
            return Err(refused(format!(
                "an INSERT into `{}` may hold {} rows, this one has {}; split it, or load the file with `lakesync push`",
                schema.table,
                limits::PUSH_DELTAS_MAX,
                rows.len()
            )));
        }
        // One INSERT at a time looks at the rows that exist now, so two of one key cannot both find it free.
        let gateway = &self.gateway;
        let _held = gateway.inserting.lock().await;
        let view = gateway
            .live
            .view(schema.table.as_ref())
            .unwrap_or_else(|| Arc::clone(&insert.view));
        refuse_existing(&view, &rows).await?;
        let deltas = gateway.stamped(&view, &self.client_id, rows)?;
        let written = deltas.len() as u64;
        let push = Push {
            client_id: self.client_id.clone(),
            deltas,
            last_seen: view.seq,
            schemas: None,
        };
        gateway.push(push).await.map_err(|error| match error {
            Error::Refused(refusal) => refused(refusal.to_string()),
            error => unavailable(&error),
        })?;
        Ok(written)
    }
}

/// Gives each row its id: the key's, the one it brought, or a new UUIDv7.
fn with_ids(
    schema: &TableSchema,
    rows: Vec<(Option<RowId>, BTreeMap<ColumnName, Value>)>,
) -> Result<Vec<Row>, WriteError> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::with_capacity(rows.len());
    for (number, (given, values)) in rows.into_iter().enumerate() {
        let at = |reason: String| refused(format!("row {} of the INSERT: {reason}", number + 1));
        let of_key = schema
            .row_id(&|name| values.get(name).cloned())
            .map_err(|error| at(error.to_string()))?;
        let row_id = match (of_key, given) {
            (Some(key), Some(given)) if key != given => {
                return Err(at(format!(
                    "row_id is `{given}` but the key says `{key}`; leave row_id out"
                )));
            }
            (Some(key), _) => key,
            (None, Some(given)) => given,
            (None, None) => {
                RowId::parse(&Uuid::now_v7().to_string()).map_err(|error| at(error.to_string()))?
            }
        };
        if !seen.insert(row_id.clone()) {
            return Err(at(format!("`{row_id}` is there twice in this statement")));
        }
        found.push((row_id, values));
    }
    Ok(found)
}

async fn refuse_existing(view: &Arc<ReadView>, rows: &[Row]) -> Result<(), WriteError> {
    let ids: Vec<RowId> = rows.iter().map(|(id, _)| id.clone()).collect();
    let existing = existing(view, &ids)
        .await
        .map_err(|error| unavailable(&error))?;
    match existing.first() {
        None => Ok(()),
        Some(id) => Err(refused(format!(
            "`{}` has a row `{id}` already; INSERT adds new rows only, nothing was written",
            view.table()
        ))),
    }
}

impl Gateway {
    /// Deltas for new rows, stamped above everything in `view`.
    fn stamped(
        &self,
        view: &ReadView,
        client_id: &ClientId,
        rows: Vec<Row>,
    ) -> Result<Vec<RowDelta>, WriteError> {
        let now_ms = self.components.clock.now_ms();
        let mut seen = view.base.max_hlc.max(view.log.max_hlc);
        for delta in view.hot_deltas() {
            seen = seen.max(delta.delta.hlc);
        }
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = HlcClock::starting_at(clock.last().max(seen));
        let mut deltas = Vec::with_capacity(rows.len());
        for (row_id, values) in rows {
            let hlc: Hlc = clock
                .now(now_ms)
                .map_err(|error| refused(error.to_string()))?;
            let changes = values
                .into_iter()
                .map(|(column, value)| ColumnChange { column, value });
            let key = DeltaKey {
                table: view.table().clone(),
                row_id,
                client_id: client_id.clone(),
                hlc,
            };
            deltas.push(RowDelta::new(Op::Insert, key, changes.collect()));
        }
        Ok(deltas)
    }
}

fn unavailable(error: &dyn std::error::Error) -> WriteError {
    WriteError::Unavailable {
        reason: error.to_string(),
    }
}

fn refused(reason: String) -> WriteError {
    WriteError::Refused { reason }
}
