//! The routes over a real socket.

mod boundaries;

use std::io::Read as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use lakesync_proto::{ChunkReader, PullPage, decode_chunk, encode_push_json, encode_push_protobuf};
use serde_json::Value as Json;
use tokio::io::AsyncWriteExt as _;

use super::world::{NOW_MS, World, authenticator, push, request};
use super::{Cors, HttpConfig, Rate};
use crate::auth::Role;
use crate::auth::tests::matrix;

fn json_push(client: &str, rows: &[&str]) -> Vec<u8> {
    encode_push_json(&push(client, rows))
}

#[tokio::test]
async fn every_answer_has_an_id_and_the_security_headers_and_every_error_a_body() {
    let world = World::open().await;
    let answer = world
        .ask(request(
            "GET",
            "/nowhere?q=1",
            &[("x-request-id", "mine-1")],
        ))
        .await;
    assert_eq!(answer.status, 404);
    let body = answer.json();
    assert_eq!(body["code"], "NOT_FOUND");
    assert_eq!(body["requestId"], "mine-1");
    assert!(body["error"].as_str().unwrap().contains("`/nowhere`"));
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert!(
        answer
            .header("strict-transport-security")
            .contains("max-age=31536000")
    );
    let odd = world
        .ask(request(
            "GET",
            "/health",
            &[("x-request-id", "not sane; at all")],
        ))
        .await;
    assert_eq!(odd.header("x-request-id").len(), 36, "a UUID instead");
    let pulled = world.get("/v1/sync/g/pull?since=0&clientId=ada").await;
    assert_eq!(pulled.header("cache-control"), "no-store");
    assert_eq!(pulled.header("api-version"), "v1");
    let wrong = world.get("/v1/sync/g/push").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
    assert!(wrong.error().2.contains("GET"));
}

#[tokio::test]
async fn unversioned_paths_lead_to_the_versioned_ones_with_method_and_query() {
    let world = World::open().await;
    let answer = world.get("/sync/g/pull?since=0&clientId=a%20b").await;
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.header("location"),
        "/v1/sync/g/pull?since=0&clientId=a%20b"
    );
    assert!(!answer.header("sunset").is_empty());
    let answer = world.post("/admin/flush/g", b"").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (308, "/v1/admin/flush/g")
    );
    assert_eq!(world.get("/connectors/types").await.status, 308);
    assert_eq!(world.get("/syncing").await.status, 404);
}

#[tokio::test]
async fn a_push_is_acknowledged_and_pulled_in_both_encodings_and_compressed() {
    let world = World::open().await;
    let acked = world
        .post("/v1/sync/g/push", &json_push("ada", &["r1", "r2"]))
        .await;
    assert_eq!(acked.status, 200, "{:?}", acked.json());
    assert_eq!(acked.json()["accepted"], 2);
    assert_eq!(acked.json()["serverHlc"], "2");
    let proto = [("content-type", "application/x-protobuf")];
    let body = encode_push_protobuf(&push("ben", &["r3"]));
    let acked = world
        .ask(request("POST", "/v1/sync/g/push", &proto).map(|_| body))
        .await;
    assert_eq!(acked.header("content-type"), "application/x-protobuf");
    let rows: Vec<String> = (0..100).map(|nth| format!("row-{nth}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    world.push("cyd", &rows).await;
    let pull = "/v1/sync/g/pull?since=0&clientId=ben&limit=1000";
    let plain = world.get(pull).await;
    assert_eq!(plain.json()["deltas"].as_array().unwrap().len(), 103);
    assert_eq!(plain.header("content-encoding"), "");
    for (name, magic) in [
        ("zstd", &[0x28, 0xb5, 0x2f, 0xfd][..]),
        ("gzip", &[0x1f, 0x8b]),
    ] {
        let packed = world
            .ask(request("GET", pull, &[("accept-encoding", name)]))
            .await;
        assert_eq!(packed.header("content-encoding"), name);
        // The HTTP client of this test may inflate by itself; either way it is the same page.
        if packed.bytes.starts_with(magic) {
            assert!(packed.bytes.len() < plain.bytes.len() / 2);
        } else {
            assert_eq!(packed.bytes, plain.bytes);
        }
    }
}

#[tokio::test]
async fn a_compressed_body_is_bounded_by_what_it_inflates_to() {
    let world = World::open().await;
    let gzip = |bytes: &[u8]| {
        // Stored blocks need no compressor: a member header, blocks of 64 KiB, and the trailer.
        let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        let mut chunks = bytes.chunks(65_535).peekable();
        while let Some(chunk) = chunks.next() {
            let length = u16::try_from(chunk.len()).unwrap();
            out.push(u8::from(chunks.peek().is_none()));
            out.extend(length.to_le_bytes());
            out.extend((!length).to_le_bytes());
            out.extend(chunk);
        }
        out.extend(crc32(bytes).to_le_bytes());
        out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        out
    };
    let packed = |body: Vec<u8>| {
        request("POST", "/v1/sync/g/push", &[("content-encoding", "gzip")]).map(|_| body)
    };
    let acked = world.ask(packed(gzip(&json_push("ada", &["r1"])))).await;
    assert_eq!(acked.status, 200, "{:?}", acked.json());
    let mut large = json_push("ada", &["r2"]);
    large.resize((16 << 20) + 1, b' ');
    let refused = world.ask(packed(gzip(&large))).await;
    let (status, code, text) = refused.error();
    assert_eq!((status, code.as_str()), (413, "VALIDATION_ERROR"));
    assert!(text.contains("Payload too large"), "{text}");
    let mut cut = gzip(&json_push("ada", &["r3"]));
    cut.truncate(cut.len() / 2);
    assert_eq!(world.ask(packed(cut)).await.status, 400);
    let odd = request("POST", "/v1/sync/g/push", &[("content-encoding", "br")]);
    let (status, code, text) = world.ask(odd).await.error();
    assert_eq!((status, code.as_str()), (415, "VALIDATION_ERROR"));
    assert!(text.contains("gzip or zstd"), "{text}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn who_asks_is_checked_in_order_token_scope_gateway_role() {
    let world = World::secured().await;
    let client = world.token("ada", Role::Client, &["g", "later"]);
    let reader = world.token("ada", Role::Reader, &["g"]);
    let admin = world.token("root", Role::Admin, &["g"]);
    let elsewhere = world.token("eve", Role::Admin, &["other"]);
    let pull = "/v1/sync/g/pull?since=0&clientId=ada";
    let expected = [
        // (path, token, status, a part of the text)
        ("/v1/nowhere", None, 404, "no route"),
        (pull, None, 401, "Bearer token"),
        ("/v1/sync/none/pull", None, 401, "Bearer token"),
        (pull, Some("rubbish"), 401, ""),
        (pull, Some(&*elsewhere), 403, "Gateway ID mismatch"),
        (
            "/v1/sync/none/pull",
            Some(&*client),
            403,
            "Gateway ID mismatch",
        ),
        ("/v1/sync/later/pull", Some(&*client), 404, "there are: g"),
        (pull, Some(&*client), 200, ""),
        (pull, Some(&*reader), 200, ""),
        (
            "/v1/sync/g/pull?since=0&clientId=ben",
            Some(&*client),
            403,
            "Client ID mismatch",
        ),
        (
            "/v1/admin/metrics/g",
            Some(&*client),
            403,
            "Admin role required",
        ),
        ("/v1/admin/metrics/g", Some(&*admin), 200, ""),
        (
            "/v1/admin/status",
            Some(&*reader),
            403,
            "Admin role required",
        ),
        ("/v1/admin/gateways", Some(&*elsewhere), 200, ""),
    ];
    for (path, token, status, part) in expected {
        let answer = match token {
            Some(token) => world.get_as(path, token).await,
            None => world.get(path).await,
        };
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert_eq!(answer.status, status, "{path} {text}");
        assert!(text.contains(part), "{path} {text}");
    }
    let refused = world.get(pull).await;
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let gateways = world.get_as("/v1/admin/gateways", &elsewhere).await.json();
    assert_eq!(
        gateways["gateways"],
        serde_json::json!([]),
        "nothing of other tenants"
    );
    // A token in the query is for WebSockets and event streams only.
    assert_eq!(
        world.get(&format!("{pull}&token={client}")).await.status,
        401
    );
    let bearer = format!("Bearer {reader}");
    let push = request("POST", "/v1/sync/g/push", &[("authorization", &bearer)]);
    let (status, code, text) = world.ask(push).await.error();
    assert_eq!((status, code.as_str()), (403, "FORBIDDEN"));
    assert!(text.contains("Role `reader`"), "{text}");
}

#[tokio::test]
async fn a_client_pushes_as_itself_and_only_ingest_pushes_for_others() {
    let world = World::secured().await;
    let push_as = async |token: &str, client: &str, author: &str| {
        let mut sent = push(author, &["r1"]);
        sent.client_id = lakesync_proto::ClientId::parse(client).unwrap();
        let bearer = format!("Bearer {token}");
        let request = request("POST", "/v1/sync/g/push", &[("authorization", &bearer)]);
        world.ask(request.map(|_| encode_push_json(&sent))).await
    };
    let ada = world.token("ada", Role::Client, &["g"]);
    let (status, code, text) = push_as(&ada, "ben", "ben").await.error();
    assert_eq!((status, code.as_str()), (403, "FORBIDDEN"));
    assert!(text.contains("Client ID mismatch"), "{text}");
    let forged = push_as(&ada, "ada", "ben").await;
    assert_eq!(forged.status, 403);
    assert_eq!(forged.json()["index"], 0);
    assert_eq!(push_as(&ada, "ada", "ada").await.status, 200);
    let ingest = world.token("loader", Role::Ingest, &["g"]);
    assert_eq!(push_as(&ingest, "loader", "ben").await.status, 200);
}

#[tokio::test]
async fn an_embedders_routes_know_who_asks_and_admin_paths_need_an_admin() {
    async fn who(axum::Extension(identity): axum::Extension<crate::auth::Identity>) -> String {
        identity
            .subject
            .map_or_else(String::new, |subject| subject.to_string())
    }
    async fn fails() -> &'static str {
        panic!("as this test wants it")
    }
    let own = Router::new()
        .route("/v1/sql", post(who))
        .route("/v1/admin/sql", post(who))
        .route("/fails", get(fails));
    let config = HttpConfig::default();
    let world = World::with_routes(config, Some(authenticator()), own).await;
    let ask = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        let answer = world
            .ask(request("POST", path, &[("authorization", &bearer)]))
            .await;
        (answer.status, String::from_utf8(answer.bytes).unwrap())
    };
    let ada = world.token("ada", Role::Reader, &["g"]);
    assert_eq!(ask("/v1/sql", &ada).await, (200, "ada".to_owned()));
    assert_eq!(ask("/v1/admin/sql", &ada).await.0, 403);
    assert_eq!(world.post("/v1/sql", b"").await.status, 401);
    let root = world.token("root", Role::Admin, &["g"]);
    assert_eq!(ask("/v1/admin/sql", &root).await, (200, "root".to_owned()));
    let failed = world.get_as("/fails", &root).await;
    assert_eq!(
        (failed.status, failed.error().1.as_str()),
        (500, "INTERNAL_ERROR")
    );
    assert!(!failed.error().2.contains("as this test wants it"));
    assert_eq!(world.get("/health").await.status, 200, "the process lives");
}

#[tokio::test]
async fn a_draining_server_refuses_by_name_and_says_so_when_asked() {
    let world = World::open().await;
    assert_eq!(world.get("/ready").await.status, 200);
    let waiting = world.get("/v1/sync/g/pull?since=0&clientId=a&wait=60s");
    let drained = async {
        while world.front.connections().counts().is_empty() {
            tokio::task::yield_now().await;
        }
        world.front.drain();
    };
    let (waited, ()) = tokio::join!(waiting, drained);
    assert_eq!(waited.status, 200, "a long poll ends with what there is");
    let refused = world.get("/v1/sync/g/pull?since=0&clientId=a").await;
    assert_eq!(
        (refused.status, refused.error().2.as_str()),
        (503, "Service is shutting down")
    );
    let ready = world.get("/ready").await;
    assert_eq!(
        (ready.status, &ready.json()["reason"]),
        (503, &Json::from("draining"))
    );
    assert_eq!(world.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_long_poll_answers_as_soon_as_there_is_something() {
    let world = World::open().await;
    let waiting = world.get("/v1/sync/g/pull?since=0&clientId=ben&wait=60s");
    let pushed = async {
        while world.front.connections().counts().is_empty() {
            tokio::task::yield_now().await;
        }
        world.push("ada", &["r1"]).await;
    };
    let (answer, ()) = tokio::join!(waiting, pushed);
    assert_eq!(answer.json()["deltas"].as_array().unwrap().len(), 1);
    let nothing = world
        .get("/v1/sync/g/pull?since=1&clientId=ben&wait=1ms")
        .await;
    assert_eq!(nothing.json()["deltas"], serde_json::json!([]));
    assert_eq!(nothing.json()["serverHlc"], "1");
}

#[tokio::test]
async fn too_many_requests_of_one_subject_are_refused_with_the_time_to_wait() {
    let rate = Rate {
        requests_per_second: NonZeroU32::new(1).unwrap(),
        burst: NonZeroU32::new(1).unwrap(),
    };
    let config = HttpConfig {
        rate: Some(rate),
        ..HttpConfig::default()
    };
    let world = World::with(config, Some(authenticator())).await;
    let pull = "/v1/sync/g/pull?since=0&clientId=ada";
    let ada = world.token("ada", Role::Client, &["g"]);
    let mut refused = None;
    // The first passes; of two that follow within a second at least one does not.
    for _ in 0..20 {
        let answer = world.get_as(pull, &ada).await;
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("twenty requests do not take twenty seconds");
    assert_eq!(
        refused.error(),
        (
            429,
            "RATE_LIMITED".to_owned(),
            "Too many requests".to_owned()
        )
    );
    assert_eq!(refused.header("retry-after"), "1");
    let ben = world.token("ben", Role::Client, &["g"]);
    let pull = "/v1/sync/g/pull?since=0&clientId=ben";
    assert_eq!(world.get_as(pull, &ben).await.status, 200);
}

#[tokio::test]
async fn pages_of_listed_origins_get_cors_headers_and_others_none() {
    let config = HttpConfig {
        cors: Cors::Origins(vec!["https://app.example".to_owned()]),
        ..HttpConfig::default()
    };
    let world = World::with(config, Some(authenticator())).await;
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
    ];
    let answer = world
        .ask(request("OPTIONS", "/v1/sync/g/push", &preflight))
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example"
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("DELETE")
    );
    assert_eq!(answer.header("access-control-max-age"), "86400");
    let other = request("GET", "/health", &[("origin", "https://evil.example")]);
    let other = world.ask(other).await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let open = World::open().await;
    let refused = request("GET", "/health", &[("origin", "https://evil.example")]);
    assert_eq!(open.ask(refused).await.error().1, "FORBIDDEN");
}

#[tokio::test]
async fn a_push_that_says_a_time_for_its_cursor_is_answered_from_where_the_client_stands() {
    let world = World::open().await;
    world.push("ben", &["r1", "r2"]).await;
    let mut legacy = push("ada", &["r3"]);
    legacy.last_seen = lakesync_proto::Seq::from_u64(NOW_MS << 16).unwrap();
    let body = encode_push_json(&legacy);
    let acked = world.post("/v1/sync/g/push", &body).await;
    assert_eq!(
        acked.json()["serverHlc"],
        "0",
        "it was given nothing of ben's"
    );
    let page = world.get("/v1/sync/g/pull?since=0&clientId=ada").await;
    assert_eq!(page.json()["serverHlc"], "3");
    world.push("ben", &["r4"]).await;
    let acked = world.post("/v1/sync/g/push", &body).await;
    assert_eq!(
        acked.json()["serverHlc"],
        "0",
        "the page may have been lost on its way"
    );
    let page = world.get("/v1/sync/g/pull?since=3&clientId=ada").await;
    assert_eq!(page.json()["serverHlc"], "4");
    let acked = world.post("/v1/sync/g/push", &body).await;
    assert_eq!(
        acked.json()["serverHlc"],
        "3",
        "not beyond what ben wrote since"
    );
}

#[tokio::test]
async fn server_sent_events_are_contiguous_and_resume_from_their_ids() {
    let world = World::open().await;
    world.push("ada", &["r1"]).await;
    let read = |last: Option<String>| {
        let url = format!("{}?clientId=ben&since=0", world.url("/v1/sync/g/live"));
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
            let mut request = agent.get(&url);
            if let Some(id) = last {
                request = request.header("last-event-id", id);
            }
            let mut body = request.call().unwrap().into_body().into_reader();
            let mut text = String::new();
            let mut byte = [0];
            while !text.ends_with("\n\n") {
                body.read_exact(&mut byte).unwrap();
                text.push(byte[0].into());
            }
            text
        })
    };
    let event = read(None).await.unwrap();
    assert!(event.starts_with("id: 1\nevent: page\ndata: {"), "{event}");
    let (event, ()) = tokio::join!(read(Some("1".to_owned())), async {
        while world.front.connections().counts().is_empty() {
            tokio::task::yield_now().await;
        }
        world.push("ada", &["r2"]).await;
    });
    let event = event.unwrap();
    assert!(
        event.starts_with("id: 2\n") && event.contains("\"r2\""),
        "{event}"
    );
    assert!(!event.contains("\"r1\""), "{event}");
}

#[tokio::test]
async fn the_openapi_document_has_every_route_and_each_route_is_there() {
    let world = World::open().await;
    let document = world.get("/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut named = std::collections::BTreeSet::new();
    for operation in document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        let id = operation["operationId"].as_str().unwrap();
        assert!(named.insert(id), "two operations are called `{id}`");
    }
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let target = path
                .replace("{g}", "g")
                .replace("{name}", "n")
                .replace("{id}", "i");
            let answer = world
                .ask(request(&method.to_uppercase(), &target, &[]))
                .await;
            let no_route = answer.error().2.contains("there is no route");
            assert!(
                !no_route && answer.status != 405,
                "{method} {path}: {}",
                answer.status
            );
            let guarded = path.starts_with("/v1/sync/") || path.starts_with("/v1/admin/");
            assert_eq!(
                guarded || path == "/sync/{g}/ws",
                operation["security"].is_array(),
                "{path}"
            );
        }
    }
    assert_eq!(operations, ROUTES, "a route was added or lost: say so here");
    assert_eq!(world.get("/docs/").await.status, 200);
    // Routes that are not made with `routes!` would not be in the document.
    let source = include_str!("routes.rs");
    assert!(!source.contains(".route(\""), "use routes! for the API");
}

/// How many operations there are.
const ROUTES: usize = 30;

#[tokio::test]
async fn metrics_and_status_show_what_happened_and_not_to_everybody() {
    let world = World::secured().await;
    world.push("ada", &["r1", "r2"]).await;
    world.gateway().flush(None).await.unwrap();
    let admin = world.token("root", Role::Admin, &["g"]);
    let pull = "/v1/sync/g/pull?since=0&clientId=root";
    assert_eq!(world.get_as(pull, &admin).await.status, 200);
    let text = |answer: super::world::Answer| String::from_utf8(answer.bytes).unwrap();
    let metrics = text(world.get_as("/metrics", &admin).await);
    for line in [
        "lakesync_pull_total{gateway=\"g\",status=\"ok\"} 1",
        "lakesync_flush_total{gateway=\"g\",status=\"ok\"}",
        "lakesync_visible_seq{gateway=\"g\"} 2",
        "lakesync_flush_lag_deltas{gateway=\"g\"} 0",
        "lakesync_fsync_duration_ms_count{gateway=\"g\"}",
        "lakesync_http_requests_total{route=\"/v1/sync/{g}/pull\",status=\"2xx\"} 1",
        "lakesync_ws_connections{gateway=\"g\",kind=\"websocket\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    let public = text(world.get("/metrics").await);
    assert!(public.contains("lakesync_active_requests"));
    assert!(!public.contains("gateway="), "names of tenants");
    let status = world.get_as("/v1/admin/status", &admin).await.json();
    let table = &status["gateways"][0]["tables"][0];
    assert_eq!(table["table"], "todos");
    assert_eq!(
        (table["hotRows"].as_u64(), table["coldRows"].as_u64()),
        (Some(2), Some(0))
    );
    assert_eq!(status["gateways"][0]["unflushedDeltas"], 0);
    let page = world.get("/").await;
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
    let page = text(page);
    assert!(
        !page.contains("https://") && !page.contains("src="),
        "nothing is loaded from elsewhere"
    );
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_504() {
    let config = HttpConfig {
        timeout: Duration::from_millis(20),
        ..HttpConfig::default()
    };
    let world = World::with(config, None).await;
    let gateway = world.gateway();
    let (go_on, waiting) = tokio::sync::oneshot::channel::<()>();
    let held = gateway.maintain(|_| async move {
        drop(waiting.await);
        Ok::<(), crate::Error>(())
    });
    let asked = async {
        let answer = world.post("/v1/admin/flush/g", b"").await;
        go_on.send(()).unwrap();
        answer
    };
    let (held, answer) = tokio::join!(held, asked);
    held.unwrap();
    let (status, code, text) = answer.error();
    assert_eq!((status, code.as_str()), (504, "INTERNAL_ERROR"), "{text}");
}

#[tokio::test]
async fn gateways_are_made_by_admins_and_connectors_say_what_there_is_instead() {
    let world = World::open().await;
    let made = world.post("/v1/admin/gateways/second", b"").await.json();
    assert_eq!(
        (&made["created"], &made["gateway"]),
        (&Json::from(true), &Json::from("second"))
    );
    let again = world.post("/v1/admin/gateways/second", b"").await.json();
    assert_eq!(again["created"], false);
    assert_eq!(
        world.post("/v1/admin/gateways/no%20name", b"").await.status,
        400
    );
    let names = world.get("/v1/admin/gateways").await.json();
    assert_eq!(names["gateways"], serde_json::json!(["g", "second"]));
    let (status, code, text) = world.post("/v1/admin/connectors/g", b"{}").await.error();
    assert_eq!((status, code.as_str()), (501, "NOT_SUPPORTED"));
    assert!(text.contains("webhooks"), "{text}");
    assert_eq!(
        world.get("/v1/connectors/types").await.json(),
        serde_json::json!([])
    );
}

#[tokio::test]
async fn a_checkpoint_is_streamed_and_says_where_to_go_on() {
    let world = World::open().await;
    world.push("ada", &["r1", "r2"]).await;
    let answer = world.get("/v1/sync/g/checkpoint?clientId=ben").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        "application/x-lakesync-checkpoint-stream"
    );
    assert_eq!(answer.header("x-checkpoint-hlc"), "2");
    assert!(
        answer
            .header("x-checkpoint-cursor")
            .parse::<lakesync_proto::Cursor>()
            .is_ok()
    );
    let length = u32::from_be_bytes(*answer.bytes.first_chunk().unwrap());
    assert!(usize::try_from(length).unwrap() <= answer.bytes.len() - 4);
    let digest = world.get("/v1/sync/g/digest?tables=todos").await.json();
    assert_eq!(
        (&digest["seq"], digest["tables"][0]["rows"].as_u64()),
        (&Json::from("2"), Some(2))
    );
    for bad in ["form=odd", "tables=none", "tables=not%20a%20name"] {
        let status = world
            .get(&format!("/v1/sync/g/checkpoint?{bad}"))
            .await
            .status;
        assert!((400..500).contains(&status), "{bad}: {status}");
    }
}

#[tokio::test]
async fn a_checkpoint_comes_as_lines_of_json_to_those_who_ask_for_json() {
    let world = World::open().await;
    world.push("ada", &["r1", "r2"]).await;
    for accept in ["application/x-ndjson", "application/json"] {
        let path = "/v1/sync/g/checkpoint?form=native";
        let answer = world.ask(request("GET", path, &[("accept", accept)])).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        let text = String::from_utf8(answer.bytes.clone()).unwrap();
        let pages: Vec<Json> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let rows = pages
            .iter()
            .flat_map(|page| page["deltas"].as_array().unwrap());
        let rows: Vec<&str> = rows.map(|delta| delta["rowId"].as_str().unwrap()).collect();
        assert_eq!(rows, ["r1", "r2"]);
        let last = pages.last().unwrap();
        assert_eq!(last["hasMore"], false);
        assert_eq!(last["cursor"], answer.header("x-checkpoint-cursor"));
        // What a line says resumes: nothing comes behind the last one but the end.
        let resume = last["resume"].as_str().unwrap();
        let path = format!("{path}&resume={resume}");
        let rest = world
            .ask(request("GET", &path, &[("accept", accept)]))
            .await;
        assert_eq!(
            rest.status,
            200,
            "{:?}",
            String::from_utf8_lossy(&rest.bytes)
        );
        assert!(!String::from_utf8_lossy(&rest.bytes).contains("rowId"));
    }
}

const RULES: &[u8] = br#"{"version":1,"buckets":[{"name":"own","tables":["todos"],
    "where":"title like 'mine%' and jwt('sub') = 'ada'"},{"name":"team","tables":["todos"],
    "filters":[{"column":"title","op":"eq","value":"jwt:team"}]}]}"#;

#[tokio::test]
async fn rules_are_set_shown_and_explained() {
    let world = World::open().await;
    let none = world.get("/v1/admin/sync-rules/g").await.json();
    assert_eq!(
        (&none["version"], &none["buckets"]),
        (&Json::from(0), &serde_json::json!([]))
    );
    let (status, _, text) = world
        .post("/v1/admin/sync-rules/g", b"{\"version\":1}")
        .await
        .error();
    assert_eq!(status, 400, "{text}");
    let saved = world.post("/v1/admin/sync-rules/g", RULES).await;
    assert_eq!(saved.status, 200, "{:?}", saved.json());
    assert_eq!(saved.json()["version"], 1);
    let shown = world.get("/v1/admin/sync-rules/g").await.json();
    assert_eq!(shown["buckets"].as_array().unwrap().len(), 2);
    world.push("red", &["r1"]).await;
    let why = async |claims: &str| {
        let question = format!("{{\"table\":\"todos\",\"rowId\":\"r1\",\"claims\":{claims}}}");
        let answer = world
            .post("/v1/admin/rules/explain/g", question.as_bytes())
            .await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        answer.json()
    };
    let seen = why("{\"sub\":\"ben\",\"team\":[\"blue\",\"r1 of red\"]}").await;
    assert_eq!(
        (&seen["visible"], &seen["row"]["title"]),
        (&Json::from(true), &Json::from("r1 of red"))
    );
    let hidden = why("{\"sub\":\"ada\"}").await;
    assert_eq!(hidden["visible"], false);
    let odd = world
        .post("/v1/admin/rules/explain/g", b"{\"table\":\"todos\"}")
        .await;
    assert_eq!(odd.status, 400);
}

#[tokio::test]
async fn no_byte_of_one_tenant_is_in_any_answer_to_the_other() {
    const SECRET: &str = "sentinel-of-red";
    let world = World::secured().await;
    let admin = world.token("root", Role::Admin, &["g", "red"]);
    let post = async |path: &str, token: &str, body: &[u8]| {
        let bearer = format!("Bearer {token}");
        let request = request("POST", path, &[("authorization", &bearer)]);
        world.ask(request.map(|_| body.to_vec())).await
    };
    assert_eq!(
        post("/v1/admin/gateways/red", &admin, b"").await.status,
        200
    );
    let schema = br#"{"table":"todos","columns":[{"name":"title","type":"string"}]}"#;
    assert_eq!(
        post("/v1/admin/schema/red", &admin, schema).await.status,
        200
    );
    let red = world.token(SECRET, Role::Client, &["red"]);
    let pushed = json_push(SECRET, &[SECRET]);
    assert_eq!(post("/v1/sync/red/push", &red, &pushed).await.status, 200);
    let mine = world.token("ada", Role::Admin, &["g"]);
    let document = world.get("/v1/openapi.json").await.json();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|_| !path.ends_with("/live"))
        {
            for gateway in ["g", "red", "none"] {
                let target = path.replace("{g}", gateway).replace("{name}", "n");
                let target = format!("{}?clientId=ada&since=0", target.replace("{id}", "i"));
                for token in [Some(&mine), None] {
                    let bearer = token.map(|token| format!("Bearer {token}"));
                    let headers = bearer
                        .iter()
                        .map(|bearer| ("authorization", bearer.as_str()));
                    let headers: Vec<_> = headers.collect();
                    let answer = world
                        .ask(request(&method.to_uppercase(), &target, &headers))
                        .await;
                    let text = String::from_utf8_lossy(&answer.bytes);
                    assert!(!text.contains(SECRET), "{method} {target}: {text}");
                    if gateway == "red" && path.contains("{g}") {
                        let refused = if token.is_some() { 403 } else { 401 };
                        assert_eq!(answer.status, refused, "{method} {target}: {text}");
                    }
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 100, "{asked}");
}

#[tokio::test]
async fn commands_are_answered_even_where_no_connector_is_configured() {
    let world = World::open().await;
    let offered = world.get("/v1/sync/g/actions").await;
    assert_eq!(offered.json(), serde_json::json!({"connectors": {}}));
    let wrong = world
        .post("/v1/sync/g/action", b"{\"clientId\":\"ada\"}")
        .await;
    assert_eq!(wrong.status, 400, "{:?}", wrong.json());
    let dead = world.get("/v1/admin/actions/g/dead").await;
    assert_eq!(dead.json(), serde_json::json!({"dead": []}));
    let none = world.post("/v1/admin/actions/g/dead/abc/retry", b"").await;
    assert_eq!(none.status, 404);
}

/// A native checkpoint's chunks, as far as `bytes` hold whole ones.
fn chunks(world: &World, bytes: &[u8]) -> Vec<PullPage> {
    let mut reader = ChunkReader::new();
    reader.feed(bytes);
    let mut chunks = Vec::new();
    while let Some(message) = reader.next_message().unwrap() {
        chunks.push(decode_chunk(&message, world.gateway().live().as_ref()).unwrap());
    }
    chunks
}

#[tokio::test]
async fn a_checkpoint_that_breaks_off_goes_on_behind_its_last_whole_chunk() {
    let world = World::open().await;
    let rows: Vec<String> = (0..1_500)
        .map(|nth| format!("{nth:04}-{}", "x".repeat(1_000)))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    world.push("ada", &rows).await;
    let path = "/v1/sync/g/checkpoint?form=native&clientId=ben";
    let whole = world.get(path).await;
    let all = chunks(&world, &whole.bytes);
    assert!(all.len() >= 3, "{}", all.len());
    let note = |page: &PullPage| page.notes.schemas.clone();
    assert!(all[..all.len() - 1].iter().all(|page| note(page).is_none()));
    assert_eq!(note(all.last().unwrap()).unwrap().tables.len(), 1);
    // The body is cut in the middle of the second chunk.
    let first = u32::from_be_bytes(*whole.bytes.first_chunk().unwrap());
    let cut = usize::try_from(first).unwrap() + 4 + 100;
    let mut got = chunks(&world, &whole.bytes[..cut]);
    assert_eq!(got.len(), 1);
    world.push("cyd", &["late"]).await;
    let resume = got[0].notes.resume.clone().expect("each chunk says it");
    let rest = world.get(&format!("{path}&resume={resume}")).await;
    assert_eq!(rest.status, 200, "{:?}", rest.json());
    got.extend(chunks(&world, &rest.bytes));
    let ids = |pages: &[PullPage]| -> Vec<String> {
        let deltas = pages.iter().flat_map(|page| &page.deltas);
        deltas.map(|delta| delta.delta.row_id.to_string()).collect()
    };
    assert_eq!(ids(&got), ids(&all), "once each, and as it was then");
    assert_eq!(
        got.last().unwrap().notes.next,
        all.last().unwrap().notes.next
    );
    assert_eq!(world.get(&format!("{path}&resume=odd")).await.status, 410);
    let document = world.get("/v1/openapi.json").await.json();
    let text = document["paths"]["/v1/sync/{g}/checkpoint"]["get"].to_string();
    assert!(
        text.contains("`resume`") && !text.contains("chunk's `cursor`"),
        "{text}"
    );
}

#[tokio::test]
async fn an_event_reader_that_takes_nothing_is_dropped_and_at_a_drain_at_once() {
    for (stalled, draining) in [
        (Duration::from_millis(50), false),
        (Duration::from_secs(3_600), true),
    ] {
        let config = HttpConfig {
            stalled,
            ..HttpConfig::default()
        };
        let world = World::with(config, None).await;
        let mut socket = tokio::net::TcpStream::connect(world.address())
            .await
            .unwrap();
        let ask = b"GET /v1/sync/g/live?clientId=ben&since=0 HTTP/1.1\r\nhost: localhost\r\n\r\n";
        socket.write_all(ask).await.unwrap();
        while world.front.connections().counts().is_empty() {
            tokio::task::yield_now().await;
        }
        let long = "x".repeat(1_000);
        for nth in 0..if draining { 20 } else { 100 } {
            let rows: Vec<String> = (0..1_000)
                .map(|row| format!("{nth}-{row}-{long}"))
                .collect();
            let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
            world.push("ada", &rows).await;
            if world.front.connections().counts().is_empty() {
                break;
            }
        }
        if draining {
            world.front.drain();
        }
        let gone = async {
            while !world.front.connections().counts().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone)
            .await
            .expect("it is dropped");
        drop(socket);
    }
}

#[tokio::test]
async fn more_requests_at_once_than_the_process_takes_are_told_to_come_back() {
    let world = World::open().await;
    let pull = "/v1/sync/g/pull?since=0&clientId=ada";
    let all = world.front.requests().available_permits();
    let held = world
        .front
        .requests()
        .acquire_many(all.try_into().unwrap())
        .await
        .unwrap();
    let refused = world.get(pull).await;
    assert_eq!(
        (refused.status, refused.error().1.as_str()),
        (503, "BACKPRESSURE_ERROR")
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(world.get("/health").await.status, 200);
    // A long poll has its place among the live connections instead.
    assert_eq!(world.get(&format!("{pull}&wait=1ms")).await.status, 200);
    drop(held);
    assert_eq!(world.get(pull).await.status, 200);
}

#[tokio::test]
async fn every_unavailable_answer_says_when_to_come_back() {
    let world = World::open().await;
    let closed = super::ApiError::from(crate::Error::Closed {
        gateway: world.gateway().id().clone(),
    });
    let adapter = super::ApiError::refused(lakesync_proto::ErrorCode::AdapterError, "it is away");
    for (error, status) in [(closed, 503), (adapter, 502)] {
        let answer = axum::response::IntoResponse::into_response(error);
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["retry-after"], "1", "{status}");
    }
    world.front.drain();
    for path in ["/ready", "/v1/sync/g/schema"] {
        let answer = world.get(path).await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, "1"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn answers_are_of_the_type_that_is_asked_for_or_none() {
    let world = World::open().await;
    let json = |row: &str| json_push("ada", &[row]);
    let proto = |row: &str| encode_push_protobuf(&push("ada", &[row]));
    let (json_type, proto_type) = ("application/json", "application/x-protobuf");
    let asked = [
        (json_type, json("r1"), "*/*", json_type),
        (json_type, json("r2"), proto_type, proto_type),
        (proto_type, proto("r3"), "*/*", proto_type),
        (
            proto_type,
            proto("r4"),
            "text/html, application/json;q=0.9",
            json_type,
        ),
    ];
    for (sent, body, accept, answered) in asked {
        let headers = [("content-type", sent), ("accept", accept)];
        let request = request("POST", "/v1/sync/g/push", &headers).map(|_| body);
        let answer = world.ask(request).await;
        assert_eq!(answer.header("content-type"), answered, "{sent} {accept}");
    }
    let checkpoint = "/v1/sync/g/checkpoint";
    let odd = world
        .ask(request("GET", checkpoint, &[("accept", "text/csv")]))
        .await;
    let (status, code, text) = odd.error();
    assert_eq!((status, code.as_str()), (406, "VALIDATION_ERROR"));
    assert!(
        text.contains("application/x-lakesync-checkpoint-stream"),
        "{text}"
    );
    for accept in [
        "*/*",
        "application/*",
        "application/x-lakesync-checkpoint-stream, text/csv",
    ] {
        let answer = world
            .ask(request("GET", checkpoint, &[("accept", accept)]))
            .await;
        assert_eq!(answer.status, 200, "{accept}");
    }
}

#[tokio::test]
async fn versions_preflights_and_what_is_not_supported() {
    let world = World::open().await;
    for path in ["/v1/openapi.json", "/v1/connectors/types"] {
        assert_eq!(world.get(path).await.header("api-version"), "v1", "{path}");
    }
    let preflight = [
        ("origin", "http://localhost:5173"),
        ("access-control-request-method", "POST"),
    ];
    let answer = world
        .ask(request("OPTIONS", "/v1/sync/g/push", &preflight))
        .await;
    let allowed = answer.header("access-control-allow-headers");
    for name in [
        "authorization",
        "content-type",
        "content-encoding",
        "last-event-id",
        "x-request-id",
    ] {
        assert!(allowed.contains(name), "{name}: {allowed}");
    }
    assert_eq!(
        world.post("/v1/admin/connectors/g", b"{}").await.status,
        501
    );
    let status = world.get("/v1/admin/status").await.json();
    assert_eq!(status["errors"], serde_json::json!([]));
}

#[tokio::test]
async fn no_unsound_token_passes_any_gate() {
    let authenticator = Arc::new(matrix::authenticator());
    let world = World::with(HttpConfig::default(), Some(authenticator)).await;
    let gateway = lakesync_proto::GatewayId::parse("shop").unwrap();
    world.create(gateway).await;
    let document = world.get("/v1/openapi.json").await.json();
    let tokens = matrix::refused_tokens();
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !operation["security"].is_array() {
                continue;
            }
            let method = method.to_uppercase();
            let target = path.replace("{g}", "shop").replace("{name}", "n");
            let target = format!("{}?clientId=ada&since=0", target.replace("{id}", "i"));
            let in_query = path.ends_with("/ws") || path.ends_with("/live");
            for (name, token, _) in &tokens {
                let bearer = format!("Bearer {token}");
                let mut requests = Vec::new();
                // Spaces at its end are no part of a header's value, and a line's end cannot be in one.
                if token.trim() == token {
                    requests.push(request(&method, &target, &[("authorization", &bearer)]));
                }
                if in_query {
                    let coded = token.bytes().map(|byte| format!("%{byte:02x}"));
                    let target = format!("{target}&token={}", coded.collect::<String>());
                    requests.push(request(&method, &target, &[]));
                }
                for request in requests {
                    let answer = world.ask(request).await;
                    assert_eq!(answer.status, 401, "{method} {target}: {name}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 20 * tokens.len(), "{asked}");
}

#[tokio::test]
async fn the_openapi_documents_bodies_have_the_fields_that_the_codecs_write() {
    let world = World::open().await;
    let document = world.get("/v1/openapi.json").await.json();
    let schemas = &document["components"]["schemas"];
    let mut sent = push("ada", &["r1"]);
    sent.schemas = Some(1);
    let acked = world
        .post("/v1/sync/g/push", &encode_push_json(&sent))
        .await
        .json();
    let path = "/v1/sync/g/pull?cursor=&clientId=ben&schemas=1";
    let page = world.get(path).await.json();
    let definition = serde_json::json!({"table": "t", "columns": [{"name": "n", "type": "string"}], "primaryKey": ["n"]});
    let bucket = serde_json::json!({"name": "b", "tables": [], "filters": [{"column": "n", "op": "eq", "value": "jwt:n"}],
        "where": "true", "write": true});
    let rules = serde_json::json!({"version": 1, "buckets": [bucket]});
    lakesync_proto::TableDefinition::from_json(definition.to_string().as_bytes()).unwrap();
    crate::rules::RuleSet::from_json(rules.to_string().as_bytes()).unwrap();
    let gone = world
        .get("/v1/sync/g/pull?cursor=rubbish&clientId=ben")
        .await
        .json();
    let shown: Json = serde_json::from_slice(&encode_push_json(&sent)).unwrap();
    for (name, body) in [
        ("Delta", &page["deltas"][0]),
        ("ColumnValue", &page["deltas"][0]["columns"][0]),
        ("SchemaVersions", &page["schemas"]),
        ("Page", &page),
        ("DeltaOutcome", &acked["outcomes"][0]),
        ("Ack", &acked),
        ("Push", &shown),
        ("Error", &gone),
        ("TableDefinition", &definition),
        ("ColumnDefinition", &definition["columns"][0]),
        ("RuleSet", &rules),
        ("Bucket", &rules["buckets"][0]),
        ("Filter", &rules["buckets"][0]["filters"][0]),
    ] {
        let fields = body.as_object().unwrap_or_else(|| panic!("{name}: {body}"));
        let missing = fields
            .keys()
            .filter(|field| schemas[name]["properties"].get(field).is_none());
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new(), "{name}");
        let required = schemas[name]["required"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        for field in required {
            assert!(
                fields.contains_key(field.as_str().unwrap()),
                "{name} {field}"
            );
        }
    }
}

#[tokio::test]
async fn the_openapi_document_shows_bodies() {
    let world = World::open().await;
    let document = world.get("/v1/openapi.json").await.json();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "Push",
        "Delta",
        "Page",
        "Ack",
        "Error",
        "RuleSet",
        "TableDefinition",
    ] {
        assert!(schemas.contains_key(name), "{name} in {:?}", schemas.keys());
    }
    let operation = |path: &str, method: &str| document["paths"][path][method].to_string();
    for (path, method, name) in [
        ("/v1/sync/{g}/push", "post", "Push"),
        ("/v1/sync/{g}/push", "post", "Ack"),
        ("/v1/sync/{g}/push", "post", "Error"),
        ("/v1/sync/{g}/pull", "get", "Page"),
        ("/v1/admin/sync-rules/{g}", "post", "RuleSet"),
        ("/v1/admin/schema/{g}", "post", "TableDefinition"),
    ] {
        let reference = format!("#/components/schemas/{name}\"");
        assert!(
            operation(path, method).contains(&reference),
            "{path} {name}"
        );
    }
}

#[tokio::test]
async fn an_event_reader_hears_of_new_schemas_without_deltas() {
    let world = World::open().await;
    let url = format!("{}?clientId=ben&since=0", world.url("/v1/sync/g/live"));
    let reading = tokio::task::spawn_blocking(move || {
        let mut body = ureq::get(&url).call().unwrap().into_body().into_reader();
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with("\n\n") {
            body.read_exact(&mut byte).unwrap();
            text.push(byte[0].into());
        }
        text
    });
    while world.front.connections().counts().is_empty() {
        tokio::task::yield_now().await;
    }
    let wider = br#"{"table":"todos","columns":[{"name":"title","type":"string"},{"name":"done","type":"boolean"}]}"#;
    assert_eq!(world.post("/v1/admin/schema/g", wider).await.status, 200);
    let event = reading.await.unwrap();
    assert!(event.starts_with("id: 0\nevent: page\n"), "{event}");
    assert!(
        event.contains("\"deltas\":[]") && event.contains("\"changed\":true"),
        "{event}"
    );
}
