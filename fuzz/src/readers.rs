//! Reads documents back, and compares them to what was written.

use std::collections::HashMap;
use std::io::Cursor;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use flows_formats::decimal::scaled;
use flows_formats::time::{Timestamps, Unit, date};
use flows_formats::{Options, Schema, Type, Value, text};
use serde_json::Value as Json;

/// What was written.
pub struct Table<'t> {
    pub schema: &'t Schema,
    pub rows: &'t [Vec<Value<'t>>],
    pub options: &'t Options,
}

/// Panics unless the document has exactly the table's records.
pub fn read(format: &str, table: &Table<'_>, document: &[u8]) {
    match format {
        "json" => {
            let rows: Vec<HashMap<String, Json>> = serde_json::from_slice(document).unwrap();
            table.is_json(&rows);
        }
        "ndjson" => {
            let text = str::from_utf8(document).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'));
            let rows: Vec<_> = text
                .split_terminator('\n')
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            table.is_json(&rows);
        }
        "csv" => table.is_csv(document),
        "tsv" => table.is_tsv(document),
        "xml" => table.is_xml(document),
        "avro" => table.is_avro(document),
        "arrow" => {
            let reader =
                arrow_ipc::reader::StreamReader::try_new(Cursor::new(document), None).unwrap();
            table.is_arrow(reader.map(Result::unwrap));
        }
        "parquet" => {
            use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
            let bytes = bytes::Bytes::copy_from_slice(document);
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
                .unwrap()
                .build()
                .unwrap();
            table.is_arrow(reader.map(Result::unwrap));
        }
        format => panic!("nobody reads {format}"),
    }
}

impl Table<'_> {
    fn is_json(&self, rows: &[HashMap<String, Json>]) {
        assert_eq!(rows.len(), self.rows.len());
        let quoted = self.options.get("integers") == "string";
        for (read, values) in rows.iter().zip(self.rows) {
            assert_eq!(read.len(), values.len());
            for (column, value) in self.schema.columns.iter().zip(values) {
                let read = &read[&column.name];
                let is_right = match (*value, column.kind) {
                    (Value::Null, _) => read.is_null(),
                    (Value::Real(real), _) if !real.is_finite() => read.is_null(),
                    (Value::Real(real), _) => {
                        read.as_f64().map(f64::to_bits) == Some(real.to_bits())
                    }
                    (Value::Text(text), Type::Json) => {
                        *read == serde_json::from_str::<Json>(text).unwrap()
                    }
                    (Value::Text(text), Type::Decimal { .. }) => {
                        *read == serde_json::from_str::<Json>(text).unwrap()
                    }
                    (Value::Integer(integer), Type::Boolean) => *read == Json::from(integer != 0),
                    (Value::Integer(integer), Type::Integer) if !quoted => {
                        read.as_i64() == Some(integer)
                    }
                    (Value::Integer(integer), Type::Timestamp(_)) if self.epoch() && !quoted => {
                        read.as_i64() == Some(integer)
                    }
                    _ => read.as_str() == Some(self.text(value, column.kind).as_str()),
                };
                assert!(is_right, "{:?}: {value:?} is read as {read}", column.kind);
            }
        }
    }

    fn is_csv(&self, document: &[u8]) {
        let delimiter = self.options.get("delimiter").as_bytes()[0];
        let has_header = self.options.get("header") == "true";
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader
            .delimiter(delimiter)
            .has_headers(has_header)
            .from_reader(document);
        if has_header {
            let names = self
                .schema
                .columns
                .iter()
                .map(|column| column.name.as_str());
            assert!(reader.headers().unwrap().iter().eq(names));
        }
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), self.rows.len());
        for (read, values) in rows.iter().zip(self.rows) {
            assert_eq!(read.len(), values.len());
            for ((column, value), read) in self.schema.columns.iter().zip(values).zip(read) {
                assert_eq!(self.text(value, column.kind), read);
            }
        }
    }

    fn is_tsv(&self, document: &[u8]) {
        let text = str::from_utf8(document).unwrap();
        let lines: Vec<_> = text.strip_suffix('\n').unwrap().split('\n').collect();
        assert_eq!(lines.len(), self.rows.len() + 1);
        for (line, values) in lines[1..].iter().zip(self.rows) {
            let fields: Vec<_> = line.split('\t').collect();
            assert_eq!(fields.len(), values.len());
            for ((column, value), read) in self.schema.columns.iter().zip(values).zip(fields) {
                match value {
                    Value::Null => assert_eq!(read, "\\N"),
                    value => assert_eq!(self.text(value, column.kind), unescaped(read)),
                }
            }
        }
    }

    fn is_xml(&self, document: &[u8]) {
        use quick_xml::Reader;
        use quick_xml::events::Event;
        let mut reader = Reader::from_reader(document);
        let (mut depth, mut records, mut fields) = (0, 0, 0);
        loop {
            match reader.read_event().unwrap() {
                Event::Start(element) => {
                    depth += 1;
                    records += usize::from(depth == 2 && element.name().as_ref() == "record");
                    fields += usize::from(depth == 3);
                }
                Event::Empty(_) => fields += usize::from(depth == 2),
                Event::End(_) => depth -= 1,
                Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!((depth, records), (0, self.rows.len()));
        assert_eq!(fields, self.rows.len() * self.schema.columns.len());
    }

    fn is_avro(&self, document: &[u8]) {
        let mut at = Avro(document.strip_prefix(b"Obj\x01").unwrap());
        assert_eq!(at.long(), 2);
        assert_eq!(at.bytes(), b"avro.schema");
        let schema: Json = serde_json::from_slice(at.bytes()).unwrap();
        assert_eq!(
            schema["fields"].as_array().unwrap().len(),
            self.schema.columns.len()
        );
        assert_eq!(
            (at.bytes(), at.bytes(), at.long()),
            (&b"avro.codec"[..], &b"null"[..], 0)
        );
        let sync = at.take(16);
        let mut rows = self.rows.iter();
        while !at.0.is_empty() {
            let records = at.long();
            let mut block = Avro(at.bytes());
            assert_eq!(at.take(16), sync);
            for _ in 0..records {
                let values = rows.next().unwrap();
                for (column, value) in self.schema.columns.iter().zip(values) {
                    block.is(value, column.kind, column.nullable);
                }
            }
            assert!(block.0.is_empty());
        }
        assert!(rows.next().is_none());
    }

    fn is_arrow(&self, batches: impl Iterator<Item = RecordBatch>) {
        let mut rows = self.rows.iter();
        for batch in batches {
            assert_eq!(batch.num_columns(), self.schema.columns.len());
            for at in 0..batch.num_rows() {
                let values = rows.next().unwrap();
                for ((column, value), array) in
                    self.schema.columns.iter().zip(values).zip(batch.columns())
                {
                    is_in_array(value, column.kind, array, at);
                }
            }
        }
        assert!(rows.next().is_none());
    }

    fn epoch(&self) -> bool {
        self.options.get("timestamps") == "epoch"
    }

    /// A value as it is in text.
    fn text(&self, value: &Value<'_>, kind: Type) -> String {
        let made = |make: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            make(&mut out);
            String::from_utf8(out).unwrap()
        };
        match (*value, kind) {
            (Value::Null, _) => String::new(),
            (Value::Text(text), _) => text.to_owned(),
            (Value::Real(real), _) => made(&|out| text::any_real(real, out)),
            (Value::Blob(blob), _) => made(&|out| text::base64(blob, out)),
            (Value::Integer(integer), Type::Timestamp(unit)) if !self.epoch() => {
                Timestamps::new(unit).text(integer)
            }
            (Value::Integer(integer), Type::Date) => made(&|out| out.extend(date(integer))),
            (Value::Integer(integer), Type::Boolean) => (integer != 0).to_string(),
            (Value::Integer(integer), _) => integer.to_string(),
        }
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        out.push(match letter {
            '\\' => match letters.next().unwrap() {
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'v' => '\u{b}',
                '\\' => '\\',
                letter => panic!("\\{letter}"),
            },
            letter => letter,
        });
    }
    out
}

/// What is left of an Avro file.
struct Avro<'d>(&'d [u8]);

impl<'d> Avro<'d> {
    fn take(&mut self, bytes: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn long(&mut self) -> i64 {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            number |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
            }
        }
    }

    fn bytes(&mut self) -> &'d [u8] {
        let length = self.long();
        self.take(usize::try_from(length).unwrap())
    }

    fn is(&mut self, value: &Value<'_>, kind: Type, nullable: bool) {
        if nullable {
            assert_eq!(self.long(), i64::from(*value != Value::Null));
        }
        match (*value, kind) {
            (Value::Null, _) => {}
            (Value::Integer(integer), Type::Boolean) => {
                assert_eq!(self.take(1), [u8::from(integer != 0)])
            }
            (Value::Integer(integer), Type::Timestamp(Unit::Second)) => {
                assert_eq!(self.long(), integer * 1000)
            }
            (Value::Integer(integer), _) => assert_eq!(self.long(), integer),
            (Value::Real(real), _) => assert_eq!(self.take(8), real.to_le_bytes()),
            (Value::Text(text), Type::Decimal { scale, .. }) => {
                let bytes = self.bytes();
                let negative = bytes[0] >= 0x80;
                let number = bytes
                    .iter()
                    .fold(if negative { -1_i128 } else { 0 }, |number, byte| {
                        number << 8 | i128::from(*byte)
                    });
                assert_eq!(Some(number), scaled(text, scale.into()));
            }
            (Value::Text(text), _) => assert_eq!(self.bytes(), text.as_bytes()),
            (Value::Blob(blob), _) => assert_eq!(self.bytes(), blob),
        }
    }
}

fn is_in_array(value: &Value<'_>, kind: Type, array: &dyn Array, at: usize) {
    if *value == Value::Null {
        assert!(array.is_null(at));
        return;
    }
    assert!(array.is_valid(at));
    match (*value, kind) {
        (Value::Null, _) => {}
        (Value::Integer(integer), Type::Boolean) => {
            assert_eq!(array.as_boolean().value(at), integer != 0)
        }
        (Value::Integer(integer), Type::Date) => {
            assert_eq!(
                i64::from(array.as_primitive::<Date32Type>().value(at)),
                integer
            );
        }
        (Value::Integer(integer), Type::Timestamp(unit)) => {
            let DataType::Timestamp(of_array, _) = array.data_type() else {
                panic!("{:?}", array.data_type());
            };
            let read = match of_array {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(at),
                TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(at),
                TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(at),
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(at),
            };
            // Parquet has no seconds.
            let is_longer = unit == Unit::Second && *of_array == TimeUnit::Millisecond;
            assert_eq!(read, if is_longer { integer * 1000 } else { integer });
        }
        (Value::Integer(integer), _) => {
            assert_eq!(array.as_primitive::<Int64Type>().value(at), integer)
        }
        (Value::Real(real), _) => {
            assert_eq!(
                array.as_primitive::<Float64Type>().value(at).to_bits(),
                real.to_bits()
            );
        }
        (Value::Text(text), Type::Decimal { scale, .. }) => {
            assert_eq!(
                Some(array.as_primitive::<Decimal128Type>().value(at)),
                scaled(text, scale.into())
            );
        }
        (Value::Text(text), _) => assert_eq!(array.as_string::<i32>().value(at), text),
        (Value::Blob(blob), _) => assert_eq!(array.as_binary::<i32>().value(at), blob),
    }
}
