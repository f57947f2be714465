//! The native cursor: where a client stands, in which log, under which rules.
//!
//! ```text
//! text = base64url without padding of: 1 │ seq (8 bytes BE) │ rules (8 bytes BE) │ claims (8 bytes BE) │ epoch (UTF-8)
//! ```
//! Invariant: clients keep the text and look at nothing in it; a gateway that reads one it does not know says
//! "start over", never a silent gap.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::id::Epoch;
use crate::seq::Seq;

const VERSION: u8 = 1;
const NUMBERS_BYTES: usize = 24;

/// A place in one gateway's log, as a native client gives it back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log.
    pub epoch: Epoch,
    /// Everything up to this seq has been given.
    pub seq: Seq,
    /// The version of the rules that filtered it; 0 without rules.
    pub rules: u64,
    /// The hash of the claims that those rules look at; 0 when they look at none.
    pub claims: u64,
}

/// The text is no cursor of ours.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor of this server; start over without one")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        for number in [self.seq.as_u64(), self.rules, self.claims] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.epoch.as_ref().as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (version, rest) = bytes.split_first().ok_or(CursorError)?;
        let (numbers, epoch) = rest.split_at_checked(NUMBERS_BYTES).ok_or(CursorError)?;
        let number = |at: usize| {
            let eight = numbers[at..at + 8].try_into().expect("eight bytes");
            u64::from_be_bytes(eight)
        };
        let epoch = str::from_utf8(epoch)
            .ok()
            .and_then(|text| Epoch::parse(text).ok());
        let seq = Seq::from_u64(number(0)).ok();
        match (*version, seq, epoch) {
            (VERSION, Some(seq), Some(epoch)) => Ok(Cursor {
                epoch,
                seq,
                rules: number(8),
                claims: number(16),
            }),
            _ => Err(CursorError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_from_its_text_and_nothing_else_is_one() {
        let epoch = Epoch::parse("5f0c3c1e-0000-4000-8000-000000000001").unwrap();
        let cursor = Cursor {
            epoch,
            seq: Seq::from_u64(7).unwrap(),
            rules: 3,
            claims: u64::MAX,
        };
        let text = cursor.to_string();
        assert_eq!(text.parse(), Ok(cursor));
        for cut in 0..34 {
            assert_eq!(text[..cut].parse::<Cursor>(), Err(CursorError), "{cut}");
        }
        for wrong in ["", "7", "!", "Ag", &format!("B{}", &text[1..])] {
            assert_eq!(wrong.parse::<Cursor>(), Err(CursorError), "{wrong}");
        }
    }
}
