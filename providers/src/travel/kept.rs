//! The last past views of the process: a second query as of the same moment reads and folds nothing again.
//!
//! **Invariant:** what a view is made of is its key, so one that is found is the one that would be made; there are never
//! more than [`VIEWS_MAX`] of [`KEPT_BYTES_MAX`] together, and what they hold is counted in the memory of the process's
//! plans.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::prelude::SessionContext;
use uuid::Uuid;

use super::Cut;
use crate::view::ReadView;

/// How many past views are kept: a screen full of charts, each as of a moment of its own.
const VIEWS_MAX: usize = 16;

/// How much of the memory of the process's plans they may hold between queries, in bytes: an eighth.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// What a delta of a past view may take, in bytes by estimate: itself, its share of the fold, and its row in Arrow.
const DELTA_BYTES: u64 = 2 << 10;

static KEPT: LazyLock<Mutex<VecDeque<Kept>>> = LazyLock::new(Mutex::default);

/// What a past view is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    table: Uuid,
    schema_version: u32,
    base: Option<i64>,
    cut: Cut,
}

impl Key {
    /// Of the view of `now`'s table at `cut`, over the snapshot `base`.
    pub(super) fn new(now: &ReadView, base: Option<i64>, cut: Cut) -> Self {
        Self {
            table: now.base.table.metadata().uuid(),
            schema_version: now.schema.version,
            base,
            cut,
        }
    }
}

/// A past view with the memory that is counted for it, for as long as anybody has it.
#[derive(Clone, Debug)]
pub(crate) struct HeldView {
    /// The view.
    pub(crate) view: Arc<ReadView>,
    memory: Option<Arc<MemoryReservation>>,
}

impl HeldView {
    /// A view whose deltas are others' too.
    pub(super) fn shared(view: &Arc<ReadView>) -> Self {
        Self {
            view: Arc::clone(view),
            memory: None,
        }
    }

    /// A view with deltas of its own.
    pub(super) fn new(view: ReadView, memory: MemoryReservation) -> Self {
        Self {
            view: Arc::new(view),
            memory: Some(Arc::new(memory)),
        }
    }

    fn bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.size())
    }
}

struct Kept {
    key: Key,
    overlay: HeldView,
}

/// The view of that key, if it is kept.
pub(super) fn get(key: &Key) -> Option<HeldView> {
    let mut kept = lock();
    let place = kept.iter().position(|kept| kept.key == *key)?;
    let found = kept.remove(place)?;
    let overlay = found.overlay.clone();
    kept.push_front(found);
    Some(overlay)
}

/// Keeps a view, and lets those go that were asked for longest ago and are too many.
pub(super) fn put(key: Key, overlay: &HeldView) {
    let mut kept = lock();
    kept.retain(|kept| kept.key != key);
    let overlay = overlay.clone();
    kept.push_front(Kept { key, overlay });
    kept.truncate(VIEWS_MAX);
    while kept.iter().map(|kept| kept.overlay.bytes()).sum::<usize>() > KEPT_BYTES_MAX {
        kept.pop_back();
    }
}

/// Forgets the past views of the table with this id, so that they hold no snapshot that is about to be expired.
pub fn forget_views(table: Uuid) {
    lock().retain(|kept| kept.key.table != table);
}

/// Memory for an overlay of so many deltas; what is kept makes room for it, and none is there when that is not enough.
pub(super) fn reserve(ctx: &SessionContext, deltas: u64) -> Option<MemoryReservation> {
    let bytes = usize::try_from(deltas.saturating_mul(DELTA_BYTES)).ok()?;
    let pool = &ctx.runtime_env().memory_pool;
    let memory = MemoryConsumer::new("overlay of a past moment").register(pool);
    loop {
        if memory.try_grow(bytes).is_ok() {
            return Some(memory);
        }
        lock().pop_back()?;
    }
}

fn lock() -> std::sync::MutexGuard<'static, VecDeque<Kept>> {
    // Every change is whole before anything can panic.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}
