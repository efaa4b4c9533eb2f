//! Databases of any schema and values, described by `flows init`: what it writes is a configuration with as many
//! streams as it says, and each of them can be read to its end.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use flows::config::Config;
use flows::init::configuration;
use flows::selection::{Position, Range, View};
use flows::store::sqlite::Sqlite;
use flows::store::{Cancel, Sink, Stop, Store, StoreError};
use flows_formats::{Record, Registry};
use flows_fuzz::folder;
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::Value;

static FORMATS: LazyLock<Registry> = LazyLock::new(|| Registry::load().unwrap());

const NAMES: &[&str] = &[
    "id",
    "ID",
    "time",
    "created_at",
    "Timestamp",
    "date",
    "rowid",
    "oid",
    "_rowid_",
    "uuid",
    "name",
    "password",
    "format",
    "limit",
    "a b",
    "a.b",
    "a\"b",
    "a'b",
    "a`b",
    "a]b",
    "a\nb = 1",
    "\n[server]\nlisten = 1",
    "#",
    "\\",
    "\u{7f}",
    "é",
    "😀",
    "'''",
    "\"\"\"",
    "",
    " ",
    "query",
    "1",
    "-",
    "after",
    "json.integers",
    "\u{feff}",
    "\r",
    "\t",
];

const TYPES: &[&str] = &[
    "INTEGER",
    "TEXT",
    "REAL",
    "BLOB",
    "",
    "TIMESTAMP",
    "DATETIME",
    "DATE",
    "BOOLEAN",
    "DECIMAL(10, 2)",
    "NUMERIC",
    "JSON",
    "VARCHAR(20)",
    "BIGINT",
    "INTEGER NOT NULL",
    "TEXT NOT NULL",
    "INTEGER PRIMARY KEY",
    "TEXT PRIMARY KEY NOT NULL",
    "TEXT UNIQUE",
    "INTEGER DEFAULT 7",
    "INTEGER GENERATED ALWAYS AS (1)",
    "TEXT COLLATE NOCASE",
    "DOUBLE",
    "FLOAT",
];

const TEXTS: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "2026-01-01 00:00:00",
    "2026-01-01T00:00:00.123Z",
    "2026-01-01 00:00:00.5",
    "2026-01-01",
    "2026-02-29",
    "0001-01-01",
    "9999-12-31T23:59:59Z",
    "2026-01-01T00:00",
    "2026-01-01T00:00:00+00:00",
    "true",
    "false",
    "t",
    "{}",
    "[1]",
    "null",
    "1",
    "1.50",
    "-0.01",
    "1e5",
    "",
    "a",
    "a%b",
    "a\0b",
    "é",
];

#[derive(Debug)]
struct Input {
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    name: String,
    columns: Vec<(String, &'static str)>,
    index: Vec<usize>,
    without_rowid: bool,
    is_view: bool,
    rows: Vec<Vec<Value>>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let mut tables = Vec::new();
        while !u.is_empty() && tables.len() < 3 {
            let mut columns = Vec::new();
            for _ in 0..u.int_in_range(1..=6)? {
                columns.push((name(u)?, *u.choose(TYPES)?));
            }
            let index = (0..u.int_in_range(0..=2)?).map(|_| u.int_in_range(0..=columns.len() - 1));
            let index = index.collect::<Result<_>>()?;
            let (without_rowid, is_view) = (u.ratio(1, 5)?, u.ratio(1, 6)?);
            let mut rows = Vec::new();
            for _ in 0..u.int_in_range(0..=6)? {
                rows.push(columns.iter().map(|_| value(u)).collect::<Result<_>>()?);
            }
            tables.push(Table {
                name: name(u)?,
                columns,
                index,
                without_rowid,
                is_view,
                rows,
            });
        }
        Ok(Input { tables })
    }
}

fn name(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(if u.ratio(1, 8)? {
        u.arbitrary::<String>()?.replace('\0', "")
    } else {
        (*u.choose(NAMES)?).to_owned()
    })
}

fn value(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Value::Null,
        1 => Value::Integer(u.arbitrary()?),
        2 => Value::Integer(i64::from(u.arbitrary::<i8>()?)),
        3 => Value::Integer(1_700_000_000 * *u.choose(&[1, 1_000, 1_000_000, 1_000_000_000])?),
        4 => Value::Real(u.arbitrary()?),
        5 => Value::Blob(u.arbitrary()?),
        6 => Value::Text(u.arbitrary()?),
        _ => Value::Text((*u.choose(TEXTS)?).to_owned()),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes what SQLite takes of a table.
fn make(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    let column = |(name, kind): &(String, &str)| format!("{} {kind}", quoted(name));
    let columns: Vec<_> = table.columns.iter().map(column).collect();
    let rest = if table.without_rowid {
        " WITHOUT ROWID"
    } else {
        ""
    };
    let name = quoted(&table.name);
    connection.execute_batch(&format!(
        "CREATE TABLE {name} ({}){rest}",
        columns.join(", ")
    ))?;
    let marks = vec!["?"; table.columns.len()].join(", ");
    for row in &table.rows {
        let _ = connection.execute(
            &format!("INSERT INTO {name} VALUES ({marks})"),
            rusqlite::params_from_iter(row),
        );
    }
    if !table.index.is_empty() {
        let columns: Vec<_> = table
            .index
            .iter()
            .map(|at| quoted(&table.columns[*at].0))
            .collect();
        let index = quoted(&format!("index of {}", table.name));
        let _ = connection.execute_batch(&format!(
            "CREATE INDEX {index} ON {name} ({})",
            columns.join(", ")
        ));
    }
    if table.is_view {
        let view = quoted(&format!("view of {}", table.name));
        connection.execute_batch(&format!("CREATE VIEW {view} AS SELECT * FROM {name}"))?;
    }
    Ok(())
}

fuzz_target!(|input: Input| {
    let path = folder().join("described.db");
    let _ = std::fs::remove_file(&path);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA page_size = 512; PRAGMA journal_mode = OFF; BEGIN")
        .unwrap();
    for table in &input.tables {
        // What SQLite does not take is no table.
        let _ = make(&connection, table);
    }
    connection.execute_batch("COMMIT").unwrap();
    drop(connection);
    let mut config = Config::parse("", &FORMATS).unwrap();
    config.database.path = path;
    let written = configuration(&config.database, &FORMATS).unwrap();
    let config = match Config::parse(&written.text, &FORMATS) {
        Ok(config) => config,
        Err(error) if written.streams == 0 => {
            assert!(
                error.to_string().contains("streams"),
                "{error}\n{}",
                written.text
            );
            return;
        }
        Err(error) => panic!("{error}\n{}", written.text),
    };
    assert_eq!(config.streams.len(), written.streams, "{}", written.text);
    let store = Sqlite::new(&config.database);
    let mut connection = store.connect(Duration::from_secs(5)).unwrap();
    for stream in &config.streams {
        let (view, cancel) = (Arc::new(View::all(Arc::clone(stream))), Cancel::default());
        connection
            .snapshot(&view, &cancel)
            .unwrap_or_else(|error| panic!("{error}\n{}", written.text));
        let (Counted(_), scanned) = connection.scan(&Range::default(), Counted(0), &cancel);
        match scanned {
            // With so few records, init has seen each of them.
            Ok(()) => {}
            Err(StoreError::Value { .. }) if written.text.contains("warning") => {}
            Err(error) => panic!("{error}\n{}", written.text),
        }
    }
});

struct Counted(u64);

impl Sink for Counted {
    fn record(&mut self, _: &Record<'_>, _: &Position) -> std::result::Result<(), Stop> {
        self.0 += 1;
        Ok(())
    }

    fn tick(&mut self) -> std::result::Result<(), Stop> {
        Ok(())
    }

    fn replaced(&mut self) {}
}
