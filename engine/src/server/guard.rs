//! What stands around every route: pages of other sites are refused, and every failure has a body.
//!
//! A browser sends its user's requests from any page that it shows. As this server has no authentication, a page
//! must be of this machine, which the browser says in `Sec-Fetch-Site` and `Origin`; other programs send neither.
//!
//! **Invariant:** nothing that a request does ends the process or is answered without `{"error", "code"}`.

use std::any::Any;
use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use lakesync_gateway::http::error_answer;
use lakesync_proto::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `routes` behind the checks and with the answers that all of them share.
pub(super) fn guarded(routes: Router) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(from_fn(refuse_other_sites))
        .layer(CatchPanicLayer::custom(panicked))
}

async fn no_route(uri: Uri) -> Response {
    let text = format!("there is no route `{}` here", uri.path());
    error_answer(StatusCode::NOT_FOUND, ErrorCode::NotFound, &text, None)
}

async fn no_method(method: Method, uri: Uri) -> Response {
    let text = format!(
        "`{}` does not take {method}; the header `allow` of this answer says what it takes",
        uri.path()
    );
    let status = StatusCode::METHOD_NOT_ALLOWED;
    error_answer(status, ErrorCode::ValidationError, &text, None)
}

/// The panic hook has written the message and the place to stderr; they are not for the caller.
fn panicked(_payload: Box<dyn Any + Send>) -> Response {
    error_answer(
        StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::InternalError,
        "this request met a defect of the server, which goes on serving; its stderr says where",
        None,
    )
}

async fn refuse_other_sites(request: Request, next: Next) -> Response {
    match other_site(request.headers()) {
        Some(text) => error_answer(StatusCode::FORBIDDEN, ErrorCode::Forbidden, &text, None),
        None => next.run(request).await,
    }
}

/// Why the request comes from a page of another site, if it does.
fn other_site(headers: &HeaderMap) -> Option<String> {
    let site = headers.get_all(SEC_FETCH_SITE).iter();
    let site = site
        .filter(|site| *site == "cross-site" || *site == "same-site")
        .map(|site| (SEC_FETCH_SITE, site));
    let origin = headers.get_all(header::ORIGIN).iter();
    let origin = origin
        .filter(|origin| !is_this_machine(origin))
        .map(|origin| (header::ORIGIN, origin));
    let (name, value) = site.chain(origin).next()?;
    Some(format!(
        "the page that sent this request is of another site (`{name}: {}`), and this server has no authentication; \
         ask from a program, or from a page of this server's own address",
        String::from_utf8_lossy(value.as_bytes())
    ))
}

fn is_this_machine(origin: &HeaderValue) -> bool {
    let uri: Option<Uri> = origin.to_str().ok().and_then(|text| text.parse().ok());
    let Some(uri) = uri.filter(|uri| uri.scheme().is_some()) else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use serde_json::Value as Json;
    use tokio::net::TcpListener;

    use super::*;

    /// What a server with these routes answers to a request: status, body, and the header `allow`.
    async fn ask(routes: Router, request: ureq::http::Request<()>) -> (u16, Json, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, guarded(routes)).await });
        let asked = tokio::task::spawn_blocking(move || {
            let (mut parts, ()) = request.into_parts();
            parts.uri = format!("http://{address}{}", parts.uri).parse().unwrap();
            let config = ureq::Agent::config_builder().http_status_as_error(false);
            let agent: ureq::Agent = config.build().into();
            let mut answer = agent
                .run(ureq::http::Request::from_parts(parts, ()))
                .unwrap();
            let allow = answer.headers().get("allow");
            let allow = allow.map_or("", |allow| allow.to_str().unwrap()).to_owned();
            let text = answer.body_mut().read_to_string().unwrap();
            let body = serde_json::from_str(&text).unwrap_or(Json::String(text));
            (answer.status().as_u16(), body, allow)
        });
        let answer = asked.await.unwrap();
        serving.abort();
        answer
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> ureq::http::Request<()> {
        let request = ureq::http::Request::builder().method(method).uri(path);
        headers
            .iter()
            .fold(request, |request, (name, value)| {
                request.header(*name, *value)
            })
            .body(())
            .unwrap()
    }

    async fn fails() -> &'static str {
        panic!("a defect in a handler, as this test wants it")
    }

    #[tokio::test]
    async fn a_panic_an_unknown_route_and_a_wrong_method_are_answered_with_a_body() {
        let routes = || {
            Router::new()
                .route("/fails", get(fails))
                .route("/posted", post(|| async {}))
        };
        let (status, body, _) = ask(routes(), request("GET", "/fails", &[])).await;
        assert_eq!(
            (status, body["code"].as_str()),
            (500, Some("INTERNAL_ERROR"))
        );
        assert!(
            !body.to_string().contains("as this test wants it"),
            "{body}"
        );
        let (status, body, _) = ask(routes(), request("GET", "/nowhere?q=1", &[])).await;
        assert_eq!((status, body["code"].as_str()), (404, Some("NOT_FOUND")));
        assert!(
            body["error"].as_str().unwrap().contains("`/nowhere`"),
            "{body}"
        );
        let (status, body, allow) = ask(routes(), request("GET", "/posted", &[])).await;
        assert_eq!((status, allow.as_str()), (405, "POST"));
        assert!(body["error"].as_str().unwrap().contains("GET"), "{body}");
        assert_eq!(body["code"], "VALIDATION_ERROR");
    }

    #[tokio::test]
    async fn a_page_of_another_site_reaches_no_route() {
        let cases: [(&[(&str, &str)], u16); 13] = [
            (&[], 200),
            (&[("sec-fetch-site", "none")], 200),
            (&[("sec-fetch-site", "same-origin")], 200),
            (&[("origin", "http://localhost:7420")], 200),
            (&[("origin", "http://127.0.0.1:9")], 200),
            (&[("origin", "https://[::1]:9")], 200),
            (&[("sec-fetch-site", "cross-site")], 403),
            (&[("sec-fetch-site", "same-site")], 403),
            (&[("origin", "https://evil.example")], 403),
            (&[("origin", "http://localhost.evil.example")], 403),
            (&[("origin", "http://127.0.0.1@evil.example")], 403),
            (&[("origin", "null")], 403),
            (
                &[
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://192.168.0.7"),
                ],
                403,
            ),
        ];
        for (headers, expected) in cases {
            let routes = Router::new().route("/", get(|| async { "reached" }));
            let (status, body, _) = ask(routes, request("GET", "/", headers)).await;
            assert_eq!(status, expected, "{headers:?}: {body}");
            assert_eq!(body == "reached", expected == 200, "{headers:?}: {body}");
            assert!(
                expected == 200 || body["code"] == "FORBIDDEN",
                "{headers:?}: {body}"
            );
        }
    }
}
