//! Exact decimal numbers and their text.
//!
//! Invariant: the text has exactly `scale` digits after the point and no other form of the same number, so equal
//! numbers of one column hash alike.

use std::fmt;

use crate::limits::DECIMAL_PRECISION_MAX;

/// `unscaled / 10^scale`.
#[derive(Debug, Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal {
    /// The digits as an integer, at most 38 of them.
    pub unscaled: i128,
    /// Digits after the point, at most 38.
    pub scale: u8,
}

impl Decimal {
    /// Reads the text of a `decimal(precision,scale)` value.
    ///
    /// # Errors
    /// Why the text is none.
    pub fn parse(text: &str, precision: u8, scale: u8) -> Result<Decimal, &'static str> {
        let (negative, magnitude) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match magnitude.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err("a digit after the point is missing"),
            None => (magnitude, ""),
        };
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return Err("it is no decimal number such as -12.50");
        }
        if whole.len() > 1 && whole.starts_with('0') {
            return Err("it has a leading zero");
        }
        if fraction.len() != usize::from(scale) {
            return Err("it needs exactly as many digits after the point as the type has");
        }
        // The length bounds the work before the digits are read: at most one digit more than 38.
        if whole.len() + fraction.len() > usize::from(DECIMAL_PRECISION_MAX) + 1 {
            return Err("it has more digits than the type");
        }
        let unscaled = whole
            .bytes()
            .chain(fraction.bytes())
            .try_fold(0_i128, |n, digit| {
                n.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
            });
        let unscaled = unscaled.filter(|n| *n < power_of_ten(precision));
        let unscaled = unscaled.ok_or("it has more digits than the type")?;
        let unscaled = if negative { -unscaled } else { unscaled };
        Ok(Decimal { unscaled, scale })
    }

    /// Whether the number is a value of `decimal(precision,scale)`.
    pub fn fits(self, precision: u8, scale: u8) -> bool {
        let bound = power_of_ten(precision);
        self.scale == scale && scale <= precision && -bound < self.unscaled && self.unscaled < bound
    }
}

/// `10^exponent`; beyond 38 digits that of 38, which is the last in 128 bits.
fn power_of_ten(exponent: u8) -> i128 {
    10_i128.pow(u32::from(exponent.min(DECIMAL_PRECISION_MAX)))
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let scale = usize::from(self.scale);
        // At least one digit before the point: 5 at scale 2 is 0.05.
        let digits = format!(
            "{:0>width$}",
            self.unscaled.unsigned_abs(),
            width = scale + 1
        );
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        match scale {
            0 => write!(f, "{sign}{whole}"),
            _ => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        let nines = "9".repeat(38);
        let fine = format!("0.{nines}");
        let cases = [
            ("0.00", 4, 2),
            ("-0.05", 4, 2),
            ("12.50", 4, 2),
            ("-99.99", 4, 2),
            ("7", 1, 0),
            (&nines, 38, 0),
            (&fine, 38, 38),
        ];
        for (text, precision, scale) in cases {
            let decimal = Decimal::parse(text, precision, scale).unwrap();
            assert_eq!(decimal.to_string(), text);
            assert!(decimal.fits(precision, scale));
        }
        assert_eq!(Decimal::parse("-0.00", 4, 2).unwrap().to_string(), "0.00");
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "1".repeat(40);
        let huge = "1".repeat(10_000);
        let cases = [
            "", "-", ".", "1", "1.5", "1.500", "+1.50", "01.50", ".50", "1.", "100.00", "1e2",
            " 1.50", "1,50", "٣.50", "--1.50", "NaN", "1.5٣", &long, &huge,
        ];
        for text in cases {
            assert!(Decimal::parse(text, 4, 2).is_err(), "{text}");
        }
        assert!(Decimal::parse(&format!("1{}", "0".repeat(38)), 38, 0).is_err());
        assert!(
            Decimal::parse("1", 1, 1).is_err(),
            "decimal(1,1) is below one"
        );
    }
}
