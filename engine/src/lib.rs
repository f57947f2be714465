//! LakeSync: a local-first sync engine whose database is a data lake.
//!
//! [`Lake`] is the front door: a data directory with its gateways, its lake and one SQL engine over both.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
//! let directory = std::env::temp_dir().join(format!("lakesync-doc-{}", std::process::id()));
//! let lake = lakesync::Lake::open(&directory).await?;
//! lake.create_table(r#"{"table": "todos", "columns": [{"name": "title", "type": "string"}]}"#).await?;
//! lake.sql("insert into todos (row_id, title) values ('a', 'Buy milk')").await?.collect().await?;
//! lake.sql("call system.flush('todos')").await?.collect().await?;
//! let rows = lake.sql("select title from todos").await?.collect().await?;
//! assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
//! # drop(lake);
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to look next: [`Lake::sql`] for what SQL may say, [`server`] for `lakesync serve`.
//!
//! **Invariant:** one process owns a data directory; every statement of one `sql` call reads the views
//! that were current when it began.

pub mod cli;
mod clock;
pub mod config;
mod ddl;
mod directory;
mod dml;
mod error;
pub mod expiry;
mod json;
mod lake;
pub mod logs;
pub mod maintenance;
mod procedures;
pub mod server;
mod statement;
pub mod syntax;
pub mod upkeep;

pub use clock::SystemClock;
pub use ddl::Ddl;
pub use directory::{DataDirectory, Holder};
pub use error::{Error, Result};
pub use lake::{Lake, LakeBuilder};
pub use lakesync_client as client;
pub use lakesync_proto as proto;
pub use statement::{Access, Grant};
