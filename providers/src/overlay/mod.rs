//! The overlay: what the hot deltas of a table make of the rows they touch, kept from view to view.
//!
//! ```text
//!   LiveTable ── one Overlay per (base snapshot, schema), shared by its views
//!                  │  refresh: the deltas between what it knows and the view
//!                  ▼
//!                State   row id → its hot deltas, its home in the base, its row in a chunk
//!                  │
//!                  ▼
//!                Resolved, immutable: chunks ≤ 8,192 rows with live rows │ masks and patches per file
//! ```
//! A query after a small push pays for the push: its rows are folded ([`fold`]) into a chunk of their own, their older
//! rows die in theirs ([`held`]), and only the files that they are in are gone through ([`touched`]). Rows are read from
//! the base when they are touched for the first time ([`refresh`]), and kept whole within a [`budget`].
//!
//! **Invariant:** whatever the refreshes between, the overlay of a view shows exactly the view's rows whose id a hot
//! delta names: an overlay that is made at once shows the same.

mod budget;
mod candidates;
mod completion;
mod fold;
mod gathered;
mod held;
mod refresh;
mod resolved;
mod state;
#[cfg(test)]
mod tests;
mod touched;

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use crate::error::Result;
use crate::lake::arrow_schema;
use crate::view::ReadView;
pub(crate) use budget::{Budget, Reservation};
pub(crate) use completion::completed;
use fold::Shape;
use gathered::{INLINE_ROWS, unwind};
pub use resolved::{Resolved, Work};
pub(crate) use resolved::{WANTED, row_id_schema};
use state::{Changes, Places, Setting, State};

/// The overlay of one table over one base, with one schema, as far as somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Overlay {
    state: Arc<Mutex<Option<State>>>,
    budget: Budget,
}

impl Default for Overlay {
    fn default() -> Self {
        Self::within(Budget::of_process())
    }
}

impl Overlay {
    /// One that keeps rows whole within a budget.
    pub(crate) fn within(budget: Budget) -> Self {
        Self {
            state: Arc::default(),
            budget,
        }
    }

    /// Whether it may know something.
    pub(crate) fn is_begun(&self) -> bool {
        !self.state.try_lock().is_ok_and(|state| state.is_none())
    }

    /// What `view`, a view of the overlay's table, base and schema, sees. Given up before it is done, it has changed
    /// nothing.
    ///
    /// # Errors
    /// When the base or the log cannot be read.
    pub(crate) async fn resolved(&self, view: &ReadView) -> Result<Arc<Resolved>> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        if state.as_ref().is_some_and(|known| known.seq > view.seq) {
            // The view is older than what is known: its overlay is its own.
            drop(state);
            state = Arc::<Mutex<Option<State>>>::default().lock_owned().await;
        }
        self.refresh(state, view).await
    }

    async fn refresh(
        &self,
        mut state: OwnedMutexGuard<Option<State>>,
        view: &ReadView,
    ) -> Result<Arc<Resolved>> {
        let setting = Setting {
            shape: Shape {
                schema: Arc::clone(&view.schema),
                arrow: arrow_schema(&view.base.table)?,
                max_hlc: view.base.max_hlc,
            },
            table: view.base.scan(&view.warehouse).await?,
            budget: self.budget.clone(),
        };
        let known = state.get_or_insert_with(|| State::new(view.base.base_seq));
        let changes = refresh::changes(known, view, &setting).await?;
        let (changes, places) = match (changes, known.shown()) {
            (None, Some(shown)) => {
                let shown = Arc::clone(shown);
                known.seq = view.seq;
                return Ok(shown);
            }
            (None, None) => (Changes::default(), known.places),
            (Some(changes), _) => changes,
        };
        let few = changes.new.len() + changes.more.len() <= INLINE_ROWS;
        let seq = view.seq;
        let take = move || take(state, (changes, places), seq, &setting);
        match few {
            true => take(),
            // The guard goes with the work: who gives up waiting leaves a state that is whole.
            false => unwind(spawn_blocking(take).await),
        }
    }
}

fn take(
    mut state: OwnedMutexGuard<Option<State>>,
    (changes, places): (Changes, Places),
    seq: lakesync_proto::Seq,
    setting: &Setting,
) -> Result<Arc<Resolved>> {
    let state = state.as_mut().expect("the refresh began with one");
    state.places = places;
    state.take(seq, changes, setting)
}
