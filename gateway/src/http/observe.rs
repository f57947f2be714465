//! What every answer has: the request's id, the security headers, a body when it is an error, and a line in the log.
//!
//! **Invariant:** one line a request, written when its answer has been sent or given up; it names the route, never the
//! query (which may hold a token).

use std::borrow::Cow;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use lakesync_proto::ErrorCode;
use serde_json::Value;
use uuid::Uuid;

use super::answer::{ErrorBody, error_answer};
use super::front::Front;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request id from outside may be; longer ones would blow up the log.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// The viewer of the API's document: its own files, the styles that its script sets, and pictures within them.
const DOCS_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           frame-ancestors 'none'";
/// How much of a plain text error of the router is kept for the body.
const PLAIN_ERROR_BYTES_MAX: usize = 4 << 10;

/// Whom a request was for, as far as it got: for the log.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) gateway: Option<String>,
    pub(super) subject: Option<String>,
}

/// The layer.
pub(super) async fn observe(
    State(front): State<Front>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let mut line = Line {
        id: id.clone(),
        method: request.method().clone(),
        route: request.extensions().get::<MatchedPath>().cloned(),
        started: Instant::now(),
        seen: Seen::default(),
        status: gone_away(),
        bytes: 0,
        front: front.clone(),
        error: None,
    };
    front.traffic().begin();
    let preflight = *request.method() == Method::OPTIONS;
    let kind = RouteKind::of(request.uri().path());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    if preflight && response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    let mut response = with_error_body(response, &id).await;
    protect(response.headers_mut(), kind);
    response.headers_mut().insert(REQUEST_ID, id);
    line.status = response.status();
    line.seen = response
        .extensions_mut()
        .remove::<Seen>()
        .unwrap_or_default();
    line.error = response.extensions_mut().remove::<ErrorBody>();
    counted(response, line)
}

/// What the log says of a request whose client did not wait for its answer, as other servers do.
fn gone_away() -> StatusCode {
    StatusCode::from_u16(499).expect("it is within the range of statuses")
}

/// The id that the request came with, when it is short and plain; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        let bytes = id.as_bytes();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        !bytes.is_empty() && bytes.len() <= REQUEST_ID_BYTES_MAX && bytes.iter().all(plain)
    };
    match headers.get(REQUEST_ID).filter(sane) {
        Some(id) => id.clone(),
        None => HeaderValue::from_str(&Uuid::new_v4().to_string())
            .expect("a UUID is made of header characters"),
    }
}

/// An error answer with `requestId` in its body; what the router refused in plain text gets the common body too.
async fn with_error_body(response: Response, id: &HeaderValue) -> Response {
    if response.status().as_u16() < 400 {
        return response;
    }
    let (parts, body) = match response.extensions().get::<ErrorBody>() {
        Some(_) => response.into_parts(),
        None => explained(response).await.into_parts(),
    };
    let Some(ErrorBody(mut fields)) = parts.extensions.get::<ErrorBody>().cloned() else {
        return Response::from_parts(parts, body);
    };
    let id = String::from_utf8_lossy(id.as_bytes());
    fields.insert("requestId".to_owned(), id.into());
    let mut fresh = (parts.status, Json(&fields)).into_response();
    let mut headers = parts.headers;
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_TYPE);
    headers.extend(std::mem::take(fresh.headers_mut()));
    *fresh.headers_mut() = headers;
    *fresh.extensions_mut() = parts.extensions;
    fresh
}

/// The common body for an error that has none or plain text; anything else is left as it is.
async fn explained(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let plain = parts.headers.get(header::CONTENT_TYPE);
    let plain = plain.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    let small = body
        .size_hint()
        .upper()
        .is_some_and(|bytes| bytes <= PLAIN_ERROR_BYTES_MAX as u64);
    if !(plain && small) {
        return Response::from_parts(parts, body);
    }
    let text = body.collect().await.map(|body| body.to_bytes());
    let text = text.unwrap_or_default();
    let text = match text.is_empty() {
        true => Cow::Borrowed(parts.status.canonical_reason().unwrap_or("refused")),
        false => String::from_utf8_lossy(&text),
    };
    let (code, text) = match parts.status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            ErrorCode::ValidationError,
            Cow::Borrowed("content-encoding: bodies may be plain, gzip or zstd"),
        ),
        status if status.is_client_error() => (ErrorCode::ValidationError, text),
        _ => (ErrorCode::InternalError, text),
    };
    let mut answer = error_answer(parts.status, code, &text, None);
    for (name, value) in &parts.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            answer.headers_mut().insert(name, value.clone());
        }
    }
    answer.extensions_mut().extend(parts.extensions);
    answer
}

/// What a path is, as far as its answer's headers depend on it.
#[derive(Clone, Copy)]
enum RouteKind {
    /// Of the versioned API: nobody may store its answers.
    Api,
    /// Of the viewer of the API's document, whose files bring no policy of their own.
    Docs,
    Other,
}

impl RouteKind {
    fn of(path: &str) -> Self {
        match path {
            path if path.starts_with("/v1/") => Self::Api,
            path if path.starts_with("/docs") => Self::Docs,
            _ => Self::Other,
        }
    }
}

/// The headers that all answers have; a page brings its own content security policy.
fn protect(headers: &mut HeaderMap, kind: RouteKind) {
    let always = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            header::STRICT_TRANSPORT_SECURITY,
            "max-age=31536000; includeSubDomains",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in always {
        headers.insert(name, HeaderValue::from_static(value));
    }
    match kind {
        RouteKind::Api => {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert("api-version", HeaderValue::from_static("v1"));
        }
        RouteKind::Docs => {
            headers
                .entry(header::CONTENT_SECURITY_POLICY)
                .or_insert(HeaderValue::from_static(DOCS_POLICY));
        }
        RouteKind::Other => {}
    }
}

/// A line of the log in the making; it is written when dropped.
#[derive(Debug)]
struct Line {
    id: HeaderValue,
    method: Method,
    route: Option<MatchedPath>,
    started: Instant,
    seen: Seen,
    status: StatusCode,
    bytes: u64,
    front: Front,
    error: Option<ErrorBody>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let route = self.route.as_ref().map_or("none", MatchedPath::as_str);
        let error = self.error.as_ref().and_then(|body| body.0.get("error"));
        let error = error.and_then(Value::as_str);
        self.front.traffic().end(route, self.status, ms);
        // What is not supported is no failure.
        let failed = self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED;
        if let Some(error) = error.filter(|_| failed) {
            let gateway = self.seen.gateway.as_deref();
            self.front.record_error(gateway, route, self.status, error);
        }
        tracing::info!(
            request_id = self.id.to_str().unwrap_or_default(),
            method = self.method.as_str(),
            route,
            gateway = self.seen.gateway.as_deref(),
            subject = self.seen.subject.as_deref(),
            status = self.status.as_u16(),
            ms,
            bytes = self.bytes,
            error,
            "request"
        );
    }
}

/// The answer with a body that counts what was sent of it and takes `line` with it.
fn counted(response: Response, mut line: Line) -> Response {
    let (mut parts, body) = response.into_parts();
    let bodiless = parts.status.is_informational() || parts.status == StatusCode::NO_CONTENT;
    // The counting body does not know its length, so it is said here.
    if let Some(bytes) = body.size_hint().exact().filter(|_| !bodiless) {
        parts.headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    let body = body.map_frame(move |frame| {
        // The whole line moves into the closure, to be written when the body is dropped.
        let line = &mut line;
        line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        frame
    });
    Response::from_parts(parts, Body::new(body))
}
