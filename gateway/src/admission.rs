//! Admission: what must be true of a push before it is worth a write.
//!
//! Checked here, without I/O: the number of deltas, whose they are, types against the schema, delta ids,
//! clock drift. Checked by the writer, in the commit's critical section: duplicates and the floor.
//!
//! **Invariant:** the first delta at fault refuses the whole push, by index and reason.

use lakesync_proto::{DeltaError, ErrorCode, Hlc, Push, RowDelta, Schemas, limits, verify_delta};

use lakesync_providers::STATEMENT_ROWS_MAX;

use crate::config::DeltaIds;
use crate::error::Refusal;

/// How many bytes the values of one push may take in memory, by whatever door they come: a body of the
/// largest size takes about three times as much decoded.
const VALUE_BYTES_MAX: usize = 4 * limits::PUSH_BODY_BYTES_MAX;

/// The field of a late delta's refusal that tells the oldest stamp that is still taken, so that a client that was away for
/// long knows at once what else of its edits is too late.
const OLDEST: &str = "oldestHlc";

/// Whose deltas a push may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// Those of the client that pushes.
    Itself,
    /// Anybody's: an import brings what others stamped.
    Anyone,
}

/// What a push is checked against, besides the schemas.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) author: Author,
    pub(crate) delta_ids: DeltaIds,
    pub(crate) now_ms: u64,
    pub(crate) drift_ms: u64,
    pub(crate) size: SizeMax,
}

/// How large a push may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeMax {
    pub(crate) deltas: usize,
    /// Bytes of its values in memory.
    pub(crate) bytes: usize,
}

impl SizeMax {
    /// What a client may send at once.
    pub(crate) const PUSH: Self = Self {
        deltas: limits::PUSH_DELTAS_MAX,
        bytes: VALUE_BYTES_MAX,
    };

    /// What a SQL statement may write: it is counted as it is gathered, so that its author reads of rows and not of
    /// deltas. What a delta has beside its values is not counted there, hence no second limit in bytes.
    pub(crate) const STATEMENT: Self = Self {
        deltas: STATEMENT_ROWS_MAX,
        bytes: usize::MAX,
    };
}

/// Checks a decoded push against the schemas and the wall clock.
///
/// Gives the size of its values in bytes.
///
/// # Errors
/// A [`Refusal`] that names the delta by index.
pub(crate) fn check(push: &Push, schemas: &dyn Schemas, terms: &Terms) -> Result<usize, Refusal> {
    let size = terms.size;
    if push.deltas.len() > size.deltas {
        return Err(Refusal::new(
            ErrorCode::ValidationError,
            format!(
                "Too many deltas: {} in one push, at most {} are taken; send them in several",
                push.deltas.len(),
                size.deltas
            ),
        ));
    }
    let bytes = push.deltas.iter().map(RowDelta::bytes).sum();
    if bytes > size.bytes {
        return Err(Refusal::new(
            ErrorCode::ValidationError,
            format!(
                "Payload too large: {bytes} bytes of values in one push, at most {} are taken; send them in several",
                size.bytes
            ),
        ));
    }
    for (index, delta) in push.deltas.iter().enumerate() {
        check_delta(push, delta, (schemas, terms)).map_err(|refusal| refusal.at(index))?;
        check_drift(delta, terms).map_err(|refusal| refusal.at(index))?;
    }
    Ok(bytes)
}

fn check_delta(
    push: &Push,
    delta: &RowDelta,
    (schemas, terms): (&dyn Schemas, &Terms),
) -> Result<(), Refusal> {
    if delta.client_id != push.client_id && terms.author == Author::Itself {
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            format!(
                "Client ID mismatch: the push is from `{}`, row `{}` of `{}` is stamped by `{}`",
                push.client_id, delta.row_id, delta.table, delta.client_id
            ),
        ));
    }
    let Some(schema) = schemas.schema(&delta.table) else {
        return Err(Refusal::new(
            ErrorCode::UnknownTable,
            format!(
                "table `{}` does not exist; create it with POST /v1/admin/schema",
                delta.table
            ),
        ));
    };
    let checked = match terms.delta_ids {
        DeltaIds::Verify => verify_delta(delta, &schema),
        DeltaIds::Accept => schema.check(delta).map_err(DeltaError::Check),
    };
    checked.map_err(|error| {
        let code = match error {
            DeltaError::IdMismatch { .. } => ErrorCode::DeltaIdMismatch,
            DeltaError::Check(_) => ErrorCode::SchemaError,
        };
        Refusal::new(
            code,
            format!("row `{}` of `{}`: {error}", delta.row_id, delta.table),
        )
    })
}

fn check_drift(delta: &RowDelta, terms: &Terms) -> Result<(), Refusal> {
    let drift_ms = terms.drift_ms;
    let ahead_ms = delta.hlc.wall_ms().saturating_sub(terms.now_ms);
    if ahead_ms <= drift_ms {
        return Ok(());
    }
    let text = format!(
        "row `{}` of `{}` is stamped {ahead_ms} ms ahead of the gateway's clock, {drift_ms} ms are allowed; \
         set the client's clock back by about that much and stamp the row again",
        delta.row_id, delta.table
    );
    Err(Refusal::new(ErrorCode::ClockDrift, text).with("skewMs", ahead_ms))
}

/// Refuses a new delta that is older than the late window; `oldest` is the window's end.
pub(crate) fn check_window(delta: &RowDelta, oldest: Hlc) -> Result<(), Refusal> {
    if delta.hlc >= oldest {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::LateDelta,
        format!(
            "row `{}` of `{}` is stamped at ms {}, and new deltas are taken from ms {} on (late_window); stamp the row \
             again to send it as a new write",
            delta.row_id,
            delta.table,
            delta.hlc.wall_ms(),
            oldest.wall_ms()
        ),
    )
    .with(OLDEST, oldest.to_string()))
}

/// Refuses a delta below the floor; the writer asks, with the floor of its critical section.
pub(crate) fn check_floor(delta: &RowDelta, floor: Hlc) -> Result<(), Refusal> {
    if delta.hlc >= floor {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::LateDelta,
        format!(
            "row `{}` of `{}` is stamped {} (ms {}), below the floor {} (ms {}): older deltas than that are no \
             longer merged; stamp the row again to send it as a new write",
            delta.row_id,
            delta.table,
            delta.hlc,
            delta.hlc.wall_ms(),
            floor,
            floor.wall_ms()
        ),
    )
    .with(OLDEST, floor.to_string()))
}
