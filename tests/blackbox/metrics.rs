//! `/metrics`: each ending is provoked, and its counter read.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Reply, Server, assert_has, folder, generated, python, ten_records, wait_until,
};

/// The value of the one sample that begins with this name and has all these labels.
fn sample(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let is_it = |line: &&str| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
    };
    let mut found = text.lines().filter(is_it);
    let line = found.next()?;
    assert!(
        found.next().is_none(),
        "{name} {labels:?} is not one: {text}"
    );
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Where metrics are.
pub(crate) struct Watched(SocketAddr);

impl Watched {
    /// The listener that is for nothing else.
    pub(crate) fn apart(server: &Server) -> Watched {
        let line = server.logged(&["metrics and health at http://"]);
        let address = line.rsplit("http://").next().unwrap();
        Watched(address.trim().parse().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        let mut tcp = TcpStream::connect(self.0).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        tcp.write_all(head.as_bytes()).unwrap();
        Reply::read(tcp)
    }

    fn metrics(&self) -> String {
        let reply = self.get("/metrics");
        assert_eq!((reply.status, reply.complete), (200, true));
        reply.body
    }
}

#[track_caller]
fn becomes(watched: &Watched, name: &str, labels: &[&str], value: f64) {
    let mut text = String::new();
    wait_until(&format!("{name} {labels:?} is {value}"), || {
        text = watched.metrics();
        sample(&text, name, labels) == Some(value)
    });
}

const REQUESTS: &str = "flows_requests_total";

#[test]
fn each_ending_is_counted() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    // Breaks each stream that comes to it.
    let wrong = "UPDATE flows SET byte_count = 'lots' WHERE id = 250000";
    Connection::open(&path)
        .unwrap()
        .execute_batch(wrong)
        .unwrap();
    let configuration = "[server]\nstall_seconds = 1\nshutdown_seconds = 2\n\
                         [metrics]\nlisten = \"127.0.0.1:0\"";
    let mut server = Server::with(folder.path(), &path, configuration);
    let watched = Watched::apart(&server);

    assert_eq!(server.get(&format!("{FLOWS}.csv?limit=3")).status, 200);
    let gzip = "Accept-Encoding: gzip\r\n";
    assert_eq!(
        server
            .with_head("GET", &format!("{FLOWS}?limit=3"), gzip)
            .status,
        200
    );
    let complete = ["ending=\"complete\"", "stream=\"flows\"", "status=\"200\""];
    becomes(
        &watched,
        REQUESTS,
        &[&complete[..], &["\"csv\"", "coding=\"identity\""]].concat(),
        1.0,
    );
    becomes(
        &watched,
        REQUESTS,
        &[&complete[..], &["\"json\"", "coding=\"gzip\""]].concat(),
        1.0,
    );
    let csv = ["stream=\"flows\"", "format=\"csv\""];
    becomes(&watched, "flows_sent_records_total", &csv, 3.0);
    let document = server.document(&format!("{FLOWS}.csv?limit=3"));
    becomes(
        &watched,
        "flows_sent_bytes_total",
        &csv,
        2.0 * document.len() as f64,
    );

    // A stream that breaks, and one whose status says so.
    assert!(!server.get(&format!("{FLOWS}.csv")).complete);
    becomes(
        &watched,
        REQUESTS,
        &["ending=\"failed\"", "status=\"200\"", "\"csv\""],
        1.0,
    );
    server
        .get(&format!("{FLOWS}.csv?id=gte.250000&limit=1"))
        .problem(500, &["lots"]);
    becomes(
        &watched,
        REQUESTS,
        &["status=\"500\"", "stream=\"flows\""],
        1.0,
    );
    // What is not for a stream that there is, or says nothing of a format.
    assert_eq!(server.get("/api/v1/stream/made%20up").status, 404);
    assert_eq!(server.get("/api/v1/streams").status, 200);
    assert_eq!(server.get(&format!("{FLOWS}?made=up")).status, 400);
    assert_eq!(
        server.raw("GET /f?n=>5 HTTP/1.1\r\nHost: t\r\n\r\n").status,
        400
    );
    becomes(&watched, REQUESTS, &["stream=\"\"", "status=\"404\""], 1.0);
    becomes(&watched, REQUESTS, &["stream=\"\"", "status=\"200\""], 1.0);
    becomes(
        &watched,
        REQUESTS,
        &["stream=\"flows\"", "status=\"400\"", "format=\"\""],
        1.0,
    );
    becomes(&watched, REQUESTS, &["stream=\"\"", "status=\"400\""], 1.0);

    // A client that leaves, and one that takes nothing.
    let mut leaves = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut leaves).status, 200);
    becomes(&watched, "flows_streams_running", &[], 1.0);
    becomes(
        &watched,
        "flows_pool_connections_in_use",
        &["[database]"],
        1.0,
    );
    drop(leaves);
    becomes(
        &watched,
        REQUESTS,
        &["ending=\"client_left\"", "status=\"200\""],
        1.0,
    );
    becomes(&watched, "flows_streams_running", &[], 0.0);
    let stalls = server.ask(FLOWS);
    becomes(
        &watched,
        REQUESTS,
        &["ending=\"stalled\"", "status=\"200\""],
        1.0,
    );
    drop(stalls);
    let lost = watched.metrics();
    assert_eq!(sample(&lost, "flows_log_lines_lost_total", &[]), Some(0.0));
    assert_has(
        &lost,
        &[
            "flows_build_info{version=\"0",
            "flows_start_time_seconds 1",
            "flows_slices_running 0",
        ],
    );
    assert!(sample(&lost, "flows_pool_connections_idle", &[]).unwrap() >= 1.0);
    assert_eq!(
        sample(&lost, "flows_pool_connections_most", &[]),
        Some(64.0)
    );
    assert_eq!(sample(&lost, "flows_pool_requests_waiting", &[]), Some(0.0));
    let streams = sample(
        &lost,
        "flows_request_duration_seconds_count",
        &["stream=\"flows\""],
    );
    let sum: f64 = lost
        .lines()
        .filter(|line| line.starts_with(REQUESTS) && line.contains("stream=\"flows\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(streams, Some(sum));

    // Counters outlast a new configuration, and its requests are added.
    server.signal("HUP");
    server.logged(&["read again"]);
    assert_eq!(server.get(&format!("{FLOWS}.csv?limit=3")).status, 200);
    becomes(
        &watched,
        "flows_sent_records_total",
        &csv,
        9.0 + broken_records(&lost),
    );
    // Neither are scrapes logged, nor are they where the streams are.
    assert_eq!(server.get("/metrics").status, 404);
    assert!(
        !server.log().contains("/metrics\" status=200"),
        "{}",
        server.log()
    );
    assert_eq!(watched.get(FLOWS).status, 404);

    // A stream that the server breaks, while someone still watches.
    let mut breaks = BufReader::new(server.ask(FLOWS));
    assert_eq!(Reply::head(&mut breaks).status, 200);
    let keeps = std::thread::spawn(move || {
        // It takes a little at a time, so that it does not stall.
        let mut part = [0; 1 << 16];
        while std::io::Read::read(&mut breaks, &mut part).is_ok_and(|read| read > 0) {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    });
    server.signal("TERM");
    server.logged(&["stopping"]);
    assert_eq!(watched.get("/metrics").status, 200);
    server.logged(&["broken: the server stopped"]);
    assert_eq!(server.ended(), Some(0));
    keeps.join().unwrap();
}

/// How many records of CSV were sent besides the small ones.
fn broken_records(text: &str) -> f64 {
    sample(text, "flows_sent_records_total", &["format=\"csv\""]).unwrap() - 6.0
}

#[test]
fn metrics_are_where_the_streams_are_unless_they_have_a_place_of_their_own() {
    let folder = folder();
    let server = Server::of(folder.path(), &ten_records(folder.path()));
    let reply = server.get("/metrics");
    assert_eq!((reply.status, reply.complete), (200, true));
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(reply.header("content-type"), media_type);
    assert_eq!(reply.header("cache-control"), "no-store");
    let length = reply.header("content-length").to_owned();
    let head = server.with_head("HEAD", "/metrics", "");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, &length[..])
    );
    assert_eq!(server.with_head("POST", "/metrics", "").status, 405);
    // A connection that waits is one that is open, beside that of who asks.
    let _idle = server.connect();
    let watched = Watched(server.address);
    becomes(&watched, "flows_connections_open", &[], 2.0);
    for _ in 0..5 {
        server.document(&format!("{FLOWS}?limit=1"));
    }
    becomes(
        &watched,
        "flows_request_first_byte_seconds_count",
        &["\"flows\""],
        5.0,
    );
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("[metrics]\nlisten = \"{}\"", address.local_addr().unwrap());
    std::fs::write(folder.path().join("taken.toml"), taken).unwrap();
    let arguments = [
        "serve",
        "--config",
        "taken.toml",
        "--database",
        "ten.db",
        "--listen",
        "127.0.0.1:0",
    ];
    let ran = crate::harness::run(folder.path(), &arguments);
    assert_has(
        &ran.stderr,
        &["cannot listen on", "metrics.listen names another address"],
    );
}

#[test]
#[ignore = "needs the Python of tests/run"]
fn prometheus_own_parser_reads_them() {
    let folder = folder();
    let server = Server::of(folder.path(), &ten_records(folder.path()));
    server.document(&format!("{FLOWS}?limit=1"));
    let text = server.document("/metrics");
    let mut parser = python("metrics.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    parser
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let read = parser.wait_with_output().unwrap();
    assert!(read.status.success());
    let read: serde_json::Value = serde_json::from_slice(&read.stdout).unwrap();
    assert_eq!(read["flows_requests"]["type"], "counter");
    assert_eq!(read["flows_request_duration_seconds"]["type"], "histogram");
    assert_eq!(read["flows_streams_running"]["type"], "gauge");
    assert_eq!(read["flows_sent_records"]["samples"], 1);
    for (name, family) in read.as_object().unwrap() {
        assert!(name.starts_with("flows_"), "{name}");
        assert!(!family["help"].as_str().unwrap().is_empty(), "{name}");
    }
}
