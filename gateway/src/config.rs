//! What a gateway can be told, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use crate::autoflush::FlushPolicy;
use crate::pressure::PressureLimits;

/// What is done with the delta ids of pushes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeltaIds {
    /// Each is recomputed and must fit its delta.
    #[default]
    Verify,
    /// They are taken as they come: for clients that compute them in another way.
    Accept,
}

/// What a flush writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FlushFormat {
    /// Parquet in the log table.
    #[default]
    Parquet,
    /// The same, and before it the same deltas as NDJSON files, for people without a catalog.
    Ndjson {
        /// Where: `<folder>/<gateway>/<table>/<day>/<first seq>-<last seq>.ndjson`.
        folder: PathBuf,
    },
}

/// The settings of one gateway. Every field has a default that is right for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// How far ahead of the gateway's wall clock a delta may be stamped (default 5 s). Larger lets a
    /// client with a fast clock win over later writes of others; smaller refuses honest clients.
    pub drift: Duration,
    /// What is done with delta ids (default: verify). Accepting them lets a faulty client store one delta twice.
    pub delta_ids: DeltaIds,
    /// How old a new delta may be when it arrives (default 30 days); none takes any age. Larger keeps evidence in
    /// the log for longer; smaller refuses clients that were offline for that long.
    pub late_window: Option<Duration>,
    /// How far the wall clock may step against a clock that nobody can set before pushes are refused for a while
    /// (default: not watched; 10 s is right for a machine's own clock). Smaller refuses writes at every correction of
    /// the clock; larger lets a clock that jumped ahead admit stamps that win for as long.
    pub clock_jump: Option<Duration>,
    /// How long accepted pushes stay in SQLite after they were flushed (default 7 days), so that ordinary
    /// pulls read SQLite by seq. Larger costs disk; smaller sends more pulls to the flushed log.
    pub pull_window: Duration,
    /// How many bytes of recent deltas are kept in memory for pulls (default 256 MiB).
    pub feed_bytes_max: usize,
    /// How many pushes one commit may hold (default 256).
    pub group_pushes_max: usize,
    /// How many bytes of values one commit may hold beyond its last push (default 64 MiB).
    pub group_bytes_max: usize,
    /// How many pushes may wait for the writer (default 1024); more are told to come back.
    pub queue_pushes_max: usize,
    /// How many bytes of values may wait for the writer (default 256 MiB); more are told to come back.
    pub queue_bytes_max: usize,
    /// When hot deltas are flushed by [`crate::Gateway::run_flushes`].
    pub flush: FlushPolicy,
    /// What a flush writes (default: Parquet only).
    pub flush_format: FlushFormat,
    /// When pushes have to wait for room.
    pub pressure: PressureLimits,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            drift: Duration::from_secs(5),
            delta_ids: DeltaIds::default(),
            late_window: Some(Duration::from_secs(30 * 24 * 60 * 60)),
            clock_jump: None,
            pull_window: Duration::from_secs(7 * 24 * 60 * 60),
            feed_bytes_max: 256 << 20,
            group_pushes_max: 256,
            group_bytes_max: 64 << 20,
            queue_pushes_max: 1024,
            queue_bytes_max: 256 << 20,
            flush: FlushPolicy::default(),
            flush_format: FlushFormat::default(),
            pressure: PressureLimits::default(),
        }
    }
}
