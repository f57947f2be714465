//! The head of the OpenAPI document; its paths come from the handlers.
//!
//! **Invariant:** the document is generated from the routes that are mounted, never written by hand.

use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};

/// Where the document is served.
pub(super) const PATH: &str = "/v1/openapi.json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "LakeSync gateway",
        description = "A local-first sync engine over Apache Iceberg. Errors have the body \
                       `{\"error\", \"code\", \"requestId\", \"index\"?}`; `code` is stable. 64-bit numbers are decimal \
                       strings in JSON. Bodies may be compressed with gzip or zstd, both ways."
    ),
    tags(
        (name = "sync", description = "What clients ask."),
        (name = "admin", description = "What operators ask; the role `admin`."),
        (name = "process", description = "Whether it lives, and what it is.")
    )
)]
struct Head;

/// The document without paths.
pub(super) fn head() -> utoipa::openapi::OpenApi {
    let mut document = Head::openapi();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .build();
    document
        .components
        .get_or_insert_default()
        .add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document
}
