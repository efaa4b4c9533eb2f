//! `avro`: an Apache Avro 1.12 object container file.
//!
//! One record type, named as the stream, with a field per column: `long`, `double`, `string`,
//! `bytes` or `boolean`, or one of the logical types `timestamp-millis` (which seconds become, since Avro
//! has none), `timestamp-micros`, `timestamp-nanos`, `date` and `decimal` (of `bytes`); JSON is a `string`.
//! All in a union with `null` if the column is nullable. Names that Avro does not allow are written
//! by SQL/XML's `_xHHHH_` rule, and the column's own name is the field's `doc`. Blocks are not
//! compressed; all documents of a process share one sync marker.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use flows_formats::decimal::scaled;
use flows_formats::time::Unit;
use flows_formats::{Column, Error, Format, Record, RecordEncoder, Schema, Type, Value, text};
use serde_json::json;

inventory::submit! {
    Format {
        name: "avro",
        media_types: &["application/avro", "avro/binary", "application/x-avro"],
        aliases: &[],
        extensions: &["avro"],
        summary: "An Apache Avro object container file, its blocks not compressed",
        compressed: false,
        raw: true,
        options: &[],
        encoder: |schema, _| Ok(Box::new(Avro::new(schema))),
    }
}

/// A block is written when it holds so many bytes.
const BLOCK_BYTES: usize = 32 * 1024;

/// What stands between blocks. The specification wants it random, and no reader minds how random; it is the same in
/// all documents of a process, so that whoever asks for the same records again gets the same bytes.
static SYNC: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let random = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut sync = [0; 16];
    sync[..8].copy_from_slice(&random());
    sync[8..].copy_from_slice(&random());
    sync
});

/// The Avro schema of a stream's records.
///
/// ```
/// use flows_formats::{Column, Schema, Type, avro};
/// let schema = Schema {
///     name: "flows".into(),
///     columns: vec![Column { name: "byte count".into(), kind: Type::Integer, nullable: true }],
/// };
/// assert_eq!(
///     avro::schema(&schema).to_string(),
///     r#"{"fields":[{"doc":"byte count","name":"byte_x0020_count","type":["null","long"]}],"name":"flows","type":"record"}"#
/// );
/// ```
pub fn schema(schema: &Schema) -> serde_json::Value {
    let field = |column: &Column| {
        let kind = match column.kind {
            Type::Integer => json!("long"),
            Type::Real => json!("double"),
            Type::Text | Type::Json => json!("string"),
            Type::Blob => json!("bytes"),
            Type::Boolean => json!("boolean"),
            Type::Timestamp(unit) => {
                let logical = match unit {
                    Unit::Second | Unit::Millisecond => "timestamp-millis",
                    Unit::Microsecond => "timestamp-micros",
                    Unit::Nanosecond => "timestamp-nanos",
                };
                json!({ "type": "long", "logicalType": logical })
            }
            Type::Date => json!({ "type": "int", "logicalType": "date" }),
            Type::Decimal { precision, scale } => json!({
                "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale
            }),
        };
        let name = name(&column.name);
        let kind = if column.nullable {
            json!(["null", kind])
        } else {
            kind
        };
        let mut field = json!({ "name": name, "type": kind });
        if name != column.name {
            field["doc"] = json!(column.name);
        }
        field
    };
    let fields: Vec<_> = schema.columns.iter().map(field).collect();
    json!({ "type": "record", "name": name(&schema.name), "fields": fields })
}

fn name(name: &str) -> String {
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
    text::escaped_name(name, starts, |c| starts(c) || c.is_ascii_digit())
}

#[derive(Clone)]
struct Avro {
    schema: String,
    sync: [u8; 16],
    columns: Vec<(Type, bool)>,
    /// The block being filled, and its records.
    block: Vec<u8>,
    records: u64,
}

impl Avro {
    fn new(schema: &Schema) -> Avro {
        Avro {
            schema: self::schema(schema).to_string(),
            sync: *SYNC,
            columns: schema
                .columns
                .iter()
                .map(|column| (column.kind, column.nullable))
                .collect(),
            block: Vec::new(),
            records: 0,
        }
    }
}

impl RecordEncoder for Avro {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(b"Obj\x01");
        // A map is one block of two entries, and an empty block.
        long(2, out);
        for (key, value) in [
            ("avro.schema", self.schema.as_str()),
            ("avro.codec", "null"),
        ] {
            bytes(key.as_bytes(), out);
            bytes(value.as_bytes(), out);
        }
        long(0, out);
        out.extend_from_slice(&self.sync);
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let block = &mut self.block;
        for (value, (kind, nullable)) in record.values.iter().zip(&self.columns) {
            if *nullable {
                long((*value != Value::Null).into(), block);
            }
            match *value {
                Value::Null => {}
                Value::Integer(integer) => match kind {
                    Type::Boolean => block.push((integer != 0).into()),
                    // Those of the years 1 to 9999 fit.
                    Type::Timestamp(Unit::Second) => long(integer.wrapping_mul(1000), block),
                    _ => long(integer, block),
                },
                Value::Real(real) => block.extend_from_slice(&real.to_le_bytes()),
                Value::Text(text) => match kind {
                    Type::Decimal { scale, .. } => decimal(text, *scale, block)?,
                    _ => bytes(text.as_bytes(), block),
                },
                Value::Blob(blob) => bytes(blob, block),
            }
        }
        self.records += 1;
        if self.block.len() >= BLOCK_BYTES {
            self.flush(out)?;
        }
        Ok(())
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.records > 0 {
            long(self.records.cast_signed(), out);
            bytes(&self.block, out);
            out.extend_from_slice(&self.sync);
            self.block.clear();
            self.records = 0;
        }
        Ok(())
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        Some(Box::new(Avro {
            block: Vec::new(),
            records: 0,
            ..self.clone()
        }))
    }
}

/// Avro's `int` and `long`: zig-zag, then seven bits to a byte, the least first.
#[inline]
fn long(value: i64, out: &mut Vec<u8>) {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// Avro's `bytes` and `string`: the length, and the bytes.
#[inline]
fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    // Nothing in memory is longer than i64::MAX.
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}

/// Avro's `decimal`: the number without its point, in the fewest bytes that hold it, the greatest first.
fn decimal(text: &str, scale: u8, out: &mut Vec<u8>) -> Result<(), Error> {
    let number = scaled(text, scale.into()).ok_or_else(|| {
        let reason = format!("{text:?} is no decimal of {scale} digits after the point");
        Error::new("avro", reason)
    })?;
    let all = number.to_be_bytes();
    // One bit, at least, says the sign.
    let spare = if number < 0 { !number } else { number }.leading_zeros() - 1;
    bytes(&all[spare as usize / 8..], out);
    Ok(())
}
