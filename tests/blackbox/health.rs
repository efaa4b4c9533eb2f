//! `/healthz` and `/readyz`.

use std::fs;
use std::io::BufReader;
use std::time::Duration;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Reply, Server, assert_has, folder, generated, ten_records, wait_until,
};

/// An answer counts for a second.
const STALE: Duration = Duration::from_millis(1100);

#[track_caller]
fn becomes_unready(server: &Server, parts: &[&str]) {
    std::thread::sleep(STALE);
    let reply = server.get("/readyz");
    let problem = reply.problem(503, &["not every stream can be read"]);
    assert_has(problem["streams"]["flows"].as_str().unwrap(), parts);
    assert_eq!(reply.header("retry-after"), "1");
    // The process is alive whatever its databases are.
    assert_eq!(server.document("/healthz"), "alive\n");
}

#[track_caller]
fn becomes_ready(server: &Server) {
    wait_until("it is ready", || server.get("/readyz").status == 200);
}

#[test]
fn a_server_is_ready_while_its_databases_answer() {
    let folder = folder();
    let ten = ten_records(folder.path());
    // In which readers wait for writers.
    let mode = Connection::open(&ten).unwrap();
    mode.pragma_update(None, "journal_mode", "DELETE").unwrap();
    drop(mode);
    let mut server = Server::of(folder.path(), &ten);
    let reply = server.get("/readyz");
    assert_eq!((reply.status, &reply.body[..]), (200, "ready\n"));
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(server.with_head("HEAD", "/readyz", "").status, 200);
    assert_eq!(server.with_head("HEAD", "/healthz", "").status, 200);
    assert_eq!(server.with_head("POST", "/healthz", "").status, 405);
    // Locked by a writer.
    let writer = Connection::open(&ten).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    becomes_unready(&server, &["locked"]);
    assert_eq!(server.with_head("HEAD", "/readyz", "").status, 503);
    writer.execute_batch("ROLLBACK").unwrap();
    becomes_ready(&server);
    // Without the table, and without a column.
    writer
        .execute_batch("ALTER TABLE flows RENAME TO others")
        .unwrap();
    becomes_unready(&server, &["no such table: flows"]);
    writer
        .execute_batch("ALTER TABLE others RENAME TO flows")
        .unwrap();
    becomes_ready(&server);
    writer
        .execute_batch("ALTER TABLE flows RENAME protocol TO p")
        .unwrap();
    becomes_unready(&server, &["no column protocol"]);
    writer
        .execute_batch("ALTER TABLE flows RENAME p TO protocol")
        .unwrap();
    becomes_ready(&server);
    drop(writer);
    // Gone, and something else.
    let away = folder.path().join("away.db");
    fs::rename(&ten, &away).unwrap();
    becomes_unready(&server, &["cannot be found"]);
    fs::write(&ten, "what is no database, but as long as the head of one").unwrap();
    becomes_unready(&server, &["not an SQLite database"]);
    fs::rename(&away, &ten).unwrap();
    becomes_ready(&server);
    // Each change is logged, and nothing else of it.
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let log = server.log();
    let count = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!(
        (count("WARN not ready"), count("ready again")),
        (4, 4),
        "{log}"
    );
    assert_eq!(
        count("readyz\" status=200") + count("healthz\" status=200"),
        0,
        "{log}"
    );
}

#[test]
fn a_server_whose_connections_all_stream_is_ready() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let configuration = "[database]\npool_size = 2\nwait_ms = 100";
    let server = Server::with(folder.path(), &path, configuration);
    let streams: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = BufReader::new(server.ask(FLOWS));
            let status = Reply::head(&mut stream).status;
            (stream, status)
        })
        .collect();
    // One of them is for small requests, and stays free.
    assert!(
        streams
            .iter()
            .all(|(_, status)| [200, 503].contains(status))
    );
    for _ in 0..3 {
        assert_eq!(server.get("/readyz").status, 200);
        std::thread::sleep(STALE);
    }
    // Many who ask at once cost no more than one.
    let asked: Vec<_> = (0..200).map(|_| server.ask("/readyz")).collect();
    assert!(asked.into_iter().all(|tcp| Reply::read(tcp).status == 200));
}

#[test]
fn a_server_that_stops_is_alive_and_not_ready() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let configuration = "[server]\nshutdown_seconds = 5\n[metrics]\nlisten = \"127.0.0.1:0\"";
    let mut server = Server::with(folder.path(), &path, configuration);
    let apart = crate::metrics::Watched::apart(&server);
    assert_eq!(apart.get("/readyz").status, 200);
    // They are at both, unlike metrics.
    assert_eq!(server.get("/readyz").status, 200);
    let mut stream = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut stream).status, 200);
    server.signal("TERM");
    server.logged(&["stopping"]);
    apart.get("/readyz").problem(503, &["the server stops"]);
    assert_eq!(apart.get("/healthz").status, 200);
    drop(stream);
    assert_eq!(server.ended(), Some(0));
}
