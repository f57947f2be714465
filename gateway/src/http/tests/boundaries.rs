//! What keeps strangers out, and one caller from shutting out another.

use lakesync_proto::{decode_ack_protobuf, encode_push_json, encode_push_protobuf};
use serde_json::json;

use crate::auth::Role;
use crate::http::world::{World, authenticator, push, request};
use crate::http::{Cors, HttpConfig, PROTOBUF};

#[tokio::test]
async fn a_page_that_rebinds_its_name_to_this_machine_is_refused_by_the_host_it_asks_for() {
    let config = HttpConfig {
        cors: Cors::Origins(vec!["https://app.example:8443".to_owned()]),
        ..HttpConfig::default()
    };
    let open = World::with(config.clone(), None).await;
    let ask = async |world: &World, host: &str| {
        // As a browser asks for a page's own address: no Origin, no other site.
        let headers = [("host", host), ("sec-fetch-site", "same-origin")];
        world
            .ask(request("GET", "/v1/sync/g/schema", &headers))
            .await
    };
    for host in [
        "evil.example",
        "localhost.evil.example:7420",
        "192.168.0.7",
        "other.example",
    ] {
        let (status, code, text) = ask(&open, host).await.error();
        assert_eq!((status, code.as_str()), (403, "FORBIDDEN"), "{host}");
        assert!(
            text.contains(host) && text.contains("server.cors"),
            "{text}"
        );
    }
    for host in [
        "localhost:7420",
        "LOCALHOST",
        "127.0.0.9",
        "[::1]:1",
        "app.example",
    ] {
        assert_eq!(ask(&open, host).await.status, 200, "{host}");
    }
    let secured = World::with(config, Some(authenticator())).await;
    assert_eq!(
        ask(&secured, "lake.example").await.status,
        401,
        "tokens protect it"
    );
}

#[tokio::test]
async fn the_api_viewer_has_a_policy_that_its_page_keeps() {
    let world = World::open().await;
    let page = world.get("/docs/").await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-security-policy"),
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
    );
    let html = String::from_utf8(page.bytes).unwrap();
    let scripts: Vec<&str> = html.split("<script").skip(1).collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let tag = script.split_once('>').unwrap();
        assert!(tag.0.contains("src=\"./"), "an own file: {tag:?}");
        assert!(
            tag.1.starts_with("</script>") || tag.1.starts_with(" </script>"),
            "inline: {tag:?}"
        );
    }
    let own = world.get("/").await;
    assert!(
        own.header("content-security-policy")
            .starts_with("default-src 'none'")
    );
}

#[tokio::test]
async fn one_subject_cannot_take_every_slot_of_checkpoints_and_digests() {
    let world = World::secured().await;
    let paths = ["/v1/sync/g/checkpoint", "/v1/sync/g/digest"];
    let (ada, ben) = (
        world.token("ada", Role::Client, &["g"]),
        world.token("ben", Role::Client, &["g"]),
    );
    let turns: Vec<_> = (0..2).map(|_| world.reader("ada").unwrap()).collect();
    for path in paths {
        let refused = world.get_as(path, &ada).await;
        assert_eq!(refused.header("retry-after"), "1");
        let (status, code, text) = refused.error();
        assert_eq!((status, code.as_str()), (503, "BACKPRESSURE_ERROR"));
        assert!(text.contains("`ada` reads 2"), "{text}");
        assert_eq!(world.get_as(path, &ben).await.status, 200);
    }
    drop(turns);
    for path in paths {
        assert_eq!(world.get_as(path, &ada).await.status, 200);
    }
}

#[tokio::test]
async fn a_late_write_to_a_dropped_column_is_kept_told_and_counted() {
    let world = World::open().await;
    let evolve = async |columns: &str| {
        let body = format!(r#"{{"table":"todos","columns":[{columns}]}}"#);
        let answer = world.post("/v1/admin/schema/g", body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    };
    evolve(r#"{"name":"title","type":"string"},{"name":"kept","type":"string"}"#).await;
    evolve(r#"{"name":"kept","type":"string"}"#).await;
    let late = push("ada", &["r1", "r2"]);
    for outcome in ["accepted", "duplicate"] {
        let answer = world
            .post("/v1/sync/g/push", &encode_push_json(&late))
            .await;
        let outcomes = &answer.json()["outcomes"];
        for nth in 0..2 {
            assert_eq!(outcomes[nth]["outcome"], outcome, "{outcomes}");
            assert_eq!(outcomes[nth]["ignored"], json!(["title"]), "{outcomes}");
        }
    }
    let protobuf = request("POST", "/v1/sync/g/push", &[("content-type", PROTOBUF)]);
    let protobuf = protobuf.map(|_| encode_push_protobuf(&late));
    let ack = decode_ack_protobuf(&world.ask(protobuf).await.bytes).unwrap();
    assert_eq!(ack.ignored.len(), 2);
    let pulled = world
        .get("/v1/sync/g/pull?since=0&clientId=ben")
        .await
        .json();
    assert_eq!(
        pulled["deltas"][0]["columns"][0]["column"], "title",
        "the log keeps it"
    );
    let metrics = String::from_utf8(world.get("/metrics").await.bytes).unwrap();
    let counted = "lakesync_ignored_cells_total{gateway=\"g\"} 2\n";
    assert!(
        metrics.contains(counted),
        "duplicates are not counted again: {metrics}"
    );
}
