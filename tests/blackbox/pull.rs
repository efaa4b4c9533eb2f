//! `flows pull`: complete files, each record once, whatever happens in between.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Ran, Server, assert_has, database, flows, folder, generated, is_long, python, run,
    some_time, wait_until,
};
use crate::proxy::{KINDS, Proxy};
use crate::tools::free_port;

const T: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [
        { name = "id", type = "integer" },
        { name = "time", type = "integer" },
        { name = "v", type = "text" },
    ]
"#;

const TABLE: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v TEXT); CREATE INDEX i ON t (time, id);";

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address)
}

/// The stream `t`.
fn url_of(server: &Server) -> String {
    url(server, "/api/v1/stream/t")
}

fn pull(folder: &Path, url: &str, arguments: &[&str]) -> Ran {
    run(
        folder,
        &[&["pull", url, "--to", "pulled"], arguments].concat(),
    )
}

/// The files, in the order of their names, in which they follow one another; nothing else is there.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder.join("pulled")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with(".flows-pull.") {
            assert!(name.ends_with(".json") || name.ends_with(".lock"), "{name}");
            continue;
        }
        let text = fs::read_to_string(folder.join("pulled").join(&name)).unwrap();
        assert!(files.insert(name, text).is_none());
    }
    let mut from = "start".to_owned();
    for (number, name) in (1..).zip(files.keys()) {
        let (_, numbered) = name.split_once('-').unwrap();
        let beginning = format!("{number:010}-{from}-");
        let to = numbered.strip_prefix(&beginning);
        let to = to.unwrap_or_else(|| panic!("{name} does not follow {from}"));
        from = to.split('.').next().unwrap().to_owned();
    }
    files.into_iter().collect()
}

fn all(folder: &Path) -> String {
    files(folder).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn each_run_pulls_what_is_new() {
    let folder = folder();
    let path = generated(folder.path(), 30_000);
    let server = Server::of(folder.path(), &path);
    let url = url(&server, FLOWS);
    let complete = server.document(&format!("{FLOWS}.ndjson"));
    let last = server.get(FLOWS).header("flows-position").to_owned();
    let said = pull(folder.path(), &url, &["--max-rows", "8000"]).fine();
    assert_has(&said, &["pulled 4 files", &format!("up to {last}")]);
    assert_eq!(said.lines().count(), 1);
    let names: Vec<_> = files(folder.path())
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names[0].starts_with("flows-0000000001-start-") && names[0].ends_with(".ndjson"),
        "{names:?}"
    );
    assert_eq!(names.len(), 4);
    assert!(all(folder.path()) == complete);
    let said = pull(folder.path(), &url, &["--max-rows", "8000"]).fine();
    assert_has(&said, &["nothing new in pulled", &format!("up to {last}")]);
    let insert =
        "INSERT INTO flows SELECT id + 30000, time + 10000000, duration, src_comp, src_port,
        dst_comp, dst_port, protocol, packet_count, byte_count FROM flows WHERE id <= 10";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    // A slash at the end changes nothing.
    assert_has(
        &pull(folder.path(), &format!("{url}/"), &[]).fine(),
        &["pulled 1 file,"],
    );
    assert!(all(folder.path()) == server.document(&format!("{FLOWS}.ndjson")));
    // Another order, or format, is another pull.
    pull(folder.path(), &url, &["--format", "csv"]).failed(1, &["--format ndjson"]);
    let other = pull(folder.path(), &url, &["--order", "id"]);
    other.failed(
        1,
        &["pulled holds what was pulled from", "--order time", "--to"],
    );
}

#[test]
fn filters_columns_order_and_format_are_the_requests() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 20_000));
    let url = url(&server, FLOWS);
    let arguments = [
        "--format",
        "csv",
        "--columns",
        "id,protocol,byte_count",
        "--order",
        "id",
        "--max-rows",
        "1000",
        "--filter",
        "protocol=6",
        "--filter",
        "byte_count=gt.1000",
    ];
    pull(folder.path(), &url, &arguments).fine();
    let query = "columns=id,protocol,byte_count&order=id&protocol=6&byte_count=gt.1000";
    let complete = server.document(&format!("{FLOWS}.csv?{query}"));
    let (header, records) = complete.split_once('\n').unwrap();
    let files = files(folder.path());
    // Each file has as many records as it may, of those that the filters let through.
    assert_eq!(files.len(), records.lines().count().div_ceil(1000));
    assert!(files.len() > 2);
    let mut pulled = String::new();
    for (name, text) in files {
        assert!(
            name.starts_with("flows-") && name.ends_with(".csv"),
            "{name}"
        );
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, header);
        pulled += rest;
    }
    assert!(pulled == records);
    assert_has(
        &pull(folder.path(), &url, &arguments).fine(),
        &["nothing new", "up to 20000"],
    );
    // Nothing that a filter lets through is not a file, and is not asked for again.
    let none = ["--filter", "src_comp=nobody", "--to", "none"];
    let ran = run(folder.path(), &[&["pull", &url], &none[..]].concat());
    assert_has(&ran.fine(), &["nothing new in none, up to "]);
}

#[test]
fn errors_have_exit_codes_for_cron() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let server = Server::with(folder.path(), &path, T);
    let stream = url(&server, "/api/v1/stream/t");
    assert_has(
        &pull(folder.path(), &stream, &[]).fine(),
        &["nothing new", "the stream is empty"],
    );
    // A column that there is not is told before there is a record.
    let misspelt = ["pull", &stream, "--to", "m", "--filter", "n=1"];
    run(folder.path(), &misspelt).failed(1, &["400", "no parameter \"n\""]);
    let insert = "INSERT INTO t VALUES (1, 1, 'a')";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    let refused = |path: &str, arguments: &[&str]| {
        let url = url(&server, path);
        run(
            folder.path(),
            &[&["pull", &url, "--to", "x"], arguments].concat(),
        )
    };
    refused("/api/v1/stream/x", &[]).failed(1, &["404", "no stream called \"x\""]);
    refused("/api/v1/stream/t", &["--filter", "n=1"]).failed(1, &["400", "no parameter \"n\""]);
    refused("/api/v1/streams", &[]).failed(1, &["400"]);
    let usage = |arguments: &[&str], part: &str| {
        let ran = run(folder.path(), &[&["pull"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_has(&ran.stderr, &[part]);
    };
    usage(&["ftp://h/t", "--to", "x"], "it must be https://HOST");
    usage(
        &["http://h/t?limit=1", "--to", "x"],
        "without an extension or a query",
    );
    usage(
        &[&stream, "--to", "x", "--format", "cvs"],
        "there is no format \"cvs\"",
    );
    usage(&[&stream, "--to", "x", "--order", "up"], "time or id");
    usage(&[&stream, "--to", "x", "--filter", "n"], "COLUMN=FILTER");
    usage(
        &[&stream, "--to", "x", "--filter", "limit=3"],
        "limit is not a column",
    );
    for bound in ["lt.now", "lte.now-90s"] {
        usage(
            &[&stream, "--to", "x", "--filter", &format!("time={bound}")],
            "would be passed over",
        );
    }
    usage(&[&stream, "--to", "x", "--max-rows", "0"], "--max-rows");
    // Nobody there; a folder that is a file.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = format!("http://{free}/api/v1/stream/t");
    run(folder.path(), &["pull", &gone, "--to", "x"]).failed(75, &["the next run goes on"]);
    let ran = run(folder.path(), &["pull", &stream, "--to", "test.toml"]);
    ran.failed(1, &["cannot pull into test.toml"]);
    fs::write(folder.path().join("pulled/.flows-pull.json"), "{").unwrap();
    pull(folder.path(), &stream, &[]).failed(1, &[".flows-pull.json is not a state"]);
}

#[test]
fn two_runs_at_once_are_one() {
    let folder = folder();
    // A server that never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/stream/t", silent.local_addr().unwrap());
    let arguments = ["pull", &url, "--to", "pulled"];
    let mut first = flows(folder.path(), &arguments)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _asked = silent.accept().unwrap();
    run(folder.path(), &arguments).failed(75, &["another run is pulling into pulled"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

/// Runs a statement on a database.
fn execute(path: &Path, statement: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(statement).unwrap();
}

#[test]
fn a_record_that_breaks_a_stream_is_named_wherever_it_is() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let server = Server::of(folder.path(), &path);
    let url = url(&server, FLOWS);
    let kept = "CREATE TABLE kept AS SELECT id, byte_count FROM flows WHERE id IN (10, 250000);
        UPDATE flows SET protocol = 6 WHERE id IN (10, 250000)";
    execute(&path, kept);
    let spoil = |id: u64| {
        let spoil = format!("UPDATE flows SET byte_count = 'lots' WHERE id = {id}");
        execute(&path, &spoil);
    };
    let mend =
        "UPDATE flows SET byte_count = (SELECT byte_count FROM kept WHERE kept.id = flows.id)
        WHERE id IN (SELECT id FROM kept)";
    let variants = [
        &["--max-rows", "200000"][..],
        &["--format", "json"],
        &["--format", "parquet", "--order", "id"],
        &["--filter", "protocol=6", "--order", "id"],
        &["--filter", "protocol=6", "--format", "parquet"],
        &[
            "--filter",
            "src_comp=ne.nobody",
            "--columns",
            "byte_count,id",
        ],
    ];
    for (number, arguments) in variants.into_iter().enumerate() {
        let to = format!("pulled{number}");
        let pull = || {
            let arguments = [&["pull", &url, "--to", &to], arguments].concat();
            run(folder.path(), &arguments)
        };
        let count = || {
            let names = fs::read_dir(folder.path().join(&to)).unwrap();
            names.count() - 2
        };
        // Before the head of the reply, and after it.
        spoil(10);
        let start = Instant::now();
        pull().failed(1, &["500", "byte_count", "id 10"]);
        assert!(start.elapsed() < Duration::from_secs(5), "{arguments:?}");
        assert_eq!(count(), 0);
        execute(&path, mend);
        spoil(250_000);
        pull().failed(1, &["500", "byte_count", "id 250000"]);
        // The page before it, if there is one, stays.
        assert_eq!(count(), usize::from(arguments[0] == "--max-rows"));
        execute(&path, mend);
        pull().fine();
    }
    fs::rename(folder.path().join("pulled0"), folder.path().join("pulled")).unwrap();
    assert!(all(folder.path()) == server.document(&format!("{FLOWS}.ndjson")));
}

#[test]
fn a_server_that_is_killed_is_tried_again() {
    let folder = folder();
    let path = generated(folder.path(), 400_000);
    let address = format!("127.0.0.1:{}", free_port());
    let database = path.to_str().unwrap();
    let serve = ["serve", "--database", database, "--listen", &address];
    let server = Server::start(folder.path(), &mut flows(folder.path(), &serve));
    let url = url(&server, FLOWS);
    let mut pulling = flows(folder.path(), &["pull", &url, "--to", "pulled"]);
    let pulling = pulling.stderr(Stdio::piped()).spawn().unwrap();
    wait_until("a file has begun", || {
        let Ok(mut files) = fs::read_dir(folder.path().join("pulled")) else {
            return false;
        };
        files.any(|file| {
            let file = file.unwrap();
            let is_it = file.file_name().to_str().unwrap().starts_with("flows-");
            is_it && file.metadata().is_ok_and(|metadata| metadata.len() > 0)
        })
    });
    let signal = |signal: &str| {
        let pid = pulling.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    drop(server);
    signal("-CONT");
    let ran = pulling.wait_with_output().unwrap();
    Ran::from(ran).failed(75, &["the next run goes on where this one stopped"]);
    assert_eq!(files(folder.path()), []);
    let server = Server::start(folder.path(), &mut flows(folder.path(), &serve));
    pull(folder.path(), &url, &[]).fine();
    assert!(all(folder.path()) == server.document(&format!("{FLOWS}.ndjson")));
}

#[test]
fn a_table_that_ends_before_what_was_pulled_is_no_empty_run() {
    for order in ["time", "id"] {
        let folder = folder();
        let path = database(folder.path(), TABLE);
        let fill = |ids: &str| {
            let sql = format!(
                "DELETE FROM t; WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 30)
                 INSERT INTO t SELECT n, n, 'a' FROM n WHERE n {ids}"
            );
            execute(&path, &sql);
        };
        fill("<= 20");
        let server = Server::with(folder.path(), &path, T);
        let pull = || pull(folder.path(), &url_of(&server), &["--order", order]);
        let at = |id: u8| match order {
            "time" => format!("{id}:{id}"),
            _ => id.to_string(),
        };
        pull().fine();
        let before = format!("pulled was pulled up to {}, but the stream ", at(20));
        for (ids, end) in [
            ("<= 3", format!("ends at {}", at(3))),
            ("< 0", "has no record".to_owned()),
        ] {
            fill(ids);
            // Until someone does something.
            for _ in 0..2 {
                pull().failed(1, &[&format!("{before}{end}"), "backup", "another folder"]);
            }
        }
        // Where only records at the end were deleted, it goes on.
        fill("> 20");
        assert_has(
            &pull().fine(),
            &["pulled 1 file", &format!("up to {}", at(30))],
        );
        assert_eq!(all(folder.path()).lines().count(), 30);
    }
}

#[test]
fn a_folder_of_the_version_before_goes_on() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    execute(&path, "INSERT INTO t VALUES (-5, -7, 'a'), (2, 2, 'b')");
    let server = Server::with(folder.path(), &path, T);
    let pulled = folder.path().join("pulled");
    fs::create_dir(&pulled).unwrap();
    let state = format!(
        r#"{{"source":"{} with --format ndjson --order time","position":"-7:-5","whole":"t-start--7_-5.ndjson"}}"#,
        url_of(&server)
    );
    fs::write(pulled.join(".flows-pull.json"), state).unwrap();
    // Noted, but killed before it got its name; and the beginning of another.
    fs::write(pulled.join("t-start--7_-5.ndjson.part"), "old").unwrap();
    fs::write(pulled.join("t--7_-5-2_2.ndjson.part"), "half").unwrap();
    assert_has(
        &pull(folder.path(), &url_of(&server), &[]).fine(),
        &["pulled 1 file"],
    );
    let names = || {
        let names = fs::read_dir(&pulled).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = names.collect::<Vec<_>>();
        names.sort();
        names.split_off(2)
    };
    assert_eq!(
        names(),
        ["t-0000000001--7_-5-2_2.ndjson", "t-start--7_-5.ndjson"]
    );
    assert_eq!(
        fs::read_to_string(pulled.join("t-start--7_-5.ndjson")).unwrap(),
        "old"
    );
    execute(&path, "INSERT INTO t VALUES (30, 30, 'c')");
    pull(folder.path(), &url_of(&server), &[]).fine();
    assert_eq!(names()[1], "t-0000000002-2_2-30_30.ndjson");
    fs::remove_file(pulled.join(".flows-pull.json")).unwrap();
    pull(folder.path(), &url_of(&server), &[]).failed(1, &["it is missing, but there is t-"]);
}

const EVENTS: &str = r#"
    [[streams]]
    name = "events"
    table = "events"
    time = "at"
    id = "uuid"
    columns = [
        { name = "uuid", type = "text" },
        { name = "at", type = "timestamp", stored = "iso8601", spelling = "YYYY-MM-DD HH:MM:SS.f*" },
        { name = "kind", type = "text", nullable = true },
        { name = "size", type = "integer" },
    ]
"#;

/// Ids that are strings, which grow; some are long, and have what neither a URL nor a file's name can.
#[test]
fn ids_that_are_strings_and_times_that_are_text_are_pulled() {
    let folder = folder();
    let table = "PRAGMA journal_mode = WAL;
        CREATE TABLE events (uuid TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, kind TEXT, size INTEGER NOT NULL);
        CREATE INDEX i ON events (at, uuid)";
    let path = database(folder.path(), table);
    let server = Server::with(folder.path(), &path, EVENTS);
    let mut random = fastrand::Rng::with_seed(5);
    let mut insert = |from: u32, to: u32| {
        let connection = Connection::open(&path).unwrap();
        let transaction = connection.unchecked_transaction().unwrap();
        for n in from..to {
            // As version 7 has it: the time first.
            let mut uuid = format!(
                "{n:08x}-0190-7{:03x}-8000-{:012x}",
                n % 4096,
                random.u32(..)
            );
            if n % 10 == 9 {
                uuid += &"é/: ü".repeat(40);
            }
            let fraction = if n % 4 == 0 {
                String::new()
            } else {
                format!(".{:06}", n % 4 * 1000)
            };
            let at = format!(
                "2026-01-01 {:02}:{:02}:{:02}{fraction}",
                n / 14400,
                n / 240 % 60,
                n / 4 % 60
            );
            let kind = (n % 3 > 0).then(|| format!("k{}", n % 3));
            transaction
                .execute(
                    "INSERT INTO events VALUES (?, ?, ?, ?)",
                    (uuid, at, kind, n),
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    };
    let url = url(&server, "/api/v1/stream/events");
    let variants = [
        (&["--order", "time"][..], "order=time"),
        (&["--order", "id"], "order=id"),
        (
            &[
                "--order",
                "id",
                "--filter",
                "kind=k1",
                "--columns",
                "uuid,size",
            ],
            "order=id&kind=k1&columns=uuid,size",
        ),
        (
            &[
                "--filter",
                "at=gte.2026-01-01T00:01:00Z",
                "--filter",
                "size=lt.2500",
                "--columns",
                "at",
            ],
            "at=gte.2026-01-01T00:01:00Z&size=lt.2500&columns=at",
        ),
    ];
    for (from, to) in [(0, 1000), (1000, 1003), (1003, 3000)] {
        insert(from, to);
        for (number, (arguments, query)) in variants.into_iter().enumerate() {
            let folder_name = format!("events{number}");
            let arguments = [
                &["pull", &url, "--to", &folder_name, "--max-rows", "101"],
                arguments,
            ]
            .concat();
            run(folder.path(), &arguments).fine();
            let half = folder
                .path()
                .join(&folder_name)
                .join("events-0000009999-a-b.ndjson.part");
            fs::write(&half, "{").unwrap();
            assert_has(&run(folder.path(), &arguments).fine(), &["nothing new"]);
            let files = fs::read_dir(folder.path().join(&folder_name)).unwrap();
            let files = files
                .map(|file| file.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e == "ndjson"));
            let mut files = files.collect::<Vec<_>>();
            files.sort();
            let pulled = files
                .iter()
                .map(|path| fs::read_to_string(path).unwrap())
                .collect::<String>();
            assert!(
                pulled == server.document(&format!("/api/v1/stream/events.ndjson?{query}")),
                "{query}"
            );
            assert!(!half.exists());
        }
    }
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 30_000));
    let url = url(&server, FLOWS);
    // No file may be larger than 1 MiB; writing more is an error, as on a disk that is full.
    let line = format!(
        "trap '' XFSZ; ulimit -f 1024; exec {} pull {url} --to pulled --max-rows 20000",
        env!("CARGO_BIN_EXE_flows")
    );
    let mut shell = Command::new("bash");
    let ran = Ran::from(
        shell
            .args(["-c", &line])
            .current_dir(folder.path())
            .output()
            .unwrap(),
    );
    ran.failed(75, &["cannot write pulled/flows-0000000001-start-"]);
    assert_eq!(files(folder.path()), []);
    pull(folder.path(), &url, &[]).fine();
    assert!(all(folder.path()) == server.document(&format!("{FLOWS}.ndjson")));
}

/// A server that answers each request with what `answer` makes of it.
fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/stream/t", listener.local_addr().unwrap());
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = [0; 4096];
            let read = client.read(&mut head).unwrap_or_default();
            let reply = answer(&String::from_utf8_lossy(&head[..read]));
            // It may have hung up.
            let _ = client.write_all(&reply);
        }
    });
    url
}

/// What comes from something that is not a stream of `flows`, or has passed through something that
/// cannot be trusted.
#[test]
fn what_is_not_a_complete_reply_of_flows_is_refused() {
    let position = "content-type: application/x-ndjson\r\nflows-position: 5:5\r\n";
    for (reply, part) in [
        (
            "200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
            "the reply is text/html",
        ),
        (
            "200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
            "the reply is of no type",
        ),
        (
            "301 Moved\r\nlocation: http://h/x\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "301 Moved Permanently to http://h/x",
        ),
        (
            format!("200 OK\r\n{position}connection: close\r\n\r\n{{}}"),
            "Content-Length, or Transfer-Encoding",
        ),
        (
            format!("200 OK\r\n{position}content-encoding: br\r\ncontent-length: 2\r\n\r\nab"),
            "the reply is in br",
        ),
        (
            "200 OK\r\ncontent-type: application/x-ndjson\r\nflows-position: ../../x\r\n\
             content-length: 2\r\n\r\n{}"
                .to_owned(),
            "Flows-Position is \"../../x\", which is not a position in the order of time",
        ),
    ] {
        let folder = folder();
        let url = answering(move |_| format!("HTTP/1.1 {reply}").into_bytes());
        pull(folder.path(), &url, &[]).failed(1, &[part]);
        assert_eq!(files(folder.path()), [], "{part}");
    }
}

#[test]
fn only_a_position_becomes_part_of_a_name() {
    for (order, texts) in [
        (
            "time",
            &[
                "5",
                "5:5:5",
                "+5:5",
                "1e3:5",
                "5:5/../../x",
                ":",
                "5: 5",
                "",
            ][..],
        ),
        ("id", &["5:5", "5/5", "../x", ""]),
    ] {
        for text in texts {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nflows-position: {text}\r\n"
            );
            let url =
                answering(move |_| format!("{head}content-length: 3\r\n\r\n{{}}\n").into_bytes());
            let folder = folder();
            let ran = pull(folder.path(), &url, &["--order", order]);
            ran.failed(1, &["Flows-Position is", order]);
            assert_eq!(files(folder.path()), [], "{text}");
        }
    }
    // What is kept is looked at, too.
    for state in [
        r#""position":"../x","complete":null"#,
        r#""position":"5:5","complete":"../x""#,
    ] {
        let folder = folder();
        let url = "http://127.0.0.1:9/api/v1/stream/t";
        fs::create_dir(folder.path().join("pulled")).unwrap();
        let state = format!(r#"{{"source":"{url} with --format ndjson --order time",{state}}}"#);
        fs::write(folder.path().join("pulled/.flows-pull.json"), state).unwrap();
        pull(folder.path(), url, &[]).failed(1, &["is not a state of `flows pull`", "../x"]);
    }
}

/// A proxy that removes headers that it does not know.
#[test]
fn records_without_a_position_are_not_an_empty_stream() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let server = Server::with(folder.path(), &path, T);
    let proxy = |name: &'static str| Proxy::new(server.address, move |passing| passing.strip(name));
    let (position, count) = (proxy("flows-position"), proxy("flows-count"));
    let url = |proxy: &Proxy| format!("http://{}/api/v1/stream/t", proxy.address);
    // Of an empty stream there is nothing to say.
    let empty = pull(folder.path(), &url(&position), &[]).fine();
    assert_has(&empty, &["nothing new", "the stream is empty"]);
    let connection = Connection::open(&path).unwrap();
    for rows in [1, 50_000] {
        let insert = format!(
            "INSERT OR IGNORE INTO t WITH RECURSIVE n (n) AS
             (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {rows}) SELECT n, n, 'a' FROM n"
        );
        connection.execute(&insert, []).unwrap();
        for arguments in [
            &[][..],
            &["--filter", "v=a"],
            &["--order", "id", "--format", "parquet"],
        ] {
            let to = folder.path().join(format!("{rows}-{}", arguments.len()));
            let to = ["--to", to.to_str().unwrap()];
            let url = url(&position);
            let arguments = [&["pull", &url], &to[..], arguments].concat();
            run(folder.path(), &arguments)
                .failed(1, &["a proxy in between has removed Flows-Position"]);
        }
    }
    let url = url(&count);
    let arguments = ["pull", &url, "--to", "filtered", "--filter", "v=a"];
    run(folder.path(), &arguments).failed(1, &["a proxy in between has removed Flows-Count"]);
}

/// Every page comes broken first, each in another way, and then as it is.
#[test]
fn nothing_is_lost_behind_a_proxy_that_breaks_replies() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 30_000));
    let cuts = [0, 500, 999];
    let mut requests = 0;
    let proxy = Proxy::new(server.address, move |passing| {
        let number = requests / 2;
        if requests % 2 == 0 && number < KINDS * cuts.len() {
            passing.spoil(number % KINDS, cuts[number / KINDS]);
        }
        requests += 1;
    });
    let url = format!("http://{}{FLOWS}", proxy.address);
    let mut refused = 0;
    loop {
        // Its filter lets everything through, so that records are counted.
        let arguments = ["--max-rows", "1000", "--filter", "id=gt.0"];
        let ran = pull(folder.path(), &url, &arguments);
        match ran.code {
            Some(0) => break,
            // What no retry will change, since a proxy always does it: no length, no position, no count.
            Some(1) => refused += 1,
            _ => panic!("{ran:?}"),
        }
    }
    assert_eq!(refused, 3 * cuts.len());
    assert_eq!(files(folder.path()).len(), 30);
    assert!(all(folder.path()) == server.document(&format!("{FLOWS}.ndjson")));
}

#[test]
fn records_that_come_while_a_stream_is_found_empty_are_pulled() {
    let folder = folder();
    let asked = AtomicUsize::new(0);
    let url = answering(move |_| {
        let records = match asked.fetch_add(1, Ordering::Relaxed) {
            0 => "content-length: 0\r\n\r\n",
            _ => "flows-position: 1:1\r\ncontent-length: 3\r\n\r\n{}\n",
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n";
        format!("{head}{records}").into_bytes()
    });
    assert_has(&pull(folder.path(), &url, &[]).fine(), &["pulled 1 file"]);
}

#[test]
fn a_reply_that_is_cut_off_before_its_first_byte_is_not_an_empty_file() {
    let folder = folder();
    let asked = AtomicUsize::new(0);
    let url = answering(move |_| {
        let records = ["", "{}\n"][asked.fetch_add(1, Ordering::Relaxed).min(1)];
        let head = "content-type: application/x-ndjson\r\nflows-position: 1:1\r\nconnection: close";
        let length = records.len();
        format!("HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: {length}\r\n\r\n{records}")
            .into_bytes()
    });
    pull(folder.path(), &url, &[]).fine();
    assert_eq!(all(folder.path()), "{}\n");
}

#[test]
fn what_zstd_comes_to_is_bounded() {
    // Some kilobytes that come to a gigabyte.
    let zeros = std::io::repeat(0).take(1 << 30);
    let bomb = zstd::encode_all(zeros, 1).unwrap();
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nflows-position: 5:5\r\n\
         content-encoding: zstd\r\ncontent-length: {}\r\n\r\n",
        bomb.len()
    );
    let url = answering(move |_| [head.as_bytes(), &bomb].concat());
    let folder = folder();
    // Not 128 MiB of it may be written.
    let line = format!(
        "trap '' XFSZ; ulimit -f 131072; exec {} pull {url} --to bombed",
        env!("CARGO_BIN_EXE_flows")
    );
    let mut shell = Command::new("bash");
    shell.args(["-c", &line]).current_dir(folder.path());
    let ran = Ran::from(shell.output().unwrap());
    ran.failed(1, &["the reply is in zstd, where identity was asked for"]);
    // Records that are as compressible, but real, come uncompressed.
    let path = database(folder.path(), TABLE);
    let insert = "INSERT INTO t WITH RECURSIVE n (n) AS
        (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 12)
        SELECT n, n, replace(hex(zeroblob(4000000)), '0', 'x') FROM n";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    let server = Server::with(folder.path(), &path, T);
    pull(folder.path(), &url_of(&server), &[]).fine();
    assert!(all(folder.path()) == server.document("/api/v1/stream/t.ndjson"));
    // A window that would take memory, of a frame that says so in its first bytes.
    let url = answering(|_| {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nflows-position: 5:5\r\n";
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, 14 << 3, 1, 0, 0];
        let head = format!(
            "{head}content-encoding: zstd\r\ncontent-length: {}\r\n\r\n",
            frame.len()
        );
        [head.as_bytes(), &frame].concat()
    });
    let arguments = ["pull", &url, "--to", "window"];
    run(folder.path(), &arguments).failed(75, &["too much memory"]);
}

#[test]
fn no_file_is_reached_through_a_symbolic_link() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let insert = "INSERT INTO t VALUES (1, 1, 'a')";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    let server = Server::with(folder.path(), &path, T);
    let precious = folder.path().join("precious");
    for (name, is_refused) in [
        (".flows-pull.lock", true),
        (".flows-pull.json", true),
        (".flows-pull.json.part", false),
        ("t-0000000001-start-1_1.ndjson.part", false),
    ] {
        fs::write(&precious, "{}").unwrap();
        let _ = fs::remove_dir_all(folder.path().join("pulled"));
        fs::create_dir(folder.path().join("pulled")).unwrap();
        symlink(&precious, folder.path().join("pulled").join(name)).unwrap();
        let ran = pull(folder.path(), &url_of(&server), &[]);
        if is_refused {
            ran.failed(1, &[name, "it is a symbolic link"]);
        } else {
            ran.fine();
            assert_eq!(all(folder.path()).lines().count(), 1);
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "{}", "{name}");
    }
}

#[test]
fn a_permission_does_not_come_by_itself() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let insert = "INSERT INTO t VALUES (1, 1, 'a')";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    let server = Server::with(folder.path(), &path, T);
    pull(folder.path(), &url_of(&server), &[]).fine();
    let pulled = folder.path().join("pulled");
    let insert = "INSERT INTO t VALUES (2, 2, 'b')";
    Connection::open(&path)
        .unwrap()
        .execute(insert, [])
        .unwrap();
    fs::set_permissions(&pulled, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write anywhere, but for this.
    let is_root = fs::metadata(&path).unwrap().uid() == 0;
    let mut command = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    }
    command.arg(env!("CARGO_BIN_EXE_flows"));
    command.args(["pull", &url_of(&server), "--to", "pulled"]);
    let ran = Ran::from(command.current_dir(folder.path()).output().unwrap());
    fs::set_permissions(&pulled, fs::Permissions::from_mode(0o755)).unwrap();
    ran.failed(
        1,
        &[
            "cannot write pulled/t-0000000002-1_1-2_2.ndjson.part",
            "Permission denied",
        ],
    );
}

#[test]
fn a_complete_file_gets_its_name_and_others_are_left_alone() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute("INSERT INTO t VALUES (1, 1, 'a')", [])
        .unwrap();
    let server = Server::with(folder.path(), &path, T);
    let url = url(&server, "/api/v1/stream/t");
    pull(folder.path(), &url, &[]).fine();
    let at = |name: &str| folder.path().join("pulled").join(name);
    // Killed between the state and the name; a file of another's, and a half one.
    fs::rename(
        at("t-0000000001-start-1_1.ndjson"),
        at("t-0000000001-start-1_1.ndjson.part"),
    )
    .unwrap();
    fs::write(at("t-backup.tar.part"), "precious").unwrap();
    fs::write(at("t-0000000002-notes.txt"), "mine").unwrap();
    fs::write(at("t-0000000002-1_1-2_2.ndjson.part"), "{").unwrap();
    connection
        .execute("INSERT INTO t VALUES (2, 2, 'b')", [])
        .unwrap();
    assert_has(&pull(folder.path(), &url, &[]).fine(), &["pulled 1 file"]);
    for name in ["t-backup.tar.part", "t-0000000002-notes.txt"] {
        fs::remove_file(at(name)).unwrap();
    }
    assert_eq!(all(folder.path()).lines().count(), 2);
    // What has its name may go at once.
    fs::remove_file(at("t-0000000001-start-1_1.ndjson")).unwrap();
    fs::remove_file(at("t-0000000002-1_1-2_2.ndjson")).unwrap();
    assert_has(
        &pull(folder.path(), &url, &[]).fine(),
        &["nothing new", "up to 2:2"],
    );
}

/// Killed at random, hundreds of times, while a writer inserts, some of it late.
#[test]
fn killed_at_any_moment_it_loses_nothing_and_repeats_nothing() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let server = Server::with(folder.path(), &path, T);
    let url = url(&server, "/api/v1/stream/t");
    let done = AtomicBool::new(false);
    let mut kills = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Connection::open(&path).unwrap();
            writer.busy_timeout(Duration::from_secs(60)).unwrap();
            let mut random = fastrand::Rng::with_seed(3);
            let mut id = 0_i64;
            while !done.load(Ordering::Relaxed) && id < 400_000 {
                let transaction = writer.unchecked_transaction().unwrap();
                for _ in 0..random.u32(1..600) {
                    id += 1;
                    let row = (
                        id,
                        random.i64(0..1_000_000),
                        "x".repeat(random.usize(0..100)),
                    );
                    transaction
                        .execute("INSERT INTO t VALUES (?, ?, ?)", row)
                        .unwrap();
                }
                transaction.commit().unwrap();
                thread::sleep(Duration::from_millis(random.u64(0..8)));
            }
        });
        let mut random = fastrand::Rng::with_seed(4);
        let run = || {
            while kills < 250 {
                let arguments = [
                    "pull",
                    &url,
                    "--to",
                    "pulled",
                    "--order",
                    "id",
                    "--max-rows",
                    "700",
                ];
                let mut command = flows(folder.path(), &arguments);
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let mut child = command.spawn().unwrap();
                thread::sleep(Duration::from_micros(random.u64(0..25_000)));
                if child.try_wait().unwrap().is_none() {
                    child.kill().unwrap();
                    kills += 1;
                }
                child.wait().unwrap();
            }
        };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        done.store(true, Ordering::Relaxed);
        ran.unwrap();
    });
    assert!(kills >= 200);
    let complete = |server: &Server| server.document("/api/v1/stream/t.ndjson?order=id");
    wait_until("the writer has ended", || {
        complete(&server) == complete(&server)
    });
    pull(folder.path(), &url, &["--order", "id", "--max-rows", "700"]).fine();
    let files = files(folder.path());
    assert!(files.len() > 20, "{}", files.len());
    assert!(files.iter().all(|(_, text)| text.lines().count() <= 700));
    let pulled: String = files.into_iter().map(|(_, text)| text).collect();
    assert!(pulled == complete(&server));
}

/// The table of `tests/django_writer.py`.
const DJANGO: &str = r#"
    [[streams]]
    name = "events"
    table = "shop_event"
    time = "created_at"
    id = "id"
    columns = [
        { name = "id", type = "integer" },
        { name = "created_at", type = "timestamp", stored = "iso8601", spelling = "YYYY-MM-DD HH:MM:SS.f*" },
        { name = "name", type = "text" },
        { name = "seen", type = "boolean" },
    ]
"#;

#[test]
#[ignore = "needs tests/.venv: tests/run makes it"]
fn what_django_writes_is_pulled_each_second_complete_and_once() {
    let rows = if is_long() { 2_000_000 } else { 100_000 };
    let folder = folder();
    let path = folder.path().join("django.db");
    let mut writer = python("django_writer.py");
    writer.arg(&path);
    let seconds = some_time();
    writer.args([rows.to_string(), seconds.as_secs().to_string()]);
    let mut writer = writer.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "writing");
    let server = Server::with(folder.path(), &path, DJANGO);
    let stream = "/api/v1/stream/events";
    let events = url(&server, stream);
    // In the order of ids; and in that of time, up to three seconds ago: what is written may be one late, and
    // a machine busy.
    let pull = || pull(folder.path(), &events, &["--order", "id"]).fine();
    let mut by_time = String::new();
    let mut position: Option<String> = None;
    let mut windows = 0;
    let mut ask = |before: &str| {
        let after = position
            .as_ref()
            .map_or(String::new(), |position| format!("&after={position}"));
        let reply = server.get(&format!("{stream}.ndjson?scanned_before={before}{after}"));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(reply.complete);
        position = Some(reply.header("flows-position").to_owned());
        windows += usize::from(!reply.body.is_empty());
        by_time += &reply.body;
    };
    let mut runs = 0;
    while writer.try_wait().unwrap().is_none() {
        let start = Instant::now();
        pull();
        ask("now-3s");
        runs += 1;
        thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed()));
    }
    let written: u64 = said.next().unwrap().unwrap().parse().unwrap();
    assert!(written >= 800 * seconds.as_secs(), "{written}");
    pull();
    ask("now");
    let files = files(folder.path());
    // Each run had something new, and so had windows.
    assert!(files.len() > runs / 2, "{} of {runs}", files.len());
    assert!(windows > 2, "{windows} of {runs}");
    let by_id: String = files.into_iter().map(|(_, text)| text).collect();
    assert_eq!(by_id.lines().count() as u64, rows + 1 + written);
    assert!(by_id == server.document(&format!("{stream}.ndjson?order=id")));
    assert!(by_time == server.document(&format!("{stream}.ndjson")));
}
