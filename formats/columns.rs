//! Records gathered into Arrow's columns: what `arrow` and `parquet` have in common.
//!
//! An integer is an `Int64`, a real a `Float64`, a string a `Utf8`, a blob a `Binary`, a timestamp a
//! `Timestamp` of its unit in UTC, a date a `Date32`, a boolean a `Boolean`, a decimal a `Decimal128`, JSON a
//! `Utf8`; nullable as the column is declared.

use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, make_array};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef, TimeUnit};
use flows_formats::time::Unit;
use flows_formats::{Record, Schema, Type, Value};

use crate::decimal::scaled;

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
    /// Instants, which are integers until the batch is made, of that type.
    Instants(Int64Builder, DataType),
    Dates(Date32Builder),
    Booleans(BooleanBuilder),
    Reals(Float64Builder),
    /// Decimals of that scale.
    Decimals(Decimal128Builder, u32),
    Texts(StringBuilder),
    Blobs(BinaryBuilder),
}

/// Arrow's schema of a stream's records.
pub(crate) fn schema(schema: &Schema) -> SchemaRef {
    let field = |column: &flows_formats::Column| {
        let kind = match column.kind {
            Type::Integer => DataType::Int64,
            Type::Real => DataType::Float64,
            Type::Text | Type::Json => DataType::Utf8,
            Type::Blob => DataType::Binary,
            Type::Timestamp(unit) => DataType::Timestamp(time_unit(unit), Some("UTC".into())),
            Type::Date => DataType::Date32,
            Type::Boolean => DataType::Boolean,
            // At most 38.
            Type::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
        };
        Field::new(&column.name, kind, column.nullable)
    };
    let fields: Vec<_> = schema.columns.iter().map(field).collect();
    Arc::new(arrow_schema::Schema::new(fields))
}

fn time_unit(unit: Unit) -> TimeUnit {
    match unit {
        Unit::Second => TimeUnit::Second,
        Unit::Millisecond => TimeUnit::Millisecond,
        Unit::Microsecond => TimeUnit::Microsecond,
        Unit::Nanosecond => TimeUnit::Nanosecond,
    }
}

impl Column {
    fn new(kind: &DataType, rows: usize, bytes: usize) -> Column {
        match kind {
            DataType::Int64 => Column::Integers(Int64Builder::with_capacity(rows)),
            DataType::Timestamp(..) => {
                Column::Instants(Int64Builder::with_capacity(rows), kind.clone())
            }
            DataType::Date32 => Column::Dates(Date32Builder::with_capacity(rows)),
            DataType::Boolean => Column::Booleans(BooleanBuilder::with_capacity(rows)),
            DataType::Float64 => Column::Reals(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(_, scale) => {
                let decimals = Decimal128Builder::with_capacity(rows);
                Column::Decimals(
                    decimals.with_data_type(kind.clone()),
                    u32::from(scale.unsigned_abs()),
                )
            }
            DataType::Utf8 => Column::Texts(StringBuilder::with_capacity(rows, bytes)),
            _ => Column::Blobs(BinaryBuilder::with_capacity(rows, bytes)),
        }
    }

    /// The column's values, of which there are none in it after that.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let array: ArrayRef = match self {
            Column::Integers(integers) | Column::Instants(integers, _) => {
                Arc::new(integers.finish())
            }
            Column::Dates(dates) => Arc::new(dates.finish()),
            Column::Booleans(booleans) => Arc::new(booleans.finish()),
            Column::Reals(reals) => Arc::new(reals.finish()),
            Column::Decimals(decimals, _) => Arc::new(decimals.finish()),
            Column::Texts(texts) => Arc::new(texts.finish()),
            Column::Blobs(blobs) => Arc::new(blobs.finish()),
        };
        let array = match self {
            Column::Instants(_, kind) => {
                let instants = array.to_data().into_builder();
                make_array(instants.data_type(kind.clone()).build()?)
            }
            _ => array,
        };
        // The next batch will be about as large: with room for it, nothing is moved.
        let bytes = match self {
            Column::Texts(_) => array.as_string::<i32>().value_data().len(),
            Column::Blobs(_) => array.as_binary::<i32>().value_data().len(),
            _ => 0,
        };
        *self = Column::new(array.data_type(), room(array.len()), room(bytes));
        Ok(array)
    }
}

impl Columns {
    /// An empty batch of that schema.
    pub(crate) fn new(schema: SchemaRef) -> Columns {
        let column = |field: &Arc<Field>| Column::new(field.data_type(), 0, 0);
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
    pub(crate) fn push(&mut self, record: &Record<'_>) -> Result<bool, ArrowError> {
        self.rows += 1;
        for (column, value) in self.columns.iter_mut().zip(record.values) {
            self.bytes += 8;
            match (column, *value) {
                (
                    Column::Integers(integers) | Column::Instants(integers, _),
                    Value::Integer(integer),
                ) => integers.append_value(integer),
                (Column::Reals(reals), Value::Real(real)) => reals.append_value(real),
                (Column::Texts(texts), Value::Text(text)) => {
                    self.bytes += text.len();
                    texts.append_value(text);
                }
                (Column::Blobs(blobs), Value::Blob(blob)) => {
                    self.bytes += blob.len();
                    blobs.append_value(blob);
                }
                // Days of the years 1 to 9999 fit.
                (Column::Dates(dates), Value::Integer(days)) => dates.append_value(days as i32),
                (Column::Booleans(booleans), Value::Integer(integer)) => {
                    booleans.append_value(integer != 0);
                }
                (Column::Decimals(decimals, scale), Value::Text(text)) => {
                    self.bytes += 8;
                    decimals.append_value(scaled(text, *scale).ok_or_else(|| {
                        ArrowError::InvalidArgumentError(format!(
                            "{text:?} is no decimal of {scale} digits after the point"
                        ))
                    })?);
                }
                // A value is null or of its column's type.
                (Column::Integers(integers) | Column::Instants(integers, _), _) => {
                    integers.append_null();
                }
                (Column::Reals(reals), _) => reals.append_null(),
                (Column::Texts(texts), _) => texts.append_null(),
                (Column::Blobs(blobs), _) => blobs.append_null(),
                (Column::Dates(dates), _) => dates.append_null(),
                (Column::Booleans(booleans), _) => booleans.append_null(),
                (Column::Decimals(decimals, _), _) => decimals.append_null(),
            }
        }
        Ok(self.bytes >= BATCH_BYTES)
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
        let columns = self.columns.iter_mut().map(Column::finish);
        let columns = columns.collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some)
    }
}

/// A little more than there was, but not what one large record took.
fn room(before: usize) -> usize {
    (before + before / 8).min(BATCH_BYTES)
}
