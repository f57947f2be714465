//! The arrival number of a delta.
//!
//! Invariant: a plain dense counter per gateway, never derived from any clock; it fits Iceberg's signed `long`.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::IdError;
use crate::number;

/// An arrival number: 1, 2, 3, …; [`Seq::ZERO`] is "before the first". In JSON a decimal string.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// Before the first delta.
    pub const ZERO: Seq = Seq(0);
    /// The last arrival number there can be.
    pub const MAX: Seq = Seq(i64::MAX as u64);

    /// Takes a number from the wire.
    ///
    /// # Errors
    /// [`IdError`] beyond [`Seq::MAX`].
    pub fn from_u64(value: u64) -> Result<Seq, IdError> {
        match value <= Seq::MAX.0 {
            true => Ok(Seq(value)),
            false => Err(IdError::new(
                "seq",
                &value.to_string(),
                "it does not fit a signed 64-bit number",
            )),
        }
    }

    /// Takes the value of an Iceberg `long` or an SQLite integer.
    ///
    /// # Errors
    /// [`IdError`] below zero.
    pub fn from_i64(value: i64) -> Result<Seq, IdError> {
        u64::try_from(value)
            .map(Seq)
            .map_err(|_| IdError::new("seq", &value.to_string(), "it is negative"))
    }

    /// The number after this one.
    ///
    /// # Panics
    /// At [`Seq::MAX`], which a million deltas a second reach in 292,000 years.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq::from_u64(self.0 + 1).expect("a gateway cannot live to count to 2^63")
    }

    /// The number.
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The number as Iceberg's `long`; never negative.
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0).expect("every constructor keeps the top bit clear")
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seq({})", self.0)
    }
}

impl FromStr for Seq {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Seq, IdError> {
        let value = number::parse_u64(text)
            .ok_or_else(|| IdError::new("seq", text, "decimal digits are needed"))?;
        Seq::from_u64(value)
    }
}

impl Serialize for Seq {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        number::serialize(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seq, D::Error> {
        Seq::from_u64(number::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_fits_a_long() {
        assert_eq!(Seq::ZERO.next().next().as_i64(), 2);
        assert!(Seq::from_i64(-1).is_err());
        assert!(Seq::from_u64(u64::MAX).is_err());
        assert_eq!(
            serde_json::to_string(&Seq::MAX).unwrap(),
            "\"9223372036854775807\""
        );
        assert_eq!(
            serde_json::from_str::<Seq>("7").unwrap(),
            "7".parse().unwrap()
        );
    }
}
