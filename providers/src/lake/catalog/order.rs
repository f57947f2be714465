//! Applying updates to a table's metadata, so that its times stay in order.
//!
//! Iceberg stamps a change that adds no snapshot by the machine's clock, and refuses a table whose logs
//! go back in time. A clock that once ran ahead would therefore block every later change of schema or
//! properties, or make the table unreadable.
//!
//! **Invariant**: no time in a table's metadata is before the one that precedes it, whatever the clock
//! says. To get there, old times are set to zero while iceberg applies the updates, and restored.

use iceberg::spec::{TableMetadata, TableMetadataBuildResult};
use iceberg::{Result, TableUpdate};
use serde_json::{Map, Value};

const TIME: &str = "timestamp-ms";
const UPDATED: &str = "last-updated-ms";

/// The logs, each with the key that names its entries.
const LOGS: [(&str, &str); 2] = [("snapshot-log", "snapshot-id"), ("metadata-log", "metadata-file")];

/// The metadata after `updates`; `location` is the file that holds `metadata`.
pub(super) fn apply(
    metadata: &TableMetadata,
    location: &str,
    updates: Vec<TableUpdate>,
) -> Result<TableMetadataBuildResult> {
    // A snapshot brings its own time, which our commits keep in order.
    let is_snapshot = |update: &TableUpdate| matches!(update, TableUpdate::AddSnapshot { .. });
    if updates.iter().any(is_snapshot) {
        return build(metadata.clone(), location, updates);
    }
    let times = Times::of(metadata)?;
    let mut built = build(times.erased(metadata)?, location, updates)?;
    built.metadata = times.restored(&built.metadata, location)?;
    Ok(built)
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

/// The times in a table's metadata, by what they belong to.
struct Times {
    updated: i64,
    /// By the text of the snapshot's id or the file's name.
    entries: Map<String, Value>,
}

impl Times {
    fn of(metadata: &TableMetadata) -> Result<Self> {
        let mut json = serde_json::to_value(metadata)?;
        let mut entries = Map::new();
        for_each_entry(&mut json, |name, time| {
            entries.insert(name, time.clone());
        });
        Ok(Self {
            updated: metadata.last_updated_ms(),
            entries,
        })
    }

    fn erased(&self, metadata: &TableMetadata) -> Result<TableMetadata> {
        let mut json = serde_json::to_value(metadata)?;
        json[UPDATED] = 0.into();
        for_each_entry(&mut json, |_, time| *time = 0.into());
        Ok(serde_json::from_value(json)?)
    }

    fn restored(&self, metadata: &TableMetadata, location: &str) -> Result<TableMetadata> {
        let mut json = serde_json::to_value(metadata)?;
        json[UPDATED] = self.updated.max(metadata.last_updated_ms()).into();
        for_each_entry(&mut json, |name, time| {
            if let Some(known) = self.entries.get(&name) {
                *time = known.clone();
            } else if name == location || time.as_i64() < Some(self.updated) {
                // The file just replaced, or a new entry by a clock that is behind.
                *time = self.updated.into();
            }
        });
        Ok(serde_json::from_value(json)?)
    }
}

fn for_each_entry(json: &mut Value, mut visit: impl FnMut(String, &mut Value)) {
    for (log, name) in LOGS {
        let entries = json.get_mut(log).and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten() {
            let name = match &entry[name] {
                Value::String(file) => file.clone(),
                id => id.to_string(),
            };
            visit(name, &mut entry[TIME]);
        }
    }
}
