//! `ndjson`: one JSON object (RFC 8259) to a line, and nothing when there is no record.

use flows_formats::{Error, Format, Record, RecordEncoder, Type};

use crate::object::{OPTIONS, Objects};

inventory::submit! {
    Format {
        name: "ndjson",
        media_types: &[
            "application/x-ndjson",
            "application/jsonl",
            "application/jsonlines",
        ],
        aliases: &[],
        extensions: &["ndjson", "jsonl"],
        summary: "JSON objects, one to a line (RFC 8259 each)",
        compressed: false,
        raw: false,
        options: &OPTIONS,
        encoder: |schema, options| {
            Ok(Box::new(Ndjson(Objects::new(schema, options, "", "\n")?)))
        },
    }
}

#[derive(Clone)]
struct Ndjson(Objects);

impl RecordEncoder for Ndjson {
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.0.write(record, out)
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(self.clone()))
    }
}
