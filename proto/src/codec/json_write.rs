//! Messages to JSON bodies.
//!
//! Invariant: keys stand in the contract's order, 64-bit numbers are decimal strings, native keys come last.

use crate::canonical::write_string;
use crate::codec::json_notes::{write_ignored, write_notes, write_removed};
use crate::delta::RowDelta;
use crate::message::{Outcome, PullPage, Push, PushAck};
use crate::number::push_digits;
use crate::seq::Seq;

/// Bytes that a delta takes at the least: what an output buffer starts with.
const DELTA_BYTES_TYPICAL: usize = 320;

/// Writes a push.
pub fn encode_push_json(push: &Push) -> Vec<u8> {
    let mut out = String::with_capacity(128 + push.deltas.len() * DELTA_BYTES_TYPICAL);
    out.push_str("{\"clientId\":");
    write_string(push.client_id.as_str(), &mut out);
    out.push_str(",\"deltas\":[");
    for (i, delta) in push.deltas.iter().enumerate() {
        separate(i, &mut out);
        write_delta(delta, None, &mut out);
    }
    out.push_str("],\"lastSeenHlc\":");
    write_seq(push.last_seen, &mut out);
    if let Some(schemas) = push.schemas {
        out.push_str(&format!(",\"schemas\":\"{schemas}\""));
    }
    out.push('}');
    out.into_bytes()
}

/// Writes a pull's answer.
pub fn encode_page_json(page: &PullPage) -> Vec<u8> {
    let mut out = String::with_capacity(128 + page.deltas.len() * DELTA_BYTES_TYPICAL);
    out.push_str("{\"deltas\":[");
    for (i, delta) in page.deltas.iter().enumerate() {
        separate(i, &mut out);
        write_delta(&delta.delta, Some(delta.seq), &mut out);
    }
    out.push_str("],\"serverHlc\":");
    write_seq(page.cursor, &mut out);
    out.push_str(if page.has_more {
        ",\"hasMore\":true"
    } else {
        ",\"hasMore\":false"
    });
    out.push_str(",\"epoch\":");
    write_string(page.epoch.as_str(), &mut out);
    write_removed(&page.removed, &mut out);
    write_notes(&page.notes, &mut out);
    out.push('}');
    out.into_bytes()
}

/// Writes a push's answer. Its `deltas` are always empty: the echo of legacy gateways doubled the traffic.
pub fn encode_ack_json(ack: &PushAck) -> Vec<u8> {
    let mut out = String::with_capacity(128 + ack.outcomes.len() * 48);
    out.push_str("{\"serverHlc\":");
    write_seq(ack.cursor, &mut out);
    out.push_str(",\"accepted\":");
    out.push_str(&ack.accepted.to_string());
    out.push_str(",\"deltas\":[],\"outcomes\":[");
    for (i, outcome) in ack.outcomes.iter().enumerate() {
        separate(i, &mut out);
        out.push_str(match outcome {
            Outcome::Accepted(_) => "{\"outcome\":\"accepted\",\"seq\":",
            Outcome::Duplicate(_) => "{\"outcome\":\"duplicate\",\"seq\":",
        });
        write_seq(outcome.seq(), &mut out);
        if let Some(ignored) = ack.ignored.get(&i) {
            write_ignored(ignored, &mut out);
        }
        out.push('}');
    }
    out.push_str("],\"epoch\":");
    write_string(ack.epoch.as_str(), &mut out);
    write_notes(&ack.notes, &mut out);
    out.push('}');
    out.into_bytes()
}

fn write_delta(delta: &RowDelta, seq: Option<Seq>, out: &mut String) {
    out.push_str("{\"op\":\"");
    out.push_str(delta.op.name());
    out.push_str("\",\"table\":");
    write_string(delta.table.as_str(), out);
    out.push_str(",\"rowId\":");
    write_string(delta.row_id.as_str(), out);
    out.push_str(",\"clientId\":");
    write_string(delta.client_id.as_str(), out);
    out.push_str(",\"columns\":[");
    for (i, change) in delta.columns.iter().enumerate() {
        separate(i, out);
        out.push_str("{\"column\":");
        write_string(change.column.as_str(), out);
        out.push_str(",\"value\":");
        change.value.write_json(out);
        out.push('}');
    }
    out.push_str("],\"hlc\":\"");
    push_digits(delta.hlc, out);
    out.push_str("\",\"deltaId\":\"");
    delta.delta_id.write_hex(out);
    out.push('"');
    if let Some(seq) = seq {
        out.push_str(",\"seq\":");
        write_seq(seq, out);
    }
    out.push('}');
}

pub(super) fn write_seq(seq: Seq, out: &mut String) {
    out.push('"');
    push_digits(seq, out);
    out.push('"');
}

pub(super) fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}
