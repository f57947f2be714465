//! A past moment of a foreign table: which of its snapshots that is.
//!
//! **Invariant:** a moment that the table's metadata does not know is an error, never the table of today.

use iceberg::table::Table;

use crate::error::{Error, Result};
use crate::travel::{Arrival, AsOf, time_text};

/// The snapshot of `table` that a clause means.
pub(super) fn snapshot(table: &Table, as_of: &AsOf) -> Result<i64> {
    let metadata = table.metadata();
    let refused = |reason: String| Error::ForeignMoment {
        table: table.identifier().name().to_owned(),
        reason,
    };
    match as_of {
        AsOf::Arrival(Arrival::Version(id)) => match metadata.snapshot_by_id(*id) {
            Some(_) => Ok(*id),
            None => Err(refused(format!("it has no snapshot {id}"))),
        },
        AsOf::Arrival(Arrival::Ref(name)) => match metadata.snapshot_for_ref(name) {
            Some(snapshot) => Ok(snapshot.snapshot_id()),
            None => Err(refused(format!("it has no tag or branch `{name}`"))),
        },
        AsOf::Arrival(Arrival::Timestamp(micros)) => {
            let of_then = metadata.history().iter();
            let mut of_then = of_then.filter(|entry| entry.timestamp_ms() <= micros.div_euclid(1_000));
            match of_then.next_back() {
                Some(entry) => Ok(entry.snapshot_id),
                None => Err(refused(format!(
                    "its history begins after {}",
                    time_text(*micros)
                ))),
            }
        }
        AsOf::Arrival(Arrival::Seq(_)) | AsOf::Hlc(_) | AsOf::Both(..) => Err(refused(
            "it was made by another program, which gives rows neither seq nor HLC; ask by VERSION or TIMESTAMP"
                .to_owned(),
        )),
    }
}
