//! `parquet`: an Apache Parquet file, its pages compressed by zstd.
//!
//! One row group is held in memory, and written when it has the rows that the client asks for, or
//! [`GROUP_BYTES`]. The footer comes last, so that a file without its end is none.

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, Encoding, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::schema::types::ColumnPath;
use flows_formats::{Allowed, Error, Format, FormatOption, Record, RecordEncoder, Type};

use crate::columns::{Columns, schema};

inventory::submit! {
    Format {
        name: "parquet",
        media_types: &["application/vnd.apache.parquet"],
        extension: "parquet",
        summary: "An Apache Parquet file, its pages compressed by zstd",
        compressed: true,
        options: &[FormatOption {
            name: "row_group_rows",
            allowed: Allowed::Integer { least: 1_000, most: 1_000_000 },
            default: "100000",
            summary: "The most rows of a row group, one of which the server holds in memory",
        }],
        encoder: |columns, options| {
            let rows = options.integer("row_group_rows") as usize;
            let mut properties = WriterProperties::builder()
                .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(error)?))
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .set_max_row_group_row_count(Some(rows))
                .set_max_row_group_bytes(Some(GROUP_BYTES));
            for column in &columns.columns {
                let path = ColumnPath::new(vec![column.name.clone()]);
                properties = if column.kind == Type::Integer {
                    // Times and ids rise, and are rarely twice the same.
                    properties
                        .set_column_dictionary_enabled(path.clone(), false)
                        .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
                } else {
                    // Readers skip row groups by time; the least of a string is of no use to them.
                    properties.set_column_statistics_enabled(path, EnabledStatistics::None)
                };
            }
            let schema = schema(columns);
            let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.build()));
            Ok(Box::new(Parquet { columns: Columns::new(schema), writer: writer.map_err(error)? }))
        },
    }
}

/// The most bytes of a row group, whatever its rows.
const GROUP_BYTES: usize = 16 << 20;

struct Parquet {
    columns: Columns,
    writer: ArrowWriter<Vec<u8>>,
}

impl Parquet {
    fn write_batch(&mut self) -> Result<(), ParquetError> {
        match self.columns.take()? {
            Some(batch) => self.writer.write(&batch),
            None => Ok(()),
        }
    }

    /// Takes what the writer has written.
    fn take(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.writer.sync().map_err(|e| error(e.into()))?;
        out.append(self.writer.inner_mut());
        Ok(())
    }
}

impl RecordEncoder for Parquet {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.take(out)
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.columns.push(record) {
            self.write_batch().map_err(error)?;
            self.take(out)?;
        }
        Ok(())
    }

    fn end(&mut self, _records: u64, out: &mut Vec<u8>) -> Result<(), Error> {
        self.write_batch().map_err(error)?;
        self.writer.finish().map_err(error)?;
        self.take(out)
    }
}

fn error(error: ParquetError) -> Error {
    Error::new("parquet", error)
}
