//! A database in memory whose transactions are driven by hand, so that rows can be tested without the capture.
//!
//! Invariant: an own edit changes `t` first and is sealed afterwards, with the values that stood there before, as the
//! capture does it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, Cursor, DeltaId, DeltaKey, Epoch, ErrorCode, Hlc, HlcClock,
    Notes, Op, Outcome, PullPage, PushAck, Removed, RowDelta, RowId, RowState, Seq, SeqDelta,
    TableDefinition, TableName, TableSchema, Value, page_checksum,
};
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, params_from_iter};

use crate::apply::{self, Applied};
use crate::error::ClientError;
use crate::local::Work;
use crate::rows::{Own, RowImage, hide_confirmed, restore};
use crate::schema::{Gate, LocalTable, Registry, Slot, Stand};
use crate::transport::Refusal;
use crate::value::to_sqlite;
use crate::watch::{ChangedRows, Touched};
use crate::{format, outbox, state};

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

pub(crate) const TODOS: &str = r#"{"table": "todos", "columns": [
    {"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}, {"name": "n", "type": "long"}]}"#;

pub(crate) const STOCK: &str = r#"{"table": "stock", "primaryKey": ["code", "place"], "columns": [
    {"name": "code", "type": "string"}, {"name": "count", "type": "long"}, {"name": "place", "type": "long"},
    {"name": "at", "type": "timestamp"}]}"#;

pub(crate) fn schema(body: &str) -> TableSchema {
    let definition: TableDefinition = serde_json::from_str(body).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

pub(crate) fn table_name(name: &str) -> TableName {
    TableName::parse(name).unwrap()
}

pub(crate) fn row_id(text: &str) -> RowId {
    RowId::parse(text).unwrap()
}

pub(crate) fn column(name: &str) -> ColumnName {
    ColumnName::parse(name).unwrap()
}

pub(crate) fn epoch() -> Epoch {
    Epoch::parse("5f0c3c1e-0000-4000-8000-000000000001").unwrap()
}

pub(crate) fn cursor(at: Seq) -> Cursor {
    Cursor {
        epoch: epoch(),
        seq: at,
        rules: 0,
        claims: 0,
    }
}

/// A delta of somebody, stamped so many milliseconds after [`NOW_MS`].
pub(crate) fn delta(
    op: Op,
    (table, row): (&str, &str),
    (client, after_ms): (&str, i64),
    cells: &[(&str, Value)],
) -> RowDelta {
    let wall_ms = NOW_MS.checked_add_signed(after_ms).unwrap();
    let key = DeltaKey {
        table: table_name(table),
        row_id: row_id(row),
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(wall_ms, 0).unwrap(),
    };
    RowDelta::new(op, key, changes(cells))
}

/// A delta of a checkpoint, of what the log has forgotten.
pub(crate) fn settled(row: (&str, &str), cells: &[(&str, Value)]) -> RowDelta {
    let stamp = lakesync_proto::Stamp::settled();
    RowDelta {
        op: Op::Insert,
        table: table_name(row.0),
        row_id: row_id(row.1),
        client_id: stamp.client_id,
        columns: changes(cells),
        hlc: Hlc::ZERO,
        delta_id: DeltaId::from_bytes([0; 32]),
    }
}

pub(crate) fn changes(cells: &[(&str, Value)]) -> Vec<ColumnChange> {
    let change = |(name, value): &(&str, Value)| ColumnChange {
        column: column(name),
        value: value.clone(),
    };
    cells.iter().map(change).collect()
}

/// A page as a gateway sends it: the deltas with their seqs, the rows that left.
pub(crate) fn page(deltas: &[(u64, RowDelta)], removed: &[(u64, &str, &str)], at: u64) -> PullPage {
    let deltas = deltas.iter().map(|(seq, delta)| {
        Arc::new(SeqDelta {
            seq: super::seq(*seq),
            delta: delta.clone(),
        })
    });
    let removed = removed.iter().map(|(seq, table, row)| Removed {
        seq: super::seq(*seq),
        table: table_name(table),
        row_id: row_id(row),
    });
    let mut page = PullPage {
        deltas: deltas.collect(),
        cursor: super::seq(at),
        removed: removed.collect(),
        has_more: false,
        epoch: epoch(),
        notes: Notes {
            next: Some(cursor(super::seq(at))),
            ..Notes::default()
        },
    };
    page.notes.checksum = Some(page_checksum(&page));
    page
}

/// An own edit, before it has a stamp.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) op: Op,
    pub(crate) table: TableName,
    pub(crate) row_id: RowId,
    pub(crate) columns: Vec<ColumnChange>,
}

/// The visible rows: table and row id, then column and value; nulls are not in it.
pub(crate) type Shown = BTreeMap<(TableName, RowId), BTreeMap<ColumnName, Value>>;

pub(crate) struct World {
    pub(crate) connection: Connection,
    pub(crate) registry: Registry,
    client_id: ClientId,
    pub(crate) now_ms: u64,
    /// What the last transaction touched.
    pub(crate) touched: Touched,
}

impl World {
    pub(crate) fn new(schemas: &[&str]) -> World {
        let connection = Connection::open_in_memory().unwrap();
        connection.set_prepared_statement_cache_capacity(256);
        format::initialise(&connection).unwrap();
        // It stays closed.
        std::mem::forget(Gate::of(&connection).unwrap().hold(Stand::Closed));
        let mut registry = Registry::load(&connection).unwrap();
        for body in schemas {
            registry.adopt(&connection, &schema(body)).unwrap();
        }
        World {
            connection,
            registry,
            client_id: ClientId::parse("me").unwrap(),
            now_ms: NOW_MS,
            touched: Touched::default(),
        }
    }

    /// A transaction, which an error takes back.
    pub(crate) fn keep<T>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let tx = self.connection.transaction().unwrap();
        let mut registry = self.registry.clone();
        let mut open = Work {
            tx: &tx,
            registry: &mut registry,
            client_id: &self.client_id,
            now_ms: self.now_ms,
            touched: Touched::default(),
            dead: Vec::new(),
        };
        let value = work(&mut open)?;
        self.touched = open.touched;
        tx.commit().unwrap();
        self.registry = registry;
        Ok(value)
    }

    pub(crate) fn table(&self, name: &TableName) -> Arc<LocalTable> {
        Arc::clone(self.registry.table(name).unwrap())
    }

    /// Makes own edits in `t`, then seals them all.
    pub(crate) fn edit(&mut self, edits: &[Edit]) -> Vec<RowDelta> {
        self.keep(|work| {
            let mut before = Vec::new();
            for edit in edits {
                let table = Arc::clone(work.registry.table(&edit.table)?);
                before.push(values_before(work.tx, &table, edit));
                write(work.tx, &table, edit);
            }
            let mut clock = HlcClock::starting_at(state::clock(work.tx)?);
            let (mut deltas, mut hidden) = (Vec::new(), Vec::new());
            for (edit, before) in edits.iter().zip(before) {
                let key = DeltaKey {
                    table: edit.table.clone(),
                    row_id: edit.row_id.clone(),
                    client_id: work.client_id.clone(),
                    hlc: clock.now(work.gateway_ms()?)?,
                };
                let delta = RowDelta::new(edit.op, key, edit.columns.clone());
                let table = Arc::clone(work.registry.table(&edit.table)?);
                if hide_confirmed(work, &table, &delta, before.as_deref())? == Own::Hidden {
                    hidden.push((Arc::clone(&table), edit.row_id.clone()));
                }
                outbox::add(work, &table, delta.clone())?;
                deltas.push(delta);
            }
            for (table, row_id) in hidden {
                restore(work, &table, &row_id)?;
            }
            state::set_clock(work.tx, clock.last())?;
            Ok(deltas)
        })
        .unwrap()
    }

    /// One own edit.
    pub(crate) fn edit_one(
        &mut self,
        op: Op,
        (table, row): (&str, &str),
        cells: &[(&str, Value)],
    ) -> RowDelta {
        let edit = Edit {
            op,
            table: table_name(table),
            row_id: row_id(row),
            columns: changes(cells),
        };
        self.edit(&[edit]).pop().unwrap()
    }

    pub(crate) fn images(&mut self, rows: &[(TableName, RowId)]) -> Vec<RowImage> {
        self.keep(|work| {
            let rows = rows.iter().map(|(table, row_id)| {
                let table = Arc::clone(work.registry.table(table)?);
                RowImage::load(work, &table, row_id)
            });
            rows.collect()
        })
        .unwrap()
    }

    /// What is confirmed of a row, shown: `deleted`, or the cells.
    pub(crate) fn confirmed(&mut self, table: &str, row: &str) -> String {
        let images = self.images(&[(table_name(table), row_id(row))]);
        text_of(&images[0].confirmed)
    }

    /// The visible rows of all tables.
    pub(crate) fn shown(&self) -> Shown {
        let mut shown = Shown::new();
        for table in self.registry.tables() {
            let name = &table.schema.table;
            let columns: String = table
                .columns
                .iter()
                .map(|column| format!(", \"{}\"", column.name))
                .collect();
            let sql = format!("SELECT row_id{columns} FROM \"{name}\"");
            let mut statement = self.connection.prepare(&sql).unwrap();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let id: String = row.get(0).unwrap();
                let cells = table.columns.iter().zip(1..).map(|(column, index)| {
                    let stored = row.get_ref(index).unwrap();
                    let value = crate::value::from_sqlite(stored, column.column_type).unwrap();
                    (column.name.clone(), value)
                });
                let cells = cells.filter(|(_, value)| *value != Value::Null).collect();
                shown.insert((name.clone(), row_id(&id)), cells);
            }
        }
        shown
    }

    /// A page that is asked for behind the cursor.
    pub(crate) fn page(&mut self, page: &PullPage) -> Result<Applied, ClientError> {
        self.page_with(page, &[])
    }

    pub(crate) fn page_with(
        &mut self,
        page: &PullPage,
        schemas: &[TableSchema],
    ) -> Result<Applied, ClientError> {
        self.keep(|work| {
            let since = state::cursor(work.tx)?.unwrap_or_default();
            apply::page(work, &since, page, schemas)
        })
    }

    pub(crate) fn chunk(&mut self, chunk: &PullPage) -> Result<Applied, ClientError> {
        self.keep(|work| apply::chunk(work, chunk, &[]))
    }

    /// The gateway takes everything in the outbox as these seqs and those behind.
    pub(crate) fn push_all(&mut self, first: u64) {
        self.keep(|work| {
            let batch = outbox::take(work, 100)?.unwrap();
            let outcomes = (first..).zip(&batch.deltas);
            let outcomes: Vec<Outcome> = outcomes
                .map(|(number, _)| Outcome::Accepted(super::seq(number)))
                .collect();
            let ack = PushAck {
                accepted: u32::try_from(outcomes.len()).unwrap(),
                cursor: Seq::ZERO,
                outcomes,
                ignored: BTreeMap::new(),
                epoch: epoch(),
                notes: Notes::default(),
            };
            outbox::acknowledge(work, &batch, &ack)
        })
        .unwrap();
    }

    /// The gateway refuses one delta of everything in the outbox.
    pub(crate) fn refuse(&mut self, index: usize) {
        let refusal = Refusal {
            status: 403,
            code: ErrorCode::Forbidden.as_str().to_owned(),
            message: "no".to_owned(),
            index: Some(index),
            request_id: None,
            retry_after: None,
            details: serde_json::Map::new(),
        };
        self.keep(|work| {
            let batch = outbox::take(work, 100)?.unwrap();
            outbox::refuse(work, &batch, &refusal)
        })
        .unwrap();
    }

    /// The rows of one table, to compare at a glance.
    pub(crate) fn rows(&self, table: &str) -> String {
        let rows = self
            .shown()
            .into_iter()
            .filter(|((name, _), _)| *name == table);
        let rows = rows.map(|((_, row_id), cells)| format!("{row_id}: {}", cells_text(&cells)));
        rows.collect::<Vec<_>>().join("; ")
    }

    /// The rows that the last transaction told.
    pub(crate) fn told(&self) -> BTreeSet<(TableName, RowId)> {
        let mut told = BTreeSet::new();
        for (table, rows) in &self.touched.tables {
            match rows {
                ChangedRows::Some(rows) => {
                    told.extend(rows.iter().map(|row_id| (table.clone(), row_id.clone())));
                }
                ChangedRows::Many => panic!("too many rows for a test"),
            }
        }
        told
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.connection
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    }
}

/// `t` changes as the application's SQL would change it.
fn write(tx: &Connection, table: &LocalTable, edit: &Edit) {
    let name = &table.schema.table;
    let key = table.key(&edit.row_id).unwrap();
    let others: Vec<&ColumnChange> = edit
        .columns
        .iter()
        .filter(|change| !table.is_key(&change.column))
        .collect();
    let values = others.iter().map(|change| to_sqlite(&change.value));
    let parameters: Vec<SqlValue> = key.iter().cloned().chain(values).collect();
    let first = key.len() + 1;
    let sql = match edit.op {
        Op::Delete => format!("DELETE FROM \"{name}\" {}", table.where_row()),
        Op::Update => {
            let sets = others.iter().zip(first..);
            let sets: Vec<String> = sets
                .map(|(change, mark)| format!("\"{}\" = ?{mark}", change.column))
                .collect();
            format!(
                "UPDATE \"{name}\" SET {} {}",
                sets.join(", "),
                table.where_row()
            )
        }
        Op::Insert => {
            let names: String = others
                .iter()
                .map(|c| format!(", \"{}\"", c.column))
                .collect();
            let marks: Vec<String> = (1..=parameters.len()).map(|n| format!("?{n}")).collect();
            format!(
                "INSERT INTO \"{name}\" ({}{names}) VALUES ({})",
                table.identity(),
                marks.join(", ")
            )
        }
    };
    let changed = tx.execute(&sql, params_from_iter(parameters)).unwrap();
    assert_eq!(changed, 1, "{edit:?}");
}

/// What the capture has seen of the row before: of an update the columns that it writes, of a delete all.
fn values_before(
    tx: &Connection,
    table: &LocalTable,
    edit: &Edit,
) -> Option<Vec<(Slot, SqlValue)>> {
    let written = |name: &ColumnName| edit.columns.iter().any(|change| change.column == *name);
    let columns: Vec<_> = table
        .columns
        .iter()
        .filter(|column| edit.op != Op::Update || written(&column.name))
        .collect();
    let names: String = columns
        .iter()
        .map(|c| format!(", \"{}\"", c.name))
        .collect();
    let sql = format!(
        "SELECT 1{names} FROM \"{}\" {}",
        table.schema.table,
        table.where_row()
    );
    let mut statement = tx.prepare(&sql).unwrap();
    let mut rows = statement
        .query(params_from_iter(table.key(&edit.row_id).unwrap()))
        .unwrap();
    let row = rows.next().unwrap()?;
    let values = columns.iter().zip(1..);
    Some(
        values
            .map(|(column, index)| (column.slot, row.get(index).unwrap()))
            .collect(),
    )
}

pub(crate) fn text_of(state: &RowState) -> String {
    match (state.exists(), &state.deleted) {
        (false, None) => "nothing".to_owned(),
        (false, Some(_)) => "deleted".to_owned(),
        (true, _) => cells_text(
            &state
                .visible_cells()
                .map(|(name, cell)| (name.clone(), cell.value.clone()))
                .collect(),
        ),
    }
}

fn cells_text(cells: &BTreeMap<ColumnName, Value>) -> String {
    let cells = cells.iter().map(|(name, value)| {
        let mut text = String::new();
        value.write_canonical(&mut text);
        format!("{name}={text}")
    });
    cells.collect::<Vec<_>>().join(" ")
}
