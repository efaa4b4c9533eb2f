//! `tsv`: tab-separated values with a header line, escaped as the text format of PostgreSQL's `COPY`.
//!
//! Backslash, tab, line feed, carriage return, backspace, form feed and vertical tab are `\\`, `\t`,
//! `\n`, `\r`, `\b`, `\f` and `\v`, in the header too; a null is `\N`. Blobs are base64; a real is
//! `NaN`, `Infinity` or `-Infinity` where it is not a number.

use flows_formats::writer::{Writer, equal_to, less_than};
use flows_formats::{Error, Format, Record, RecordEncoder, Value, text};

inventory::submit! {
    Format {
        name: "tsv",
        media_types: &["text/tab-separated-values"],
        extension: "tsv",
        summary: "Tab-separated values with a header line, escaped as PostgreSQL's COPY does",
        compressed: false,
        options: &[],
        encoder: |schema, _| {
            let names = schema.columns.iter().map(|column| column.name.clone()).collect();
            Ok(Box::new(Tsv { names }))
        },
    }
}

#[derive(Clone)]
struct Tsv {
    names: Vec<String>,
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
        for (i, value) in record.values.iter().enumerate() {
            if i > 0 {
                writer.byte(b'\t');
            }
            match *value {
                Value::Integer(integer) => writer.integer(integer),
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
