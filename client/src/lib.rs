//! A local SQLite database that syncs with a LakeSync gateway.
//!
//! The application reads and edits its own database, online or not. Each edit becomes a delta in the same transaction
//! and waits in the outbox; [`Client::sync`] pushes what waits and merges what others did, cell by cell, by the merge
//! rule of [`lakesync_proto`]. Every order, every repetition, every interruption ends in the same rows.
//!
//! Invariant: the crate reads no clock and starts no thread. Time comes in as a [`WallClock`](lakesync_proto::WallClock),
//! the network as a [`Transport`].
//!
//! ```
//! use std::sync::Arc;
//! use lakesync_client::Client;
//! use lakesync_proto::{ClientId, ManualClock, TableDefinition, TableSchema, Value};
//!
//! let definition: TableDefinition = serde_json::from_str(
//!     r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}, {"name": "done", "type": "boolean"}]}"#,
//! )?;
//! let clock = Arc::new(ManualClock::new(1_700_000_000_000));
//! let mut client = Client::open(":memory:", ClientId::parse("laptop")?, clock)?;
//! client.register(&TableSchema::from_definition(&definition)?)?;
//!
//! let todo = client.insert("todos", &[("title", Value::String("Buy milk".into())), ("done", Value::Boolean(false))])?;
//! client.update("todos", todo.row_id.as_str(), &[("done", Value::Boolean(true))])?;
//!
//! let found = client.query("SELECT title, done FROM todos")?;
//! assert_eq!(found.columns, ["title", "done"]);
//! assert_eq!(found.rows.len(), 1);
//! assert_eq!(client.pending()?, 2); // until a sync reaches the gateway
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With a gateway in reach, `client.sync(&HttpTransport::new("http://127.0.0.1:4400", gateway_id)?)?` does the rest.

mod apply;
mod client;
mod error;
mod http;
mod outbox;
mod query;
mod registry;
mod row_name;
mod schema_change;
mod sqlite_value;
mod state;
mod store;
mod sync;
mod transport;
mod write;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use error::{ClientError, ErrorKind, RefusedDelta};
pub use http::{HttpTransport, Timeouts};
pub use query::Rows;
pub use rusqlite::types::Value as SqlValue;
pub use sync::{Pulled, Pushed, Synced};
pub use transport::{Pull, Refusal, Transport, TransportError};
