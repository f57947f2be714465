//! Rows against a slow model, and a database driven by hand for all who test them.

mod gateway;
mod histories;
mod own_edits;
pub(crate) mod world;

use lakesync_proto::Seq;

/// Splitmix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let bound = u64::try_from(items.len()).unwrap();
        &items[usize::try_from(self.below(bound)).unwrap()]
    }
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::from_u64(number).unwrap()
}
