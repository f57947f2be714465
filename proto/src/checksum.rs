//! Checksums that a client can compute over what it was given.
//!
//! Invariant: the checksum of a page depends on what is in it, not on its order or its encoding.

use sha2::{Digest, Sha256};

use crate::message::PullPage;
use crate::schema::TableSchema;

/// The wrapping sum over the page's deltas of `mix(seq, first 8 bytes of the delta id, big-endian)`, and over its
/// removed rows of `mix(seq, 0)`; `mix` is one round of splitmix64 over their exclusive or.
pub fn page_checksum(page: &PullPage) -> u64 {
    let deltas = page.deltas.iter().map(|delta| {
        let id = delta.delta.delta_id.as_bytes();
        let head = id.first_chunk().expect("a delta id has 32 bytes");
        mix(delta.seq.as_u64(), u64::from_be_bytes(*head))
    });
    let removed = page
        .removed
        .iter()
        .map(|removed| mix(removed.seq.as_u64(), 0));
    deltas.chain(removed).fold(0, u64::wrapping_add)
}

fn mix(seq: u64, id: u64) -> u64 {
    let mut z = (seq ^ id).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One hash over the schemas of a gateway: the first 8 bytes, big-endian, of the SHA-256 of each table's schema hash
/// in the order of table names.
pub fn schemas_hash<'a>(schemas: impl IntoIterator<Item = &'a TableSchema>) -> u64 {
    let mut sorted: Vec<&TableSchema> = schemas.into_iter().collect();
    sorted.sort_by(|a, b| a.table.cmp(&b.table));
    let mut hash = Sha256::new();
    for schema in sorted {
        hash.update(schema.hash());
    }
    let digest: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes(*digest.first_chunk().expect("32 bytes"))
}
