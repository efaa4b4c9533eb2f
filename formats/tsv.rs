//! `tsv`: tab-separated values with a header line, escaped as the text format of PostgreSQL's `COPY`.
//!
//! Backslash, tab, line feed, carriage return, backspace, form feed and vertical tab are `\\`, `\t`,
//! `\n`, `\r`, `\b`, `\f` and `\v`, in the header too; a null is `\N`. Blobs are base64; a real is
//! `NaN`, `Infinity` or `-Infinity` where it is not a number. Timestamps and dates are as RFC 3339 has them
//! (or, with `timestamps=epoch`, timestamps are integers), booleans `true` and `false`, decimals the text
//! that they come as, and JSON too, escaped as any other.

use flows_formats::writer::{Writer, equal_to, less_than};
use flows_formats::{Error, Format, Record, RecordEncoder, Type, Value, text};

use crate::integers::{Integers, TIMESTAMPS};

inventory::submit! {
    Format {
        name: "tsv",
        media_types: &["text/tab-separated-values"],
        aliases: &["text/plain"],
        extensions: &["tsv"],
        summary: "Tab-separated values with a header line, escaped as PostgreSQL's COPY does",
        compressed: false,
        raw: false,
        options: &[TIMESTAMPS],
        encoder: |schema, options| {
            let names = schema.columns.iter().map(|column| column.name.clone()).collect();
            let integers = schema.columns.iter().map(|column| Integers::asked(column.kind, options));
            Ok(Box::new(Tsv { names, columns: integers.collect() }))
        },
    }
}

#[derive(Clone)]
struct Tsv {
    names: Vec<String>,
    columns: Vec<Integers>,
}

impl RecordEncoder for Tsv {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            escaped(name, out);
        }
        out.push(b'\n');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::new(std::mem::take(out));
        for (i, (integers, value)) in self.columns.iter_mut().zip(record.values).enumerate() {
            if i > 0 {
                writer.byte(b'\t');
            }
            match *value {
                Value::Integer(integer) => integers.write(integer, &mut writer),
                Value::Text(text) => {
                    let suspect = |eight| less_than(eight, b' ') | equal_to(eight, b'\\');
                    if !writer.text(text, suspect) {
                        writer.with(|out| escaped(text, out));
                    }
                }
                Value::Null => writer.with(|out| out.extend_from_slice(b"\\N")),
                Value::Real(real) => writer.with(|out| text::any_real(real, out)),
                Value::Blob(bytes) => writer.with(|out| text::base64(bytes, out)),
            }
        }
        writer.byte(b'\n');
        *out = writer.finish();
        Ok(())
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
    }
}

fn escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        let letter = match byte {
            b'\\' => b'\\',
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            0x08 => b'b',
            0x0C => b'f',
            0x0B => b'v',
            byte => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
