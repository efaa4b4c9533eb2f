//! Values of types that a format does not know, as their text: the one place that makes it.

use flows_formats::writer::Writer;
use flows_formats::{Column, Error, Part, Record, RecordEncoder, Schema, Type, Value};

use crate::integers::Integers;

/// An encoder that takes all types of the schema: the one given, or one around it.
pub(crate) fn wrapped(encoder: Box<dyn RecordEncoder>, schema: &Schema) -> Box<dyn RecordEncoder> {
    let column = |(at, column): (usize, &Column)| {
        let as_text = !encoder.takes(column.kind);
        as_text.then(|| (at, Integers::new(column.kind)))
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

struct AsText {
    encoder: Box<dyn RecordEncoder>,
    /// The columns whose values are written as text.
    columns: Vec<(usize, Integers)>,
    /// For each of them, the last one.
    texts: Vec<Vec<u8>>,
}

impl RecordEncoder for AsText {
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut values = record.values.to_vec();
        for ((at, integers), text) in self.columns.iter_mut().zip(&mut self.texts) {
            if let Value::Integer(integer) = values[*at] {
                text.clear();
                let mut writer = Writer::new(std::mem::take(text));
                integers.write(integer, &mut writer);
                *text = writer.finish();
            }
        }
        for ((at, _), text) in self.columns.iter().zip(&self.texts) {
            if let Value::Integer(_) = values[*at] {
                // Only ASCII is written.
                values[*at] = Value::Text(str::from_utf8(text).unwrap_or_default());
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
