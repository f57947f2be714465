//! What a gateway can be told, as plain data.

use std::time::Duration;

/// The settings of one gateway. Every field has a default that is right for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// How far ahead of the gateway's wall clock a delta may be stamped (default 5 s). Larger lets a
    /// client with a fast clock win over later writes of others; smaller refuses honest clients.
    pub drift: Duration,
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
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            drift: Duration::from_secs(5),
            pull_window: Duration::from_secs(7 * 24 * 60 * 60),
            feed_bytes_max: 256 << 20,
            group_pushes_max: 256,
            group_bytes_max: 64 << 20,
            queue_pushes_max: 1024,
            queue_bytes_max: 256 << 20,
        }
    }
}
