//! A checkpoint from row states to row states: through `row_deltas`, chunks, any cutting of the stream, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::limits::{CHUNK_BYTES_MAX, PULL_MAX, VALUE_BYTES_MAX};
use lakesync_proto::{
    Cell, ChunkError, ChunkReader, Epoch, Notes, PullPage, RowDelta, RowId, RowState, Seq,
    SeqDelta, Stamp, Value, decode_chunk, decode_page_protobuf, encode_chunk, encode_page_protobuf,
    row_deltas,
};
use proptest::prelude::*;

use crate::samples::{all_types, column, deltas, table, tables};

type Rows = BTreeMap<RowId, RowState>;

fn page(deltas: Vec<RowDelta>, has_more: bool) -> PullPage {
    let seq = Seq::from_u64(40).unwrap();
    let deltas = deltas.into_iter().map(|delta| SeqDelta { seq, delta });
    PullPage {
        deltas: deltas.map(Arc::new).collect(),
        removed: Vec::new(),
        cursor: seq,
        has_more,
        epoch: Epoch::parse("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
        notes: Notes::default(),
    }
}

fn merged<'a>(deltas: impl IntoIterator<Item = &'a RowDelta>) -> Rows {
    let mut rows = Rows::new();
    for delta in deltas {
        rows.entry(delta.row_id.clone()).or_default().apply(delta);
    }
    rows
}

/// Takes the clocks of some cells away, as a log that forgets does.
fn settle(rows: &mut Rows) {
    for state in rows.values_mut().filter(|state| state.deleted.is_none()) {
        for cell in state.cells.values_mut().step_by(2) {
            cell.stamp = Stamp::settled();
        }
    }
}

proptest! {
    #[test]
    fn the_states_come_back_with_every_stamp(deltas in deltas(), settled in any::<bool>(), piece in 1..300_usize) {
        let mut rows = merged(&deltas);
        if settled {
            settle(&mut rows);
        }
        let table = all_types().table;
        let mut stream = Vec::new();
        for (row_id, state) in &rows {
            stream.extend(encode_chunk(&page(row_deltas(&table, row_id, state), true)).unwrap());
        }
        stream.extend(encode_chunk(&page(Vec::new(), false)).unwrap());

        let (mut reader, mut loaded, mut last) = (ChunkReader::new(), Rows::new(), None);
        for piece in stream.chunks(piece) {
            reader.feed(piece);
            while let Some(message) = reader.next_message().unwrap() {
                let page = decode_chunk(&message, &tables([all_types()])).unwrap();
                for delta in &page.deltas {
                    loaded.entry(delta.delta.row_id.clone()).or_default().apply(&delta.delta);
                }
                last = Some(page);
            }
        }
        reader.finish().unwrap();
        prop_assert_eq!(loaded, rows);
        prop_assert!(!last.unwrap().has_more);
    }
}

#[test]
fn a_chunk_may_hold_more_deltas_than_a_page() {
    let row = |i: usize| RowId::parse(&i.to_string()).unwrap();
    let state = RowState {
        written: Some(Stamp::settled()),
        ..RowState::default()
    };
    let name = "t".parse().unwrap();
    let deltas = (0..=PULL_MAX).flat_map(|i| row_deltas(&name, &row(i), &state));
    let mut page = page(deltas.collect(), false);
    page.notes.resume = Some("a place".to_owned());
    let tables = tables([table("t", "a long", "")]);
    assert!(decode_page_protobuf(&encode_page_protobuf(&page), &tables).is_err());
    let chunk = encode_chunk(&page).unwrap();
    assert_eq!(decode_chunk(&chunk[4..], &tables).unwrap(), page);
}

#[test]
fn the_largest_row_still_fits_chunk_by_chunk() {
    // Every byte of the values is escaped to six.
    let value = Value::String("\u{1}".repeat(VALUE_BYTES_MAX));
    let mut state = RowState {
        written: Some(Stamp::settled()),
        ..RowState::default()
    };
    for name in ["a", "b"] {
        let (stamp, value) = (Stamp::settled(), value.clone());
        state.cells.insert(column(name), Cell { stamp, value });
    }
    let row = RowId::parse("r").unwrap();
    let deltas = row_deltas(&"t".parse().unwrap(), &row, &state);
    assert_eq!(deltas.len(), 2);
    let tables = tables([table("t", "a string, b string", "")]);
    let mut loaded = RowState::default();
    for delta in &deltas {
        let chunk = encode_chunk(&page(vec![delta.clone()], true)).unwrap();
        let page = decode_chunk(&chunk[4..], &tables).unwrap();
        loaded.apply(&page.deltas[0].delta);
    }
    assert_eq!(loaded, state);
    match encode_chunk(&page(deltas, true)) {
        Err(ChunkError::TooLarge { bytes }) => assert!(bytes > CHUNK_BYTES_MAX),
        other => panic!("{:?}", other.map(|chunk| chunk.len())),
    }
}
