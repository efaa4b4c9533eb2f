//! The file under a running server: replaced, gone, back.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::harness::{FLOWS, Reply, Server, chunk, folder, generated, wait_until};

/// A copy of a database in which every record has this number of bytes.
fn copy(database: &Path, name: &str, byte_count: u32) -> PathBuf {
    let path = database.with_file_name(name);
    fs::copy(database, &path).unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("UPDATE flows SET byte_count = ?1", [byte_count])
        .unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(checkpoint, [], |_| Ok(())).unwrap();
    path
}

/// How many records of a document have each of these last fields.
fn counts(csv: &str) -> (usize, usize) {
    let of = |end: &str| csv.lines().filter(|line| line.ends_with(end)).count();
    (of(",111"), of(",222"))
}

#[test]
fn a_file_that_is_replaced_by_rename_is_never_mixed_with_the_old_one() {
    let folder = folder();
    let source = generated(folder.path(), 100_000);
    let served = copy(&source, "served.db", 111);
    let server = Server::of(folder.path(), &served);
    // All connections of the pool are to the first file.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(
                    counts(&server.document(&format!("{FLOWS}.csv"))),
                    (100_000, 0)
                )
            });
        }
    });
    for turn in 0..6 {
        let (value, expected) = [(222, (0, 100_000)), (111, (100_000, 0))][turn % 2];
        // One that runs meanwhile ends from the file that it began with.
        let mut running = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
        assert_eq!(Reply::head(&mut running).status, 200);
        fs::rename(copy(&source, "next.db", value), &served).unwrap();
        let reply = server.document(&format!("{FLOWS}.csv"));
        assert_eq!(counts(&reply), expected, "turn {turn}");
        let mut body = Vec::new();
        loop {
            let chunk = chunk(&mut running).expect("the old file is there for who reads it");
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        let before = (expected.1, expected.0);
        assert_eq!(
            counts(&String::from_utf8(body).unwrap()),
            before,
            "turn {turn}"
        );
    }
    let replaced = || server.log().matches("was replaced").count();
    wait_until("each is said", || replaced() >= 6);
    assert_eq!(replaced(), 6, "one line says it");
}

#[test]
fn a_file_that_is_gone_is_a_503_until_it_is_back() {
    let folder = folder();
    let source = generated(folder.path(), 1_000);
    let served = copy(&source, "served.db", 111);
    let server = Server::of(folder.path(), &served);
    assert!(server.document(FLOWS).contains("\"byte_count\":111}"));
    for path in [
        copy(&source, "other.db", 222),
        served.with_file_name("away.db"),
    ] {
        fs::rename(&served, served.with_file_name("away.db")).unwrap();
        for _ in 0..3 {
            let reply = server.get(FLOWS);
            reply.problem(
                503,
                &[
                    "served.db",
                    "cannot be found",
                    "served again when it is back",
                ],
            );
            assert_eq!(reply.header("retry-after"), "1");
        }
        fs::rename(path, &served).unwrap();
        let after = server.document(FLOWS);
        assert!(after.contains("\"byte_count\":222}") && !after.contains(":111}"));
    }
    for line in ["the database is gone", "the database is back"] {
        let said = || server.log().matches(line).count();
        wait_until("each is said", || said() >= 2);
        assert_eq!(said(), 2, "{line}");
    }
}

#[test]
fn what_is_not_a_database_is_a_503_at_once() {
    let folder = folder();
    let source = generated(folder.path(), 1_000);
    let served = copy(&source, "served.db", 111);
    let server = Server::of(folder.path(), &served);
    server.document(FLOWS);
    fs::write(folder.path().join("text"), "not a database ".repeat(100)).unwrap();
    fs::rename(folder.path().join("text"), &served).unwrap();
    let start = std::time::Instant::now();
    let reply = server.get(FLOWS);
    reply.problem(
        503,
        &["served.db is not an SQLite database", "served again"],
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(2));
    fs::rename(copy(&source, "next.db", 222), &served).unwrap();
    assert!(server.document(FLOWS).contains("\"byte_count\":222}"));
}

#[test]
fn no_writer_takes_from_a_stream_what_it_has_not_read() {
    for mode in ["WAL", "DELETE"] {
        let folder = folder();
        let source = generated(folder.path(), 300_000);
        let served = copy(&source, "served.db", 111);
        let open = || Connection::open(&served).unwrap();
        let pragma = |pragma: &str| open().query_row(pragma, [], |_| Ok(())).unwrap();
        pragma(&format!("PRAGMA journal_mode = {mode}"));
        let server = Server::of(folder.path(), &served);
        for _ in 0..2 {
            let mut running = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
            assert_eq!(Reply::head(&mut running).status, 200);
            // What other requests, and a configuration that is read again, look at the file for, ends no lock.
            let small = format!("{FLOWS}.csv?limit=1");
            for _ in 0..4 {
                server.document(&small);
            }
            let before = server.log().matches("read again").count();
            server.signal("HUP");
            wait_until("the configuration is read again", || {
                server.log().matches("read again").count() > before
            });
            // A writer that leaves would clean up, were it the last to have the file open.
            let writer = open();
            writer.busy_timeout(std::time::Duration::ZERO).unwrap();
            let wrote = writer.execute_batch("UPDATE flows SET byte_count = 222; VACUUM");
            assert_eq!(wrote.is_ok(), mode == "WAL", "{wrote:?}");
            drop(writer);
            let mut body = Vec::new();
            loop {
                let chunk = chunk(&mut running).expect("a snapshot is complete");
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
            let body = String::from_utf8(body).unwrap();
            assert_eq!(counts(&body), (300_000, 0), "{mode}");
            open()
                .execute("UPDATE flows SET byte_count = 111", [])
                .unwrap();
        }
    }
}
