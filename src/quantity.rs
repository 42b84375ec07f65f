//! Kubernetes quantities (`500m`, `1k`, `2Gi`, `1e3`), as `k8s.io/apimachinery/pkg/api/resource` reads and prints them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// The longest text accepted, in bytes.
pub const MAX_LEN: usize = 64;

const NANO: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;
/// The largest quantity kept, in nano-units: `i64::MAX` units. What is larger counts as this much.
const MAX_NANO: i128 = i64::MAX as i128 * NANO;
/// Room for the digits of the longest text times 2^60.
const MAX_DIGITS: usize = MAX_LEN + 20;

/// How a quantity was written, and so how it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Format {
    /// `500m`, `2k`
    #[default]
    Decimal,
    /// `1e3`
    Exponent,
    /// `2Gi`
    Binary,
}

/// An amount of a resource, exact to a billionth, within ±`i64::MAX` units; what lies beyond is cut to that.
/// Two quantities are equal when their amounts are, however they were written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

impl Quantity {
    /// The amount in whole units, rounded away from zero (Go: `Value()`).
    pub fn value(self) -> i64 {
        round_away(self.nano, NANO)
    }

    /// The amount in thousandths, rounded away from zero (Go: `MilliValue()`), cut to the range of `i64`.
    pub fn milli_value(self) -> i64 {
        round_away(self.nano, MILLI)
    }

    /// Whether the amount is zero.
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }
}

fn round_away(nano: i128, unit: i128) -> i64 {
    let units = nano / unit + if nano % unit == 0 { 0 } else { nano.signum() };
    i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// Parses sign, digits with at most one point, and one of `n u m k M G T P E`, `Ki Mi Gi Ti Pi Ei`, `e<n>`, `E<n>`
/// or nothing; at most [`MAX_LEN`] bytes. Less than a billionth is rounded away from zero.
/// Unlike Go, a text without any digit (`Ki`, `+`) is no quantity, and negative amounts round as positive ones do.
impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LEN {
            return Err(Error::invalid("quantity", format!("{} bytes are more than {MAX_LEN}", text.len())));
        }
        parse(text).ok_or_else(|| {
            Error::invalid(format!("quantity {text:?}"), "not a Kubernetes quantity")
                .hint("write for instance 500m, 2, 1k or 2Gi")
        })
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end_of_digits = |s: &str| s.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(s.len());
    let (whole, rest) = rest.split_at_checked(end_of_digits(rest))?;
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(end_of_digits(rest))?,
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (exponent, doublings, mut format) = suffix_of(suffix)?;

    let mut digits = Digits::default();
    for digit in whole.bytes().chain(fraction.bytes()).rev() {
        digits.push(digit - b'0');
    }
    for _ in 0..doublings {
        digits.double();
    }
    let scale = exponent - i64::try_from(fraction.len()).ok()? + 9;
    let nano = digits.scaled(scale).min(MAX_NANO);
    if format == Format::Binary && nano < NANO {
        format = Format::Decimal;
    }
    Some(Quantity { nano: if negative { -nano } else { nano }, format })
}

/// Decimal exponent, power of two, format.
fn suffix_of(suffix: &str) -> Option<(i64, u32, Format)> {
    let decimal = |exponent| Some((exponent, 0, Format::Decimal));
    let binary = |doublings| Some((0, doublings, Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            Some((i64::from(exponent), 0, Format::Exponent))
        }
    }
}

/// A whole number in decimal digits, the least first. Digits instead of an integer, because 64 of them times 2^60 fit none.
struct Digits {
    digits: [u8; MAX_DIGITS],
    len: usize,
}

impl Default for Digits {
    fn default() -> Self {
        Self { digits: [0; MAX_DIGITS], len: 0 }
    }
}

impl Digits {
    fn push(&mut self, digit: u8) {
        if let Some(place) = self.digits.get_mut(self.len) {
            *place = digit;
            self.len += 1;
        }
    }

    fn double(&mut self) {
        let mut carry = 0;
        for digit in self.digits.iter_mut().take(self.len) {
            let sum = *digit * 2 + carry;
            *digit = sum % 10;
            carry = sum / 10;
        }
        if carry > 0 {
            self.push(carry);
        }
    }

    /// The number times ten to the power `scale`, rounded up; at most `i128::MAX`.
    fn scaled(&self, scale: i64) -> i128 {
        let digits = self.digits.get(..self.len).unwrap_or_default();
        if digits.iter().all(|d| *d == 0) {
            return 0;
        }
        let cut = usize::try_from(scale.saturating_neg()).unwrap_or(0).min(digits.len());
        let (cut, kept) = digits.split_at(cut);
        let mut number =
            kept.iter().rev().fold(0i128, |n, d| n.saturating_mul(10).saturating_add(i128::from(*d)));
        if cut.iter().any(|d| *d != 0) {
            number = number.saturating_add(1);
        }
        // 39 multiplications by ten fill an i128.
        for _ in 0..scale.clamp(0, 39) {
            number = number.saturating_mul(10);
        }
        number
    }
}

/// Prints the canonical form: no fraction, the largest suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        const EXPONENT: [&str; 10] = ["e-9", "e-6", "e-3", "", "e3", "e6", "e9", "e12", "e15", "e18"];
        const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        if self.nano == 0 {
            return f.pad("0");
        }
        let whole = self.nano % NANO == 0;
        if self.format == Format::Binary && whole && self.nano.abs() >= 1024 * NANO {
            let (number, step) = reduce(self.nano / NANO, 1024, BINARY.len() - 1);
            return f.pad(&format!("{number}{}", BINARY.get(step).unwrap_or(&"")));
        }
        let suffixes = if self.format == Format::Exponent { EXPONENT } else { DECIMAL };
        let (number, step) = reduce(self.nano, 1000, suffixes.len() - 1);
        f.pad(&format!("{number}{}", suffixes.get(step).unwrap_or(&"")))
    }
}

fn reduce(mut number: i128, base: i128, max_steps: usize) -> (i128, usize) {
    let mut steps = 0;
    while steps < max_steps && number % base == 0 {
        number /= base;
        steps += 1;
    }
    (number, steps)
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads a JSON string or a bare number, as Go's `UnmarshalJSON` does.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"500m\" or 2")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&format!("{number:e}"))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn value_and_milli_value_round_away_from_zero() {
        for (text, value, milli) in [
            ("0", 0, 0),
            ("2", 2, 2000),
            ("2.5", 3, 2500),
            ("-2.5", -3, -2500),
            ("500m", 1, 500),
            ("1n", 1, 1),
            ("0.0000000001", 1, 1),
            ("1k", 1000, 1_000_000),
            ("1e3", 1000, 1_000_000),
            ("1E-3", 1, 1),
            ("2Gi", 2_147_483_648, 2_147_483_648_000),
            ("1.5Ki", 1536, 1_536_000),
            ("0.1Ki", 103, 102_400),
            (".5", 1, 500),
            ("1.", 1, 1000),
            ("1.G", 1_000_000_000, 1_000_000_000_000),
            ("00012", 12, 12000),
            ("9223372036854775807", i64::MAX, i64::MAX),
            ("1e100", i64::MAX, i64::MAX),
            ("-8E", -8_000_000_000_000_000_000, i64::MIN),
            ("1e-2000000000", 1, 1),
            ("0e2000000000", 0, 0),
        ] {
            assert_eq!((q(text).value(), q(text).milli_value()), (value, milli), "{text}");
        }
    }

    #[test]
    fn prints_canonically() {
        for (text, printed) in [
            ("1000", "1k"),
            ("2000m", "2"),
            ("1.5", "1500m"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1e3", "1e3"),
            ("10e2", "1e3"),
            ("1e0", "1"),
            ("15e-1", "1500e-3"),
            ("-3M", "-3M"),
            ("0Gi", "0"),
        ] {
            assert_eq!(q(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        let long = "1".repeat(65);
        for bad in [
            "", "-", "+", ".", "k", "1 k", " 1", "1K", "1ki", "1e", "1e1.5", "1mm", "--1", "0x10", "1\0",
            "é", &long,
        ] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn reads_json_strings_and_numbers() {
        for (json, value) in
            [("\"2k\"", 2000), ("1000", 1000), ("1e3", 1000), ("0.5", 1), ("\" 7 \"", 7), ("-3", -3)]
        {
            assert_eq!(serde_json::from_str::<Quantity>(json).unwrap().value(), value, "{json}");
        }
        for bad in ["true", "[]", "{}", "\"x\"", "\"\""] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
    }
}
