//! DuckDB and chDB over the same base and the same deltas, when `LAKESYNC_PEERS` names a Python that has them.
//!
//! `benches/peers/run` makes one. The peers run in processes of their own, one after another.

use std::process::Command;

use lakesync_benches::{Figure, Figures, median};
use serde_json::Value as Json;

use super::lineitem::{Lineitem, quoted};
use super::plain::{QUERIES, ms};

pub(super) fn measure(table: &Lineitem<'_>, figures: &mut Figures) {
    let Some(python) = std::env::var_os("LAKESYNC_PEERS") else {
        return;
    };
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
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/read.py");
    let queries: Vec<Json> = QUERIES
        .iter()
        .map(|(name, sql)| serde_json::json!({"name": name, "sql": sql}))
        .collect();
    let told = serde_json::to_string(&queries).expect("texts");
    let ran = Command::new(python)
        .arg(script)
        .arg(folder)
        .arg(told)
        .output();
    let ran = ran.expect("the peers' Python starts");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let said = String::from_utf8(ran.stdout).expect("a text");
    for line in said.lines() {
        let peer: Json = serde_json::from_str(line).expect("one JSON object a line");
        let text = |field: &str| peer[field].as_str().unwrap_or_default().to_owned();
        let sql = QUERIES.iter().find(|(name, _)| *name == text("query"));
        let (ours, _) = median(|| table.query(sql.expect("one of ours").1));
        let seconds = |field: &str| peer[field].as_f64().unwrap_or_default();
        figures.0.push(Figure {
            what: format!("{}, 10 % touched: {}", text("query"), text("peer")),
            figure: format!("ours {:.1} ms ({:.1} ms CPU)", ms(ours.wall), ms(ours.cpu)),
            limit: format!(
                "{:.1} ms ({:.1} ms CPU)",
                seconds("wall") * 1e3,
                seconds("cpu") * 1e3
            ),
            ratio: format!(
                "{:.2}x CPU, {:.2}x wall",
                ours.cpu.as_secs_f64() / seconds("cpu"),
                ours.wall.as_secs_f64() / seconds("wall")
            ),
            target: "faster",
        });
    }
}
