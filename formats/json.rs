//! `json`: one JSON array (RFC 8259), one record to a line.
//!
//! `[\n{…},\n{…}\n]\n`, and `[]\n` when there is no record. Keys come in column order. JSON has
//! neither NaN nor infinities, so these are null; blobs are base64.

use flows_formats::{Error, Format, Record, RecordEncoder, Schema, Value, text};

inventory::submit! {
    Format {
        name: "json",
        media_types: &["application/json"],
        extension: "json",
        summary: "One JSON array, one object to a line (RFC 8259)",
        encoder: |schema| Ok(Box::new(Json { keys: keys(schema)? })),
    }
}

/// What stands before each value: `{"id":`, then `,"time":` and so on.
fn keys(schema: &Schema) -> Result<Vec<Vec<u8>>, Error> {
    let mut keys = Vec::with_capacity(schema.columns.len());
    for column in &schema.columns {
        let mut key = vec![if keys.is_empty() { b'{' } else { b',' }];
        string(&column.name, &mut key)?;
        key.push(b':');
        keys.push(key);
    }
    Ok(keys)
}

#[derive(Clone)]
struct Json {
    keys: Vec<Vec<u8>>,
}

impl RecordEncoder for Json {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(b'[');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(b'\n');
        for (key, value) in self.keys.iter().zip(record.values) {
            out.extend_from_slice(key);
            match *value {
                Value::Integer(integer) => text::integer(integer, out),
                Value::Text(text) => string(text, out)?,
                Value::Real(real) if real.is_finite() => text::real(real, out),
                Value::Real(_) | Value::Null => out.extend_from_slice(b"null"),
                Value::Blob(bytes) => {
                    out.push(b'"');
                    text::base64(bytes, out);
                    out.push(b'"');
                }
            }
        }
        out.push(b'}');
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
