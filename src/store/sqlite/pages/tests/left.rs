//! Records that are not plain are left to SQL, and the others are read on.

use std::sync::Arc;

use flows_formats::Type;
use rusqlite::Connection;

use super::super::super::functions;
use super::super::super::plan::Plan;
use super::super::super::table::Table;
use super::super::key::{Key, KeyRange};
use super::{COLUMNS, Rows, Went, fill, find, from_pages, from_sql, from_sql_where, kept, view};
use crate::selection::{Filter, Operand, Operator, Order, Range, View};

/// What a connection of the store finds.
fn served(connection: &Connection, view: &Arc<View>, range: &Range) -> Rows {
    functions::register(connection).unwrap();
    let table = Table::inspect(connection, "t").unwrap().unwrap();
    let plan = Plan::of_table(connection, view, &table, true)
        .unwrap()
        .unwrap();
    let (rows, scanned, ended) = kept(view, usize::MAX, || plan.scan(connection, view, range));
    assert!(ended.is_none());
    assert_eq!(scanned.unwrap(), Went::Done);
    rows
}

/// A table of plain records, of which every so many-th was made longer than a page holds.
fn with_long_ones(page_size: u32, rows: i64, every: i64) -> Connection {
    let connection = fill(page_size, rows, 20, 4);
    connection
        .execute(
            "UPDATE t SET v = printf('%.*c', ?1, 'x') || id WHERE id % ?2 = 0",
            (3 * page_size, every),
        )
        .unwrap();
    connection
}

/// How many records SQL is left with, of all ranges.
fn count(connection: &Connection, view: &View, left: &[Range]) -> usize {
    left.iter()
        .map(|range| from_sql(connection, view, range).len())
        .sum()
}

#[test]
fn one_record_in_a_hundred_is_left_to_sql_and_no_other() {
    let view = view(&COLUMNS);
    for page_size in [512, 1024, 4096, 65536] {
        let connection = with_long_ones(page_size, 4_000, 100);
        let reader = find(&connection, &view).unwrap();
        let range = Range::default();
        let (read, scanned, left) = from_pages(&connection, &view, &reader, &range, usize::MAX);
        assert_eq!(scanned, Went::Done);
        let complete = from_sql(&connection, &view, &range);
        assert!(read == complete, "{page_size}");
        let long: u32 = connection
            .query_row("SELECT count(*) FROM t WHERE id % 100 = 0", [], |row| {
                row.get(0)
            })
            .unwrap();
        // Here and there two are near one another.
        let (asked, long) = (count(&connection, &view, &left), long as usize);
        assert!(
            left.len() <= long && (long..2 * long).contains(&asked),
            "{page_size}: {long} are long, {asked} in {}",
            left.len()
        );
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..30 {
            let mut any = || {
                let [time, id] = [0, 1].map(|at| {
                    let row = random.choice(&complete).unwrap();
                    let value = if at == 0 { &row[2] } else { &row[0] };
                    let digits = value.trim_start_matches("Integer(").trim_end_matches(')');
                    digits.parse().unwrap()
                });
                Key { key: time, id }
            };
            let (after, until) = (any(), any());
            let range = KeyRange {
                after: Some(after.min(until)),
                until: Some(until.max(after)),
            }
            .into();
            let expected = from_sql(&connection, &view, &range);
            assert!(served(&connection, &view, &range) == expected, "{range:?}");
        }
    }
}

#[test]
fn where_all_records_are_long_sql_is_not_asked_for_each() {
    let view = view(&COLUMNS);
    for every in [1, 2, 3] {
        let connection = with_long_ones(1024, 3_000, every);
        let reader = find(&connection, &view).unwrap();
        let range = Range::default();
        let (read, _, left) = from_pages(&connection, &view, &reader, &range, usize::MAX);
        assert!(read == from_sql(&connection, &view, &range));
        assert!(left.len() < 20, "every {every}: asked {} times", left.len());
    }
}

#[test]
fn a_sink_that_has_enough_stops_sql_too() {
    let view = view(&COLUMNS);
    let connection = with_long_ones(1024, 300, 2);
    let reader = find(&connection, &view).unwrap();
    let complete = from_sql(&connection, &view, &Range::default());
    for most in 1..60 {
        let (read, scanned, _) = from_pages(&connection, &view, &reader, &Range::default(), most);
        assert_eq!(scanned, Went::Stopped);
        assert_eq!(read, complete[..most]);
    }
}

#[test]
fn records_from_before_a_column_was_added_are_left_to_sql() {
    let connection = fill(4096, 3_000, 20, 9);
    connection
        .execute_batch(
            "ALTER TABLE t ADD COLUMN late TEXT DEFAULT 'x';
             UPDATE t SET late = 'y' WHERE id % 50 <> 0;",
        )
        .unwrap();
    let view = view(&[
        ("id", Type::Integer),
        ("time", Type::Integer),
        ("late", Type::Text),
    ]);
    let reader = find(&connection, &view).unwrap();
    let range = Range::default();
    let (read, _, left) = from_pages(&connection, &view, &reader, &range, usize::MAX);
    assert!(read == from_sql(&connection, &view, &range));
    assert!(!left.is_empty() && count(&connection, &view, &left) < 200);
}

#[test]
fn what_a_filter_cannot_tell_is_left_to_sql() {
    let all = view(&COLUMNS);
    let connection = with_long_ones(1024, 3_000, 100);
    connection
        .execute("UPDATE t SET n = 'lots' WHERE id % 40 = 1", [])
        .unwrap();
    for (operator, operands, condition) in [
        (
            Operator::Greater,
            vec![5],
            "n > 5 AND typeof(n) = 'integer'",
        ),
        (Operator::Equal, vec![127], "n = 127"),
        (Operator::In, vec![127, -128, 127], "n IN (127, -128)"),
    ] {
        let filter = Filter {
            column: "n".to_owned(),
            kind: Type::Integer,
            operator,
            operands: operands.into_iter().map(Operand::Integer).collect(),
        };
        let (stream, columns) = (Arc::clone(&all.stream), all.schema.columns.clone());
        let view = Arc::new(View::new(stream, columns, Order::Time, vec![filter]));
        let expected = from_sql_where(&connection, &view, &Range::default(), condition);
        assert!(expected.len() > 50);
        assert!(served(&connection, &view, &Range::default()) == expected);
    }
}

#[test]
fn times_that_are_no_integers_are_for_sql_to_complain_of() {
    let view = view(&COLUMNS);
    for time in ["'late'", "0.5", "x'00'", "1e300"] {
        let connection = fill(1024, 2_000, 20, 2);
        connection
            .execute_batch(&format!("INSERT INTO t (id, time) VALUES (0, {time})"))
            .unwrap();
        let reader = find(&connection, &view).unwrap();
        let mut asked = 0;
        let (rows, scanned, _) = kept(&view, usize::MAX, || {
            let range = Range::default();
            reader.scan(&connection, &range, &[], None, &mut |_| {
                asked += 1;
                Ok(Went::Done)
            })
        });
        assert_eq!((scanned.unwrap(), asked), (Went::Done, 1), "{time}");
        let before: u32 = connection
            .query_row(
                &format!("SELECT count(*) FROM t WHERE time < {time}"),
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(rows.len(), before as usize, "{time}");
    }
}

#[test]
fn a_nan_is_null_as_sqlite_says() {
    // SQLite itself never writes one.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nan.db");
    let connection = fill(1024, 1_000, 10, 3);
    connection
        .execute("UPDATE t SET r = 1234.567890123 WHERE id % 10 = 0", [])
        .unwrap();
    connection
        .execute("VACUUM INTO ?1", [path.to_str().unwrap()])
        .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (real, nan) = (1_234.567_890_123_f64.to_be_bytes(), f64::NAN.to_be_bytes());
    let mut made = 0;
    for at in 0..bytes.len() - 8 {
        if bytes[at..at + 8] == real {
            bytes[at..at + 8].copy_from_slice(&nan);
            made += 1;
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let connection = Connection::open(&path).unwrap();
    let view = view(&COLUMNS);
    let reader = find(&connection, &view).unwrap();
    let range = Range::default();
    let (read, _, left) = from_pages(&connection, &view, &reader, &range, usize::MAX);
    assert!(made > 50 && left.is_empty());
    assert!(read == from_sql(&connection, &view, &range));
}
