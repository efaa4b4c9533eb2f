//! `ltsv`: labelled tab-separated values, one record to a line.

use flows_formats::{Error, Format, Record, RecordEncoder, Value, text};

inventory::submit! {
    Format {
        name: "ltsv",
        media_types: &["text/x-ltsv"],
        aliases: &[],
        extensions: &["ltsv"],
        summary: "Labelled tab-separated values, one record to a line",
        compressed: false,
        raw: false,
        options: &[],
        encoder: |schema, _| {
            let labels = schema.columns.iter().map(|column| format!("{}:", column.name));
            Ok(Box::new(Ltsv(labels.collect())))
        },
    }
}

struct Ltsv(Vec<String>);

impl RecordEncoder for Ltsv {
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        for (i, (label, value)) in self.0.iter().zip(record.values).enumerate() {
            out.extend_from_slice(if i > 0 { b"\t" } else { b"" });
            out.extend_from_slice(label.as_bytes());
            match *value {
                Value::Null => {}
                Value::Integer(integer) => text::integer(integer, out),
                Value::Real(real) => text::any_real(real, out),
                Value::Text(text) => out.extend(text.replace(['\t', '\n'], " ").bytes()),
                Value::Blob(bytes) => text::base64(bytes, out),
            }
        }
        out.push(b'\n');
        Ok(())
    }
}
