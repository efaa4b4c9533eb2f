//! Instants and days as text (RFC 3339, in UTC), and which of them there are.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate};

use crate::writer::{eight_digits, pairs_of_digits};

/// Days from the first of January of the year 1 to that of 1970.
const BEFORE_1970: i32 = 719_163;

/// The first and the last day, as days since 1970: those of the years 1 to 9999, which is what RFC 3339
/// and every reader of ours can write.
const DAYS: RangeInclusive<i64> = -719_162..=2_932_896;

const SECONDS_A_DAY: i64 = 86_400;

/// What a timestamp counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Second,
    /// Milliseconds.
    Millisecond,
    /// Microseconds.
    Microsecond,
    /// Nanoseconds: only from 1677-09-21 to 2262-04-11, which 64 bits hold.
    Nanosecond,
}

impl Unit {
    /// Every unit, the longest first.
    pub const ALL: [Unit; 4] = [
        Unit::Second,
        Unit::Millisecond,
        Unit::Microsecond,
        Unit::Nanosecond,
    ];

    /// The name by which configuration and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Second => "s",
            Unit::Millisecond => "ms",
            Unit::Microsecond => "us",
            Unit::Nanosecond => "ns",
        }
    }

    /// How many digits a fraction of a second has in it.
    pub fn digits(self) -> usize {
        match self {
            Unit::Second => 0,
            Unit::Millisecond => 3,
            Unit::Microsecond => 6,
            Unit::Nanosecond => 9,
        }
    }

    /// How many of it a second has.
    pub fn per_second(self) -> i64 {
        10_i64.pow(self.digits() as u32)
    }

    /// Whether so many of it since 1970 are within the years 1 to 9999.
    ///
    /// ```
    /// use flows_formats::time::Unit;
    /// assert!(Unit::Second.holds(253_402_300_799) && !Unit::Second.holds(253_402_300_800));
    /// ```
    pub fn holds(self, value: i64) -> bool {
        self.range().contains(&value)
    }

    /// The least and the greatest of these.
    pub fn range(self) -> RangeInclusive<i64> {
        let day = SECONDS_A_DAY * self.per_second();
        // Nanoseconds of those years are more than fit.
        let least = DAYS.start().saturating_mul(day);
        least..=(DAYS.end() + 1).saturating_mul(day).saturating_sub(1)
    }
}

/// Whether a day, counted from 1970, is within the years 1 to 9999.
pub fn is_day(days: i64) -> bool {
    DAYS.contains(&days)
}

/// The day, counted from 1970, of a date of the years 1 to 9999; `None` when there is none such.
///
/// ```
/// use flows_formats::time::day_of;
/// assert_eq!(day_of(1970, 1, 2), Some(1));
/// assert_eq!(day_of(2026, 2, 29), None);
/// ```
pub fn day_of(year: u32, month: u32, day: u32) -> Option<i64> {
    let year = i32::try_from(year)
        .ok()
        .filter(|year| (1..=9999).contains(year))?;
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(i64::from(date.num_days_from_ce() - BEFORE_1970))
}

/// Writes instants, one after another, most of which are of the same day.
///
/// ```
/// use flows_formats::time::{Timestamps, Unit};
/// let mut timestamps = Timestamps::new(Unit::Microsecond);
/// let mut text = [0; 30];
/// let length = timestamps.write(1_767_225_610_000_000, &mut text);
/// assert_eq!(&text[..length], b"2026-01-01T00:00:10.000000Z");
/// ```
#[derive(Clone, Debug)]
pub struct Timestamps {
    unit: Unit,
    /// How long a text is.
    length: usize,
    /// The day written last, in seconds since 1970, and its text.
    day: i64,
    text: [u8; 10],
}

impl Timestamps {
    /// A writer of instants in that unit.
    pub fn new(unit: Unit) -> Timestamps {
        let fraction = match unit {
            Unit::Second => 0,
            unit => 1 + unit.digits(),
        };
        Timestamps {
            unit,
            length: "2026-01-01T00:00:10Z".len() + fraction,
            day: 0,
            text: *b"1970-01-01",
        }
    }

    /// Writes an instant of the years 1 to 9999, which a value of a timestamp column is, and returns the
    /// length of its text. What comes after it in `out` is undefined.
    #[inline]
    pub fn write(&mut self, value: i64, out: &mut [u8; 30]) -> usize {
        // Divisors that the compiler knows. Nine digits are written: eight at once, and the last.
        let (seconds, eight, ninth) = match self.unit {
            Unit::Second => (value, 0, 0),
            Unit::Millisecond => {
                let (seconds, fraction) = (value.div_euclid(1000), value.rem_euclid(1000));
                (seconds, fraction * 100_000, 0)
            }
            Unit::Microsecond => {
                let (seconds, fraction) =
                    (value.div_euclid(1_000_000), value.rem_euclid(1_000_000));
                (seconds, fraction * 100, 0)
            }
            Unit::Nanosecond => {
                let fraction = value.rem_euclid(1_000_000_000);
                let seconds = value.div_euclid(1_000_000_000);
                (seconds, fraction / 10, fraction % 10)
            }
        };
        let mut second = seconds.wrapping_sub(self.day);
        if !(0..SECONDS_A_DAY).contains(&second) {
            self.set_day(seconds.div_euclid(SECONDS_A_DAY));
            second = seconds.rem_euclid(SECONDS_A_DAY);
        }
        let (second, minute) = (second as u64 % 60, second as u64 / 60);
        let (hour, minute) = (minute / 60, minute % 60);
        let [h, i, m, n, s, t, ..] =
            (pairs_of_digits(hour | (minute << 16) | (second << 32)) | ZEROS).to_le_bytes();
        out[..10].copy_from_slice(&self.text);
        out[10..19].copy_from_slice(&[b'T', h, i, b':', m, n, b':', s, t]);
        if self.unit != Unit::Second {
            out[19] = b'.';
            out[20..28].copy_from_slice(&(eight_digits(eight as u64) | ZEROS).to_le_bytes());
            out[28] = b'0' + ninth as u8;
        }
        out[self.length - 1] = b'Z';
        self.length
    }

    /// The same as a string, where speed does not matter.
    pub fn text(&mut self, value: i64) -> String {
        let mut text = [0; 30];
        let length = self.write(value, &mut text);
        text[..length]
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    }

    #[inline(never)]
    fn set_day(&mut self, day: i64) {
        self.day = day * SECONDS_A_DAY;
        self.text = date(day);
    }
}

/// The character `0`, eight times.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// A day of the years 1 to 9999, counted from 1970, as RFC 3339's `full-date`.
///
/// ```
/// assert_eq!(&flows_formats::time::date(20_454), b"2026-01-01");
/// ```
pub fn date(days: i64) -> [u8; 10] {
    let from_ce = i32::try_from(days)
        .ok()
        .and_then(|days| days.checked_add(BEFORE_1970));
    let date = from_ce
        .and_then(NaiveDate::from_num_days_from_ce_opt)
        .unwrap_or_default();
    let digits = eight_digits(
        u64::from(date.year().unsigned_abs()) * 10_000 + u64::from(date.month() * 100 + date.day()),
    );
    let [a, b, c, d, m, n, e, f] = (digits | ZEROS).to_le_bytes();
    [a, b, c, d, b'-', m, n, b'-', e, f]
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, SecondsFormat};

    use super::{DAYS, Timestamps, Unit};

    #[test]
    fn instants_are_those_of_chrono() {
        for (unit, format) in Unit::ALL.into_iter().zip([
            SecondsFormat::Secs,
            SecondsFormat::Millis,
            SecondsFormat::Micros,
            SecondsFormat::Nanos,
        ]) {
            let (least, most) = unit.range().into_inner();
            let day = 86_400 * unit.per_second();
            let mut values = vec![least, most, least + 1, most - 1, most, least, -1, 0, 1];
            for days in DAYS.step_by(97) {
                if let Some(midnight) = days.checked_mul(day) {
                    values.extend(
                        [-1, 0, 1, day / 86_399 * 3599, day - 1]
                            .map(|part| midnight.saturating_add(part).clamp(least, most)),
                    );
                }
            }
            let mut timestamps = Timestamps::new(unit);
            for value in values {
                let per_second = unit.per_second();
                let nanoseconds = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
                let expected =
                    DateTime::from_timestamp(value.div_euclid(per_second), nanoseconds as u32)
                        .unwrap()
                        .to_rfc3339_opts(format, true);
                let mut text = [0; 30];
                let length = timestamps.write(value, &mut text);
                assert_eq!(
                    str::from_utf8(&text[..length]),
                    Ok(expected.as_str()),
                    "{value}"
                );
            }
        }
    }
}
