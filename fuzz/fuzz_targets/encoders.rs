//! Any records of any schema, written by every format with any of its options: what our readers here
//! read is what was written, and slices are the document that is written in one piece.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use flows_formats::time::Unit;
use flows_formats::{Allowed, Column, Format, Options, Record, Registry, Schema, Type, Value};
use flows_fuzz::readers::{self, Table};
use libfuzzer_sys::fuzz_target;

static FORMATS: LazyLock<Registry> = LazyLock::new(|| Registry::load().unwrap());

fuzz_target!(|input: Input| {
    let Input {
        schema,
        records,
        cuts,
        choices,
    } = &input;
    let rows: Vec<Vec<Value<'_>>> = records
        .iter()
        .map(|record| record.iter().map(value).collect())
        .collect();
    for format in FORMATS.iter() {
        let options = options(format, *choices);
        let whole = written(format, schema, &options, &rows, &[]);
        let sliced = written(format, schema, &options, &rows, cuts);
        let table = Table {
            schema,
            rows: &rows,
            options: &options,
        };
        readers::read(format.name, &table, &whole);
        if matches!(format.name, "avro" | "arrow" | "parquet") {
            // Blocks end where slices do.
            readers::read(format.name, &table, &sliced);
        } else {
            assert!(
                whole == sliced,
                "{}: slices are another document",
                format.name
            );
        }
    }
});

/// A document whose slices end after so many records each, and are flushed on the way.
fn written(
    format: &Format,
    schema: &Schema,
    options: &Options,
    rows: &[Vec<Value<'_>>],
    cuts: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut first = format.new_encoder(schema, options).unwrap();
    let separator = first.separator();
    first.begin(&mut out).unwrap();
    let mut parts = Vec::new();
    let mut rest = rows;
    let mut cuts = cuts.iter();
    let mut other: Option<Box<dyn flows_formats::RecordEncoder>> = None;
    loop {
        let cut = cuts
            .next()
            .map_or(rest.len(), |cut| usize::from(*cut % 8).min(rest.len()));
        let (now, later) = rest.split_at(cut);
        // What a slice writes does not depend on what is before it.
        let mut slice = Vec::new();
        let is_first = other.is_none();
        let encoder = other.as_mut().unwrap_or(&mut first);
        for (at, values) in now.iter().enumerate() {
            if at > 0 || rest.len() < rows.len() {
                slice.extend_from_slice(separator);
            }
            encoder.record(&Record { values }, &mut slice).unwrap();
            if at % 3 == 2 && cut != rest.len() {
                encoder.flush(&mut slice).unwrap();
            }
        }
        let part = encoder.end_slice(&mut slice).unwrap();
        if !is_first {
            parts.extend(part.map(|part| (part, out.len() as u64)));
        }
        out.append(&mut slice);
        rest = later;
        if rest.is_empty() {
            break;
        }
        other = Some(encoder.fork().unwrap());
    }
    for (part, before) in parts {
        first.join(part, before).unwrap();
    }
    first.end(rows.len() as u64, &mut out).unwrap();
    out
}

fn options(format: &Format, mut choices: u32) -> Options {
    let mut options = Options::new(format.options);
    for option in format.options {
        let choice = choices % 8;
        choices /= 8;
        let value = match option.allowed {
            Allowed::OneOf(values) => values[choice as usize % values.len()].to_owned(),
            Allowed::Integer { least, most } => (least + choice).min(most).to_string(),
        };
        options.set(option.name, &value).unwrap();
    }
    options
}

#[derive(Debug)]
enum Owned {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

fn value(owned: &Owned) -> Value<'_> {
    match owned {
        Owned::Null => Value::Null,
        Owned::Integer(integer) => Value::Integer(*integer),
        Owned::Real(real) => Value::Real(*real),
        Owned::Text(text) => Value::Text(text),
        Owned::Blob(blob) => Value::Blob(blob),
    }
}

#[derive(Debug)]
struct Input {
    schema: Schema,
    records: Vec<Vec<Owned>>,
    cuts: Vec<u8>,
    choices: u32,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let (choices, cuts) = (u.arbitrary()?, u.arbitrary::<[u8; 4]>()?.to_vec());
        let mut columns: Vec<Column> = Vec::new();
        for _ in 0..u.int_in_range(1..=6)? {
            let (name, kind, nullable) = (u.arbitrary::<String>()?, kind(u)?, u.arbitrary()?);
            let is_new = columns.iter().all(|known| known.name != name);
            if !name.is_empty() && is_new {
                columns.push(Column {
                    name,
                    kind,
                    nullable,
                });
            }
        }
        if columns.is_empty() {
            columns.push(Column {
                name: "c".into(),
                kind: Type::Text,
                nullable: true,
            });
        }
        let mut records = Vec::new();
        while !u.is_empty() && records.len() < 40 {
            let record = columns.iter().map(|column| owned(u, column));
            records.push(record.collect::<Result<_>>()?);
        }
        let schema = Schema {
            name: "flows".into(),
            columns,
        };
        Ok(Input {
            schema,
            records,
            cuts,
            choices,
        })
    }
}

fn kind(u: &mut Unstructured<'_>) -> Result<Type> {
    Ok(match u.int_in_range(0..=8)? {
        0 => Type::Integer,
        1 => Type::Real,
        2 => Type::Text,
        3 => Type::Blob,
        4 => Type::Date,
        5 => Type::Boolean,
        6 => Type::Json,
        7 => Type::Timestamp(*u.choose(&Unit::ALL)?),
        _ => {
            let precision = u.int_in_range(1..=38)?;
            Type::Decimal {
                precision,
                scale: u.int_in_range(0..=precision)?,
            }
        }
    })
}

/// A value that the column may have.
fn owned(u: &mut Unstructured<'_>, column: &Column) -> Result<Owned> {
    if column.nullable && u.ratio(1, 4)? {
        return Ok(Owned::Null);
    }
    Ok(match column.kind {
        Type::Integer => Owned::Integer(u.arbitrary()?),
        Type::Real => Owned::Real(u.arbitrary()?),
        Type::Text => Owned::Text(u.arbitrary()?),
        Type::Blob => Owned::Blob(u.arbitrary()?),
        Type::Timestamp(unit) => Owned::Integer(u.int_in_range(unit.range())?),
        Type::Date => Owned::Integer(u.int_in_range(-719_162..=2_932_896)?),
        Type::Boolean => Owned::Integer(u.int_in_range(0..=1)?),
        Type::Decimal { precision, scale } => {
            let most = 10_i128.pow(precision.into()) - 1;
            let number: i128 = u.int_in_range(-most..=most)?;
            let digits = format!(
                "{:0width$}",
                number.unsigned_abs(),
                width = usize::from(scale) + 1
            );
            let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
            let sign = if number < 0 { "-" } else { "" };
            let point = if fraction.is_empty() { "" } else { "." };
            Owned::Text(format!("{sign}{whole}{point}{fraction}"))
        }
        Type::Json => {
            let text: String = u.arbitrary()?;
            // What a column of JSON has is JSON; serde_json reads it only so deep.
            let nested = format!("[[{text}]]");
            let is_json = serde_json::from_str::<serde_json::Value>(&nested).is_ok()
                && serde_json::from_str::<serde_json::Value>(&text).is_ok();
            Owned::Text(if is_json {
                text
            } else {
                serde_json::to_string(&text).unwrap()
            })
        }
    })
}
