//! Slices of one stream at once: the same document as from one connection, in one snapshot.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::harness::{FLOWS, Server, database, folder, generated};

const STREAM: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [
        { name = "id", type = "integer" },
        { name = "time", type = "integer" },
        { name = "v", type = "text" },
    ]
"#;

/// A server whose streams find helpers, and one whose streams cannot.
fn many_and_one(folder: &Path, database: &Path, streams: &str) -> (Server, Server) {
    let many = Server::with(folder, database, streams);
    let alone = folder.join("alone");
    std::fs::create_dir(&alone).unwrap();
    let one = Server::with(
        &alone,
        database,
        &format!("[database]\npool_size = 1\n{streams}"),
    );
    (many, one)
}

#[track_caller]
fn assert_same(many: &Server, one: &Server, path: &str) -> usize {
    let (sliced, complete) = (many.document(path), one.document(path));
    let at = sliced
        .bytes()
        .zip(complete.bytes())
        .position(|(a, b)| a != b);
    assert!(
        sliced == complete,
        "{path}: {} and {} bytes, first at {at:?}",
        sliced.len(),
        complete.len()
    );
    complete.len()
}

#[test]
fn slices_make_the_document_that_one_connection_makes() {
    let folder = folder();
    let path = generated(folder.path(), 120_000);
    let (many, one) = many_and_one(folder.path(), &path, "");
    for name in ["json", "ndjson", "csv", "tsv", "xml"] {
        assert!(assert_same(&many, &one, &format!("{FLOWS}?format={name}")) > 4 << 20);
        for limit in [8_000, 20_000, 20_001, 119_999, 120_000, 120_001, i64::MAX] {
            assert_same(&many, &one, &format!("{FLOWS}?format={name}&limit={limit}"));
        }
        let window = "scanned_after=500000&scanned_before=4900000";
        assert_same(&many, &one, &format!("{FLOWS}?format={name}&{window}"));
        assert_same(
            &many,
            &one,
            &format!("{FLOWS}?format={name}&{window}&limit=77777"),
        );
    }
}

#[test]
fn tables_of_every_shape_come_in_order() {
    let numbers =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000)";
    let text = "'a text of some length, so that chunks fill: ' || i";
    for (shape, table, rows) in [
        (
            "one time for all",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "i, 7",
        ),
        (
            "few times",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "i, i / 70000",
        ),
        (
            "ids that fall",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "-i, i",
        ),
        (
            "ids at random",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "i * 7919 % 150001, i",
        ),
        (
            "ids in two bands",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "i, i + (i % 2) * 200000",
        ),
        (
            "ids that repeat",
            "id INTEGER, time INTEGER, v TEXT",
            "i / 3, i / 3",
        ),
        (
            "times that fall",
            "id INTEGER PRIMARY KEY, time INTEGER, v TEXT",
            "i, -i",
        ),
        (
            "untyped",
            "id, time, v",
            "CAST(i AS TEXT), CAST(i / 2 AS TEXT)",
        ),
        ("numeric", "id NUMERIC, time NUMERIC, v TEXT", "i, i / 2"),
    ] {
        let cast = if shape == "untyped" {
            "CAST(time AS INTEGER), CAST(id AS INTEGER)"
        } else {
            "time, id"
        };
        // A string that its page cannot hold now and then.
        let long = format!("CASE WHEN i % 5000 = 77 THEN hex(zeroblob(3000)) ELSE {text} END");
        let text = if shape.ends_with("long texts") {
            &long
        } else {
            text
        };
        let folder = folder();
        let path = database(
            folder.path(),
            &format!(
                "PRAGMA journal_mode = WAL; CREATE TABLE t ({table}); CREATE INDEX i ON t ({cast});
                 {numbers} INSERT INTO t SELECT {rows}, {text} FROM n;"
            ),
        );
        let (many, one) = many_and_one(folder.path(), &path, STREAM);
        assert!(
            assert_same(&many, &one, "/api/v1/stream/t") > 4 << 20,
            "{shape}"
        );
        assert_same(&many, &one, "/api/v1/stream/t.csv?limit=100000");
        let csv = many.document("/api/v1/stream/t.csv");
        let sql = format!("SELECT id, time FROM t ORDER BY {cast}");
        let connection = Connection::open(&path).unwrap();
        let mut rows = connection.prepare(&sql).unwrap();
        let text = |row: &rusqlite::Row<'_>, at: usize| match row.get_ref(at)? {
            rusqlite::types::ValueRef::Integer(integer) => Ok(integer.to_string()),
            other => Ok::<_, rusqlite::Error>(other.as_str()?.to_owned()),
        };
        let expected = rows.query_map([], |row| {
            Ok(format!("{},{},", text(row, 0)?, text(row, 1)?))
        });
        let mut lines = csv.lines().skip(1);
        for expected in expected.unwrap() {
            let (line, expected) = (lines.next().unwrap(), expected.unwrap());
            assert!(
                line.starts_with(&expected),
                "{shape}: {line}, not {expected}"
            );
        }
        assert_eq!(lines.next(), None);
    }
}

/// While a writer moves a window of records on, one in and one out in each transaction, every
/// stream shows the window as it was after some transaction.
fn every_stream_is_a_state_that_existed(journal_mode: &str) {
    const RECORDS: i64 = 60_000;
    let folder = folder();
    let path = database(
        folder.path(),
        &format!(
            "PRAGMA journal_mode = {journal_mode};
             CREATE TABLE t (id INTEGER, time INTEGER, v TEXT, PRIMARY KEY (time, id)) WITHOUT ROWID;
             CREATE UNIQUE INDEX t_id ON t (id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RECORDS})
             INSERT INTO t SELECT i, i, 'a text of some length ' || i FROM n;"
        ),
    );
    let server = Server::with(folder.path(), &path, STREAM);
    let done = AtomicBool::new(false);
    let (mut committed, mut states) = (0, std::collections::BTreeSet::new());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            connection
                .pragma_update(None, "synchronous", "OFF")
                .unwrap();
            let mut moved = 0;
            while !done.load(Ordering::Relaxed) {
                let behaviour = rusqlite::TransactionBehavior::Immediate;
                let transaction = connection.transaction_with_behavior(behaviour).unwrap();
                moved += 1;
                transaction
                    .execute("DELETE FROM t WHERE id = ?1", [moved])
                    .unwrap();
                let new = RECORDS + moved;
                let insert = "INSERT INTO t VALUES (?1, ?1, 'a text of some length ' || ?1)";
                transaction.execute(insert, [new]).unwrap();
                transaction.commit().unwrap();
            }
            moved
        });
        // Asserted behind the loop: a panic in it would leave the writer running for ever.
        let check = || {
            for _ in 0..40 {
                let csv = server.document("/api/v1/stream/t.csv");
                let mut ids = csv
                    .lines()
                    .skip(1)
                    .map(|line| line.split(',').next().unwrap());
                let first: i64 = ids.next().unwrap().parse().unwrap();
                let mut next = first + 1;
                for id in ids {
                    assert_eq!(id.parse(), Ok(next), "after {first}");
                    next += 1;
                }
                assert_eq!(next - first, RECORDS);
                states.insert(first);
            }
        };
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        done.store(true, Ordering::Relaxed);
        committed = writer.join().unwrap();
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(
        committed > 40 && states.len() > 10,
        "{committed} transactions, {} states",
        states.len()
    );
}

#[test]
fn in_wal_mode_every_stream_is_a_state_that_existed() {
    every_stream_is_a_state_that_existed("WAL");
}

#[test]
fn in_rollback_mode_every_stream_is_a_state_that_existed() {
    every_stream_is_a_state_that_existed("DELETE");
}

#[test]
fn sixty_four_whole_streams_all_progress_and_small_requests_are_served_among_them() {
    let folder = folder();
    let path = generated(folder.path(), 60_000);
    let server = Server::with(folder.path(), &path, "[database]\npool_size = 65");
    let complete = server.document(FLOWS).len();
    std::thread::scope(|scope| {
        let streams: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| server.document(FLOWS).len()))
            .collect();
        for _ in 0..20 {
            assert!(server.document(&format!("{FLOWS}?limit=1")).len() > 100);
        }
        for stream in streams {
            assert_eq!(stream.join().unwrap(), complete);
        }
    });
}
