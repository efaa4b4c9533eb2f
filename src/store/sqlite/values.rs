//! SQLite's values as the types that the stream declares.

use std::sync::Arc;

use flows_formats::{Record, Type, Value};
use rusqlite::types::ValueRef;

use crate::config::Stream;
use crate::selection::Position;
use crate::store::{Sink, StoreError};

/// The most columns that a record is made of without asking for memory.
const FEW: usize = 16;

/// Turns rows into records, without allocating for one of a few columns whose values are of the
/// declared types.
pub(super) struct Decoder {
    stream: Arc<Stream>,
    id_at: usize,
    /// Which columns are a record's time and id, if both are served, and those of the last record.
    position_at: Option<(usize, usize)>,
    last: Option<Position>,
    /// Texts that are not as SQLite holds them, with the column that each belongs to.
    owned: Vec<(usize, String)>,
}

impl Decoder {
    /// A decoder of the stream's rows, with the record's id in column `id_at`.
    pub(super) fn new(stream: Arc<Stream>, id_at: usize) -> Decoder {
        let served = |name: &str| stream.schema.columns.iter().position(|c| c.name == name);
        let position_at = served(&stream.time).zip(served(&stream.id));
        Decoder {
            stream,
            id_at,
            position_at,
            last: None,
            owned: Vec::new(),
        }
    }

    /// The position of the last record, if time and id are served.
    pub(super) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Hands one row to the sink.
    #[inline]
    pub(super) fn record<'r>(
        &mut self,
        value: impl Fn(usize) -> ValueRef<'r>,
        sink: &mut dyn Sink,
    ) -> Result<(), StoreError> {
        let columns = self.stream.schema.columns.len();
        if columns <= FEW {
            self.record_in(&mut [Value::Null; FEW][..columns], value, sink)
        } else {
            self.record_in(&mut vec![Value::Null; columns], value, sink)
        }
    }

    #[inline]
    fn record_in<'r>(
        &mut self,
        values: &mut [Value<'r>],
        value: impl Fn(usize) -> ValueRef<'r>,
        sink: &mut dyn Sink,
    ) -> Result<(), StoreError> {
        for (at, (slot, column)) in values
            .iter_mut()
            .zip(&self.stream.schema.columns)
            .enumerate()
        {
            *slot = match (column.kind, value(at)) {
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
            };
        }
        let id_is_served = self.id_at < values.len();
        if !id_is_served && !is_integer(value(self.id_at)) {
            return Err(self.wrong_id(value(self.id_at)));
        }
        if let Some((time, id)) = self.position_at
            && let (Value::Integer(time), Value::Integer(id)) = (values[time], values[id])
        {
            // SQLite's order is ours to promise.
            let position = Some(Position { time, id });
            if position < self.last {
                return Err(self.disordered());
            }
            self.last = position;
        }
        let taken = if self.owned.is_empty() {
            sink.record(&Record { values })
        } else {
            let mut values = values.to_vec();
            for (at, text) in &self.owned {
                values[*at] = Value::Text(text);
            }
            let taken = sink.record(&Record { values: &values });
            self.owned.clear();
            taken
        };
        taken.map_err(|_| StoreError::Stopped)
    }

    #[cold]
    fn wrong_id(&self, id: ValueRef<'_>) -> StoreError {
        StoreError::Value {
            stream: self.stream.schema.name.clone(),
            column: self.stream.id.clone(),
            id: described(id),
            reason: "an id must be a 64-bit integer".to_owned(),
        }
    }

    #[cold]
    fn disordered(&self) -> StoreError {
        let reason = "records came out of order; please report this".to_owned();
        StoreError::Database {
            stream: self.stream.name.clone(),
            reason,
        }
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
