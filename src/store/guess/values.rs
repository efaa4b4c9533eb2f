//! What is to see of values without a guess.

use std::cmp::Ordering;
use std::collections::HashSet;

use rusqlite::types::{Value, ValueRef};

use crate::selection::is_id;
use crate::store::reading::{Got, Reading};
use crate::store::sqlite::held;

/// Whether a value is one of the type that the reading is of.
pub(in crate::store) fn is_read(reading: &mut Reading, value: &Value) -> bool {
    !matches!(
        reading.read(held(ValueRef::from(value))),
        Got::Null | Got::Wrong
    )
}

/// The text that a value is.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// The number that a value is.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(integer) => Some(*integer as f64),
        Value::Real(real) => Some(*real),
        _ => None,
    }
}

/// How many values are null.
pub(in crate::store) fn nulls(values: &[Value]) -> usize {
    values.iter().filter(|value| **value == Value::Null).count()
}

/// Whether values can be ids: all of them integers, or all strings such as positions can carry.
pub(in crate::store) fn can_be_ids(values: &[Value]) -> bool {
    let are = |is: fn(&Value) -> bool| values.iter().all(is);
    are(|value| matches!(value, Value::Integer(_)))
        // What begins with that sign was not UTF-8.
        || are(|value| text(value).is_some_and(|text| is_id(text) && !text.starts_with('\u{FFFD}')))
}

/// Whether no two integers or strings are the same.
pub(in crate::store) fn differ(values: &[Value]) -> bool {
    let (mut integers, mut texts) = (HashSet::new(), HashSet::new());
    values.iter().all(|value| match value {
        Value::Integer(integer) => integers.insert(*integer),
        Value::Text(text) => texts.insert(text),
        _ => false,
    })
}

/// Whether values never decrease.
pub(in crate::store) fn grows(values: &[Value]) -> bool {
    let order = |pair: &[Value]| match pair {
        [Value::Text(a), Value::Text(b)] => Some(a.cmp(b)),
        [a, b] => number(a)?.partial_cmp(&number(b)?),
        _ => None,
    };
    let is_before = |pair: &[Value]| order(pair).is_some_and(Ordering::is_le);
    values.len() > 1 && values.windows(2).all(is_before)
}

/// A number with commas.
pub(in crate::store) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
