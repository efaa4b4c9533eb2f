//! `parquet`: an Apache Parquet file, its pages compressed by zstd unless the client asks otherwise.
//!
//! One row group is held in memory, and written when it has the rows that the client asks for, or
//! [`GROUP_BYTES`]. The footer, which says where each column of each row group begins, comes last, so
//! that nobody reads a file without its end. Each slice ends with its own row group, and hands over
//! the metadata of its row groups for the footer.
//!
//! Parquet has no timestamps of seconds: they become milliseconds.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaDataWriter, RowGroupMetaData};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::schema::types::ColumnPath;
use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMillisecondType, TimestampSecondType};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Fields, SchemaRef, TimeUnit};
use flows_formats::{
    Allowed, Error, Format, FormatOption, Part, Record, RecordEncoder, Schema, Type,
};

use crate::columns::{BATCH_BYTES, Columns, schema};

inventory::submit! {
    Format {
        name: "parquet",
        media_types: &["application/vnd.apache.parquet", "application/x-parquet"],
        aliases: &[],
        extensions: &["parquet"],
        summary: "An Apache Parquet file, its pages compressed",
        compressed: true,
        raw: true,
        options: &[
            FormatOption {
                name: "row_group_rows",
                allowed: Allowed::Integer { least: 1_000, most: 1_000_000 },
                default: "100000",
                summary: "The most rows of a row group, one of which the server holds in memory",
            },
            FormatOption {
                name: "compression",
                allowed: Allowed::OneOf(&["zstd", "snappy", "none"]),
                default: "zstd",
                summary: "How pages are compressed: every reader knows snappy, and some know nothing else",
            },
        ],
        encoder: |columns, options| {
            let rows = options.integer("row_group_rows") as usize;
            let compression = match options.get("compression") {
                "snappy" => Compression::SNAPPY,
                "none" => Compression::UNCOMPRESSED,
                _ => Compression::ZSTD(ZstdLevel::try_new(1).map_err(error)?),
            };
            let properties = properties(columns, compression);
            let parquet = Parquet::new(schema(columns), properties, rows);
            Ok(Box::new(parquet.map_err(error)?))
        },
    }
}

/// The most bytes of a row group, whatever its rows.
const GROUP_BYTES: usize = 4 << 20;

/// What a file begins with.
const MAGIC: &[u8] = b"PAR1";

fn properties(columns: &Schema, compression: Compression) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(compression)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Without statistics of pages it is of no use to readers.
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None);
    for column in &columns.columns {
        let path = ColumnPath::new(vec![column.name.clone()]);
        properties = match column.kind {
            // Times and ids rise, and are rarely twice the same.
            Type::Integer | Type::Timestamp(_) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            Type::Date => properties,
            // Readers skip row groups by time; the least of a string is of no use to them.
            _ => properties.set_column_statistics_enabled(path, EnabledStatistics::None),
        };
    }
    properties.build()
}

struct Parquet {
    schema: SchemaRef,
    /// The schema without seconds.
    of_file: SchemaRef,
    properties: WriterProperties,
    /// The most rows of a row group.
    rows: usize,
    columns: Columns,
    /// Takes the slice for a file, which begins with [`MAGIC`], and knows its row groups.
    writer: ArrowWriter<Vec<u8>>,
    /// The rows that the writer keeps for the next row group.
    group_rows: usize,
    /// The row groups of the slices after this one.
    joined: Vec<RowGroupMetaData>,
}

impl Parquet {
    fn new(
        schema: SchemaRef,
        properties: WriterProperties,
        rows: usize,
    ) -> Result<Parquet, ParquetError> {
        let written = Some(properties.clone());
        let of_file = of_file(&schema);
        let mut writer = ArrowWriter::try_new(Vec::new(), of_file.clone(), written)?;
        // `begin` writes that, once for all slices.
        writer.sync()?;
        writer.inner_mut().clear();
        Ok(Parquet {
            columns: Columns::new(schema.clone()),
            schema,
            of_file,
            properties,
            rows,
            writer,
            group_rows: 0,
            joined: Vec::new(),
        })
    }

    fn push(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        let batch_full = self.columns.push(record)?;
        let group_full = self.group_rows + self.columns.rows() >= self.rows;
        if group_full {
            return self.end_group(out);
        }
        if batch_full {
            self.write_batch()?;
            // The next batch is not to be cut in two.
            if self.writer.in_progress_size() + BATCH_BYTES > GROUP_BYTES {
                return self.end_group(out);
            }
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), ParquetError> {
        if let Some(batch) = self.columns.take()? {
            self.group_rows += batch.num_rows();
            let columns = batch.columns().iter().map(without_seconds).collect();
            let batch = RecordBatch::try_new(self.of_file.clone(), columns)?;
            self.writer.write(&batch)?;
        }
        Ok(())
    }

    /// Ends the row group, if there is one.
    fn end_group(&mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        self.write_batch()?;
        self.writer.flush()?;
        self.group_rows = 0;
        self.writer.sync()?;
        let written = self.writer.inner_mut();
        if out.is_empty() {
            // A group may be large: it is not copied.
            std::mem::swap(out, written);
        } else {
            out.append(written);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), ParquetError> {
        self.end_group(out)?;
        // The writer's own footer knows nothing of the other slices.
        let mut metadata = self.writer.finish()?.into_builder();
        for group in self.joined.drain(..) {
            metadata = metadata.add_row_group(group);
        }
        ParquetMetaDataWriter::new(out, &metadata.build()).finish()
    }
}

impl RecordEncoder for Parquet {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        out.extend_from_slice(MAGIC);
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        self.push(record, out).map_err(error)
    }

    fn takes(&self, _kind: Type) -> bool {
        true
    }

    fn end(&mut self, _records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        Parquet::end(self, out).map_err(error)
    }

    fn fork(&self) -> Option<Box<dyn RecordEncoder>> {
        // It was made once of these.
        let parquet = Parquet::new(self.schema.clone(), self.properties.clone(), self.rows);
        parquet.ok().map(|parquet| Box::new(parquet) as _)
    }

    fn end_slice(&mut self, out: &mut Vec<u8>) -> Result<Option<Part>, Error> {
        self.end_group(out).map_err(error)?;
        Ok(Some(Box::new(self.writer.flushed_row_groups().to_vec())))
    }

    fn join(&mut self, part: Part, before: u64) -> Result<(), Error> {
        let groups: Box<Vec<RowGroupMetaData>> = part
            .downcast()
            .map_err(|_| Error::new("parquet", "a slice of another format"))?;
        let own = self.writer.flushed_row_groups().len();
        for group in *groups {
            let ordinal = own + self.joined.len();
            self.joined
                .push(moved(group, before, ordinal).map_err(error)?);
        }
        Ok(())
    }

    /// As many as make one row group.
    fn slice_records(&self) -> Option<u64> {
        let rows = self.rows as u64;
        let written = self.writer.flushed_row_groups().iter();
        let (records, bytes) = written.fold((0, 0), |(records, bytes), group| {
            let of_group = (group.num_rows(), group.total_byte_size());
            (
                records + of_group.0.cast_unsigned(),
                bytes + of_group.1.cast_unsigned(),
            )
        });
        // Not compressed yet: what fits then surely fits in the end.
        let fitting = (records * GROUP_BYTES as u64).checked_div(bytes);
        Some(fitting.map_or(rows, |fitting| rows.min(fitting).max(1)))
    }
}

/// A schema that Parquet can express: milliseconds in the place of seconds.
fn of_file(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            let milliseconds = DataType::Timestamp(TimeUnit::Millisecond, zone.clone());
            Arc::new(field.as_ref().clone().with_data_type(milliseconds))
        }
        _ => field.clone(),
    };
    let fields: Fields = schema.fields().iter().map(field).collect();
    Arc::new(arrow_schema::Schema::new(fields))
}

/// A column of such a schema.
fn without_seconds(column: &ArrayRef) -> ArrayRef {
    let Some(seconds) = column.as_primitive_opt::<TimestampSecondType>() else {
        return column.clone();
    };
    // Those of the years 1 to 9999 fit.
    let milliseconds = seconds
        .unary::<_, TimestampMillisecondType>(|seconds| seconds.wrapping_mul(1000))
        .with_timezone_opt(seconds.timezone());
    Arc::new(milliseconds)
}

/// A row group of a slice, whose writer took [`MAGIC`] for what comes before it, where it stands with
/// `before` bytes before the slice.
fn moved(
    group: RowGroupMetaData,
    before: u64,
    ordinal: usize,
) -> Result<RowGroupMetaData, ParquetError> {
    // No file has 2^63 bytes.
    let by = before.cast_signed() - MAGIC.len() as i64;
    let offset = group.file_offset();
    let mut group = group.into_builder();
    let moved = group.take_columns().into_iter().map(|column| {
        let data = column.data_page_offset() + by;
        let dictionary = column.dictionary_page_offset().map(|offset| offset + by);
        let column = column.into_builder().set_data_page_offset(data);
        column.set_dictionary_page_offset(dictionary).build()
    });
    let columns = moved.collect::<Result<_, _>>()?;
    if let Some(offset) = offset {
        group = group.set_file_offset(offset + by);
    }
    let ordinal = i32::try_from(ordinal)?;
    group
        .set_column_metadata(columns)
        .set_ordinal(ordinal)
        .build()
}

fn error(error: ParquetError) -> Error {
    Error::new("parquet", error)
}
