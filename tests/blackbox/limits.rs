//! How much of anything a client may have, and what it gets that wants more.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use socket2::SockRef;

use crate::harness::{
    FLOWS, Reply, Server, chunk, folder, generated, run, ten_records, wait_until,
};
use crate::store::{Store, both};

const GET: &str = "GET /api/v1/stream/flows?limit=0 HTTP/1.1\r\nHost: t\r\n\r\n";

/// Asks for a small document on a connection that is kept.
#[track_caller]
fn ask(tcp: &mut TcpStream) {
    tcp.write_all(GET.as_bytes()).unwrap();
    let reply = Reply::read(tcp.try_clone().unwrap());
    reply.is_complete();
}

/// The server has hung up, and said nothing.
#[track_caller]
fn is_closed(tcp: &mut TcpStream) {
    assert_eq!(tcp.read(&mut [0]).unwrap(), 0);
}

both!(who_has_too_many_connections_is_told_so);
fn who_has_too_many_connections_is_told_so(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let server = store.serve(
        folder.path(),
        &database,
        "[server]\nconnections_per_address = 3",
    );
    let mut kept: Vec<_> = (0..3).map(|_| server.connect()).collect();
    kept.iter_mut().for_each(ask);
    for request in [GET.repeat(2), String::new()] {
        let reply = Reply::read(server.send(request.as_bytes()));
        reply.problem(429, &["3 connections", "server.connections_per_address"]);
        assert_eq!(reply.header("retry-after"), "1");
        assert_eq!(reply.header("connection"), "close");
    }
    // However many come, the log has a line a second of them.
    let start = Instant::now();
    for _ in 0..200 {
        // It may be gone before all is sent.
        let _ = server.connect().write_all(GET.as_bytes());
    }
    let lines = server.log().matches("WARN 429").count() as u64;
    assert!(lines <= 2 + start.elapsed().as_secs(), "{}", server.log());
    server.logged(&["429", "client=127.0.0.1", "server.connections_per_address"]);
    // Others are served, and so is this one when it has fewer.
    ask(&mut server.connect_from([127, 0, 0, 2]));
    drop(kept.pop());
    wait_until("the connection is forgotten", || {
        let mut tcp = server.connect();
        tcp.write_all(GET.as_bytes()).unwrap();
        Reply::read(tcp).status == 200
    });
    kept.iter_mut().for_each(ask);
}

both!(idle_connections_and_half_heads_have_times_of_their_own);
fn idle_connections_and_half_heads_have_times_of_their_own(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let times = |head, idle| format!("[server]\nhead_seconds = {head}\nidle_seconds = {idle}");
    let server = store.serve(folder.path(), &database, &times(60, 1));
    let (mut idle, mut other) = (server.connect(), server.connect());
    let asked = Instant::now();
    ask(&mut idle);
    // What is not idle is not hung up on: half a head.
    ask(&mut other);
    other.write_all(&GET.as_bytes()[..20]).unwrap();
    is_closed(&mut idle);
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    other.write_all(&GET.as_bytes()[20..]).unwrap();
    assert_eq!(Reply::read(other).status, 200);

    // As a SIGHUP says, for the connections that there are, too.
    let mut kept = server.connect();
    ask(&mut kept);
    fs::write(folder.path().join("test.toml"), times(1, 60)).unwrap();
    server.signal("HUP");
    server.logged(&["read again"]);
    ask(&mut kept);
    std::thread::sleep(Duration::from_millis(1500));
    ask(&mut kept);
    std::thread::sleep(Duration::from_millis(1500));
    kept.write_all(&GET.as_bytes()[..20]).unwrap();
    let reply = Reply::read(kept.try_clone().unwrap());
    reply.problem(408, &["server.head_seconds"]);
    is_closed(&mut kept);
}

both!(whoever_does_not_ask_makes_room_for_others);
fn whoever_does_not_ask_makes_room_for_others(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let server = store.serve(
        folder.path(),
        &database,
        "[server]\nconnections = 2\nhead_seconds = 600\nidle_seconds = 600",
    );
    let (mut idle, mut half) = (server.connect(), server.connect());
    ask(&mut idle);
    half.write_all(&GET.as_bytes()[..20]).unwrap();
    let start = Instant::now();
    // The first of these takes the place of the idle one, the others that of half a head.
    let mut others: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for tcp in &mut others {
        ask(tcp);
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    is_closed(&mut idle);
    Reply::read(half).problem(408, &["server.head_seconds"]);
}

both!(a_reply_that_takes_too_long_is_broken);
fn a_reply_that_takes_too_long_is_broken(store: Store) {
    let folder = folder();
    let database = generated(folder.path(), 300_000);
    let server = store.serve(folder.path(), &database, "[server]\nstream_seconds = 1");
    let mut reader = BufReader::new(server.ask(&format!("{FLOWS}.csv")));
    assert_eq!(Reply::head(&mut reader).status, 200);
    // It takes some all the time.
    let mut complete = false;
    while let Some(chunk) = chunk(&mut reader) {
        complete = chunk.is_empty();
        if complete {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    assert!(!complete, "a stream that was broken has no end");
    let error = reader.fill_buf().map(<[u8]>::len);
    assert!(matches!(error, Err(_) | Ok(0)), "{error:?}");
    server.logged(&["broken: it took longer than 1 s (server.stream_seconds)"]);
    assert_eq!(server.get(&format!("{FLOWS}?limit=1")).status, 200);
}

both!(as_many_records_as_are_allowed_are_sent_and_the_next_ones_linked);
fn as_many_records_as_are_allowed_are_sent_and_the_next_ones_linked(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let server = store.serve(folder.path(), &database, "[server]\nrecords = 4");
    for query in ["", "?scanned_after=0&scanned_before=2", "?count=exact"] {
        let problem = server.get(&format!("{FLOWS}{query}"));
        let problem = problem.problem(400, &["all records", "add limit=4", "Link"]);
        assert_eq!(problem["parameter"], "limit");
    }
    server
        .get(&format!("{FLOWS}?limit=5"))
        .problem(400, &["5", "server.records", "limit=4"]);
    let mut path = format!("{FLOWS}.csv?limit=4&csv.header=false");
    let mut records = Vec::new();
    loop {
        let reply = server.get(&path);
        assert_eq!(reply.status, 200, "{}", reply.body);
        records.push(reply.body.lines().count());
        let Some(next) = reply.next(&path) else {
            break;
        };
        path = next;
    }
    assert_eq!(records, [4, 4, 2]);
    let url = format!("http://{}{FLOWS}", server.address);
    let pull = |arguments: &[&str]| {
        let all = [&["pull", &url, "--to", "pulled"][..], arguments].concat();
        run(folder.path(), &all)
    };
    pull(&[]).failed(1, &["400", "server.records", "limit=4", "--max-rows"]);
    pull(&["--max-rows", "4"]).fine();
    // At SIGHUP, for those who are connected already.
    fs::write(folder.path().join("test.toml"), "[server]\nrecords = 5").unwrap();
    server.signal("HUP");
    server.logged(&["read again"]);
    assert_eq!(server.get(&format!("{FLOWS}?limit=5")).status, 200);
}

both!(heads_urls_and_parameters_are_as_large_as_configured);
fn heads_urls_and_parameters_are_as_large_as_configured(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let configuration = "[server]\nhead_bytes = 10000\nurl_bytes = 1000\nparameter_bytes = 320";
    let server = store.serve(folder.path(), &database, configuration);
    let long = |length: usize| {
        let path = format!("{FLOWS}?src_comp=");
        format!("{path}{}", "a".repeat(length - path.len()))
    };
    // A value of a string counts its bytes; others do not.
    server
        .get(&long(1000))
        .problem(400, &["320 bytes", "server.parameter_bytes"]);
    server
        .get(&long(1001))
        .problem(414, &["1000 bytes", "server.url_bytes"]);
    server
        .get(&format!("/{}", "a".repeat(1000)))
        .problem(414, &["server.url_bytes"]);
    assert_eq!(server.get(&long(300)).status, 200);
    let list = |values: usize| {
        let values = vec!["1"; values].join(",");
        server.get(&format!("{FLOWS}?byte_count=in.({values})"))
    };
    assert_eq!(list(10).status, 200);
    list(11).problem(400, &["server.parameter_bytes"]);
    let head = |length: usize| {
        let head = format!("GET {FLOWS}?limit=0 HTTP/1.1\r\nConnection: close\r\nX: ");
        let rest = length - head.len() - 4;
        server.raw(&format!("{head}{}\r\n\r\n", "a".repeat(rest)))
    };
    assert_eq!(head(10_000).status, 200);
    head(10_001).problem(431, &["10000 bytes", "server.head_bytes"]);
}

/// Two streams of as many records, each in a database of its own, and the configuration of both.
fn two_databases(folder: &Path, server: &str, database: &str) -> String {
    let made = generated(folder, 100_000);
    fs::copy(&made, folder.join("other.db")).unwrap();
    let columns = ["src_comp", "src_port", "dst_comp", "dst_port"];
    let columns = columns.map(|name| format!("{{ name = '{name}', type = 'text' }}"));
    let columns = columns.join(", ");
    let stream = |name: &str, database: &str| {
        format!(
            "[[streams]]\nname = '{name}'\ntable = 'flows'\n{database}\ntime = 'time'\nid = 'id'\n\
             columns = [{columns}]\n"
        )
    };
    [
        format!("[server]\n{server}\n[database]\n{database}\n"),
        format!("[databases.other]\npath = 'other.db'\n{database}\n"),
        stream("one", ""),
        stream("two", "database = 'other'"),
    ]
    .concat()
}

both!(streams_of_all_databases_have_places_together);
fn streams_of_all_databases_have_places_together(store: Store) {
    let folder = folder();
    let configuration = two_databases(folder.path(), "streams = 4", "wait_ms = 500");
    let server = store.serve(
        folder.path(),
        &folder.path().join("generated.db"),
        &configuration,
    );
    let large = |stream: &str| {
        let tcp = server.connect();
        SockRef::from(&tcp).set_recv_buffer_size(4096).unwrap();
        let get = format!("GET /api/v1/stream/{stream}.xml HTTP/1.1\r\nHost: t\r\n\r\n");
        (&tcp).write_all(get.as_bytes()).unwrap();
        let mut reader = BufReader::new(tcp);
        (Reply::head(&mut reader), reader)
    };
    // Three of four may be large, whatever the pools have.
    let held: Vec<_> = ["one", "one", "two"].map(large).into_iter().collect();
    assert!(held.iter().all(|(head, _)| head.status == 200));
    let start = Instant::now();
    server
        .get("/api/v1/stream/two.xml")
        .problem(503, &["server.streams"]);
    assert!(start.elapsed() >= Duration::from_millis(450));
    for stream in ["one", "two"] {
        let small = server.get(&format!("/api/v1/stream/{stream}.csv?limit=3"));
        assert_eq!(small.status, 200, "{}", small.body);
    }
    // More, at SIGHUP.
    let more = configuration.replace("streams = 4", "streams = 8");
    fs::write(folder.path().join("test.toml"), more).unwrap();
    server.signal("HUP");
    server.logged(&["read again"]);
    assert_eq!(server.get("/api/v1/stream/two.csv").status, 200);
    drop(held);
    wait_until("all is given back", || {
        server.get("/api/v1/stream/one.csv").status == 200
    });
}

both!(bursts_wait_in_order_and_are_served);
fn bursts_wait_in_order_and_are_served(store: Store) {
    let folder = folder();
    let configuration = two_databases(folder.path(), "streams = 1", "wait_ms = 30000");
    let server = store.serve(
        folder.path(),
        &folder.path().join("generated.db"),
        &configuration,
    );
    let path = |at: usize| format!("/api/v1/stream/{}.csv?limit=2000", ["one", "two"][at % 2]);
    let asked: Vec<_> = (0..100).map(|at| server.ask(&path(at))).collect();
    for tcp in asked {
        let reply = Reply::read(tcp);
        reply.is_complete();
        assert_eq!(reply.body.lines().count(), 2001);
    }
}

#[test]
fn who_waits_for_a_locked_database_holds_no_place_of_others() {
    let folder = folder();
    let configuration = two_databases(
        folder.path(),
        "streams = 4",
        "wait_ms = 20000\nbusy_ms = 4000",
    );
    let database = folder.path().join("generated.db");
    let server = Server::with(folder.path(), &database, &configuration);
    let writer = Connection::open(&database).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let waiting: Vec<_> = (0..20)
        .map(|_| server.ask("/api/v1/stream/one.csv?limit=1"))
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    for query in ["?limit=1", ""] {
        let reply = server.get(&format!("/api/v1/stream/two.csv{query}"));
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    writer.execute_batch("ROLLBACK").unwrap();
    let statuses = waiting.into_iter().map(|tcp| Reply::read(tcp).status);
    assert!(statuses.filter(|status| *status == 200).count() >= 19);
}
