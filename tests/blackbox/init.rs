//! `flows init`: what it writes is served at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::{Server, assert_has, database, flows, folder, python, run, ten_records};

/// What `flows init` writes of a database in the folder.
fn init(folder: &Path, name: &str) -> String {
    let written = run(folder, &["init", name]).fine();
    // Whatever there is in the database, the text is TOML: the server reads nothing else.
    fs::write(folder.join("flows.toml"), &written).unwrap();
    written
}

/// `flows init app.db > flows.toml && flows serve --config flows.toml`
fn served(folder: &Path, name: &str) -> (String, Server) {
    let written = init(folder, name);
    let serve = ["serve", "--config", "flows.toml", "--listen", "127.0.0.1:0"];
    let server = Server::start(folder, &mut flows(folder, &serve));
    (written, server)
}

/// The records of a stream, all of them.
fn records(server: &Server, stream: &str) -> Vec<Value> {
    let document = server.document(&format!("/api/v1/stream/{stream}.ndjson"));
    let record = |line| serde_json::from_str(line).unwrap();
    document.lines().map(record).collect()
}

/// The names of the streams.
fn streams(server: &Server) -> Vec<String> {
    let listed: Value = serde_json::from_str(&server.document("/api/v1/streams")).unwrap();
    let streams = listed["streams"].as_array().unwrap();
    let name = |stream: &Value| stream["name"].as_str().unwrap().to_owned();
    streams.iter().map(name).collect()
}

/// The texts of a record, by column.
type Texts = BTreeMap<String, String>;

/// Makes a database as applications do; what its first and its last record are.
fn made(folder: &Path, kind: &str, rows: usize) -> (Texts, Texts) {
    let path = folder.join("app.db");
    let made = python("databases.py")
        .args([kind, path.to_str().unwrap(), &rows.to_string()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{errors}");
    serde_json::from_slice(&made.stdout).unwrap()
}

#[test]
#[ignore = "needs tests/.venv: tests/run makes it"]
fn databases_of_applications_are_served_as_they_are() {
    const ROWS: usize = 7000;
    for (kind, stream, declared) in [
        (
            "log",
            "app_log",
            &[
                "time = \"at\"",
                "id = \"id\"",
                "stored = \"iso8601\", spelling = \"YYYY-MM-DD HH:MM:SS.f*\"",
                "    # { name = \"api_token\", type = \"text\", nullable = true }, # looks like a secret",
                "# guessed: 3,000 of 3,000 sampled values are spelled so",
                "CREATE INDEX",
            ][..],
        ),
        (
            "sensors",
            "readings",
            &[
                "time = \"ts\"",
                "id = { name = \"rowid\", type = \"integer\" }",
                "VACUUM",
                "{ name = \"ts\", type = \"timestamp\", unit = \"us\", stored = \"epoch_real\" }",
            ],
        ),
        (
            "django",
            "shop_order",
            &[
                "time = \"created_at\"",
                "{ name = \"created_at\", type = \"timestamp\", unit = \"us\", stored = \"iso8601\"",
                "{ name = \"delivery\", type = \"date\", nullable = true }",
                "{ name = \"paid\", type = \"boolean\" }",
                "{ name = \"total\", type = \"decimal\", precision = 38, scale = 9 }",
                "{ name = \"reference\", type = \"text\" }",
                "{ name = \"details\", type = \"json\" }",
            ],
        ),
    ] {
        let folder = folder();
        let (first, last) = made(folder.path(), kind, ROWS);
        let (written, server) = served(folder.path(), "app.db");
        // An integer primary key stands at the end of the index that the application made.
        let declared = declared
            .iter()
            .filter(|part| kind != "log" || **part != "CREATE INDEX");
        assert_has(&written, &declared.copied().collect::<Vec<_>>());
        assert_eq!(streams(&server), [stream]);
        let csv = server.document(&format!("/api/v1/stream/{stream}.csv"));
        let mut csv = csv::Reader::from_reader(csv.as_bytes());
        let records: Vec<Texts> = csv.deserialize().collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), ROWS);
        assert_eq!((&records[0], &records[ROWS - 1]), (&first, &last), "{kind}");
        let report = run(
            folder.path(),
            &["check", "--config", "flows.toml", "--all-rows"],
        );
        assert_has(
            &report.fine(),
            &["all 7,000 records are as declared, and in order"],
        );
    }
}

#[test]
fn lanls_table_is_served_as_its_own_configuration_serves_it() {
    let folder = folder();
    ten_records(folder.path());
    let (written, server) = served(folder.path(), "ten.db");
    // It is not of 1970.
    assert_has(&written, &["{ name = \"time\", type = \"integer\" }"]);
    assert_eq!(
        server.document("/api/v1/stream/flows.csv"),
        include_str!("../golden/flows.csv")
    );
    let report = run(folder.path(), &["check", "--config", "flows.toml"]).fine();
    assert_has(&report, &["read straight from the table's pages"]);
}

#[test]
fn every_kind_of_table_is_served_or_said_why_not() {
    let folder = folder();
    database(
        folder.path(),
        r#"
        CREATE TABLE empty (id INTEGER PRIMARY KEY, created DATETIME NOT NULL, n INT, price DECIMAL(10, 2), ok BOOL);
        CREATE TABLE clustered (time INTEGER, id INTEGER, v TEXT, PRIMARY KEY (time, id)) WITHOUT ROWID;
        INSERT INTO clustered VALUES (1, 1, 'a'), (2, 1, NULL), (2, 3, 'c');
        CREATE TABLE strict (id TEXT PRIMARY KEY, at INTEGER NOT NULL, any ANY) STRICT;
        INSERT INTO strict VALUES ('b', 1767225610, 1), ('a', 1767225610, x'00'), ('c', 1767225611, 'x');
        CREATE TABLE generated (id INTEGER PRIMARY KEY, day REAL, at_ms AS (CAST((day - 2440587.5) * 86400000 AS INTEGER)), twice AS (id * 2) STORED);
        INSERT INTO generated VALUES (1, 2461041.5), (2, 2461042.5);
        CREATE TABLE mixed (id INTEGER PRIMARY KEY, ts INTEGER, v, w NUMERIC, x);
        INSERT INTO mixed VALUES (1, 1767225610123, 1, 1, 1), (2, 1767225610124, 'a', 2.5, 'b'), (3, 1767225610125, 2.5, 3, x'ff');
        CREATE VIEW recent AS SELECT id, ts, v FROM mixed WHERE ts > 1767225610123;
        CREATE VIRTUAL TABLE words USING fts5(body);
        CREATE TABLE julian (id INTEGER PRIMARY KEY, at REAL);
        INSERT INTO julian VALUES (1, 2461041.5);
        CREATE TABLE julian_days (id INTEGER PRIMARY KEY, day INTEGER NOT NULL, at INT);
        INSERT INTO julian_days VALUES (1, 5, 2461041);
        CREATE TABLE spelled_with_z (id INTEGER PRIMARY KEY, at TEXT);
        INSERT INTO spelled_with_z VALUES (1, '2026-01-01T00:00:10.5Z'), (2, '2026-01-01T00:00:10Z');
        CREATE TABLE millis (id INTEGER PRIMARY KEY, at TEXT);
        INSERT INTO millis VALUES (1, '2026-01-01T00:00:10.500Z'), (2, '2026-01-01T00:00:10.501Z');
        CREATE TABLE holes (id INTEGER PRIMARY KEY, created_at TEXT);
        INSERT INTO holes VALUES (1, '2026-01-01 00:00:10'), (2, NULL);
        CREATE TABLE no_time (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE no_time_either (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE real_millis (ts REAL);
        INSERT INTO real_millis VALUES (1767225610250.5);
        CREATE TABLE untyped (id, time, v);
        INSERT INTO untyped VALUES ('10', '1767225611', 'x'), ('9', '1767225610', 'y');
        CREATE TABLE no_id (a TEXT, b TEXT, at INTEGER, v TEXT, PRIMARY KEY (a, b, at)) WITHOUT ROWID;
        CREATE TABLE days (id INTEGER PRIMARY KEY, day DATE NOT NULL);
        INSERT INTO days VALUES (1, '2026-01-02'), (2, '2026-01-01');
        CREATE TABLE users (id INTEGER PRIMARY KEY, date_joined DATETIME NOT NULL, password VARCHAR(128), "apiKey" TEXT);
        INSERT INTO users VALUES (1, '2026-01-01 00:00:10.25', 'pbkdf2', 'k');
        CREATE TABLE sessions (session_key TEXT PRIMARY KEY, created_at DATETIME NOT NULL);
        INSERT INTO sessions VALUES ('secret', '2026-01-01 00:00:10');
        CREATE VIEW broken AS SELECT * FROM gone;
        "#,
    );
    let (written, server) = served(folder.path(), "made.db");
    assert_eq!(
        streams(&server),
        [
            "empty",
            "clustered",
            "strict",
            "generated",
            "mixed",
            "recent",
            "millis",
            "untyped",
            "days",
            "users",
            "sessions"
        ]
    );
    let lines = |stream: &str| server.document(&format!("/api/v1/stream/{stream}.ndjson"));
    for (stream, expected) in [
        ("empty", ""),
        (
            "clustered",
            "{\"time\":1,\"id\":1,\"v\":\"a\"}\n{\"time\":2,\"id\":1,\"v\":null}\n{\"time\":2,\"id\":3,\"v\":\"c\"}\n",
        ),
        (
            "strict",
            "{\"id\":\"a\",\"at\":\"2026-01-01T00:00:10Z\",\"any\":\"AA==\"}\n\
             {\"id\":\"b\",\"at\":\"2026-01-01T00:00:10Z\",\"any\":\"MQ==\"}\n\
             {\"id\":\"c\",\"at\":\"2026-01-01T00:00:11Z\",\"any\":\"eA==\"}\n",
        ),
        (
            "generated",
            "{\"id\":1,\"day\":2461041.5,\"at_ms\":\"2026-01-01T00:00:00.000Z\",\"twice\":2}\n\
             {\"id\":2,\"day\":2461042.5,\"at_ms\":\"2026-01-02T00:00:00.000Z\",\"twice\":4}\n",
        ),
        (
            "mixed",
            "{\"id\":1,\"ts\":\"2026-01-01T00:00:10.123Z\",\"v\":\"1\",\"w\":1.0,\"x\":\"MQ==\"}\n\
             {\"id\":2,\"ts\":\"2026-01-01T00:00:10.124Z\",\"v\":\"a\",\"w\":2.5,\"x\":\"Yg==\"}\n\
             {\"id\":3,\"ts\":\"2026-01-01T00:00:10.125Z\",\"v\":\"2.5\",\"w\":3.0,\"x\":\"/w==\"}\n",
        ),
        (
            "recent",
            "{\"id\":2,\"ts\":\"2026-01-01T00:00:10.124Z\",\"v\":\"a\"}\n\
             {\"id\":3,\"ts\":\"2026-01-01T00:00:10.125Z\",\"v\":\"2.5\"}\n",
        ),
        (
            "millis",
            "{\"id\":1,\"at\":\"2026-01-01T00:00:10.500Z\"}\n{\"id\":2,\"at\":\"2026-01-01T00:00:10.501Z\"}\n",
        ),
        (
            "untyped",
            "{\"id\":\"9\",\"time\":\"2026-01-01T00:00:10Z\",\"v\":\"y\"}\n\
             {\"id\":\"10\",\"time\":\"2026-01-01T00:00:11Z\",\"v\":\"x\"}\n",
        ),
        (
            "days",
            "{\"id\":2,\"day\":\"2026-01-01T00:00:00Z\"}\n{\"id\":1,\"day\":\"2026-01-02T00:00:00Z\"}\n",
        ),
        (
            "users",
            "{\"id\":1,\"date_joined\":\"2026-01-01T00:00:10.250000Z\"}\n",
        ),
        (
            "sessions",
            "{\"created_at\":\"2026-01-01T00:00:10.000000Z\"}\n",
        ),
    ] {
        assert_eq!(lines(stream), expected, "{stream}: {written}");
    }
    // What is not served is said, with what helps.
    let paragraphs: Vec<_> = written
        .split("\n\n")
        .map(|part| part.replace("\n#", ""))
        .collect();
    for (table, parts) in [
        ("view broken", &["cannot be read"][..]),
        ("table words", &["virtual table"]),
        (
            "table words_data, the table words_idx",
            &["part of a virtual table"],
        ),
        (
            "table julian",
            &["Julian days", "ALTER TABLE \"julian\" ADD COLUMN \"at_ms\""],
        ),
        ("table julian_days", &["Julian days"]),
        ("table spelled_with_z", &["sorts before"]),
        ("table real_millis", &["milliseconds since 1970, as reals"]),
        (
            "table holes",
            &[
                "1 of 2 sampled values are null",
                "`query = 'SELECT * FROM \"holes\" WHERE \"created_at\" IS NOT NULL'`",
            ],
        ),
        (
            "table no_time, the table no_time_either:",
            &["no column seems to hold the time"],
        ),
        ("table no_id", &["WITHOUT ROWID"]),
    ] {
        let title = format!("# Not streamed: the {table}");
        let paragraph = paragraphs.iter().find(|part| part.starts_with(&title));
        let paragraph = paragraph.unwrap_or_else(|| panic!("no {title} in {written}"));
        assert_has(paragraph, parts);
    }
}

#[test]
fn what_it_says_would_help_helps() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE julian (id INTEGER PRIMARY KEY, at REAL);
         INSERT INTO julian VALUES (1, julianday('2026-01-01 00:00:10.250'));
         CREATE TABLE zulu (id INTEGER PRIMARY KEY, at TEXT);
         INSERT INTO zulu VALUES (1, '2026-01-01T00:00:10.5Z'), (2, '2026-01-01T00:00:10Z');
         CREATE TABLE javascript (id INTEGER PRIMARY KEY, at REAL);
         INSERT INTO javascript VALUES (1, 1767225610123.5);",
    );
    let ran = run(folder.path(), &["init", "made.db"]);
    ran.failed(2, &["nothing in made.db can be streamed"]);
    fs::write(folder.path().join("flows.toml"), &ran.stdout).unwrap();
    let serve = run(folder.path(), &["serve", "--config", "flows.toml"]);
    serve.failed(2, &["streams", "at least one section [[streams]]"]);
    let statements = ran
        .stdout
        .split('`')
        .filter(|part| part.starts_with("ALTER TABLE"));
    let statements: Vec<_> = statements.collect();
    assert_eq!(statements.len(), 3, "{}", ran.stdout);
    let batch = statements.join(";");
    Connection::open(path)
        .unwrap()
        .execute_batch(&batch)
        .unwrap();
    let (_, server) = served(folder.path(), "made.db");
    let times = |stream| -> Vec<String> {
        let time = |record: &Value| record["at_ms"].as_str().unwrap().to_owned();
        records(&server, stream).iter().map(time).collect()
    };
    assert_eq!(times("javascript"), ["2026-01-01T00:00:10.124Z"]);
    assert_eq!(times("julian"), ["2026-01-01T00:00:10.250Z"]);
    assert_eq!(
        times("zulu"),
        ["2026-01-01T00:00:10.000Z", "2026-01-01T00:00:10.500Z"]
    );
}

#[test]
fn names_that_are_hard_to_write() {
    let folder = folder();
    let columns: Vec<_> = (0..300).map(|number| format!("c{number} INT")).collect();
    let values: Vec<_> = (0..300).map(|number| number.to_string()).collect();
    database(
        folder.path(),
        &format!(
            "CREATE TABLE \"odd \"\"table\n\\ = [x] # '''\" (id INTEGER PRIMARY KEY, \"the ti\nme\" DATETIME NOT NULL,
                 \"a \"\"b\"\" 'c' \\d [e] # {{f}}\t\u{7f}\u{1}\" TEXT, \"日本\" TEXT, \"limit\" INT, \"csv.header\" TEXT, \"\" TEXT);
             INSERT INTO \"odd \"\"table\n\\ = [x] # '''\" VALUES (1, '2026-01-01 00:00:10', 'x', 'y', 5, 'h', 'n');
             CREATE TABLE \"limit\" (id INTEGER PRIMARY KEY, after INTEGER NOT NULL, created_at INTEGER NOT NULL);
             INSERT INTO \"limit\" VALUES (1, 1, 1767225610);
             CREATE TABLE metrics (at INTEGER NOT NULL, count INTEGER, count_ TEXT, token TEXT);
             INSERT INTO metrics VALUES (1767225610, 7, 'x', 's'), (1767225609, 8, 'y', 's');
             CREATE TABLE \"Ωmega\" (id INTEGER PRIMARY KEY, created_at TEXT NOT NULL);
             INSERT INTO \"Ωmega\" VALUES (1, '2026-01-01 00:00:10');
             CREATE TABLE wide (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, {});
             INSERT INTO wide VALUES (1, '2026-01-01 00:00:10', {});",
            columns.join(", "),
            values.join(", ")
        ),
    );
    let (written, server) = served(folder.path(), "made.db");
    let streams = streams(&server);
    assert_eq!(
        streams,
        [
            "odd__table______x_______",
            "limit_table",
            "metrics",
            "_mega",
            "wide"
        ],
        "{written}"
    );
    let odd = &records(&server, &streams[0])[0];
    let odd = odd.as_object().unwrap();
    assert_eq!(odd.len(), 6, "{odd:?}");
    assert_eq!(
        (&odd["limit_"], &odd["csv.header_"]),
        (&5.into(), &"h".into())
    );
    assert_eq!(odd["the ti\nme"], "2026-01-01T00:00:10.000000Z");
    assert_eq!(odd["a \"b\" 'c' \\d [e] # {f}\t\u{7f}\u{1}"], "x");
    assert_eq!(odd["日本"], "y");
    let lines = |stream: &str| server.document(&format!("/api/v1/stream/{stream}.ndjson"));
    assert_eq!(
        lines("limit_table"),
        "{\"id\":1,\"after_\":1,\"created_at\":\"2026-01-01T00:00:10Z\"}\n"
    );
    // Those that a client cannot ask for by their names have others, and secrets are not even selected.
    assert_eq!(
        lines("metrics"),
        "{\"at\":\"2026-01-01T00:00:09Z\",\"count__\":8,\"count_\":\"y\"}\n\
         {\"at\":\"2026-01-01T00:00:10Z\",\"count__\":7,\"count_\":\"x\"}\n"
    );
    let filtered = server.document("/api/v1/stream/metrics.csv?count__=7&csv.header=false");
    assert_eq!(filtered, "2026-01-01T00:00:10Z,7,x\n");
    assert_has(
        &written,
        &[
            r#"query = "SELECT \"rowid\", \"at\", \"count\" AS \"count__\", \"count_\" FROM \"metrics\"""#,
        ],
    );
    assert_eq!(records(&server, "wide")[0]["c299"], 299);
}

#[test]
fn the_query_that_it_says_leaves_nulls_out() {
    let folder = folder();
    database(
        folder.path(),
        "CREATE TABLE holes (id INTEGER PRIMARY KEY, created_at TEXT);
         INSERT INTO holes VALUES (1, '2026-01-01 00:00:10'), (2, NULL);",
    );
    let ran = run(folder.path(), &["init", "made.db"]);
    let query = ran
        .stdout
        .split('`')
        .find(|part| part.starts_with("query = "));
    let configuration = format!(
        "[[streams]]\nname = \"holes\"\n{}\ntime = \"created_at\"\nid = \"id\"\ncolumns = [\
         {{ name = \"id\", type = \"integer\" }}, \
         {{ name = \"created_at\", type = \"timestamp\", stored = \"iso8601\" }}]\n",
        query.unwrap()
    );
    let server = Server::with(
        folder.path(),
        &folder.path().join("made.db"),
        &configuration,
    );
    assert_eq!(
        server.document("/api/v1/stream/holes.csv"),
        "id,created_at\n1,2026-01-01T00:00:10.000000Z\n"
    );
}

#[test]
fn files_that_cannot_be_described() {
    let folder = folder();
    run(folder.path(), &["init", "none.db"]).failed(2, &["there is no database none.db"]);
    fs::write(folder.path().join("text.db"), "hello\n".repeat(100)).unwrap();
    run(folder.path(), &["init", "text.db"]).failed(2, &["text.db is not an SQLite database"]);
    fs::create_dir(folder.path().join("dir.db")).unwrap();
    run(folder.path(), &["init", "dir.db"]).failed(2, &["dir.db cannot be read"]);
    for name in ["empty.db", "zero.db"] {
        let connection = Connection::open(folder.path().join(name)).unwrap();
        if name == "empty.db" {
            connection.execute_batch("PRAGMA user_version = 1").unwrap();
        }
        let ran = run(folder.path(), &["init", name]);
        ran.failed(2, &["nothing in", name, "can be streamed"]);
        assert_has(&ran.stdout, &["streams = []", "has no tables"]);
        fs::write(folder.path().join("flows.toml"), ran.stdout).unwrap();
        run(folder.path(), &["serve", "--config", "flows.toml"])
            .failed(2, &["at least one section [[streams]]"]);
    }
}

#[test]
fn a_database_of_many_tables_is_described_at_once() {
    let folder = folder();
    let make: String = (0..50)
        .map(|table| {
            format!(
                "CREATE TABLE t{table} (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, a TEXT, b REAL, c INT);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                 INSERT INTO t{table} SELECT i, 1767225610 + i, 'text ' || i, i / 7.0, i % 9 FROM n;"
            )
        })
        .collect();
    database(
        folder.path(),
        &format!("PRAGMA synchronous = OFF; BEGIN; {make} COMMIT;"),
    );
    let start = Instant::now();
    let written = init(folder.path(), "made.db");
    let took = start.elapsed();
    assert_eq!(written.matches("\n[[streams]]\n").count(), 50);
    // What is looked at does not grow with the tables.
    assert!(took.as_secs() < 2, "{took:?}");
}
