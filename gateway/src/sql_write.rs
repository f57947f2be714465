//! SQL writes: what a statement does to rows becomes deltas and takes the path of a push.
//!
//! All deltas of a statement have one stamp, so that nobody who travels by HLC sees half of it.
//!
//! **Invariant:** the stamp is above every stamp that was visible when the statement is written, so its effect is
//! what it reports. It is not serializable against concurrent pushes: what arrives between the statement's view and its
//! commit is overwritten, a row deleted in between comes back with the columns that were set, and a client that stamps
//! higher wins.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use lakesync_proto::{
    ClientId, ColumnChange, DeltaKey, ErrorCode, Hlc, HlcClock, Op, Push, RowDelta, RowId,
    TableSchema, Value,
};
use lakesync_providers::{
    ReadView, RowWrite, StatementWrites, Verb, WriteError, WriteSink, existing,
};
use uuid::Uuid;

use crate::error::Error;
use crate::gateway::Gateway;

/// The client id of deltas that SQL statements of nobody in particular make.
const SQL_CLIENT: &str = "sql";

/// Writes what SQL statements write, in somebody's name.
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

/// A row write whose row is known.
struct Named {
    op: Op,
    row_id: RowId,
    columns: Vec<ColumnChange>,
}

#[async_trait]
impl WriteSink for SqlWriter {
    async fn write(&self, writes: StatementWrites) -> Result<u64, WriteError> {
        let StatementWrites { verb, view, rows } = writes;
        let rows = named(&view.schema, verb, rows)?;
        let gateway = &self.gateway;
        let new: Vec<RowId> = rows
            .iter()
            .filter(|row| row.op == Op::Insert)
            .map(|row| row.row_id.clone())
            .collect();
        // One statement with new rows at a time looks at the rows that exist now, so that two of one key cannot both
        // find it free.
        let _held = match new.is_empty() {
            true => None,
            false => Some(gateway.inserting.lock().await),
        };
        if !new.is_empty() {
            let now = gateway.live.view(view.table().as_ref());
            refuse_existing(&now.unwrap_or_else(|| Arc::clone(&view)), verb, &new).await?;
        }
        let written = rows.len() as u64;
        let push = Push {
            client_id: self.client_id.clone(),
            deltas: gateway.stamped(&view, &self.client_id, rows)?,
            last_seen: view.seq,
            schemas: None,
        };
        gateway.push_statement(push).await.map_err(not_written)?;
        Ok(written)
    }
}

/// Gives each new row its id: the key's, the one it brought, or a new UUIDv7.
fn named(schema: &TableSchema, verb: Verb, rows: Vec<RowWrite>) -> Result<Vec<Named>, WriteError> {
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(rows.len());
    let mut number = 0_u64;
    for RowWrite {
        op,
        row_id,
        columns,
    } in rows
    {
        let row_id = match op {
            Op::Insert => {
                number += 1;
                let id =
                    new_id(schema, row_id, &columns).and_then(|id| match seen.insert(id.clone()) {
                        true => Ok(id),
                        false => Err(format!("`{id}` is there twice in this statement")),
                    });
                id.map_err(|reason| {
                    let row = match verb {
                        Verb::Insert => "row",
                        _ => "new row",
                    };
                    refused(format!("{row} {number} of the {verb}: {reason}"))
                })?
            }
            op => row_id.ok_or_else(|| refused(format!("{} needs a row id", op.name())))?,
        };
        found.push(Named {
            op,
            row_id,
            columns,
        });
    }
    Ok(found)
}

fn new_id(
    schema: &TableSchema,
    given: Option<RowId>,
    columns: &[ColumnChange],
) -> Result<RowId, String> {
    let value = |name: &str| -> Option<Value> {
        let change = columns.iter().find(|change| change.column.as_str() == name);
        change.map(|change| change.value.clone())
    };
    let of_key = schema.row_id(&value).map_err(|error| error.to_string())?;
    match (of_key, given) {
        (Some(key), Some(given)) if key != given => Err(format!(
            "row_id is `{given}` but the key says `{key}`; leave row_id out"
        )),
        (Some(key), _) => Ok(key),
        (None, Some(given)) => Ok(given),
        (None, None) => {
            RowId::parse(&Uuid::now_v7().to_string()).map_err(|error| error.to_string())
        }
    }
}

async fn refuse_existing(
    view: &Arc<ReadView>,
    verb: Verb,
    ids: &[RowId],
) -> Result<(), WriteError> {
    let existing = existing(view, ids)
        .await
        .map_err(|error| unavailable(&error))?;
    let table = view.table();
    match (existing.first(), verb) {
        (None, _) => Ok(()),
        (Some(id), Verb::Insert) => Err(refused(format!(
            "`{table}` has a row `{id}` already; INSERT adds new rows only, nothing was written. INSERT … ON CONFLICT \
             says what to do with rows that exist"
        ))),
        (Some(id), verb) => Err(refused(format!(
            "`{table}` has a row `{id}` already, which the {verb} would insert; nothing was written. Let ON compare the \
             key; if somebody has just inserted the row, run the statement again"
        ))),
    }
}

impl Gateway {
    /// The deltas of a statement, at one stamp above everything that is visible.
    fn stamped(
        &self,
        view: &ReadView,
        client_id: &ClientId,
        rows: Vec<Named>,
    ) -> Result<Vec<RowDelta>, WriteError> {
        let now_ms = self.components.clock.now_ms();
        // What is hot was sent by somebody whose newest stamp is known; the rest is in the lake.
        let lake = view.base.max_hlc.max(view.log.max_hlc);
        let seen = self.sent.newest().max(lake);
        let hlc: Hlc = {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            *clock = HlcClock::starting_at(clock.last().max(seen));
            clock.now(now_ms)
        }
        .map_err(|error| refused(error.to_string()))?;
        let deltas = rows.into_iter().map(|row| {
            let key = DeltaKey {
                table: view.table().clone(),
                row_id: row.row_id,
                client_id: client_id.clone(),
                hlc,
            };
            RowDelta::new(row.op, key, row.columns)
        });
        Ok(deltas.collect())
    }
}

/// What a statement's author is told of a push that was not accepted.
fn not_written(error: Error) -> WriteError {
    let reason = error.to_string();
    match error {
        Error::Refused(refusal) => match refusal.code {
            ErrorCode::StorageFull => WriteError::StorageFull { reason },
            ErrorCode::BackpressureError => WriteError::Unavailable { reason },
            _ => WriteError::Refused { reason },
        },
        _ => WriteError::Unavailable { reason },
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
