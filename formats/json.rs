//! `json`: one JSON array (RFC 8259), one object to a line.
//!
//! `[\n{…},\n{…}\n]\n`, and `[]\n` when there is no record.

use flows_formats::{Error, Format, Record, RecordEncoder, Type};

use crate::object::{OPTIONS, Objects};

inventory::submit! {
    Format {
        name: "json",
        media_types: &["application/json"],
        aliases: &["text/json"],
        extensions: &["json"],
        summary: "One JSON array, one object to a line (RFC 8259)",
        compressed: false,
        raw: false,
        options: &OPTIONS,
        encoder: |schema, options| {
            Ok(Box::new(Json(Objects::new(schema, options, "\n", "")?)))
        },
    }
}

#[derive(Clone)]
struct Json(Objects);

impl RecordEncoder for Json {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(b'[');
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.0.write(record, out)
    }

    fn takes(&self, _kind: Type) -> bool {
        true
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
