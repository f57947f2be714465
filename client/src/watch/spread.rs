//! What the application's own triggers do when the gateway's rows are written.
//!
//! Behind the closed gate nothing is captured, so nobody counts what such triggers write to registered tables: every replica
//! does it for itself. Those who watch these tables want to hear of it nevertheless.
//!
//! Invariant: a table that a trigger could have written is told as changed; that a trigger's text names it is enough.

use std::collections::BTreeSet;

use crate::error::ClientError;
use crate::local::Work;

/// Adds to what was touched the tables that triggers of touched tables name, and theirs in turn.
pub(crate) fn spread(work: &mut Work<'_>) -> Result<(), ClientError> {
    if work.touched.is_empty() {
        return Ok(());
    }
    let triggers = triggers(work)?;
    if triggers.is_empty() {
        return Ok(());
    }
    let touched = work.touched.tables.keys();
    let mut reached: BTreeSet<String> = touched.map(|table| lower(table.as_str())).collect();
    // A trigger may also stand on a view or on a table of the application's own, which another trigger writes.
    let tables = work.registry.tables().map(|table| &table.schema.table);
    let mut names: BTreeSet<String> = tables.map(|table| lower(table.as_str())).collect();
    names.extend(triggers.iter().map(|trigger| trigger.on.clone()));
    let mut before = 0;
    while reached.len() > before {
        before = reached.len();
        for trigger in triggers
            .iter()
            .filter(|t| reached.contains(&t.on))
            .collect::<Vec<_>>()
        {
            let named = names.iter().filter(|name| trigger.sql.contains(*name));
            reached.extend(named.cloned());
        }
    }
    for table in work.registry.tables() {
        let table = &table.schema.table;
        if reached.contains(&lower(table.as_str())) && !work.touched.tables.contains_key(table) {
            work.touched.many(table);
        }
    }
    Ok(())
}

/// A trigger of the application, in lower case, as SQLite compares names.
struct Trigger {
    on: String,
    sql: String,
}

fn triggers(work: &Work<'_>) -> Result<Vec<Trigger>, ClientError> {
    let mut statement = work.tx.prepare_cached(
        "SELECT tbl_name, sql FROM (SELECT * FROM sqlite_schema UNION ALL SELECT * FROM sqlite_temp_schema) \
         WHERE type = 'trigger' AND name NOT LIKE '\\_lakesync\\_%' ESCAPE '\\'",
    )?;
    let triggers = statement.query_map([], |row| {
        Ok(Trigger {
            on: lower(row.get_ref(0)?.as_str()?),
            sql: lower(row.get_ref(1)?.as_str()?),
        })
    })?;
    Ok(triggers.collect::<Result<_, _>>()?)
}

fn lower(name: &str) -> String {
    name.to_ascii_lowercase()
}
