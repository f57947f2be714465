//! The clocks' codec.

use proptest::prelude::*;

use super::*;

fn stamp(hlc: u64, client: &str, byte: u8) -> Stamp {
    Stamp {
        hlc: Hlc::from_u64(hlc).unwrap(),
        client_id: ClientId::parse(client).unwrap(),
        delta_id: DeltaId::from_bytes([byte; 32]),
    }
}

#[test]
fn nothing_heard_is_no_bytes() {
    assert!(RowClocks::default().encode().is_empty());
    assert_eq!(RowClocks::decode(&[]), Some(RowClocks::default()));
}

#[test]
fn a_row_of_one_write_holds_its_stamp_once() {
    let write = stamp(9, "client", 1);
    let clocks = RowClocks {
        written: Some(write.clone()),
        cells: (0..900).map(|slot| (slot, write.clone())).collect(),
        ..RowClocks::default()
    };
    let bytes = clocks.encode();
    assert!(bytes.len() < 60, "{}", bytes.len());
    assert_eq!(RowClocks::decode(&bytes), Some(clocks));
}

#[test]
fn bytes_that_are_cut_or_of_another_version_are_no_clocks() {
    let clocks = RowClocks {
        written: Some(stamp(9, "client", 1)),
        deleted: Some(stamp(3, "other", 2)),
        cells: [(4, stamp(9, "client", 1))].into(),
        rest_settled: false,
    };
    let bytes = clocks.encode();
    // Up to the runs every byte counts; a cut between two runs would be another row's clocks.
    for cut in 1..bytes.len() {
        let decoded = RowClocks::decode(&bytes[..cut]);
        assert_ne!(decoded.as_ref(), Some(&clocks), "{cut}");
    }
    let mut other = bytes;
    other[0] = 2;
    assert_eq!(RowClocks::decode(&other), None);
}

#[test]
fn a_run_without_end_is_refused() {
    let mut bytes = RowClocks::settled().encode();
    bytes.extend([0, 0xff, 0xff, 0xff, 0xff, 0x7f, 1]);
    assert_eq!(RowClocks::decode(&bytes), None);
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    let client = prop::sample::select(vec!["a", "b", "a longer client id é"]);
    (0..5_u64, client, 0..3_u8).prop_map(|(hlc, client, byte)| match hlc {
        0 => Stamp::settled(),
        hlc => stamp(hlc, client, byte),
    })
}

fn any_clocks() -> impl Strategy<Value = RowClocks> {
    let cells = prop::collection::btree_map(0..40_u32, any_stamp(), 0..12);
    let (written, deleted) = (prop::option::of(any_stamp()), prop::option::of(any_stamp()));
    (written, deleted, cells, any::<bool>()).prop_map(|(written, deleted, cells, rest)| {
        match written.is_some() || deleted.is_some() {
            true => RowClocks {
                written,
                deleted,
                cells,
                rest_settled: rest,
            },
            false => RowClocks::default(),
        }
    })
}

proptest! {
    #[test]
    fn clocks_come_back_from_their_bytes(clocks in any_clocks()) {
        prop_assert_eq!(RowClocks::decode(&clocks.encode()), Some(clocks));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(clocks) = RowClocks::decode(&bytes) {
            prop_assert_eq!(RowClocks::decode(&clocks.encode()), Some(clocks));
        }
    }
}
