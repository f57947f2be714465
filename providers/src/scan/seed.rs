//! The keyed hash of row ids: SipHash-1-3 (Aumasson and Bernstein, *SipHash: a fast short-input PRF*, 2012).
//!
//! The standard library has it without a way to choose the key, and a key index that is read back must be asked by the
//! key that it was made with.
//!
//! **Invariant:** a seed and a text give the same hash on every machine and in every version of this program.

use std::hash::{BuildHasher, RandomState};

/// The key of a hash. It is chosen by chance, so that nobody can choose row ids that meet in one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seed(pub(super) [u64; 2]);

impl Seed {
    /// A new one.
    pub(super) fn by_chance() -> Self {
        let chance = RandomState::new();
        Self([chance.hash_one(0_u8), chance.hash_one(1_u8)])
    }

    /// The hash of `bytes`.
    pub(super) fn hash(self, bytes: &[u8]) -> u64 {
        let mut state = State::new(self);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        // The last word has what is left, and the length's last byte on top.
        let mut last = [0_u8; 8];
        last[..rest.len()].copy_from_slice(rest);
        last[7] = bytes.len().to_le_bytes()[0];
        state.absorb(u64::from_le_bytes(last));
        state.finish()
    }
}

struct State([u64; 4]);

impl State {
    fn new(Seed([first, second]): Seed) -> Self {
        Self([
            first ^ 0x736f_6d65_7073_6575,
            second ^ 0x646f_7261_6e64_6f6d,
            first ^ 0x6c79_6765_6e65_7261,
            second ^ 0x7465_6462_7974_6573,
        ])
    }

    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    fn finish(mut self) -> u64 {
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }

    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32);
        c = c.wrapping_add(b);
        a = a.wrapping_add(d);
        b = b.rotate_left(17) ^ c;
        d = d.rotate_left(21) ^ a;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn it_is_the_standard_librarys_hash_for_texts_of_every_length() {
        let text: Vec<u8> = (0..=255).collect();
        for length in 0..text.len() {
            // That of a new `DefaultHasher` has the key 0, 0.
            let mut known = DefaultHasher::new();
            known.write(&text[..length]);
            let found = Seed([0, 0]).hash(&text[..length]);
            assert_eq!(found, known.finish(), "{length} bytes");
        }
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        let [one, other] = [Seed::by_chance(), Seed::by_chance()];
        assert_ne!(one, other);
        assert_ne!(one.hash(b"row 1"), other.hash(b"row 1"));
        assert_eq!(one.hash(b"row 1"), Seed(one.0).hash(b"row 1"));
        // So that an index that was kept can still be asked: this number never changes.
        assert_eq!(Seed([1, 2]).hash(b"row 1"), 15_494_312_518_419_089_699);
    }
}
