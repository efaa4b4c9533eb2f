//! What a line of the log says, whatever a client sends. A standard error that cannot be written: lines may be
//! lost, requests never.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{
    FLOWS, Reply, Server, assert_has, database, flows, folder, ten_records, wait_until,
};

fn serve(folder: &Path) -> Command {
    ten_records(folder);
    flows(
        folder,
        &["serve", "--database", "ten.db", "--listen", "127.0.0.1:0"],
    )
}

/// A command of the shell's, then the server in its place.
fn serve_after(prelude: &str, folder: &Path) -> Command {
    let serve = serve(folder);
    let mut shell = Command::new("sh");
    let script = format!("{prelude}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(serve.get_program());
    shell.args(serve.get_args()).current_dir(folder).env_clear();
    shell
}

/// Sends these requests over one connection, and reads all replies; each has its number for an id.
fn ask(server: &Server, requests: std::ops::Range<u32>) {
    let mut tcp = BufReader::new(server.connect());
    for request in requests {
        let head = format!(
            "GET {FLOWS}?limit=1 HTTP/1.1\r\nHost: test\r\nX-Request-Id: r{request:05}\r\n\r\n"
        );
        tcp.get_mut().write_all(head.as_bytes()).unwrap();
        let (mut length, mut line) = (0, String::new());
        tcp.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 200 OK\r\n", "request {request}");
        while line != "\r\n" {
            line.clear();
            tcp.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        tcp.read_exact(&mut body).unwrap();
        assert!(body.starts_with(b"[") && body.ends_with(b"]\n"));
    }
}

/// The numbers of the requests in the log, each line once and in their order, and how many lines are
/// said to be lost; from a log that has nothing else.
fn numbers(log: &str) -> (Vec<u32>, u32) {
    let (mut numbers, mut lost) = (Vec::new(), 0);
    for line in log.lines() {
        if let Some((_, number)) = line.split_once("lost here, which could not be written: ") {
            lost += number.parse::<u32>().unwrap();
        } else if let Some((_, rest)) = line.split_once("id=\"r") {
            numbers.push(rest[..5].parse().unwrap());
        }
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{log}");
    (numbers, lost)
}

#[test]
fn a_full_disk_costs_no_request() {
    let folder = folder();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut server = Server::logging_to(full, folder.path(), &mut serve(folder.path()));
    ask(&server, 0..50);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_reader_of_the_log_that_leaves_costs_no_request() {
    let folder = folder();
    let (reader, writer) = io::pipe().unwrap();
    let mut server = Server::logging_to(writer, folder.path(), &mut serve(folder.path()));
    ask(&server, 0..10);
    drop(reader);
    ask(&server, 10..50);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_costs_no_request_and_tells_what_is_lost_when_it_is_read() {
    let folder = folder();
    let (reader, writer) = io::pipe().unwrap();
    let mut command = serve(folder.path());
    let mut server = Server::logging_to(writer, folder.path(), &mut command);
    // The test's own end.
    drop(command);
    // A pipe holds 64 KiB, the server 1 MiB more; a line has some 200 bytes.
    ask(&server, 0..8000);
    let mut reader = BufReader::new(reader);
    let (mut log, mut line) = (String::new(), String::new());
    while !line.contains("could not be written") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "{log}");
        log.push_str(&line);
    }
    let before = log.len();
    ask(&server, 8000..8010);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    reader.read_to_string(&mut log).unwrap();
    let (told, lost) = numbers(&log);
    assert_eq!(told.len() as u32 + lost, 8010);
    assert!(lost > 100, "{lost}");
    // Where they are missing, and nowhere else.
    let (first, _) = numbers(&log[..before]);
    assert_eq!(first, (0..8000 - lost).collect::<Vec<_>>());
    assert_eq!(told[first.len()..], (8000..8010).collect::<Vec<_>>());
    // All that was queued is there.
    assert_has(log.lines().last().unwrap(), &["stopping"]);
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_a_server_from_stopping() {
    let folder = folder();
    let (reader, writer) = io::pipe().unwrap();
    let mut server = Server::logging_to(writer, folder.path(), &mut serve(folder.path()));
    ask(&server, 0..1000);
    let stop = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(stop.elapsed() < Duration::from_secs(10));
    drop(reader);
}

#[test]
fn a_log_as_large_as_files_may_be_costs_no_request_and_tells_what_is_lost_when_there_is_room() {
    let folder = folder();
    let log = folder.path().join("server.log");
    let stderr = File::options().append(true).create(true).open(&log);
    // Beyond the limit a write is torn first; then it fails, with a signal that ends a process.
    let limited = &mut serve_after("ulimit -f 200", folder.path());
    let mut server = Server::logging_to(stderr.unwrap(), folder.path(), limited);
    ask(&server, 0..1000);
    server.logged(&["id=\"r00000\""]);
    let full = server.log();
    assert!(!full.ends_with('\n') && full.len() > 50_000, "{full}");
    File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    ask(&server, 1000..1001);
    server.logged(&["id=\"r01000\""]);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let (told, lost) = numbers(&full[..full.rfind('\n').unwrap()]);
    let (later, lost_later) = numbers(&fs::read_to_string(&log).unwrap());
    // What was still on its way when there was room again may be there, too.
    assert_eq!((lost, later.last()), (0, Some(&1000)));
    assert!(lost_later > 0);
    assert_eq!((told.len() + later.len()) as u32 + lost_later, 1001);
}

#[test]
fn a_log_that_is_closed_costs_no_request() {
    let folder = folder();
    let nothing = std::process::Stdio::null();
    let mut closed = serve_after("exec 2>&-", folder.path());
    let mut server = Server::logging_to(nothing, folder.path(), &mut closed);
    ask(&server, 0..50);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn lost_lines_are_told_in_json_too() {
    let folder = folder();
    let (reader, writer) = io::pipe().unwrap();
    let mut command = serve(folder.path());
    command.args(["--log-format", "json"]);
    let mut server = Server::logging_to(writer, folder.path(), &mut command);
    drop(command);
    ask(&server, 0..8000);
    let (mut reader, mut line, mut lines) = (BufReader::new(reader), String::new(), 0);
    let lost = loop {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(lost) = line["lost"].as_u64() {
            assert_eq!(line["level"], "WARN");
            assert!(line["timestamp"].as_str().unwrap().starts_with("20"));
            break lost;
        }
        lines += 1;
    };
    assert_eq!(lines + lost, 8000);
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}

/// What a client may send to be taken for more than it is.
const HOSTILE: [&str; 10] = [
    "\n2026-01-01T00:00:00.0Z ERROR forged=1",
    "\r\nforged",
    "\u{1b}[31mred",
    "\u{9b}31m",
    "\" client=6.6.6.6 x=\"",
    "\\\" client=6.6.6.6",
    "\",\"client\":\"6.6.6.6\"}\n{\"a\":\"",
    "a\u{2028}b\u{2029}c\u{85}d",
    "a\u{202e}b\u{2066}c\u{200f}",
    "\u{0}\u{7f}\u{8}",
];

/// Everything that a request has, with `hostile` in it, as it is and encoded.
fn hostile_requests(hostile: &[u8]) -> Vec<Vec<u8>> {
    let encoded: String = hostile.iter().map(|byte| format!("%{byte:02x}")).collect();
    let head = b" HTTP/1.1\r\nHost: t\r\nConnection: close\r\n";
    let request = |url: &[u8]| [b"GET ", url, head, b"\r\n"].concat();
    let mut requests = vec![
        request(&[b"/", hostile].concat()),
        request(&[FLOWS.as_bytes(), b"?src_comp=", hostile].concat()),
        [hostile, b" / HTTP/1.1\r\nHost: t\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1", hostile, b"\r\nHost: t\r\n\r\n"].concat(),
        [
            b"GET / HTTP/1.1\r\nHost: ",
            hostile,
            b"\r\nConnection: close\r\n\r\n",
        ]
        .concat(),
    ];
    for url in [
        format!("/{encoded}"),
        format!("{FLOWS}{encoded}"),
        format!("{FLOWS}.{encoded}"),
        format!("{FLOWS}?{encoded}=1"),
        format!("{FLOWS}?limit={encoded}"),
        format!("{FLOWS}?after={encoded}"),
        format!("{FLOWS}?columns={encoded}"),
        format!("{FLOWS}?format={encoded}"),
        format!("{FLOWS}?src_comp={encoded}"),
        format!("{FLOWS}?src_comp=in.({encoded},b)&dst_comp=like.{encoded}*"),
        format!("/api/v1/schema/{encoded}"),
    ] {
        requests.push(request(url.as_bytes()));
    }
    // A header has no line breaks: those would end it.
    let mut line = hostile.to_vec();
    line.retain(|byte| !b"\r\n\0".contains(byte));
    for name in [
        "x-request-id",
        "traceparent",
        "forwarded",
        "x-forwarded-for",
        "accept",
        "accept-encoding",
        "user-agent",
    ] {
        let lines = [name.as_bytes(), b": ", &line, b"\r\n\r\n"].concat();
        requests.push([format!("GET {FLOWS}?limit=1").as_bytes(), head, &lines].concat());
    }
    requests
}

/// The fields of a line that is not JSON: `name=value`, where a value with a space is in quotes.
fn fields(line: &str) -> Vec<(String, String)> {
    let (mut fields, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for c in line.chars() {
        let last = fields.last_mut().unwrap();
        match c {
            ' ' if !quoted => fields.push(String::new()),
            _ => last.push(c),
        }
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
    }
    let pair = |field: String| {
        let (name, value) = field.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    fields.into_iter().filter_map(pair).collect()
}

#[test]
fn nothing_that_a_client_sends_leaves_its_field() {
    let folder = folder();
    let ten = ten_records(folder.path());
    for format in ["text", "json"] {
        let configuration = format!(
            "[server]\nhead_seconds = 1\nidle_seconds = 1\nproxies = [\"127.0.0.1\"]\n[log]\nformat = \"{format}\""
        );
        let mut server = Server::with(folder.path(), &ten, &configuration);
        let hostile = HOSTILE.map(str::as_bytes);
        let invalid: [&[u8]; 2] = [b"\xff\xfe\x80", b"a\xc2"];
        let mut asked = 0;
        for request in hostile
            .into_iter()
            .chain(invalid)
            .flat_map(hostile_requests)
        {
            let mut tcp = server.send(&request);
            let _ = tcp.read_to_end(&mut Vec::new());
            asked += 1;
        }
        server.signal("TERM");
        assert_eq!(server.ended(), Some(0));
        let log = server.log();
        // At most one line each, and most have one.
        let lines: Vec<_> = log.split('\n').collect();
        assert!(
            (asked / 2..=asked + 3).contains(&lines.len()),
            "{}",
            lines.len()
        );
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let hidden = |c: char| {
                let turns_or_breaks = "\u{200f}\u{2028}\u{2029}\u{202e}\u{2066}";
                c.is_control() || turns_or_breaks.contains(c)
            };
            assert!(!line.contains(hidden), "{line:?}");
            assert!(
                line.contains("stopping") || line.contains("client"),
                "{line}"
            );
            if line.contains("stopping") {
                continue;
            }
            let client = if format == "json" {
                let line: Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["level"], "INFO", "{line}");
                line["client"].as_str().unwrap().to_owned()
            } else {
                assert!(
                    line.starts_with("20") && line.contains("Z  INFO id="),
                    "{line}"
                );
                let fields = fields(line);
                let mut clients = fields.iter().filter(|(name, _)| name == "client");
                let (_, client) = clients.next().unwrap();
                assert!(clients.next().is_none(), "{line}");
                assert!(!fields.iter().any(|(name, _)| name == "forged"), "{line}");
                client.clone()
            };
            assert_eq!(client, "127.0.0.1", "{line}");
        }
    }
}

#[test]
fn a_line_says_who_asked_for_what_and_what_came_of_it() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let configuration = "[server]\nproxies = [\"10.0.0.0/8\", \"127.0.0.1\"]\n\
                         [log]\nformat = \"json\"";
    let server = Server::with(folder.path(), &ten, configuration);
    let line = |parts: &[&str]| -> Value { serde_json::from_str(&server.logged(parts)).unwrap() };
    let id = "0af7651916cd43dd8448eb211c80319c";
    let many: Vec<_> = (0..300).map(|n| n.to_string()).collect();
    let many = many.join(",");
    let query = format!(
        "scanned_after=0&scanned_before=99&limit=5&format=csv&columns=time,src_comp\
         &protocol=gte.6&src_comp=in.(C1,%22C%20%2C2%22)&dst_comp=like.C*&byte_count=in.({many})\
         &dst_port=ne.{}",
        "x".repeat(300)
    );
    server.with_head(
        "GET",
        &format!("{FLOWS}?{query}"),
        &format!(
            "X-Request-Id: whole\r\nAccept-Encoding: gzip\r\n\
             Forwarded: for=6.6.6.6, for=192.0.2.7;proto=https, for=10.1.1.1\r\n\
             traceparent: 00-{id}-b7ad6b7169203331-01\r\n"
        ),
    );
    let whole = line(&["\"whole\""]);
    for (field, value) in [
        ("level", "INFO"),
        ("client", "192.0.2.7"),
        ("proxy", "127.0.0.1"),
        ("trace", id),
        ("parent", "b7ad6b7169203331"),
        ("stream", "flows"),
        ("format", "csv"),
        ("coding", "gzip"),
        ("window", "(0..99] limit 5"),
        ("columns", "time,src_comp"),
        ("ended", "complete"),
    ] {
        assert_eq!(whole[field], value, "{field}: {whole}");
    }
    assert_eq!(whole["status"], 200);
    let filters = whole["filters"].as_str().unwrap();
    let beginning =
        "protocol=gte.6&src_comp=in.(C1,C%20%2C2)&dst_comp=like.C*&byte_count=in.(0,1,2,";
    assert!(filters.starts_with(beginning), "{filters}");
    assert_has(filters, &["9,…290 more)&dst_port=ne.xxx"]);
    assert!(filters.ends_with("x…") && filters.len() < 300, "{filters}");
    // What has no meaning is not taken over.
    server.with_head(
        "GET",
        FLOWS,
        "X-Request-Id: plain\r\ntraceparent: 00-0-0-00\r\n",
    );
    let plain = line(&["\"plain\""]);
    for field in ["trace", "parent", "proxy", "filters", "columns", "database"] {
        assert!(plain[field].is_null(), "{plain}");
    }
    assert_eq!(
        (&plain["client"], &plain["records"]),
        (&"127.0.0.1".into(), &10.into())
    );
}

#[test]
fn levels_are_by_whose_fault_it_is_and_reload() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, a);
         CREATE INDEX t_at ON t (at);
         INSERT INTO t VALUES (1, 10, 'no integer');",
    );
    let stream = "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"at\"\nid = \"id\"\n\
                  columns = [{ name = \"a\", type = \"integer\" }]\n";
    let configuration = |level: &str| format!("[log]\nlevel = \"{level}\"\n{stream}");
    let server = Server::with(folder.path(), &path, &configuration("info"));
    let ask = |query: &str| -> Reply { server.get(&format!("/api/v1/stream/t?{query}")) };
    assert_eq!(ask("limit=1").status, 500);
    server.logged(&[
        "ERROR",
        "client=127.0.0.1",
        "status=500",
        "window=\"(..] limit 1\"",
    ]);
    assert_eq!(ask("limit=x1").status, 400);
    server.logged(&[" INFO", "limit=x1", "status=400", "method=\"GET\""]);
    // A journal's mode in which readers wait for writers.
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(ask("limit=3").status, 503);
    server.logged(&[" WARN", "status=503", "window=\"(..] limit 3\""]);
    writer.execute_batch("ROLLBACK").unwrap();
    fs::write(folder.path().join("test.toml"), configuration("error")).unwrap();
    server.signal("HUP");
    wait_until("the level has changed", || {
        let before = server.log().lines().count();
        assert_eq!(ask("limit=x2").status, 400);
        std::thread::sleep(Duration::from_millis(100));
        server.log().lines().count() == before
    });
    assert_eq!(ask("limit=4").status, 500);
    server.logged(&["ERROR", "limit 4"]);
    // A flag counts for more than the file.
    let arguments = ["serve", "--config", "test.toml", "--database", "made.db"];
    let flags = [
        "--listen",
        "127.0.0.1:0",
        "--log-level",
        "warn",
        "--log-format",
        "json",
    ];
    let mut command = flows(folder.path(), &[&arguments[..], &flags].concat());
    let server = Server::start(folder.path(), &mut command);
    assert_eq!(server.get("/api/v1/stream/t?limit=0&a=x").status, 400);
    assert_eq!(server.get("/api/v1/stream/t?limit=1").status, 500);
    let line = server.logged(&["\"status\":500"]);
    assert_eq!(
        serde_json::from_str::<Value>(&line).unwrap()["level"],
        "ERROR"
    );
    assert_eq!(
        server.log().lines().count(),
        1 + server.log().matches("WARN").count()
    );
    let wrong = [&arguments[..3], &["--log-level", "loud"]].concat();
    let ran = crate::harness::run(folder.path(), &wrong);
    assert_eq!(ran.code, Some(2));
    assert_has(&ran.stderr, &["error or warn or info or debug"]);
}
