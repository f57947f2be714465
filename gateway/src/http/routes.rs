//! Which handler answers which path, and what stands before it.
//!
//! **Invariant:** every route of the API is made with `routes!`, so it is in the OpenAPI document; every route of a
//! gateway stands behind a gate.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use lakesync_proto::ErrorCode;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};
use tower_http::decompression::RequestDecompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::answer::{ApiError, error_answer, unavailable_answer};
use super::front::Front;
use super::observe::observe;
use super::security::{Access, Gate, Target, TokenPlace, pass};
use super::sites::{cors_layer, refuse_others};
use super::{
    action, checkpoint, connectors, flush, gateways, health, metrics, openapi, pull, push, rules,
    schema, sse, status, ws,
};

/// Smaller answers are sent as they are: the header of a compressed one would eat the gain.
const COMPRESSED_BYTES_MIN: u16 = 1_024;
/// When the unversioned paths of the first gateways end, as those said it.
const SUNSET: HeaderValue = HeaderValue::from_static("Mon, 01 Jun 2026 00:00:00 GMT");

/// All routes behind all layers.
pub(super) fn router(front: &Front, own: OpenApiRouter) -> Router {
    let api = OpenApiRouter::with_openapi(openapi::head())
        .merge(gated(front, Access::Read, Target::Gateway, reads(front)))
        .merge(gated(front, Access::Write, Target::Gateway, writes(front)))
        .merge(gated(front, Access::Admin, Target::Gateway, admin(front)))
        .merge(gated(front, Access::Admin, Target::Name, naming(front)))
        .merge(gated(front, Access::Admin, Target::Server, server(front)))
        .merge(live(front))
        .merge(open());
    let (api, mut document) = api.with_state(front.clone()).split_for_parts();
    let (own, own_document) = own.split_for_parts();
    document.merge(own_document);
    let mut routes = api.merge(SwaggerUi::new("/docs").url(openapi::PATH, document));
    if own.has_routes() {
        let gate = Gate {
            front: front.clone(),
            access: Access::ByPath,
            token: TokenPlace::Header,
            target: Target::Server,
        };
        routes = routes.merge(own.route_layer(from_fn_with_state(gate, pass)));
    }
    layers(front, routes)
}

fn reads(front: &Front) -> OpenApiRouter<Front> {
    // A pull may wait, and a checkpoint or a digest reads whole tables.
    let long = OpenApiRouter::new()
        .routes(routes!(pull::pull))
        .routes(routes!(checkpoint::checkpoint))
        .routes(routes!(checkpoint::digest));
    let short = OpenApiRouter::new()
        .routes(routes!(schema::list))
        .routes(routes!(action::describe));
    timed(front, short).merge(long)
}

fn writes(front: &Front) -> OpenApiRouter<Front> {
    let routes = OpenApiRouter::new()
        .routes(routes!(push::push))
        .routes(routes!(action::submit));
    timed(front, routes)
}

fn admin(front: &Front) -> OpenApiRouter<Front> {
    let routes = OpenApiRouter::new()
        .routes(routes!(schema::put))
        .routes(routes!(rules::show, rules::put))
        .routes(routes!(rules::why))
        .routes(routes!(flush::flush))
        .routes(routes!(metrics::of_gateway))
        .routes(routes!(action::dead))
        .routes(routes!(action::retry))
        .routes(routes!(action::discard))
        .routes(routes!(connectors::list, connectors::register))
        .routes(routes!(connectors::unregister));
    timed(front, routes)
}

fn naming(front: &Front) -> OpenApiRouter<Front> {
    timed(
        front,
        OpenApiRouter::new().routes(routes!(gateways::create)),
    )
}

fn server(front: &Front) -> OpenApiRouter<Front> {
    let routes = OpenApiRouter::new()
        .routes(routes!(gateways::list))
        .routes(routes!(status::status));
    timed(front, routes)
}

/// Routes whose token may stand in the query.
fn live(front: &Front) -> OpenApiRouter<Front> {
    let gate = Gate {
        front: front.clone(),
        access: Access::Read,
        token: TokenPlace::HeaderOrQuery,
        target: Target::Gateway,
    };
    OpenApiRouter::new()
        .routes(routes!(ws::connect))
        .routes(routes!(ws::connect_unversioned))
        .routes(routes!(sse::live))
        .route_layer(from_fn_with_state(gate, pass))
}

/// Routes that need no token.
fn open() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::metrics))
        .routes(routes!(connectors::types))
        .routes(routes!(status::page))
}

fn gated(
    front: &Front,
    access: Access,
    target: Target,
    routes: OpenApiRouter<Front>,
) -> OpenApiRouter<Front> {
    let gate = Gate {
        front: front.clone(),
        access,
        token: TokenPlace::Header,
        target,
    };
    routes.route_layer(from_fn_with_state(gate, pass))
}

fn timed(front: &Front, routes: OpenApiRouter<Front>) -> OpenApiRouter<Front> {
    routes.route_layer(from_fn_with_state(front.clone(), in_time))
}

fn layers(front: &Front, routes: Router) -> Router {
    let worth_it = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE);
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(RequestDecompressionLayer::new())
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(front.clone(), in_bounds))
        .layer(from_fn_with_state(front.clone(), refuse_when_draining))
        .layer(from_fn_with_state(front.clone(), refuse_others))
        .layer(cors_layer(&front.config().cors))
        .layer(from_fn_with_state(front.clone(), observe))
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .compress_when(worth_it),
        )
}

/// An ordinary request is answered within the configured time.
async fn in_time(State(front): State<Front>, request: Request, next: Next) -> Response {
    let limit = front.config().timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!(
                "this took longer than {} ms and was given up; what it began may still be done, so ask again",
                limit.as_millis()
            );
            error_answer(
                StatusCode::GATEWAY_TIMEOUT,
                ErrorCode::InternalError,
                &text,
                None,
            )
        }
    }
}

/// Whether it is a route that tells how the process is, which it does until its end.
fn is_watched(uri: &Uri) -> bool {
    ["/health", "/ready", "/metrics"].contains(&uri.path())
}

/// Takes no more requests at once than the process has permits for. Long polls have a place among the live connections
/// instead.
async fn in_bounds(State(front): State<Front>, request: Request, next: Next) -> Response {
    let uri = request.uri();
    let query = uri.query().unwrap_or_default();
    let waits =
        uri.path().ends_with("/pull") && query.split('&').any(|part| part.starts_with("wait="));
    if waits || is_watched(uri) {
        return next.run(request).await;
    }
    match Arc::clone(front.requests()).try_acquire_owned() {
        Ok(_permit) => next.run(request).await,
        Err(_) => unavailable_answer(
            "this server has as many requests under way as it takes; ask again in a second",
        ),
    }
}

async fn refuse_when_draining(
    State(front): State<Front>,
    request: Request,
    next: Next,
) -> Response {
    match front.is_draining() && !is_watched(request.uri()) {
        true => error_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::InternalError,
            "Service is shutting down",
            None,
        ),
        false => next.run(request).await,
    }
}

/// Unversioned paths of older clients are sent to the versioned ones, query and method kept.
async fn no_route(uri: Uri) -> Response {
    let path = uri.path();
    let legacy =
        path.starts_with("/sync/") || path.starts_with("/admin/") || path == "/connectors/types";
    let target = uri.path_and_query().map(|rest| format!("/v1{rest}"));
    let target = target.and_then(|target| HeaderValue::try_from(target).ok());
    match target.filter(|_| legacy) {
        Some(target) => {
            let headers = [
                (header::LOCATION, target),
                (header::HeaderName::from_static("sunset"), SUNSET),
            ];
            (StatusCode::PERMANENT_REDIRECT, headers).into_response()
        }
        None => {
            let text = format!("there is no route `{path}` here; /docs lists them all");
            ApiError::refused(ErrorCode::NotFound, text).into_response()
        }
    }
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
