//! Values of types that a format does not know, as their text: the one place that makes it.

use std::io::Write as _;

use flows_formats::time::{Timestamps, date};
use flows_formats::{Column, Error, Part, Record, RecordEncoder, Schema, Type, Value};

/// An encoder that takes all types of the schema: the one given, or one around it.
pub(crate) fn wrapped(encoder: Box<dyn RecordEncoder>, schema: &Schema) -> Box<dyn RecordEncoder> {
    let column = |(at, column): (usize, &Column)| {
        let text = match column.kind {
            kind if encoder.takes(kind) => return None,
            Type::Timestamp(unit) => Text::Timestamp(Timestamps::new(unit)),
            Type::Date => Text::Date,
            Type::Boolean => Text::Boolean,
            // These are texts already, and the others every format takes.
            _ => return None,
        };
        Some((at, text))
    };
    let columns: Vec<_> = schema
        .columns
        .iter()
        .enumerate()
        .filter_map(column)
        .collect();
    if columns.is_empty() {
        return encoder;
    }
    Box::new(AsText {
        encoder,
        texts: vec![Vec::new(); columns.len()],
        columns,
    })
}

/// How a column's integers are written.
#[derive(Clone)]
enum Text {
    Timestamp(Timestamps),
    Date,
    Boolean,
}

impl Text {
    fn write(&mut self, value: i64, out: &mut Vec<u8>) {
        // Writing to a Vec does not fail.
        let _ = match self {
            Text::Timestamp(timestamps) => out.write_all(timestamps.text(value).as_bytes()),
            Text::Date => {
                date(value, out);
                Ok(())
            }
            Text::Boolean => write!(out, "{}", value != 0),
        };
    }
}

struct AsText {
    encoder: Box<dyn RecordEncoder>,
    /// The columns whose values are written as text.
    columns: Vec<(usize, Text)>,
    /// For each of them, the last one.
    texts: Vec<Vec<u8>>,
}

impl RecordEncoder for AsText {
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut values = record.values.to_vec();
        for ((at, text), written) in self.columns.iter_mut().zip(&mut self.texts) {
            written.clear();
            if let Value::Integer(integer) = values[*at] {
                text.write(integer, written);
            }
        }
        for ((at, _), written) in self.columns.iter().zip(&self.texts) {
            if let Value::Integer(_) = values[*at] {
                // Only ASCII is written.
                values[*at] = Value::Text(str::from_utf8(written).unwrap_or_default());
            }
        }
        self.encoder.record(&Record { values: &values }, out)
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder.begin(out)
    }

    fn separator(&self) -> &'static [u8] {
        self.encoder.separator()
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder.flush(out)
    }

    fn end(&mut self, records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        self.encoder.end(records, out)
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        let encoder = self.encoder.fork()?;
        Some(Box::new(AsText {
            encoder,
            columns: self.columns.clone(),
            texts: self.texts.clone(),
        }))
    }

    fn end_slice(&mut self, out: &mut Vec<u8>) -> Result<Option<Part>, Error> {
        self.encoder.end_slice(out)
    }

    fn join(&mut self, part: Part, before: u64) -> Result<(), Error> {
        self.encoder.join(part, before)
    }

    fn slice_records(&self) -> Option<u64> {
        self.encoder.slice_records()
    }
}
