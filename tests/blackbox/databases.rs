//! Several databases behind one server.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Ran, Server, assert_has, flows, folder, generated, run, ten_lines, ten_records,
    wait_until,
};

/// A database of one table of one record.
fn one(folder: &Path, name: &str, word: &str) {
    let sql = format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE words (id INTEGER PRIMARY KEY, at INTEGER, word TEXT);
         CREATE INDEX words_at ON words (at); INSERT INTO words VALUES (1, 10, '{word}')"
    );
    let made = Connection::open(folder.join(name)).unwrap();
    made.execute_batch(&sql).unwrap();
}

/// A stream of such a table.
fn stream(name: &str, database: &str) -> String {
    format!(
        "[[streams]]\nname = '{name}'\ntable = 'words'\n{database}\ntime = 'at'\nid = 'id'\n\
         columns = [{{ name = 'word', type = 'text' }}]\n"
    )
}

/// The default database and two with names: two streams of the last.
fn three(folder: &Path) -> String {
    one(folder, "default.db", "default");
    one(folder, "a.db", "first");
    one(folder, "b.db", "second");
    [
        "[database]\npath = 'default.db'\n[databases.first]\npath = 'a.db'\n".to_owned(),
        "[databases.the-second]\npath = 'b.db'\npool_size = 2\nwait_ms = 2000\nbusy_ms = 10\n"
            .to_owned(),
        stream("default", ""),
        stream("first", "database = 'first'"),
        stream("second", "database = 'the-second'"),
        stream("again", "database = 'the-second'"),
    ]
    .concat()
}

fn serve(folder: &Path, configuration: &str) -> Server {
    fs::write(folder.join("c.toml"), configuration).unwrap();
    let arguments = ["serve", "--config", "c.toml", "--listen", "127.0.0.1:0"];
    Server::start(folder, &mut flows(folder, &arguments))
}

fn words(stream: &str) -> String {
    format!("/api/v1/stream/{stream}.csv")
}

#[test]
fn each_stream_is_served_from_its_database_and_the_log_names_it() {
    let folder = folder();
    let server = serve(folder.path(), &three(folder.path()));
    for (stream, word, log) in [
        ("default", "default", "stream=\"default\" format="),
        (
            "first",
            "first",
            "stream=\"first\" database=\"first\" format=",
        ),
        (
            "second",
            "second",
            "stream=\"second\" database=\"the-second\" format=",
        ),
        (
            "again",
            "second",
            "stream=\"again\" database=\"the-second\" format=",
        ),
    ] {
        for _ in 0..3 {
            let document = server.document(&words(stream));
            assert_eq!(document, format!("word\n{word}\n"));
        }
        server.logged(&[log]);
    }
}

#[test]
fn check_has_a_section_for_each_database_that_has_streams() {
    let folder = folder();
    let configuration = three(folder.path());
    fs::write(folder.path().join("c.toml"), &configuration).unwrap();
    let report = run(
        folder.path(),
        &["check", "--config", "c.toml", "--all-rows"],
    )
    .fine();
    let lines: Vec<_> = report
        .lines()
        .filter(|line| !line.starts_with("  "))
        .collect();
    let of = |stream: &str| {
        [
            format!("stream {stream}: table words, ordered by (at, id)"),
            format!("stream {stream}: all 1 records are as declared, and in order"),
        ]
    };
    let (default, first, second, again) = (of("default"), of("first"), of("second"), of("again"));
    let expected = [
        "database default.db",
        &default[0],
        &default[1],
        "database first: a.db",
        &first[0],
        &first[1],
        "database the-second: b.db",
        &second[0],
        &again[0],
        &second[1],
        &again[1],
    ];
    assert_eq!(lines, expected);
    // Without a stream in it, the default one need not be there; what is wrong with others is said of each.
    fs::remove_file(folder.path().join("default.db")).unwrap();
    fs::write(folder.path().join("a.db"), "no database at all").unwrap();
    fs::remove_file(folder.path().join("b.db")).unwrap();
    let named = configuration.replace(&stream("default", ""), "");
    fs::write(folder.path().join("c.toml"), named).unwrap();
    let ran = run(folder.path(), &["check", "--config", "c.toml"]);
    assert_eq!(ran.code, Some(2));
    assert_has(
        &ran.stdout,
        &[
            "database first: a.db\nerror: a.db is not an SQLite database (damaged or encrypted); name another with databases.first.path\n",
            "database the-second: b.db\nerror: there is no database b.db; name another with \
             databases.the-second.path\n",
        ],
    );
    assert!(!ran.stdout.contains("default.db"), "{}", ran.stdout);
    let ran = run(
        folder.path(),
        &["check", "--config", "c.toml", "--database", "x.db"],
    );
    ran.failed(
        2,
        &["--database is for the streams of [database], and there is none"],
    );
}

#[test]
fn the_environment_and_the_flag_say_where_each_is() {
    let folder = folder();
    let configuration = three(folder.path());
    fs::write(folder.path().join("c.toml"), configuration).unwrap();
    let check = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut check = flows(folder.path(), &["check", "--config", "c.toml"]);
        check.args(arguments).envs(variables.iter().copied());
        Ran::from(check.output().unwrap())
    };
    let moved = [
        ("FLOWS__DATABASES__FIRST__PATH", "b.db"),
        ("FLOWS__DATABASES__THE_SECOND__PATH", "default.db"),
    ];
    let report = check(&moved, &["--database", "a.db"]).fine();
    let parts = [
        "database a.db\n",
        "database first: b.db\n",
        "database the-second: default.db\n",
    ];
    assert_has(&report, &parts);
    for (name, value, parts) in [
        (
            "FLOWS__DATABASES__THE_SECOND__POOL_SIZE",
            "0",
            &[
                "databases.the-second.pool_size in FLOWS__DATABASES__THE_SECOND__POOL_SIZE: 0 is not a whole number",
            ][..],
        ),
        (
            "FLOWS__DATABASES__SECOND__PATH",
            "x",
            &[
                "unknown key FLOWS__DATABASES__SECOND__PATH in the environment",
                "FLOWS__DATABASES__THE_SECOND__PATH",
            ],
        ),
        (
            "FLOWS__DATABASES__FIRST",
            "x",
            &["unknown key FLOWS__DATABASES__FIRST in the environment"],
        ),
    ] {
        check(&[(name, value)], &[]).failed(2, parts);
    }
}

#[test]
fn wrong_sections_and_names_are_refused() {
    let folder = folder();
    for (configuration, parts) in [
        (
            "[databases.a]\npool_size = 3".to_owned(),
            &["databases.a in c.toml: missing field `path`"][..],
        ),
        (
            "[databases.a]\npath = 'a'\npoolsize = 3".to_owned(),
            &["unknown key databases.a.poolsize in c.toml; did you mean pool_size?"],
        ),
        (
            "[databases.a]\npath = 'a'\nbusy_ms = -1".to_owned(),
            &["databases.a.busy_ms in c.toml: -1 is not a whole number from 0 to 60000"],
        ),
        (
            "[databases]\npath = 'a'".to_owned(),
            &["databases.path in c.toml: invalid type: string \"a\", expected a section"],
        ),
        (
            "[databases.'a b']\npath = 'a'".to_owned(),
            &["databases.a b in c.toml: the name \"a b\"; it must be letters, digits, '_' and '-'"],
        ),
        (
            "[databases.a-b]\npath = 'a'\n[databases.A_b]\npath = 'b'".to_owned(),
            &[
                "databases.a-b in c.toml: the environment cannot tell it from databases.A_b; it must be another \
                 name",
            ],
        ),
        (
            stream("s", "database = 'a'"),
            &[
                "streams[0].database in c.toml: there is no [databases.a]; it must be left out, since there are \
                 no sections [databases.NAME]",
            ],
        ),
        (
            format!(
                "{}[databases.b]\npath = 'b'\n[databases.c]\npath = 'c'",
                stream("s", "database = 'a'")
            ),
            &[
                "streams[0].database in c.toml: there is no [databases.a]; it must be one of b, c, or left out \
                 for [database]",
            ],
        ),
    ] {
        fs::write(folder.path().join("c.toml"), configuration).unwrap();
        run(folder.path(), &["check", "--config", "c.toml"]).failed(2, parts);
    }
}

#[test]
fn one_that_is_gone_or_locked_or_busy_hurts_no_other() {
    let folder = folder();
    let server = serve(folder.path(), &three(folder.path()));
    let fine = |stream: &str| {
        let start = std::time::Instant::now();
        assert!(server.document(&words(stream)).starts_with("word\n"));
        assert!(start.elapsed().as_millis() < 1000, "{stream} waited");
    };
    fs::rename(folder.path().join("a.db"), folder.path().join("away.db")).unwrap();
    let second = Connection::open(folder.path().join("b.db")).unwrap();
    second
        .pragma_update(None, "journal_mode", "DELETE")
        .unwrap();
    second.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for _ in 0..2 {
        server
            .get(&words("first"))
            .problem(503, &["a.db cannot be found"]);
        server.get(&words("second")).problem(503, &["locked"]);
        fine("default");
    }
    // Requests that wait for the locked one keep no other waiting.
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| server.get(&words("again")).problem(503, &[]));
        }
        for _ in 0..20 {
            fine("default");
        }
    });
    second.execute_batch("ROLLBACK").unwrap();
    fs::rename(folder.path().join("away.db"), folder.path().join("a.db")).unwrap();
    for stream in ["default", "first", "second", "again"] {
        fine(stream);
    }
}

#[test]
fn helpers_of_one_keep_off_the_cores_that_streams_of_another_use() {
    let folder = folder();
    let source = generated(folder.path(), 100_000);
    fs::copy(&source, folder.path().join("other.db")).unwrap();
    let flows = include_str!("../../config/flows.toml");
    let flows = &flows[flows.find("\n[[streams]]").unwrap()..];
    let other = flows.replace("name = \"flows\"", "name = \"other\"\ndatabase = \"other\"");
    let configuration = format!(
        "[database]\npath = 'generated.db'\n[databases.other]\npath = 'other.db'\n{flows}{other}"
    );
    let server = serve(folder.path(), &configuration);
    let other = "/api/v1/stream/other.ndjson";
    let cores = std::thread::available_parallelism().unwrap().get();
    let whole = server.in_slices(other);
    let stalled: Vec<_> = (0..cores)
        .map(|_| server.ask(&format!("{FLOWS}.ndjson")))
        .collect();
    wait_until("their own connections are all that are on loan", || {
        server.sliced(other).1 == 1
    });
    for _ in 0..3 {
        assert!(server.in_one_piece(other) == whole);
    }
    drop(stalled);
    assert!(server.in_slices(other) == whole);
}

#[test]
fn pools_share_what_may_be_open() {
    let folder = folder();
    let configuration = three(folder.path());
    fs::write(folder.path().join("c.toml"), configuration).unwrap();
    let mut shell = std::process::Command::new("sh");
    let serve = flows(
        folder.path(),
        &["serve", "--config", "c.toml", "--listen", "127.0.0.1:0"],
    );
    shell
        .args(["-c", "ulimit -n 80; exec \"$@\"", "sh"])
        .arg(serve.get_program());
    shell
        .args(serve.get_args())
        .current_dir(folder.path())
        .env_clear();
    let server = Server::start(folder.path(), &mut shell);
    server.logged(&[
        "WARN only 80 files and sockets may be open at once: 9 connections to the databases instead of 130",
        "a smaller pool_size needs less",
    ]);
    std::thread::scope(|scope| {
        for stream in ["default", "first", "second", "again"].repeat(10) {
            let server = &server;
            scope.spawn(move || server.document(&words(stream)));
        }
    });
}

#[test]
fn flows_are_imported_into_the_database_of_their_stream() {
    let folder = folder();
    ten_lines(folder.path());
    let flows = include_str!("../../config/flows.toml");
    let flows = &flows[flows.find("\n[[streams]]").unwrap()..];
    let named = flows.replace("name = \"flows\"", "name = \"flows\"\ndatabase = \"lanl\"");
    let configuration = format!("[databases.lanl]\npath = 'lanl.db'\n{named}");
    fs::write(folder.path().join("c.toml"), configuration).unwrap();
    let check = run(folder.path(), &["check", "--config", "c.toml"]);
    let missing = "there is no database lanl.db; make one with `flows import SOURCE`, or name another with \
                   databases.lanl.path";
    assert_has(&check.stdout, &[missing]);
    let import = ["import", "lanl-flows-head.txt", "--config", "c.toml"];
    let said = run(folder.path(), &import).fine();
    assert_has(&said, &["kept 10 lines in lanl.db (ids 1 to 10)"]);
    assert!(!folder.path().join("flows.db").exists());
    ten_records(folder.path());
    let read = |name: &str| {
        let open = Connection::open(folder.path().join(name)).unwrap();
        open.query_row("SELECT count(*), sum(byte_count) FROM flows", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .unwrap()
    };
    assert_eq!(read("lanl.db"), read("ten.db"));
}
