//! From a moment to a cut.
//!
//! **Invariant:** a time is cut before the first delta of the whole gateway that arrived later, so two tables that are
//! read as of one time are read as of one seq, and the wall clock's steps back let nothing in twice.

use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq};

use super::Cut;
use super::horizon::Horizon;
use super::log_part::first_after;
use super::pinned::{Arrival, AsOf, time_text};
use crate::error::{Error, Result};
use crate::lake::LakeError;
use crate::lake::summary::{self, Watermarks};
use crate::live::Views;
use crate::session::session;
use crate::view::ReadView;

/// What a read of `view` as of `as_of` sees.
///
/// # Errors
/// [`Error::UnknownSnapshot`], [`Error::UnknownRef`], [`Error::AmbiguousRef`], [`Error::NotYet`],
/// [`Error::BelowHorizon`]; the lake's when the log cannot be read.
pub(crate) async fn cut(views: &Views, view: &ReadView, as_of: &AsOf) -> Result<Cut> {
    let seq = match as_of.arrival() {
        None => view.seq,
        Some(Arrival::Seq(seq)) => reached(view, *seq)?,
        Some(Arrival::Timestamp(micros)) => seq_at(views, view, *micros).await?,
        Some(Arrival::Version(id)) => reached(view, seq_of_snapshot(view, *id).await?)?,
        Some(Arrival::Ref(name)) => reached(view, seq_of_ref(view, name).await?)?,
    };
    let hlc = as_of.hlc();
    Ok(Cut { seq, hlc })
}

/// That `view` is older than the kept history of its table.
pub(crate) fn below_horizon(view: &ReadView, as_of: &AsOf) -> Result<Error> {
    let horizon = Horizon::of(&view.base.table)?.unwrap_or(Horizon {
        seq: Seq::ZERO,
        hlc: Hlc::ZERO,
        committed_ms: 0,
    });
    Ok(Error::BelowHorizon {
        table: view.table().clone(),
        asked: asked(as_of),
        horizon,
    })
}

/// A moment as an error names it.
pub(crate) fn asked(as_of: &AsOf) -> String {
    let arrival = as_of.arrival().map(|arrival| match arrival {
        Arrival::Seq(seq) => format!("seq {seq}"),
        Arrival::Timestamp(micros) => time_text(*micros),
        Arrival::Version(id) => format!("snapshot {id}"),
        Arrival::Ref(name) => format!("`{name}`"),
    });
    let hlc = as_of.hlc().map(|hlc| format!("HLC {hlc}"));
    let parts: Vec<String> = arrival.into_iter().chain(hlc).collect();
    parts.join(" and ")
}

fn reached(view: &ReadView, seq: Seq) -> Result<Seq> {
    if seq <= view.seq {
        return Ok(seq);
    }
    Err(Error::NotYet {
        table: view.table().clone(),
        asked: format!("seq {seq}"),
        reached: format!("its gateway is at seq {}", view.seq),
    })
}

async fn seq_at(views: &Views, view: &ReadView, micros: i64) -> Result<Seq> {
    let ctx = session(&view.warehouse);
    let mut first = None;
    for table in views.tables.values() {
        let found = first_after(&ctx, table, micros).await?;
        first = first.into_iter().chain(found).min();
    }
    let seq = match first {
        Some(first) => before(first),
        None => view.seq,
    };
    let Some(horizon) = Horizon::of(&view.base.table)? else {
        return Ok(seq);
    };
    // What the oldest base holds had arrived when it was committed; when before that, nobody knows any more.
    let too_early = micros < horizon.committed_ms.saturating_mul(1000);
    if seq < horizon.seq || (seq == horizon.seq && too_early) {
        return Err(below_horizon(
            view,
            &AsOf::Arrival(Arrival::Timestamp(micros)),
        )?);
    }
    Ok(seq)
}

fn before(seq: Seq) -> Seq {
    Seq::from_u64(seq.as_u64().saturating_sub(1)).expect("below a seq is a seq")
}

async fn seq_of_snapshot(view: &ReadView, id: i64) -> Result<Seq> {
    let known = [&view.base.table, &view.log.table];
    for table in known {
        if let Some(seq) = covered(table, id)? {
            return Ok(seq);
        }
    }
    // Another program may have made it since.
    let now = view.warehouse.load(&view.gateway, view.table()).await?;
    for table in [&now.base, &now.log] {
        if let Some(seq) = covered(table, id)? {
            return Ok(seq);
        }
    }
    Err(Error::UnknownSnapshot {
        table: view.table().clone(),
        snapshot: id,
    })
}

/// Tags and branches are made and moved by any program, so the catalog is asked.
async fn seq_of_ref(view: &ReadView, name: &str) -> Result<Seq> {
    let of = |table: &Table| -> Result<Option<Seq>> {
        match table.metadata().snapshot_for_ref(name) {
            Some(snapshot) => covered(table, snapshot.snapshot_id()),
            None => Ok(None),
        }
    };
    let now = view.warehouse.load(&view.gateway, view.table()).await?;
    match (of(&now.base)?, of(&now.log)?) {
        (Some(base), Some(log)) if base != log => Err(Error::AmbiguousRef {
            table: view.table().clone(),
            name: name.to_owned(),
            base,
            log,
        }),
        (Some(seq), _) | (None, Some(seq)) => Ok(seq),
        (None, None) => Err(Error::UnknownRef {
            table: view.table().clone(),
            name: name.to_owned(),
        }),
    }
}

/// The seq up to which a snapshot of base or log covers everything; none when it is not one of that table.
fn covered(table: &Table, id: i64) -> Result<Option<Seq>> {
    if table.metadata().snapshot_by_id(id).is_none() {
        return Ok(None);
    }
    if let Some(foreign) = summary::foreign(table, Some(id))? {
        return Err(LakeError::from(foreign).into());
    }
    let Watermarks {
        max_seq, base_seq, ..
    } = summary::watermarks(table, Some(id))?;
    Ok(Some(base_seq.or(max_seq).unwrap_or(Seq::ZERO)))
}

/// The moment that lies in the future of `now_ms` by more than clocks may differ, if one of `as_of` does.
pub(crate) fn future(as_of: &AsOf, now_ms: u64, skew_ms: u64) -> Option<String> {
    let latest_ms = now_ms.saturating_add(skew_ms);
    if let Some(Arrival::Timestamp(micros)) = as_of.arrival() {
        let beyond = u64::try_from(*micros).is_ok_and(|micros| micros / 1000 > latest_ms);
        if beyond {
            return Some(time_text(*micros));
        }
    }
    let hlc = as_of.hlc().filter(|hlc| hlc.wall_ms() > latest_ms)?;
    Some(format!("HLC {hlc}"))
}
