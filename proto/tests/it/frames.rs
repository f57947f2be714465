//! WebSocket messages: the contract's vectors, native frames both ways, and what is refused.

use std::sync::Arc;

use lakesync_proto::limits::PUSH_DELTAS_MAX;
use lakesync_proto::{
    ClientBody, ClientFrame, Epoch, FRAME_NATIVE, FRAME_PULL, FRAME_PUSH, FrameError, Notes, Op,
    PullPage, Push, PushAck, RowDelta, Seq, SeqDelta, ServerBody, ServerFrame, ack_message,
    decode_ack_message, decode_client_frame, decode_page_message, decode_push_message,
    decode_push_protobuf, decode_server_frame, encode_ack_protobuf, encode_broadcast,
    encode_client_frame, encode_page_protobuf, encode_server_frame, page_message, push_message,
    wire,
};
use proptest::prelude::*;
use prost::Message;

use crate::samples::{Tables, change, key, table, tables};
use crate::vectors::{self, bytes, hex};

fn todos() -> Tables {
    tables([table("todos", "title string", "")])
}

fn delta() -> RowDelta {
    let key = key("todos", "r1", "c1", 5);
    RowDelta::new(Op::Update, key, vec![change("title", "x")])
}

fn push() -> Push {
    Push {
        client_id: "c1".parse().unwrap(),
        deltas: vec![delta()],
        last_seen: Seq::ZERO,
        schemas: Some(3),
    }
}

fn page() -> PullPage {
    let seq = Seq::from_u64(9).unwrap();
    PullPage {
        deltas: vec![Arc::new(SeqDelta {
            seq,
            delta: delta(),
        })],
        removed: Vec::new(),
        cursor: seq,
        has_more: false,
        epoch: Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
        notes: Notes::default(),
    }
}

fn ack() -> PushAck {
    PushAck {
        accepted: 1,
        cursor: Seq::ZERO,
        outcomes: vec![lakesync_proto::Outcome::Accepted(Seq::ZERO.next())],
        ignored: Default::default(),
        epoch: page().epoch,
        notes: Notes::default(),
    }
}

#[test]
fn the_contracts_push_and_pull_are_read() {
    let message = bytes(&format!("01{}", vectors::PUSH));
    let ClientFrame::LegacyPush(push) = decode_client_frame(&message).unwrap() else {
        panic!("a push")
    };
    assert_eq!(hex(push), vectors::PUSH);
    // The vector's delta id is no hash; all else of it is read.
    let error = decode_push_protobuf(push, &todos()).unwrap_err();
    assert_eq!(error.field(), Some("deltaId"));

    let message = bytes(&format!("02{}", vectors::PULL));
    let pull = wire::SyncPull {
        client_id: "c1".to_owned(),
        since_hlc: 1,
        max_deltas: 100,
        ..wire::SyncPull::default()
    };
    assert_eq!(
        decode_client_frame(&message).unwrap(),
        ClientFrame::LegacyPull(pull)
    );
}

#[test]
fn the_contracts_answer_and_broadcast_are_read() {
    let answer = decode_server_frame(&bytes(vectors::RESPONSE)).unwrap();
    let ServerFrame::LegacyAnswer(answer) = answer else {
        panic!("an answer")
    };
    assert_eq!(hex(&answer.encode_to_vec()), vectors::RESPONSE);
    let ServerFrame::LegacyBroadcast(page) =
        decode_server_frame(&bytes(vectors::BROADCAST)).unwrap()
    else {
        panic!("a broadcast")
    };
    assert_eq!(page.deltas, [vectors::delta()]);
}

#[test]
fn what_the_gateway_writes_for_legacy_clients_has_the_contracts_shape() {
    let page = page();
    let broadcast = encode_broadcast(&page);
    assert_eq!(broadcast[0], 0x03);
    assert_eq!(broadcast[1..], encode_page_protobuf(&page));
    let read = |bytes: &[u8]| decode_server_frame(bytes).unwrap();
    let message = page_message(&page);
    assert_eq!(
        read(&broadcast),
        ServerFrame::LegacyBroadcast(message.clone())
    );
    assert_eq!(
        read(&encode_page_protobuf(&page)),
        ServerFrame::LegacyAnswer(message)
    );
    // The shortest answer there is: cursor 0, no delta, nothing but the epoch.
    let ack = PushAck {
        accepted: 0,
        outcomes: Vec::new(),
        ..ack()
    };
    assert_eq!(
        read(&encode_ack_protobuf(&ack)),
        ServerFrame::LegacyAnswer(ack_message(&ack))
    );
}

#[test]
fn native_requests_come_back_with_their_number() {
    let pull = wire::SyncPull {
        client_id: "c1".to_owned(),
        cursor: "abc".to_owned(),
        native: true,
        ..wire::SyncPull::default()
    };
    let bodies = [
        ClientBody::Push(push_message(&push())),
        ClientBody::Pull(pull),
        ClientBody::Subscribe { cursor: None },
        ClientBody::Subscribe {
            cursor: Some(String::new()),
        },
        ClientBody::Ping,
    ];
    for (request_id, body) in [1, 0, 7, 300, u64::MAX].into_iter().zip(bodies) {
        let message = encode_client_frame(request_id, body.clone());
        assert_eq!(message[0], FRAME_NATIVE);
        let frame = ClientFrame::Native { request_id, body };
        assert_eq!(decode_client_frame(&message).unwrap(), frame);
        assert!(
            decode_server_frame(&message).is_err(),
            "a client is no gateway"
        );
    }
}

#[test]
fn native_answers_come_back_with_their_number() {
    let error = wire::ErrorBody {
        code: "LATE_DELTA".to_owned(),
        message: "it is late".to_owned(),
        index: Some(0),
        retry_after_ms: None,
        details: r#"{"tables":["todos"]}"#.to_owned(),
    };
    let bodies = [
        ServerBody::Answer(ack_message(&ack())),
        ServerBody::Live(page_message(&page())),
        ServerBody::Error(error),
        ServerBody::Pong,
        ServerBody::Expiring { seconds: 60 },
    ];
    for (request_id, body) in (0..).zip(bodies) {
        let message = encode_server_frame(request_id, body.clone());
        assert_eq!(message[0], FRAME_NATIVE);
        let frame = ServerFrame::Native { request_id, body };
        assert_eq!(decode_server_frame(&message).unwrap(), frame);
        assert!(
            decode_client_frame(&message).is_err(),
            "a gateway is no client"
        );
    }
}

#[test]
fn the_messages_inside_frames_are_the_domains() {
    let tables = todos();
    assert_eq!(
        decode_push_message(&push_message(&push()), &tables).unwrap(),
        push()
    );
    assert_eq!(
        decode_page_message(&page_message(&page()), &tables).unwrap(),
        page()
    );
    assert_eq!(decode_ack_message(&ack_message(&ack())).unwrap(), ack());
}

#[test]
fn what_is_no_message_is_refused_with_its_close_code() {
    for short in [&[][..], &[1], &[FRAME_NATIVE]] {
        let error = decode_client_frame(short).unwrap_err();
        let bytes = short.len();
        assert_eq!(error, FrameError::TooShort { bytes });
        assert_eq!(error.close_code(), 1002);
    }
    for tag in [0, 3, 4, 5, 0x0f, 0x11, 0x7b, 0xff] {
        let error = decode_client_frame(&[tag, 0]).unwrap_err();
        assert_eq!(error, FrameError::UnknownTag { tag });
        assert_eq!(error.close_code(), 1002);
    }
    let undecodable: [&[u8]; 4] = [
        &[FRAME_PULL, 0xff],
        &[FRAME_NATIVE, 0xff],
        // A request id and no body; an unknown body.
        &[FRAME_NATIVE, 8, 1],
        &[FRAME_NATIVE, 8, 1, 0xaa, 1, 0],
    ];
    for message in undecodable {
        let error = decode_client_frame(message).unwrap_err();
        assert!(matches!(error, FrameError::Decode(_)), "{error}");
        assert_eq!(error.close_code(), 1008);
    }
}

#[test]
fn a_frame_is_counted_before_it_is_built() {
    // SyncPush with empty deltas, two bytes each.
    let deltas = |count: usize| [18, 0].repeat(count);
    let frame = |pushes: &[Vec<u8>]| {
        let mut message = vec![FRAME_NATIVE];
        for push in pushes {
            message.push(18);
            prost::encode_length_delimiter(push.len(), &mut message).unwrap();
            message.extend(push);
        }
        message
    };
    let refused = |pushes: &[Vec<u8>]| decode_client_frame(&frame(pushes)).unwrap_err().to_string();
    let many = refused(&[deltas(PUSH_DELTAS_MAX + 1)]);
    assert!(many.contains("Too many deltas: 10001"), "{many}");
    let two = refused(&[deltas(PUSH_DELTAS_MAX), deltas(1)]);
    assert!(two.contains("one thing, not several"), "{two}");
    assert!(decode_client_frame(&frame(&[deltas(PUSH_DELTAS_MAX)])).is_ok());
    let legacy = [vec![FRAME_PUSH], deltas(PUSH_DELTAS_MAX + 1)].concat();
    let ClientFrame::LegacyPush(push) = decode_client_frame(&legacy).unwrap() else {
        panic!("a push")
    };
    assert!(decode_push_protobuf(push, &todos()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(tag in prop::sample::select(vec![0, 1, 2, 3, 16]), rest in any::<Vec<u8>>()) {
        let message = [vec![tag], rest].concat();
        let _ = decode_client_frame(&message);
        let _ = decode_server_frame(&message);
    }

    #[test]
    fn no_damaged_frame_makes_a_decoder_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut message = encode_client_frame(5, ClientBody::Push(push_message(&push())));
        let at = at.index(message.len());
        message[at] = byte;
        if let Ok(ClientFrame::Native { body: ClientBody::Push(push), .. }) = decode_client_frame(&message) {
            let _ = decode_push_message(&push, &todos());
        }
    }
}
