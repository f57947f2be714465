//! The files of a log, with what maintenance decides by: day of arrival, seqs, stamps.
//!
//! **Invariant**: what is told of a file is what its manifest entry says; where that says nothing, or something that no
//! flush of ours writes, the file has no such value and nothing may be concluded from it.

use std::ops::RangeInclusive;

use iceberg::spec::{Datum, Literal, PrimitiveLiteral};
use iceberg::table::Table;
use lakesync_proto::{Hlc, Seq, columns};

use super::error::LakeError;
use super::files::{DataFileInfo, live_files};

/// A live file of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFile {
    /// The file.
    pub info: DataFileInfo,
    /// The day that its deltas arrived on, counted from 1970-01-01; none when it is of another partition spec.
    pub day: Option<i32>,
    /// The least and greatest seq of its deltas.
    pub seqs: Option<RangeInclusive<Seq>>,
    /// The least and greatest stamp of its deltas.
    pub stamps: Option<RangeInclusive<Hlc>>,
    /// When the first of its deltas arrived, in milliseconds since 1970.
    pub arrived_ms: Option<u64>,
}

/// The live data files of a log's snapshot; none without one.
///
/// # Errors
/// As [`live_files`].
pub async fn log_files(log: &Table, snapshot_id: Option<i64>) -> Result<Vec<LogFile>, LakeError> {
    let Some(snapshot_id) = snapshot_id else {
        return Ok(Vec::new());
    };
    let files = live_files(log, Some(snapshot_id)).await?;
    let spec = log.metadata().default_partition_spec_id();
    let id = |name: &str| log.metadata().current_schema().field_id_by_name(name);
    let ids = [columns::SEQ, columns::HLC, columns::ARRIVED_AT].map(id);
    Ok(files
        .into_iter()
        .map(|info| read(info, spec, ids))
        .collect())
}

fn read(info: DataFileInfo, spec: i32, [seq, hlc, arrived]: [Option<i32>; 3]) -> LogFile {
    let bounds = |id: Option<i32>| {
        let id = id?;
        let (lower, upper) = (info.lower_bounds.get(&id)?, info.upper_bounds.get(&id)?);
        Some((long(lower)?, long(upper)?))
    };
    let seqs = bounds(seq).and_then(|(from, to)| {
        let (from, to) = (Seq::from_i64(from).ok()?, Seq::from_i64(to).ok()?);
        Some(from..=to)
    });
    let stamps = bounds(hlc).and_then(|(from, to)| {
        let (from, to) = (Hlc::from_i64(from).ok()?, Hlc::from_i64(to).ok()?);
        Some(from..=to)
    });
    let arrived_ms = bounds(arrived).and_then(|(from, _)| u64::try_from(from / 1_000).ok());
    let day = match info.partition.fields() {
        [Some(Literal::Primitive(PrimitiveLiteral::Int(day)))] if info.spec_id == spec => {
            Some(*day)
        }
        _ => None,
    };
    LogFile {
        info,
        day,
        seqs,
        stamps,
        arrived_ms,
    }
}

fn long(bound: &Datum) -> Option<i64> {
    match bound.literal() {
        PrimitiveLiteral::Long(number) => Some(*number),
        _ => None,
    }
}
