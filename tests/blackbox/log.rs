//! A standard error that cannot be written: lines may be lost, requests never.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{FLOWS, Server, assert_has, flows, folder, ten_records};

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
