//! How a table spells its times: `2026-01-01 00:00:10`, and so on.
//!
//! A spelling is written as a pattern: `YYYY-MM-DD`, then nothing or a `T` or a space with `HH:MM` or
//! `HH:MM:SS`, then nothing or a point with as many `f` as a fraction has digits (1 to 9), or `.f*`
//! where that varies, then nothing, `Z` or `+00:00`. Only spellings in which the order of texts is the
//! order of times can be written so.

use std::fmt;
use std::str::FromStr;

use flows_formats::time::{Unit, date, day_of};

/// The most digits of a fraction.
const MOST_DIGITS: usize = 9;

/// How a table spells its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spelling {
    /// What is between day and time; `None` when there is only a day.
    separator: Option<u8>,
    /// Whether seconds are written.
    seconds: bool,
    fraction: Fraction,
    suffix: &'static str,
}

/// The fraction of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fraction {
    /// So many digits; no point when there is none.
    Digits(usize),
    /// None, or a point and up to [`MOST_DIGITS`] digits.
    Varying,
}

impl Spelling {
    /// What SQLite's own functions, Python and Django write: `YYYY-MM-DD HH:MM:SS.f*`.
    pub const USUAL: Spelling = Spelling {
        separator: Some(b' '),
        seconds: true,
        fraction: Fraction::Varying,
        suffix: "",
    };

    /// A day: `YYYY-MM-DD`.
    pub const DAY: Spelling = Spelling {
        separator: None,
        seconds: false,
        fraction: Fraction::Digits(0),
        suffix: "",
    };

    /// How many digits a fraction has, if that does not vary.
    fn digits(self) -> Option<usize> {
        match self.fraction {
            Fraction::Digits(digits) => Some(digits),
            Fraction::Varying => None,
        }
    }

    /// The last text that stands for an instant not after this one: what a text is compared to. `None`
    /// before the year 1; after the year 9999, its last instant's.
    ///
    /// ```
    /// use flows::definition::Spelling;
    /// use flows_formats::time::Unit;
    /// let spelling: Spelling = "YYYY-MM-DD HH:MM:SS".parse().unwrap();
    /// assert_eq!(spelling.bound(10_500, Unit::Millisecond).unwrap(), "1970-01-01 00:00:10");
    /// let varying = Spelling::USUAL.bound(10_500, Unit::Millisecond).unwrap();
    /// assert_eq!(varying, "1970-01-01 00:00:10.500999999");
    /// ```
    pub fn bound(self, value: i64, unit: Unit) -> Option<String> {
        let per_second = unit.per_second();
        let (mut seconds, mut fraction) =
            (value.div_euclid(per_second), value.rem_euclid(per_second));
        if !Unit::Second.holds(seconds) {
            if seconds < 0 {
                return None;
            }
            (seconds, fraction) = (LAST_SECOND, per_second - 1);
        }
        let nanoseconds = fraction * (1_000_000_000 / per_second);
        // To all within the unit, which a value that is finer than the unit would be.
        let nanoseconds = nanoseconds + 1_000_000_000 / per_second - 1;
        let mut text = date(seconds.div_euclid(86_400)).to_vec();
        let second = seconds.rem_euclid(86_400);
        if let Some(separator) = self.separator {
            text.push(separator);
            let (hours, minutes) = (second / 3600, second / 60 % 60);
            text.extend_from_slice(format!("{hours:02}:{minutes:02}").as_bytes());
        }
        if self.seconds {
            text.extend_from_slice(format!(":{:02}", second % 60).as_bytes());
        }
        let digits = self.digits().unwrap_or(MOST_DIGITS);
        if digits > 0 {
            let nine = format!(".{nanoseconds:09}");
            text.extend_from_slice(&nine.as_bytes()[..=digits]);
        }
        text.extend_from_slice(self.suffix.as_bytes());
        String::from_utf8(text).ok()
    }

    /// The instant that a text of this spelling stands for; `None` if it is not one, or is finer than
    /// the unit.
    #[inline]
    pub fn read(self, text: &[u8], unit: Unit, day: &mut Day) -> Option<i64> {
        let (date, rest) = text.split_first_chunk::<10>()?;
        let days = day.of(date)?;
        let (second, nanoseconds) = self.time(rest)?;
        let per_second = unit.per_second();
        let each = 1_000_000_000 / per_second;
        if nanoseconds % each != 0 {
            return None;
        }
        // Within i64 but for nanoseconds.
        (days * 86_400 + second)
            .checked_mul(per_second)?
            .checked_add(nanoseconds / each)
    }

    /// The seconds of the day, and the nanoseconds of the second.
    #[inline]
    fn time(self, text: &[u8]) -> Option<(i64, i64)> {
        let Some(separator) = self.separator else {
            return text.is_empty().then_some((0, 0));
        };
        let text = text.strip_suffix(self.suffix.as_bytes())?;
        let (minutes, text) = text.split_first_chunk::<6>()?;
        let [found, h, i, b':', m, n] = *minutes else {
            return None;
        };
        let (hours, minutes) = (two(h, i)?, two(m, n)?);
        if found != separator || hours > 23 || minutes > 59 {
            return None;
        }
        let second = hours * 3600 + minutes * 60;
        if !self.seconds {
            return text.is_empty().then_some((second, 0));
        }
        let (seconds, text) = text.split_first_chunk::<3>()?;
        let [b':', s, t] = *seconds else {
            return None;
        };
        let seconds = two(s, t).filter(|seconds| *seconds <= 59)?;
        let digits = match (text, self.fraction) {
            ([], Fraction::Digits(0) | Fraction::Varying) => return Some((second + seconds, 0)),
            ([b'.', digits @ ..], Fraction::Digits(count)) if digits.len() == count => digits,
            ([b'.', digits @ ..], Fraction::Varying) => digits,
            _ => return None,
        };
        if digits.is_empty() || digits.len() > MOST_DIGITS {
            return None;
        }
        let mut nanoseconds = 0;
        for at in 0..MOST_DIGITS {
            let digit = match digits.get(at) {
                Some(digit) => one(*digit)?,
                None => 0,
            };
            nanoseconds = nanoseconds * 10 + digit;
        }
        Some((second + seconds, nanoseconds))
    }
}

const LAST_SECOND: i64 = 253_402_300_799;

#[inline]
fn one(digit: u8) -> Option<i64> {
    digit.is_ascii_digit().then(|| i64::from(digit - b'0'))
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<i64> {
    Some(one(tens)? * 10 + one(ones)?)
}

/// A day's text, and which day it is: most records have that of the one before.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    text: [u8; 10],
    days: i64,
}

impl Default for Day {
    fn default() -> Day {
        Day {
            text: *b"1970-01-01",
            days: 0,
        }
    }
}

impl Day {
    /// The day that a text `YYYY-MM-DD` stands for, counted from 1970.
    #[inline]
    pub fn of(&mut self, text: &[u8; 10]) -> Option<i64> {
        if *text != self.text {
            self.days = read_day(text)?;
            self.text = *text;
        }
        Some(self.days)
    }
}

#[cold]
fn read_day(text: &[u8; 10]) -> Option<i64> {
    let [a, b, c, d, b'-', m, n, b'-', e, f] = *text else {
        return None;
    };
    let year = two(a, b)? * 100 + two(c, d)?;
    let number = |number: i64| u32::try_from(number).ok();
    day_of(number(year)?, number(two(m, n)?)?, number(two(e, f)?)?)
}

/// There is no spelling of that pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "YYYY-MM-DD, then nothing or T or a space with HH:MM or HH:MM:SS, then nothing or .f with an f for \
     each digit, or .f* if they vary, then nothing, Z or +00:00 (with a varying fraction not Z, since \
     …10.5Z would sort before …10Z)"
)]
pub struct NoSpelling;

impl FromStr for Spelling {
    type Err = NoSpelling;

    fn from_str(pattern: &str) -> Result<Spelling, NoSpelling> {
        let rest = pattern.strip_prefix("YYYY-MM-DD").ok_or(NoSpelling)?;
        let Some(separator) = rest.bytes().next() else {
            return Ok(Spelling::DAY);
        };
        let rest = rest.strip_prefix(['T', ' ']).ok_or(NoSpelling)?;
        let rest = rest.strip_prefix("HH:MM").ok_or(NoSpelling)?;
        let (seconds, rest) = match rest.strip_prefix(":SS") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let suffixes = ["+00:00", "Z", ""];
        let suffix = suffixes.into_iter().find(|suffix| rest.ends_with(suffix));
        let suffix = suffix.unwrap_or_default();
        let fraction = match &rest[..rest.len() - suffix.len()] {
            "" => Fraction::Digits(0),
            ".f*" if seconds && suffix != "Z" => Fraction::Varying,
            digits if seconds => {
                let digits = digits.strip_prefix('.').ok_or(NoSpelling)?;
                let fits = (1..=MOST_DIGITS).contains(&digits.len());
                if !fits || digits.bytes().any(|byte| byte != b'f') {
                    return Err(NoSpelling);
                }
                Fraction::Digits(digits.len())
            }
            _ => return Err(NoSpelling),
        };
        Ok(Spelling {
            separator: Some(separator),
            seconds,
            fraction,
            suffix,
        })
    }
}

impl fmt::Display for Spelling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YYYY-MM-DD")?;
        if let Some(separator) = self.separator {
            write!(f, "{}HH:MM", char::from(separator))?;
        }
        if self.seconds {
            f.write_str(":SS")?;
        }
        match self.fraction {
            Fraction::Digits(0) => {}
            Fraction::Digits(digits) => write!(f, ".{}", "f".repeat(digits))?,
            Fraction::Varying => f.write_str(".f*")?,
        }
        f.write_str(self.suffix)
    }
}
