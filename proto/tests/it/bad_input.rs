//! Nothing a peer can send makes a decoder panic, and what is refused is named.

use DecodeErrorKind::{BadField, MissingField, TooMany, UnknownColumn, UnknownTable, WrongType};
use lakesync_proto::limits::{COLUMNS_MAX, PUSH_DELTAS_MAX};
use lakesync_proto::wire::{ColumnDelta, RowDelta as WireDelta, SyncPush};
use lakesync_proto::{
    DecodeError, DecodeErrorKind, ErrorCode, Notes, Op, PullPage, Push, RowDelta, Seq,
    decode_ack_json, decode_batch, decode_page_json, decode_page_protobuf, decode_push_json,
    decode_push_protobuf, encode_batch, encode_page_json, encode_page_protobuf, encode_push_json,
    encode_push_protobuf, verify_delta,
};
use proptest::prelude::*;
use prost::Message;

use crate::samples::{Tables, all_types, change, deltas, json, key, numbered, table, tables};

fn todos() -> Tables {
    tables([table("todos", "title string, done boolean, n long", "")])
}

fn good() -> String {
    let delta = RowDelta::new(
        Op::Update,
        key("todos", "r1", "c1", 5),
        vec![change("title", "x"), change("n", 3)],
    );
    let push = Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta.clone(), delta],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    String::from_utf8(encode_push_json(&push)).unwrap()
}

/// Breaks the second delta of a good push.
fn broken(from: &str, to: &str) -> (String, DecodeError) {
    let good = good();
    let (at, _) = good.rmatch_indices(from).next().unwrap();
    let body = format!("{}{to}{}", &good[..at], &good[at + from.len()..]);
    let error = decode_push_json(body.as_bytes(), &todos()).unwrap_err();
    (body, error)
}

/// The columns of a good delta.
const COLUMNS: &str = r#"[{"column":"title","value":"x"},{"column":"n","value":3}]"#;

/// What is broken, how, the kind, the field, and where the fault begins.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, DecodeErrorKind, &str, &str)] = &[
    (r#""UPDATE""#, r#""UPSERT""#, BadField, "op", r#""UPSERT""#),
    (r#""UPDATE""#, "2", BadField, "op", "2,"),
    (r#""op":"UPDATE","#, "", MissingField, "op", r#"{"table""#),
    (r#""todos""#, r#""a b""#, BadField, "table", r#""a b""#),
    (r#""todos""#, r#""lists""#, UnknownTable, "table", r#""lists""#),
    (r#""r1""#, r#""""#, BadField, "rowId", r#""""#),
    (r#""r1""#, "null", MissingField, "rowId", r#"{"op""#),
    (r#""r1""#, r#""\u0000""#, BadField, "rowId", r#""\u0000""#),
    (r#""r1""#, r#""\ud800""#, BadField, "rowId", r#""\ud800""#),
    (r#""c1""#, r#""\u0007""#, BadField, "clientId", r#""\u0007""#),
    (r#""hlc":"5""#, r#""hlc":"-5""#, BadField, "hlc", r#""-5""#),
    (r#""hlc":"5""#, r#""hlc":5.0"#, BadField, "hlc", "5.0"),
    (r#""hlc":"5""#, r#""hlc":9223372036854775808"#, BadField, "hlc", "9223372036854775808"),
    (r#""hlc":"5""#, r#""hlc":true"#, BadField, "hlc", "true"),
    (r#""deltaId":""#, r#""deltaId":"z"#, BadField, "deltaId", r#""z"#),
    (r#""deltaId":""#, r#""deltaId":null,"x":""#, MissingField, "deltaId", r#"{"op""#),
    (COLUMNS, "{}", BadField, "columns", "{}"),
    (COLUMNS, "[1]", BadField, "columns", "1]"),
    (COLUMNS, r#"[["title","x"]]"#, BadField, "columns", r#"["title""#),
    (r#""column":"n""#, r#""column":"m""#, UnknownColumn, "m", "3}"),
    (r#""column":"n","#, "", MissingField, "column", r#"{"value":3}"#),
    (r#","value":3"#, "", MissingField, "value", r#"{"column":"n"}"#),
    (r#""value":3"#, r#""value":"three""#, WrongType, "n", r#""three""#),
    (r#""value":3"#, r#""value":{"a":1}"#, WrongType, "n", r#"{"a":1}"#),
    (r#""value":3"#, r#""value":3,"value":4"#, BadField, "columns", r#"{"column":"n""#),
];

#[test]
fn an_error_tells_delta_table_row_field_and_byte() {
    for (from, to, kind, field, place) in BROKEN {
        let (body, error) = broken(from, to);
        assert_eq!(
            (error.kind(), error.field()),
            (*kind, Some(*field)),
            "{to}: {error}"
        );
        assert_eq!(error.delta(), Some(1), "{to}: {error}");
        let position = error.position().unwrap();
        assert!(
            body[position..].starts_with(place),
            "{to}: there is {}",
            &body[position..]
        );
        assert!(
            position > body.find("},{").unwrap(),
            "{to}: the second delta is meant"
        );
        // The table and the row are told as they were sent, wherever there is text to tell.
        let table = Some("todos").filter(|_| *field != "table");
        assert_eq!(
            error.table().filter(|_| *field != "table"),
            table,
            "{to}: {error}"
        );
        let row = Some("r1").filter(|_| *field != "rowId");
        assert_eq!(
            error.row().filter(|_| *field != "rowId"),
            row,
            "{to}: {error}"
        );
    }
    let many = format!("[{}]", vec!["1"; COLUMNS_MAX + 1].join(","));
    let (_, error) = broken(COLUMNS, &many);
    assert_eq!(
        (error.kind(), error.reason()),
        (TooMany, "Too many columns: 1001, 1000 are allowed")
    );
}

#[test]
fn an_error_reads_well() {
    let (_, error) = broken("\"value\":3", "\"value\":\"three\"");
    let position = error.position().unwrap();
    let expected = format!(
        "delta 1, table \"todos\", row \"r1\", field \"n\": \"three\" is no long: an integer of 64 bits, as a number or \
         as decimal digits in a string, is needed (byte {position})"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.code(), ErrorCode::SchemaError);
}

#[test]
fn a_body_that_is_no_push_is_refused() {
    let cases = [
        ("", "Invalid JSON: the body is empty", None),
        (" \n ", "Invalid JSON: the body is empty", None),
        ("null", "expected an object", Some(0)),
        ("[\"c\",[],\"0\"]", "expected an object", Some(0)),
        ("{", "Invalid JSON: EOF", Some(0)),
        (
            "{\"clientId\":\"c\",\n\"deltas\":[}",
            "Invalid JSON: expected value",
            Some(27),
        ),
        ("{} {}", "Invalid JSON: trailing", Some(3)),
        ("{}", "Missing required fields: clientId", None),
        (
            "{\"clientId\":\"c\"}",
            "Missing required fields: deltas",
            None,
        ),
        (
            "{\"clientId\":null,\"deltas\":[]}",
            "Missing required fields: clientId",
            None,
        ),
        ("{\"clientId\":\"\",\"deltas\":[]}", "non-empty", Some(12)),
        (
            "{\"clientId\":\"c\",\"deltas\":{}}",
            "expected an array",
            Some(25),
        ),
        (
            "{\"clientId\":\"c\",\"deltas\":[{}]}",
            "Missing required fields: op",
            Some(26),
        ),
        (
            "{\"clientId\":\"c\",\"deltas\":[null]}",
            "expected an object",
            Some(26),
        ),
        (
            "{\"clientId\":\"c\",\"deltas\":[],\"lastSeenHlc\":\"x\"}",
            "unsigned 64-bit",
            Some(42),
        ),
        (
            "{\"clientId\":\"c\",\"clientId\":\"c\",\"deltas\":[]}",
            "duplicate field",
            Some(0),
        ),
    ];
    for (body, reason, position) in cases {
        let error = decode_push_json(body.as_bytes(), &todos()).unwrap_err();
        assert!(error.reason().contains(reason), "{body}: {error}");
        assert_eq!(error.position(), position, "{body}: {error}");
        assert_eq!(error.code(), ErrorCode::ValidationError);
    }
    let error = decode_push_json(b"{\"clientId\":\"\xff\"}", &todos()).unwrap_err();
    assert_eq!(
        (error.position(), error.kind()),
        (Some(13), DecodeErrorKind::Malformed)
    );
}

#[test]
fn kindness_where_the_contract_wants_it() {
    let push = decode_push_json(b"{\"clientId\":\"c\",\"deltas\":[]}", &todos()).unwrap();
    assert_eq!((push.deltas.len(), push.last_seen), (0, Seq::ZERO));
    let integer = good()
        .replace("\"hlc\":\"5\"", "\"hlc\": 5")
        .replace("\"lastSeenHlc\":\"0\"", "\"lastSeenHlc\":0");
    let unknown = integer
        .replace("{\"op\"", "{\"later\":[1,{}],\"op\"")
        .replace("{\"clientId\"", "{\"x\":1,\"clientId\"");
    assert_eq!(
        decode_push_json(unknown.as_bytes(), &todos()).unwrap(),
        decode_push_json(good().as_bytes(), &todos()).unwrap()
    );
}

#[test]
fn user_values_are_left_alone_whatever_their_key_is_called() {
    let schema = table("todos", "a_hlc string, hlc string, j json", "");
    let columns = vec![
        change("a_hlc", "007"),
        change("hlc", ""),
        change(
            "j",
            lakesync_proto::Value::json("{\"x_hlc\":\"007\",\"hlc\":\"1\"}").unwrap(),
        ),
    ];
    let delta = RowDelta::new(Op::Update, key("todos", "r", "c", 1), columns);
    let push = Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    assert_eq!(
        decode_push_json(&encode_push_json(&push), &tables([schema])).unwrap(),
        push
    );
}

#[test]
fn too_many_deltas_are_counted_not_built() {
    let body = format!(
        "{{\"clientId\":\"c\",\"deltas\":[{}]}}",
        vec!["0"; PUSH_DELTAS_MAX + 1].join(",")
    );
    let error = decode_push_json(body.as_bytes(), &todos()).unwrap_err();
    assert_eq!(error.reason(), "Too many deltas: 10001, 10000 are allowed");
    // Field 2, length 0: two bytes each.
    let protobuf = [18, 0].repeat(PUSH_DELTAS_MAX + 1);
    let error = decode_push_protobuf(&protobuf, &todos()).unwrap_err();
    assert_eq!(error.reason(), "Too many deltas: 10001, 10000 are allowed");
    let columns = vec![ColumnDelta::default(); COLUMNS_MAX + 1];
    let wide = SyncPush {
        deltas: vec![WireDelta {
            columns,
            ..WireDelta::default()
        }],
        ..SyncPush::default()
    };
    let error = decode_push_protobuf(&wide.encode_to_vec(), &todos()).unwrap_err();
    assert_eq!(error.kind(), DecodeErrorKind::TooMany);
}

type Break = fn(&mut WireDelta);

/// How a delta is broken, the kind, and the field.
#[rustfmt::skip]
const BROKEN_PROTOBUF: &[(Break, DecodeErrorKind, &str)] = &[
    (|delta| delta.op = 0, BadField, "op"),
    (|delta| delta.op = 4, BadField, "op"),
    (|delta| delta.table.clear(), MissingField, "table"),
    (|delta| delta.table = "lists".to_owned(), UnknownTable, "table"),
    (|delta| delta.row_id.clear(), MissingField, "rowId"),
    (|delta| delta.client_id = "\u{7}".to_owned(), BadField, "clientId"),
    (|delta| delta.hlc = u64::MAX, BadField, "hlc"),
    (|delta| delta.delta_id = "d1".to_owned(), BadField, "deltaId"),
    (|delta| delta.columns[0].value.clear(), MissingField, "value"),
    (|delta| delta.columns[0].value = b"{".to_vec(), BadField, "n"),
    (|delta| delta.columns[0].value = b"\"\xff\"".to_vec(), BadField, "n"),
    (|delta| delta.columns[0].value = b"true".to_vec(), WrongType, "n"),
    (|delta| delta.columns[0].column = "m".to_owned(), UnknownColumn, "m"),
];

fn protobuf(second: WireDelta) -> Vec<u8> {
    let deltas = vec![wire_delta(), second];
    SyncPush {
        client_id: "c1".to_owned(),
        deltas,
        ..SyncPush::default()
    }
    .encode_to_vec()
}

fn wire_delta() -> WireDelta {
    let value = b"3".to_vec();
    WireDelta {
        op: 2,
        table: "todos".to_owned(),
        row_id: "r1".to_owned(),
        columns: vec![ColumnDelta {
            column: "n".to_owned(),
            value,
            ..ColumnDelta::default()
        }],
        hlc: 5,
        client_id: "c1".to_owned(),
        delta_id: "00".repeat(32),
        ..WireDelta::default()
    }
}

#[test]
fn protobuf_faults_are_named_too() {
    for (breaks, kind, field) in BROKEN_PROTOBUF {
        let mut delta = wire_delta();
        breaks(&mut delta);
        let error = decode_push_protobuf(&protobuf(delta), &todos()).unwrap_err();
        let found = (error.kind(), error.field(), error.delta());
        assert_eq!(found, (*kind, Some(*field), Some(1)), "{error}");
    }
    let empty = decode_push_protobuf(b"", &todos()).unwrap_err();
    assert_eq!(empty.field(), Some("clientId"));
}

#[test]
fn a_cut_protobuf_loses_whole_deltas_or_is_refused() {
    let whole = protobuf(wire_delta());
    assert_eq!(
        decode_push_protobuf(&whole, &todos()).unwrap().deltas.len(),
        2
    );
    for cut in 1..whole.len() {
        if let Ok(push) = decode_push_protobuf(&whole[..cut], &todos()) {
            assert!(push.deltas.len() < 2);
        }
    }
}

#[test]
fn json_bombs_are_refused() {
    let schemas = tables([table("todos", "j json", "")]);
    let delta = RowDelta::new(
        Op::Update,
        key("todos", "r", "c", 1),
        vec![change("j", lakesync_proto::Value::Null)],
    );
    let push = Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let body = String::from_utf8(encode_push_json(&push)).unwrap();
    let deep = format!(
        "\"value\":{}{}",
        "[".repeat(1_000_000),
        "]".repeat(1_000_000)
    );
    let error =
        decode_push_json(body.replace("\"value\":null", &deep).as_bytes(), &schemas).unwrap_err();
    assert_eq!(
        (error.kind(), error.field()),
        (DecodeErrorKind::WrongType, Some("j"))
    );
    let ignored = body.replace("\"value\":null", &deep.replace("value", "x"));
    assert_eq!(
        decode_push_json(ignored.as_bytes(), &schemas)
            .unwrap_err()
            .field(),
        Some("value")
    );
}

#[test]
fn a_page_needs_its_arrival_numbers() {
    let body = good().replace("\"clientId\":\"c1\",\"deltas\"", "\"deltas\"");
    let body = body.replace(
        "\"lastSeenHlc\":\"0\"",
        "\"serverHlc\":\"0\",\"hasMore\":false,\"epoch\":\"e\"",
    );
    let error = decode_page_json(body.as_bytes(), &todos()).unwrap_err();
    assert_eq!(error.field(), Some("epoch"));
    let body = body.replace(
        "\"epoch\":\"e\"",
        "\"epoch\":\"0190163d-8694-739b-aea5-966c26f8ad91\"",
    );
    let error = decode_page_json(body.as_bytes(), &todos()).unwrap_err();
    assert_eq!((error.field(), error.delta()), (Some("seq"), Some(0)));
}

/// Decodes bytes as everything there is; what passes must be fit to be checked and written again.
fn decode_all(bytes: &[u8], tables: &Tables) {
    for push in [
        decode_push_json(bytes, tables),
        decode_push_protobuf(bytes, tables),
    ]
    .into_iter()
    .flatten()
    {
        for delta in &push.deltas {
            let _ = verify_delta(delta, &tables[&delta.table]);
        }
        assert_eq!(
            decode_push_json(&encode_push_json(&push), tables).unwrap(),
            push
        );
        assert_eq!(
            decode_push_protobuf(&encode_push_protobuf(&push), tables).unwrap(),
            push
        );
    }
    let errors = [
        decode_page_json(bytes, tables).err(),
        decode_page_protobuf(bytes, tables).err(),
        decode_batch(bytes, tables).err(),
        decode_ack_json(bytes).err(),
    ];
    for error in errors.into_iter().flatten() {
        assert!(error.to_string().len() < 2_000, "an error is no echo");
    }
}

fn encoded(deltas: Vec<RowDelta>) -> [Vec<u8>; 5] {
    let client_id = "c".parse().unwrap();
    let epoch = "0190163d-8694-739b-aea5-966c26f8ad91".parse().unwrap();
    let push = Push {
        client_id,
        deltas: deltas.clone(),
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let batch = numbered(deltas);
    let blob = encode_batch(&batch);
    let deltas = batch.into_iter().map(std::sync::Arc::new).collect();
    let page = PullPage {
        deltas,
        cursor: Seq::ZERO,
        removed: Vec::new(),
        has_more: false,
        epoch,
        notes: Notes::default(),
    };
    [
        encode_push_json(&push),
        encode_push_protobuf(&push),
        encode_page_json(&page),
        encode_page_protobuf(&page),
        blob,
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let tables = tables([all_types()]);
        decode_all(&bytes, &tables);
        decode_all(text.as_bytes(), &tables);
    }

    #[test]
    fn arbitrary_json_in_every_field(field in 0..12_usize, json in json(3)) {
        let mut body: serde_json::Value = serde_json::from_str(&good()).unwrap();
        let delta = "/deltas/0".to_owned();
        let path = match field {
            0 => String::new(),
            1 => "/clientId".to_owned(),
            2 => "/deltas".to_owned(),
            3 => "/lastSeenHlc".to_owned(),
            4 => delta,
            5 => delta + "/op",
            6 => delta + "/table",
            7 => delta + "/rowId",
            8 => delta + "/columns",
            9 => delta + "/columns/0",
            10 => delta + "/columns/0/value",
            _ => delta + "/hlc",
        };
        *body.pointer_mut(&path).unwrap() = json;
        decode_all(body.to_string().as_bytes(), &todos());
    }

    #[test]
    fn mutated_messages(
        deltas in deltas(),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let tables = tables([all_types()]);
        for mut bytes in encoded(deltas) {
            if bytes.is_empty() {
                continue;
            }
            decode_all(&bytes[..cut.index(bytes.len())], &tables);
            for (place, byte) in &places {
                let at = place.index(bytes.len());
                bytes[at] = *byte;
            }
            decode_all(&bytes, &tables);
        }
    }
}
