//! What a past state may hold in memory.

/// Limits of one past state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TravelLimits {
    /// How many deltas it holds as an overlay (default 200,000: what a gateway takes in some seconds, and folds in about
    /// one). One that memory has anyhow counts as a fifth, for only its fold is added. More are folded by a query that can
    /// go on in files; with 0 all are.
    pub overlay_deltas_max: u64,
    /// What the aggregates of one part of such a fold may take, in bytes by estimate (default 256 MiB: an eighth of the
    /// memory of the process's plans). A fold of more is cut into parts by row id, each of which reads the files again.
    pub part_bytes: u64,
}

impl Default for TravelLimits {
    fn default() -> Self {
        Self {
            overlay_deltas_max: 200_000,
            part_bytes: 256 << 20,
        }
    }
}

/// So many deltas that memory has anyhow take as much as one that is read from the log.
const HOT_AS_ONE: u64 = 5;

impl TravelLimits {
    /// What deltas that are `read` from the log, and `hot` ones, count together.
    pub(super) fn weighed(self, read: u64, hot: u64) -> u64 {
        read.saturating_add(hot.div_ceil(HOT_AS_ONE))
    }
}
