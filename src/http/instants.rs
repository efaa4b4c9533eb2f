//! Instants as clients write them: RFC 3339, a day, an integer in the column's unit, `now-3h`.

use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use flows_formats::time::{Timestamps, Unit};

use super::points::Point;

/// What may stand for an instant, as errors say it.
pub(super) fn allowed(unit: Unit) -> String {
    format!(
        "a time such as 2026-01-01T00:00:00Z (RFC 3339, the years 1 to 9999, at most nine digits after \
         the point), a day, whose midnight UTC it means, an integer in {}, or now, now-90s, now-5m, \
         now-3h or now-7d",
        unit.name()
    )
}

/// What the server's clock said when a request was read, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now(i64);

impl Now {
    pub(super) fn read() -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let microseconds = since.map(|since| i64::try_from(since.as_micros()));
        // A clock before 1970 is a clock that was not set.
        Now(microseconds.ok().and_then(Result::ok).unwrap_or_default())
    }

    /// What `now` or `now-3h` stands for, in microseconds; `None` when it is neither, or before the
    /// year 1.
    fn of(self, text: &str) -> Option<i64> {
        let ago = text.strip_prefix("now")?;
        let seconds = match ago.strip_prefix('-') {
            None if ago.is_empty() => 0,
            None => return None,
            Some(ago) => {
                let unit = ago.chars().next_back()?;
                let seconds = match unit {
                    's' => 1,
                    'm' => 60,
                    'h' => 3600,
                    'd' => 86_400,
                    _ => return None,
                };
                let number = &ago[..ago.len() - 1];
                let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
                let number: i64 = number.parse().ok().filter(|_| is_number)?;
                number.checked_mul(seconds)?
            }
        };
        let ago = seconds.checked_mul(Unit::Microsecond.per_second())?;
        let then = self.0.checked_sub(ago)?;
        Unit::Microsecond.holds(then).then_some(then)
    }

    /// What was relative to now as an instant that stays what it is.
    pub(super) fn absolute(self, text: &str) -> Option<String> {
        let mut timestamps = Timestamps::new(Unit::Microsecond);
        self.of(text).map(|then| timestamps.text(then))
    }

    /// Where an instant lies among those of a unit; `None` when the text is none.
    pub(super) fn point(self, text: &str, unit: Unit) -> Option<Point<i64>> {
        if let Some(integer) = integer(text) {
            return Some(Point::At(integer));
        }
        let nanoseconds = match self.of(text) {
            Some(microseconds) => i128::from(microseconds) * 1000,
            None => nanoseconds(text)?,
        };
        let each = 1_000_000_000 / i128::from(unit.per_second());
        let exact = nanoseconds.rem_euclid(each) == 0;
        Some(match i64::try_from(nanoseconds.div_euclid(each)) {
            Ok(at) if exact => Point::At(at),
            Ok(before) => Point::After(before),
            Err(_) if nanoseconds < 0 => Point::BeforeAll,
            Err(_) => Point::AfterAll,
        })
    }
}

/// A decimal integer without a sign or with a minus.
pub(super) fn integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

/// An instant of RFC 3339 since 1970; without an offset it is UTC, and a day is its midnight.
fn nanoseconds(text: &str) -> Option<i128> {
    let day = text.get(..10)?;
    let rest = &text[10..];
    let time = match rest.strip_prefix(['T', 't', ' ']) {
        None if rest.is_empty() => "00:00:00",
        None => return None,
        Some(time) => time,
    };
    let fraction = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
    let end = time.find(|c| !fraction(c)).unwrap_or(time.len());
    // `+02:00` is not time, whatever became of the plus sign.
    let (time, offset) = time.split_at(end);
    let digits = time.split_once('.').map_or(0, |(_, digits)| digits.len());
    if digits > 9 {
        return None;
    }
    let offset = match offset.strip_prefix(' ') {
        Some(plus) => format!("+{plus}"),
        None if offset.is_empty() => "Z".to_owned(),
        None => offset.to_owned(),
    };
    let instant = DateTime::parse_from_rfc3339(&format!("{day}T{time}{offset}")).ok()?;
    // A leap second is the first of the next minute, as POSIX has it.
    let nanoseconds = i128::from(instant.timestamp()) * 1_000_000_000
        + i128::from(instant.timestamp_subsec_nanos());
    let seconds = i64::try_from(nanoseconds.div_euclid(1_000_000_000)).ok()?;
    Unit::Second.holds(seconds).then_some(nanoseconds)
}

#[cfg(test)]
mod tests {
    use flows_formats::time::Unit;

    use super::{Now, Point};

    #[test]
    fn instants() {
        let now = Now(1_767_225_610_500_000);
        let second = |text| now.point(text, Unit::Second);
        for (text, expected) in [
            ("0", Point::At(0)),
            ("-5", Point::At(-5)),
            ("1970-01-01", Point::At(0)),
            ("1970-01-01T00:00:10Z", Point::At(10)),
            ("1970-01-01t00:00:10z", Point::At(10)),
            ("1970-01-01 00:00:10", Point::At(10)),
            ("1970-01-01T02:00:10+02:00", Point::At(10)),
            ("1970-01-01 02:00:10 02:00", Point::At(10)),
            ("1970-01-01T00:00:10.000-00:00", Point::At(10)),
            ("1969-12-31T19:00:10-05:00", Point::At(10)),
            ("1970-01-01T00:00:10.5Z", Point::After(10)),
            ("1969-12-31T23:59:59.5", Point::After(-1)),
            ("1970-01-01T00:00:10.000000001Z", Point::After(10)),
            ("2016-12-31T23:59:60Z", Point::At(1_483_228_800)),
            ("0001-01-01", Point::At(-62_135_596_800)),
            (
                "9999-12-31T23:59:59.999999999Z",
                Point::After(253_402_300_799),
            ),
            ("now", Point::After(1_767_225_610)),
            ("now-90s", Point::After(1_767_225_520)),
            ("now-0m", Point::After(1_767_225_610)),
            ("now-3h", Point::After(1_767_214_810)),
            ("now-7d", Point::After(1_766_620_810)),
        ] {
            assert_eq!(second(text), Some(expected), "{text}");
        }
        for wrong in [
            "",
            "+5",
            "5.0",
            "1970-01-01T",
            "1970-01-01T00",
            "1970-01-01T00:00",
            "1970-01-01T00:00:10Z ",
            "1970-01-01T00:00:10.Z",
            "1970-01-01T00:00:10.1234567890Z",
            "1970-01-01T00:00:10+0200",
            "1970-01-01T00:00:10+02",
            "1970-01-01T24:00:00Z",
            "1970-02-29",
            "1970-1-1",
            "1970-01-01Z",
            "0000-12-31",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "10000-01-01",
            "-0001-01-01",
            "1970-01-01T00:00:00é",
            "1970-01-0é",
            "now ",
            "now-",
            "now-h",
            "now-3",
            "now-3w",
            "now--3h",
            "now-+3h",
            "now+3h",
            "now-3é",
            "Now",
            "now-99999999999d",
            "now-999999d",
        ] {
            assert_eq!(second(wrong), None, "{wrong}");
        }
        let nanosecond = |text| now.point(text, Unit::Nanosecond);
        assert_eq!(nanosecond("0001-01-01"), Some(Point::BeforeAll));
        assert_eq!(nanosecond("9999-12-31"), Some(Point::AfterAll));
        assert_eq!(
            nanosecond("1677-09-21T00:12:43.145224192Z"),
            Some(Point::At(i64::MIN))
        );
        assert_eq!(
            nanosecond("2262-04-11T23:47:16.854775807Z"),
            Some(Point::At(i64::MAX))
        );
        assert_eq!(
            nanosecond("2262-04-11T23:47:16.854775808Z"),
            Some(Point::AfterAll)
        );
    }

    #[test]
    fn what_is_relative_becomes_absolute() {
        let absolute = |text| Now(1_767_225_610_500_000).absolute(text);
        assert_eq!(absolute("now").unwrap(), "2026-01-01T00:00:10.500000Z");
        assert_eq!(absolute("now-1d").unwrap(), "2025-12-31T00:00:10.500000Z");
        assert_eq!(absolute("2026-01-01"), None);
    }
}
