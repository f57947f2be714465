//! What is encoded is decoded, in every encoding, for every type.

use std::sync::Arc;

use lakesync_proto::wire::DeltaBatch;
use lakesync_proto::{
    ClientId, ColumnChange, Epoch, Notes, Op, Outcome, PullPage, Push, PushAck, RowDelta, Seq,
    SeqDelta, TableDefinition, Value, decode_ack_json, decode_batch, decode_page_json,
    decode_page_protobuf, decode_push_json, decode_push_protobuf, encode_ack_json, encode_batch,
    encode_page_json, encode_page_protobuf, encode_push_json, encode_push_protobuf, push_message,
};
use proptest::prelude::*;
use prost::Message;

use crate::samples::{all_types, change, deltas, key, numbered, table, tables};

fn seq() -> impl Strategy<Value = Seq> {
    prop_oneof![
        Just(Seq::ZERO),
        Just(Seq::MAX),
        (0..=i64::MAX).prop_map(|seq| Seq::from_i64(seq).unwrap())
    ]
}

fn epoch() -> Epoch {
    Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap()
}

fn push() -> impl Strategy<Value = Push> {
    let client = "[^\\p{Cc}]{1,9}".prop_map(|text| ClientId::parse(&text).unwrap());
    let schemas = prop::option::of(any::<u64>());
    (client, deltas(), seq(), schemas).prop_map(|(client_id, deltas, last_seen, schemas)| Push {
        client_id,
        deltas,
        last_seen,
        schemas,
    })
}

proptest! {
    #[test]
    fn pushes(push in push()) {
        let tables = tables([all_types()]);
        prop_assert_eq!(&decode_push_json(&encode_push_json(&push), &tables).unwrap(), &push);
        let bytes = encode_push_protobuf(&push);
        prop_assert_eq!(&decode_push_protobuf(&bytes, &tables).unwrap(), &push);
        prop_assert_eq!(&push_message(&push).encode_to_vec(), &bytes, "as the generated code writes it");
    }

    #[test]
    fn pages(deltas in deltas(), cursor in seq(), has_more in any::<bool>()) {
        let tables = tables([all_types()]);
        let deltas = numbered(deltas).into_iter().map(Arc::new).collect();
        let page = PullPage { deltas, removed: Vec::new(), cursor, has_more, epoch: epoch(), notes: Notes::default() };
        prop_assert_eq!(&decode_page_json(&encode_page_json(&page), &tables).unwrap(), &page);
        prop_assert_eq!(&decode_page_protobuf(&encode_page_protobuf(&page), &tables).unwrap(), &page);
    }

    #[test]
    fn batches(deltas in deltas()) {
        let batch = numbered(deltas);
        let blob = encode_batch(&batch);
        prop_assert_eq!(decode_batch(&blob, &tables([all_types()])).unwrap(), batch);
        let message = DeltaBatch::decode(blob.as_slice()).unwrap();
        prop_assert_eq!(message.encode_to_vec(), blob, "as the generated code writes it");
    }

    #[test]
    fn acks(accepted in any::<u32>(), cursor in seq(), outcomes in prop::collection::vec((any::<bool>(), seq()), 0..5)) {
        let outcome = |(new, seq)| if new { Outcome::Accepted(seq) } else { Outcome::Duplicate(seq) };
        let outcomes = outcomes.into_iter().map(outcome).collect();
        let ack = PushAck { accepted, cursor, outcomes, ignored: Default::default(), epoch: epoch(), notes: Notes::default() };
        prop_assert_eq!(decode_ack_json(&encode_ack_json(&ack)).unwrap(), ack);
    }

    #[test]
    fn what_we_write_is_json_for_everybody(push in push()) {
        let json: serde_json::Value = serde_json::from_slice(&encode_push_json(&push)).unwrap();
        // Spaces and the order of keys mean nothing.
        let pretty = serde_json::to_vec_pretty(&json).unwrap();
        prop_assert_eq!(decode_push_json(&pretty, &tables([all_types()])).unwrap(), push);
    }
}

#[test]
fn the_json_forms_are_the_contracts() {
    let delta = RowDelta::new(
        Op::Insert,
        key("todos", "r\"1", "c1", 111_411_200_000_000_001),
        vec![
            change("title", "x"),
            change("a_hlc", "007"),
            change("big", (1_i64 << 53) + 1),
            change("none", Value::Null),
            change("zero", -0.0),
        ],
    );
    let written = format!(
        r#"{{"op":"INSERT","table":"todos","rowId":"r\"1","clientId":"c1","columns":[{}],"hlc":"{}","deltaId":"{}""#,
        [
            r#"{"column":"title","value":"x"}"#,
            r#"{"column":"a_hlc","value":"007"}"#,
            r#"{"column":"big","value":"9007199254740993"}"#,
            r#"{"column":"none","value":null}"#,
            r#"{"column":"zero","value":-0.0}"#,
        ]
        .join(","),
        111_411_200_000_000_001_u64,
        delta.delta_id
    );
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let client_id = delta.client_id.clone();
    let push = Push {
        client_id,
        deltas: vec![delta.clone()],
        last_seen: Seq::from_u64(9).unwrap(),
        schemas: None,
    };
    let expected = format!(r#"{{"clientId":"c1","deltas":[{written}}}],"lastSeenHlc":"9"}}"#);
    assert_eq!(text(encode_push_json(&push)), expected);

    let seq = Seq::from_u64(4).unwrap();
    let page = PullPage {
        deltas: vec![Arc::new(SeqDelta { seq, delta })],
        cursor: seq,
        removed: Vec::new(),
        has_more: false,
        epoch: epoch(),
        notes: Notes::default(),
    };
    let expected = format!(
        r#"{{"deltas":[{written},"seq":"4"}}],"serverHlc":"4","hasMore":false,"epoch":"{}"}}"#,
        epoch()
    );
    assert_eq!(text(encode_page_json(&page)), expected);

    let outcomes = vec![Outcome::Accepted(seq), Outcome::Duplicate(Seq::ZERO.next())];
    let ack = PushAck {
        accepted: 2,
        cursor: seq,
        outcomes,
        ignored: Default::default(),
        epoch: epoch(),
        notes: Notes::default(),
    };
    let expected = format!(
        r#"{{"serverHlc":"4","accepted":2,"deltas":[],"outcomes":[{},{}],"epoch":"{}"}}"#,
        r#"{"outcome":"accepted","seq":"4"}"#,
        r#"{"outcome":"duplicate","seq":"1"}"#,
        epoch()
    );
    assert_eq!(text(encode_ack_json(&ack)), expected);
}

#[test]
fn a_batch_outlives_schema_changes() {
    let before = table("t", "kept long, gone decimal(9,3), again string", "");
    let columns = || {
        vec![
            change("again", "text"),
            change(
                "gone",
                Value::Decimal(lakesync_proto::Decimal {
                    unscaled: -1,
                    scale: 3,
                }),
            ),
            change("kept", Value::Null),
        ]
    };
    let batch = numbered(vec![RowDelta::new(
        Op::Update,
        key("t", "r", "c", 1),
        columns(),
    )]);
    let blob = encode_batch(&batch);
    let evolve = |schema: &lakesync_proto::TableSchema, body: &str| {
        schema
            .evolve(&TableDefinition::from_json(body.as_bytes()).unwrap())
            .unwrap()
            .schema
    };
    let dropped = evolve(
        &before,
        r#"{"table":"t","columns":[{"name":"kept","type":"long"}]}"#,
    );
    let replaced = evolve(
        &dropped,
        r#"{"table":"t","columns":[{"name":"kept","type":"long"},{"name":"again","type":"date"}]}"#,
    );
    let fresh = table("t", "kept long", "");
    for schema in [before, dropped, replaced, fresh] {
        assert_eq!(decode_batch(&blob, &tables([schema])).unwrap(), batch);
    }
}

#[test]
fn a_push_may_write_a_dropped_column() {
    let before = table("t", "a long, b string", "");
    let wish =
        TableDefinition::from_json(br#"{"table":"t","columns":[{"name":"a","type":"long"}]}"#)
            .unwrap();
    let after = tables([before.evolve(&wish).unwrap().schema]);
    let delta = RowDelta::new(
        Op::Update,
        key("t", "r", "c", 1),
        vec![change("b", "late"), change("a", 1)],
    );
    let push = Push {
        client_id: delta.client_id.clone(),
        deltas: vec![delta],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    assert_eq!(
        decode_push_json(&encode_push_json(&push), &after).unwrap(),
        push
    );
    assert_eq!(
        decode_push_protobuf(&encode_push_protobuf(&push), &after).unwrap(),
        push
    );
}

#[test]
fn names_are_shared_between_deltas() {
    let schema = table("t", "a long", "");
    let delta = |hlc| RowDelta::new(Op::Update, key("t", "r", "c", hlc), vec![change("a", 1)]);
    let push = Push {
        client_id: delta(1).client_id,
        deltas: vec![delta(1), delta(2)],
        last_seen: Seq::ZERO,
        schemas: None,
    };
    let tables = tables([schema]);
    let decoded = decode_push_json(&encode_push_json(&push), &tables).unwrap();
    let place = |delta: &RowDelta| {
        let ColumnChange { column, .. } = &delta.columns[0];
        [
            delta.table.as_str().as_ptr(),
            delta.client_id.as_str().as_ptr(),
            column.as_str().as_ptr(),
        ]
    };
    assert_eq!(place(&decoded.deltas[0]), place(&decoded.deltas[1]));
    assert_eq!(
        decoded.deltas[0].client_id.as_str().as_ptr(),
        decoded.client_id.as_str().as_ptr()
    );
}
