//! Live deltas over real sockets: where they begin, whose they are, and that nothing else comes through.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use futures::SinkExt as _;
use lakesync_proto::{
    ClientBody, ClientId, ColumnChange, ColumnName, Cursor, DeltaKey, Epoch, GatewayId, Hlc, Op,
    Push, RowDelta, RowId, Seq, ServerBody, ServerFrame, TableDefinition, TableName, Value,
    decode_server_frame, encode_client_frame, encode_push_protobuf, wire,
};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::auth::{MintClaims, Role, mint};
use crate::http::world::{NOW_MS, Socket, World, binary, secret};
use crate::rules::{Audience, RuleSet};

const WS: &str = "/v1/sync/g/ws";
/// How long a test waits for what has to come.
const SOON: Duration = Duration::from_secs(10);

/// A write of `client` at a time of its clock.
fn write(client: &str, row: &str, at: u16, cells: &[(&str, &str)]) -> RowDelta {
    let key = DeltaKey {
        table: TableName::parse("todos").unwrap(),
        row_id: RowId::parse(row).unwrap(),
        client_id: ClientId::parse(client).unwrap(),
        hlc: Hlc::new(NOW_MS, at).unwrap(),
    };
    let cells = cells.iter().map(|(column, value)| ColumnChange {
        column: ColumnName::parse(column).unwrap(),
        value: Value::from((*value).to_owned()),
    });
    RowDelta::new(Op::Insert, key, cells.collect())
}

fn batch(client: &str, deltas: Vec<RowDelta>) -> Push {
    Push {
        client_id: ClientId::parse(client).unwrap(),
        deltas,
        last_seen: Seq::ZERO,
        schemas: None,
    }
}

/// A world whose todos belong to an `org`; those who read them see their own org's.
async fn of_orgs() -> World {
    let world = World::secured().await;
    put_schema(&world, "g").await;
    let rules = br#"{"version":1,"buckets":[{"name":"b","tables":["todos"],
        "filters":[{"column":"org","op":"eq","value":"jwt:org"}]}]}"#;
    let rules = RuleSet::from_json(rules).unwrap();
    world.gateway().set_rules(rules).await.unwrap();
    world
}

async fn put_schema(world: &World, gateway: &str) {
    let definition = br#"{"table":"todos","columns":[{"name":"title","type":"string"},
        {"name":"org","type":"string"}]}"#;
    let definition = TableDefinition::from_json(definition).unwrap();
    let gateway = world.front.gateways().get(gateway).unwrap();
    gateway.put_schema(&definition).await.unwrap();
}

fn token(subject: &str, gateway: &str, org: &str) -> String {
    let gateways = vec![GatewayId::parse(gateway).unwrap()];
    let now_s = NOW_MS / 1_000;
    let subject = ClientId::parse(subject).unwrap();
    let claims = MintClaims::new(subject, gateways, Role::Client, now_s, now_s + 3_600);
    mint(&secret(), &claims.with_claim("org", json!(org)).unwrap())
}

/// What an event stream sends until `enough`.
async fn events(url: String, enough: impl Fn(&str) -> bool + Send + 'static) -> String {
    let read = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
        let mut body = agent.get(&url).call().unwrap().into_body().into_reader();
        let (mut bytes, mut byte) = (Vec::new(), [0]);
        loop {
            body.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
            if bytes.ends_with(b"\n\n") && enough(&String::from_utf8_lossy(&bytes)) {
                return String::from_utf8(bytes).unwrap();
            }
        }
    });
    let read = tokio::time::timeout(SOON, read).await;
    read.expect("an event has to come").unwrap()
}

async fn broadcast(socket: &mut Socket) -> wire::SyncResponse {
    let bytes = tokio::time::timeout(SOON, binary(socket)).await;
    match decode_server_frame(&bytes.expect("a frame has to come")).unwrap() {
        ServerFrame::LegacyBroadcast(sent) => sent,
        frame => panic!("{frame:?}"),
    }
}

fn changes(sent: &wire::SyncResponse) -> Vec<(i32, &str, usize)> {
    let deltas = sent.deltas.iter();
    deltas
        .map(|delta| (delta.op, delta.row_id.as_str(), delta.columns.len()))
        .collect()
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused_at_once_and_not_waited_on() {
    let world = World::open().await;
    world.push("ada", &["r1"]).await;
    let url = |place: &str| world.url(&format!("/v1/sync/g/live?clientId=ben&{place}"));
    let everything = Audience::everything();
    let cursor = |epoch: &str, seq: u64| Cursor {
        epoch: epoch.parse::<Epoch>().unwrap(),
        seq: Seq::from_u64(seq).unwrap(),
        rules: everything.rules(),
        claims: everything.claims(),
    };
    let own = world.gateway().epoch().to_string();
    let other = "3f0c9a52-7c1e-4e1b-9a55-000000000000";
    let bad = [cursor(other, 1), cursor(other, 0), cursor(&own, 2)];
    for cursor in &bad {
        let event = events(url(&format!("cursor={cursor}")), |_| true).await;
        assert!(event.starts_with("event: error"), "{cursor}: {event}");
        assert!(event.contains("CURSOR_EXPIRED"), "{event}");
    }
    let event = events(url("since=2"), |_| true).await;
    assert!(event.contains("CURSOR_EXPIRED"), "{event}");
    let mut socket = world.connect(&format!("{WS}?native=true")).await.unwrap();
    for cursor in bad {
        let subscribe = ClientBody::Subscribe {
            cursor: Some(cursor.to_string()),
        };
        let subscribe = Message::binary(encode_client_frame(1, subscribe));
        socket.send(subscribe).await.unwrap();
        match decode_server_frame(&binary(&mut socket).await).unwrap() {
            ServerFrame::Native {
                body: ServerBody::Error(error),
                ..
            } => assert_eq!(error.code, "CURSOR_EXPIRED"),
            frame => panic!("{frame:?}"),
        }
    }
    // Its own end is a place to wait at.
    let at_end = events(url(&format!("cursor={}", cursor(&own, 1))), |_| true);
    let (event, ()) = tokio::join!(at_end, async {
        while world.front.connections().counts().is_empty() {
            tokio::task::yield_now().await;
        }
        world.push("ada", &["r2"]).await;
    });
    assert!(event.contains("\"r2\""), "{event}");
}

#[tokio::test]
async fn a_writer_is_told_of_a_row_that_is_not_its_to_see_after_a_new_start_too() {
    let world = of_orgs().await;
    let own = write("ada", "lost", 1, &[("title", "mine"), ("org", "b")]);
    world.gateway().push(batch("ada", vec![own])).await.unwrap();
    let world = world.started_again().await;
    let seen = write("ben", "seen", 2, &[("title", "ours"), ("org", "a")]);
    world
        .gateway()
        .push(batch("ben", vec![seen]))
        .await
        .unwrap();
    let path = format!(
        "/v1/sync/g/live?clientId=ada&since=0&token={}",
        token("ada", "g", "a")
    );
    let event = events(world.url(&path), |_| true).await;
    assert!(event.contains("\"seen\""), "{event}");
    assert!(
        event.contains("\"lost\"") && event.contains("DELETE"),
        "{event}"
    );
}

#[tokio::test]
async fn a_row_that_is_given_whole_is_sent_to_whoever_wrote_it_last() {
    let world = of_orgs().await;
    let path = format!("{WS}?token={}", token("ada", "g", "a"));
    let mut ada = world.connect(&path).await.unwrap();
    let gateway = world.gateway();
    // Her own write brings a row of another org into her sight.
    let theirs = write("ben", "r1", 1, &[("title", "theirs"), ("org", "b")]);
    gateway.push(batch("ben", vec![theirs])).await.unwrap();
    let own = write("ada", "r1", 5, &[("org", "a")]);
    let own = encode_push_protobuf(&batch("ada", vec![own]));
    ada.send(Message::binary([&[0x01][..], &own].concat()))
        .await
        .unwrap();
    assert!(matches!(
        decode_server_frame(&binary(&mut ada).await).unwrap(),
        ServerFrame::LegacyAnswer(_)
    ));
    let whole = broadcast(&mut ada).await;
    let (delete, insert) = (3, 1);
    assert_eq!(changes(&whole), [(delete, "r1", 0), (insert, "r1", 2)]);
    // Her old write is the newest of a row that another's older one brings into her sight.
    let old = write("ada", "r2", 9, &[("title", "old")]);
    gateway.push(batch("ada", vec![old])).await.unwrap();
    let older = write("ben", "r2", 3, &[("org", "a")]);
    gateway.push(batch("ben", vec![older])).await.unwrap();
    let mut all = Vec::new();
    while !all.contains(&(insert, 2)) {
        let sent = broadcast(&mut ada).await;
        let sent = sent.deltas.iter().filter(|delta| delta.row_id == "r2");
        all.extend(sent.map(|delta| (delta.op, delta.columns.len())));
    }
    assert_eq!(all[all.len() - 2..], [(delete, 0), (insert, 2)]);
}

/// What one connection was sent.
struct Heard {
    name: String,
    own: &'static str,
    bytes: Vec<u8>,
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

async fn listen_to_events(url: String, own: &'static str) -> Heard {
    let last = format!("secret-{own}-last");
    let text = events(url.clone(), move |text| text.contains(&last)).await;
    Heard {
        name: url,
        own,
        bytes: text.into_bytes(),
    }
}

async fn listen(mut socket: Socket, name: &str, own: &'static str) -> Heard {
    let last = format!("secret-{own}-last");
    let mut bytes = Vec::new();
    while !holds(&bytes, &last) {
        let frame = tokio::time::timeout(SOON, binary(&mut socket)).await;
        bytes.extend(frame.expect("a frame has to come"));
    }
    Heard {
        name: name.to_owned(),
        own,
        bytes,
    }
}

/// Every kind of live connection of each reader, all of them standing.
async fn listen_in_every_way(world: &World) -> Vec<tokio::task::JoinHandle<Heard>> {
    // Two of equal claims share frames; the third has others; the fourth is another tenant.
    let readers = [
        ("a1", "g", "a"),
        ("a2", "g", "a"),
        ("b1", "g", "b"),
        ("h1", "h", "h"),
    ];
    let mut listening = Vec::new();
    for (subject, gateway, org) in readers {
        let token = token(subject, gateway, org);
        let ws = format!("/v1/sync/{gateway}/ws?token={token}");
        let legacy = world.connect(&ws).await.unwrap();
        let mut native = world.connect(&format!("{ws}&native=true")).await.unwrap();
        let subscribe = ClientBody::Subscribe { cursor: None };
        let subscribe = Message::binary(encode_client_frame(1, subscribe));
        native.send(subscribe).await.unwrap();
        binary(&mut native).await;
        listening.push(tokio::spawn(listen(legacy, "legacy WebSocket", org)));
        listening.push(tokio::spawn(listen(native, "native WebSocket", org)));
        for place in ["since=0", "cursor="] {
            let path = format!("/v1/sync/{gateway}/live?clientId={subject}&{place}&token={token}");
            let heard = listen_to_events(world.url(&path), org);
            listening.push(tokio::spawn(heard));
        }
    }
    // A legacy connection is sent what is new once it stands: all have been accepted when all are counted.
    let counted = || -> usize { world.front.connections().counts().values().sum() };
    while counted() < listening.len() {
        tokio::task::yield_now().await;
    }
    listening
}

#[tokio::test]
async fn no_byte_of_another_tenant_or_of_other_claims_is_in_any_live_frame() {
    let world = of_orgs().await;
    let other = GatewayId::parse("h").unwrap();
    world.front.gateways().create(other).await.unwrap();
    put_schema(&world, "h").await;
    let listening = listen_in_every_way(&world).await;
    let mut at = 0;
    let mut secret_of = |org: &str, row: &str, text: &str| {
        at += 1;
        let (client, title) = (format!("writer-{org}"), format!("secret-{org}-{text}"));
        let cells = [("title", title.as_str()), ("org", org)];
        write(&client, row, at, &cells)
    };
    let mut pushed = BTreeSet::new();
    for round in 0..5 {
        for gateway in ["g", "h"] {
            let orgs: &[&str] = if gateway == "g" { &["a", "b"] } else { &["h"] };
            let mut deltas = Vec::new();
            for org in orgs {
                deltas.push(secret_of(
                    org,
                    &format!("row-secret-{org}-{round}"),
                    &format!("{round}"),
                ));
                pushed.insert((*org, format!("secret-{org}-{round}")));
            }
            // One row goes from hand to hand.
            let owner = orgs[round % orgs.len()];
            deltas.push(secret_of(owner, "shared", &format!("moved-{round}")));
            if round == 4 {
                deltas.extend(
                    orgs.iter()
                        .map(|org| secret_of(org, &format!("row-{org}"), "last")),
                );
            }
            let gateway = world.front.gateways().get(gateway).unwrap();
            for delta in deltas {
                let client = delta.client_id.to_string();
                gateway.push(batch(&client, vec![delta])).await.unwrap();
            }
        }
    }
    for heard in listening {
        let Heard { name, own, bytes } = heard.await.unwrap();
        for (org, text) in &pushed {
            let there = holds(&bytes, text);
            assert_eq!(there, *org == own, "{name} of {own}: {text}");
        }
        for org in ["a", "b", "h"] {
            let secret = format!("secret-{org}");
            assert!(
                org == own || !holds(&bytes, &secret),
                "{name} of {own}: {secret}"
            );
        }
    }
}
