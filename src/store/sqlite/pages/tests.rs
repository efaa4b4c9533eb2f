//! What is read from the pages is what SQL reads, or the beginning of it.

use std::sync::{Arc, Mutex};

use flows_formats::{Column, Record, Schema, Type, Value};
use rusqlite::Connection;

use super::super::scan::{self, Scan};
use super::super::table::Table;
use super::super::values::Decoder;
use super::{ClusteredReader, Ended};
use crate::definition::Stream;
use crate::selection::{Filter, Operand, Operator, Order, Position, Range, View};
use crate::store::{Cancel, Sink, Stop};

type Rows = Vec<Vec<String>>;

/// Keeps the records, up to a number of them.
struct Keep(Arc<Mutex<Rows>>, usize);

impl Sink for Keep {
    fn record(&mut self, record: &Record<'_>, _position: Position) -> Result<(), Stop> {
        let mut rows = self.0.lock().unwrap();
        rows.push(
            record
                .values
                .iter()
                .map(|value| format!("{value:?}"))
                .collect(),
        );
        if rows.len() < self.1 {
            Ok(())
        } else {
            Err(Stop)
        }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        Ok(())
    }

    fn replaced(&mut self) {}
}

fn view(columns: &[(&str, Type)]) -> Arc<View> {
    let column = |(name, kind): &(&str, Type)| Column {
        name: (*name).into(),
        kind: *kind,
        nullable: true,
    };
    Arc::new(View::all(Arc::new(Stream {
        name: "t".into(),
        table: "t".into(),
        time: "time".into(),
        id: "id".into(),
        filters: true,
        default_format: "json".into(),
        schema: Schema {
            name: "t".into(),
            columns: columns.iter().map(column).collect(),
        },
    })))
}

fn tree(connection: &Connection, view: &View) -> Option<ClusteredReader> {
    let table = Table::inspect(connection, "t").unwrap().unwrap();
    let columns: Vec<_> = view
        .schema
        .columns
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    ClusteredReader::find(connection, view, &table, &columns).unwrap()
}

/// What the pages yield, of at most so many records.
fn from_pages(
    connection: &Connection,
    view: &Arc<View>,
    tree: &ClusteredReader,
    range: &Range,
    most: usize,
) -> (Rows, Ended) {
    let rows = Arc::default();
    let columns = &view.schema.columns;
    let at = |name| {
        columns
            .iter()
            .position(|column| column.name == name)
            .unwrap()
    };
    let position_at = (at("time"), at("id"));
    let decoder = Decoder::new(Arc::clone(view), position_at);
    let sink = Box::new(Keep(Arc::clone(&rows), most));
    scan::set(Some(Scan::new(sink, decoder, Cancel::default())));
    let ended = tree.scan(connection, range, &view.filters).unwrap();
    scan::set(None);
    (Arc::into_inner(rows).unwrap().into_inner().unwrap(), ended)
}

/// What SQL yields.
fn from_sql(connection: &Connection, view: &View, range: &Range) -> Rows {
    from_sql_where(connection, view, range, "1")
}

/// What SQL yields of the records that match a condition.
fn from_sql_where(connection: &Connection, view: &View, range: &Range, condition: &str) -> Rows {
    let columns = &view.schema.columns;
    let names: Vec<_> = columns
        .iter()
        .map(|c| format!("t.\"{}\"", c.name))
        .collect();
    let position = |p: Option<Position>, or: i64| p.map_or((or, or), |p| (p.key, p.id));
    let ((a, b), (c, d)) = (
        position(range.after, i64::MIN),
        position(range.until, i64::MAX),
    );
    let sql = format!(
        "SELECT {} FROM t WHERE ((time, id) > (?, ?) OR ?) AND (time, id) <= (?, ?) AND {condition} \
         ORDER BY time, id",
        names.join(", ")
    );
    let mut statement = connection.prepare(&sql).unwrap();
    let rows = statement.query_map((a, b, range.after.is_none(), c, d), |row| {
        Ok((0..columns.len())
            .map(|at| match row.get_ref(at).unwrap() {
                rusqlite::types::ValueRef::Null => format!("{:?}", Value::Null),
                rusqlite::types::ValueRef::Integer(i) => format!("{:?}", Value::Integer(i)),
                rusqlite::types::ValueRef::Real(r) => format!("{:?}", Value::Real(r)),
                rusqlite::types::ValueRef::Text(t) => {
                    format!("{:?}", Value::Text(std::str::from_utf8(t).unwrap()))
                }
                rusqlite::types::ValueRef::Blob(b) => format!("{:?}", Value::Blob(b)),
            })
            .collect())
    });
    rows.unwrap().map(Result::unwrap).collect()
}

const COLUMNS: [(&str, Type); 5] = [
    ("id", Type::Integer),
    ("v", Type::Text),
    ("time", Type::Integer),
    ("r", Type::Real),
    ("n", Type::Integer),
];

/// A table of `rows` records with integers of every size, strings up to `longest`, and holes.
fn fill(page_size: u32, rows: i64, longest: usize, seed: u64) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA page_size = {page_size};
             CREATE TABLE t (id INTEGER, time INTEGER, n INTEGER, v TEXT, r REAL,
                             PRIMARY KEY (time, id)) WITHOUT ROWID;"
        ))
        .unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let transaction = connection.unchecked_transaction().unwrap();
    let sizes = [
        0,
        1,
        -1,
        127,
        -128,
        128,
        32_767,
        1 << 23,
        -(1 << 31),
        1 << 40,
        -(1 << 47),
        i64::MIN,
        i64::MAX,
    ];
    for id in 0..rows {
        let time = random.i64(-50..50) * random.choice([1, 1000, 1 << 40]).unwrap();
        let n = random.choice(sizes).filter(|_| random.u8(..) > 20);
        let length = random.usize(..=longest);
        let text: String = std::iter::repeat_with(|| random.char('a'..'ÿ'))
            .take(length)
            .collect();
        let real = random
            .choice([0.0, 1.0, -3.0, 0.5, 1e300])
            .filter(|_| random.u8(..) > 20);
        transaction
            .execute(
                "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
                (id, time, n, text, real),
            )
            .unwrap();
    }
    transaction
        .execute("DELETE FROM t WHERE id % 7 = 3", [])
        .unwrap();
    transaction
        .execute("UPDATE t SET v = 'short' WHERE id % 11 = 5", [])
        .unwrap();
    transaction.commit().unwrap();
    connection
}

#[test]
fn every_range_of_plain_records() {
    let view = view(&COLUMNS);
    for (page_size, rows, longest) in [
        (512, 3_000, 10),
        (1024, 3_000, 40),
        (4096, 20_000, 60),
        (8192, 300, 100),
        (65536, 20_000, 60),
        (4096, 0, 0),
        (4096, 1, 9),
    ] {
        let connection = fill(page_size, rows, longest, u64::from(page_size));
        let tree = tree(&connection, &view).expect("such a table is read");
        let complete = from_sql(&connection, &view, &Range::default());
        let mut random = fastrand::Rng::with_seed(7);
        for case in 0..60 {
            let position = |random: &mut fastrand::Rng| {
                let time = random.i64(-60..60) * random.choice([1, 1000, 1 << 40]).unwrap();
                let any = random.i64(..rows.max(1));
                let id = random.choice([i64::MIN, i64::MAX, rows / 2, any]);
                random.bool().then_some(Position {
                    key: time,
                    id: id.unwrap(),
                })
            };
            let (mut after, mut until) = (position(&mut random), position(&mut random));
            if case == 0 {
                (after, until) = (None, None);
            }
            let range = Range {
                after,
                until,
                limit: None,
            };
            let (read, ended) = from_pages(&connection, &view, &tree, &range, usize::MAX);
            assert!(matches!(ended, Ended::Done), "{page_size} {range:?}");
            assert!(
                read == from_sql(&connection, &view, &range),
                "{page_size} {range:?}"
            );
        }
        if complete.len() > 10 {
            let (read, ended) = from_pages(&connection, &view, &tree, &Range::default(), 10);
            assert!(matches!(ended, Ended::Stopped));
            assert_eq!(read, complete[..10]);
        }
    }
}

#[test]
fn filters_let_through_what_sql_does() {
    use Operator::{
        Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, NotEqual, NotNull, Null,
    };
    let complete = view(&COLUMNS);
    let connection = fill(1024, 5_000, 30, 9);
    let number = |n| vec![Operand::Integer(n)];
    let text = |text: &str| Operand::Text(text.to_owned());
    for (filters, condition) in [
        (vec![("n", Equal, number(127))], "n = 127"),
        (vec![("n", NotEqual, number(127))], "n <> 127"),
        (vec![("n", Greater, number(1 << 23))], "n > 8388608"),
        (vec![("n", GreaterOrEqual, number(1 << 23))], "n >= 8388608"),
        (vec![("n", Less, number(0))], "n < 0"),
        (
            vec![("n", LessOrEqual, number(i64::MIN))],
            "n <= -9223372036854775808",
        ),
        (vec![("n", Null, vec![])], "n IS NULL"),
        (
            vec![("n", NotNull, vec![]), ("v", Equal, vec![text("short")])],
            "n IS NOT NULL AND v = 'short'",
        ),
        (vec![("v", Greater, vec![text("ß")])], "v > 'ß'"),
        (
            vec![("v", In, vec![text("short"), text("")])],
            "v IN ('short', '')",
        ),
        (
            vec![("id", Less, number(40)), ("time", Greater, number(0))],
            "id < 40 AND time > 0",
        ),
        (vec![("n", Equal, number(12_345))], "n = 12345"),
    ] {
        let filters = filters
            .into_iter()
            .map(|(column, operator, operands)| Filter {
                column: column.to_owned(),
                kind: if column == "v" {
                    Type::Text
                } else {
                    Type::Integer
                },
                operator,
                operands,
            });
        let (stream, columns) = (
            Arc::clone(&complete.stream),
            complete.schema.columns.clone(),
        );
        let view = Arc::new(View::new(stream, columns, Order::Time, filters.collect()));
        let tree = tree(&connection, &view).expect("such filters are tested");
        for (after, until) in [
            (None, None),
            (Some(-9), Some(7_000)),
            (Some(2), Some(3)),
            (None, Some(-60_000)),
        ] {
            let range = Range {
                after: after.map(Position::end_of),
                until: until.map(Position::end_of),
                limit: None,
            };
            let (read, ended) = from_pages(&connection, &view, &tree, &range, usize::MAX);
            assert!(matches!(ended, Ended::Done), "{condition}");
            assert!(
                read == from_sql_where(&connection, &view, &range, condition),
                "{condition} {range:?}"
            );
        }
    }
    // What is not of the declared type is for SQL to compare.
    connection
        .execute("UPDATE t SET n = 'lots' WHERE id = 2500", [])
        .unwrap();
    let filter = Filter {
        column: "n".to_owned(),
        kind: Type::Integer,
        operator: Greater,
        operands: number(5),
    };
    let (stream, columns) = (
        Arc::clone(&complete.stream),
        complete.schema.columns.clone(),
    );
    let view = Arc::new(View::new(stream, columns, Order::Time, vec![filter]));
    let tree = tree(&connection, &view).unwrap();
    let (read, ended) = from_pages(&connection, &view, &tree, &Range::default(), usize::MAX);
    let all = from_sql_where(&connection, &view, &Range::default(), "n > 5");
    assert!(matches!(ended, Ended::GaveUp(_)));
    assert!(read == all[..read.len()] && read.len() < all.len());
}

#[test]
fn it_gives_up_behind_the_last_record_it_took() {
    let view = view(&COLUMNS);
    let mut gave_up = 0;
    for (page_size, longest, seed) in [
        (512, 60, 1),
        (512, 40, 2),
        (1024, 150, 3),
        (4096, 600, 4),
        (4096, 540, 5),
    ] {
        let connection = fill(page_size, 2_000, longest, seed);
        let tree = tree(&connection, &view).unwrap();
        let complete = from_sql(&connection, &view, &Range::default());
        let (read, ended) = from_pages(&connection, &view, &tree, &Range::default(), usize::MAX);
        assert!(read == complete[..read.len()], "{page_size}");
        match ended {
            Ended::Done => assert_eq!(read.len(), complete.len()),
            Ended::Stopped => panic!("nobody stopped it"),
            Ended::GaveUp(last) => {
                gave_up += 1;
                assert!(read.len() < complete.len());
                let range = Range {
                    after: last,
                    ..Range::default()
                };
                let rest = from_sql(&connection, &view, &range);
                assert!([read, rest].concat() == complete, "{page_size}: {last:?}");
            }
        }
    }
    assert!(gave_up > 2);
}

#[test]
fn records_from_before_a_column_was_added_are_not_plain() {
    let connection = fill(4096, 500, 20, 9);
    connection
        .execute_batch("ALTER TABLE t ADD COLUMN late TEXT DEFAULT 'x'")
        .unwrap();
    let view = view(&[
        ("id", Type::Integer),
        ("time", Type::Integer),
        ("late", Type::Text),
    ]);
    let tree = tree(&connection, &view).unwrap();
    let (read, ended) = from_pages(&connection, &view, &tree, &Range::default(), usize::MAX);
    assert!(read.is_empty() && matches!(ended, Ended::GaveUp(None)));
}

#[test]
fn other_tables_are_left_to_sql() {
    let view = view(&[("id", Type::Integer), ("time", Type::Integer)]);
    for table in [
        "id INTEGER PRIMARY KEY, time INTEGER",
        "id INTEGER, time INTEGER, PRIMARY KEY (time, id)",
        "id INTEGER, time INTEGER, PRIMARY KEY (id, time)) WITHOUT ROWID; CREATE TABLE u (x",
        "id INTEGER, time INTEGER, PRIMARY KEY (time DESC, id)) WITHOUT ROWID; CREATE TABLE u (x",
        "id INTEGER, time INTEGER, v, PRIMARY KEY (time, id, v)) WITHOUT ROWID; CREATE TABLE u (x",
        "id INTEGER, time INTEGER, g AS (id + 1), PRIMARY KEY (time, id)) WITHOUT ROWID; CREATE TABLE u (x",
        "id INTEGER, time INTEGER, g AS (id + 1) STORED, PRIMARY KEY (time, id)) WITHOUT ROWID; CREATE TABLE u (x",
    ] {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!("CREATE TABLE t ({table})"))
            .unwrap();
        assert!(tree(&connection, &view).is_none(), "{table}");
    }
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(
            "PRAGMA encoding = 'UTF-16';
             CREATE TABLE t (id INTEGER, time INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID",
        )
        .unwrap();
    assert!(tree(&connection, &view).is_none());
}

#[test]
fn pages_that_are_not_what_they_should_be_are_given_up_or_read_in_order() {
    let view = view(&COLUMNS);
    let mut random = fastrand::Rng::with_seed(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    fill(1024, 600, 20, 3)
        .execute("VACUUM INTO ?1", [path.to_str().unwrap()])
        .unwrap();
    let good = std::fs::read(&path).unwrap();
    for _ in 0..400 {
        let mut bytes = good.clone();
        for _ in 0..random.usize(1..20) {
            // Not the first pages: without the schema there is no table.
            let at = random.usize(2048..bytes.len());
            bytes[at] = random.u8(..);
        }
        std::fs::write(&path, bytes).unwrap();
        let connection = Connection::open(&path).unwrap();
        let Some(tree) = tree(&connection, &view) else {
            continue;
        };
        // It neither panics nor runs for ever; the decoder sees to the order.
        let (rows, _) = from_pages(&connection, &view, &tree, &Range::default(), 100_000);
        assert!(rows.len() < 100_000);
    }
}
