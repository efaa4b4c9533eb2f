//! What a format of `flows` is, and one file per format.
//!
//! | file | what it holds |
//! |---|---|
//! | `lib.rs` | [`Format`] and [`RecordEncoder`]: what a new format supplies |
//! | `record.rs` | [`Schema`], [`Column`], [`Value`], [`Record`]: what an encoder is given |
//! | `registry.rs` | [`Registry`]: all formats, by name |
//! | `options.rs` | [`FormatOption`], [`Options`]: what a client may ask of a format |
//! | `dialects.rs` | a stream's columns as JSON Schema, as BigQuery's fields |
//! | `text.rs` | integers, reals, blobs and names as text, the same in every text format |
//! | `decimal.rs` | exact numbers as integers |
//! | `time.rs` | instants and days as text |
//! | `integers.rs` | what integers stand for, as text: instants, days, booleans |
//! | `as_text.rs` | values of types that a format does not know, as their text |
//! | `writer.rs` | the hot path of text formats: literals, integers, short strings |
//! | `object.rs` | a record as a JSON object: `json` and `ndjson` |
//! | `columns.rs` | records gathered into Arrow's columns: `arrow` and `parquet` |
//! | `arrow.rs` `avro.rs` `csv.rs` `json.rs` `ndjson.rs` `parquet.rs` `tsv.rs` `xml.rs` | one format each |
//!
//! A format is one file: it implements [`RecordEncoder`] and submits a [`Format`] through
//! `inventory`; `lib.rs` names the file in one `mod` line. A format knows nothing of HTTP or SQL.
//!
//! ```
//! use flows_formats::{Column, Record, Registry, Schema, Type, Value};
//!
//! let column = |name: &str, kind| Column { name: name.into(), kind, nullable: false };
//! let schema = Schema {
//!     name: "flows".into(),
//!     columns: vec![column("id", Type::Integer), column("src_port", Type::Text)],
//! };
//! let record = Record { values: &[Value::Integer(1), Value::Text("N1136")] };
//!
//! let registry = Registry::load()?;
//! let csv = registry.get("csv").expect("registered by csv.rs");
//! let document = csv.document(&schema, &[record])?;
//! assert_eq!(document, b"id,src_port\n1,N1136\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

// A format's file reads the same in here, in the README and in a crate of one's own.
extern crate self as flows_formats;

use std::any::Any;

mod arrow;
mod as_text;
pub mod avro;
mod columns;
mod csv;
pub mod decimal;
pub mod dialects;
mod integers;
mod json;
mod ndjson;
mod object;
mod options;
mod parquet;
mod record;
mod registry;
pub mod text;
pub mod time;
mod tsv;
pub mod writer;
mod xml;

pub use options::{Allowed, BOOLEAN, FormatOption, Options};
pub use record::{Column, Record, Schema, Type, Value};
pub use registry::{Registry, RegistryError};

/// A format's description, and how to make an encoder for it.
///
/// Everything that lists formats (the command, error messages, the tests) reads these.
#[derive(Debug)]
pub struct Format {
    /// What the client writes in `format=`. Lower-case letters and digits.
    pub name: &'static str,
    /// The media types (RFC 9110 section 8.3.1) that mean this format, without parameters. The
    /// first is the one that replies carry.
    pub media_types: &'static [&'static str],
    /// Further media types that clients send when they mean it, such as `text/plain`: they do so where they are
    /// named, and no range such as `text/*` stands for them.
    pub aliases: &'static [&'static str],
    /// How paths and file names end, without the dot. The first is the one that replies carry.
    pub extensions: &'static [&'static str],
    /// One line that says what it is.
    pub summary: &'static str,
    /// Whether documents are compressed already, so that compressing them again gains nothing.
    pub compressed: bool,
    /// Whether readers take a document's bytes as they come, from HTTP clients that accept content codings by
    /// themselves: it is coded for those only who say how much they would like that (`gzip;q=1`).
    pub raw: bool,
    /// What a client may ask for beyond the name, by query parameters `NAME.OPTION`.
    pub options: &'static [FormatOption],
    /// Makes the encoder of one document.
    ///
    /// # Errors
    /// When the format cannot express the schema; says why.
    pub encoder: fn(&Schema, &Options) -> NewEncoder,
}

/// An encoder, or why the format cannot express the schema.
pub type NewEncoder = Result<Box<dyn RecordEncoder>, Error>;

inventory::collect!(Format);

impl Format {
    /// How file names end, without the dot; the format's name where it has no extension.
    pub fn extension(&self) -> &'static str {
        self.extensions.first().unwrap_or(&self.name)
    }

    /// Every media type that chooses it, its own first.
    pub fn named_by(&self) -> impl Iterator<Item = &'static str> {
        self.media_types.iter().chain(self.aliases).copied()
    }

    /// The encoder of one document, which takes records of any types: what its format does not know,
    /// it is given as text.
    ///
    /// # Errors
    /// When the format cannot express the schema.
    pub fn new_encoder(&self, schema: &Schema, options: &Options) -> NewEncoder {
        Ok(as_text::wrapped((self.encoder)(schema, options)?, schema))
    }

    /// A complete document in memory, for tests and examples: what a stream of one slice would send.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn document(&self, schema: &Schema, records: &[Record<'_>]) -> Result<Vec<u8>, Error> {
        let mut encoder = self.new_encoder(schema, &Options::new(self.options))?;
        let separator = encoder.separator();
        let mut out = Vec::new();
        encoder.begin(&mut out)?;
        for (i, record) in records.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(separator);
            }
            encoder.record(record, &mut out)?;
        }
        encoder.flush(&mut out)?;
        encoder.end(records.len() as u64, &mut out)?;
        Ok(out)
    }
}

/// Writes the records of one document, one after another, appending to `out`.
///
/// A document is `begin`, the records with `separator` between them, and `end`; `flush` may come
/// between records, and comes before `end`.
///
/// A format that has `fork` is written in several slices at once, each by an encoder of its own: the
/// first slice begins with `begin`, and every slice ends with `end_slice`. The first slice's encoder
/// then writes the end: it is given what `end_slice` said of the others by `join`, in their order,
/// and then `end`. `join` and `slice_records` are for formats that have an index at their end.
///
/// After an error the document is abandoned: what was appended is never completed.
pub trait RecordEncoder: Send {
    /// Writes one record. A block format may keep it and write nothing until `flush`.
    ///
    /// # Errors
    /// When the format cannot express the record.
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Whether it takes values of this type as they are. Those of any other type come as their text, as
    /// [`Value::Text`], so that a format which knows only integers, reals, texts and blobs need not
    /// say anything.
    fn takes(&self, kind: Type) -> bool {
        matches!(kind, Type::Integer | Type::Real | Type::Text | Type::Blob)
    }

    /// Writes what comes before the first record.
    ///
    /// # Errors
    /// When the format cannot begin the document.
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    /// What stands between two records. The caller writes it, also between slices.
    fn separator(&self) -> &'static [u8] {
        b""
    }

    /// Writes the records kept so far, if any: before the end, and now and then when records come
    /// slowly. A format that nobody can read before its end may wait until then.
    ///
    /// # Errors
    /// When the format cannot write what it kept.
    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    /// Writes what comes after the last record. `records` is the number in the complete document, so
    /// that an empty document can be told from a full one.
    ///
    /// # Errors
    /// When the format cannot end the document.
    fn end(&mut self, _records: u64, _out: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    /// An encoder for another slice of the same document; `None` when the document can only be
    /// written in one piece.
    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        None
    }

    /// Ends a slice: writes the records kept so far, and says what the end of the document has to
    /// know of the slice, if anything. An encoder that does so does for every slice.
    ///
    /// # Errors
    /// When the format cannot write what it kept.
    fn end_slice(&mut self, out: &mut Vec<u8>) -> Result<Option<Part>, Error> {
        self.flush(out)?;
        Ok(None)
    }

    /// Takes what another encoder's `end_slice` said of the next slice, which has `before` bytes of
    /// the document before it.
    ///
    /// # Errors
    /// When the format cannot end the document with this slice in it.
    fn join(&mut self, _part: Part, _before: u64) -> Result<(), Error> {
        Ok(())
    }

    /// How many records a slice gets, asked when the first slice has ended; `None` when slices of
    /// any size are as good.
    fn slice_records(&self) -> Option<u64> {
        None
    }
}

/// What the end of a document has to know of one of its slices. Only the format looks into it.
pub type Part = Box<dyn Any + Send>;

/// A schema or a record that a format cannot express.
#[derive(Debug, thiserror::Error)]
#[error("the format {format} cannot write this: {reason}")]
pub struct Error {
    format: &'static str,
    reason: String,
}

impl Error {
    /// An error of the format called `format`, for the reason given.
    pub fn new(format: &'static str, reason: impl std::fmt::Display) -> Error {
        Error {
            format,
            reason: reason.to_string(),
        }
    }
}
