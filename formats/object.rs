//! A record as a JSON object (RFC 8259): what `json` and `ndjson` have in common.
//!
//! Keys come in column order. JSON has neither NaN nor infinities, so these are null; blobs are
//! base64.

use flows_formats::writer::{Literal, Writer, equal_to, less_than};
use flows_formats::{Error, Record, Schema, Value, text};

/// Writes records as objects.
#[derive(Clone)]
pub(crate) struct Objects {
    /// What stands before each value: `{"id":`, then `,"time":` and so on.
    keys: Vec<Literal>,
    close: Literal,
}

impl Objects {
    /// Objects of the schema's columns, each with something before and after it.
    pub(crate) fn new(schema: &Schema, before: &str, after: &str) -> Result<Objects, Error> {
        let mut keys = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            let mut key = if keys.is_empty() {
                format!("{before}{{").into_bytes()
            } else {
                b",".to_vec()
            };
            string(&column.name, &mut key)?;
            key.push(b':');
            keys.push(Literal::new(key));
        }
        Ok(Objects {
            keys,
            close: Literal::new(format!("}}{after}")),
        })
    }

    /// Appends a record.
    pub(crate) fn write(&self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
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
        writer.literal(&self.close);
        *out = writer.finish();
        Ok(())
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
