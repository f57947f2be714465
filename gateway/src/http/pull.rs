//! `GET /v1/sync/{g}/pull?since=&clientId=&limit=`.

use std::collections::HashMap;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use lakesync_proto::{ClientId, Seq, encode_page_json, encode_page_protobuf, limits};

use super::Gateways;
use super::answer::ApiError;
use super::body::{PROTOBUF, is_protobuf};

pub(super) async fn pull(
    State(gateways): State<Gateways>,
    Path(g): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let gateway = gateways.find(&g)?;
    let since = since(query.get("since").map(String::as_str))?;
    let limit = limit(query.get("limit").map(String::as_str))?;
    let client = query
        .get("clientId")
        .map(String::as_str)
        .unwrap_or_default();
    ClientId::parse(client).map_err(|error| ApiError::invalid(format!("clientId: {error}")))?;
    let page = gateway.pull(since, limit).await?;
    Ok(match is_protobuf(&headers, header::ACCEPT) {
        true => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, PROTOBUF)],
            encode_page_protobuf(&page),
        )
            .into_response(),
        false => (
            StatusCode::OK,
            [(header::CONTENT_TYPE, "application/json")],
            encode_page_json(&page),
        )
            .into_response(),
    })
}

/// The cursor: a decimal number, or `0x…` as legacy clients may send.
fn since(text: Option<&str>) -> Result<Seq, ApiError> {
    let Some(text) = text else {
        return Err(ApiError::invalid(
            "Missing required fields: since (0 for everything)",
        ));
    };
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    number
        .and_then(|number| Seq::from_u64(number).ok())
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "since: `{text}` is not a cursor; send the last answer's serverHlc, or 0"
            ))
        })
}

/// The page size, read as legacy gateways do: leading digits count, and it is capped without a word.
fn limit(text: Option<&str>) -> Result<usize, ApiError> {
    let Some(text) = text else {
        return Ok(limits::PULL_DEFAULT);
    };
    let digits: String = text
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    match digits.parse::<usize>() {
        Ok(limit) if limit > 0 => Ok(limit.min(limits::PULL_MAX)),
        Err(_) if digits.len() > 19 => Ok(limits::PULL_MAX),
        _ => Err(ApiError::invalid(format!(
            "limit: `{text}` is not a page size from 1 to {}",
            limits::PULL_MAX
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::{limit, since};

    #[test]
    fn cursors_and_page_sizes_are_read_as_legacy_clients_write_them() {
        assert_eq!(since(Some("0x10")).unwrap().as_u64(), 16);
        assert_eq!(since(Some("7")).unwrap().as_u64(), 7);
        for bad in [
            None,
            Some(""),
            Some("-1"),
            Some("x"),
            Some("18446744073709551615"),
        ] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
        assert_eq!(limit(None).unwrap(), 100);
        assert_eq!(limit(Some("12abc")).unwrap(), 12);
        assert_eq!(limit(Some("99999999999999999999999")).unwrap(), 10_000);
        assert!(limit(Some("0")).is_err() && limit(Some("-3")).is_err());
    }
}
