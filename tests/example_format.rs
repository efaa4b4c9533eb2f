//! The README's example of a format: it compiles, registers itself, and writes what it says.

#[path = "example/ltsv.rs"]
mod ltsv;

use flows_formats::{Column, Format, Record, Schema, Type, Value};

#[test]
fn the_readmes_format_works() {
    let column = |name: &str, kind| Column {
        name: name.into(),
        kind,
        nullable: true,
    };
    let columns = vec![column("id", Type::Integer), column("port", Type::Text)];
    let schema = Schema {
        name: "flows".into(),
        columns,
    };
    let first = Record {
        values: &[Value::Integer(1), Value::Text("N\t1")],
    };
    let second = Record {
        values: &[Value::Integer(2), Value::Null],
    };
    // Not from the registry, which has two of the name once someone has followed the README.
    let mut formats = inventory::iter::<Format>.into_iter();
    let ltsv = formats.find(|format| format.name == "ltsv").unwrap();
    let document = ltsv.document(&schema, &[first, second]).unwrap();
    assert_eq!(document, b"id:1\tport:N 1\nid:2\tport:\n");
}

#[test]
fn it_is_the_one_that_the_readme_shows() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("```rust\n{}```", include_str!("example/ltsv.rs"))));
}
