//! A refresh: from the hot deltas that an overlay has not seen to the chunks that they make of it.
//!
//! ```text
//!   new deltas, by row ──┬─► rows touched before   fold over their resolved row      reads nothing
//!                        ├─► rows of the base      fold over the base's row          read where the key indexes say
//!                        └─► other rows            fold over nothing
//!   late ones among them ──► evidence in the log, looked up at once for all
//! ```
//! **Invariant:** the cost is that of the new deltas and of the rows they name, whatever else is hot.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt as _;
use lakesync_proto::{Hlc, RowId, RowState, Seq, SeqDelta};
use tokio::task::spawn_blocking;

use super::candidates::Candidates;
use super::fold::{Home, Older, Pending, Scope};
use super::gathered::{Gathered, INLINE_ROWS, Keep, unwind};
use super::held::wide;
use super::state::{Changes, Places, Setting, State};
use crate::error::Result;
use crate::hot_pushes::HotPushes;
use crate::log::evidence_clocks;
use crate::resolve::{ids_of, rows_by_join};
use crate::scan::{Columns, Found, KeyIndexes, Locator, Next};
use crate::session::session;
use crate::view::ReadView;

/// New deltas of one row.
struct Fresh {
    id: RowId,
    deltas: Vec<Arc<SeqDelta>>,
    /// Whether one of them is not newer than everything in the base.
    late: bool,
}

impl Fresh {
    fn bytes(&self) -> usize {
        self.deltas.iter().map(|delta| delta.delta.bytes()).sum()
    }
}

/// What brings `state` up to `view`, and what is known of places then; none when there is no new delta.
///
/// # Errors
/// When the base or the log cannot be read.
pub(super) async fn changes(
    state: &State,
    view: &ReadView,
    setting: &Setting,
) -> Result<Option<(Changes, Places)>> {
    let fresh = fresh(view, state.seq, setting.shape.max_hlc).await;
    if fresh.is_empty() {
        return Ok(None);
    }
    let ctx = session(&view.warehouse);
    let mut refresh = Refresh {
        state,
        view,
        setting,
        ctx: &ctx,
        evidence: BTreeMap::new(),
        changes: Changes::default(),
        places: state.places,
    };
    let deltas = fresh.iter().map(|row| row.deltas.len()).sum();
    refresh.changes.work.deltas = number(deltas);
    refresh.look_up(&fresh).await?;
    let is_known = |row: &Fresh| state.known(&row.id).is_some();
    let (known, new): (Vec<Fresh>, Vec<Fresh>) = fresh.into_iter().partition(is_known);
    refresh.fold_known(&known).await?;
    refresh.fold_new(&new).await?;
    Ok(Some((refresh.changes, refresh.places)))
}

/// The deltas of the view above `seq`, by row id.
async fn fresh(view: &ReadView, seq: Seq, max_hlc: Hlc) -> Vec<Fresh> {
    let span = (seq.max(view.base.base_seq), view.seq);
    let pushes: HotPushes = view.hot.after(span.0).map(Arc::clone).collect();
    let few = pushes.iter().map(|push| push.deltas.len()).sum::<usize>() <= INLINE_ROWS;
    let group = move || group(&pushes, span, max_hlc);
    match few {
        true => group(),
        false => unwind(spawn_blocking(group).await),
    }
}

fn group(pushes: &HotPushes, (above, upto): (Seq, Seq), max_hlc: Hlc) -> Vec<Fresh> {
    let mut rows: HashMap<&RowId, Vec<Arc<SeqDelta>>> = HashMap::new();
    let deltas = pushes.iter().flat_map(|push| &push.deltas);
    for delta in deltas.filter(|delta| delta.seq > above && delta.seq <= upto) {
        let row = rows.entry(&delta.delta.row_id).or_default();
        row.push(Arc::clone(delta));
    }
    let rows = rows.into_iter().map(|(id, deltas)| Fresh {
        id: id.clone(),
        late: deltas.iter().any(|delta| delta.delta.hlc <= max_hlc),
        deltas,
    });
    let mut fresh: Vec<Fresh> = rows.collect();
    fresh.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    fresh
}

struct Refresh<'a> {
    state: &'a State,
    view: &'a ReadView,
    setting: &'a Setting,
    ctx: &'a SessionContext,
    evidence: BTreeMap<RowId, RowState>,
    changes: Changes,
    places: Places,
}

impl Refresh<'_> {
    /// Looks up what the log knows of the rows that a late delta touches.
    async fn look_up(&mut self, fresh: &[Fresh]) -> Result<()> {
        let mut late = BTreeSet::new();
        let mut oldest = Hlc::MAX;
        for row in fresh.iter().filter(|row| row.late) {
            let known = self.state.known(&row.id);
            let before = known.and_then(|known| known.candidates.oldest());
            let new = row.deltas.iter().map(|delta| delta.delta.hlc);
            oldest = new.chain(before).fold(oldest, Hlc::min);
            late.insert(row.id.clone());
        }
        self.changes.work.rows_late = number(late.len());
        self.evidence = evidence_clocks(self.ctx, self.view, &late, oldest).await?;
        Ok(())
    }

    fn scope(&self, row: &Fresh) -> Scope {
        match row.late {
            true => Scope::All(self.evidence.get(&row.id).cloned().unwrap_or_default()),
            false => Scope::Newer,
        }
    }

    /// Folds rows whose resolved row, if they have one, is at hand.
    async fn fold_known(&mut self, fresh: &[Fresh]) -> Result<()> {
        let mut whole = Gathered::new(Keep::Whole);
        let mut decided = Gathered::new(Keep::Decided);
        for row in fresh {
            let known = self.state.known(&row.id).expect("the rows are known");
            let (number, held) = known.chunk;
            let (into, keep) = match known.row {
                Some(_) if !held.is_whole() => (&mut decided, Keep::Decided),
                _ => (&mut whole, Keep::Whole),
            };
            let bytes = row.bytes() + held.row_bytes();
            if !into.has_room(1, bytes) {
                let full = std::mem::replace(into, Gathered::new(keep));
                self.finish(full).await?;
            }
            let from = known.row.map(|at| Older {
                batch: into.chunk(number, held),
                row: wide(at),
            });
            let candidates = known.candidates.with(&row.deltas);
            self.changes.more.push((known.slot, candidates.clone()));
            let pending = Pending {
                slot: known.slot,
                id: row.id.clone(),
                candidates,
                scope: self.scope(row),
                from,
                home: known.home,
            };
            into.push(pending, bytes);
        }
        self.finish(whole).await?;
        self.finish(decided).await
    }

    /// Folds rows that no delta had touched before.
    async fn fold_new(&mut self, fresh: &[Fresh]) -> Result<()> {
        let new = fresh.iter();
        let new = new.map(|row| (row.id.clone(), Candidates::new(&row.deltas)));
        self.changes.new = new.collect();
        let mut found = vec![false; fresh.len()];
        if !fresh.is_empty() && !self.setting.table.files().is_empty() {
            let made = self.changes.made.len();
            if self.places == Places::Known && !self.locate(fresh, &mut found).await? {
                // What was found is found again, with the rest.
                self.changes.made.truncate(made);
                found.fill(false);
                self.places = Places::Unknown;
            }
            if self.places == Places::Unknown {
                self.join(fresh, &mut found).await?;
            }
        }
        let mut gathered = Gathered::new(Keep::New);
        for (at, row) in fresh.iter().enumerate().filter(|(at, _)| !found[*at]) {
            let bytes = row.bytes();
            if !gathered.has_room(1, bytes) {
                let full = std::mem::replace(&mut gathered, Gathered::new(Keep::New));
                self.finish(full).await?;
            }
            gathered.push(self.pending(row, at, (None, Home::Nowhere)), bytes);
        }
        self.finish(gathered).await
    }

    /// Reads rows of the base at their positions; false when these are not known.
    async fn locate(&mut self, fresh: &[Fresh], found: &mut [bool]) -> Result<bool> {
        let ids = fresh.iter().map(|row| &row.id).collect();
        let indexes = KeyIndexes::of_process();
        let Some(mut locator) = Locator::new(indexes, self.ctx, &self.setting.table, ids)? else {
            return Ok(false);
        };
        let mut gathered = Gathered::new(Keep::IfRoom);
        loop {
            match locator.next(self.columns()).await? {
                Next::Unknown => return Ok(false),
                Next::End => break,
                Next::Rows(Found {
                    row_groups,
                    rows,
                    places,
                }) => {
                    for (place, _) in &places {
                        let file = self.changes.files.entry(place.file);
                        file.or_insert_with(|| Arc::clone(&row_groups));
                    }
                    let mut hits = Vec::with_capacity(places.len());
                    for (row, (place, at)) in places.into_iter().enumerate() {
                        match std::mem::replace(&mut found[wide(at)], true) {
                            false => hits.push((row, wide(at), Home::At(place))),
                            true => self.changes.again.push(place),
                        }
                    }
                    self.gather(&mut gathered, fresh, (rows, hits)).await?;
                }
            }
        }
        self.finish(gathered).await?;
        Ok(true)
    }

    /// Reads rows of the base wherever they are.
    async fn join(&mut self, fresh: &[Fresh], found: &mut [bool]) -> Result<()> {
        let ids = fresh.iter().map(|row| &row.id);
        let mut rows = rows_by_join(self.ctx, &self.setting.table, ids, self.columns()).await?;
        let mut gathered = Gathered::new(Keep::IfRoom);
        while let Some(batch) = rows.try_next().await? {
            let mut hits = Vec::with_capacity(batch.num_rows());
            for (row, id) in ids_of(&batch)?.iter().enumerate() {
                // They ascend by id.
                let at = id.map(|id| fresh.binary_search_by(|row| row.id.as_str().cmp(id)));
                let Some(Ok(at)) = at else {
                    continue;
                };
                if !std::mem::replace(&mut found[at], true) {
                    hits.push((row, at, Home::Somewhere));
                }
            }
            self.gather(&mut gathered, fresh, (batch, hits)).await?;
        }
        self.finish(gathered).await
    }

    /// Which columns of the base are read: where no row can be kept whole, its id says that it is there.
    fn columns(&self) -> Columns {
        match self.setting.budget.is_spent() {
            true => Columns::RowId,
            false => Columns::All,
        }
    }

    /// Gathers rows of the base: of each its place in the batch, which of the fresh ones it is, and its home.
    async fn gather(
        &mut self,
        gathered: &mut Gathered,
        fresh: &[Fresh],
        (batch, hits): (RecordBatch, Vec<(usize, usize, Home)>),
    ) -> Result<()> {
        self.changes.work.rows_read += number(hits.len());
        let bytes = batch.get_array_memory_size();
        let row_bytes = bytes / batch.num_rows().max(1);
        if !gathered.has_room(hits.len(), bytes) {
            let full = std::mem::replace(gathered, Gathered::new(Keep::IfRoom));
            self.finish(full).await?;
        }
        let batch = gathered.base(batch);
        for (row, at, home) in hits {
            let from = Some(Older { batch, row });
            let pending = self.pending(&fresh[at], at, (from, home));
            gathered.push(pending, row_bytes + fresh[at].bytes());
        }
        Ok(())
    }

    /// The new row that is the `at`th.
    fn pending(&self, row: &Fresh, at: usize, (from, home): (Option<Older>, Home)) -> Pending {
        let slot = u32::try_from(at).expect("the new rows are numbered by 32 bits");
        Pending {
            slot: self.state.next_slot() + slot,
            id: row.id.clone(),
            candidates: self.changes.new[at].1.clone(),
            scope: self.scope(row),
            from,
            home,
        }
    }

    async fn finish(&mut self, gathered: Gathered) -> Result<()> {
        if gathered.len() == 0 {
            return Ok(());
        }
        self.changes.work.rows_folded += number(gathered.len());
        let setting = self.setting;
        let made = gathered.fold(&setting.shape, &setting.budget).await?;
        self.changes.made.push(made);
        Ok(())
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
