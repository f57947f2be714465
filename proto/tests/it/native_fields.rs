//! What only native clients read, in both encodings: it comes back, its JSON has the agreed keys, an answer without it
//! still reads, and a wrong one is refused by name.

use std::sync::Arc;

use lakesync_proto::limits::{PULL_MAX, PUSH_DELTAS_MAX, SCHEMA_NOTE_TABLES_MAX};
use lakesync_proto::{
    Cursor, DecodeErrorKind, Epoch, Notes, Op, Outcome, PageFrame, PullPage, Push, PushAck,
    Removed, RowDelta, SchemaNote, Seq, SeqDelta, ServerBody, ack_message, decode_ack_json,
    decode_ack_protobuf, decode_page_json, decode_page_protobuf, decode_push_json, encode_ack_json,
    encode_ack_protobuf, encode_page_frame, encode_page_json, encode_page_protobuf,
    encode_push_json, encode_server_frame, page_checksum, page_message, wire,
};
use proptest::prelude::*;
use prost::Message;

use crate::samples::{Tables, all_types, change, deltas, key, numbered, table, tables};

fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}

fn epoch() -> Epoch {
    Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap()
}

fn any_seq() -> impl Strategy<Value = Seq> {
    (0..=i64::MAX).prop_map(|seq| Seq::from_i64(seq).unwrap())
}

fn schema_note() -> impl Strategy<Value = SchemaNote> {
    let tables = prop::collection::btree_map("[A-Za-z][a-z0-9_]{0,5}", any::<u32>(), 0..4);
    (any::<u64>(), any::<bool>(), tables).prop_map(|(hash, changed, tables)| SchemaNote {
        hash,
        changed,
        tables: tables
            .into_iter()
            .map(|(table, version)| (table.parse().unwrap(), version))
            .collect(),
    })
}

fn notes() -> impl Strategy<Value = Notes> {
    let next = (any_seq(), any::<u64>(), any::<u64>()).prop_map(|(seq, rules, claims)| Cursor {
        epoch: epoch(),
        seq,
        rules,
        claims,
    });
    let (next, durable) = (prop::option::of(next), prop::option::of(any_seq()));
    let checksum = prop::option::of(any::<u64>());
    (next, checksum, durable, prop::option::of(schema_note())).prop_map(
        |(next, checksum, durable, schemas)| Notes {
            next,
            checksum,
            durable,
            schemas,
            resume: None,
        },
    )
}

fn removed() -> impl Strategy<Value = Vec<Removed>> {
    let one = (any_seq(), "[^\u{0}]{1,12}").prop_map(|(seq, row)| Removed {
        seq,
        table: "everything".parse().unwrap(),
        row_id: row.parse().unwrap(),
    });
    prop::collection::vec(one, 0..4)
}

proptest! {
    #[test]
    fn pages(deltas in deltas(), cursor in any_seq(), removed in removed(), notes in notes()) {
        let tables = tables([all_types()]);
        let deltas = numbered(deltas).into_iter().map(Arc::new).collect();
        let page = PullPage { deltas, removed, cursor, has_more: true, epoch: epoch(), notes };
        prop_assert_eq!(&decode_page_json(&encode_page_json(&page), &tables).unwrap(), &page);
        let bytes = encode_page_protobuf(&page);
        prop_assert_eq!(&decode_page_protobuf(&bytes, &tables).unwrap(), &page);
        prop_assert_eq!(&page_message(&page).encode_to_vec(), &bytes, "as the generated code writes it");
        for (kind, body) in [
            (PageFrame::Answer, ServerBody::Answer(page_message(&page))),
            (PageFrame::Live, ServerBody::Live(page_message(&page))),
        ] {
            prop_assert_eq!(encode_page_frame(300, kind, &page), encode_server_frame(300, body));
        }
    }

    #[test]
    fn acks(
        accepted in any::<u32>(),
        outcomes in prop::collection::vec((any::<bool>(), any_seq()), 0..5),
        dropped in prop::collection::btree_map(0_usize..5, 1_usize..3, 0..3),
        notes in notes(),
    ) {
        let outcome = |(new, seq)| if new { Outcome::Accepted(seq) } else { Outcome::Duplicate(seq) };
        let outcomes: Vec<Outcome> = outcomes.into_iter().map(outcome).collect();
        let names = |count| ["a", "b"][..count].iter().map(|name| name.parse().unwrap()).collect();
        let told = dropped.into_iter().filter(|(nth, _)| *nth < outcomes.len());
        let ignored = told.map(|(nth, count)| (nth, names(count))).collect();
        let ack = PushAck { accepted, cursor: seq(3), outcomes, ignored, epoch: epoch(), notes };
        prop_assert_eq!(&decode_ack_json(&encode_ack_json(&ack)).unwrap(), &ack);
        prop_assert_eq!(&decode_ack_protobuf(&encode_ack_protobuf(&ack)).unwrap(), &ack);
    }
}

fn page() -> PullPage {
    let key = key("todos", "r1", "c1", 5);
    let delta = RowDelta::new(Op::Update, key, vec![change("title", "x")]);
    let mut page = PullPage {
        deltas: vec![Arc::new(SeqDelta { seq: seq(4), delta })],
        removed: vec![Removed {
            seq: seq(6),
            table: "todos".parse().unwrap(),
            row_id: "r\"2".parse().unwrap(),
        }],
        cursor: seq(6),
        has_more: false,
        epoch: epoch(),
        notes: Notes::default(),
    };
    page.notes = Notes {
        next: Some(Cursor {
            epoch: epoch(),
            seq: seq(6),
            rules: 2,
            claims: 9,
        }),
        checksum: Some(page_checksum(&page)),
        durable: Some(seq(3)),
        schemas: Some(SchemaNote {
            hash: u64::MAX,
            changed: true,
            tables: vec![("a".parse().unwrap(), 1), ("todos".parse().unwrap(), 7)],
        }),
        resume: None,
    };
    page
}

fn todos() -> Tables {
    tables([table("todos", "title string", "")])
}

/// The text behind the epoch of an encoded answer.
fn behind_epoch(body: Vec<u8>) -> String {
    let text = String::from_utf8(body).unwrap();
    let (_, rest) = text
        .split_once(&format!(r#""epoch":"{}""#, epoch()))
        .unwrap();
    rest.to_owned()
}

#[test]
fn the_json_keys_are_the_agreed_ones_and_stand_last() {
    let page = page();
    let notes = format!(
        r#","cursor":"{}","checksum":"{}","durableSeq":"3","schemas":{{"hash":"18446744073709551615","changed":true,"tables":{{"a":1,"todos":7}}}}}}"#,
        page.notes.next.clone().unwrap(),
        page.notes.checksum.unwrap(),
    );
    let removed = r#","removed":[{"seq":"6","table":"todos","rowId":"r\"2"}]"#;
    assert_eq!(
        behind_epoch(encode_page_json(&page)),
        format!("{removed}{notes}")
    );
    let ack = PushAck {
        accepted: 0,
        cursor: seq(6),
        outcomes: Vec::new(),
        ignored: Default::default(),
        epoch: epoch(),
        notes: page.notes,
    };
    assert_eq!(behind_epoch(encode_ack_json(&ack)), notes);
}

#[test]
fn an_outcome_tells_which_columns_were_ignored_and_is_as_before_without() {
    let ack = PushAck {
        accepted: 2,
        cursor: seq(6),
        outcomes: vec![Outcome::Accepted(seq(5)), Outcome::Duplicate(seq(6))],
        ignored: [(1, vec!["note".parse().unwrap(), "tag".parse().unwrap()])].into(),
        epoch: epoch(),
        notes: Notes::default(),
    };
    let text = String::from_utf8(encode_ack_json(&ack)).unwrap();
    let expected = concat!(
        r#"[{"outcome":"accepted","seq":"5"},"#,
        r#"{"outcome":"duplicate","seq":"6","ignored":["note","tag"]}]"#
    );
    assert!(text.contains(expected), "{text}");
    for (bad, part) in [("7", "ignored"), ("[7]", "ignored"), (r#"[""]"#, "ignored")] {
        let text = text.replace(r#"["note","tag"]"#, bad);
        let fault = decode_ack_json(text.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(part), "{bad}: {fault}");
    }
    let mut message = ack_message(&ack);
    message.outcomes[0].ignored = vec!["c".to_owned(); 1_001];
    let fault = decode_ack_protobuf(&message.encode_to_vec()).unwrap_err();
    assert!(fault.to_string().contains("1001"), "{fault}");
}

#[test]
fn a_push_tells_its_schemas_in_a_key_that_may_be_missing() {
    let push = |schemas| Push {
        client_id: "c1".parse().unwrap(),
        deltas: Vec::new(),
        last_seen: seq(1),
        schemas,
    };
    let text = String::from_utf8(encode_push_json(&push(Some(u64::MAX)))).unwrap();
    let expected =
        r#"{"clientId":"c1","deltas":[],"lastSeenHlc":"1","schemas":"18446744073709551615"}"#;
    assert_eq!(text, expected);
    for known in [None, Some(0), Some(u64::MAX)] {
        let body = encode_push_json(&push(known));
        assert_eq!(
            decode_push_json(&body, &Tables::new()).unwrap(),
            push(known)
        );
    }
    let wrong = br#"{"clientId":"c1","deltas":[],"schemas":{}}"#;
    let error = decode_push_json(wrong, &Tables::new()).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (DecodeErrorKind::BadField, Some("schemas"))
    );
}

#[test]
fn answers_of_a_gateway_without_native_fields_still_read() {
    let epoch = epoch();
    let page = format!(r#"{{"deltas":[],"serverHlc":"12","hasMore":true,"epoch":"{epoch}"}}"#);
    let read = decode_page_json(page.as_bytes(), &todos()).unwrap();
    assert_eq!((read.removed, read.notes), (Vec::new(), Notes::default()));
    let old = wire::SyncResponse {
        server_hlc: 12,
        epoch: epoch.to_string(),
        ..wire::SyncResponse::default()
    };
    let ack = decode_ack_protobuf(&old.encode_to_vec()).unwrap();
    assert_eq!((ack.cursor, ack.accepted), (seq(12), 0));
    assert_eq!((ack.outcomes, ack.notes), (Vec::new(), Notes::default()));
}

#[test]
fn a_wrong_note_is_refused_by_name() {
    let cases = [
        (r#""cursor":"7""#, "cursor", r#""7""#),
        (r#""cursor":7"#, "cursor", "7"),
        (r#""checksum":"-1""#, "checksum", r#""-1""#),
        (
            r#""durableSeq":"9223372036854775808""#,
            "durableSeq",
            r#""9223372036854775808""#,
        ),
        (r#""removed":{}"#, "removed", "{}"),
        (
            r#""removed":[{"seq":"1","table":"a b","rowId":"r"}]"#,
            "table",
            r#""a b""#,
        ),
        (
            r#""removed":[{"seq":"1","table":"t","rowId":""}]"#,
            "rowId",
            r#""""#,
        ),
        (r#""schemas":[]"#, "schemas", "[]"),
        (r#""schemas":{"hash":"1","changed":1}"#, "changed", "1"),
        (
            r#""schemas":{"hash":"1","changed":true,"tables":{"a b":1}}"#,
            "tables",
            r#"{"a b""#,
        ),
        (
            r#""schemas":{"hash":"1","changed":true,"tables":{"a":-1}}"#,
            "tables",
            r#"{"a":-1"#,
        ),
    ];
    for (note, field, at) in cases {
        let body = format!(
            r#"{{"deltas":[],"serverHlc":"1","hasMore":false,"epoch":"{}",{note}}}"#,
            epoch()
        );
        let error = decode_page_json(body.as_bytes(), &todos()).unwrap_err();
        assert_eq!(error.field(), Some(field), "{note}: {error}");
        let place = error.position().unwrap();
        assert!(body[place..].starts_with(at), "{note}: {}", &body[place..]);
    }
}

type Break = fn(&mut wire::SyncResponse);

#[test]
fn a_wrong_note_is_refused_in_protobuf_too() {
    let cases: [(Break, &str); 6] = [
        (|m| m.cursor = "7".to_owned(), "cursor"),
        (|m| m.durable_seq = Some(u64::MAX), "durableSeq"),
        (|m| m.removed[0].table.clear(), "removed"),
        (|m| m.removed[0].seq = u64::MAX, "removed"),
        (
            |m| {
                m.schemas = Some(wire::SchemaNote {
                    tables: [("a b".to_owned(), 1)].into(),
                    ..Default::default()
                })
            },
            "schemas",
        ),
        (|m| m.epoch = String::new(), "epoch"),
    ];
    for (wrong, field) in cases {
        let mut message = wire::SyncResponse::decode(&*encode_page_protobuf(&page())).unwrap();
        wrong(&mut message);
        let error = decode_page_protobuf(&message.encode_to_vec(), &todos()).unwrap_err();
        assert_eq!(error.field(), Some(field), "{error}");
    }
    let unknown = wire::SyncResponse {
        epoch: epoch().to_string(),
        outcomes: vec![wire::Outcome {
            kind: 3,
            seq: 1,
            ignored: Vec::new(),
        }],
        ..wire::SyncResponse::default()
    };
    let error = decode_ack_protobuf(&unknown.encode_to_vec()).unwrap_err();
    assert_eq!(error.field(), Some("outcome"));
}

#[test]
fn long_lists_are_counted_not_built() {
    // A field's key and an empty message: a few bytes on the wire, a struct each in memory.
    let empty = |field: u32, count: usize| {
        let key = field << 3 | 2;
        let low = u8::try_from(key & 0x7f).unwrap() | 0x80;
        [low, u8::try_from(key >> 7).unwrap(), 0].repeat(count)
    };
    for (field, name, limit) in [(17, "removed", PULL_MAX), (21, "outcomes", PUSH_DELTAS_MAX)] {
        let error = decode_ack_protobuf(&empty(field, limit + 1)).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::TooMany);
        assert_eq!(error.field(), Some(name));
        let at_limit = decode_ack_protobuf(&empty(field, limit)).unwrap_err();
        assert_eq!(at_limit.field(), Some("epoch"), "the list is accepted");
    }
    let tables = (0..=SCHEMA_NOTE_TABLES_MAX).map(|i| (format!("t{i}"), 1));
    let note = wire::SchemaNote {
        tables: tables.collect(),
        ..wire::SchemaNote::default()
    };
    let many = wire::SyncResponse {
        schemas: Some(note),
        ..wire::SyncResponse::default()
    };
    let error = decode_ack_protobuf(&many.encode_to_vec()).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (DecodeErrorKind::TooMany, Some("tables"))
    );
}
