//! `csv`: comma-separated values, quoted as RFC 4180 says, lines ended by `\n`.
//!
//! The header line comes even when no record follows, unless the client asks for none; before it a byte order
//! mark, if the client asks for that. A null is an
//! empty field, an empty string is `""`. Blobs are base64; a real that is not finite is `NaN`,
//! `Infinity` or `-Infinity`; timestamps and dates are as RFC 3339 has them (or, with
//! `timestamps=epoch`, timestamps are integers), booleans `true` and `false`, decimals and JSON the text
//! that they come as. In a table of one column a null is `""` too: readers skip an empty line.

use flows_formats::writer::{Writer, equal_to, less_than};
use flows_formats::{
    Allowed, BOOLEAN, Error, Format, FormatOption, Record, RecordEncoder, Type, Value, text,
};

use crate::integers::{Integers, TIMESTAMPS};

inventory::submit! {
    Format {
        name: "csv",
        media_types: &["text/csv"],
        aliases: &["application/csv", "text/plain"],
        extensions: &["csv"],
        summary: "Comma-separated values with a header line (RFC 4180, lines ended by \\n)",
        compressed: false,
        raw: false,
        options: &[
            FormatOption {
                name: "delimiter",
                allowed: Allowed::OneOf(&[",", ";", "|", "\t"]),
                default: ",",
                summary: "What stands between two fields",
            },
            FormatOption {
                name: "header",
                allowed: BOOLEAN,
                default: "true",
                summary: "Whether the columns' names come first, in a line",
            },
            FormatOption {
                name: "bom",
                allowed: BOOLEAN,
                default: "false",
                summary: "Whether a byte order mark comes before all, by which Excel knows UTF-8",
            },
            TIMESTAMPS,
        ],
        encoder: |schema, options| {
            let names = schema.columns.iter().map(|column| column.name.clone());
            let integers = schema.columns.iter().map(|column| Integers::asked(column.kind, options));
            Ok(Box::new(Csv {
                mark: if options.get("bom") == "true" { MARK } else { "" },
                header: (options.get("header") == "true").then(|| names.collect()),
                delimiter: options.get("delimiter").as_bytes()[0],
                columns: integers.collect(),
            }))
        },
    }
}

/// UTF-8's byte order mark.
const MARK: &str = "\u{FEFF}";

#[derive(Clone)]
struct Csv {
    /// What the document begins with.
    mark: &'static str,
    header: Option<Vec<String>>,
    delimiter: u8,
    columns: Vec<Integers>,
}

impl RecordEncoder for Csv {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(self.mark.as_bytes());
        let Some(names) = &self.header else {
            return Ok(());
        };
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            // At the very beginning a reader would take this for a byte order mark, and drop it.
            if name.starts_with(MARK) {
                quoted(name, out);
            } else {
                field(name, self.delimiter, out);
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let delimiter = self.delimiter;
        let mut writer = Writer::new(std::mem::take(out));
        for (i, (integers, value)) in self.columns.iter_mut().zip(record.values).enumerate() {
            if i > 0 {
                writer.byte(delimiter);
            }
            match *value {
                Value::Integer(integer) => integers.write(integer, &mut writer),
                Value::Text(text) => {
                    // What may need quotes is the delimiter, or below the minus sign, where there is
                    // not much else.
                    let suspect = |eight| less_than(eight, b'-') | equal_to(eight, delimiter);
                    if text.is_empty() || !writer.text(text, suspect) {
                        writer.with(|out| field(text, delimiter, out));
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

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
    }
}

fn write_rare(value: &Value<'_>, out: &mut Vec<u8>) {
    match *value {
        Value::Real(real) => text::any_real(real, out),
        Value::Blob(bytes) if !bytes.is_empty() => text::base64(bytes, out),
        _ => out.extend_from_slice(b"\"\""),
    }
}

/// A string, in quotes where it is empty or has a character that would end the field.
fn field(text: &str, delimiter: u8, out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\n' | b'\r') || *byte == delimiter;
    if text.is_empty() || text.as_bytes().iter().any(special) {
        quoted(text, out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// A string in quotes, its own quotes doubled.
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
