//! The hex vectors of the contract (WIRE B 1.9), byte for byte.

use lakesync_proto::wire::{ColumnDelta, DeltaOp, RowDelta, SyncPull, SyncPush, SyncResponse};
use prost::Message;

const HLC: u64 = 111_411_200_000_000_001;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn delta() -> RowDelta {
    RowDelta {
        op: DeltaOp::Update.into(),
        table: "todos".to_owned(),
        row_id: "r1".to_owned(),
        columns: vec![ColumnDelta {
            column: "title".to_owned(),
            value: b"\"x\"".to_vec(),
            ..ColumnDelta::default()
        }],
        hlc: HLC,
        client_id: "c1".to_owned(),
        delta_id: "d1".to_owned(),
        ..RowDelta::default()
    }
}

fn check<M: Message + Default + PartialEq + std::fmt::Debug>(message: M, vector: &str) {
    assert_eq!(hex(&message.encode_to_vec()), vector);
    assert_eq!(M::decode(bytes(vector).as_slice()).unwrap(), message);
}

#[test]
fn a_push() {
    let push = SyncPush {
        client_id: "c1".to_owned(),
        deltas: vec![delta()],
        ..SyncPush::default()
    };
    let vector = "0a026331122c08021205746f646f731a027231220c0a057469746c6512032278222901000068e5cf8b01320263313a026431";
    check(push, vector);
}

#[test]
fn a_pull() {
    let pull = SyncPull {
        client_id: "c1".to_owned(),
        since_hlc: 1,
        max_deltas: 100,
        ..SyncPull::default()
    };
    check(pull, "0a0263311101000000000000001864");
}

#[test]
fn a_response_with_more() {
    let response = SyncResponse {
        server_hlc: HLC + 1,
        has_more: true,
        ..SyncResponse::default()
    };
    check(response, "1102000068e5cf8b011801");
}

#[test]
fn a_broadcast() {
    // One tag byte 03 stands before the message.
    let vector = "030a2c08021205746f646f731a027231220c0a057469746c6512032278222901000068e5cf8b01320263313a0264311102000068e5cf8b01";
    let response = SyncResponse {
        deltas: vec![delta()],
        server_hlc: HLC + 1,
        ..SyncResponse::default()
    };
    check(response, vector.strip_prefix("03").unwrap());
}

#[test]
fn native_fields_are_skipped_by_older_readers() {
    let with_seq = RowDelta { seq: 7, ..delta() };
    let encoded = hex(&with_seq.encode_to_vec());
    assert_eq!(
        encoded,
        hex(&delta().encode_to_vec()) + "800107",
        "field 16 stands behind the contract's"
    );
}
