//! What a compaction can be told, as plain data.

/// The settings of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionConfig {
    /// What the aggregates of one part of the fold may take in memory, in bytes by estimate (default 512 MiB).
    /// Smaller cuts the fold into more parts, each of which reads the files again; larger needs more memory.
    pub part_bytes: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            part_bytes: 512 << 20,
        }
    }
}
