//! How many files and sockets the process may open.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{
    FLOWS, Ran, Reply, Server, flows, folder, generated, ten_records, wait_until,
};

/// The server, in a shell with these limits.
fn serve(limits: &str, folder: &Path) -> Command {
    ten_records(folder);
    let serve = flows(folder, &["serve", "--listen", "127.0.0.1:0"]);
    let mut shell = Command::new("sh");
    let script = format!("{limits}; exec \"$@\"");
    shell.args(["-c", &script, "sh"]).arg(serve.get_program());
    shell.args(serve.get_args()).current_dir(folder).env_clear();
    shell.env("FLOWS__DATABASE__PATH", "ten.db");
    shell
}

fn open(server: &Server) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid()));
    open.unwrap().count()
}

#[test]
fn the_pool_is_bounded_by_what_may_be_open_and_the_log_says_so() {
    let folder = folder();
    let server = Server::start(folder.path(), &mut serve("ulimit -n 60", folder.path()));
    server.logged(&[
        "WARN only 60 files and sockets may be open at once",
        "6 connections to the database instead of 64",
        "22 clients",
        "ulimit -n 404",
        "database.pool_size",
    ]);
    assert_eq!(server.get(FLOWS).status, 200);
}

#[test]
fn more_clients_than_may_be_open_are_served_in_turn() {
    let folder = folder();
    let database = generated(folder.path(), 20_000);
    rusqlite::Connection::open(&database)
        .unwrap()
        .execute_batch("PRAGMA journal_mode = WAL; UPDATE flows SET duration = 1 WHERE id = 1")
        .unwrap();
    let mut serve = serve("ulimit -n 60", folder.path());
    let server = Server::start(folder.path(), serve.env("FLOWS__DATABASE__PATH", &database));
    let ask = |path: &str| {
        let asked: Vec<_> = (0..120).map(|_| server.ask(path)).collect();
        for tcp in asked {
            let reply = Reply::read(tcp);
            reply.is_complete();
            assert!(open(&server) <= 60);
        }
    };
    // Whole tables, sorts, small windows.
    ask(&format!("{FLOWS}.csv"));
    ask(&format!("{FLOWS}.csv?order=id&byte_count=gt.100"));
    ask(&format!("{FLOWS}?limit=1"));
    let log = server.log();
    assert!(
        !log.contains("cannot accept") && !log.contains("Too many"),
        "{log}"
    );
}

#[test]
fn too_little_for_one_connection_is_an_error() {
    let folder = folder();
    let ran = serve("ulimit -n 25", folder.path()).output().unwrap();
    Ran::from(ran).failed(1, &["only 25 files", "at least 26", "ulimit -n"]);
}

#[test]
fn the_limit_is_raised_as_far_as_it_may_be() {
    let folder = folder();
    let server = Server::start(folder.path(), &mut serve("ulimit -S -n 60", folder.path()));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1]);
    assert!(!server.log().contains("WARN"), "{}", server.log());
}

#[test]
#[ignore = "takes more than a minute"]
fn connections_that_were_needed_in_a_burst_are_given_up() {
    let folder = folder();
    // More than sockets hold, so that each stream keeps its connection.
    let database = generated(folder.path(), 200_000);
    let server = Server::of(folder.path(), &database);
    let before = open(&server);
    let streams: Vec<_> = (0..40).map(|_| server.ask(FLOWS)).collect();
    wait_until("many files are open", || open(&server) > before + 120);
    drop(streams);
    // They are given up when idle for a minute, which the pool looks for every half.
    std::thread::sleep(Duration::from_secs(50));
    // Of each, SQLite keeps the database's own descriptor, for the next connection, as long as others
    // hold a lock: to close it would give up theirs.
    wait_until("few files are open", || open(&server) < before + 80);
    assert_eq!(server.get(&format!("{FLOWS}?limit=1")).status, 200);
}
