//! What an answer that is no success says.
//!
//! Invariant: only a gateway's own error body, or a status that cannot condemn an edit, becomes a refusal.

use std::time::Duration;

use serde_json::{Map, Value as Json};
use ureq::http::{HeaderMap, StatusCode};

use crate::transport::date::seconds_since_1970;
use crate::transport::{Refusal, TransportError};

/// Longest text kept of an answer that is no JSON, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Statuses that a proxy may say for a gateway: sign in, come later, send less. Taking them for the gateway's own loses
/// nothing.
const OF_PROXIES: [u16; 6] = [401, 408, 413, 425, 429, 507];

/// The error that an answer of this status, head and body is.
pub(super) fn failed(
    url: &str,
    status: StatusCode,
    head: &HeaderMap,
    body: &[u8],
) -> TransportError {
    let json: Option<Map<String, Json>> = serde_json::from_slice(body).ok();
    let of_gateway = json.filter(|fields| fields.get("code").is_some_and(Json::is_string));
    let status_code = status.as_u16();
    match of_gateway {
        Some(fields) => TransportError::Refused(Box::new(refusal(status_code, head, fields))),
        None if status.is_server_error() || OF_PROXIES.contains(&status_code) => {
            let fields = Map::from_iter([("error".to_owned(), shortened(body).into())]);
            TransportError::Refused(Box::new(refusal(status_code, head, fields)))
        }
        None => foreign(url, status, head, body),
    }
}

/// Somebody else has answered.
pub(super) fn foreign(
    url: &str,
    status: StatusCode,
    head: &HeaderMap,
    body: &[u8],
) -> TransportError {
    let hint = match text(head, "location") {
        Some(to) if status.is_redirection() => {
            format!("it sends everybody to {}; use that address", shown(to))
        }
        _ if is_page(head, body) => {
            "it is a web page. Check the address, or sign in to this network with a browser"
                .to_owned()
        }
        _ => format!("check the address; it says: {}", shortened(body)),
    };
    TransportError::Foreign {
        url: url.to_owned(),
        status: status.as_u16(),
        hint,
    }
}

/// `{"error", "code", "requestId"?, "index"?, …}`
fn refusal(status: u16, head: &HeaderMap, mut fields: Map<String, Json>) -> Refusal {
    let mut take = |name: &str| match fields.remove(name) {
        Some(Json::String(text)) => Some(text),
        _ => None,
    };
    let (code, message, request_id) = (take("code"), take("error"), take("requestId"));
    let index = fields.remove("index").and_then(|index| index.as_u64());
    Refusal {
        status,
        code: code.unwrap_or_default(),
        message: message.unwrap_or_else(|| "an answer without a text".to_owned()),
        index: index.and_then(|index| usize::try_from(index).ok()),
        request_id: request_id.or_else(|| text(head, "x-request-id").map(str::to_owned)),
        retry_after: retry_after(head),
        details: fields,
    }
}

/// Seconds, or a date.
fn retry_after(head: &HeaderMap) -> Option<Duration> {
    let wanted = text(head, "retry-after")?;
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (
        seconds_since_1970(wanted)?,
        seconds_since_1970(text(head, "date")?)?,
    );
    Some(Duration::from_secs(then.saturating_sub(now)))
}

pub(super) fn text<'h>(head: &'h HeaderMap, name: &str) -> Option<&'h str> {
    head.get(name).and_then(|value| value.to_str().ok())
}

fn is_page(head: &HeaderMap, body: &[u8]) -> bool {
    let html = text(head, "content-type").is_some_and(|of| of.starts_with("text/html"));
    html || body.trim_ascii_start().starts_with(b"<")
}

fn shortened(body: &[u8]) -> String {
    let text = shown(&String::from_utf8_lossy(body));
    match text.trim().is_empty() {
        true => "nothing".to_owned(),
        false => text,
    }
}

/// At most [`TEXT_CHARS_MAX`] characters that a terminal can show.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(plain).collect()
}
