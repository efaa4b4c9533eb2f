//! SQLite's values as the types that the stream declares.

use std::sync::Arc;

use flows_formats::{Record, Type, Value};
use rusqlite::types::ValueRef;

use crate::config::Stream;
use crate::store::{Sink, StoreError};

/// Turns rows into records, without allocating for a row whose values are of the declared types.
pub(super) struct Decoder {
    stream: Arc<Stream>,
    id_at: usize,
    /// The memory of the last record's values, empty in between.
    values: Vec<Value<'static>>,
    /// Texts that are not as SQLite holds them, with the column that each belongs to.
    owned: Vec<(usize, String)>,
}

impl Decoder {
    /// A decoder of the stream's rows, with the record's id in column `id_at`.
    pub(super) fn new(stream: Arc<Stream>, id_at: usize) -> Decoder {
        Decoder {
            stream,
            id_at,
            values: Vec::new(),
            owned: Vec::new(),
        }
    }

    /// Hands one row to the sink.
    pub(super) fn record<'r>(
        &mut self,
        value: impl Fn(usize) -> ValueRef<'r>,
        sink: &mut dyn Sink,
    ) -> Result<(), StoreError> {
        self.owned.clear();
        let mut values = recycled(std::mem::take(&mut self.values));
        for (at, column) in self.stream.schema.columns.iter().enumerate() {
            values.push(match (column.kind, value(at)) {
                (Type::Integer, ValueRef::Integer(integer)) => Value::Integer(integer),
                (Type::Real, ValueRef::Real(real)) => Value::Real(real),
                (Type::Blob, ValueRef::Blob(bytes) | ValueRef::Text(bytes)) => Value::Blob(bytes),
                (Type::Text, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                    if let Ok(text) = str::from_utf8(bytes) {
                        Value::Text(text)
                    } else {
                        sink.replaced();
                        self.owned
                            .push((at, String::from_utf8_lossy(bytes).into_owned()));
                        Value::Null
                    }
                }
                (_, ValueRef::Null) if column.nullable => Value::Null,
                (kind, found) => match convert(kind, found) {
                    Some(value) => value,
                    None => return Err(self.wrong(at, found, value(self.id_at))),
                },
            });
        }
        for (at, text) in &self.owned {
            values[*at] = Value::Text(text);
        }
        let taken = sink.record(&Record { values: &values });
        self.values = recycled(values);
        taken.map_err(|_| StoreError::Stopped)
    }

    #[cold]
    fn wrong(&self, at: usize, found: ValueRef<'_>, id: ValueRef<'_>) -> StoreError {
        let column = &self.stream.schema.columns[at];
        let reason = match found {
            ValueRef::Null if [&self.stream.time, &self.stream.id].contains(&&column.name) => {
                "null, but it is the time or id column; give the record one, or delete it"
                    .to_owned()
            }
            ValueRef::Null => {
                "null, and the column is not declared nullable; declare `nullable = true`"
                    .to_owned()
            }
            found => format!("{}, which is no {}", described(found), column.kind),
        };
        StoreError::Value {
            stream: self.stream.schema.name.clone(),
            column: column.name.clone(),
            id: described(id),
            reason,
        }
    }
}

/// An empty vector that keeps its memory, for values of another lifetime.
fn recycled<'b>(mut values: Vec<Value<'_>>) -> Vec<Value<'b>> {
    values.clear();
    // Collecting into a vector of the same element reuses the memory.
    values.into_iter().map(|_| Value::Null).collect()
}

/// The number that a value of another type stands for, if that loses nothing.
#[cold]
fn convert<'v>(kind: Type, found: ValueRef<'_>) -> Option<Value<'v>> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: integers up to here are exact in a real
    match (kind, found) {
        (Type::Integer, ValueRef::Text(text)) => {
            str::from_utf8(text).ok()?.parse().ok().map(Value::Integer)
        }
        (Type::Integer, ValueRef::Real(real)) if real.fract() == 0.0 && real.abs() <= EXACT => {
            Some(Value::Integer(real as i64))
        }
        (Type::Real, ValueRef::Integer(integer)) if integer.unsigned_abs() <= EXACT as u64 => {
            Some(Value::Real(integer as f64))
        }
        (Type::Real, ValueRef::Text(text)) => {
            let real: f64 = str::from_utf8(text).ok()?.parse().ok()?;
            // SQLite itself reads "nan" as 0: only numbers written as numbers.
            real.is_finite().then_some(Value::Real(real))
        }
        _ => None,
    }
}

/// A value for a message, shortened.
pub(super) fn described(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(integer) => integer.to_string(),
        ValueRef::Real(real) => format!("{real:?}"),
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
        ValueRef::Text(text) => {
            let text = String::from_utf8_lossy(text);
            let short: String = text.chars().take(40).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            format!("the text {short:?}{dots}")
        }
    }
}

/// Whether a value can be sent as a 64-bit integer.
pub(super) fn is_integer(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Integer(_)) || convert(Type::Integer, value).is_some()
}
