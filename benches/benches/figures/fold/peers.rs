//! DuckDB folding the same deltas into the same base, when `LAKESYNC_PEERS` names a Python that has it.

use std::process::Command;
use std::time::Duration;

use lakesync_benches::Cost;
use serde_json::Value as Json;

use crate::read::lineitem::{Lineitem, quoted};

/// What a peer took.
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) cost: Cost,
    pub(super) bytes: u64,
}

/// The fold of a table's log by DuckDB, with our codec and row groups.
pub(super) fn fold(table: &Lineitem<'_>) -> Option<Peer> {
    let python = std::env::var_os("LAKESYNC_PEERS")?;
    let folder = table.folder();
    let export = |name: &str, sql: &str| {
        let path = folder.join(name);
        let options = "stored as parquet options ('format.compression' 'zstd(1)', 'format.max_row_group_size' '131072')";
        table.query(&format!("copy ({sql}) to {} {options}", quoted(&path)));
    };
    export("peer-base.parquet", "select * from lineitem at (seq => 1)");
    export(
        "peer-deltas.parquet",
        "select row_id, _hlc, _op, l_discount from lineitem$deltas",
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/fold.py");
    let ran = Command::new(python).arg(script).arg(folder).output();
    let ran = ran.expect("the peers' Python starts");
    let complaint = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{complaint}");
    let said: Json = serde_json::from_slice(&ran.stdout).expect("a JSON object");
    let time = |field: &str| Duration::from_secs_f64(said[field].as_f64().unwrap_or_default());
    Some(Peer {
        name: said["peer"].as_str().unwrap_or_default().to_owned(),
        cost: Cost {
            wall: time("wall"),
            cpu: time("cpu"),
        },
        bytes: said["bytes"].as_u64().unwrap_or_default(),
    })
}
