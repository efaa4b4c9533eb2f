//! A record as a JSON object (RFC 8259): what `json` and `ndjson` have in common.
//!
//! Keys come in column order. JSON has neither NaN nor infinities, so these are null; blobs are
//! base64, timestamps and dates strings, booleans `true` and `false`, decimals numbers with the digits that
//! they come with. JSON is embedded as it is, but for line breaks between its tokens, which become
//! spaces, so that a record stays a line. `integers=string` puts integers in quotes, for readers that take
//! every number for a double; `timestamps=epoch` makes timestamps integers.

use flows_formats::writer::{Literal, Writer, equal_to, less_than};
use flows_formats::{Allowed, Error, FormatOption, Options, Record, Schema, Type, Value, text};

use crate::integers::{Integers, TIMESTAMPS};

/// What a client may ask of `json` and `ndjson`.
pub(crate) const OPTIONS: [FormatOption; 2] = [
    FormatOption {
        name: "integers",
        allowed: Allowed::OneOf(&["number", "string"]),
        default: "number",
        summary: "Integers as numbers, or as strings for readers that lose those beyond 2^53",
    },
    TIMESTAMPS,
];

/// Writes records as objects.
#[derive(Clone)]
pub(crate) struct Objects {
    fields: Vec<Field>,
    close: Literal,
}

/// A column.
#[derive(Clone)]
struct Field {
    /// What stands before the value: `{"id":`, then `,"time":` and so on.
    key: Literal,
    integers: Integers,
    /// Whether its texts are JSON themselves: decimals, and JSON.
    embedded: bool,
}

impl Objects {
    /// Objects of the schema's columns, each with something before and after it.
    pub(crate) fn new(
        schema: &Schema,
        options: &Options,
        before: &str,
        after: &str,
    ) -> Result<Objects, Error> {
        let quoted = options.get("integers") == "string";
        let mut fields = Vec::with_capacity(schema.columns.len());
        for column in &schema.columns {
            let mut key = if fields.is_empty() {
                format!("{before}{{").into_bytes()
            } else {
                b",".to_vec()
            };
            string(&column.name, &mut key)?;
            key.push(b':');
            fields.push(Field {
                key: Literal::new(key),
                integers: Integers::asked(column.kind, options).in_json(quoted),
                embedded: matches!(column.kind, Type::Decimal { .. } | Type::Json),
            });
        }
        Ok(Objects {
            fields,
            close: Literal::new(format!("}}{after}")),
        })
    }

    /// Appends a record.
    pub(crate) fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut writer = Writer::new(std::mem::take(out));
        for (field, value) in self.fields.iter_mut().zip(record.values) {
            writer.literal(&field.key);
            match *value {
                Value::Integer(integer) => field.integers.write(integer, &mut writer),
                Value::Text(json) if field.embedded => {
                    if !writer.text(json, breaks) {
                        writer.with(|out| out.extend(json.bytes().map(unbroken)));
                    }
                }
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

/// Finds line breaks, which stand in JSON only between tokens.
fn breaks(eight: u64) -> u64 {
    equal_to(eight, b'\n') | equal_to(eight, b'\r')
}

fn unbroken(byte: u8) -> u8 {
    if matches!(byte, b'\n' | b'\r') {
        b' '
    } else {
        byte
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
