//! The hex vectors of the contract (WIRE B 1.9), byte for byte.

use lakesync_proto::wire::{ColumnDelta, DeltaOp, RowDelta, SyncPull, SyncPush, SyncResponse};
use prost::Message;

/// A push of one delta.
pub(crate) const PUSH: &str = "0a026331122c08021205746f646f731a027231220c0a057469746c6512032278222901000068e5cf8b01320263313a026431";
/// A pull by c1 since 1 of 100 deltas.
pub(crate) const PULL: &str = "0a0263311101000000000000001864";
/// An answer without deltas that has more.
pub(crate) const RESPONSE: &str = "1102000068e5cf8b011801";
/// A broadcast of the push's delta, with its tag byte.
pub(crate) const BROADCAST: &str = "030a2c08021205746f646f731a027231220c0a057469746c6512032278222901000068e5cf8b01320263313a0264311102000068e5cf8b01";

const HLC: u64 = 111_411_200_000_000_001;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

pub(crate) fn delta() -> RowDelta {
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
    check(push, PUSH);
}

#[test]
fn a_pull() {
    let pull = SyncPull {
        client_id: "c1".to_owned(),
        since_hlc: 1,
        max_deltas: 100,
        ..SyncPull::default()
    };
    check(pull, PULL);
}

#[test]
fn a_response_with_more() {
    let response = SyncResponse {
        server_hlc: HLC + 1,
        has_more: true,
        ..SyncResponse::default()
    };
    check(response, RESPONSE);
}

#[test]
fn a_broadcast() {
    // One tag byte 03 stands before the message.
    let response = SyncResponse {
        deltas: vec![delta()],
        server_hlc: HLC + 1,
        ..SyncResponse::default()
    };
    check(response, BROADCAST.strip_prefix("03").unwrap());
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
