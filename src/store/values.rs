//! Rows into records: each value as the type that the stream declares, and where the record stands.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use flows_formats::{Record, Type, Value};

use super::reading::{Got, Held, Reading, described, expected};
use super::{Sink, StoreError};
use crate::definition::Stream;
use crate::selection::{Part, Position, View, is_id};

/// The most columns that a record is made of without asking for memory.
const FEW: usize = 16;

/// Turns rows into records, without allocating for one of a few columns whose values are held as they
/// are sent.
pub(super) struct Decoder {
    view: Arc<View>,
    /// How each value of a row is read: those that are sent, and after them what of the position is not.
    readings: Vec<Reading>,
    /// Which of the row's values are the record's time and id.
    position_at: (usize, usize),
    /// Where the last record stands.
    last: Option<Position>,
    texts: Texts,
}

/// Texts that are not as the database holds them.
#[derive(Default)]
struct Texts {
    /// All of a record, one after another.
    text: String,
    /// Which value each one is.
    places: Vec<(usize, Range<usize>)>,
}

impl Texts {
    /// Adds one; what stands in its place until the record is complete.
    fn add(&mut self, at: usize, text: &str) -> Value<'static> {
        let start = self.text.len();
        self.text.push_str(text);
        self.places.push((at, start..self.text.len()));
        Value::Null
    }
}

/// A part of a position, as a row has it.
#[derive(Clone, Copy)]
enum Found<'r> {
    Integer(i64),
    Text(&'r str),
}

impl<'r> Found<'r> {
    /// What a value that the database holds so is as a part of a position; `None` if it is none.
    #[inline]
    fn of(value: Value<'r>, held: Held<'_>) -> Option<Found<'r>> {
        match (value, held) {
            (Value::Integer(integer), _) => Some(Found::Integer(integer)),
            // To SQL a blob is after every string.
            (Value::Text(text), Held::Text(_)) if is_id(text) => Some(Found::Text(text)),
            _ => None,
        }
    }

    /// Compares as [`Part`] does.
    #[inline]
    fn order(self, last: &Part) -> Ordering {
        match (self, last) {
            (Found::Integer(found), Part::Integer(last)) => found.cmp(last),
            (Found::Text(found), Part::Text(last)) => found.cmp(last.as_str()),
            (Found::Integer(_), Part::Text(_)) | (_, Part::End) => Ordering::Less,
            (Found::Text(_), Part::Integer(_)) => Ordering::Greater,
        }
    }

    #[inline]
    fn store(self, part: &mut Part) {
        match (self, part) {
            (Found::Integer(found), part) => *part = Part::Integer(found),
            (Found::Text(found), Part::Text(text)) => found.clone_into(text),
            (Found::Text(found), part) => *part = Part::Text(found.to_owned()),
        }
    }
}

impl Decoder {
    /// A decoder of the rows of a query whose columns are read so, with the record's time and id at
    /// `position_at`.
    pub(super) fn new(
        view: Arc<View>,
        readings: Vec<Reading>,
        position_at: (usize, usize),
    ) -> Decoder {
        Decoder {
            readings,
            view,
            position_at,
            last: None,
            texts: Texts::default(),
        }
    }

    /// The position of the last record.
    pub(super) fn last(&self) -> Option<&Position> {
        self.last.as_ref()
    }

    /// Hands one row to the sink.
    #[inline]
    pub(super) fn record<'r>(
        &mut self,
        value: impl Fn(usize) -> Held<'r>,
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
        value: impl Fn(usize) -> Held<'r>,
        sink: &mut dyn Sink,
    ) -> Result<(), StoreError> {
        let declared = self.view.schema.columns.iter().zip(&mut self.readings);
        for (at, (slot, (column, reading))) in values.iter_mut().zip(declared).enumerate() {
            let found = value(at);
            *slot = match reading.read(found) {
                Got::Value(value) => value,
                Got::Text(text) => self.texts.add(at, &text),
                Got::Replaced(text) => {
                    sink.replaced();
                    self.texts.add(at, &text)
                }
                Got::Null if column.nullable => Value::Null,
                Got::Null | Got::Wrong => {
                    return Err(self.wrong(at, found, value(self.position_at.1)));
                }
            };
        }
        let (time_at, id_at) = self.position_at;
        let mut part = |at: usize| {
            let sent = values.get(at).copied();
            // What is not sent is read for this alone.
            let sent = sent.or_else(|| match self.readings.get_mut(at)?.read(value(at)) {
                Got::Value(value) => Some(value),
                _ => None,
            });
            Found::of(sent?, value(at))
        };
        let (time, id) = (part(time_at), part(id_at));
        let (Some(time), Some(id)) = (time, id) else {
            let at = if time.is_none() { time_at } else { id_at };
            return Err(no_position(
                &self.view,
                at == id_at,
                value(at),
                value(id_at),
            ));
        };
        // The database's order is ours to promise.
        let position = match &mut self.last {
            Some(last) => {
                let order = time.order(&last.key).then_with(|| id.order(&last.id));
                if order.is_lt() {
                    return Err(self.disordered(value(time_at), value(id_at)));
                }
                time.store(&mut last.key);
                id.store(&mut last.id);
                last
            }
            none => {
                let mut position = Position::end_of(0);
                time.store(&mut position.key);
                id.store(&mut position.id);
                none.insert(position)
            }
        };
        let taken = if self.texts.places.is_empty() {
            sink.record(&Record { values }, position)
        } else {
            let mut few = [Value::Null; FEW];
            let mut many = Vec::new();
            let with_texts = match few.get_mut(..values.len()) {
                Some(few) => few,
                None => {
                    many.resize(values.len(), Value::Null);
                    &mut many[..]
                }
            };
            with_texts.copy_from_slice(values);
            for (at, range) in &self.texts.places {
                with_texts[*at] = Value::Text(&self.texts.text[range.clone()]);
            }
            let taken = sink.record(&Record { values: with_texts }, position);
            self.texts.places.clear();
            self.texts.text.clear();
            taken
        };
        taken.map_err(|_| StoreError::Stopped)
    }

    #[cold]
    fn disordered(&self, time: Held<'_>, id: Held<'_>) -> StoreError {
        let (stream, key) = (&self.view.stream, self.view.key());
        let reason = match stream.declared(key) {
            (Type::Integer | Type::Text, _) => {
                "records came out of order; please report this".to_owned()
            }
            (kind, _) => format!(
                "out of order: {} comes after a record that is later, or of the same time with a \
                 greater id; two spellings of one time do so, and times that differ by less than the \
                 unit ({kind})",
                described(time)
            ),
        };
        StoreError::Value {
            stream: stream.name.clone(),
            column: key.to_owned(),
            id: described(id),
            reason,
        }
    }

    #[cold]
    fn wrong(&self, at: usize, found: Held<'_>, id: Held<'_>) -> StoreError {
        let column = &self.view.schema.columns[at];
        let reason = match found {
            Held::Null
                if [&self.view.stream.time, &self.view.stream.id].contains(&&column.name) =>
            {
                "null, but it is the time or id column; give the record one, or delete it"
                    .to_owned()
            }
            Held::Null => {
                "null, and the column is not declared nullable; declare `nullable = true`"
                    .to_owned()
            }
            found => {
                let (kind, stored) = self.view.stream.declared(&column.name);
                format!(
                    "{}, which is not {}",
                    described(found),
                    expected(kind, stored)
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

/// A part of a position, as a row has it; `None` if it is none.
pub(super) fn part(stream: &Stream, column: &str, found: Held<'_>) -> Option<Part> {
    let Got::Value(value) = Reading::of(stream, column).read(found) else {
        return None;
    };
    let mut part = Part::End;
    Found::of(value, found)?.store(&mut part);
    Some(part)
}

/// That the time or the id of a record is not what it must be.
#[cold]
pub(super) fn no_position(view: &View, is_id: bool, found: Held<'_>, id: Held<'_>) -> StoreError {
    let (what, column) = if is_id {
        ("an id", view.id())
    } else {
        ("a time", view.key())
    };
    let must = position_must_be(&view.stream, column);
    StoreError::Value {
        stream: view.stream.name.clone(),
        column: column.to_owned(),
        id: described(id),
        reason: format!("{what} must be {must}, not {}", described(found)),
    }
}

/// What the values of a column must be that is a part of positions.
pub(super) fn position_must_be(stream: &Stream, column: &str) -> String {
    match stream.declared(column) {
        (Type::Integer, _) => "a 64-bit integer".to_owned(),
        (Type::Text, _) => "a string of 1 to 1024 bytes without a percent sign".to_owned(),
        (kind, stored) => expected(kind, stored),
    }
}
