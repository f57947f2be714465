//! Pages of other sites: which may ask, and what their browsers are told.
//!
//! A browser sends its user's requests from any page that it shows. Where no token is needed, a page must be of this
//! machine or of a configured origin, which the browser says in `Sec-Fetch-Site` and `Origin`; other programs send
//! neither. A page may also let its own name resolve to this machine and ask as if of its own site; what it cannot
//! change is the host that its browser names. Where tokens are needed, the browser's own rules and the CORS headers are
//! enough.
//!
//! **Invariant:** without authentication no page of an origin that was not allowed reaches a route, by whatever name
//! it finds this server.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::ErrorCode;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::answer::ApiError;
use super::checkpoint::{CHECKPOINT_CURSOR, CHECKPOINT_HLC};
use super::config::Cors;
use super::front::Front;
use super::observe::REQUEST_ID;
use crate::host::is_this_machine;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a browser may remember what it was told: a day.
const REMEMBERED: Duration = Duration::from_secs(86_400);

impl Cors {
    fn allows(&self, origin: &HeaderValue) -> bool {
        let listed = match self {
            Self::Any => true,
            Self::Loopback => false,
            Self::Origins(origins) => origins
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin.as_bytes())),
        };
        listed || host_of(origin).is_some_and(|host| is_this_machine(&host))
    }

    /// Whether pages may know this server by the name `host`: this machine's, or that of a listed origin.
    fn allows_host(&self, host: &str) -> bool {
        let listed = match self {
            Self::Any => true,
            Self::Loopback => false,
            Self::Origins(origins) => origins.iter().any(|origin| {
                let listed = HeaderValue::from_str(origin).ok();
                let listed = listed.and_then(|origin| host_of(&origin));
                listed.is_some_and(|listed| listed.eq_ignore_ascii_case(host))
            }),
        };
        listed || is_this_machine(host)
    }
}

/// The CORS headers: only origins that may ask are named in them.
pub(super) fn cors_layer(cors: &Cors) -> CorsLayer {
    let cors = cors.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| cors.allows(origin)))
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            LAST_EVENT_ID,
            REQUEST_ID,
        ])
        .expose_headers([
            CHECKPOINT_HLC,
            CHECKPOINT_CURSOR,
            REQUEST_ID,
            header::RETRY_AFTER,
        ])
        .max_age(REMEMBERED)
}

/// Refuses pages of other sites as long as no token protects the routes.
pub(super) async fn refuse_others(
    State(front): State<Front>,
    request: Request,
    next: Next,
) -> Response {
    let (cors, headers) = (&front.config().cors, request.headers());
    let other = match front.security().is_on() {
        true => None,
        false => other_host(request.uri(), headers, cors).or_else(|| other_site(headers, cors)),
    };
    match other {
        Some(text) => ApiError::refused(ErrorCode::Forbidden, text).into_response(),
        None => next.run(request).await,
    }
}

/// Why the request asks for another host, if it does. A browser always names one; a program need not.
fn other_host(uri: &Uri, headers: &HeaderMap, cors: &Cors) -> Option<String> {
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let named = headers.get_all(header::HOST).iter();
    let mut hosts = authority
        .into_iter()
        .chain(named.map(HeaderValue::as_bytes));
    let own = |host: &&[u8]| {
        let host = Authority::try_from(*host);
        host.is_ok_and(|host| cors.allows_host(host.host()))
    };
    let other = hosts.find(|host| !own(host))?;
    Some(format!(
        "the request asks for the host `{}`, and this server has no authentication, so it answers to `localhost`, \
         loopback addresses and the hosts of `server.cors` only; ask for one of those, or configure authentication",
        String::from_utf8_lossy(other)
    ))
}

/// Why the request comes from a page of another site, if it does. An origin that may ask is another site to the
/// browser too, so `Sec-Fetch-Site` only counts where no origin is named.
fn other_site(headers: &HeaderMap, cors: &Cors) -> Option<String> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    if *cors == Cors::Any {
        return None;
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = origins.find(|origin| !cors.allows(origin));
        return origin.map(|origin| refusal(&header::ORIGIN, origin));
    }
    foreign_site(headers).map(|site| refusal(&SEC_FETCH_SITE, site))
}

fn foreign_site(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    sites.find(|site| *site == "cross-site" || *site == "same-site")
}

fn refusal(name: &HeaderName, value: &HeaderValue) -> String {
    format!(
        "the page that sent this request is of another site (`{name}: {}`), and this server has no authentication; \
         ask from a program, from a page of this server's own address, or allow the page's origin in `server.cors`",
        String::from_utf8_lossy(value.as_bytes())
    )
}

/// The host of an origin, such as `https://app.example`.
fn host_of(origin: &HeaderValue) -> Option<String> {
    let uri: Uri = origin.to_str().ok()?.parse().ok()?;
    uri.scheme()?;
    uri.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(headers: &[(&'static str, &str)], cors: &Cors) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        other_site(&map, cors).is_some()
    }

    #[test]
    fn a_page_of_another_site_is_told_from_programs_and_own_pages() {
        let cases: [(&[(&'static str, &str)], bool); 14] = [
            (&[], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin")], false),
            (&[("origin", "http://localhost:7420")], false),
            (&[("origin", "http://127.0.0.1:9")], false),
            (&[("origin", "https://[::1]:9")], false),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("origin", "https://evil.example")], true),
            (&[("origin", "http://localhost.evil.example")], true),
            (&[("origin", "http://127.0.0.1@evil.example")], true),
            (&[("origin", "null")], true),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://192.168.0.7"),
                ],
                true,
            ),
            (
                &[
                    ("origin", "http://localhost:1"),
                    ("origin", "https://evil.example"),
                ],
                true,
            ),
        ];
        for (headers, expected) in cases {
            assert_eq!(refused(headers, &Cors::Loopback), expected, "{headers:?}");
            assert!(!refused(headers, &Cors::Any), "{headers:?}");
        }
    }

    #[test]
    fn a_listed_origin_may_ask_from_its_own_site_and_no_other_may() {
        let cors = Cors::Origins(vec!["https://app.example".to_owned()]);
        let cross = ("sec-fetch-site", "cross-site");
        assert!(!refused(&[cross, ("origin", "https://app.example")], &cors));
        assert!(refused(
            &[cross, ("origin", "https://app.example.evil")],
            &cors
        ));
        assert!(refused(&[cross], &cors));
        assert!(!refused(&[("origin", "http://localhost:3000")], &cors));
    }
}
