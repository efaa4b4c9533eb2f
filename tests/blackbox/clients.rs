//! Clients that leave, are slow, are many; and how the server stops.

use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::harness::{FLOWS, PATIENCE, Reply, Server, chunk, folder, generated, wait_until};
use crate::store::{Store, both};

/// One connection only, so that whoever holds it keeps the next request waiting.
const ONE: &str = "[database]\npool_size = 1\nwait_ms = 60000\n";

/// A stream of two integers out of the table or view `t`.
const T: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [{ name = "id", type = "integer" }, { name = "time", type = "integer" }]
"#;

/// A database whose view `t` takes seconds to find nothing.
fn finds_nothing(folder: &Path) -> PathBuf {
    let slow = folder.join("slow.db");
    let connection = Connection::open(&slow).unwrap();
    // Each of 1,000 rows costs a look at 20,000 others: some seconds in all, and nothing found.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE raw (time INTEGER, id INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO raw SELECT i, i FROM n;
             CREATE VIEW t AS SELECT time, id FROM raw
                 WHERE (SELECT count(*) FROM raw AS r WHERE (r.time + raw.time) % 2 = 3) > 0;",
        )
        .unwrap();
    slow
}

/// After a client has left, the pool's one connection serves the next request within a second.
#[track_caller]
fn home_within_a_second(server: &Server, next: &str) {
    let left = Instant::now();
    let reply = server.get(next);
    let waited = left.elapsed();
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
}

both!(a_client_that_leaves_in_mid_stream_gives_the_connection_back);
fn a_client_that_leaves_in_mid_stream_gives_the_connection_back(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 300_000), ONE);
    for _ in 0..3 {
        let mut reader = BufReader::new(server.ask(FLOWS));
        assert_eq!(Reply::head(&mut reader).status, 200);
        drop(reader);
        home_within_a_second(&server, &format!("{FLOWS}?limit=1"));
    }
    server.logged(&[r#"ended="client left""#]);
}

both!(a_client_that_leaves_a_scan_that_finds_nothing_gives_the_connection_back);
fn a_client_that_leaves_a_scan_that_finds_nothing_gives_the_connection_back(store: Store) {
    let folder = folder();
    let server = store.serve(
        folder.path(),
        &finds_nothing(folder.path()),
        &format!("{ONE}{T}"),
    );
    let tcp = server.ask("/api/v1/stream/t");
    std::thread::sleep(Duration::from_millis(300));
    drop(tcp);
    home_within_a_second(&server, "/api/v1/stream/t?limit=0");
}

both!(a_client_that_sent_more_than_a_request_and_left_gives_the_connection_back);
fn a_client_that_sent_more_than_a_request_and_left_gives_the_connection_back(store: Store) {
    let folder = folder();
    let server = store.serve(
        folder.path(),
        &finds_nothing(folder.path()),
        &format!("{ONE}{T}"),
    );
    let get = "GET /api/v1/stream/t HTTP/1.1\r\nHost: t\r\n\r\n";
    for more in ["x", get] {
        let tcp = server.send(format!("{get}{more}").as_bytes());
        std::thread::sleep(Duration::from_millis(300));
        drop(tcp);
        home_within_a_second(&server, "/api/v1/stream/t?limit=0");
    }
}

both!(a_client_that_takes_nothing_is_cut_off);
fn a_client_that_takes_nothing_is_cut_off(store: Store) {
    let folder = folder();
    let configuration = format!("[server]\nstall_seconds = 1\n{ONE}");
    let server = store.serve(
        folder.path(),
        &generated(folder.path(), 300_000),
        &configuration,
    );
    let mut stalled = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut stalled).status, 200);
    let start = Instant::now();
    server.document(&format!("{FLOWS}?limit=1"));
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    server.logged(&[
        "records=",
        r#"ended="stalled: the client took nothing of it for 1 s""#,
    ]);
    // What it finds when it reads on does not look complete.
    let error = stalled.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

both!(a_client_that_takes_little_at_a_time_is_not_cut_off);
fn a_client_that_takes_little_at_a_time_is_not_cut_off(store: Store) {
    let folder = folder();
    let configuration = "[server]\nstall_seconds = 2\n";
    let server = store.serve(
        folder.path(),
        &generated(folder.path(), 300_000),
        configuration,
    );
    let mut slow = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut slow).status, 200);
    let start = Instant::now();
    let mut part = [0; 64 << 10];
    while start.elapsed() < Duration::from_secs(8) {
        slow.read_exact(&mut part).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"]\n\r\n0\r\n\r\n"));
}

both!(a_server_that_is_killed_resets_its_streams);
fn a_server_that_is_killed_resets_its_streams(store: Store) {
    let folder = folder();
    let mut server = store.serve(folder.path(), &generated(folder.path(), 300_000), "");
    let mut reader = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut reader).status, 200);
    server.signal("KILL");
    server.ended();
    let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

both!(a_complete_stream_arrives_even_if_it_is_read_after_the_server_has_gone);
fn a_complete_stream_arrives_even_if_it_is_read_after_the_server_has_gone(store: Store) {
    let folder = folder();
    let mut server = store.serve(folder.path(), &generated(folder.path(), 20_000), "");
    // More than one chunk, and less than a socket holds.
    let reader = server.ask(&format!("{FLOWS}.csv"));
    server.logged(&[r#"ended="complete""#]);
    wait_until("the server has hung up", || {
        let mut byte = [0];
        reader.peek(&mut byte).unwrap() > 0
    });
    server.signal("TERM");
    server.ended();
    let reply = Reply::read(reader);
    assert_eq!(reply.header("transfer-encoding"), "chunked");
    assert!(reply.complete);
    assert_eq!(reply.body.lines().count(), 20_001);
}

#[test]
fn a_client_that_leaves_a_sort_gives_the_connection_back() {
    let folder = folder();
    let path = generated(folder.path(), 500_000);
    // The same records without an index.
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE heap AS SELECT * FROM flows; DROP TABLE flows; ALTER TABLE heap RENAME TO flows")
        .unwrap();
    let server = Server::with(folder.path(), &path, ONE);
    for pause in [50, 150, 300, 450] {
        let tcp = server.ask(FLOWS);
        std::thread::sleep(Duration::from_millis(pause));
        drop(tcp);
        home_within_a_second(&server, &format!("{FLOWS}?limit=0"));
    }
}

#[test]
fn a_record_of_a_sparse_scan_arrives_while_the_scan_goes_on() {
    let folder = folder();
    let path = folder.path().join("sparse.db");
    // The first and the middle row are found; each other costs a look at all.
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE raw (time INTEGER, id INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID;
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
             INSERT INTO raw SELECT i, i FROM n;
             CREATE VIEW t AS SELECT time, id FROM raw WHERE time = 1 OR time = 100
                 OR (SELECT count(*) FROM raw AS r WHERE (r.time + raw.time) % 2 = 3) > 0;",
        )
        .unwrap();
    let server = Server::with(folder.path(), &path, T);
    let start = Instant::now();
    let mut reader = BufReader::new(server.ask("/api/v1/stream/t.csv"));
    assert_eq!(Reply::head(&mut reader).status, 200);
    // What leaves never ends where a record does, unless that is the end.
    for expected in ["id,time\n1,", "1\n", "100,"] {
        let chunk = chunk(&mut reader).unwrap();
        assert_eq!(String::from_utf8(chunk).unwrap(), expected);
    }
    // The whole scan would take minutes: 100,000 times 100,000 looks.
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

both!(slow_clients_hold_the_scan_and_no_memory);
fn slow_clients_hold_the_scan_and_no_memory(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    // Large streams get three quarters of the connections.
    let server = store.serve(
        folder.path(),
        &path,
        "[server]\nstreams = 85\n[database]\npool_size = 85\n",
    );
    // 64 streams of some 40 MiB each, of which nothing is read but the head.
    let mut readers: Vec<_> = (0..64).map(|_| BufReader::new(server.ask(FLOWS))).collect();
    for reader in &mut readers {
        assert_eq!(Reply::head(reader).status, 200);
    }
    let mut most = 0;
    let mut settled = 0;
    while settled < 20 {
        let now = server.anonymous_mib();
        settled = if now > most { 0 } else { settled + 1 };
        most = most.max(now);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(most <= 256, "{most} MiB");
    // They are held, not lost: one that is read after all gets its complete document.
    let mut reader = readers.pop().unwrap();
    let mut length = 0;
    loop {
        let chunk = chunk(&mut reader).expect("a complete stream");
        if chunk.is_empty() {
            break;
        }
        length += chunk.len();
    }
    assert!(length > 30 << 20, "{length}");
}

both!(clients_that_stop_reading_take_no_connection_from_small_requests);
fn clients_that_stop_reading_take_no_connection_from_small_requests(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let configuration = "[database]\npool_size = 8\nwait_ms = 300\n";
    let server = store.serve(folder.path(), &path, configuration);
    // More than there are connections: six get one, and the others a 503.
    let mut stalled: Vec<_> = (0..16).map(|_| BufReader::new(server.ask(FLOWS))).collect();
    let heads = stalled.iter_mut().map(|reader| Reply::head(reader).status);
    let served = heads.filter(|status| *status == 200).count();
    assert_eq!(served, 6);
    for _ in 0..20 {
        let start = Instant::now();
        server.document(&format!("{FLOWS}?limit=3"));
        assert!(
            start.elapsed() < Duration::from_millis(250),
            "{:?}",
            start.elapsed()
        );
    }
    server
        .get(FLOWS)
        .problem(503, &["no database connection became free"]);
}

/// Records so large that a slice does not fit into its channel, and a server of them.
fn large_records(folder: &Path, sql: &str) -> Server {
    let path = folder.join("large.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v TEXT);
             CREATE INDEX i ON t (time, id);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
             INSERT INTO t SELECT i, i, hex(randomblob(10000 + 300000 * (i % 500 = 0))) FROM n;
             {sql}"
        ))
        .unwrap();
    let (time, v) = (
        r#"{ name = "time", type = "integer" }"#,
        r#"{ name = "v", type = "text" }"#,
    );
    let configuration = T.replace(time, &format!("{time}, {v}"));
    assert_ne!(configuration, T);
    Server::with(
        folder,
        &path,
        &format!("[database]\npool_size = 4\n{configuration}"),
    )
}

#[test]
fn helpers_leave_a_client_that_stops_reading() {
    let folder = folder();
    let server = large_records(folder.path(), "");
    let expected = server.document("/api/v1/stream/t.csv");
    for pause in [400, 700, 50] {
        let mut reader = BufReader::new(server.ask("/api/v1/stream/t.csv"));
        assert_eq!(Reply::head(&mut reader).status, 200);
        std::thread::sleep(Duration::from_millis(pause));
        if pause > 300 {
            // The stalled stream holds one of three connections for large streams: two more find
            // theirs at once.
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| assert!(server.document("/api/v1/stream/t.csv") == expected));
                }
            });
        }
        // Whoever reads on gets every record, in order, whatever was set aside.
        let mut body = Vec::new();
        loop {
            let chunk = chunk(&mut reader).expect("a complete stream");
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
        assert!(body == expected.as_bytes(), "after {pause} ms");
    }
}

#[test]
fn a_failure_beyond_what_a_stalled_client_waits_for_reaches_it() {
    let folder = folder();
    let wrong = "UPDATE t SET v = NULL WHERE id IN (1800, 2600, 2601, 3400)";
    let server = large_records(folder.path(), wrong);
    for pause in [0, 120, 160, 220, 300, 450] {
        let mut reader = BufReader::new(server.ask("/api/v1/stream/t.csv"));
        assert_eq!(Reply::head(&mut reader).status, 200);
        std::thread::sleep(Duration::from_millis(pause));
        let start = Instant::now();
        while let Some(chunk) = chunk(&mut reader) {
            assert!(!chunk.is_empty(), "it looks complete");
        }
        assert!(start.elapsed() < PATIENCE / 4, "after {pause} ms");
    }
    server.logged(&["broken: stream t, column v, record with id 1800"]);
}

both!(without_a_free_connection_there_is_a_503_with_retry_after);
fn without_a_free_connection_there_is_a_503_with_retry_after(store: Store) {
    let folder = folder();
    let database = generated(folder.path(), 300_000);
    let configuration = "[database]\npool_size = 1\nwait_ms = 100\n";
    let server = store.serve(folder.path(), &database, configuration);
    let mut holder = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut holder).status, 200);
    let reply = server.get(&format!("{FLOWS}?limit=1"));
    reply.problem(503, &["no database connection"]);
    assert_eq!(reply.header("retry-after"), "1");
    // Requests that need no connection are answered all the same.
    server.get(&format!("{FLOWS}?limit=x")).problem(400, &[]);
    drop(holder);
    wait_until("the connection is home", || {
        server.get(&format!("{FLOWS}?limit=1")).status == 200
    });
}

both!(a_thousand_waiting_requests_are_served_in_turn);
fn a_thousand_waiting_requests_are_served_in_turn(store: Store) {
    let folder = folder();
    let configuration =
        "[server]\nconnections_per_address = 1000\n[database]\npool_size = 2\nwait_ms = 60000\n";
    let server = store.serve(
        folder.path(),
        &generated(folder.path(), 300_000),
        configuration,
    );
    let holders: Vec<_> = (0..2)
        .map(|_| {
            let mut holder = BufReader::new(server.ask(FLOWS));
            assert_eq!(Reply::head(&mut holder).status, 200);
            holder
        })
        .collect();
    let waiting: Vec<_> = (0..900)
        .map(|_| server.ask(&format!("{FLOWS}?limit=1")))
        .collect();
    // However many wait, the runtime is free to answer.
    server.get(&format!("{FLOWS}?limit=x")).problem(400, &[]);
    drop(holders);
    for tcp in waiting {
        let reply = Reply::read(tcp);
        reply.is_complete();
    }
}

/// A server that may open no more than 60 files and sockets, and would wait for idle clients for ever.
fn with_few_descriptors(folder: &Path, database: &Path) -> Server {
    std::fs::write(
        folder.join("patient.toml"),
        "[server]\nhead_seconds = 600\n",
    )
    .unwrap();
    let serve = r#"ulimit -n 60; exec "$0" serve --config patient.toml --listen 127.0.0.1:0 --database "$1""#;
    let mut command = Command::new("sh");
    let flows = env!("CARGO_BIN_EXE_flows");
    command
        .current_dir(folder)
        .args(["-c", serve, flows])
        .arg(database);
    Server::start(folder, &mut command)
}

#[test]
fn many_clients_are_served_with_few_descriptors() {
    let folder = folder();
    let server = with_few_descriptors(folder.path(), &generated(folder.path(), 100_000));
    for path in [format!("{FLOWS}?limit=1"), format!("{FLOWS}.csv")] {
        // They keep their connections, and ask no more.
        let get = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
        let clients: Vec<_> = (0..120).map(|_| server.send(get.as_bytes())).collect();
        let readers = clients.iter().map(|tcp| {
            let tcp = tcp.try_clone().unwrap();
            std::thread::spawn(move || Reply::read(tcp))
        });
        for reader in readers.collect::<Vec<_>>() {
            let reply = reader.join().unwrap();
            assert!(
                reply.complete && [200, 503].contains(&reply.status),
                "{}",
                reply.status
            );
        }
        for _ in 0..5 {
            assert_eq!(server.get(&format!("{FLOWS}?limit=1")).status, 200);
        }
        drop(clients);
    }
}

both!(sigterm_lets_running_streams_finish);
fn sigterm_lets_running_streams_finish(store: Store) {
    let folder = folder();
    let mut server = store.serve(folder.path(), &generated(folder.path(), 300_000), "");
    let mut reader = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
    assert_eq!(Reply::head(&mut reader).status, 200);
    let idle = server.connect();
    server.signal("TERM");
    server.logged(&["stopping"]);
    wait_until("it accepts no more", || {
        std::net::TcpStream::connect(server.address).is_err()
    });
    drop(idle);
    let mut records = 0;
    loop {
        let chunk = chunk(&mut reader).expect("the stream may finish");
        if chunk.is_empty() {
            break;
        }
        records += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    assert_eq!(records, 300_001);
    assert_eq!(server.ended(), Some(0));
}

both!(streams_that_do_not_finish_in_time_are_broken);
fn streams_that_do_not_finish_in_time_are_broken(store: Store) {
    let folder = folder();
    let database = generated(folder.path(), 300_000);
    let mut server = store.serve(folder.path(), &database, "[server]\nshutdown_seconds = 1");
    let mut reader = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
    assert_eq!(Reply::head(&mut reader).status, 200);
    server.signal("INT");
    assert_eq!(server.ended(), Some(0));
    let mut complete = false;
    while let Some(chunk) = chunk(&mut reader) {
        complete = chunk.is_empty();
        if complete {
            break;
        }
    }
    assert!(!complete, "a stream that was cut off has no end");
}

both!(a_second_signal_quits_at_once);
fn a_second_signal_quits_at_once(store: Store) {
    let folder = folder();
    let mut server = store.serve(folder.path(), &generated(folder.path(), 300_000), "");
    let mut reader = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut reader).status, 200);
    server.signal("TERM");
    server.logged(&["stopping"]);
    let second = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(), Some(1));
    assert!(
        second.elapsed() < Duration::from_secs(5),
        "it would have waited for 30"
    );
    let _ = reader.read_to_end(&mut Vec::new());
}
