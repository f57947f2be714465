//! WebSockets over real sockets.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::SinkExt as _;
use lakesync_proto::{
    ClientBody, ServerBody, ServerFrame, decode_server_frame, encode_client_frame,
    encode_push_protobuf, push_message, wire,
};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;

use crate::auth::Role;
use crate::http::config::ConnectionLimits;
use crate::http::world::{Socket, World, authenticator, binary, closed, push};
use crate::http::{HttpConfig, Rate};

const WS: &str = "/v1/sync/g/ws";

fn tagged(tag: u8, message: &[u8]) -> Message {
    let mut bytes = vec![tag];
    bytes.extend(message);
    Message::binary(bytes)
}

fn legacy_push(client: &str, rows: &[&str]) -> Message {
    tagged(0x01, &encode_push_protobuf(&push(client, rows)))
}

/// A push that is stamped beyond every clock.
fn legacy_push_ahead() -> Message {
    let mut message = push_message(&push("ada", &["r1"]));
    message.deltas[0].hlc = u64::MAX >> 1;
    tagged(0x01, &message.encode_to_vec())
}

fn legacy_pull(client: &str, since: u64) -> Message {
    let pull = wire::SyncPull {
        client_id: client.to_owned(),
        since_hlc: since,
        max_deltas: 100,
        ..wire::SyncPull::default()
    };
    tagged(0x02, &pull.encode_to_vec())
}

fn native(request_id: u64, body: ClientBody) -> Message {
    Message::binary(encode_client_frame(request_id, body))
}

async fn frame(socket: &mut Socket) -> ServerFrame {
    decode_server_frame(&binary(socket).await).unwrap()
}

async fn native_frame(socket: &mut Socket) -> (u64, ServerBody) {
    match frame(socket).await {
        ServerFrame::Native { request_id, body } => (request_id, body),
        frame => panic!("{frame:?}"),
    }
}

fn rows(response: &wire::SyncResponse) -> Vec<&str> {
    let deltas = response.deltas.iter();
    deltas.map(|delta| delta.row_id.as_str()).collect()
}

#[tokio::test]
async fn a_legacy_client_pushes_pulls_and_is_sent_what_others_push_on_both_paths() {
    let world = World::open().await;
    let mut ada = world.connect(WS).await.unwrap();
    let mut ben = world.connect("/sync/g/ws").await.unwrap();
    ben.send(legacy_pull("ben", 0)).await.unwrap();
    assert!(matches!(
        frame(&mut ben).await,
        ServerFrame::LegacyAnswer(_)
    ));
    ada.send(legacy_push("ada", &["r1", "r2"])).await.unwrap();
    let ServerFrame::LegacyAnswer(acked) = frame(&mut ada).await else {
        panic!("an answer has no tag");
    };
    assert_eq!((acked.deltas.len(), acked.server_hlc), (0, 2));
    let ServerFrame::LegacyBroadcast(sent) = frame(&mut ben).await else {
        panic!("a broadcast has one");
    };
    assert_eq!((rows(&sent), sent.server_hlc), (vec!["r1", "r2"], 2));
    // What ada pushed is not sent to ada: the next that she is sent is ben's.
    ben.send(legacy_push("ben", &["r3"])).await.unwrap();
    let ServerFrame::LegacyBroadcast(sent) = frame(&mut ada).await else {
        panic!("a broadcast");
    };
    assert_eq!(rows(&sent), ["r3"]);
}

#[tokio::test]
async fn a_broadcast_tells_no_cursor_that_skips_what_the_client_was_not_given() {
    let world = World::open().await;
    world.push("ada", &["r1"]).await;
    let mut ben = world.connect(WS).await.unwrap();
    // An answer shows that the connection stands, behind r1, which ben has not pulled.
    ben.send(legacy_push("ben", &["b1"])).await.unwrap();
    let ServerFrame::LegacyAnswer(acked) = frame(&mut ben).await else {
        panic!("an answer");
    };
    assert_eq!(acked.server_hlc, 0, "r1 was not given");
    world.push("ada", &["r2"]).await;
    let ServerFrame::LegacyBroadcast(sent) = frame(&mut ben).await else {
        panic!("a broadcast");
    };
    assert_eq!((rows(&sent), sent.server_hlc), (vec!["r2"], 0));
    ben.send(legacy_pull("ben", 0)).await.unwrap();
    let ServerFrame::LegacyAnswer(page) = frame(&mut ben).await else {
        panic!("an answer");
    };
    assert_eq!((rows(&page), page.server_hlc), (vec!["r1", "b1", "r2"], 3));
    world.push("ada", &["r3"]).await;
    let ServerFrame::LegacyBroadcast(sent) = frame(&mut ben).await else {
        panic!("a broadcast");
    };
    assert_eq!(
        (rows(&sent), sent.server_hlc),
        (vec!["r3"], 4),
        "now it follows"
    );
}

#[tokio::test]
async fn a_subscription_is_contiguous_from_its_cursor_and_answers_carry_request_ids() {
    let world = World::open().await;
    world.push("ada", &["r1", "r2"]).await;
    let mut socket = world.connect(&format!("{WS}?native=true")).await.unwrap();
    let begin = ClientBody::Subscribe {
        cursor: Some(String::new()),
    };
    socket.send(native(7, begin)).await.unwrap();
    let (id, ServerBody::Live(page)) = native_frame(&mut socket).await else {
        panic!("a page");
    };
    assert_eq!((id, rows(&page)), (7, vec!["r1", "r2"]));
    world.push("ada", &["r3"]).await;
    let (id, ServerBody::Live(page)) = native_frame(&mut socket).await else {
        panic!("a page");
    };
    assert_eq!((id, rows(&page)), (0, vec!["r3"]));
    let cursor = page.cursor.clone();
    let pushed = ClientBody::Push(push_message(&push("ben", &["r4"])));
    socket.send(native(8, pushed)).await.unwrap();
    socket.send(native(9, ClientBody::Ping)).await.unwrap();
    let mut answers = Vec::new();
    while answers.len() < 3 {
        answers.push(native_frame(&mut socket).await);
    }
    assert!(
        answers
            .iter()
            .any(|answer| matches!(answer, (8, ServerBody::Answer(_))))
    );
    assert!(
        answers
            .iter()
            .any(|answer| matches!(answer, (9, ServerBody::Pong)))
    );
    // A native client is sent its own deltas too: its cursor moves with them.
    assert!(
        answers
            .iter()
            .any(|answer| matches!(answer, (0, ServerBody::Live(page)) if rows(page) == ["r4"]))
    );
    let mut again = world.connect(&format!("{WS}?native=true")).await.unwrap();
    let resume = ClientBody::Subscribe {
        cursor: Some(cursor),
    };
    again.send(native(1, resume)).await.unwrap();
    let (1, ServerBody::Live(page)) = native_frame(&mut again).await else {
        panic!("a page");
    };
    assert_eq!(rows(&page), ["r4"]);
}

#[tokio::test]
async fn a_native_request_that_is_refused_is_answered_and_the_connection_goes_on() {
    let world = World::open().await;
    let mut socket = world.connect(WS).await.unwrap();
    let subscribe = ClientBody::Subscribe {
        cursor: Some("rubbish".to_owned()),
    };
    socket.send(native(1, subscribe)).await.unwrap();
    let (1, ServerBody::Error(error)) = native_frame(&mut socket).await else {
        panic!("an error");
    };
    assert_eq!(error.code, "CURSOR_EXPIRED");
    let mut wrong = push_message(&push("ada", &["r1", "r2"]));
    wrong.deltas[1].hlc = u64::MAX >> 1;
    socket
        .send(native(2, ClientBody::Push(wrong)))
        .await
        .unwrap();
    let (2, ServerBody::Error(error)) = native_frame(&mut socket).await else {
        panic!("an error");
    };
    assert_eq!(error.index, Some(1), "{error:?}");
    socket.send(native(3, ClientBody::Ping)).await.unwrap();
    assert_eq!(native_frame(&mut socket).await, (3, ServerBody::Pong));
}

#[tokio::test]
async fn what_is_no_message_closes_the_connection_with_the_contracts_codes() {
    let config = HttpConfig {
        message_bytes_max: 1 << 16,
        messages_per_second: NonZeroU32::new(5).unwrap(),
        ..HttpConfig::default()
    };
    let world = World::with(config, None).await;
    let cases: [(&str, Vec<Message>, u16); 7] = [
        ("short", vec![Message::binary(vec![1])], 1002),
        ("unknown tag", vec![Message::binary(vec![9, 9])], 1002),
        ("text", vec![Message::text("hello")], 1003),
        (
            "no protobuf",
            vec![Message::binary(vec![1, 0xff, 0xff])],
            1008,
        ),
        ("a time to come", vec![legacy_push_ahead()], 1008),
        (
            "too large",
            vec![Message::binary(vec![1; (1 << 16) + 1])],
            1009,
        ),
        ("too many", vec![native(1, ClientBody::Ping); 6], 1008),
    ];
    for (name, messages, code) in cases {
        let mut socket = world.connect(WS).await.unwrap();
        for message in messages {
            socket.send(message).await.unwrap();
        }
        let (closed_with, reason) = closed(&mut socket).await;
        assert_eq!(closed_with, code, "{name}: {reason}");
        assert!(!reason.is_empty(), "{name}");
    }
    while !world.front.connections().counts().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_socket_speaks_as_its_token_and_ends_with_it() {
    let world = World::secured().await;
    assert_eq!(world.connect(WS).await.unwrap_err(), 401);
    let elsewhere = world.token("ada", Role::Client, &["other"]);
    let path = format!("{WS}?token={elsewhere}");
    assert_eq!(world.connect(&path).await.unwrap_err(), 403);
    let ada = world.token_until("ada", Role::Client, &["g"], 61);
    let path = format!("{WS}?token={ada}");
    let mut forger = world.connect(&path).await.unwrap();
    forger.send(legacy_push("ben", &["r1"])).await.unwrap();
    let (code, reason) = closed(&mut forger).await;
    assert_eq!(code, 1008);
    assert!(reason.contains("Client ID mismatch"), "{reason}");
    let reader = world.token("ada", Role::Reader, &["g"]);
    let mut reader = world
        .connect(&format!("{WS}?token={reader}"))
        .await
        .unwrap();
    let pushed = ClientBody::Push(push_message(&push("ada", &["r1"])));
    reader.send(native(1, pushed)).await.unwrap();
    let (1, ServerBody::Error(error)) = native_frame(&mut reader).await else {
        panic!("a reader writes nothing");
    };
    assert_eq!(error.code, "FORBIDDEN");
    let mut socket = world.connect(&path).await.unwrap();
    socket.send(native(1, ClientBody::Ping)).await.unwrap();
    assert_eq!(native_frame(&mut socket).await, (1, ServerBody::Pong));
    // The token ends in 61 s and is honoured 30 s longer.
    world.clock.advance(40_000);
    socket.send(native(2, ClientBody::Ping)).await.unwrap();
    let mut bodies = vec![
        native_frame(&mut socket).await.1,
        native_frame(&mut socket).await.1,
    ];
    bodies.retain(|body| *body != ServerBody::Pong);
    assert_eq!(bodies, [ServerBody::Expiring { seconds: 51 }]);
    world.clock.advance(51_000);
    socket.send(native(3, ClientBody::Ping)).await.unwrap();
    let (code, reason) = closed(&mut socket).await;
    assert_eq!(code, 1008);
    assert!(reason.contains("token expired"), "{reason}");
}

#[tokio::test]
async fn connections_are_limited_and_a_drain_closes_them_as_going_away() {
    let config = HttpConfig {
        connections: ConnectionLimits {
            process: 10,
            gateway: 10,
            subject: 1,
        },
        ..HttpConfig::default()
    };
    let world = World::with(config, Some(authenticator())).await;
    let path = format!("{WS}?token={}", world.token("ada", Role::Reader, &["g"]));
    let mut socket = world.connect(&path).await.unwrap();
    assert_eq!(world.connect(&path).await.unwrap_err(), 503);
    world.front.drain();
    assert_eq!(closed(&mut socket).await.0, 1001);
    assert_eq!(world.get(WS).await.status, 503, "nobody new");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_closed_and_holds_no_memory() {
    let config = HttpConfig {
        stalled: Duration::from_millis(50),
        ..HttpConfig::default()
    };
    let world = World::with(config, None).await;
    let socket = world.connect(WS).await.unwrap();
    let long = "x".repeat(1_000);
    // Until the sockets' buffers are full and the connection gives up.
    for nth in 0.. {
        let rows: Vec<String> = (0..1_000)
            .map(|row| format!("{nth}-{row}-{long}"))
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        world.push("ada", &rows).await;
        tokio::task::yield_now().await;
        if world.front.connections().counts().is_empty() {
            break;
        }
        assert!(nth < 100, "it takes and takes");
    }
    drop(socket);
}

#[tokio::test]
async fn readers_with_equal_claims_are_sent_what_their_rules_show_and_writers_hear_what_leaves_them()
 {
    let world = World::secured().await;
    let rules = br#"{"version":1,"buckets":[{"name":"b","tables":["todos"],
        "filters":[{"column":"title","op":"eq","value":"jwt:sub"}]}]}"#;
    let rules = crate::rules::RuleSet::from_json(rules).unwrap();
    world.gateway().set_rules(rules).await.unwrap();
    let token = world.token("r1 of ada", Role::Client, &["g"]);
    let path = format!("{WS}?native=true&token={token}");
    let mut reader = world.connect(&path).await.unwrap();
    reader
        .send(native(1, ClientBody::Subscribe { cursor: None }))
        .await
        .unwrap();
    let (1, ServerBody::Live(first)) = native_frame(&mut reader).await else {
        panic!("a page");
    };
    assert!(first.deltas.is_empty() && !first.cursor.is_empty());
    // The rule shows r1 alone.
    world.push("ada", &["r0", "r1", "r2"]).await;
    let (0, ServerBody::Live(page)) = native_frame(&mut reader).await else {
        panic!("a page");
    };
    assert_eq!(rows(&page), ["r1"]);
    // What the reader writes and may not see leaves it, which nobody else is told.
    let own = ClientBody::Push(push_message(&push("r1 of ada", &["r9"])));
    reader.send(native(2, own)).await.unwrap();
    let mut removed = Vec::new();
    let mut acked = false;
    while removed.is_empty() || !acked {
        match native_frame(&mut reader).await {
            (2, ServerBody::Answer(_)) => acked = true,
            (0, ServerBody::Live(page)) => {
                removed.extend(page.removed.into_iter().map(|removed| removed.row_id));
            }
            frame => panic!("{frame:?}"),
        }
    }
    assert_eq!(removed, ["r9"]);
}

#[tokio::test]
async fn messages_pass_the_limit_of_their_subject_as_requests_do() {
    let one = NonZeroU32::new(1).unwrap();
    let config = HttpConfig {
        rate: Some(Rate {
            requests_per_second: one,
            burst: NonZeroU32::new(2).unwrap(),
        }),
        ..HttpConfig::default()
    };
    let world = World::with(config, Some(authenticator())).await;
    let path = format!("{WS}?token={}", world.token("ada", Role::Client, &["g"]));
    let mut socket = world.connect(&path).await.unwrap();
    // The handshake was one. Of ten that follow within a second not all pass.
    for id in 1..=10 {
        socket.send(native(id, ClientBody::Ping)).await.unwrap();
    }
    let mut refused = None;
    for _ in 1..=10 {
        if let (_, ServerBody::Error(error)) = native_frame(&mut socket).await {
            refused = Some(error);
        }
    }
    let refused = refused.expect("one of ten");
    assert_eq!(
        (refused.code.as_str(), refused.retry_after_ms),
        ("RATE_LIMITED", Some(1_000))
    );
    let mut legacy = world.connect(&path).await;
    while legacy.is_err() {
        legacy = world.connect(&path).await;
    }
    let mut legacy = legacy.unwrap();
    for _ in 0..10 {
        legacy.send(legacy_pull("ada", 0)).await.unwrap();
    }
    let (code, reason) = closed(&mut legacy).await;
    assert_eq!((code, reason.as_str()), (1013, "Too many requests"));
}

#[tokio::test]
async fn messages_share_the_budget_of_all_bodies() {
    let world = World::open().await;
    let mut socket = world.connect(WS).await.unwrap();
    socket.send(native(1, ClientBody::Ping)).await.unwrap();
    assert_eq!(native_frame(&mut socket).await.1, ServerBody::Pong);
    let all = world.front.bodies().take_all();
    socket.send(legacy_push("ada", &["r1"])).await.unwrap();
    let (code, reason) = closed(&mut socket).await;
    assert_eq!(code, 1013, "{reason}");
    assert!(reason.contains("memory"), "{reason}");
    drop(all);
    let mut socket = world.connect(WS).await.unwrap();
    socket.send(legacy_push("ada", &["r1"])).await.unwrap();
    assert!(matches!(
        frame(&mut socket).await,
        ServerFrame::LegacyAnswer(_)
    ));
    let sockets = HttpConfig::default().connections.process;
    assert!(HttpConfig::default().message_bytes_max * sockets <= 10 << 30);
}

#[tokio::test]
async fn a_refused_native_request_says_what_an_error_body_says() {
    let world = World::open().await;
    let mut socket = world.connect(WS).await.unwrap();
    let subscribe = ClientBody::Subscribe {
        cursor: Some("rubbish".to_owned()),
    };
    socket.send(native(1, subscribe)).await.unwrap();
    let (1, ServerBody::Error(error)) = native_frame(&mut socket).await else {
        panic!("an error");
    };
    let details: serde_json::Value = serde_json::from_str(&error.details).unwrap();
    assert_eq!(details["checkpoint"], "/v1/sync/g/checkpoint");
}

#[tokio::test]
async fn a_subscription_hears_of_new_schemas_without_deltas_and_once() {
    let world = World::open().await;
    let mut socket = world.connect(&format!("{WS}?native=true")).await.unwrap();
    let begin = ClientBody::Subscribe { cursor: None };
    socket.send(native(1, begin)).await.unwrap();
    let (1, ServerBody::Live(first)) = native_frame(&mut socket).await else {
        panic!("a page");
    };
    let wider = br#"{"table":"todos","columns":[{"name":"title","type":"string"},{"name":"done","type":"boolean"}]}"#;
    assert_eq!(world.post("/v1/admin/schema/g", wider).await.status, 200);
    let (0, ServerBody::Live(page)) = native_frame(&mut socket).await else {
        panic!("a page");
    };
    let note = page.schemas.unwrap();
    assert!(page.deltas.is_empty() && note.changed);
    assert_eq!(note.tables["todos"], 2);
    assert_eq!(page.cursor, first.cursor, "nothing else has moved");
    socket.send(native(2, ClientBody::Ping)).await.unwrap();
    assert_eq!(native_frame(&mut socket).await, (2, ServerBody::Pong));
}

#[tokio::test]
async fn what_a_legacy_socket_was_sent_counts_for_its_own_pushes_and_for_no_other_connection() {
    let world = World::open().await;
    world.push("ada", &["r1"]).await;
    let by_clock = |row: &str| {
        let mut push = push("ben", &[row]);
        push.last_seen = lakesync_proto::Seq::from_u64(crate::http::world::NOW_MS << 16).unwrap();
        tagged(0x01, &encode_push_protobuf(&push))
    };
    let acked = async |socket: &mut Socket, row: &str| {
        socket.send(by_clock(row)).await.unwrap();
        match frame(socket).await {
            ServerFrame::LegacyAnswer(acked) => acked.server_hlc,
            frame => panic!("{frame:?}"),
        }
    };
    let mut ben = world.connect(WS).await.unwrap();
    ben.send(legacy_pull("ben", 0)).await.unwrap();
    let ServerFrame::LegacyAnswer(page) = frame(&mut ben).await else {
        panic!("an answer");
    };
    assert_eq!(page.server_hlc, 1);
    world.push("ada", &["r2"]).await;
    let ServerFrame::LegacyBroadcast(sent) = frame(&mut ben).await else {
        panic!("a broadcast");
    };
    assert_eq!(sent.server_hlc, 2);
    // What was sent before the answer has come before it.
    assert_eq!(acked(&mut ben, "b1").await, 3);
    // On another connection nothing tells whether it came at all.
    let mut again = world.connect(WS).await.unwrap();
    assert_eq!(acked(&mut again, "b2").await, 0);
}
