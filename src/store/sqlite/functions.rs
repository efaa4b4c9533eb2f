//! SQL functions of ours: what takes a scan's rows, and what filters compare with.

use std::sync::{Mutex, PoisonError};

use flows_formats::decimal::scaled;
use flows_formats::time::Unit;
use flows_formats::{Type, Value};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{Null, ValueRef};
use rusqlite::{Connection, Error, Result, ffi};

use super::held;
use super::scan::{self, INSTRUCTIONS, is_over};
use crate::definition::Stored;
use crate::store::reading::{Got, Reading, as_integer, as_real};

/// Takes a record's values while SQLite runs the query. Its arguments are at hand, where reading the
/// columns of a result costs as much again as finding them.
pub(super) const EMIT: &str = "flows_emit";

/// The integer that a value stands for; null if none.
pub(super) const INTEGER: &str = "flows_integer";

/// The real that a value stands for; null if none.
pub(super) const REAL: &str = "flows_real";

/// The integer that a timestamp or a date is sent as, of a value and of how its column is declared, as
/// [`declared_as`] writes it; null of what is none.
pub(super) const INSTANT: &str = "flows_instant";

/// The decimal that a value is, at a scale, as a blob: as numbers are in order, so are these.
pub(super) const DECIMAL: &str = "flows_decimal";

/// A string as it is sent, with U+FFFD where it is not UTF-8; null of what is none.
pub(super) const SENT: &str = "flows_sent";

/// Whether a string, the first argument, is sent as one that is like a pattern, the second one.
pub(super) const LIKE: &str = "flows_like";

/// The order of strings as UTF-8, for databases whose strings are UTF-16.
pub(super) const COLLATION: &str = "flows_utf8";

/// Steps of a comparison between two looks at whether anyone still waits for it.
const STEPS: u32 = 16 * 1024;

/// Registers them, once for a connection, and has SQLite ask whether to go on.
pub(super) fn register(connection: &Connection) -> Result<()> {
    // Not for views and triggers of the database to call.
    let ours = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    let pure = ours | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function(EMIT, -1, ours, |call| emit(call).map(|()| Null))?;
    connection.create_scalar_function(INTEGER, 1, pure, |call| {
        Ok(as_integer(held(call.get_raw(0))))
    })?;
    connection.create_scalar_function(REAL, 1, pure, |call| Ok(as_real(held(call.get_raw(0)))))?;
    connection.create_scalar_function(INSTANT, 2, pure, instant)?;
    connection.create_scalar_function(DECIMAL, 2, pure, decimal)?;
    connection.create_scalar_function(SENT, 1, pure, |call| Ok(sent(call.get_raw(0))))?;
    connection.create_scalar_function(LIKE, 2, pure, like)?;
    connection.create_collation(COLLATION, |a, b| a.cmp(b))?;
    rusqlite::vtab::array::load_module(connection)?;
    connection.progress_handler(INSTRUCTIONS, Some(is_over))
}

#[inline]
fn emit(call: &Context<'_>) -> Result<()> {
    if scan::record(|column| call.get_raw(column)) {
        Ok(())
    } else {
        // The reason is in the scan.
        Err(Error::UserFunctionError("stopped".into()))
    }
}

/// How a column of timestamps or dates is declared, for [`INSTANT`].
pub(super) fn declared_as(kind: Type, stored: Stored) -> String {
    let unit = match kind {
        Type::Timestamp(unit) => unit.name(),
        _ => "",
    };
    match stored {
        Stored::Iso8601(spelling) => format!("{unit},{spelling}"),
        _ => format!("{unit},"),
    }
}

/// Reads what [`declared_as`] writes.
fn reading(declared: &str) -> Option<Reading> {
    let (unit, spelling) = declared.split_once(',')?;
    let stored = match spelling {
        "" => Stored::EpochReal,
        spelling => Stored::Iso8601(spelling.parse().ok()?),
    };
    let unit = Unit::ALL.into_iter().find(|known| known.name() == unit);
    let kind = unit.map_or(Type::Date, Type::Timestamp);
    Some(Reading::new(kind, stored))
}

fn instant(call: &Context<'_>) -> Result<Option<i64>> {
    // Read once for a statement, since it is a constant.
    let reading = call.get_or_create_aux(1, |declared| {
        let declared = declared.as_str()?;
        let reading = reading(declared).map(Mutex::new);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(reading)
    })?;
    let Some(reading) = &*reading else {
        return Ok(None);
    };
    let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(match reading.read(held(call.get_raw(0))) {
        Got::Value(Value::Integer(integer)) => Some(integer),
        _ => None,
    })
}

/// The most digits of a decimal.
const MOST_DIGITS: usize = 38;

fn decimal(call: &Context<'_>) -> Result<Option<Vec<u8>>> {
    let scale: u32 = call.get(1)?;
    let mut reading = Reading::Decimal(MOST_DIGITS, scale as usize);
    let number = match reading.read(held(call.get_raw(0))) {
        Got::Value(Value::Text(text)) => scaled(text, scale),
        Got::Text(text) => scaled(&text, scale),
        _ => None,
    };
    Ok(number.map(|number| sortable(number).to_vec()))
}

/// A number as bytes that are in order as numbers are.
pub(super) fn sortable(number: i128) -> [u8; 16] {
    (number ^ i128::MIN).to_be_bytes()
}

fn sent(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    }
}

fn like(call: &Context<'_>) -> Result<bool> {
    let (ValueRef::Text(text), ValueRef::Text(pattern)) = (call.get_raw(0), call.get_raw(1)) else {
        return Ok(false);
    };
    is_like(String::from_utf8_lossy(text).as_bytes(), pattern, is_over)
        .ok_or_else(|| Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None))
}

/// Whether all of a string is like a pattern in which `*` stands for any characters and `?` for one;
/// `None` if it is over before that is known. SQLite's own GLOB asks nobody, and a long string and a
/// long pattern take it minutes.
fn is_like(text: &[u8], pattern: &[u8], mut is_over: impl FnMut() -> bool) -> Option<bool> {
    let (mut at, mut next) = (0, 0);
    // Where the last `*` ends in the pattern, and what it stands for in the string.
    let mut any: Option<(usize, usize)> = None;
    let mut steps = 0;
    while let Some(byte) = text.get(at) {
        steps += 1;
        if steps % STEPS == 0 && is_over() {
            return None;
        }
        match pattern.get(next) {
            Some(b'*') => {
                next += 1;
                any = Some((next, at));
            }
            Some(b'?') => {
                next += 1;
                at += character(*byte);
            }
            Some(same) if same == byte => {
                next += 1;
                at += 1;
            }
            _ => {
                // The last `*` stands for one character more.
                let Some((after, begin)) = any else {
                    return Some(false);
                };
                let Some(byte) = text.get(begin) else {
                    return Some(false);
                };
                at = begin + character(*byte);
                next = after;
                any = Some((after, at));
            }
        }
    }
    let rest = pattern.get(next..).unwrap_or_default();
    Some(rest.iter().all(|byte| *byte == b'*'))
}

/// How many bytes a character has that begins with this one.
fn character(first: u8) -> usize {
    match first {
        0xF0..=0xF7 => 4,
        0xE0..=0xEF => 3,
        0xC0..=0xDF => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "*", true),
            ("", "?", false),
            ("a", "", false),
            ("abc", "abc", true),
            ("abc", "ABC", false),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "*b*", true),
            ("abc", "a?c", true),
            ("abc", "a??c", false),
            ("aaab", "*aab", true),
            ("abcabd", "*ab?", true),
            ("abcabd", "a*c*d", true),
            ("abcabd", "a*c*c", false),
            ("é", "?", true),
            ("é", "*??", false),
            ("é€😀", "???", true),
            ("xé", "*?é", true),
            ("a[b]%_", "a[b]%_", true),
            ("a\0b", "a", false),
            ("a\0b", "a\0b", true),
            ("a", "a\0b", false),
        ] {
            let found = is_like(text.as_bytes(), pattern.as_bytes(), || false);
            assert_eq!(found, Some(expected), "{text:?} {pattern:?}");
        }
    }

    #[test]
    fn ends_when_nobody_waits() {
        let (text, pattern) = ("a".repeat(400_000), format!("*{}b", "a".repeat(30_000)));
        assert_eq!(is_like(text.as_bytes(), pattern.as_bytes(), || true), None);
    }

    #[test]
    fn broken_characters_are_no_way_out_of_the_text() {
        for text in [&b"\xF0"[..], b"a\xE2", b"\xC3\xC3\xC3"] {
            for pattern in ["?", "*?", "a?", "*??*", "???"] {
                is_like(text, pattern.as_bytes(), || false).unwrap();
            }
        }
    }
}
