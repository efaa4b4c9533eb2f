//! How the database holds a value, read as the type that the stream declares.

use flows_formats::time::{Unit, is_day};
use flows_formats::{Type, Value};
use serde::de::IgnoredAny;

use crate::definition::{Day, Spelling, Stored, Stream};

/// Integers up to here are exact in a real: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value as a database holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Held<'v> {
    Null,
    Integer(i64),
    Real(f64),
    /// Text, which may not be UTF-8.
    Text(&'v [u8]),
    Blob(&'v [u8]),
}

/// How the values of a column are read.
#[derive(Clone, Debug)]
pub(super) enum Reading {
    Integer,
    Real,
    Text,
    Blob,
    /// A timestamp as an integer between these.
    Epoch(i64, i64),
    /// A timestamp as seconds.
    EpochReal(Unit),
    /// A timestamp as text.
    Iso8601(Unit, Spelling, Day),
    /// A day as text.
    Date(Day),
    /// A day as a number of them.
    Days,
    Boolean,
    /// With so many digits at most, of which so many are after the point.
    Decimal(usize, usize),
    Json,
}

/// What a value is read as.
pub(super) enum Got<'v> {
    Null,
    Value(Value<'v>),
    /// A text that is made of it.
    Text(String),
    /// The text that it is but for U+FFFD in the place of what was not UTF-8.
    Replaced(String),
    /// It is not of the type.
    Wrong,
}

impl Reading {
    /// How a column of a stream is read.
    pub(super) fn of(stream: &Stream, column: &str) -> Reading {
        let (kind, stored) = stream.declared(column);
        Reading::new(kind, stored)
    }

    /// How values of a type are read that are held so.
    pub(super) fn new(kind: Type, stored: Stored) -> Reading {
        match (kind, stored) {
            (Type::Integer, _) => Reading::Integer,
            (Type::Real, _) => Reading::Real,
            (Type::Text, _) => Reading::Text,
            (Type::Blob, _) => Reading::Blob,
            (Type::Timestamp(unit), Stored::Plain) => {
                let range = unit.range();
                Reading::Epoch(*range.start(), *range.end())
            }
            (Type::Timestamp(unit), Stored::EpochReal) => Reading::EpochReal(unit),
            (Type::Timestamp(unit), Stored::Iso8601(spelling)) => {
                Reading::Iso8601(unit, spelling, Day::default())
            }
            (Type::Date, Stored::Iso8601(_)) => Reading::Date(Day::default()),
            (Type::Date, _) => Reading::Days,
            (Type::Boolean, _) => Reading::Boolean,
            (Type::Decimal { precision, scale }, _) => {
                Reading::Decimal(precision.into(), scale.into())
            }
            (Type::Json, _) => Reading::Json,
        }
    }

    /// Reads a value.
    #[inline]
    pub(super) fn read<'v>(&mut self, found: Held<'v>) -> Got<'v> {
        match (self, found) {
            (Reading::Integer, Held::Integer(integer)) => Got::Value(Value::Integer(integer)),
            (Reading::Real, Held::Real(real)) => Got::Value(Value::Real(real)),
            (Reading::Blob, Held::Blob(bytes) | Held::Text(bytes)) => {
                Got::Value(Value::Blob(bytes))
            }
            (Reading::Text, Held::Text(bytes) | Held::Blob(bytes)) => match str::from_utf8(bytes) {
                Ok(text) => Got::Value(Value::Text(text)),
                Err(_) => Got::Replaced(String::from_utf8_lossy(bytes).into_owned()),
            },
            (Reading::Epoch(least, most), Held::Integer(integer))
                if integer >= *least && integer <= *most =>
            {
                Got::Value(Value::Integer(integer))
            }
            (Reading::Iso8601(unit, spelling, day), Held::Text(text)) => {
                integer(spelling.read(text, *unit, day))
            }
            (_, Held::Null) => Got::Null,
            (reading, found) => reading.read_rarer(found),
        }
    }

    fn read_rarer<'v>(&mut self, found: Held<'v>) -> Got<'v> {
        match (self, found) {
            (Reading::Integer, found) => integer(as_integer(found)),
            (Reading::Real, found) => {
                as_real(found).map_or(Got::Wrong, |real| Got::Value(Value::Real(real)))
            }
            (Reading::Epoch(least, most), found) => {
                integer(as_integer(found).filter(|found| (*least..=*most).contains(found)))
            }
            (Reading::EpochReal(unit), found) => integer(match found {
                Held::Integer(seconds) => seconds
                    .checked_mul(unit.per_second())
                    .filter(|value| unit.holds(*value)),
                Held::Real(seconds) => {
                    let value = from_seconds(seconds, *unit);
                    (!seconds.is_nan() && unit.holds(value)).then_some(value)
                }
                _ => None,
            }),
            (Reading::Date(day), Held::Text(text)) => {
                integer(text.try_into().ok().and_then(|text| day.of(text)))
            }
            (Reading::Days, found) => integer(as_integer(found).filter(|days| is_day(*days))),
            (Reading::Boolean, found) => integer(match found {
                // A column that is TEXT makes a text of an integer.
                Held::Integer(0) | Held::Text(b"0" | b"false" | b"f") => Some(0),
                Held::Integer(1) | Held::Text(b"1" | b"true" | b"t") => Some(1),
                _ => None,
            }),
            (Reading::Decimal(precision, scale), found) => decimal(found, *precision, *scale),
            (Reading::Json, Held::Text(text)) => match str::from_utf8(text) {
                Ok(text) if serde_json::from_str::<IgnoredAny>(text).is_ok() => {
                    Got::Value(Value::Text(text))
                }
                _ => Got::Wrong,
            },
            _ => Got::Wrong,
        }
    }
}

#[inline]
fn integer<'v>(found: Option<i64>) -> Got<'v> {
    found.map_or(Got::Wrong, |integer| Got::Value(Value::Integer(integer)))
}

/// Seconds as the nearest whole number of a unit; the ends of 64 bits stand for all beyond them.
fn from_seconds(seconds: f64, unit: Unit) -> i64 {
    // Each part is exact where the product of both is not: whole seconds stay whole in nanoseconds.
    let whole = seconds.floor();
    let fraction = (seconds - whole) * unit.per_second() as f64;
    (whole as i64)
        .saturating_mul(unit.per_second())
        .saturating_add(fraction.round() as i64)
}

/// The greatest number of seconds that is read as an instant not after this one: what a real is
/// compared to.
pub(super) fn seconds_bound(value: i64, unit: Unit) -> f64 {
    // The reals in order, numbered: near zero more of them than can be tried stand for one instant.
    let real = |number: i64| f64::from_bits((number ^ ((number >> 63) as u64 >> 1) as i64) as u64);
    let number = f64::MAX.to_bits() as i64;
    let (mut is_in, mut is_not) = (-number - 1, number + 1);
    while is_in + 1 < is_not {
        let middle = i64::midpoint(is_in, is_not);
        if from_seconds(real(middle), unit) <= value {
            is_in = middle;
        } else {
            is_not = middle;
        }
    }
    real(is_in)
}

/// An exact number as a database holds it: a text, or an integer or a real that is one.
fn decimal(found: Held<'_>, precision: usize, scale: usize) -> Got<'_> {
    match found {
        Held::Text(text) => match str::from_utf8(text) {
            Ok(text) if is_decimal(text, precision, scale) => Got::Value(Value::Text(text)),
            _ => Got::Wrong,
        },
        Held::Integer(integer) => made(integer.to_string(), precision, scale),
        // The fewest digits that are this real, without an exponent.
        Held::Real(real) => made(real.to_string(), precision, scale),
        _ => Got::Wrong,
    }
}

fn made<'v>(text: String, precision: usize, scale: usize) -> Got<'v> {
    if is_decimal(&text, precision, scale) {
        Got::Text(text)
    } else {
        Got::Wrong
    }
}

/// Whether a text is a JSON number without an exponent, of so many digits. Zeros at the end of the
/// fraction do not count.
pub(super) fn is_decimal(text: &str, precision: usize, scale: usize) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return false,
        Some((whole, fraction)) => (whole, fraction),
        None => (digits, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return false;
    }
    let before = match whole {
        "" => return false,
        "0" => 0,
        whole if whole.starts_with('0') => return false,
        whole => whole.len(),
    };
    before <= precision - scale && fraction.trim_end_matches('0').len() <= scale
}

/// What a value must be to be read, for messages.
pub(super) fn expected(kind: Type, stored: Stored) -> String {
    match (kind, stored) {
        (Type::Integer, _) => "an integer".to_owned(),
        (Type::Timestamp(unit), Stored::Plain) => {
            format!(
                "a timestamp in {} since 1970 (stored = \"epoch\")",
                unit.name()
            )
        }
        (Type::Timestamp(_), Stored::EpochReal) => {
            "a timestamp in seconds since 1970 (stored = \"epoch_real\")".to_owned()
        }
        (Type::Timestamp(unit), Stored::Iso8601(spelling)) => format!(
            "a timestamp in {}, spelled {spelling} (stored = \"iso8601\")",
            unit.name()
        ),
        (Type::Date, Stored::Iso8601(_)) => "a date, spelled YYYY-MM-DD".to_owned(),
        (Type::Date, _) => "a date in days since 1970 (stored = \"days\")".to_owned(),
        (Type::Boolean, _) => "a boolean: 0, 1, 'false', 'true', 'f', 't', '0' or '1'".to_owned(),
        (Type::Decimal { precision, scale }, _) => format!(
            "a decimal of at most {precision} digits, {scale} of them after the point, such as -0.5 or 12"
        ),
        (Type::Json, _) => "JSON".to_owned(),
        (kind, _) => format!("a {kind}"),
    }
}

/// A value for a message, shortened.
pub(super) fn described(value: Held<'_>) -> String {
    match value {
        Held::Null => "null".to_owned(),
        Held::Integer(integer) => integer.to_string(),
        Held::Real(real) => format!("{real:?}"),
        Held::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
        Held::Text(text) => {
            let text = String::from_utf8_lossy(text);
            let short: String = text.chars().take(40).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            format!("the string {short:?}{dots}")
        }
    }
}

/// A value as the real that it can be sent as: the number that it stands for, if that loses nothing.
pub(super) fn as_real(value: Held<'_>) -> Option<f64> {
    match value {
        Held::Real(real) => Some(real),
        Held::Integer(integer) if integer.unsigned_abs() <= EXACT as u64 => Some(integer as f64),
        Held::Text(text) => {
            let real: f64 = str::from_utf8(text).ok()?.parse().ok()?;
            // SQLite itself reads "nan" as 0: only numbers written as numbers.
            real.is_finite().then_some(real)
        }
        _ => None,
    }
}

/// A value as the 64-bit integer that it can be sent as.
pub(super) fn as_integer(value: Held<'_>) -> Option<i64> {
    match value {
        Held::Integer(integer) => Some(integer),
        Held::Text(text) => str::from_utf8(text).ok()?.parse().ok(),
        Held::Real(real) if real.fract() == 0.0 && real.abs() <= EXACT => Some(real as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use flows_formats::time::Unit;

    use super::{from_seconds, is_decimal, seconds_bound};

    #[test]
    fn bounds_of_seconds_are_exact() {
        for unit in Unit::ALL {
            let range = unit.range();
            let (least, most) = (*range.start(), *range.end());
            for value in [
                least + 1,
                -1_767_225_610,
                -1,
                0,
                1,
                7,
                1_767_225_610_123_456,
                most - 1,
            ] {
                if !range.contains(&value) {
                    continue;
                }
                let bound = seconds_bound(value, unit);
                assert!(from_seconds(bound, unit) <= value, "{value} {unit:?}");
                assert!(
                    from_seconds(bound.next_up(), unit) > value,
                    "{value} {unit:?}"
                );
            }
        }
    }

    #[test]
    fn decimals() {
        for (text, expected) in [
            ("0", true),
            ("-0.50", true),
            ("12.345", false),
            ("12.3400", true),
            ("123", true),
            ("1234", false),
            ("007", false),
            (".5", false),
            ("5.", false),
            ("+5", false),
            ("1e2", false),
            ("", false),
            ("-", false),
            ("NaN", false),
        ] {
            assert_eq!(is_decimal(text, 5, 2), expected, "{text:?}");
        }
    }
}
