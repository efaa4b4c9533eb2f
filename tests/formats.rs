//! Property tests: any record of any schema, written by each registered format, is read back equal
//! by a reader that is not ours. A format that no reader here knows fails the test.

use std::cell::RefCell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flows_formats::time::{Timestamps, Unit, date};
use flows_formats::{Column, Format, Options, Record, Registry, Schema, Type, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value as Json;

mod foreign;

use foreign::{
    Owned, Reader, bits, column_name, in_json, is_in_duckdbs_json, is_real, is_text, typed,
};

fn borrowed(value: &Owned) -> Value<'_> {
    match value {
        Owned::Null => Value::Null,
        Owned::Integer(integer) => Value::Integer(*integer),
        Owned::Real(real) => Value::Real(*real),
        Owned::Text(text) => Value::Text(text),
        Owned::Blob(bytes) => Value::Blob(bytes),
        Owned::Timestamp(_, value) | Owned::Date(value) => Value::Integer(*value),
        Owned::Boolean(boolean) => Value::Integer((*boolean).into()),
        Owned::Decimal(text) | Owned::Json(text) => Value::Text(text),
    }
}

/// The text of a value that has the same one in every text format.
fn in_text(value: &Owned) -> String {
    match value {
        Owned::Timestamp(unit, value) => Timestamps::new(*unit).text(*value),
        Owned::Date(days) => str::from_utf8(&date(*days)).unwrap().to_owned(),
        Owned::Boolean(boolean) => boolean.to_string(),
        Owned::Decimal(text) | Owned::Json(text) => text.clone(),
        value => panic!("{value:?}"),
    }
}

/// Text with everything that a format may trip over.
fn text() -> impl Strategy<Value = String> {
    let hostile = prop::sample::select(vec![
        "", " ", "  x  ", "\"", "\"\"", ",", ";", "\t", "\n", "\r", "\r\n", "\0", "\u{1}",
        "\u{1f}", "\u{7f}", "\u{85}", "\u{2028}", "\u{fffd}", "\u{fffe}", "\u{ffff}", "\u{feff}",
        "]]>", "<!--", "&amp;", "<a>", "'", "\\", "\\N", "\\u0000", "null", "NaN", "-1", "_x0020_",
        "Größe", "😀", "�",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter),
        prop::collection::vec(hostile, 0..6).prop_map(|parts| parts.concat()),
    ]
}

/// A decimal of at most so many digits, with at most so many of them after the point.
fn decimal(precision: usize, scale: usize) -> impl Strategy<Value = Owned> {
    let digits = prop::collection::vec(prop::sample::select(vec!['0', '1', '5', '9']), precision);
    (any::<bool>(), digits, 0..=precision - scale, 0..=scale).prop_map(
        move |(negative, digits, whole, fraction)| {
            let digits: String = digits.into_iter().collect();
            let (before, after) = digits.split_at(precision - scale);
            let before = before[..whole].trim_start_matches('0');
            let mut text = String::from(if negative { "-" } else { "" });
            text.push_str(if before.is_empty() { "0" } else { before });
            if fraction > 0 {
                text.push('.');
                text.push_str(&after[..fraction]);
            }
            Owned::Decimal(text)
        },
    )
}

/// A JSON text, in one line or in several.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-1e300..1e300).prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    let any = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| Json::Object(map.into_iter().collect())),
        ]
    });
    (any, any_break()).prop_map(|(json, line_break)| match line_break {
        Some(line_break) => format!("{json:#}").replace('\n', line_break),
        None => json.to_string(),
    })
}

fn any_break() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("\n"), Some("\r\n"), Some("\r")])
}

fn value(kind: Type, nullable: bool) -> BoxedStrategy<Owned> {
    let value = match kind {
        Type::Integer => prop_oneof![
            any::<i64>(),
            prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX])
        ]
        .prop_map(Owned::Integer)
        .boxed(),
        Type::Real => prop_oneof![
            any::<f64>(),
            prop::sample::select(vec![
                0.0,
                -0.0,
                1.0,
                0.1,
                1e16,
                1e-7,
                5e-324,
                f64::MAX,
                f64::MIN_POSITIVE,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY
            ])
        ]
        .prop_map(Owned::Real)
        .boxed(),
        Type::Text => text().prop_map(Owned::Text).boxed(),
        Type::Timestamp(unit) => {
            let (least, most) = unit.range().into_inner();
            // The ends of years 1 and 9999 (or of what nanoseconds hold), of 1969, and of leap days.
            let seconds = [
                -86_400,
                -1,
                0,
                1,
                5_097_600,
                951_782_400,
                1_709_251_199,
                -2_203_891_200,
            ];
            let mut values = vec![least, least + 1, most - 1, most];
            values.extend(seconds.map(|second| second * unit.per_second()));
            values.extend(seconds.map(|second| second * unit.per_second() - 1));
            prop_oneof![least..=most, prop::sample::select(values)]
                .prop_map(move |value| Owned::Timestamp(unit, value))
                .boxed()
        }
        Type::Date => prop_oneof![
            -719_162..=2_932_896_i64,
            prop::sample::select(vec![-719_162, -1, 0, 59, 11_016, 19_782, 2_932_896])
        ]
        .prop_map(Owned::Date)
        .boxed(),
        Type::Boolean => any::<bool>().prop_map(Owned::Boolean).boxed(),
        Type::Decimal { precision, scale } => decimal(precision.into(), scale.into()).boxed(),
        Type::Json => json().prop_map(Owned::Json).boxed(),
        Type::Blob => prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(Owned::Blob)
            .boxed(),
    };
    if nullable {
        prop_oneof![1 => Just(Owned::Null), 3 => value].boxed()
    } else {
        value
    }
}

/// Each type as likely as any other.
fn kind() -> impl Strategy<Value = Type> {
    let scales = prop_oneof![0..=38_u8, Just(0), Just(2)];
    let decimal = (1..=38_u8, scales).prop_map(|(precision, scale)| Type::Decimal {
        precision,
        scale: scale.min(precision),
    });
    prop_oneof![
        5 => prop::sample::select(vec![
            Type::Integer, Type::Real, Type::Text, Type::Blob, Type::Date, Type::Boolean, Type::Json
        ]),
        2 => prop::sample::select(Unit::ALL.map(Type::Timestamp).to_vec()),
        1 => decimal,
    ]
}

/// A schema of one to six columns, and up to five records of it.
fn table() -> impl Strategy<Value = (Schema, Vec<Vec<Owned>>)> {
    let name = prop_oneof!["[a-z_]{1,8}", "[0-9xX_ .:-]{1,6}", "xml[a-z]{0,3}", text()]
        .prop_filter("names are not empty and have no NUL", |name| {
            !name.is_empty() && !name.contains('\0')
        });
    let column = (name, kind(), any::<bool>()).prop_map(|(name, kind, nullable)| Column {
        name,
        kind,
        nullable,
    });
    prop::collection::vec(column, 1..6)
        .prop_filter(
            "names are distinct, also to who does not tell upper from lower case",
            |columns| {
                let mut names: Vec<_> = columns.iter().map(|c| c.name.to_lowercase()).collect();
                names.sort();
                names.windows(2).all(|pair| pair[0] != pair[1])
            },
        )
        .prop_flat_map(|columns| {
            let record: Vec<_> = columns.iter().map(|c| value(c.kind, c.nullable)).collect();
            let schema = Schema {
                name: "any".into(),
                columns,
            };
            (Just(schema), prop::collection::vec(record, 0..5))
        })
}

/// A document written as three slices at once, of which the last is ready first; `None` if the
/// format has no slices.
fn in_slices(format: &Format, schema: &Schema, records: &[Record<'_>]) -> Option<Vec<u8>> {
    let mut first = format
        .new_encoder(schema, &Options::new(format.options))
        .unwrap();
    let (second, third) = (first.fork()?, first.fork()?);
    let separator = first.separator();
    let (head, rest) = records.split_at(records.len().div_ceil(3));
    let (middle, tail) = rest.split_at(rest.len() / 2);
    let mut written = Vec::new();
    for (mut encoder, records) in [(third, tail), (second, middle)] {
        let mut out = Vec::new();
        for record in records {
            out.extend_from_slice(separator);
            encoder.record(record, &mut out).unwrap();
        }
        let part = encoder.end_slice(&mut out).unwrap();
        written.push((out, part));
    }
    let mut document = Vec::new();
    first.begin(&mut document).unwrap();
    for (i, record) in head.iter().enumerate() {
        if i > 0 {
            document.extend_from_slice(separator);
        }
        first.record(record, &mut document).unwrap();
    }
    first.end_slice(&mut document).unwrap();
    while let Some((slice, part)) = written.pop() {
        if let Some(part) = part {
            first.join(part, document.len() as u64).unwrap();
        }
        document.extend_from_slice(&slice);
    }
    first.end(records.len() as u64, &mut document).unwrap();
    Some(document)
}

/// Writes the table in a format, in one piece and in slices, and has `read` compare what comes back.
fn round_trip(
    format: &Format,
    cases: u32,
    read: impl Fn(&Schema, &[Vec<Owned>], &[u8]) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&table(), |(schema, records)| {
        let values: Vec<Vec<_>> = records
            .iter()
            .map(|record| record.iter().map(borrowed).collect())
            .collect();
        let borrowed: Vec<_> = values.iter().map(|values| Record { values }).collect();
        let document = format.document(&schema, &borrowed).unwrap();
        let sliced = in_slices(format, &schema, &borrowed);
        for document in [Some(document), sliced].into_iter().flatten() {
            read(&schema, &records, &document).map_err(|error| match error {
                TestCaseError::Fail(why) => {
                    let document = String::from_utf8_lossy(&document);
                    TestCaseError::fail(format!("{why}\ndocument: {document:?}"))
                }
                reject => reject,
            })?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{}: {error}", format.name);
    }
}

#[test]
fn every_format_has_a_reader_here() {
    let names: Vec<_> = Registry::load()
        .unwrap()
        .iter()
        .map(|format| format.name)
        .collect();
    assert_eq!(
        names,
        [
            "arrow", "avro", "csv", "json", "ndjson", "parquet", "tsv", "xml"
        ],
        "a new format needs a round trip in this file"
    );
}

fn format(name: &str) -> &'static Format {
    Registry::load().unwrap().get(name).unwrap()
}

#[test]
fn json_is_read_back_by_serde_json() {
    round_trip(format("json"), 5000, |schema, records, document| {
        let lines = std::str::from_utf8(document).unwrap().lines().count();
        prop_assert_eq!(
            lines,
            if records.is_empty() {
                1
            } else {
                records.len() + 2
            }
        );
        let read: Vec<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_slice(document).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(read.len(), records.len());
        for (read, record) in read.iter().zip(records) {
            prop_assert_eq!(read.len(), schema.columns.len());
            for (column, value) in schema.columns.iter().zip(record) {
                let expected = match value {
                    Owned::Null => serde_json::Value::Null,
                    Owned::Integer(integer) => (*integer).into(),
                    // NaN and infinities become null.
                    Owned::Real(real) => (*real).into(),
                    Owned::Text(text) => text.as_str().into(),
                    Owned::Blob(bytes) => STANDARD.encode(bytes).into(),
                    Owned::Boolean(boolean) => (*boolean).into(),
                    // Numbers and whatever else, as serde_json has them.
                    Owned::Decimal(text) | Owned::Json(text) => serde_json::from_str(text).unwrap(),
                    value => in_text(value).into(),
                };
                prop_assert_eq!(&read[&column.name], &expected);
            }
        }
        Ok(())
    });
}

#[test]
fn csv_is_read_back_by_the_csv_crate() {
    round_trip(format("csv"), 5000, |schema, records, document| {
        let mut reader = csv::ReaderBuilder::new().from_reader(document);
        let header = reader.headers().unwrap().clone();
        prop_assert_eq!(header.len(), schema.columns.len());
        for (read, column) in header.iter().zip(&schema.columns) {
            prop_assert_eq!(read, column.name.as_str());
        }
        let read: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read.len(), records.len());
        for (read, record) in read.iter().zip(records) {
            prop_assert_eq!(read.len(), record.len());
            for (field, value) in read.iter().zip(record) {
                match value {
                    // This reader cannot tell null from empty.
                    Owned::Null => prop_assert_eq!(field, ""),
                    Owned::Integer(integer) => prop_assert_eq!(field, integer.to_string()),
                    Owned::Real(real) => prop_assert!(is_real(field, *real), "{field} {real}"),
                    Owned::Text(text) => prop_assert_eq!(field, text),
                    Owned::Blob(bytes) => prop_assert_eq!(field, STANDARD.encode(bytes)),
                    value => prop_assert_eq!(field, in_text(value)),
                }
            }
        }
        Ok(())
    });
}

#[test]
fn csv_tells_null_from_empty() {
    let column = |name: &str| Column {
        name: name.into(),
        kind: Type::Text,
        nullable: true,
    };
    let schema = Schema {
        name: "s".into(),
        columns: vec![column("a"), column("b")],
    };
    let record = Record {
        values: &[Value::Null, Value::Text("")],
    };
    assert_eq!(
        format("csv").document(&schema, &[record]).unwrap(),
        b"a,b\n,\"\"\n"
    );
}

/// Has a reader of `tests/readers.py` read any table in a format, and compares names, if there are
/// records to have them, and values.
fn read_back(
    name: &str,
    cases: u32,
    column: fn(&str) -> String,
    is: impl Fn(&Json, &Owned) -> bool,
) {
    read_back_but(name, cases, column, is, |_| false);
}

/// [`read_back`], but for tables that are `beyond` the reader.
fn read_back_but(
    name: &str,
    cases: u32,
    column: fn(&str) -> String,
    is: impl Fn(&Json, &Owned) -> bool,
    beyond: impl Fn(&[Vec<Owned>]) -> bool,
) {
    let reader = RefCell::new(Reader::start(name));
    let format = format(name.split('-').next().unwrap());
    round_trip(format, cases, |schema, records, document| {
        if beyond(records) {
            return Ok(());
        }
        let read = reader.borrow_mut().read(schema, document);
        let read = read.map_err(TestCaseError::fail)?;
        prop_assert_eq!(read.records.len(), records.len());
        if !records.is_empty() {
            let names: Vec<_> = read.names.iter().map(|name| column(name)).collect();
            let expected: Vec<_> = schema.columns.iter().map(|c| c.name.clone()).collect();
            prop_assert_eq!(names, expected);
        }
        for (read, record) in read.records.iter().zip(records) {
            prop_assert_eq!(read.len(), record.len());
            for (read, value) in read.iter().zip(record) {
                prop_assert!(is(read, value), "{read} is not {value:?}");
            }
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs lxml: tests/run installs it"]
fn xml_is_read_back_by_lxml() {
    // It is strict: quick-xml would take this.
    let schema = Schema {
        name: "s".into(),
        columns: Vec::new(),
    };
    let forbidden = b"<records><record><a>\x01</a></record></records>";
    assert!(Reader::start("xml-lxml").read(&schema, forbidden).is_err());
    read_back("xml-lxml", 5000, column_name, |read, value| match value {
        Owned::Text(text) => {
            let forbidden =
                |c: char| (c < ' ' && !"\t\n\r".contains(c)) || c == '\u{fffe}' || c == '\u{ffff}';
            is_text(read, &Owned::Text(text.replace(forbidden, "\u{fffd}")))
        }
        Owned::Json(text) => {
            // All others are escaped in it.
            let text = text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
            is_text(read, &Owned::Json(text))
        }
        value => is_text(read, value),
    });
}

#[test]
#[ignore = "needs DuckDB: tests/run installs it"]
fn ndjson_is_read_back_by_duckdb() {
    read_back("ndjson-duckdb", 1000, str::to_owned, is_in_duckdbs_json);
}

#[test]
#[ignore = "needs pandas: tests/run installs it"]
fn ndjson_is_read_back_by_pandas() {
    let is = |read: &Json, value: &Owned| {
        // Among nulls, pandas takes integers for reals.
        let among_nulls = match value {
            Owned::Integer(integer) => Some(bits(*integer as f64)),
            _ => None,
        };
        *read == in_json(value) || Some(read) == among_nulls.as_ref()
    };
    // It reads no number that near to 0, takes decimals for doubles, and numbers in JSON, too.
    let beyond = |value: &Owned| match value {
        Owned::Real(real) => real.is_subnormal(),
        Owned::Decimal(_) | Owned::Json(_) => true,
        _ => false,
    };
    read_back_but("ndjson-pandas", 2000, str::to_owned, is, |records| {
        records.iter().flatten().any(beyond)
    });
}

#[test]
#[ignore = "needs DuckDB: tests/run installs it"]
fn tsv_is_read_back_by_duckdb() {
    // In one column, an empty text is an empty line, which PostgreSQL reads and DuckDB passes over.
    let empty = |value: &Owned| match value {
        Owned::Text(text) => text.is_empty(),
        Owned::Blob(blob) => blob.is_empty(),
        _ => false,
    };
    read_back_but("tsv-duckdb", 1000, str::to_owned, is_text, |records| {
        records
            .iter()
            .any(|record| record.len() == 1 && empty(&record[0]))
    });
}

#[test]
#[ignore = "needs fastavro: tests/run installs it"]
fn avro_is_read_back_by_fastavro() {
    read_back(
        "avro-fastavro",
        5000,
        column_name,
        |read, value| match value {
            // It knows no timestamp-nanos, which are longs to it.
            Owned::Timestamp(Unit::Nanosecond, value) => *read == typed(&Owned::Integer(*value)),
            value => *read == typed(value),
        },
    );
}

#[test]
#[ignore = "needs pyarrow: tests/run installs it"]
fn arrow_is_read_back_by_pyarrow() {
    read_back("arrow-pyarrow", 5000, str::to_owned, |read, value| {
        *read == typed(value)
    });
}

#[test]
#[ignore = "needs pyarrow: tests/run installs it"]
fn parquet_is_read_back_by_pyarrow() {
    read_back("parquet-pyarrow", 1000, str::to_owned, |read, value| {
        *read == typed(value)
    });
}

#[test]
#[ignore = "needs DuckDB: tests/run installs it"]
fn parquet_is_read_back_by_duckdb() {
    read_back(
        "parquet-duckdb",
        300,
        str::to_owned,
        |read, value| match value {
            // It has no nanoseconds in UTC: it reads microseconds, and the two ends as infinities.
            Owned::Timestamp(Unit::Nanosecond, value)
                if value.unsigned_abs() == i64::MAX as u64 =>
            {
                true
            }
            Owned::Timestamp(Unit::Nanosecond, value) => {
                *read == typed(&Owned::Timestamp(Unit::Microsecond, value / 1000))
            }
            value => *read == typed(value),
        },
    );
}

/// What has no other reader here: options of text formats, byte by byte.
#[test]
fn timestamps_and_integers_are_as_the_options_say() {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        nullable: false,
    };
    let schema = Schema {
        name: "s".into(),
        columns: vec![
            column("i", Type::Integer),
            column("at", Type::Timestamp(Unit::Millisecond)),
            column("ns", Type::Timestamp(Unit::Nanosecond)),
            column("ok", Type::Boolean),
            column(
                "n",
                Type::Decimal {
                    precision: 4,
                    scale: 2,
                },
            ),
            column("j", Type::Json),
        ],
    };
    let values = [
        Value::Integer(i64::MIN),
        Value::Integer(-1),
        Value::Integer(i64::MAX),
        Value::Integer(1),
        Value::Text("1.50"),
        Value::Text("{\"a\":\r\n \"\\n\"}"),
    ];
    for (name, options, expected) in [
        (
            "ndjson",
            &[][..],
            r#"{"i":-9223372036854775808,"at":"1969-12-31T23:59:59.999Z","ns":"2262-04-11T23:47:16.854775807Z","ok":true,"n":1.50,"j":{"a":   "\n"}}"#,
        ),
        (
            "ndjson",
            &[("integers", "string")],
            r#"{"i":"-9223372036854775808","at":"1969-12-31T23:59:59.999Z","ns":"2262-04-11T23:47:16.854775807Z","ok":true,"n":1.50,"j":{"a":   "\n"}}"#,
        ),
        (
            "ndjson",
            &[("timestamps", "epoch")],
            r#"{"i":-9223372036854775808,"at":-1,"ns":9223372036854775807,"ok":true,"n":1.50,"j":{"a":   "\n"}}"#,
        ),
        (
            "json",
            &[("timestamps", "epoch"), ("integers", "string")],
            r#"{"i":"-9223372036854775808","at":"-1","ns":"9223372036854775807","ok":true,"n":1.50,"j":{"a":   "\n"}}"#,
        ),
        (
            "csv",
            &[("timestamps", "epoch")],
            "-9223372036854775808,-1,9223372036854775807,true,1.50,\"{\"\"a\"\":\r\n \"\"\\n\"\"}\"",
        ),
        (
            "tsv",
            &[("timestamps", "epoch")],
            r#"-9223372036854775808	-1	9223372036854775807	true	1.50	{"a":\r\n "\\n"}"#,
        ),
        (
            "xml",
            &[("timestamps", "epoch")],
            "<i>-9223372036854775808</i><at>-1</at><ns>9223372036854775807</ns><ok>true</ok><n>1.50</n>",
        ),
    ] {
        let format = format(name);
        let mut asked = Options::new(format.options);
        for (option, value) in options {
            asked.set(option, value).unwrap();
        }
        let mut encoder = format.new_encoder(&schema, &asked).unwrap();
        let mut out = Vec::new();
        encoder
            .record(&Record { values: &values }, &mut out)
            .unwrap();
        let written = String::from_utf8(out).unwrap();
        assert!(written.contains(expected), "{name} {options:?}: {written}");
    }
}
