//! A local SQLite database that syncs with a LakeSync gateway.
//!
//! The application has a database of its own, on its own disk: it reads and writes it with plain SQL, online or not, and
//! never waits for a network. What it writes is sent when a gateway can be reached, and what others wrote comes in,
//! merged cell by cell. Every order, every repetition and every interruption ends in the same rows everywhere.
//!
//! ```
//! use std::sync::Arc;
//! use lakesync_client::{LocalDb, SqlValue};
//! use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};
//!
//! // A program takes `SystemClock` and a file; `laptop` is this database's alone.
//! let clock = Arc::new(ManualClock::new(1_700_000_000_000));
//! let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
//!
//! let todos: TableDefinition = serde_json::from_str(
//!     r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#,
//! )?;
//! db.register(&TableSchema::from_definition(&todos)?)?;
//!
//! db.execute("INSERT INTO todos (title, done) VALUES ('Buy milk', 0), ('Call Ada', 0)", [])?;
//! db.execute("UPDATE todos SET done = 1 WHERE title = ?1", ["Call Ada"])?;
//!
//! let open = db.query("SELECT title FROM todos WHERE NOT done", [])?;
//! assert_eq!(open.rows, [[SqlValue::Text("Buy milk".into())]]);
//! assert_eq!(db.outbox_counts()?.pending, 3); // until a gateway has them
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Writing
//!
//! A registered table is an ordinary SQLite table, and whatever writes to it is captured: `INSERT`, `UPDATE`, `DELETE`,
//! `REPLACE`, upserts, triggers, another program on the same file. Triggers in the file note what changed, in the
//! transaction that changes it: what rolls back was never an edit, and what committed is never missed. An `UPDATE` of one
//! column is an edit of one cell, so two people who change different columns of a row both keep what they wrote.
//!
//! Without a key a table has the text column `row_id`, and each new row gets one nobody else has. With a key the key is
//! the row, and two databases that insert the same key write the same row. [`LocalDb::transaction`] makes several writes
//! one; what it does goes through `tx`, because the database itself is taken until it ends. [`LocalDb::insert`],
//! [`LocalDb::update`] and [`LocalDb::delete`] are there for those who have values, not SQL.
//!
//! ```
//! # use lakesync_client::{ClientError, LocalDb};
//! # fn database() -> Result<LocalDb, Box<dyn std::error::Error>> {
//! #     use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema};
//! #     let clock = std::sync::Arc::new(ManualClock::new(1_700_000_000_000));
//! #     let db = LocalDb::open(":memory:", ClientId::parse("laptop")?, clock)?;
//! #     let todos: TableDefinition = serde_json::from_str(
//! #         r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#,
//! #     )?;
//! #     db.register(&TableSchema::from_definition(&todos)?)?;
//! #     Ok(db)
//! # }
//! # let db = database()?;
//! let milk = db.insert("todos", &[("title", "Buy milk".into()), ("done", false.into())])?;
//!
//! let outcome: Result<(), ClientError> = db.transaction(|tx| {
//!     tx.update("todos", milk.as_str(), &[("done", true.into())])?;
//!     tx.execute("DELETE FROM todos", [])?;
//!     tx.insert("todos", &[("tilte", "Buy bread".into())])?; // no such column: nothing of this happens
//!     Ok(())
//! });
//! assert!(outcome.is_err());
//! assert_eq!(db.query("SELECT * FROM todos WHERE NOT done", [])?.rows.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Indexes, views, triggers, search tables and tables that are not synced are the application's own affair:
//! [`LocalDb::migrate`] runs its scripts once each, in order.
//!
//! # Syncing
//!
//! Who drives the syncing is a choice; what happens is the same.
//!
//! | | |
//! |---|---|
//! | [`LocalDb::sync`] | once, in this thread: for a command, a cron job, a test |
//! | [`SyncHandle::start`] | in a thread of its own, live for as long as the handle is held |
//! | [`AsyncSync::run`] | as a future on any runtime: `examples/async_tokio.rs` |
//! | [`Session`] | step by step, by hand: it does no I/O at all, and says what to ask next |
//!
//! ```no_run
//! use std::sync::Arc;
//! use lakesync_client::{HttpTransport, LocalDb, SessionOptions, SyncHandle, SystemClock};
//! use lakesync_proto::{ClientId, GatewayId};
//!
//! let db = LocalDb::open("todos.db", ClientId::parse("laptop")?, Arc::new(SystemClock))?;
//! let gateway = HttpTransport::new("https://sync.example.org", GatewayId::parse("public")?)?
//!     .with_token_source(|| Ok(std::fs::read_to_string("token")?.trim().to_owned()));
//! let syncing = SyncHandle::start(db.clone(), gateway, SessionOptions::default());
//! // … the application goes on with `db` …
//! syncing.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The network comes in as a [`Transport`]; [`HttpTransport`] is one. Here a gateway of a few lines in memory is another
//! (its lines are hidden on this page and stand in its source), and two databases meet at it:
//!
//! ```
//! # use std::sync::{Arc, Mutex};
//! # use lakesync_client::{CheckpointRequest, Chunks, GatewayDigest, LocalDb, Pull, Transport, TransportError};
//! # use lakesync_proto::{
//! #     ClientId, Cursor, Epoch, ManualClock, Notes, Outcome, PullPage, Push, PushAck, Seq, SeqDelta, TableDefinition,
//! #     TableSchema, page_checksum,
//! # };
//! # struct Memory { schema: TableSchema, log: Mutex<Vec<Arc<SeqDelta>>> }
//! # impl Memory {
//! #     fn page(&self, since: usize, limit: usize) -> PullPage {
//! #         let log = self.log.lock().expect("nobody panics");
//! #         let deltas: Vec<_> = log[since..].iter().take(limit).cloned().collect();
//! #         let cursor = Seq::from_u64((since + deltas.len()) as u64).expect("few deltas");
//! #         let epoch = Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").expect("a valid name");
//! #         let next = Cursor { epoch: epoch.clone(), seq: cursor, rules: 0, claims: 0 };
//! #         let has_more = since + deltas.len() < log.len();
//! #         let notes = Notes { next: Some(next), ..Notes::default() };
//! #         let mut page = PullPage { deltas, cursor, removed: Vec::new(), has_more, epoch, notes };
//! #         page.notes.checksum = Some(page_checksum(&page));
//! #         page
//! #     }
//! # }
//! # struct Once(Option<PullPage>);
//! # impl Chunks for Once {
//! #     fn next(&mut self) -> Result<Option<PullPage>, TransportError> { Ok(self.0.take()) }
//! # }
//! # impl Transport for Memory {
//! #     fn push(&self, push: &Push) -> Result<PushAck, TransportError> {
//! #         let mut log = self.log.lock().expect("nobody panics");
//! #         let mut outcomes = Vec::new();
//! #         for delta in &push.deltas {
//! #             let seq = Seq::from_u64(log.len() as u64 + 1).expect("few deltas");
//! #             log.push(Arc::new(SeqDelta { seq, delta: delta.clone() }));
//! #             outcomes.push(Outcome::Accepted(seq));
//! #         }
//! #         let epoch = Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").expect("a valid name");
//! #         let accepted = outcomes.len() as u32;
//! #         Ok(PushAck {
//! #             accepted, cursor: push.last_seen, outcomes, ignored: Default::default(), epoch, notes: Notes::default(),
//! #         })
//! #     }
//! #     fn pull(&self, pull: &Pull) -> Result<PullPage, TransportError> {
//! #         let since = pull.cursor.parse::<Cursor>().map_or(0, |cursor| cursor.seq.as_u64() as usize);
//! #         Ok(self.page(since, pull.limit as usize))
//! #     }
//! #     fn checkpoint(&self, _: &CheckpointRequest) -> Result<Box<dyn Chunks>, TransportError> {
//! #         Ok(Box::new(Once(Some(self.page(0, usize::MAX)))))
//! #     }
//! #     fn schemas(&self) -> Result<Vec<TableSchema>, TransportError> { Ok(vec![self.schema.clone()]) }
//! #     fn put_schema(&self, _: &TableDefinition) -> Result<(), TransportError> { Ok(()) }
//! #     fn digest(&self, _: &ClientId) -> Result<GatewayDigest, TransportError> { unimplemented!() }
//! # }
//! # let todos: TableDefinition = serde_json::from_str(
//! #     r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#,
//! # )?;
//! # let schema = TableSchema::from_definition(&todos)?;
//! # let gateway = Memory { schema, log: Mutex::default() };
//! # let clock = Arc::new(ManualClock::new(1_700_000_000_000));
//! # let open = |name: &str| -> Result<LocalDb, Box<dyn std::error::Error>> {
//! #     let db = LocalDb::open(":memory:", ClientId::parse(name)?, Arc::clone(&clock) as _)?;
//! #     db.register(&gateway.schema)?;
//! #     Ok(db)
//! # };
//! let (laptop, phone) = (open("laptop")?, open("phone")?);
//! laptop.execute("INSERT INTO todos (row_id, title, done) VALUES ('milk', 'Buy milk', 0)", [])?;
//! laptop.sync(&gateway)?;
//! phone.sync(&gateway)?;
//!
//! // Both edit the same row while they are apart.
//! laptop.execute("UPDATE todos SET title = 'Buy oat milk'", [])?;
//! # clock.set(1_700_000_060_000);
//! phone.execute("UPDATE todos SET done = 1", [])?;
//! for db in [&laptop, &phone, &laptop] {
//!     db.sync(&gateway)?;
//! }
//!
//! let all = "SELECT title FROM todos WHERE done";
//! assert_eq!(laptop.query(all, [])?.rows, [["Buy oat milk".to_owned().into()]]);
//! assert_eq!(phone.query(all, [])?, laptop.query(all, [])?);
//! assert_eq!(laptop.outbox_counts()?.pending, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A first sync loads a checkpoint, the merged rows of one moment, and can be interrupted at any point. Later ones
//! send what waits and take pages of what is new; a live connection brings them as they happen, and polling takes its
//! place where there is none to be had. Failures are tried again later, each time after a longer while.
//!
//! # Being told
//!
//! An application that shows rows wants to know when they change, whoever changed them.
//!
//! | | tells |
//! |---|---|
//! | [`LocalDb::watch`] | which rows of which tables changed, and whose doing it was |
//! | [`LocalDb::watch_query`] | the answer of a query, whenever it is another one |
//! | [`LocalDb::watch_status`] | how syncing goes: offline, pushing, live, how much waits, the last failure |
//! | [`LocalDb::on_dead_letter`] | edits that the gateway refused |
//!
//! Each can be asked (`try_next`), waited for (`wait`), awaited (`changed`) or answered by a callback (`on_change`).
//! `examples/watch.rs` shows all of them.
//!
//! # Who wins
//!
//! Each edit carries a stamp of a hybrid logical clock. Of two writes to one cell the later stamp wins, a delete hides
//! what was written before it, and a write after a delete brings the row back with what it wrote
//! ([`lakesync_proto`] has the rule). A wrong wall clock does no harm: the client learns the gateway's and stamps by it.
//!
//! What shows in a table is what the gateway has confirmed, with own edits on top until it confirms them. An edit that is
//! refused for good (forbidden, too late, against the schema) leaves again: its cells show what they would without it,
//! it lies among the [dead letters](LocalDb::dead_letters) with the reason, and everything else goes on. A person looks,
//! and [sends it again](LocalDb::retry) or [drops it](LocalDb::discard).
//!
//! # When something breaks
//!
//! Every write and every page is one transaction, synced to the disk. A crash at any moment loses nothing that was
//! reported as done; what was on its way goes again, and the gateway knows it when it has it. A gateway that lost its log
//! is given what its warehouse lacks. A gateway whose schema is ahead adds its columns here as they are needed; where it is
//! behind, edits of what it lacks wait, and the [`Status`] says so.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `http` | [`HttpTransport`], [`SyncHandle`], [`AsyncSync`], [`LocalDb::sync`], `wait`, [`SystemClock`] |
//! | `live` | live pages over a WebSocket |
//! | `tls` | `https` and `wss` |
//!
//! All are on by default. Without any the crate reads no clock, starts no thread and opens no connection: time comes in as
//! a [`WallClock`](lakesync_proto::WallClock), the network as replies to a [`Session`]'s steps, so it runs wherever SQLite
//! does.
//!
//! Invariant: what shows is the merge of what the gateway has confirmed and of own edits that it has not, in every
//! committed state of the file.

mod apply;
mod capture;
mod db;
#[cfg(test)]
mod dice;
mod digest;
#[cfg(feature = "http")]
mod drive;
mod edit;
mod error;
mod format;
mod local;
mod migrate;
mod outbox;
mod overview;
mod query;
mod register;
mod rows;
mod schema;
mod skew;
mod state;
mod sync;
#[cfg(feature = "http")]
mod system_clock;
mod transport;
mod value;
mod watch;

pub use db::LocalDb;
pub use digest::{Digest, GatewayDigest, TableDigest};
pub use edit::Edit;
pub use error::{ClientError, ErrorKind, RefusedDelta};
pub use outbox::{DeadLetter, EntryState, OutboxCounts, OutboxEntry, Reason};
pub use overview::{Overview, TableOverview};
pub use query::Rows;
/// What [`LocalDb::with_connection`] hands out, in the version that it has.
pub use rusqlite;
pub use rusqlite::types::Value as SqlValue;
pub use sync::{
    CheckpointRequest, FirstSync, KeepUntil, Mode, Phase, Pull, Reply, SchemaState, Session,
    SessionOptions, Status, Step, Subscribe, SyncError, TableSchemaState, Updates, Wish,
};
pub use transport::{
    Chunks, LiveConnection, LiveEvents, LiveReplies, Refusal, Transport, TransportError,
};
pub use watch::{ChangedRows, Changes, Origins, QueryWatch, StatusWatch, Subscription, Watch};
#[cfg(feature = "http")]
pub use {
    drive::{AsyncSync, Runtime, SyncHandle, SyncRemote, Synced},
    system_clock::SystemClock,
    transport::{HttpTransport, Timeouts},
};

/// The guide, whose examples are tests.
#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
mod guide {}
