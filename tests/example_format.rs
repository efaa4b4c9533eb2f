//! The README's example of a format: it compiles, registers itself, and writes what it says.

#[path = "example/ltsv.rs"]
mod ltsv;

use flows_formats::time::Unit;
use flows_formats::{Column, Format, Record, Schema, Type, Value};

fn ltsv() -> &'static Format {
    // Not from the registry, which has two of the name once someone has followed the README.
    let mut formats = inventory::iter::<Format>.into_iter();
    formats.find(|format| format.name == "ltsv").unwrap()
}

fn schema(columns: &[(&str, Type)]) -> Schema {
    let column = |(name, kind): &(&str, Type)| Column {
        name: (*name).into(),
        kind: *kind,
        nullable: true,
    };
    Schema {
        name: "flows".into(),
        columns: columns.iter().map(column).collect(),
    }
}

#[test]
fn the_readmes_format_works() {
    let schema = schema(&[
        ("id", Type::Integer),
        ("port", Type::Text),
        ("rate", Type::Real),
    ]);
    let first = Record {
        values: &[Value::Integer(1), Value::Text("N\t1"), Value::Real(0.5)],
    };
    let second = Record {
        values: &[
            Value::Integer(2),
            Value::Null,
            Value::Real(f64::NEG_INFINITY),
        ],
    };
    let document = ltsv().document(&schema, &[first, second]).unwrap();
    assert_eq!(
        str::from_utf8(&document),
        Ok("id:1\tport:N 1\trate:0.5\nid:2\tport:\trate:-Infinity\n")
    );
}

/// It was written for four types, and says nothing of the others.
#[test]
fn a_format_of_four_types_gets_the_others_as_text() {
    let schema = schema(&[
        ("id", Type::Integer),
        ("at", Type::Timestamp(Unit::Microsecond)),
        ("day", Type::Date),
        ("ok", Type::Boolean),
        (
            "price",
            Type::Decimal {
                precision: 9,
                scale: 2,
            },
        ),
        ("more", Type::Json),
        ("end", Type::Timestamp(Unit::Second)),
    ]);
    let first = Record {
        values: &[
            Value::Integer(1),
            Value::Integer(-1),
            Value::Integer(-719_162),
            Value::Integer(1),
            Value::Text("-12.50"),
            Value::Text("{\"a\":\n[1]}"),
            Value::Integer(253_402_300_799),
        ],
    };
    let nulls = Record {
        values: &[
            Value::Integer(2),
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
            Value::Null,
        ],
    };
    let third = Record {
        values: &[
            Value::Integer(3),
            Value::Integer(1_767_225_610_000_000),
            Value::Integer(59),
            Value::Integer(0),
            Value::Text("7"),
            Value::Text("null"),
            Value::Integer(0),
        ],
    };
    let expected = [
        "id:1\tat:1969-12-31T23:59:59.999999Z\tday:0001-01-01\tok:true\tprice:-12.50\tmore:{\"a\": [1]}\tend:9999-12-31T23:59:59Z\n",
        "id:2\tat:\tday:\tok:\tprice:\tmore:\tend:\n",
        "id:3\tat:2026-01-01T00:00:10.000000Z\tday:1970-03-01\tok:false\tprice:7\tmore:null\tend:1970-01-01T00:00:00Z\n",
    ];
    let records = [first, nulls, third];
    let document = ltsv().document(&schema, &records).unwrap();
    assert_eq!(str::from_utf8(&document), Ok(expected.concat().as_str()));
}

#[test]
fn it_is_the_one_that_the_readme_shows() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("```rust\n{}```", include_str!("example/ltsv.rs"))));
}
