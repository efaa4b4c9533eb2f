//! `csv`: comma-separated values, quoted as RFC 4180 says, lines ended by `\n`.
//!
//! The header line comes always, also when no record follows. A null is an empty field, an empty
//! text is `""`. Blobs are base64; a real is `NaN`, `Infinity` or `-Infinity` where it is no number.
//! In a table of one column a null is `""` too: an empty line would be no record to a reader.

use flows_formats::{Error, Format, Record, RecordEncoder, Value, text};

inventory::submit! {
    Format {
        name: "csv",
        media_types: &["text/csv"],
        extension: "csv",
        summary: "Comma-separated values with a header line (RFC 4180, lines ended by \\n)",
        encoder: |schema| {
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
        for (i, value) in record.values.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            match *value {
                Value::Integer(integer) => text::integer(integer, out),
                Value::Text(text) => field(text, out),
                Value::Real(real) if real.is_finite() => text::real(real, out),
                Value::Real(real) if real.is_nan() => out.extend_from_slice(b"NaN"),
                Value::Real(real) => {
                    out.extend_from_slice(if real > 0.0 {
                        b"Infinity"
                    } else {
                        b"-Infinity"
                    });
                }
                Value::Blob([]) => out.extend_from_slice(b"\"\""),
                Value::Blob(bytes) => text::base64(bytes, out),
                Value::Null if record.values.len() == 1 => out.extend_from_slice(b"\"\""),
                Value::Null => {}
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
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
