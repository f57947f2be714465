//! Which tables the scheduler leaves alone, as the catalog has it.
//!
//! ```text
//!   namespace property  lakesync.maintenance-paused = ["orders", "todos"]
//! ```
//! **Invariant:** a pause outlives the process and holds for whoever leads next; only somebody's word ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use lakesync_gateway::Gateway;
use lakesync_proto::TableName;
use lakesync_providers::lake::{LakeError, LakeErrorKind};

use crate::error::{Error, Result};

/// The property of a gateway's namespace.
const PAUSED: &str = "lakesync.maintenance-paused";
/// How often a change begins again because somebody else changed it meanwhile.
const TRIES_MAX: usize = 8;

/// What is done to the pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pausing {
    /// Leave these alone.
    Pause,
    /// Look after these again.
    Resume,
}

/// The tables of `gateway` that are paused.
///
/// # Errors
/// When the catalog cannot be read, or the property is damaged.
pub(crate) async fn paused(gateway: &Gateway) -> Result<BTreeSet<TableName>> {
    let warehouse = gateway.live().warehouse();
    let known = warehouse.namespace_properties(gateway.id()).await?;
    let paused = read(gateway, known.get(PAUSED).map(String::as_str))?;
    gateway.maintenance_stats().set_paused(paused.clone());
    Ok(paused)
}

/// Pauses or resumes `tables`, and gives those that are paused then.
///
/// # Errors
/// When the catalog cannot be read or written, or the property is damaged.
pub(crate) async fn change_paused(
    gateway: &Arc<Gateway>,
    tables: &[TableName],
    pausing: Pausing,
) -> Result<BTreeSet<TableName>> {
    let warehouse = gateway.live().warehouse();
    for _ in 0..TRIES_MAX {
        let known = warehouse.namespace_properties(gateway.id()).await?;
        let held = known.get(PAUSED).map(String::as_str);
        let mut paused = read(gateway, held)?;
        for table in tables {
            match pausing {
                Pausing::Pause => paused.insert(table.clone()),
                Pausing::Resume => paused.remove(table),
            };
        }
        let text = (!paused.is_empty()).then(|| written(&paused));
        let set = [(PAUSED, text.as_deref())];
        let done = warehouse
            .set_namespace_properties(gateway.id(), &[(PAUSED, held)], &set)
            .await;
        match done {
            Ok(()) => {
                gateway.maintenance_stats().set_paused(paused.clone());
                return Ok(paused);
            }
            Err(error) if is_changed(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Invalid(format!(
        "the pauses of `{}` are changed by others again and again; ask again",
        gateway.id()
    )))
}

fn is_changed(error: &LakeError) -> bool {
    error.kind() == LakeErrorKind::Conflict
}

fn written(paused: &BTreeSet<TableName>) -> String {
    let names: Vec<&str> = paused.iter().map(AsRef::as_ref).collect();
    serde_json::json!(names).to_string()
}

fn read(gateway: &Gateway, text: Option<&str>) -> Result<BTreeSet<TableName>> {
    let Some(text) = text else {
        return Ok(BTreeSet::new());
    };
    let names: Option<Vec<String>> = serde_json::from_str(text).ok();
    let tables = names.and_then(|names| {
        names
            .iter()
            .map(|name| TableName::parse(name).ok())
            .collect()
    });
    tables.ok_or_else(|| {
        Error::Invalid(format!(
            "the property {PAUSED} of `{}` is not a list of tables but {text}; set it right in the catalog",
            gateway.id()
        ))
    })
}
