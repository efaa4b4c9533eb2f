//! `json`: one JSON array (RFC 8259), one record to a line.
//!
//! `[\n{…},\n{…}\n]\n`, and `[]\n` when there is no record. Keys come in column order. JSON has
//! neither NaN nor infinities, so these are null; blobs are base64.

use flows_formats::writer::{Literal, Writer, equal_to, less_than};
use flows_formats::{Error, Format, Record, RecordEncoder, Schema, Value, text};

inventory::submit! {
    Format {
        name: "json",
        media_types: &["application/json"],
        extension: "json",
        summary: "One JSON array, one object to a line (RFC 8259)",
        encoder: |schema, _| Ok(Box::new(Json { keys: keys(schema)? })),
    }
}

/// What stands before each value: `\n{"id":`, then `,"time":` and so on.
fn keys(schema: &Schema) -> Result<Vec<Literal>, Error> {
    let mut keys = Vec::with_capacity(schema.columns.len());
    for column in &schema.columns {
        let mut key = if keys.is_empty() {
            b"\n{".to_vec()
        } else {
            b",".to_vec()
        };
        string(&column.name, &mut key)?;
        key.push(b':');
        keys.push(Literal::new(key));
    }
    Ok(keys)
}

#[derive(Clone)]
struct Json {
    keys: Vec<Literal>,
}

impl RecordEncoder for Json {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(b'[');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::new(std::mem::take(out));
        for (key, value) in self.keys.iter().zip(record.values) {
            writer.literal(key);
            match *value {
                Value::Integer(integer) => writer.integer(integer),
                Value::Text(text) => {
                    writer.byte(b'"');
                    if writer.text(text, suspect) {
                        writer.byte(b'"');
                    } else {
                        writer.with(|out| {
                            out.pop();
                            string(text, out)
                        })?;
                    }
                }
                Value::Real(real) if real.is_finite() => writer.with(|out| text::real(real, out)),
                Value::Real(_) | Value::Null => writer.with(|out| out.extend_from_slice(b"null")),
                Value::Blob(bytes) => writer.with(|out| {
                    out.push(b'"');
                    text::base64(bytes, out);
                    out.push(b'"');
                }),
            }
        }
        writer.byte(b'}');
        *out = writer.finish();
        Ok(())
    }

    fn separator(&self) -> &'static [u8] {
        b","
    }

    fn end(&mut self, records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(if records == 0 { b"]\n" } else { b"\n]\n" });
        Ok(())
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
    }
}

/// A JSON string with its quotes.
fn string(text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    serde_json::to_writer(out, text).map_err(|error| Error::new("json", error))
}

/// Finds what may need escaping (RFC 8259 section 7): control characters, quote, backslash.
fn suspect(eight: u64) -> u64 {
    less_than(eight, b' ') | equal_to(eight, b'"') | equal_to(eight, b'\\')
}
