//! A database with one table, driven by hand: edits are sealed at once, pages are applied row by row.
//!
//! Invariant: what it does to rows is the plain merge, so that what the outbox does to them shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lakesync_proto::{
    ClientId, ColumnChange, ColumnName, DeltaKey, Epoch, ErrorCode, HlcClock, Notes, Op, Outcome,
    PushAck, RowDelta, RowId, Seq, TableDefinition, TableName, TableSchema, Value,
};
use rusqlite::{Connection, OptionalExtension};

use crate::local::Work;
use crate::outbox::{self, Batch, DeadLetter};
use crate::rows::{RowImage, RowStatements};
use crate::schema::{Gate, Registry, Stand};
use crate::transport::Refusal;
use crate::{format, rows, state};

pub(super) const NOW_MS: u64 = 1_700_000_000_000;

pub(super) struct World {
    connection: Connection,
    registry: Registry,
    client_id: ClientId,
    pub(super) now_ms: u64,
    /// What the transactions have told.
    pub(super) dead: Vec<DeadLetter>,
}

impl World {
    pub(super) fn new() -> World {
        let connection = Connection::open_in_memory().unwrap();
        format::initialise(&connection).unwrap();
        // It stays closed.
        std::mem::forget(Gate::of(&connection).unwrap().hold(Stand::Closed));
        let mut registry = Registry::load(&connection).unwrap();
        for table in [todos(), notes()] {
            registry.adopt(&connection, &table).unwrap();
        }
        World {
            connection,
            registry,
            client_id: ClientId::parse("ada").unwrap(),
            now_ms: NOW_MS,
            dead: Vec::new(),
        }
    }

    pub(super) fn work<T>(&mut self, work: impl FnOnce(&mut Work<'_>) -> T) -> T {
        let tx = self.connection.transaction().unwrap();
        let mut open = Work {
            tx: &tx,
            registry: &mut self.registry,
            client_id: &self.client_id,
            now_ms: self.now_ms,
            touched: Default::default(),
            dead: Vec::new(),
        };
        let value = work(&mut open);
        self.dead.append(&mut open.dead);
        tx.commit().unwrap();
        let sql = "SELECT count(*) FROM _lakesync_outbox WHERE state = 3";
        let kept = self
            .connection
            .query_row(sql, [], |row| row.get::<_, i64>(0));
        let counted = outbox::counts(&self.connection).unwrap();
        assert_eq!(
            counted.kept,
            kept.unwrap().unsigned_abs(),
            "the count goes with the entries"
        );
        value
    }

    /// The gateway has told its schemas.
    pub(super) fn note_gateway(&mut self, schemas: &[TableSchema]) {
        let hash = u64::try_from(
            schemas
                .iter()
                .map(|schema| schema.columns.len())
                .sum::<usize>(),
        );
        self.registry
            .note_gateway(&self.connection, schemas, hash.unwrap())
            .unwrap();
    }

    /// Sets `column` of a row of `todos` to a text.
    pub(super) fn edit(&mut self, row: &str, column: &str, text: &str) -> i64 {
        self.edit_of("todos", row, (column, text))
    }

    pub(super) fn edit_of(&mut self, table: &str, row: &str, (column, text): (&str, &str)) -> i64 {
        let change = ColumnChange {
            column: ColumnName::parse(column).unwrap(),
            value: Value::from(text),
        };
        let key = (TableName::parse(table).unwrap(), RowId::parse(row).unwrap());
        self.work(|work| {
            let mut clock = HlcClock::starting_at(state::clock(work.tx).unwrap());
            let hlc = clock.now(work.gateway_ms().unwrap()).unwrap();
            state::set_clock(work.tx, hlc).unwrap();
            let key = DeltaKey {
                table: key.0,
                row_id: key.1,
                client_id: work.client_id.clone(),
                hlc,
            };
            let delta = RowDelta::new(Op::Update, key, vec![change]);
            let table = Arc::clone(work.registry.table(&delta.table).unwrap());
            let mut image = RowImage::load(work, &table, &delta.row_id).unwrap();
            outbox::add(work, &table, delta.clone()).unwrap();
            let entry = work.tx.last_insert_rowid();
            image.pending.push(delta.clone());
            image.store(work, &table, &delta.row_id).unwrap();
            entry
        })
    }

    /// How many thousand steps SQLite takes for it: time that no other test takes part in.
    pub(super) fn thousand_steps_of<T>(
        &mut self,
        work: impl FnOnce(&mut Work<'_>) -> T,
    ) -> (T, usize) {
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        };
        self.connection
            .progress_handler(1_000, Some(count))
            .unwrap();
        let value = self.work(work);
        self.connection
            .progress_handler(0, None::<fn() -> bool>)
            .unwrap();
        (value, steps.load(Ordering::Relaxed))
    }

    /// What a page does with one delta.
    pub(super) fn confirm(&mut self, delta: &RowDelta) {
        self.work(|work| {
            let table = Arc::clone(work.registry.table(&delta.table).unwrap());
            let mut image = RowImage::load(work, &table, &delta.row_id).unwrap();
            rows::confirm(&mut image.confirmed, delta);
            image.store(work, &table, &delta.row_id).unwrap();
        });
    }

    /// What a page does at its end.
    pub(super) fn cursor(&mut self, seq: Seq) {
        self.work(|work| {
            state::set_seq(work.tx, seq).unwrap();
            outbox::cover(work, seq, &std::collections::BTreeSet::new()).unwrap();
        });
    }

    /// What a checkpoint of an empty log does.
    pub(super) fn forget_confirmed(&mut self, row_ids: &[&str]) {
        self.work(|work| {
            let table = TableName::parse("todos").unwrap();
            let table = Arc::clone(work.registry.table(&table).unwrap());
            let mut statements = RowStatements::new(work.tx, &table);
            for row in row_ids {
                rows::withdraw(work, &mut statements, &RowId::parse(row).unwrap()).unwrap();
            }
        });
    }

    pub(super) fn take(&mut self, limit: usize) -> Option<Batch> {
        self.work(|work| outbox::take(work, limit).unwrap())
    }

    /// What `t` shows of a cell of `todos`.
    pub(super) fn shown(&self, row: &str, column: &str) -> Option<String> {
        let sql = format!("SELECT \"{column}\" FROM todos WHERE row_id = ?1");
        self.connection
            .query_row(&sql, [row], |row| row.get(0))
            .optional()
            .unwrap()
            .flatten()
    }

    /// Every entry: its number, state, doubt, and its delta unless it never was one.
    pub(super) fn entries(&mut self) -> Vec<Entry> {
        self.work(|work| {
            let mut statement = work
                .tx
                .prepare(
                    "SELECT entry, state, doubt, hlc, delta FROM _lakesync_outbox ORDER BY entry",
                )
                .unwrap();
            let found = statement.query_map([], |row| {
                let blob: Vec<u8> = row.get(4)?;
                let is_delta = row.get::<_, i64>(3)? != 0;
                Ok(Entry {
                    entry: row.get(0)?,
                    state: row.get(1)?,
                    doubt: row.get(2)?,
                    delta: is_delta.then(|| outbox::entry::decode(&blob, work.registry).unwrap()),
                })
            });
            found.unwrap().collect::<Result<_, _>>().unwrap()
        })
    }

    /// Number, state and doubt of every entry.
    pub(super) fn states(&mut self) -> Vec<(i64, i64, bool)> {
        let entries = self.entries();
        let states = entries.iter().map(|e| (e.entry, e.state, e.doubt));
        states.collect()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) entry: i64,
    pub(super) state: i64,
    pub(super) doubt: bool,
    pub(super) delta: Option<RowDelta>,
}

pub(super) fn todos() -> TableSchema {
    schema(
        r#"{"table":"todos","columns":[{"name":"title","type":"string"},{"name":"tag","type":"string"}]}"#,
    )
}

pub(super) fn notes() -> TableSchema {
    schema(r#"{"table":"notes","columns":[{"name":"text","type":"string"}]}"#)
}

pub(super) fn schema(definition: &str) -> TableSchema {
    let definition = TableDefinition::from_json(definition.as_bytes()).unwrap();
    TableSchema::from_definition(&definition).unwrap()
}

pub(super) fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}

pub(super) fn epoch(number: u64) -> Epoch {
    Epoch::parse(&format!("00000000-0000-4000-8000-{number:012}")).unwrap()
}

/// An acknowledgement of deltas as these seqs.
pub(super) fn ack(seqs: &[u64]) -> PushAck {
    PushAck {
        accepted: u32::try_from(seqs.len()).unwrap(),
        cursor: Seq::ZERO,
        outcomes: seqs.iter().map(|n| Outcome::Accepted(seq(*n))).collect(),
        ignored: BTreeMap::new(),
        epoch: epoch(1),
        notes: Notes::default(),
    }
}

/// A refusal of the delta at `index`.
pub(super) fn refusal(status: u16, code: ErrorCode, index: Option<usize>) -> Refusal {
    Refusal {
        status,
        code: code.as_str().to_owned(),
        message: "no".to_owned(),
        index,
        request_id: Some("r-1".to_owned()),
        retry_after: None,
        details: serde_json::Map::new(),
    }
}
