//! Failures: before the head they have a status, after it they break the body.

use std::fs;
use std::io::{BufReader, ErrorKind, Read};

use rusqlite::Connection;

use crate::harness::{FLOWS, Reply, Server, database, folder, generated, run, ten_records};
use crate::store::{Store, both};

/// A table whose record with this id has a `byte_count` that is not a number.
fn wrong_at(folder: &std::path::Path, id: u64) -> std::path::PathBuf {
    let path = generated(folder, 20_000);
    let broken = folder.join("broken.db");
    fs::copy(path, &broken).unwrap();
    let update = format!("UPDATE flows SET byte_count = 'lots' WHERE id = {id}");
    assert_eq!(
        Connection::open(&broken)
            .unwrap()
            .execute(&update, [])
            .unwrap(),
        1
    );
    broken
}

#[test]
fn a_wrong_value_before_the_first_chunk_is_a_500_that_names_it() {
    let folder = folder();
    let server = Server::of(folder.path(), &wrong_at(folder.path(), 3));
    for format in ["json", "xml", "csv"] {
        let reply = server.get(&format!("{FLOWS}.{format}"));
        reply.problem(
            500,
            &[
                "stream flows",
                "column byte_count",
                "id 3",
                "lots",
                "not an integer",
            ],
        );
    }
    // The records before it are fine, and the connection still is.
    assert_eq!(
        server
            .document(&format!("{FLOWS}.csv?limit=2"))
            .lines()
            .count(),
        3
    );
    server.logged(&[
        "id=",
        r#"ended="500 "#,
        "column byte_count, record with id 3",
    ]);
}

#[test]
fn a_wrong_value_after_the_head_breaks_the_body_every_time() {
    let folder = folder();
    let database = wrong_at(folder.path(), 15_000);
    let server = Server::of(folder.path(), &database);
    for format in ["json", "xml", "csv"] {
        for _ in 0..10 {
            let reply = server.get(&format!("{FLOWS}.{format}"));
            assert_eq!((reply.status, reply.complete), (200, false), "{format}");
            assert!(
                !reply.body.contains("lots"),
                "an error is never written as a record"
            );
            let end = ["\n]\n", "</records>\n"]
                .iter()
                .any(|end| reply.body.ends_with(end));
            assert!(!end, "a broken document is never completed");
        }
    }
    let line = server.logged(&[
        r#"format="csv""#,
        "broken: stream flows",
        "record with id 15000",
    ]);
    let number = |key: &str| {
        let value = line.split(key).nth(1).unwrap().split(' ').next().unwrap();
        value.parse::<u64>().unwrap()
    };
    assert!((1..15_000).contains(&number("records=")), "{line}");
    assert!(number("bytes=") > 100_000, "{line}");
}

#[test]
fn a_break_resets_the_connection() {
    let folder = folder();
    let server = Server::of(folder.path(), &wrong_at(folder.path(), 15_000));
    for _ in 0..10 {
        let mut reader = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
        assert_eq!(Reply::head(&mut reader).status, 200);
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Where the cells of a page are that is at a place in a database.
fn cell(bytes: &[u8], at: usize, number: usize) -> usize {
    let pointer = at + 8 + 2 * number;
    at + (usize::from(bytes[pointer]) << 8 | usize::from(bytes[pointer + 1]))
}

/// The size of a page of those that `flows import` makes.
const PAGE: usize = 8192;

/// Where the leaves are that have records of ten columns.
fn leaves(bytes: &[u8]) -> Vec<usize> {
    assert_eq!(bytes[16..18], [(PAGE >> 8) as u8, 0]);
    let pages = (1..bytes.len() / PAGE).map(|page| page * PAGE);
    pages
        .filter(|at| bytes[*at] == 10 && bytes[cell(bytes, *at, 0) + 1] == 11)
        .collect()
}

/// What is done to a leaf of a database; another one is later in it.
type Damage = fn(&mut [u8], usize, usize);

#[test]
fn what_is_corrupt_breaks_the_body_after_what_is_right() {
    let folder = folder();
    let good = generated(folder.path(), 50_000);
    let server = Server::of(folder.path(), &good);
    let right: Vec<_> = ["csv", "json"]
        .map(|name| server.document(&format!("{FLOWS}.{name}")))
        .into();
    let bytes = fs::read(&good).unwrap();
    let leaves = leaves(&bytes);
    assert!(leaves.len() > 200);
    let damages: [(&str, Damage); 5] = [
        ("64 pages", |bytes, at, _| {
            bytes[at..at + 64 * PAGE].fill(0xAA)
        }),
        ("a leaf without cells", |bytes, at, _| {
            bytes[at + 3..at + 5].fill(0)
        }),
        // After the lengths of the record and its header: time, id, duration, source.
        ("a type", |bytes, at, _| {
            let kind = cell(bytes, at, 20) + 5;
            assert!(bytes[kind] >= 15, "a string");
            bytes[kind] -= 2;
        }),
        ("a leaf in place of another", |bytes, at, later| {
            bytes.copy_within(later..later + PAGE, at);
        }),
        ("keys that change places", |bytes, at, _| {
            bytes[at + 8 + 40..at + 8 + 44].rotate_left(2);
        }),
    ];
    for (what, damage) in damages {
        let mut bytes = bytes.clone();
        let at = leaves.len() * 2 / 5;
        damage(&mut bytes, leaves[at], leaves[at + 40]);
        let path = folder.path().join("broken.db");
        fs::write(&path, bytes).unwrap();
        let server = Server::of(folder.path(), &path);
        for (name, right) in ["csv", "json"].iter().zip(&right) {
            let reply = server.get(&format!("{FLOWS}.{name}"));
            assert_eq!((reply.status, reply.complete), (200, false), "{what}");
            // How much of it arrives before the reset is not ours to say.
            let sent = reply.body.len();
            let prefix = sent < right.len() && right.starts_with(&reply.body);
            assert!(prefix, "{what}: {sent} bytes of {name}");
        }
        server.logged(&["broken: stream flows", "malformed"]);
    }
}

both!(a_break_is_visible_in_the_bytes_also_where_it_falls_between_records);
fn a_break_is_visible_in_the_bytes_also_where_it_falls_between_records(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 60_000), "");
    let complete = server.document(&format!("{FLOWS}.ndjson"));
    for format in ["ndjson", "csv", "tsv", "json", "xml"] {
        let mut reader = BufReader::new(server.ask(&format!("{FLOWS}?format={format}")));
        assert_eq!(Reply::head(&mut reader).status, 200);
        let mut body = Vec::new();
        loop {
            let chunk = crate::harness::chunk(&mut reader).expect("a complete stream");
            if chunk.is_empty() {
                break;
            }
            // What was held back comes as a chunk of its own.
            if chunk.len() > 4096 && !body.is_empty() {
                let sent = [&body[..], &chunk].concat();
                let last = sent.split(|byte| *byte == b'\n').next_back().unwrap();
                assert!(!last.is_empty() || body.is_empty(), "{format}");
            }
            body.extend(chunk);
        }
        if format == "ndjson" {
            assert!(body == complete.as_bytes());
        }
    }
}

#[test]
fn a_table_that_is_dropped_while_serving_is_a_500_and_one_that_returns_is_served() {
    let folder = folder();
    let path = ten_records(folder.path());
    let server = Server::of(folder.path(), &path);
    let before = server.document(FLOWS);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("ALTER TABLE flows RENAME TO away")
        .unwrap();
    server.get(FLOWS).problem(
        500,
        &["stream flows", "no such table: flows", "flows check"],
    );
    // The same records, but as strings: what is compared follows the table.
    connection
        .execute_batch(
            "CREATE TABLE flows (id, time, duration, src_comp, src_port, dst_comp, dst_port,
                                 protocol, packet_count, byte_count);
             INSERT INTO flows SELECT CAST(id AS TEXT), CAST(time AS TEXT), duration, src_comp,
                    src_port, dst_comp, dst_port, protocol, packet_count, byte_count FROM away;",
        )
        .unwrap();
    assert_eq!(server.document(FLOWS), before);
    connection
        .execute_batch("ALTER TABLE flows DROP COLUMN protocol")
        .unwrap();
    server.get(FLOWS).problem(500, &["no column protocol"]);
}

#[test]
fn a_table_that_is_dropped_during_a_stream_does_not_disturb_it() {
    let folder = folder();
    let path = generated(folder.path(), 100_000);
    let server = Server::of(folder.path(), &path);
    let mut reader = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
    assert_eq!(Reply::head(&mut reader).status, 200);
    Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE flows")
        .unwrap();
    let mut records = 0;
    loop {
        let chunk = crate::harness::chunk(&mut reader).expect("the stream has a snapshot");
        if chunk.is_empty() {
            break;
        }
        records += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(records, 100_001);
}

#[test]
fn a_lock_that_is_held_too_long_is_a_503() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER); INSERT INTO t VALUES (1, 1);
         CREATE INDEX i ON t (time);",
    );
    let configuration = r#"
        [database]
        busy_ms = 100
        [[streams]]
        name = "t"
        table = "t"
        time = "time"
        id = "id"
        columns = [{ name = "id", type = "integer" }]
    "#;
    let server = Server::with(folder.path(), &path, configuration);
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let reply = server.get("/api/v1/stream/t");
    reply.problem(503, &["locked"]);
    assert_eq!(reply.header("retry-after"), "1");
    writer.execute_batch("COMMIT").unwrap();
    assert_eq!(server.document("/api/v1/stream/t"), "[\n{\"id\":1}\n]\n");
}

#[test]
fn what_cannot_be_served_ends_serve_with_2() {
    let folder = folder();
    let serve = |database: &str| {
        run(
            folder.path(),
            &["serve", "--database", database, "--listen", "127.0.0.1:0"],
        )
    };
    serve("none.db").failed(2, &["none.db", "flows import"]);
    fs::write(
        folder.path().join("text.db"),
        "time,duration\n".repeat(1000),
    )
    .unwrap();
    serve("text.db").failed(2, &["text.db is not an SQLite database"]);
    fs::write(folder.path().join("short.db"), "abc").unwrap();
    serve("short.db").failed(2, &["short.db is not an SQLite database"]);
    fs::write(folder.path().join("empty.db"), "").unwrap();
    serve("empty.db").failed(2, &["no table flows"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    ten_records(folder.path());
    let address = taken.local_addr().unwrap().to_string();
    let ran = run(
        folder.path(),
        &["serve", "--database", "ten.db", "--listen", &address],
    );
    ran.failed(1, &[&address, "--listen"]);
}
