//! What is read from the pages is what SQL reads.

mod corruption;
mod left;

use std::sync::{Arc, Mutex};

use flows_formats::{Column, Record, Schema, Type, Value};
use rusqlite::Connection;

use super::super::scan::{self, Scan};
use super::super::table::Table;
use super::{Counted, Key, NotRead, PageReader, Went};
use crate::definition::{Declared, Number, Source, Stored, Stream};
use crate::selection::{Filter, Operand, Operator, Order, Position, Range, View};
use crate::store::reading::Reading;
use crate::store::values::Decoder;
use crate::store::{Cancel, Sink, Stop, StoreError};

type Rows = Vec<Vec<String>>;

/// Keeps the records, up to a number of them.
struct Keep(Arc<Mutex<Rows>>, usize);

impl Sink for Keep {
    fn record(&mut self, record: &Record<'_>, _position: &Position) -> Result<(), Stop> {
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
        number: Number::new(),
        name: "t".into(),
        source: Source::Table("t".into()),
        database: None,
        time: "time".into(),
        id: "id".into(),
        filters: true,
        default_format: "json".into(),
        schema: Schema {
            name: "t".into(),
            columns: columns.iter().map(column).collect(),
        },
        declared: columns
            .iter()
            .map(|(name, kind)| Declared {
                name: (*name).into(),
                kind: *kind,
                stored: Stored::Plain,
            })
            .collect(),
    })))
}

fn find(connection: &Connection, view: &View) -> Result<PageReader, NotRead> {
    let table = Table::inspect(connection, "t").unwrap().unwrap();
    let columns: Vec<_> = view.schema.columns.iter().map(|c| c.name.clone()).collect();
    PageReader::find(connection, view, &table, &columns).unwrap()
}

/// The rows that a scan keeps, up to so many, and how it ended.
fn kept<T>(
    view: &Arc<View>,
    most: usize,
    run: impl FnOnce() -> T,
) -> (Rows, T, Option<StoreError>) {
    let rows = Arc::default();
    let columns = view.schema.columns.iter();
    let names: Vec<_> = columns.map(|column| column.name.clone()).collect();
    let at = |name| names.iter().position(|known| known == name).unwrap();
    let readings = names.iter().map(|name| Reading::of(&view.stream, name));
    let position_at = (at("time"), at("id"));
    let decoder = Decoder::new(Arc::clone(view), readings.collect(), position_at);
    let sink = Box::new(Keep(Arc::clone(&rows), most));
    scan::set(Some(Scan::new(sink, decoder, Cancel::default())));
    let ran = run();
    let (sink, ended) = scan::set(None).unwrap().end();
    drop(sink);
    (
        Arc::into_inner(rows).unwrap().into_inner().unwrap(),
        ran,
        ended,
    )
}

/// What the pages yield, of at most so many records, and the ranges that are left to SQL.
fn from_pages(
    connection: &Connection,
    view: &Arc<View>,
    reader: &PageReader,
    range: &Range,
    most: usize,
) -> (Rows, Went, Vec<Range>) {
    let mut left = Vec::new();
    let by_sql = &mut |range: &Range| {
        left.push(range.clone());
        // Filters are not repeated: those tests have none where records are left to SQL.
        hand_over(connection, view, range, "1")
    };
    let (rows, scanned, _) = kept(view, most, || {
        reader.scan(connection, range, &view.filters, None, by_sql)
    });
    (rows, scanned.unwrap(), left)
}

/// Has SQL hand a range's records that match a condition to the thread's scan.
fn hand_over(
    connection: &Connection,
    view: &View,
    range: &Range,
    condition: &str,
) -> rusqlite::Result<Went> {
    let (sql, bounds) = select(view, range, condition);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(rusqlite::params_from_iter(bounds))?;
    while let Some(row) = rows.next()? {
        if !scan::record(|at| row.get_ref(at).unwrap()) {
            return Ok(Went::Stopped);
        }
    }
    Ok(Went::Done)
}

/// The statement that yields a range's records that match a condition, and its bounds.
fn select(view: &View, range: &Range, condition: &str) -> (String, Vec<i64>) {
    let columns = view.schema.columns.iter();
    let names: Vec<_> = columns.map(|c| format!("t.\"{}\"", c.name)).collect();
    let bounds = [(">", &range.after), ("<=", &range.until)];
    let bounds = bounds.map(|(is, position)| Some((is, Key::of(position.as_ref()?)?)));
    let mut sql = format!("SELECT {} FROM t WHERE {condition}", names.join(", "));
    let mut values = Vec::new();
    for (is, position) in bounds.into_iter().flatten() {
        if position.id == i64::MAX {
            // To compare pairs, SQLite would look at the records of that time, too, and find them broken.
            sql.push_str(&format!(" AND time {is} ?"));
            values.push(position.key);
        } else {
            sql.push_str(&format!(" AND (time, id) {is} (?, ?)"));
            values.extend([position.key, position.id]);
        }
    }
    (sql + " ORDER BY time, id", values)
}

/// What SQL yields.
fn from_sql(connection: &Connection, view: &View, range: &Range) -> Rows {
    from_sql_where(connection, view, range, "1")
}

/// What SQL yields of the records that match a condition.
fn from_sql_where(connection: &Connection, view: &View, range: &Range, condition: &str) -> Rows {
    let columns = &view.schema.columns;
    let (sql, bounds) = select(view, range, condition);
    let mut statement = connection.prepare(&sql).unwrap();
    let rows = statement.query_map(rusqlite::params_from_iter(bounds), |row| {
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

/// The kinds of tables that are read.
const CLUSTERED: &str = "CREATE TABLE t (id INTEGER, time INTEGER, n INTEGER, v TEXT, r REAL, \
                         PRIMARY KEY (time, id)) WITHOUT ROWID";
const ORDINARY: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n INTEGER, v TEXT, \
                        r REAL); CREATE INDEX t_time ON t (time)";
const KINDS: [&str; 2] = [CLUSTERED, ORDINARY];

/// A clustered table of `rows` records with integers of every size, strings up to `longest`, and holes.
fn fill(page_size: u32, rows: i64, longest: usize, seed: u64) -> Connection {
    fill_as(CLUSTERED, page_size, rows, longest, seed)
}

/// The same of another kind of table.
fn fill_as(kind: &str, page_size: u32, rows: i64, longest: usize, seed: u64) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch(&format!("PRAGMA page_size = {page_size}; {kind};"))
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
        for kind in KINDS {
            let connection = fill_as(kind, page_size, rows, longest, u64::from(page_size));
            let reader = find(&connection, &view).expect("such a table is read");
            let complete = from_sql(&connection, &view, &Range::default());
            let mut random = fastrand::Rng::with_seed(7);
            for case in 0..60 {
                let position = |random: &mut fastrand::Rng| {
                    let time = random.i64(-60..60) * random.choice([1, 1000, 1 << 40]).unwrap();
                    let any = random.i64(..rows.max(1));
                    let id = random.choice([i64::MIN, i64::MAX, rows / 2, any]);
                    random.bool().then_some(Position::from(Key {
                        key: time,
                        id: id.unwrap(),
                    }))
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
                let (read, scanned, left) =
                    from_pages(&connection, &view, &reader, &range, usize::MAX);
                assert_eq!(scanned, Went::Done);
                // Rows that are far from one another are not looked for.
                assert!(left.is_empty() || kind == ORDINARY, "{page_size}");
                assert!(
                    read == from_sql(&connection, &view, &range),
                    "{page_size} {range:?}"
                );
            }
            if complete.len() > 10 {
                let (read, scanned, _) =
                    from_pages(&connection, &view, &reader, &Range::default(), 10);
                assert_eq!(scanned, Went::Stopped);
                assert_eq!(read, complete[..10]);
            }
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
        let reader = find(&connection, &view).expect("such filters are tested");
        for (after, until) in [
            (None, None),
            (Some(-9), Some(7_000)),
            (Some(2), Some(3)),
            (None, Some(-60_000)),
        ] {
            let range = Range {
                after: after.map(|key: i64| Position::end_of(key)),
                until: until.map(|key: i64| Position::end_of(key)),
                limit: None,
            };
            let (read, scanned, left) = from_pages(&connection, &view, &reader, &range, usize::MAX);
            assert_eq!((scanned, left), (Went::Done, vec![]), "{condition}");
            assert!(
                read == from_sql_where(&connection, &view, &range, condition),
                "{condition} {range:?}"
            );
        }
    }
}

#[test]
fn records_are_counted_as_sql_counts_them() {
    let view = view(&COLUMNS);
    for (page_size, rows, longest) in [
        (512, 3_000, 10),
        (512, 2_000, 400),
        (4096, 20_000, 60),
        (65536, 3_000, 60),
        (4096, 0, 0),
        (4096, 1, 9),
    ] {
        for kind in KINDS {
            let connection = fill_as(kind, page_size, rows, longest, u64::from(page_size));
            let reader = find(&connection, &view).expect("such a table is read");
            let mut positions = Vec::new();
            let mut statement = connection
                .prepare("SELECT time, id FROM t ORDER BY time, id")
                .unwrap();
            let mut found = statement.query([]).unwrap();
            while let Some(row) = found.next().unwrap() {
                let (key, id) = (row.get(0).unwrap(), row.get(1).unwrap());
                positions.push(Key { key, id });
            }
            let mut random = fastrand::Rng::with_seed(11);
            for _ in 0..200 {
                let any = random.choice(&positions).copied();
                let moved = random.i64(-1..2);
                let after = any.filter(|_| random.bool()).map(|at| Key {
                    id: at.id.saturating_add(moved),
                    ..at
                });
                let number = random.u64(1..=rows.unsigned_abs() + 10);
                let rest = &positions[positions.partition_point(|at| Some(*at) <= after)..];
                let expected = match rest.get(number as usize - 1) {
                    Some(position) => Counted::At(*position),
                    None => Counted::Short(number - rest.len() as u64),
                };
                // About so many records on, but for what is less than the largest leaf.
                if let Some(cut) = reader.split(&connection, after, number).unwrap() {
                    let passed =
                        rest.iter().position(|at| *at == cut).expect("a record's") as u64 + 1;
                    assert!(
                        passed <= 2 * number + 2000 && number <= 2 * passed + 2000,
                        "{passed}, not {number}"
                    );
                }
                let counted = reader.nth(&connection, after, number).unwrap();
                assert_eq!(counted, expected, "{page_size} {after:?} {number}");
            }
        }
    }
}

#[test]
fn rows_in_the_order_of_arrival_are_read_from_their_pages() {
    let view = view(&COLUMNS);
    for index in ["(time)", "(time, id)", "(time, id, v)"] {
        for (order, page_size) in [
            // In order; nearly; from two writers; some of it late; ids of every length.
            ("id / 3", 512),
            ("id + abs(random()) % 20", 512),
            ("(id % 2) * 5 + id / 2", 1024),
            ("CASE id % 50 WHEN 0 THEN id - 900 ELSE id END", 4096),
            ("id", 65536),
        ] {
            let connection = fill_as(ORDINARY, page_size, 5_000, 30, 3);
            connection
                .execute_batch(&format!(
                    "DROP INDEX t_time; UPDATE t SET id = id - 2500;
                     UPDATE t SET time = {order}; CREATE INDEX i ON t {index}"
                ))
                .unwrap();
            let reader = find(&connection, &view).unwrap();
            let range = Range {
                after: Some(Position::end_of(-2000)),
                ..Range::default()
            };
            for range in [Range::default(), range] {
                let (read, scanned, left) =
                    from_pages(&connection, &view, &reader, &range, usize::MAX);
                assert_eq!((scanned, left), (Went::Done, vec![]), "{order} {index}");
                assert!(
                    read == from_sql(&connection, &view, &range),
                    "{order} {index}"
                );
            }
        }
    }
}

#[test]
fn a_row_that_an_index_has_otherwise_is_for_sql_and_so_are_nulls() {
    let view = view(&COLUMNS);
    let connection = fill_as(ORDINARY, 1024, 2_000, 30, 3);
    connection
        .execute_batch(
            "UPDATE t SET time = id; UPDATE t SET time = NULL WHERE id = 7;
             UPDATE t SET v = printf('%.*c', 5000, 'x') WHERE id % 100 = 0;
             ALTER TABLE t ADD COLUMN late; UPDATE t SET late = 1 WHERE id > 1000",
        )
        .unwrap();
    let reader = find(&connection, &view).unwrap();
    let after = Range {
        after: Some(Position::end_of(i64::MIN)),
        ..Range::default()
    };
    let (read, scanned, left) = from_pages(&connection, &view, &reader, &after, usize::MAX);
    assert_eq!(scanned, Went::Done);
    assert!(
        !left.is_empty() && left.len() < 60,
        "asked {} times",
        left.len()
    );
    assert!(read == from_sql(&connection, &view, &after));
    // From its beginning, the record without a time ends the scan, as SQL would.
    let all = Range::default();
    let (_, scanned, ended) = kept(&view, usize::MAX, || {
        reader.scan(&connection, &all, &[], None, &mut |range| {
            hand_over(&connection, &view, range, "1")
        })
    });
    assert!(scanned.is_ok(), "{scanned:?}");
    assert!(ended.unwrap().to_string().contains("null"));
}

#[test]
fn other_tables_are_left_to_sql() {
    let view = view(&[("id", Type::Integer), ("time", Type::Integer)]);
    let without = "WITHOUT ROWID; CREATE TABLE u (x)";
    let wide: String = (0..31).map(|at| format!("c{at}, ")).collect();
    for (table, why) in [
        (
            "id INTEGER PRIMARY KEY, time INTEGER)".to_owned(),
            "only with an index on time",
        ),
        (
            "id INTEGER PRIMARY KEY, time INTEGER); CREATE INDEX i ON t (time DESC)".to_owned(),
            "only with an index on time",
        ),
        (
            "id INTEGER PRIMARY KEY, time INTEGER); CREATE INDEX i ON t (time) WHERE time > 1"
                .to_owned(),
            "only with an index on time",
        ),
        (
            "id INTEGER PRIMARY KEY, time TEXT); CREATE INDEX i ON t (time)".to_owned(),
            "only with an index on time",
        ),
        (
            "id INTEGER, time INTEGER, PRIMARY KEY (time, id))".to_owned(),
            "with id as its INTEGER PRIMARY KEY",
        ),
        (
            format!("id INTEGER, time INTEGER, PRIMARY KEY (id, time)) {without}"),
            "PRIMARY KEY (time, id)",
        ),
        (
            format!("id INTEGER, time INTEGER, v, PRIMARY KEY (time, id, v)) {without}"),
            "PRIMARY KEY (time, id)",
        ),
        (
            format!("id INTEGER, time INTEGER, PRIMARY KEY (time DESC, id)) {without}"),
            "descending order",
        ),
        (
            format!("id INTEGER, time INTEGER, g AS (id + 1), PRIMARY KEY (time, id)) {without}"),
            "the generated column g",
        ),
        (
            format!(
                "id INTEGER, time INTEGER, g AS (id + 1) STORED, PRIMARY KEY (time, id)) {without}"
            ),
            "the generated column g",
        ),
        (
            format!("id INTEGER, time INTEGER, {wide} PRIMARY KEY (time, id)) {without}"),
            "33 columns",
        ),
    ] {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!("CREATE TABLE t ({table}"))
            .unwrap();
        let found = find(&connection, &view).unwrap_err().to_string();
        assert!(found.contains(why), "{table}: {found}");
    }
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE VIEW t AS SELECT 1 AS id, 1 AS time")
        .unwrap();
    assert_eq!(find(&connection, &view).unwrap_err(), NotRead::View);
    let clustered = "CREATE TABLE t (id INTEGER, time INTEGER, a, b, c, d, e, f, g, h, \
                     PRIMARY KEY (time, id)) WITHOUT ROWID";
    for (pragma, why) in [
        ("encoding = 'UTF-16le'", "UTF-16le"),
        ("page_size = 512", "too small for 10 columns"),
    ] {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(&format!("PRAGMA {pragma}; {clustered}"))
            .unwrap();
        let found = find(&connection, &view).unwrap_err().to_string();
        assert!(found.contains(why), "{pragma}: {found}");
    }
}
