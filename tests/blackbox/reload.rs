//! SIGHUP: the configuration is read again.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::harness::{Reply, Server, database, folder, wait_until};

const TABLE: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, a INTEGER, b TEXT);
                     CREATE INDEX t_at ON t (at);
                     INSERT INTO t VALUES (1, 10, 100, 'x'), (2, 20, 200, 'y');";

/// A stream of these columns, read from `source`.
fn stream(name: &str, source: &str, columns: &str) -> String {
    format!(
        "[[streams]]\nname = \"{name}\"\n{source}\ntime = \"at\"\nid = \"id\"\n\
         default_format = \"csv\"\ncolumns = [{columns}]\n"
    )
}

fn reload(server: &Server, folder: &Path, configuration: &str, parts: &[&str]) {
    fs::write(folder.join("test.toml"), configuration).unwrap();
    let before = server.log().lines().count();
    server.signal("HUP");
    wait_until(&format!("{parts:?} is logged"), || {
        let log = server.log();
        let mut lines = log.lines().skip(before);
        lines.any(|line| parts.iter().all(|part| line.contains(part)))
    });
}

#[test]
fn a_changed_configuration_counts_for_the_next_request() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let a = "{ name = \"a\", type = \"integer\" }";
    let table = "table = \"t\"";
    let server = Server::with(folder.path(), &path, &stream("one", table, a));
    // A connection that was there before asks for more after it.
    let mut kept = server.connect();
    let mut ask = |path: &str| {
        write!(kept, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        Reply::read(kept.try_clone().unwrap())
    };
    assert_eq!(ask("/api/v1/stream/one").body, "a\n100\n200\n");
    assert_eq!(ask("/api/v1/stream/two").status, 404);

    // The same name, with other columns and types; a new one; a query.
    let b = "{ name = \"b\", type = \"text\" }, { name = \"a\", type = \"text\" }";
    let query = |factor| format!("query = \"SELECT id, at, {factor} * a AS a FROM t\"");
    let changed = stream("one", table, b) + &stream("two", &query(2), a);
    reload(
        &server,
        folder.path(),
        &changed,
        &["INFO", "read again", "streams=2"],
    );
    assert_eq!(ask("/api/v1/stream/one").body, "b,a\nx,100\ny,200\n");
    assert_eq!(ask("/api/v1/stream/two").body, "a\n200\n400\n");

    // The same query's name, with another query; a stream that is gone.
    reload(
        &server,
        folder.path(),
        &stream("two", &query(3), a),
        &["read again", "streams=1"],
    );
    for _ in 0..3 {
        assert_eq!(ask("/api/v1/stream/two").body, "a\n300\n600\n");
    }
    assert_eq!(ask("/api/v1/stream/one").status, 404);
}

#[test]
fn what_is_wrong_leaves_what_runs() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let a = "{ name = \"a\", type = \"integer\" }";
    let right = stream("one", "table = \"t\"", a);
    let mut server = Server::with(folder.path(), &path, &right);
    for (wrong, parts) in [
        (
            "[server]\nstall_second = 1",
            &["did you mean", "stall_seconds"][..],
        ),
        ("[[streams]", &["test.toml"]),
        (&stream("one", "table = \"u\"", a), &["no table", "u"]),
        (
            &(right.clone()
                + &stream("two", "database = \"other\"\ntable = \"t\"", a)
                + "[databases.other]\npath = \"made.db\""),
            &["stream two", "restart"],
        ),
    ] {
        let parts = [&["ERROR", "SIGHUP", "stays as it was"], parts].concat();
        reload(&server, folder.path(), wrong, &parts);
        assert_eq!(server.document("/api/v1/stream/one"), "a\n100\n200\n");
    }
    // What takes a restart is told, and the rest taken.
    let restart = "[server]\nlisten = \"127.0.0.1:1\"\n[database]\npool_size = 3\n";
    let two = restart.to_owned() + &stream("two", "table = \"t\"", a);
    reload(
        &server,
        folder.path(),
        &two,
        &["WARN", "[database] has changed", "restart"],
    );
    server.logged(&["read again"]);
    assert_eq!(server.document("/api/v1/stream/two"), "a\n100\n200\n");
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}
