//! Records gathered into Arrow's columns: what `arrow` and `parquet` have in common.
//!
//! An integer is an `Int64`, a real a `Float64`, a string a `Utf8`, a blob a `Binary`; nullable as the
//! column is declared.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};
use flows_formats::{Record, Schema, Type, Value};

/// A batch is full when it holds about so many bytes. Small, since each stream holds one.
pub(crate) const BATCH_BYTES: usize = 128 * 1024;

/// The records of one batch.
pub(crate) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

enum Column {
    Integers(Int64Builder),
    Reals(Float64Builder),
    Texts(StringBuilder),
    Blobs(BinaryBuilder),
}

/// Arrow's schema of a stream's records.
pub(crate) fn schema(schema: &Schema) -> SchemaRef {
    let field = |column: &flows_formats::Column| {
        let kind = match column.kind {
            Type::Integer => DataType::Int64,
            Type::Real => DataType::Float64,
            Type::Text => DataType::Utf8,
            Type::Blob => DataType::Binary,
            _ => DataType::Utf8,
        };
        Field::new(&column.name, kind, column.nullable)
    };
    let fields: Vec<_> = schema.columns.iter().map(field).collect();
    Arc::new(arrow_schema::Schema::new(fields))
}

impl Columns {
    /// An empty batch of that schema.
    pub(crate) fn new(schema: SchemaRef) -> Columns {
        let column = |field: &Arc<Field>| match field.data_type() {
            DataType::Int64 => Column::Integers(Int64Builder::new()),
            DataType::Float64 => Column::Reals(Float64Builder::new()),
            DataType::Utf8 => Column::Texts(StringBuilder::new()),
            _ => Column::Blobs(BinaryBuilder::new()),
        };
        Columns {
            columns: schema.fields().iter().map(column).collect(),
            schema,
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds a record; whether the batch is full now.
    ///
    /// Columns are indexed by 32 bits: a full batch is far from that, and a record as large as
    /// SQLite allows does not take it there.
    pub(crate) fn push(&mut self, record: &Record<'_>) -> bool {
        self.rows += 1;
        for (column, value) in self.columns.iter_mut().zip(record.values) {
            self.bytes += 8;
            match (column, *value) {
                (Column::Integers(integers), Value::Integer(integer)) => {
                    integers.append_value(integer);
                }
                (Column::Reals(reals), Value::Real(real)) => reals.append_value(real),
                (Column::Texts(texts), Value::Text(text)) => {
                    self.bytes += text.len();
                    texts.append_value(text);
                }
                (Column::Blobs(blobs), Value::Blob(blob)) => {
                    self.bytes += blob.len();
                    blobs.append_value(blob);
                }
                // A value is null or of its column's type.
                (Column::Integers(integers), _) => integers.append_null(),
                (Column::Reals(reals), _) => reals.append_null(),
                (Column::Texts(texts), _) => texts.append_null(),
                (Column::Blobs(blobs), _) => blobs.append_null(),
            }
        }
        self.bytes >= BATCH_BYTES
    }

    /// How many records the batch has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes the batch; `None` when there is no record in it.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        (self.rows, self.bytes) = (0, 0);
        let finish = |column: &mut Column| -> ArrayRef {
            // The next batch will be about as large: with room for it, nothing is moved.
            match column {
                Column::Integers(integers) => {
                    let array = integers.finish();
                    *integers = Int64Builder::with_capacity(room(array.len()));
                    Arc::new(array)
                }
                Column::Reals(reals) => {
                    let array = reals.finish();
                    *reals = Float64Builder::with_capacity(room(array.len()));
                    Arc::new(array)
                }
                Column::Texts(texts) => {
                    let array = texts.finish();
                    let bytes = room(array.value_data().len());
                    *texts = StringBuilder::with_capacity(room(array.len()), bytes);
                    Arc::new(array)
                }
                Column::Blobs(blobs) => {
                    let array = blobs.finish();
                    let bytes = room(array.value_data().len());
                    *blobs = BinaryBuilder::with_capacity(room(array.len()), bytes);
                    Arc::new(array)
                }
            }
        };
        let columns = self.columns.iter_mut().map(finish).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some)
    }
}

/// A little more than there was, but not what one large record took.
fn room(before: usize) -> usize {
    (before + before / 8).min(BATCH_BYTES)
}
