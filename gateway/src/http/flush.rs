//! `POST /v1/admin/flush/{g}[?table=]`.

use std::collections::HashMap;

use axum::Json;
use axum::extract::Query;
use lakesync_proto::ErrorCode;
use serde_json::{Value, json};

use super::answer::ApiError;
use super::security::Caller;
use crate::error::Error;

/// Writes what is hot into the lake: one table, or all.
#[utoipa::path(
    post,
    path = "/v1/admin/flush/{g}",
    tag = "admin",
    params(
        ("g" = String, Path, description = "The gateway"),
        ("table" = Option<String>, Query, description = "Only this table")
    ),
    responses((status = 200, description = "`{\"flushed\":true,\"tables\":[…]}`; tables that had nothing hot are left out")),
    security(("bearer" = []))
)]
pub(super) async fn flush(
    caller: Caller,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    let table = query.get("table").map(String::as_str);
    let flushed = caller.gateway.flush(table).await;
    let reports = flushed.map_err(|error| match error {
        error @ Error::Refused(_) => ApiError::from(error),
        error => ApiError::refused(ErrorCode::FlushError, error.to_string()),
    })?;
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
