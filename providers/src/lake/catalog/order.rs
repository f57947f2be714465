//! Applying updates to a table's metadata, so that its times stay in order.
//!
//! Iceberg stamps a change that adds no snapshot by the machine's clock, and refuses a table whose logs
//! go back in time. A clock that once ran ahead would therefore block every later change of schema or
//! properties, or make the table unreadable; and a lake with a clock of its own would have times of two clocks.
//!
//! **Invariant**: no time in a table's metadata is before the one that precedes it, whatever the clock
//! says, and all of them are by the lake's. To get there, old times are set to zero while iceberg applies the updates,
//! and restored; those that iceberg put are replaced.

use iceberg::spec::{TableMetadata, TableMetadataBuildResult};
use iceberg::{Result, TableUpdate};
use serde_json::Value;

const TIME: &str = "timestamp-ms";
const UPDATED: &str = "last-updated-ms";

/// The logs, each with the key that names its entries.
const LOGS: [(&str, &str); 2] = [
    ("snapshot-log", "snapshot-id"),
    ("metadata-log", "metadata-file"),
];

/// The metadata after `updates` at `now_ms`; `location` is the file that holds `metadata`.
pub(super) fn apply(
    (metadata, location): (&TableMetadata, &str),
    updates: Vec<TableUpdate>,
    now_ms: i64,
) -> Result<TableMetadataBuildResult> {
    // A snapshot brings its own time, which our commits keep in order.
    let is_snapshot = |update: &TableUpdate| matches!(update, TableUpdate::AddSnapshot { .. });
    if updates.iter().any(is_snapshot) {
        return build(metadata.clone(), location, updates);
    }
    let times = Times::of(metadata)?;
    let mut built = build(times.erased(metadata)?, location, updates)?;
    built.metadata = times.restored(&built.metadata, now_ms)?;
    Ok(built)
}

/// The metadata of a new table, made at `now_ms`.
pub(super) fn created_at(metadata: &TableMetadata, now_ms: i64) -> Result<TableMetadata> {
    let mut json = serde_json::to_value(metadata)?;
    json[UPDATED] = now_ms.into();
    Ok(serde_json::from_value(json)?)
}

fn build(
    metadata: TableMetadata,
    location: &str,
    updates: Vec<TableUpdate>,
) -> Result<TableMetadataBuildResult> {
    let mut builder = metadata.into_builder(Some(location.to_owned()));
    for update in updates {
        builder = update.apply(builder)?;
    }
    builder.build()
}

/// The times in a table's metadata.
struct Times {
    updated: i64,
    /// Of each log, what its entries are about and their times.
    logs: [Vec<(Value, Value)>; 2],
}

impl Times {
    fn of(metadata: &TableMetadata) -> Result<Self> {
        let mut json = serde_json::to_value(metadata)?;
        let of_log = |(log, name)| {
            let entries = entries(&mut json, log);
            entries
                .map(|entry| (entry[name].clone(), entry[TIME].clone()))
                .collect()
        };
        Ok(Self {
            updated: metadata.last_updated_ms(),
            logs: LOGS.map(of_log),
        })
    }

    fn erased(&self, metadata: &TableMetadata) -> Result<TableMetadata> {
        let mut json = serde_json::to_value(metadata)?;
        json[UPDATED] = 0.into();
        for (log, _) in LOGS {
            entries(&mut json, log).for_each(|entry| entry[TIME] = 0.into());
        }
        Ok(serde_json::from_value(json)?)
    }

    /// Entries of time zero are the old ones, in their order, less those that expired, and the file
    /// just replaced. The others are new, and the clock may be behind.
    fn restored(&self, metadata: &TableMetadata, now_ms: i64) -> Result<TableMetadata> {
        let mut json = serde_json::to_value(metadata)?;
        json[UPDATED] = self.updated.max(now_ms).into();
        for ((log, name), old) in LOGS.into_iter().zip(&self.logs) {
            let mut old = old.iter();
            for entry in entries(&mut json, log) {
                let time = entry[TIME].as_i64().unwrap_or(0);
                let known = match time {
                    0 => old.find(|(known, _)| *known == entry[name]),
                    _ => None,
                };
                entry[TIME] = match known {
                    Some((_, time)) => time.clone(),
                    None if time == 0 => self.updated.into(),
                    None => self.updated.max(now_ms).into(),
                };
            }
        }
        Ok(serde_json::from_value(json)?)
    }
}

fn entries<'j>(json: &'j mut Value, log: &str) -> impl Iterator<Item = &'j mut Value> {
    let entries = json.get_mut(log).and_then(Value::as_array_mut);
    entries.into_iter().flatten()
}
