//! The sync gateway as a library: pushes become durable, then visible, then acknowledged.
//!
//! ```text
//!  push ─► admission ─► writer thread ───────────────► live tables ─► acknowledge
//!            types,       dedup, floor, seq,   │         (SQL sees it)
//!            ids, drift   one COMMIT a group   └──────► feed
//!                         (SQLite, fsynced)               │
//!  pull ◄──────────── feed, durable log, flushed log ◄────┘
//!  flush ─► Parquet in the log table, one Iceberg snapshot
//! ```
//! Read [`Gateway`] first; [`http::Front`] is its face.
//!
//! **Invariants:** acknowledged means fsynced and readable · a batch is accepted whole or refused whole ·
//! `seq` is dense, given inside the commit's critical section, and the only cursor · a delta id names
//! one delta · a failed commit poisons the log.

pub mod actions;
mod admission;
pub mod auth;
mod autoflush;
mod checkpoint;
mod config;
mod dedup;
mod digest;
mod durable;
mod error;
mod feed;
mod fence;
mod filter;
mod flush;
mod flushed_mark;
mod gateway;
mod host;
pub mod http;
mod jobs;
mod maintenance;
mod ndjson;
mod notes;
mod opening;
mod outbound;
mod pressure;
mod pull;
mod push;
mod registry;
mod rejoin;
mod round;
pub mod rules;
mod sent;
mod sight;
mod sql_write;
pub mod stats;
mod steady;
mod trim;
mod upkeep;
mod writer;

pub use autoflush::{FlushPolicy, FlushState, Reason, due};
pub use checkpoint::{Checkpoint, CheckpointForm, CheckpointRequest, Chunk};
pub use config::{DeltaIds, FlushFormat, GatewayConfig};
pub use digest::{Digest, TableDigest};
pub use error::{Error, Refusal, Result};
pub use flush::FlushReport;
pub use gateway::{Components, Gateway};
pub use maintenance::{Did, KindCounts, LakeSize, MaintenanceSnapshot, MaintenanceStats};
pub use pressure::{PressureLimits, ProcessLoad};
pub use pull::{Pull, Since};
pub use registry::{GATEWAYS_MAX, GatewayFolder, Gateways};
pub use sql_write::SqlWriter;
pub use trim::LogCompaction;
pub use upkeep::Metrics;
