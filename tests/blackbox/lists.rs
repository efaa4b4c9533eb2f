//! `in.` lists: of one value and of a thousand, in a table whose pages are read, and by SQL.

use form_urlencoded::byte_serialize;

use crate::harness::{database, folder};
use crate::store::{Store, both};

const RECORDS: i64 = 4_000;

/// What a list has to quote, or looks like something else.
const STRINGS: [&str; 13] = [
    "",
    " ",
    ",",
    "a,b",
    "\"",
    "say \"hi\", \"\"",
    "(1,2)",
    "in.(x)",
    "é€😀",
    "e\u{301}",
    "A",
    "a",
    "%2C+&=#\t\n",
];

/// The string of a record, and its number; one in seventeen has neither.
fn values(id: i64) -> (Option<String>, Option<i64>) {
    let (string, number) = match usize::try_from(id).unwrap() % 17 {
        16 => (None, None),
        kind if kind < STRINGS.len() => (Some(STRINGS[kind].to_owned()), Some(id % 50 - 25)),
        _ => (Some(format!("string {id}")), Some(i64::MAX - id)),
    };
    (string, number)
}

/// A list as a client writes it; quoted only where it must be if `bare`.
fn list(values: &[String], bare: bool) -> String {
    let quoted = |value: &String| {
        if bare && !value.contains([',', '"']) {
            value.clone()
        } else {
            format!("\"{}\"", value.replace('"', "\"\""))
        }
    };
    let values: Vec<_> = values.iter().map(quoted).collect();
    byte_serialize(format!("in.({})", values.join(",")).as_bytes()).collect()
}

both!(lists_find_what_is_in_them);
fn lists_find_what_is_in_them(store: Store) {
    let folder = folder();
    let tables = [
        // Read straight from its pages.
        (
            "clustered",
            "(id INTEGER, time INTEGER, s TEXT, n INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID",
        ),
        (
            "indexed",
            "(id INTEGER PRIMARY KEY, time INTEGER, s TEXT COLLATE NOCASE, n INTEGER)",
        ),
        // The list is found through an index of its own.
        (
            "found",
            "(id INTEGER PRIMARY KEY, time INTEGER, s TEXT, n INTEGER)",
        ),
        ("untyped", "(id INTEGER PRIMARY KEY, time INTEGER, s, n)"),
    ];
    let mut sql = "CREATE INDEX i ON indexed (time, id); CREATE INDEX u ON untyped (time, id);
        CREATE INDEX f ON found (time, id); CREATE INDEX fs ON found (s); CREATE INDEX fn ON found (n);"
        .to_owned();
    let mut streams = String::new();
    for (name, columns) in tables {
        sql.insert_str(0, &format!("CREATE TABLE {name} {columns};"));
        let rows = (1..=RECORDS).map(|id| {
            let (s, n) = values(id);
            let quote = if name == "untyped" { "'" } else { "" };
            let s = s.map_or("NULL".into(), |s| format!("'{}'", s.replace('\'', "''")));
            let n = n.map_or("NULL".into(), |n| format!("{quote}{n}{quote}"));
            format!("({id}, {}, {s}, {n})", id / 3)
        });
        let rows = rows.collect::<Vec<_>>().join(", ");
        sql += &format!("INSERT INTO {name} VALUES {rows};");
        streams += &format!(
            r#"
            [[streams]]
            name = "{name}"
            table = "{name}"
            time = "time"
            id = "id"
            columns = [
                {{ name = "id", type = "integer" }},
                {{ name = "s", type = "text", nullable = true }},
                {{ name = "n", type = "integer", nullable = true }},
            ]
            "#
        );
    }
    let server = store.serve(folder.path(), &database(folder.path(), &sql), &streams);
    let strings = |values: &[&str]| values.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>();
    let many: Vec<_> = (1..=1000).map(|i| format!("string {}", i * 3)).collect();
    let absent = |value: String| value + " is not there";
    let mut cases: Vec<(&str, Vec<String>)> = vec![
        ("s", many.clone()),
        ("s", many.iter().cloned().map(absent).collect()),
        ("s", [&many[..], &strings(&STRINGS)[..]].concat()),
        ("s", strings(&["a,b", "a,b", "A", "a,b"])),
        ("s", strings(&["a", "not there"])),
        ("s", strings(&STRINGS)),
        ("n", strings(&["7"])),
        ("n", strings(&["-25", "24", "24"])),
        ("n", strings(&["1000000"])),
        (
            "n",
            strings(&["9223372036854775807", "-9223372036854775808"]),
        ),
        (
            "n",
            (0..1000).map(|i| (i64::MAX - i * 2).to_string()).collect(),
        ),
    ];
    cases.extend(STRINGS.map(|string| ("s", strings(&[string]))));
    for (column, operands) in cases {
        let expected: Vec<_> = (1..=RECORDS)
            .filter(|id| {
                let (s, n) = values(*id);
                let value = if column == "s" {
                    s
                } else {
                    n.map(|n| n.to_string())
                };
                value.is_some_and(|value| operands.contains(&value))
            })
            .map(|id| id.to_string())
            .collect();
        for (table, _) in tables {
            // An empty value alone is no list, unless it is quoted.
            for bare in [false, operands != [""]] {
                let query = format!(
                    "columns=id&csv.header=false&{column}={}",
                    list(&operands, bare)
                );
                let csv = server.document(&format!("/api/v1/stream/{table}.csv?{query}"));
                let found: Vec<_> = csv.lines().collect();
                assert_eq!(found, expected, "{table}: {column} in {:.5?}", operands);
            }
        }
    }
}
