//! The hybrid logical clock's stamp: 64 bits that compare as an integer.
//!
//! Invariant: the top bit is clear, so an [`Hlc`] has the same order as `u64` and as the signed `long` of Iceberg.
//!
//! ```text
//!  63  62                               16 15            0
//! ┌───┬───────────────────────────────────┬───────────────┐
//! │ 0 │ wall clock, milliseconds (47 bit) │ counter (16)  │
//! └───┴───────────────────────────────────┴───────────────┘
//! ```

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ErrorCode, shown};
use crate::limits::WALL_MS_MAX;
use crate::number;

const COUNTER_BITS: u32 = 16;

/// A hybrid logical clock value: when a write happened, comparable across machines.
///
/// In JSON it is a decimal string; a string or an integer is read.
///
/// ```
/// use lakesync_proto::Hlc;
/// let hlc = Hlc::new(1_700_000_000_000, 1)?;
/// assert_eq!(hlc.to_string(), "111411200000000001");
/// assert_eq!("111411200000000001".parse::<Hlc>()?, hlc);
/// # Ok::<(), lakesync_proto::HlcError>(())
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Hlc(u64);

impl Hlc {
    /// The oldest value: nothing has happened yet.
    pub const ZERO: Hlc = Hlc(0);
    /// The greatest value: all bits but the sign bit.
    pub const MAX: Hlc = Hlc(i64::MAX as u64);

    /// Builds a value from wall clock milliseconds since the Unix epoch and a counter.
    ///
    /// # Errors
    /// [`HlcError::WallOutOfRange`] beyond [`WALL_MS_MAX`].
    pub fn new(wall_ms: u64, counter: u16) -> Result<Hlc, HlcError> {
        if wall_ms > WALL_MS_MAX {
            return Err(HlcError::WallOutOfRange { wall_ms });
        }
        Ok(Hlc((wall_ms << COUNTER_BITS) | u64::from(counter)))
    }

    /// Takes the 64 bits as they are on the wire.
    ///
    /// # Errors
    /// [`HlcError::OutOfRange`] when the top bit is set.
    pub fn from_u64(value: u64) -> Result<Hlc, HlcError> {
        if value > Hlc::MAX.0 {
            return Err(HlcError::OutOfRange { value });
        }
        Ok(Hlc(value))
    }

    /// Takes the value of an Iceberg `long`.
    ///
    /// # Errors
    /// [`HlcError::Negative`] below zero.
    pub fn from_i64(value: i64) -> Result<Hlc, HlcError> {
        u64::try_from(value)
            .map(Hlc)
            .map_err(|_| HlcError::Negative { value })
    }

    /// The 64 bits.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The value as Iceberg's `long`; never negative.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).expect("every constructor keeps the top bit clear")
    }

    /// Milliseconds since the Unix epoch.
    pub fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The counter within the millisecond.
    pub fn counter(self) -> u16 {
        u16::try_from(self.0 & u64::from(u16::MAX)).expect("the mask leaves 16 bits")
    }

    /// The next greater value: the counter plus one, carried into the wall clock when it overflows.
    ///
    /// # Errors
    /// [`HlcError::Exhausted`] at [`Hlc::MAX`].
    pub fn next(self) -> Result<Hlc, HlcError> {
        // The counter's overflow carries into the wall clock by itself: wall + 1, counter 0.
        Hlc::from_u64(self.0 + 1).map_err(|_| HlcError::Exhausted)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hlc({}ms+{})", self.wall_ms(), self.counter())
    }
}

impl FromStr for Hlc {
    type Err = HlcError;

    fn from_str(text: &str) -> Result<Hlc, HlcError> {
        let value =
            number::parse_u64(text).ok_or_else(|| HlcError::NotANumber { text: shown(text) })?;
        Hlc::from_u64(value)
    }
}

impl Serialize for Hlc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number::serialize(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Hlc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hlc, D::Error> {
        Hlc::from_u64(number::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// Why a clock value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HlcError {
    /// The wall clock does not fit 47 bits.
    #[error("wall clock {wall_ms} ms is beyond {WALL_MS_MAX} ms, the last that an HLC holds")]
    WallOutOfRange {
        /// The refused wall clock, milliseconds.
        wall_ms: u64,
    },
    /// The top bit is set.
    #[error("HLC {value} is beyond {}, the greatest HLC", Hlc::MAX)]
    OutOfRange {
        /// The refused bits.
        value: u64,
    },
    /// A stored HLC is negative.
    #[error("HLC {value} is negative")]
    Negative {
        /// The refused number.
        value: i64,
    },
    /// The text is no unsigned 64-bit decimal number.
    #[error("{text:?} is no HLC: expected the decimal digits of an unsigned 64-bit number")]
    NotANumber {
        /// The refused text, shortened.
        text: String,
    },
    /// The stamp is too far ahead of this machine's clock.
    #[error(
        "the stamp is {ahead_ms} ms ahead of this clock, {limit_ms} ms are allowed: set the sender's clock"
    )]
    Drift {
        /// How far the stamp is ahead, milliseconds.
        ahead_ms: u64,
        /// How far it may be, milliseconds.
        limit_ms: u64,
    },
    /// The clock stands at the greatest value.
    #[error("the clock stands at the greatest HLC and cannot tick")]
    Exhausted,
}

impl HlcError {
    /// The wire code of this refusal.
    pub fn code(&self) -> ErrorCode {
        match self {
            HlcError::Drift { .. } => ErrorCode::ClockDrift,
            HlcError::Exhausted => ErrorCode::InternalError,
            _ => ErrorCode::ValidationError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_has_47_bits() {
        assert_eq!(Hlc::new(WALL_MS_MAX, u16::MAX).unwrap(), Hlc::MAX);
        let beyond = WALL_MS_MAX + 1;
        assert_eq!(
            Hlc::new(beyond, 0),
            Err(HlcError::WallOutOfRange { wall_ms: beyond })
        );
        assert!(Hlc::from_u64(1 << 63).is_err());
        assert!(Hlc::from_i64(-1).is_err());
        assert_eq!(Hlc::from_i64(i64::MAX).unwrap(), Hlc::MAX);
    }

    #[test]
    fn the_parts_come_back() {
        let hlc = Hlc::new(1_700_000_000_000, 65_535).unwrap();
        assert_eq!((hlc.wall_ms(), hlc.counter()), (1_700_000_000_000, 65_535));
        assert_eq!(hlc.next().unwrap(), Hlc::new(1_700_000_000_001, 0).unwrap());
        assert_eq!(Hlc::MAX.next(), Err(HlcError::Exhausted));
    }

    #[test]
    fn json_is_a_string_and_reads_an_integer() {
        let hlc = Hlc::new(1_700_000_000_000, 1).unwrap();
        assert_eq!(
            serde_json::to_string(&hlc).unwrap(),
            "\"111411200000000001\""
        );
        for text in ["\"111411200000000001\"", "111411200000000001"] {
            assert_eq!(serde_json::from_str::<Hlc>(text).unwrap(), hlc);
        }
        for text in [
            "-1",
            "1.0",
            "\"\"",
            "\"+1\"",
            "\" 1\"",
            "\"0x10\"",
            "null",
            "9223372036854775808",
            "1e3",
        ] {
            assert!(serde_json::from_str::<Hlc>(text).is_err(), "{text}");
        }
    }
}
