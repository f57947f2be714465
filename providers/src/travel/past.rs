//! A past state of a table, ready to be read.
//!
//! **Invariant:** it is the same whichever way its deltas are folded, and however many are kept by now in which place.

use std::sync::Arc;

use lakesync_proto::Seq;

use super::Cut;
use super::fold_plan::FoldPlan;
use super::horizon::base_at;
use super::kept::{self, HeldView, Key};
use super::limits::TravelLimits;
use super::log_part::LogPart;
use crate::error::Result;
use crate::session::session;
use crate::view::{BaseSnapshot, HotPush, ReadView};

/// How a past state is read.
#[derive(Debug)]
pub(crate) enum Past {
    /// As an overlay over its base, like the present.
    Overlay(HeldView),
    /// As the query that folds its deltas onto its base.
    Folded(FoldPlan),
}

/// What a past state is made of.
pub(super) struct Parts {
    pub(super) base: Arc<BaseSnapshot>,
    /// The deltas between these seqs are in the log only.
    flushed: (Seq, Seq),
    /// The others, as the present view has them.
    hot: Vec<Arc<HotPush>>,
}

/// The state of `now`'s table at `cut`; none below the horizon.
///
/// # Errors
/// When base or log cannot be read.
pub(crate) async fn past(
    now: &Arc<ReadView>,
    cut: Cut,
    limits: TravelLimits,
) -> Result<Option<Past>> {
    if sees_all(now, cut) && limits.overlay_deltas_max > 0 {
        return Ok(Some(Past::Overlay(HeldView::shared(now))));
    }
    let Some(parts) = parts(now, cut)? else {
        return Ok(None);
    };
    let key = Key::new(now, parts.base.snapshot_id, cut);
    if let Some(overlay) = kept::get(&key).filter(|_| limits.overlay_deltas_max > 0) {
        return Ok(Some(Past::Overlay(overlay)));
    }
    let ctx = session(&now.warehouse);
    let flushed = LogPart::open(now, parts.flushed, cut.hlc).await?;
    let hot: usize = parts.hot.iter().map(|push| push.deltas.len()).sum();
    let hot = u64::try_from(hot).unwrap_or(u64::MAX);
    let mut read = flushed.deltas_max;
    if limits.weighed(read, hot) > limits.overlay_deltas_max {
        read = flushed.count(&ctx).await?;
    }
    let (deltas, weighed) = (read.saturating_add(hot), limits.weighed(read, hot));
    let memory = (weighed <= limits.overlay_deltas_max).then(|| kept::reserve(&ctx, weighed));
    let Some(memory) = memory.flatten() else {
        let fold = FoldPlan::new(now, parts.base, cut, deltas).in_parts_of(limits.part_bytes);
        return Ok(Some(Past::Folded(fold)));
    };
    let pushes = with_flushed(flushed.read(&ctx).await?, parts.hot);
    let overlay = HeldView::new(at(now, parts.base, cut.seq, pushes), memory);
    kept::put(key, &overlay);
    Ok(Some(Past::Overlay(overlay)))
}

/// Whether the cut takes nothing away.
pub(super) fn sees_all(now: &ReadView, cut: Cut) -> bool {
    // Above a base that another program changed, the newest good one gives the same state.
    let known = now.base.foreign.is_none() && cut.covers(now.seq, now.base.max_hlc);
    known && now.hot_deltas().all(|delta| cut.sees(delta))
}

/// What the state at `cut` is made of; none below the horizon.
pub(super) fn parts(now: &ReadView, cut: Cut) -> Result<Option<Parts>> {
    let newest = &now.base;
    let readable = newest.foreign.is_none();
    let base = if readable && cut.covers(newest.base_seq, newest.max_hlc) {
        Arc::clone(newest)
    } else {
        match base_at(now, cut)? {
            Some(base) => Arc::new(base),
            None => return Ok(None),
        }
    };
    Ok(Some(Parts {
        flushed: (base.base_seq, cut.seq.min(newest.base_seq)),
        base,
        hot: within(now, cut),
    }))
}

/// The hot pushes as far as the cut sees them; only one that it cuts is made anew.
fn within(now: &ReadView, cut: Cut) -> Vec<Arc<HotPush>> {
    let above = now.base.base_seq;
    let mut kept = Vec::new();
    for push in now.hot.iter() {
        let sees = |delta: &&Arc<_>| cut.sees(delta) && delta.seq > above;
        let seen = push.deltas.iter().filter(sees).count();
        if seen == push.deltas.len() {
            kept.push(Arc::clone(push));
        } else if seen > 0 {
            kept.push(Arc::new(HotPush {
                arrived_ms: push.arrived_ms,
                deltas: push.deltas.iter().filter(sees).map(Arc::clone).collect(),
            }));
        }
    }
    kept
}

/// The flushed deltas before the others.
fn with_flushed(flushed: HotPush, hot: Vec<Arc<HotPush>>) -> Vec<Arc<HotPush>> {
    if flushed.deltas.is_empty() {
        return hot;
    }
    let flushed = Arc::new(flushed);
    [&flushed]
        .into_iter()
        .chain(hot.iter())
        .map(Arc::clone)
        .collect()
}

impl Parts {
    /// The view that they make, all of them in memory.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) async fn view(self, now: &ReadView, cut: Cut) -> Result<ReadView> {
        let ctx = session(&now.warehouse);
        let flushed = LogPart::open(now, self.flushed, cut.hlc).await?;
        let pushes = with_flushed(flushed.read(&ctx).await?, self.hot);
        Ok(at(now, self.base, cut.seq, pushes))
    }
}

/// The view of `now`'s table with another base and other deltas.
fn at(now: &ReadView, base: Arc<BaseSnapshot>, seq: Seq, hot: Vec<Arc<HotPush>>) -> ReadView {
    ReadView {
        warehouse: now.warehouse.clone(),
        gateway: now.gateway.clone(),
        schema: Arc::clone(&now.schema),
        base,
        log: Arc::clone(&now.log),
        seq,
        hot: hot.into(),
        overlay: Arc::default(),
        resolved: tokio::sync::OnceCell::new(),
    }
}
