//! Instants and days as text (RFC 3339, in UTC), and which of them there are.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate};

use crate::writer::eight_digits;

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
/// assert_eq!(timestamps.text(1_767_225_610_000_000), "2026-01-01T00:00:10.000000Z");
/// assert_eq!(timestamps.text(-1), "1969-12-31T23:59:59.999999Z");
/// assert_eq!(Timestamps::new(Unit::Second).text(0), "1970-01-01T00:00:00Z");
/// ```
#[derive(Clone, Debug)]
pub struct Timestamps {
    per_second: i64,
    digits: usize,
    /// The day that the text is of.
    day: i64,
    text: [u8; MOST],
    length: usize,
}

/// Room for the longest text, and for pieces of eight that are written at its end.
const MOST: usize = 40;

/// How long `2026-01-01T00:00:10` is.
const TO_SECONDS: usize = 19;

impl Timestamps {
    /// A writer of instants in that unit.
    pub fn new(unit: Unit) -> Timestamps {
        let mut text = [0; MOST];
        text[..TO_SECONDS].copy_from_slice(b"1970-01-01T00:00:00");
        let digits = unit.digits();
        let length = TO_SECONDS + if digits > 0 { digits + 2 } else { 1 };
        Timestamps {
            per_second: unit.per_second(),
            digits,
            day: 0,
            text,
            length,
        }
    }

    /// The text of an instant of the years 1 to 9999, which a value of a timestamp column is.
    #[inline]
    pub fn text(&mut self, value: i64) -> &str {
        let (seconds, fraction) = (
            value.div_euclid(self.per_second),
            value.rem_euclid(self.per_second),
        );
        let day = seconds.div_euclid(SECONDS_A_DAY);
        if day != self.day {
            self.set_day(day);
        }
        let second = seconds.rem_euclid(SECONDS_A_DAY) as u64;
        let (hours, minutes, second) = (second / 3600, second / 60 % 60, second % 60);
        // `00HHMMSS`, of which the digits stand two by two.
        let [_, _, h, i, m, n, s, t] =
            (eight_digits(hours * 10_000 + minutes * 100 + second) | ZEROS).to_le_bytes();
        self.text[11..TO_SECONDS].copy_from_slice(&[h, i, b':', m, n, b':', s, t]);
        if self.digits > 0 {
            // All nine digits, of which those of the unit come first.
            let nine = fraction as u64 * (1_000_000_000 / self.per_second as u64);
            let eight = eight_digits(nine / 10) | ZEROS;
            self.text[TO_SECONDS] = b'.';
            self.text[20..28].copy_from_slice(&eight.to_le_bytes());
            self.text[28] = b'0' + (nine % 10) as u8;
        }
        self.text[self.length - 1] = b'Z';
        // Only ASCII was written.
        str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }

    #[cold]
    fn set_day(&mut self, day: i64) {
        self.day = day;
        let mut text = Vec::new();
        date(day, &mut text);
        if text.len() == 10 {
            self.text[..10].copy_from_slice(&text);
        }
    }
}

/// The character `0`, eight times.
const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);

/// Appends a day of the years 1 to 9999, counted from 1970, as RFC 3339's `full-date`.
///
/// ```
/// let mut out = Vec::new();
/// flows_formats::time::date(20_454, &mut out);
/// assert_eq!(out, b"2026-01-01");
/// ```
pub fn date(days: i64, out: &mut Vec<u8>) {
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
    out.extend_from_slice(&[a, b, c, d, b'-', m, n, b'-', e, f]);
}
