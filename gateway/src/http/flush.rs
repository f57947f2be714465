//! `POST /v1/admin/flush/{g}[?table=]`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::{Value, json};

use super::Gateways;
use super::answer::ApiError;

pub(super) async fn flush(
    State(gateways): State<Gateways>,
    Path(g): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    let gateway = gateways.find(&g)?;
    let reports = gateway
        .flush(query.get("table").map(String::as_str))
        .await?;
    let tables: Vec<Value> = reports
        .iter()
        .map(|report| {
            json!({
                "table": report.table.to_string(),
                "deltas": report.deltas,
                "files": report.files,
                "bytes": report.bytes,
                "maxSeq": report.max_seq.to_string(),
                "snapshotId": report.snapshot_id.map(|id| id.to_string()),
            })
        })
        .collect();
    Ok(Json(json!({"flushed": true, "tables": tables})))
}
