//! `flows check`: what it finds, and that what it advises fixes it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use crate::harness::{Ran, assert_has, database, folder, is_root, run, ten_records};

fn check(folder: &Path, database: &str) -> Ran {
    run(folder, &["check", "--database", database])
}

fn check_with(folder: &Path, configuration: &str) -> Ran {
    fs::write(folder.join("test.toml"), configuration).unwrap();
    run(
        folder,
        &["check", "--config", "test.toml", "--database", "made.db"],
    )
}

fn stream(columns: &str) -> String {
    format!(
        "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\ncolumns = [{columns}]\n"
    )
}

const ID: &str = "{ name = \"id\", type = \"integer\" }";

#[test]
fn what_is_served_is_listed() {
    let folder = folder();
    ten_records(folder.path());
    let report = check(folder.path(), "ten.db").fine();
    assert_has(
        &report,
        &[
            "stream flows: table flows, ordered by (time, id)",
            "  src_port text",
            "  byte_count integer",
            "  read straight from the table's pages\n",
        ],
    );
    assert!(!report.contains("warning"), "{report}");
}

#[test]
fn why_a_table_is_read_by_sql() {
    let folder = folder();
    ten_records(folder.path());
    fs::write(
        folder.path().join("off.toml"),
        "[database]\npage_reader = false\n",
    )
    .unwrap();
    let off = ["check", "--config", "off.toml", "--database", "ten.db"];
    let why = "  read by SQL: database.page_reader is false\n";
    assert_has(&run(folder.path(), &off).fine(), &[why]);
    let clustered = "PRIMARY KEY (time, id)) WITHOUT ROWID";
    for (table, columns, why) in [
        (
            "id INTEGER PRIMARY KEY, time INTEGER)".to_owned(),
            ID,
            "only with an index on time",
        ),
        (
            format!("id INTEGER, time INTEGER, x AS (id), {clustered}"),
            ID,
            "the generated column x",
        ),
        (
            format!("id INTEGER, time INTEGER, v, {clustered}"),
            "{ name = \"v\", type = \"text\" }",
            "the values of v are converted",
        ),
    ] {
        let sql = format!("DROP TABLE IF EXISTS t; CREATE TABLE t ({table}");
        database(folder.path(), &sql);
        let report = check_with(folder.path(), &stream(columns)).stdout;
        assert!(report.contains("  read by SQL: "), "{report}");
        assert_has(&report, &[why]);
    }
}

#[test]
fn databases_that_cannot_be_read() {
    let folder = folder();
    check(folder.path(), "none.db").failed(2, &["1 error"]);
    assert_has(
        &check(folder.path(), "none.db").stdout,
        &["error: there is no database none.db", "flows import"],
    );
    fs::write(folder.path().join("text.db"), "hello\n".repeat(100)).unwrap();
    assert_has(
        &check(folder.path(), "text.db").stdout,
        &["error: text.db is not an SQLite database"],
    );
    fs::create_dir(folder.path().join("dir.db")).unwrap();
    assert_has(
        &check(folder.path(), "dir.db").stdout,
        &["error: the database dir.db cannot be read"],
    );
    let mut page = b"SQLite format 3\0".to_vec();
    page.extend([0xEE; 5000]);
    fs::write(folder.path().join("damaged.db"), page).unwrap();
    let ran = check(folder.path(), "damaged.db");
    assert_eq!(ran.code, Some(2));
    assert_has(
        &ran.stdout,
        &["error: damaged.db is not an SQLite database (damaged"],
    );
}

#[test]
fn tables_and_columns_that_are_missing() {
    let folder = folder();
    database(
        folder.path(),
        "CREATE TABLE flow (id, tme); CREATE VIEW v AS SELECT 1 AS id, 2 AS time",
    );
    let ran = check(folder.path(), "made.db");
    ran.failed(2, &["1 error"]);
    assert_has(
        &ran.stdout,
        &["error: stream flows: no table flows (did you mean flow?); there are: flow, v"],
    );
    let configuration = stream(ID).replace("table = \"t\"", "table = \"flow\"");
    let ran = check_with(folder.path(), &configuration);
    assert_has(
        &ran.stdout,
        &[
            "error: stream t: the table flow has no column time (did you mean tme?); it has: id, tme",
        ],
    );
    let two = format!(
        "{configuration}\n{}",
        stream(ID).replace("name = \"t\"", "name = \"u\"")
    );
    check_with(folder.path(), &two).failed(2, &["2 errors"]);
}

#[test]
fn the_index_it_advises_fixes_the_sort() {
    for (columns, cast) in [
        ("id INTEGER, time INTEGER", false),
        ("id, time INTEGER", true),
        ("id, time", true),
    ] {
        let folder = folder();
        let path = database(
            folder.path(),
            &format!(
                "PRAGMA journal_mode = WAL; CREATE TABLE t ({columns}, v); INSERT INTO t VALUES (1, 1, 1);"
            ),
        );
        let report = check_with(folder.path(), &stream(ID)).fine();
        assert_has(
            &report,
            &[
                "warning: stream t: no index of t gives (time, id) order",
                "sorts",
                "temporary file in /",
                "MiB",
            ],
        );
        assert_eq!(
            report.contains("order and bounds use a cast"),
            cast,
            "{report}"
        );
        let warning = report.split("warning: stream t: no index").nth(1).unwrap();
        let sql = warning.split("sqlite3 made.db '").nth(1).unwrap();
        let sql = sql.split('\'').next().unwrap();
        assert!(sql.starts_with("CREATE INDEX"), "{sql}");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let report = check_with(folder.path(), &stream(ID)).fine();
        assert!(!report.contains("no index"), "after {sql}: {report}");
        // And the one for the order of ids, which says that ids may repeat.
        let advice = report
            .split("sorted for each request; `sqlite3 made.db '")
            .nth(1);
        assert_eq!(advice.is_none(), columns.starts_with("id,"), "{report}");
        if let Some(advice) = advice {
            let sql = advice.split('\'').next().unwrap();
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            let report = check_with(folder.path(), &stream(ID)).fine();
            assert_has(
                &report,
                &["served by an index; nothing says that no id repeats"],
            );
        }
    }
    let folder = folder();
    database(
        folder.path(),
        "CREATE TABLE raw (id, time); CREATE VIEW t AS SELECT * FROM raw",
    );
    let report = check_with(folder.path(), &stream(ID)).fine();
    assert_has(
        &report,
        &["view t", "index the table behind the view by (time, id)"],
    );
}

#[test]
fn an_index_on_time_alone_is_not_enough_unless_the_id_is_the_rowid() {
    for (id, warned) in [("id INTEGER PRIMARY KEY", false), ("id INTEGER", true)] {
        let folder = folder();
        database(
            folder.path(),
            &format!("CREATE TABLE t ({id}, time INTEGER); CREATE INDEX i ON t (time);"),
        );
        let report = check_with(folder.path(), &stream(ID)).fine();
        let text = "an index of t gives the order of times, but";
        assert_eq!(report.contains(text), warned, "{report}");
        assert!(!report.contains("no index"), "{report}");
    }
}

#[test]
fn affinities_and_journals_are_warned_of() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, byte_count, port INTEGER, r ANY);
         CREATE INDEX i ON t (time);",
    );
    let columns = format!(
        "{ID}, {{ name = \"byte_count\", type = \"integer\" }}, {{ name = \"port\", type = \"text\" }}, \
         {{ name = \"r\", type = \"integer\" }}"
    );
    let report = check_with(folder.path(), &stream(&columns)).fine();
    assert_has(
        &report,
        &[
            "warning: stream t: the column byte_count is declared integer, but in the table it has no type",
            "warning: stream t: the column port is declared text, but in the table it has integer affinity",
            "warning: made.db is in rollback-journal mode",
            "sqlite3 made.db 'PRAGMA journal_mode = WAL'",
        ],
    );
    assert!(!report.contains("the column r"), "ANY is numeric: {report}");
    Connection::open(&path)
        .unwrap()
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    let report = check_with(folder.path(), &stream(&columns)).fine();
    assert!(!report.contains("rollback"), "{report}");
}

#[test]
fn times_and_ids_that_are_not_integers_are_errors_with_the_reason() {
    for (row, parts) in [
        (
            "1, '2020-01-01 00:00:00'",
            &[
                "time column",
                "the string \"2020-01-01 00:00:00\"",
                "64-bit integer",
                "ordered",
            ][..],
        ),
        ("1, 1.5", &["time column", "1.5"]),
        ("'a', 1", &["id column", "the string \"a\""]),
        ("1, NULL", &["time column", "null"]),
    ] {
        let folder = folder();
        database(
            folder.path(),
            &format!("CREATE TABLE t (id, time DATETIME); INSERT INTO t VALUES ({row})"),
        );
        let ran = check_with(folder.path(), &stream(ID));
        ran.failed(2, &["1 error"]);
        assert_has(&ran.stdout, parts);
    }
}

/// Of a table whose time is declared so, with these rows.
fn check_times(declared: &str, rows: &str) -> Ran {
    let folder = folder();
    database(
        folder.path(),
        &format!("CREATE TABLE t (id INTEGER PRIMARY KEY, time); INSERT INTO t VALUES {rows}"),
    );
    check_with(
        folder.path(),
        &stream(&format!("{ID}, {{ name = \"time\", {declared} }}")),
    )
}

#[test]
fn times_of_another_spelling_are_errors_that_say_what_to_declare() {
    let usual = "type = \"timestamp\", stored = \"iso8601\"";
    for (declared, rows, parts) in [
        (
            usual,
            "(1, '2026-01-01T00:00:10')",
            &[
                "the time column time of the table t holds the string \"2026-01-01T00:00:10\"",
                "spelled YYYY-MM-DD HH:MM:SS.f*",
                "declare `type = \"timestamp\", unit = \"us\", stored = \"iso8601\", spelling = \"YYYY-MM-DDTHH:MM:SS.f*\"`",
                "1 of 1 sampled values are spelled so",
            ][..],
        ),
        (
            usual,
            "(1, 1767225610.5)",
            &[
                "1767225610.5",
                "declare `type = \"timestamp\", unit = \"us\", stored = \"epoch_real\"`",
            ],
        ),
        (
            "type = \"timestamp\", unit = \"s\"",
            "(1, '2026-01-01 00:00Z')",
            &[
                "declare `type = \"timestamp\", unit = \"s\", stored = \"iso8601\", spelling = \"YYYY-MM-DD HH:MMZ\"`",
            ],
        ),
        (
            usual,
            "(1, 2461041.5)",
            &["Julian days", "ALTER TABLE \"t\" ADD COLUMN \"time_ms\""],
        ),
        (
            usual,
            "(1, '2026-01-01 00:00:10Z'), (2, '2026-01-01 00:00:10.5Z')",
            &["…10.5Z sorts before …10Z", "julianday(\"time\")"],
        ),
        (
            usual,
            "(1, '2026-01-01 00:00:10'), (2, '2026-01-01T00:00:10')",
            &["spelled in several ways"],
        ),
    ] {
        let ran = check_times(declared, rows);
        ran.failed(2, &["1 error"]);
        assert_has(&ran.stdout, parts);
    }
}

#[test]
fn both_ends_and_the_middle_are_looked_at() {
    for wrong in [1, 50_000, 100_000] {
        let folder = folder();
        database(
            folder.path(),
            &format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                 INSERT INTO t SELECT i, i, iif(i = {wrong}, 'x', i) FROM n;"
            ),
        );
        let columns = format!("{ID}, {{ name = \"v\", type = \"integer\" }}");
        assert_has(
            &check_with(folder.path(), &stream(&columns)).fine(),
            &[
                "warning: stream t: in the column v, 1 of 3,000 sampled values are not an integer, such as the \
                 string \"x\"",
                "declare `type = \"text\"`",
            ],
        );
    }
}

#[test]
fn columns_that_are_not_as_declared_are_warned_of() {
    let folder = folder();
    database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, a, b, c, d, e);
         INSERT INTO t VALUES (1, 1, NULL, '{', 'yes', '1.55', '2026-02-30'), (2, 2, 1, '{}', 1, '2', '2026-02-28');",
    );
    let columns = format!(
        "{ID}, {{ name = \"a\", type = \"integer\" }}, {{ name = \"b\", type = \"json\" }}, {{ name = \"c\", type \
         = \"boolean\" }}, {{ name = \"d\", type = \"decimal\", precision = 3, scale = 1 }}, {{ name = \"e\", type = \
         \"date\" }}"
    );
    let report = check_with(folder.path(), &stream(&columns)).fine();
    let one = "1 of 2 sampled values are";
    assert_has(
        &report,
        &[
            &format!("the column a, which is not declared nullable, {one} null"),
            "declare `nullable = true`",
            &format!(
                "the column b, {one} not JSON, such as the string \"{{\", each of which breaks the stream"
            ),
            &format!("the column c, {one} not a boolean"),
            &format!("the column d, {one} not a decimal of at most 3 digits"),
            &format!("the column e, {one} not a date"),
        ],
    );
}

#[test]
fn all_rows_finds_every_record_that_would_break_the_stream() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT, v); CREATE INDEX i ON t (time, id);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
         INSERT INTO t SELECT i, strftime('%Y-%m-%d %H:%M:%S', 1767225610 + i, 'unixepoch'), i FROM n;",
    );
    let spelled = "type = \"timestamp\", unit = \"s\", stored = \"iso8601\", spelling = \"YYYY-MM-DD HH:MM:SS\"";
    let columns =
        format!("{ID}, {{ name = \"time\", {spelled} }}, {{ name = \"v\", type = \"integer\" }}");
    let all_rows = || {
        fs::write(folder.path().join("test.toml"), stream(&columns)).unwrap();
        let arguments = [
            "check",
            "--config",
            "test.toml",
            "--database",
            "made.db",
            "--all-rows",
        ];
        run(folder.path(), &arguments)
    };
    assert_has(
        &all_rows().fine(),
        &["stream t: all 30,000 records are as declared, and in order\n"],
    );
    // None of them is in the sample.
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "UPDATE t SET v = 'lots' WHERE id = 7000;
             UPDATE t SET v = NULL WHERE id = 8000;
             UPDATE t SET time = '2026-01-01T09:00:00' WHERE id = 9000;",
        )
        .unwrap();
    check_with(folder.path(), &stream(&columns)).fine();
    let ran = all_rows();
    ran.failed(2, &["3 errors"]);
    assert_has(
        &ran.stdout,
        &[
            "error: stream t, column v, record with id 7000: the string \"lots\", which is not an integer\n",
            "error: stream t, column v, record with id 8000: null, and the column is not declared nullable",
            "error: stream t, column time, record with id 9000: the string \"2026-01-01T09:00:00\", which is not a",
        ],
    );
    connection
        .execute_batch("UPDATE t SET v = 'x' WHERE id BETWEEN 5000 AND 7000")
        .unwrap();
    let ran = all_rows();
    ran.failed(2, &["21 errors"]);
    assert_has(
        &ran.stdout,
        &["error: stream t: 1,983 more of 30,000 records would break it\n"],
    );
}

#[test]
fn all_rows_says_what_cannot_be_read_and_what_is_not_utf_8() {
    let folder = folder();
    ten_records(folder.path());
    let path = folder.path().join("ten.db");
    let execute = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    execute(
        "UPDATE flows SET src_comp = CAST(x'41ff' AS TEXT) WHERE id = 3; PRAGMA wal_checkpoint(TRUNCATE);",
    );
    let all_rows = || {
        run(
            folder.path(),
            &["check", "--database", "ten.db", "--all-rows"],
        )
    };
    assert_has(
        &all_rows().fine(),
        &[
            "warning: stream flows: 1 strings are not UTF-8",
            "all 10 records are as declared",
        ],
    );
    let (root, size): (u32, u32) = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = 'flows'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    let mut pages = fs::read(&path).unwrap();
    pages[((root - 1) * size) as usize..][..100].fill(0xEE);
    fs::write(&path, pages).unwrap();
    let ran = all_rows();
    ran.failed(2, &["1 error"]);
    assert_has(
        &ran.stdout,
        &["error: stream flows: reading its records ended with: database disk image is malformed"],
    );
}

#[test]
fn all_rows_finds_times_whose_spellings_are_not_in_order() {
    let folder = folder();
    // One time in two spellings: as texts they are in order, and their ids are not.
    database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time TEXT);
         INSERT INTO t VALUES (2, '2026-01-01 00:00:10'), (1, '2026-01-01 00:00:10.000');",
    );
    let columns =
        format!("{ID}, {{ name = \"time\", type = \"timestamp\", stored = \"iso8601\" }}");
    check_with(folder.path(), &stream(&columns)).fine();
    let arguments = [
        "check",
        "--config",
        "test.toml",
        "--database",
        "made.db",
        "--all-rows",
    ];
    let ran = run(folder.path(), &arguments);
    ran.failed(2, &["1 error"]);
    assert_has(&ran.stdout, &["record with id 1: out of order"]);
}

#[test]
fn a_wal_file_in_a_folder_that_cannot_be_written() {
    let folder = folder();
    ten_records(folder.path());
    let program = folder.path().join("flows");
    fs::copy(env!("CARGO_BIN_EXE_flows"), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new(&program);
    command
        .current_dir(folder.path())
        .args(["check", "--database", "ten.db"]);
    if is_root() {
        // To root every folder is writable.
        command.uid(65534).gid(65534);
    }
    let ran = Ran::from(command.output().unwrap());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    ran.failed(2, &["1 error"]);
    assert_has(
        &ran.stdout,
        &[
            "error: ten.db is in write-ahead-log mode",
            "cannot write the folder /",
            "database.immutable = true",
            "journal_mode = DELETE",
            "VACUUM INTO",
        ],
    );
}
