//! Under a service manager: what it is told, and the sockets that it passes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    FLOWS, PATIENCE, Ran, Reply, Server, assert_has, flows, folder, python, ten_records,
};

const SERVE: [&str; 5] = ["serve", "--config", "test.toml", "--database", "ten.db"];

/// What the service manager is told next, as lines.
fn told(manager: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer).unwrap();
    let text = std::str::from_utf8(&buffer[..length]).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_service_manager_is_told_how_it_goes() {
    let folder = folder();
    ten_records(folder.path());
    fs::write(folder.path().join("test.toml"), "").unwrap();
    let manager = UnixDatagram::bind(folder.path().join("manager")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut serve = flows(
        folder.path(),
        &[&SERVE[..], &["--listen", "127.0.0.1:0"]].concat(),
    );
    serve.env("NOTIFY_SOCKET", folder.path().join("manager"));
    let mut server = Server::start(folder.path(), &mut serve);
    let serving = [
        "READY=1".to_owned(),
        format!("STATUS=serving at {}", server.address),
    ];
    assert_eq!(told(&manager), serving);

    let reloads = |configuration: &str| {
        fs::write(folder.path().join("test.toml"), configuration).unwrap();
        server.signal("HUP");
        let told = told(&manager);
        assert_eq!(told[0], "RELOADING=1");
        let now = told[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(now.parse::<u64>().unwrap() > 0);
    };
    reloads("[compression]\nzstd_level = 2\n");
    assert_eq!(told(&manager), serving);
    reloads("[compression]\nzstd_level = 200\n");
    let wrong = told(&manager);
    assert_eq!(wrong[0], "READY=1");
    assert_has(&wrong[1], &["STATUS=serving what it did", "is wrong"]);

    server.signal("TERM");
    assert_eq!(told(&manager)[0], "STOPPING=1");
    assert_eq!(server.ended(), Some(0));
}

#[test]
fn a_service_manager_that_is_gone_is_logged() {
    let folder = folder();
    ten_records(folder.path());
    fs::write(folder.path().join("test.toml"), "").unwrap();
    let mut serve = flows(
        folder.path(),
        &[&SERVE[..], &["--listen", "127.0.0.1:0"]].concat(),
    );
    serve.env("NOTIFY_SOCKET", folder.path().join("nobody"));
    // Sockets that are another process' are not ours.
    serve.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let server = Server::start(folder.path(), &mut serve);
    server.logged(&["WARN", "NOTIFY_SOCKET", "cannot be told"]);
    server.document(FLOWS);
}

/// The command with sockets of these kinds.
fn activated(folder: &Path, kinds: &str) -> Command {
    ten_records(folder);
    fs::write(folder.join("test.toml"), "").unwrap();
    let mut activated = python("activate.py");
    activated.current_dir(folder).arg(kinds);
    activated.arg(env!("CARGO_BIN_EXE_flows")).args(SERVE);
    activated
}

#[test]
#[ignore = "needs tests/.venv; run by tests/run"]
fn sockets_that_are_passed_take_the_place_of_the_address() {
    let folder = folder();
    let mut child = activated(folder.path(), "tcp,tcp")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let addresses = line.trim_end().strip_prefix("listening on ").unwrap();
    let addresses: Vec<_> = addresses.split(", ").collect();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let mut get =
            std::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        let head = format!("GET {FLOWS} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut get, head.as_bytes()).unwrap();
        assert_eq!(Reply::read(get).status, 200);
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
#[ignore = "needs tests/.venv; run by tests/run"]
fn what_is_no_tcp_socket_that_listens_is_refused() {
    for (kinds, number) in [
        ("udp", "socket 1"),
        ("tcp,unix", "socket 2"),
        ("tcp,connected", "socket 2"),
        ("file", "socket 1"),
    ] {
        let folder = folder();
        let ran = Ran::from(activated(folder.path(), kinds).output().unwrap());
        ran.failed(
            2,
            &[
                number,
                "LISTEN_FDS",
                "must be a TCP socket that listens",
                "Accept=no",
            ],
        );
    }
}

#[test]
#[ignore = "needs tests/.venv; run by tests/run"]
fn sockets_that_others_can_reach_need_tokens_too() {
    let folder = folder();
    let ran = Ran::from(activated(folder.path(), "tcp,any").output().unwrap());
    ran.failed(2, &["can reach 0.0.0.0", "insecure = true"]);
}
