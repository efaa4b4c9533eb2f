//! `generate`, `formats`, `demo`, `--help`; what `serve` survives.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::harness::{Ran, assert_has, flows, folder, run, signal, ten_records, wait_until};

#[test]
fn help_explains_every_command_and_option() {
    let folder = folder();
    let help = run(folder.path(), &["--help"]).fine();
    assert_has(
        &help,
        &[
            "serve",
            "import",
            "generate",
            "demo",
            "formats",
            "init",
            "check",
            "Exit codes",
        ],
    );
    for (command, options) in [
        ("serve", &["--config", "--database", "--listen"][..]),
        (
            "import",
            &["SOURCE", "--config", "--database", "--append", ".rejected"],
        ),
        ("generate", &["--rows", "--seed"]),
        ("demo", &["--rows", "--listen"]),
        ("token", &["new"]),
        ("formats", &[]),
        ("init", &["DATABASE", "> flows.toml"]),
        ("check", &["--config", "--database", "--all-rows"]),
    ] {
        assert_has(&run(folder.path(), &[command, "--help"]).fine(), options);
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = folder();
    for arguments in [
        &["srve"][..],
        &[],
        &["serve", "--port", "1"],
        &["serve", "--listen", "nowhere"],
        &["generate"],
        &["generate", "--rows", "-1"],
        &["import"],
    ] {
        assert_eq!(run(folder.path(), arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn generated_lines_are_flows_and_the_same_for_a_seed() {
    let folder = folder();
    let generate =
        |arguments: &[&str]| run(folder.path(), &[&["generate"], arguments].concat()).fine();
    let lines = generate(&["--rows", "20000", "--seed", "7"]);
    assert_eq!(lines, generate(&["--rows", "20000", "--seed", "7"]));
    assert_ne!(lines, generate(&["--rows", "20000", "--seed", "8"]));
    let mut last = 0;
    let (mut protocols, mut numbered, mut zero) = (std::collections::BTreeSet::new(), 0, 0);
    for line in lines.lines() {
        let fields: Vec<_> = line.split(',').collect();
        let [
            time,
            duration,
            source,
            from,
            target,
            to,
            protocol,
            packets,
            bytes,
        ] = fields[..]
        else {
            panic!("{line}")
        };
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(number(time) >= last);
        last = number(time);
        zero += u64::from(number(duration) == 0);
        for computer in [source, target] {
            assert!(number(computer.strip_prefix('C').unwrap()) > 0);
        }
        for port in [from, to] {
            numbered += u64::from(port.starts_with('N'));
            number(port.strip_prefix('N').unwrap_or(port));
        }
        protocols.insert(number(protocol));
        assert!(
            number(packets) >= 1 && number(bytes) > number(packets),
            "{line}"
        );
    }
    assert_eq!(lines.lines().count(), 20_000);
    assert!(lines.starts_with("1,") && last == 5_011_199);
    assert_eq!(protocols.into_iter().collect::<Vec<_>>(), [1, 6, 17]);
    assert!((10_000..30_000).contains(&numbered) && (8_000..15_000).contains(&zero));
    assert_eq!(generate(&["--rows", "0"]), "");
    assert_eq!(generate(&["--rows", "1"]).lines().count(), 1);
}

#[test]
fn a_reader_that_goes_away_ends_a_command_quietly() {
    let folder = folder();
    let mut child = flows(folder.path(), &["generate", "--rows", "100000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    // As `| head -n 1` does.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn formats_lists_the_registry() {
    let folder = folder();
    let table = run(folder.path(), &["formats"]).fine();
    let registry = flows_formats::Registry::load().unwrap();
    assert_eq!(table.lines().count(), registry.iter().count() + 1);
    for format in registry.iter() {
        let line = table
            .lines()
            .find(|line| line.starts_with(format.name))
            .unwrap();
        assert_has(
            line,
            &[
                &format.named_by().collect::<Vec<_>>().join(", "),
                &format!(".{}", format.extensions.join(", .")),
                format.summary,
            ],
        );
    }
}

#[test]
fn the_demo_serves_prints_what_to_ask_and_leaves_nothing() {
    let folder = folder();
    let mut child = flows(
        folder.path(),
        &["demo", "--rows", "5000", "--listen", "127.0.0.1:0"],
    )
    .env("TMPDIR", folder.path())
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let mut printed = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().take(5) {
        printed.push(line.unwrap());
    }
    let urls: Vec<_> = printed
        .iter()
        .filter_map(|line| line.split('\'').nth(1))
        .collect();
    assert_eq!(urls.len(), 3, "{printed:?}");
    for url in urls {
        let (address, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut tcp = std::net::TcpStream::connect(address).unwrap();
        let request = format!("GET /{path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut tcp, request.as_bytes()).unwrap();
        let mut reply = String::new();
        tcp.read_to_string(&mut reply).unwrap();
        assert_has(&reply, &["HTTP/1.1 200 OK", "C"]);
    }
    let left = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left(), 1);
    signal(child.id(), "INT");
    wait_until("the demo has ended", || child.try_wait().unwrap().is_some());
    assert_eq!((child.wait().unwrap().code(), left()), (Some(0), 0));
}

#[test]
fn the_demo_looks_for_its_address_before_it_makes_records() {
    let folder = folder();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    // Making so many would take an hour.
    let arguments = ["demo", "--rows", "1000000000", "--listen", &address];
    let mut demo = flows(folder.path(), &arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the demo has ended", || demo.try_wait().unwrap().is_some());
    let ran = Ran::from(demo.wait_with_output().unwrap());
    ran.failed(1, &["cannot listen on", &address, "--listen"]);
}

#[test]
fn a_server_whose_standard_output_is_closed_serves() {
    let folder = folder();
    ten_records(folder.path());
    let log = folder.path().join("server.log");
    let mut server = flows(folder.path(), &["serve", "--database", "ten.db"])
        .args(["--listen", "127.0.0.1:0"])
        .stdout(std::io::pipe().unwrap().1)
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut address = None;
    wait_until("the log tells the address", || {
        let log = std::fs::read_to_string(&log).unwrap();
        let rest = log.split_once("listening on http://").map(|(_, rest)| rest);
        address = rest.and_then(|rest| rest.split(',').next()?.parse().ok());
        address.is_some()
    });
    let address: std::net::SocketAddr = address.unwrap();
    assert!(std::net::TcpStream::connect(address).is_ok());
    signal(server.id(), "TERM");
    assert_eq!(server.wait().unwrap().code(), Some(0));
}
