//! SQLite's values as the types that the stream declares.

use std::sync::Arc;

use flows_formats::{Record, Type, Value};
use rusqlite::types::ValueRef;

use crate::selection::{Position, View};
use crate::store::{Sink, StoreError};

/// The most columns that a record is made of without asking for memory.
const FEW: usize = 16;

/// Turns rows into records, without allocating for one of a few columns whose values are of the
/// declared types.
pub(super) struct Decoder {
    view: Arc<View>,
    /// Which of the row's values are the record's time and id.
    position_at: (usize, usize),
    last: Option<Position>,
    /// Texts that are not as SQLite holds them, with the column that each belongs to.
    owned: Vec<(usize, String)>,
}

impl Decoder {
    /// A decoder of the view's rows, with the record's time and id at `position_at`.
    pub(super) fn new(view: Arc<View>, position_at: (usize, usize)) -> Decoder {
        Decoder {
            view,
            position_at,
            last: None,
            owned: Vec::new(),
        }
    }

    /// The position of the last record.
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
        let columns = self.view.schema.columns.len();
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
        for (at, (slot, column)) in values.iter_mut().zip(&self.view.schema.columns).enumerate() {
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
                    None => return Err(self.wrong(at, found, value(self.position_at.1))),
                },
            };
        }
        let (time_at, id_at) = self.position_at;
        let integer = |at: usize| match values.get(at) {
            Some(Value::Integer(integer)) => Some(*integer),
            Some(_) => None,
            // It is not sent.
            None => as_integer(value(at)),
        };
        let (time, id) = (integer(time_at), integer(id_at));
        let (Some(time), Some(id)) = (time, id) else {
            let at = if time.is_none() { time_at } else { id_at };
            return Err(no_position(
                &self.view,
                at == id_at,
                value(at),
                value(id_at),
            ));
        };
        // SQLite's order is ours to promise.
        let position = Position { key: time, id };
        if Some(position) < self.last {
            return Err(self.disordered());
        }
        self.last = Some(position);
        let taken = if self.owned.is_empty() {
            sink.record(&Record { values }, position)
        } else {
            let mut values = values.to_vec();
            for (at, text) in &self.owned {
                values[*at] = Value::Text(text);
            }
            let taken = sink.record(&Record { values: &values }, position);
            self.owned.clear();
            taken
        };
        taken.map_err(|_| StoreError::Stopped)
    }

    #[cold]
    fn disordered(&self) -> StoreError {
        let reason = "records came out of order; please report this".to_owned();
        StoreError::Database {
            stream: self.view.stream.name.clone(),
            reason,
        }
    }

    #[cold]
    fn wrong(&self, at: usize, found: ValueRef<'_>, id: ValueRef<'_>) -> StoreError {
        let column = &self.view.schema.columns[at];
        let reason = match found {
            ValueRef::Null
                if [&self.view.stream.time, &self.view.stream.id].contains(&&column.name) =>
            {
                "null, but it is the time or id column; give the record one, or delete it"
                    .to_owned()
            }
            ValueRef::Null => {
                "null, and the column is not declared nullable; declare `nullable = true`"
                    .to_owned()
            }
            found => {
                let article = if column.kind == Type::Integer {
                    "an"
                } else {
                    "a"
                };
                format!(
                    "{}, which is not {article} {}",
                    described(found),
                    column.kind
                )
            }
        };
        StoreError::Value {
            stream: self.view.stream.name.clone(),
            column: column.name.clone(),
            id: described(id),
            reason,
        }
    }
}

/// That the time or the id of a record is not an integer.
#[cold]
pub(super) fn no_position(
    view: &View,
    is_id: bool,
    found: ValueRef<'_>,
    id: ValueRef<'_>,
) -> StoreError {
    let (what, column) = if is_id {
        ("an id", view.id())
    } else {
        ("a time", view.key())
    };
    StoreError::Value {
        stream: view.stream.name.clone(),
        column: column.to_owned(),
        id: described(id),
        reason: format!("{what} must be a 64-bit integer, not {}", described(found)),
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
            format!("the string {short:?}{dots}")
        }
    }
}

/// A value as the real that it can be sent as.
pub(super) fn as_real(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Real(real) => Some(real),
        other => match convert(Type::Real, other) {
            Some(Value::Real(real)) => Some(real),
            _ => None,
        },
    }
}

/// A value as the 64-bit integer that it can be sent as.
pub(super) fn as_integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(integer) => Some(integer),
        other => match convert(Type::Integer, other) {
            Some(Value::Integer(integer)) => Some(integer),
            _ => None,
        },
    }
}
