//! A column that is compared to times, days or ids, by whatever the server holds it as; its values in SQL.

use flows_formats::Type;
use flows_formats::time::{Unit, date};

use super::kind::Kind;
use super::relation::literal;
use crate::definition::Stored;
use crate::selection::Part;
use crate::store::reading::seconds_bound;
use crate::store::runs::How;

/// A column that is compared.
pub(super) struct Compared {
    /// What stands for it in SQL, and is ordered by.
    pub(super) sql: String,
    column: String,
    kind: Kind,
    declared: Type,
    stored: Stored,
}

impl Compared {
    pub(super) fn new(column: &str, kind: &Kind, declared: Type, stored: Stored) -> Compared {
        let sql = if *kind == Kind::Text {
            // By its bytes, whatever collation the table has.
            format!("{column} COLLATE \"C\"")
        } else if kind.is_text() || matches!(kind, Kind::Other(_)) {
            format!("{column}::text COLLATE \"C\"")
        } else {
            column.to_owned()
        };
        Compared {
            sql,
            column: column.to_owned(),
            kind: kind.clone(),
            declared,
            stored: if kind.is_native_time() {
                Stored::Plain
            } else {
                stored
            },
        }
    }

    /// Whether the server may hold only one value for each.
    pub(super) fn is_exact(&self) -> bool {
        self.stored == Stored::Plain
    }

    /// A condition.
    pub(super) fn compared(&self, how: How, part: &Part) -> String {
        match (part, how) {
            (Part::Integer(integer), how) => self.to_integer(how, *integer),
            (Part::Text(text), how) => self.to_text(how, text),
            // After every id.
            (Part::End, How::Below | How::UpTo) => "true".to_owned(),
            (Part::End, _) => "false".to_owned(),
        }
    }

    fn to_integer(&self, how: How, integer: i64) -> String {
        let sql = &self.sql;
        let (bound, is_met) = self.bound(integer);
        let greater = |bound: &Option<String>| match bound {
            Some(bound) => format!("{sql} > {bound}"),
            None => "true".to_owned(),
        };
        let up_to = |bound: &Option<String>| match bound {
            Some(bound) => format!("{sql} <= {bound}"),
            None => "false".to_owned(),
        };
        if !self.is_exact() {
            let (before, _) = self.bound(integer.saturating_sub(1));
            return match how {
                How::Above => greater(&bound),
                How::UpTo => up_to(&bound),
                How::Below => up_to(&before),
                How::NotBelow => greater(&before),
                How::At => format!("{} AND {}", greater(&before), up_to(&bound)),
            };
        }
        match (how, &bound) {
            (How::Above, _) => greater(&bound),
            (How::UpTo, _) => up_to(&bound),
            (How::Below, Some(bound)) if is_met => format!("{sql} < {bound}"),
            (How::NotBelow, Some(bound)) if is_met => format!("{sql} >= {bound}"),
            (How::At, Some(bound)) if is_met => format!("{sql} = {bound}"),
            (How::Below, _) => up_to(&bound),
            (How::NotBelow, _) => greater(&bound),
            (How::At, _) => "false".to_owned(),
        }
    }

    /// The last value that stands for what is not after an integer, none if there is none; whether it stands for
    /// that very integer.
    fn bound(&self, integer: i64) -> (Option<String>, bool) {
        match (self.declared, self.stored) {
            (Type::Timestamp(unit), _) if self.kind.is_native_time() => {
                native(&self.kind, integer, unit)
            }
            (Type::Date, _) if self.kind.is_native_time() => (Some(day(integer)), true),
            (Type::Timestamp(unit), Stored::EpochReal) => {
                (Some(real(seconds_bound(integer, unit))), true)
            }
            (Type::Timestamp(unit), Stored::Iso8601(spelling)) => (
                spelling.bound(integer, unit).map(|text| literal(&text)),
                true,
            ),
            (_, Stored::Iso8601(spelling)) => {
                let seconds = integer.saturating_mul(86_400);
                let bound = spelling.bound(seconds, Unit::Second);
                (bound.map(|text| literal(&text)), true)
            }
            _ => (Some(whole(integer)), true),
        }
    }

    fn to_text(&self, how: How, text: &str) -> String {
        let Compared { sql, column, .. } = self;
        if self.kind == Kind::Uuid {
            // The order of UUIDs is that of their texts.
            if !is_uuid(text) {
                let sql = format!("{column}::text COLLATE \"C\"");
                return compare(&sql, how, text, "");
            }
            return compare(sql, how, text, "::uuid");
        }
        if how == How::At && self.kind == Kind::Text {
            // An index of the table's own collation serves the first; the second compares bytes.
            return format!(
                "{} AND {}",
                compare(column, how, text, ""),
                compare(sql, how, text, "")
            );
        }
        compare(sql, how, text, "")
    }
}

/// A comparison to a text. One with a NUL is equal to none that PostgreSQL holds, and comes after what it begins
/// with.
fn compare(sql: &str, how: How, text: &str, cast: &str) -> String {
    let (text, has_nul) = match text.split_once('\0') {
        Some((beginning, _)) => (beginning, true),
        None => (text, false),
    };
    let text = literal(text);
    let operator = match how {
        How::At if has_nul => return "false".to_owned(),
        How::At => "=",
        How::NotBelow if !has_nul => ">=",
        How::Above | How::NotBelow => ">",
        How::Below if !has_nul => "<",
        How::Below | How::UpTo => "<=",
    };
    format!("{sql} {operator} {text}{cast}")
}

/// Whether a text is a UUID as PostgreSQL writes it.
pub(super) fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

/// An integer in SQL.
pub(super) fn whole(integer: i64) -> String {
    format!("'{integer}'::int8")
}

/// A real in SQL.
pub(super) fn real(real: f64) -> String {
    let text = match real {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        real => format!("{real:e}"),
    };
    format!("'{text}'::float8")
}

/// A day in SQL; beyond the years that are served, the end of all.
fn day(days: i64) -> String {
    if flows_formats::time::is_day(days) {
        let text = date(days);
        format!("'{}'::date", String::from_utf8_lossy(&text))
    } else {
        format!("'{}infinity'::date", if days < 0 { "-" } else { "" })
    }
}

/// The last microsecond not after an instant, in SQL, and whether it is that instant. Beyond the years that are
/// served, before or after all that is.
fn native(kind: &Kind, value: i64, unit: Unit) -> (Option<String>, bool) {
    let per_second = unit.per_second();
    let (seconds, fraction) = (value.div_euclid(per_second), value.rem_euclid(per_second));
    if !Unit::Second.holds(seconds) {
        // Nothing at all is up to the first; everything that is served is up to the other.
        let bound = (seconds > 0).then_some("'9999-12-31 23:59:59.999999'");
        return match bound {
            Some(bound) => (Some(format!("{bound}::{}", cast(kind))), false),
            None => (None, false),
        };
    }
    let day = date(seconds.div_euclid(86_400));
    let day = String::from_utf8_lossy(&day);
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanoseconds = fraction * (1_000_000_000 / per_second);
    let micros = nanoseconds / 1000;
    let zone = if *kind == Kind::TimestampTz {
        "+00"
    } else {
        ""
    };
    let text = format!(
        "'{day} {hour:02}:{minute:02}:{second:02}.{micros:06}{zone}'::{}",
        cast(kind)
    );
    (Some(text), nanoseconds % 1000 == 0)
}

fn cast(kind: &Kind) -> &'static str {
    match kind {
        Kind::TimestampTz => "timestamptz",
        // A day is compared as its first instant.
        _ => "timestamp",
    }
}
