//! `csv`: comma-separated values, quoted as RFC 4180 says, lines ended by `\n`.
//!
//! The header line comes always, also when no record follows. A null is an empty field, an empty
//! text is `""`. Blobs are base64; a real is `NaN`, `Infinity` or `-Infinity` where it is no number.
//! In a table of one column a null is `""` too: an empty line would be no record to a reader.

use flows_formats::writer::{Writer, less_than};
use flows_formats::{Error, Format, Record, RecordEncoder, Value, text};

inventory::submit! {
    Format {
        name: "csv",
        media_types: &["text/csv"],
        extension: "csv",
        summary: "Comma-separated values with a header line (RFC 4180, lines ended by \\n)",
        encoder: |schema, _| {
            let names = schema.columns.iter().map(|column| column.name.clone()).collect();
            Ok(Box::new(Csv { names }))
        },
    }
}

#[derive(Clone)]
struct Csv {
    names: Vec<String>,
}

impl RecordEncoder for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            // At the very beginning a reader would take this for the encoding's mark, and drop it.
            if name.starts_with('\u{FEFF}') {
                quoted(name, out);
            } else {
                field(name, out);
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::new(std::mem::take(out));
        for (i, value) in record.values.iter().enumerate() {
            if i > 0 {
                writer.byte(b',');
            }
            match *value {
                Value::Integer(integer) => writer.integer(integer),
                Value::Text(text) => {
                    // What may need quotes is below the minus sign, as is not much else.
                    let suspect = |eight| less_than(eight, b'-');
                    if text.is_empty() || !writer.text(text, suspect) {
                        writer.with(|out| field(text, out));
                    }
                }
                Value::Null if record.values.len() > 1 => {}
                ref rare => writer.with(|out| write_rare(rare, out)),
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

fn write_rare(value: &Value<'_>, out: &mut Vec<u8>) {
    match *value {
        Value::Real(real) if real.is_finite() => text::real(real, out),
        Value::Real(real) if real.is_nan() => out.extend_from_slice(b"NaN"),
        Value::Real(real) if real > 0.0 => out.extend_from_slice(b"Infinity"),
        Value::Real(_) => out.extend_from_slice(b"-Infinity"),
        Value::Blob(bytes) if !bytes.is_empty() => text::base64(bytes, out),
        _ => out.extend_from_slice(b"\"\""),
    }
}

/// A text, in quotes where it is empty or has a character that would end the field.
fn field(text: &str, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if text.is_empty() || text.as_bytes().iter().any(special) {
        quoted(text, out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// A text in quotes, its own quotes doubled.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'"');
}
