//! Slices of one stream at once: the same document as from one connection, in one snapshot.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Reply, Server, chunk, database, empty_database, folder, generated, is_one_core,
};
use crate::store::{Store, both};

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
fn many_and_one(store: Store, folder: &Path, database: &Path, streams: &str) -> (Server, Server) {
    let place = store.database(database);
    let many = Server::with(folder, &place, streams);
    let alone = folder.join("alone");
    std::fs::create_dir(&alone).unwrap();
    let one = Server::with(
        &alone,
        &place,
        &format!("[database]\npool_size = 1\n{streams}"),
    );
    (many, one)
}

/// Both make the same document at a path, one of them in slices at once; how long it is.
#[track_caller]
fn assert_same(many: &Server, one: &Server, path: &str) -> usize {
    same(&many.in_slices(path), one, path)
}

#[track_caller]
fn same(sliced: &[u8], one: &Server, path: &str) -> usize {
    let complete = one.in_one_piece(path);
    let at = sliced.iter().zip(&complete).position(|(a, b)| a != b);
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
    // A server answers too late for so few records to come in slices each time.
    let store = Store::Sqlite;
    let folder = folder();
    let path = generated(folder.path(), 120_000);
    let (many, one) = many_and_one(store, folder.path(), &path, "");
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

/// A table `t` and how its records are laid out.
struct Shape {
    name: &'static str,
    table: &'static str,
    /// The id and the time of record `i`.
    position: &'static str,
    /// How the index orders them; empty where the table itself does.
    index: &'static str,
    page_size: usize,
    /// The bytes at the end of every page that SQLite leaves alone.
    reserved: u8,
    /// Whether its streams come in slices: no two of its records have the same position.
    splits: bool,
}

const ROWID: Shape = Shape {
    name: "",
    table: "(id INTEGER PRIMARY KEY, time INTEGER, v TEXT)",
    position: "i, i",
    index: "time, id",
    page_size: 4096,
    reserved: 0,
    splits: true,
};

const CLUSTERED: Shape = Shape {
    table: "(id INTEGER, time INTEGER, v TEXT, PRIMARY KEY (time, id)) WITHOUT ROWID",
    position: "i * 7919 % 100003, i / 3",
    index: "",
    ..ROWID
};

const SHAPES: [Shape; 15] = [
    Shape {
        name: "one time for all",
        position: "i, 7",
        ..ROWID
    },
    Shape {
        name: "few times",
        position: "i, i / 70000",
        ..ROWID
    },
    Shape {
        name: "ids that fall",
        position: "-i, i",
        ..ROWID
    },
    Shape {
        name: "ids at random",
        position: "i * 7919 % 100003, i",
        ..ROWID
    },
    Shape {
        name: "ids in two bands",
        position: "i, i + (i % 2) * 200000",
        ..ROWID
    },
    Shape {
        name: "ids that repeat",
        table: "(id INTEGER, time INTEGER, v TEXT)",
        position: "i / 3, i / 3",
        splits: false,
        ..ROWID
    },
    Shape {
        name: "times that fall",
        position: "i, -i",
        ..ROWID
    },
    Shape {
        name: "untyped",
        table: "(id, time, v)",
        position: "CAST(i AS TEXT), CAST(i / 2 AS TEXT)",
        index: "CAST(time AS INTEGER), CAST(id AS INTEGER)",
        splits: false,
        ..ROWID
    },
    Shape {
        name: "numeric",
        table: "(id NUMERIC, time NUMERIC, v TEXT)",
        position: "i, i / 2",
        splits: false,
        ..ROWID
    },
    Shape {
        name: "clustered",
        ..CLUSTERED
    },
    Shape {
        name: "clustered, all of one time",
        position: "i, 7",
        ..CLUSTERED
    },
    Shape {
        name: "clustered, small pages",
        page_size: 512,
        ..CLUSTERED
    },
    Shape {
        name: "clustered, small pages, reserved bytes",
        page_size: 512,
        reserved: 32,
        ..CLUSTERED
    },
    Shape {
        name: "clustered, reserved bytes",
        reserved: 255,
        ..CLUSTERED
    },
    Shape {
        name: "clustered, large pages",
        page_size: 65536,
        ..CLUSTERED
    },
];

impl Shape {
    const RECORDS: u32 = 100_000;

    /// A database of it, with strings on both sides of what a page can hold, and long ones.
    fn database(&self, folder: &Path) -> PathBuf {
        let path = empty_database(folder, self.page_size, self.reserved);
        let usable = self.page_size - usize::from(self.reserved);
        // The largest record that a page of an index or a clustered table holds all of.
        let most = (usable - 12) * 64 / 255 - 23;
        let index = if self.index.is_empty() {
            String::new()
        } else {
            format!("CREATE INDEX i ON t ({});", self.index)
        };
        let sql = format!(
            "PRAGMA journal_mode = WAL; CREATE TABLE t {}; {index}
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})
             INSERT INTO t SELECT {}, CASE
                 WHEN i % 5000 = 77 THEN printf('%.*c', {} + i, 'l')
                 WHEN i % 200 = 7 THEN printf('%.*c', {most} - 20 + i / 200 % 30, 'm')
                 ELSE 'a string of some length, so that chunks fill: ' || i END FROM n;",
            self.table,
            Shape::RECORDS,
            self.position,
            usable
        );
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(&sql).unwrap();
        let check = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        assert_eq!(check, Ok("ok".to_owned()), "{}", self.name);
        assert_eq!(std::fs::read(&path).unwrap()[20], self.reserved);
        path
    }

    /// The table as CSV, by SQLite itself.
    fn csv(&self, path: &Path) -> String {
        let order = if self.index.is_empty() {
            "time, id"
        } else {
            self.index
        };
        let connection = Connection::open(path).unwrap();
        let mut csv = connection
            .prepare(&format!(
                "SELECT id || ',' || time || ',' || CASE WHEN v LIKE '%,%' THEN '\"' || v || '\"' ELSE v END
                 FROM t ORDER BY {order}"
            ))
            .unwrap();
        let lines = csv.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        assert_eq!(lines.len(), Shape::RECORDS as usize);
        format!("id,time,v\n{}\n", lines.join("\n"))
    }
}

both!(tables_of_every_shape_come_in_order);
fn tables_of_every_shape_come_in_order(store: Store) {
    for shape in SHAPES {
        // PostgreSQL's tables have neither types of each value nor pages of other sizes.
        let of_sqlite = shape.name == "untyped" || (shape.page_size, shape.reserved) != (4096, 0);
        if store == Store::Postgres && of_sqlite {
            continue;
        }
        let folder = folder();
        let path = shape.database(folder.path());
        let (many, one) = many_and_one(store, folder.path(), &path, STREAM);
        let name = shape.name;
        for query in ["?format=json", "?format=csv&limit=70000"] {
            let path = format!("/api/v1/stream/t{query}");
            let length = if shape.splits {
                assert_same(&many, &one, &path)
            } else {
                same(&many.in_one_piece(&path), &one, &path)
            };
            assert!(length > 4_000_000, "{name}");
        }
        let (csv, expected) = (many.document("/api/v1/stream/t.csv"), shape.csv(&path));
        let mut lines = csv.lines().zip(expected.lines());
        let differs = lines.find(|(line, expected)| line != expected);
        assert!(csv == expected, "{name}: {differs:?}");
    }
}

/// While a writer moves a window of records on, one in and one out in each transaction, every
/// stream shows the window as it was after some transaction.
fn every_stream_is_a_state_that_existed(store: Store, journal_mode: &str) {
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
    let place = store.database(&path);
    let server = Server::with(folder.path(), &place, STREAM);
    let done = AtomicBool::new(false);
    let (mut committed, mut states) = (0, std::collections::BTreeSet::new());
    let mut most_slices = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let connection = Connection::open(&path).unwrap();
            connection.busy_timeout(Duration::from_secs(60)).unwrap();
            connection
                .pragma_update(None, "synchronous", "OFF")
                .unwrap();
            let mut moved = 0;
            while !done.load(Ordering::Relaxed) {
                moved += 1;
                let new = RECORDS + moved;
                let statements = format!(
                    "DELETE FROM t WHERE id = {moved};
                     INSERT INTO t VALUES ({new}, {new}, 'a text of some length {new}'); COMMIT;"
                );
                match store {
                    Store::Sqlite => connection
                        .execute_batch(&format!("BEGIN IMMEDIATE; {statements}"))
                        .unwrap(),
                    Store::Postgres => store.execute(&place, &format!("BEGIN; {statements}")),
                }
            }
            moved
        });
        // Asserted after the loop: a panic in it would leave the writer running for ever.
        let check = || {
            for _ in 0..40 {
                let (csv, slices) = server.sliced("/api/v1/stream/t.csv");
                most_slices = slices.max(most_slices);
                let csv = String::from_utf8(csv).unwrap();
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
    // In rollback mode a writer as busy as this one may keep every helper from joining.
    let sliced = most_slices > 1 || is_one_core() || journal_mode != "WAL";
    assert!(
        committed > 40 && states.len() > 10 && sliced,
        "{committed} transactions, {} states, {most_slices} slices",
        states.len()
    );
}

both!(in_wal_mode_every_stream_is_a_state_that_existed);
fn in_wal_mode_every_stream_is_a_state_that_existed(store: Store) {
    every_stream_is_a_state_that_existed(store, "WAL");
}

#[test]
fn in_rollback_mode_every_stream_is_a_state_that_existed() {
    every_stream_is_a_state_that_existed(Store::Sqlite, "DELETE");
}

both!(sixty_four_whole_streams_all_progress_and_small_requests_are_served_among_them);
fn sixty_four_whole_streams_all_progress_and_small_requests_are_served_among_them(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 60_000);
    let server = store.serve(folder.path(), &path, "[database]\npool_size = 65");
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

both!(a_slow_client_of_parquet_holds_a_row_group_per_slice);
/// Row groups of the most bytes, none of which anybody reads: those that wait are bounded.
fn a_slow_client_of_parquet_holds_a_row_group_per_slice(store: Store) {
    const RECORDS: u64 = 60_000;
    let folder = folder();
    let path = database(
        folder.path(),
        &format!(
            "CREATE TABLE t (id INTEGER, time INTEGER, v BLOB, PRIMARY KEY (time, id)) WITHOUT ROWID;
             CREATE UNIQUE INDEX t_id ON t (id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {RECORDS})
             INSERT INTO t SELECT i, i, randomblob(3000) FROM n;"
        ),
    );
    let stream = STREAM.replace("\"v\", type = \"text\"", "\"v\", type = \"blob\"");
    let server = store.serve(folder.path(), &path, &stream);
    let mut reader = BufReader::new(server.ask("/api/v1/stream/t.parquet"));
    assert_eq!(Reply::head(&mut reader).status, 200);
    let (mut most, mut settled) = (0, 0);
    while settled < 20 {
        let now = server.anonymous_mib();
        settled = if now > most { 0 } else { settled + 1 };
        most = most.max(now);
        std::thread::sleep(Duration::from_millis(50));
    }
    // Four slices are under way, each with 4 MiB, one of them twice while it is handed over.
    assert!(most <= 128, "{most} MiB");
    let mut length = 0;
    loop {
        let chunk = chunk(&mut reader).expect("a complete stream");
        if chunk.is_empty() {
            break;
        }
        length += chunk.len() as u64;
    }
    assert!(length > RECORDS * 3000, "{length}");
}
