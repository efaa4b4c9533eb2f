//! PostgreSQL's own types: what they are sent as, and that windows, positions and filters find them.

use super::shared;
use crate::harness::{Server, assert_has, flows, folder, run};

const STREAM: &str = r#"
    [[streams]]
    name = "t"
    table = "a schema.t"
    time = "at"
    id = "id"
    columns = [
        { name = "id", type = "text" },
        { name = "at", type = "timestamp", unit = "us" },
        { name = "local", type = "timestamp", unit = "ms", nullable = true },
        { name = "day", type = "date", nullable = true },
        { name = "small", type = "integer", nullable = true },
        { name = "middle", type = "integer", nullable = true },
        { name = "single", type = "real", nullable = true },
        { name = "price", type = "decimal", precision = 20, scale = 4, nullable = true },
        { name = "fixed", type = "text", nullable = true },
        { name = "mood", type = "text", nullable = true },
        { name = "ok", type = "boolean", nullable = true },
        { name = "raw", type = "blob", nullable = true },
        { name = "j", type = "json", nullable = true },
        { name = "jb", type = "json", nullable = true },
        { name = "ip", type = "text", nullable = true },
        { name = "tags", type = "text", nullable = true },
        { name = "port", type = "integer", nullable = true },
    ]
"#;

const TABLE: &str = r#"
    CREATE SCHEMA "a schema"; SET search_path = "a schema";
    CREATE TYPE mood AS ENUM ('sad', 'happy');
    CREATE DOMAIN port AS integer CHECK (VALUE BETWEEN 0 AND 65535);
    CREATE TABLE t (id uuid PRIMARY KEY, at timestamptz NOT NULL, local timestamp(3), day date, small smallint,
        middle integer, single real, price numeric(20, 4), fixed char(5), mood mood, ok boolean, raw bytea, j json,
        jb jsonb, ip inet, tags text[], port port, UNIQUE (at, id));
    INSERT INTO t VALUES
        ('b0000000-0000-0000-0000-000000000001', '2026-01-01 01:00:00.000001+01', '2026-01-01 00:00:00.5', '2026-02-28',
         -32768, -2147483648, 0.5, -12345.6789, 'ab', 'happy', true, '\x00ff', '{"b": 1, "a": [1.0]}',
         '{"b": 1, "a": [1.0]}', '10.0.0.1', '{a,"b c"}', 443),
        ('a0000000-0000-0000-0000-000000000002', '2026-01-01 00:00:00.000001+00', '1969-12-31 23:59:59.999', '1969-12-31',
         32767, 2147483647, -1e30, 0.0001, 'abc', 'sad', false, '', 'null', '"x"', '::1', '{}', 0),
        ('c0000000-0000-0000-0000-000000000003', '9999-12-31 23:59:59.999999+00', NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        ('00000000-0000-0000-0000-000000000004', '0001-01-01 00:00:00+00', NULL, '0001-01-01', 0, 0, 0, 10000, '', NULL,
         NULL, NULL, '[]', '{}', NULL, NULL, NULL);"#;

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn native_types_are_sent_and_found() {
    let folder = folder();
    let name = shared().create();
    shared().sql(&name, TABLE);
    let server = Server::with(folder.path(), &shared().url(&name), STREAM);
    let lines = server.document("/api/v1/stream/t.ndjson");
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"00000000-0000-0000-0000-000000000004","at":"0001-01-01T00:00:00.000000Z","local":null,"day":"0001-01-01","small":0,"middle":0,"single":0.0,"price":10000.0000,"fixed":"","mood":null,"ok":null,"raw":null,"j":[],"jb":{},"ip":null,"tags":null,"port":null}"#,
            r#"{"id":"a0000000-0000-0000-0000-000000000002","at":"2026-01-01T00:00:00.000001Z","local":"1969-12-31T23:59:59.999Z","day":"1969-12-31","small":32767,"middle":2147483647,"single":-1.0000000150474662e30,"price":0.0001,"fixed":"abc","mood":"sad","ok":false,"raw":"","j":null,"jb":"x","ip":"::1/128","tags":"{}","port":0}"#,
            r#"{"id":"b0000000-0000-0000-0000-000000000001","at":"2026-01-01T00:00:00.000001Z","local":"2026-01-01T00:00:00.500Z","day":"2026-02-28","small":-32768,"middle":-2147483648,"single":0.5,"price":-12345.6789,"fixed":"ab","mood":"happy","ok":true,"raw":"AP8=","j":{"b": 1, "a": [1.0]},"jb":{"a": [1.0], "b": 1},"ip":"10.0.0.1/32","tags":"{a,\"b c\"}","port":443}"#,
            r#"{"id":"c0000000-0000-0000-0000-000000000003","at":"9999-12-31T23:59:59.999999Z","local":null,"day":null,"small":null,"middle":null,"single":null,"price":null,"fixed":null,"mood":null,"ok":null,"raw":null,"j":null,"jb":null,"ip":null,"tags":null,"port":null}"#,
        ]
    );
    // The last digit of each id, in order.
    for (query, ids) in [
        ("scanned_after=2026-01-01T00:00:00Z", "213"),
        ("scanned_after=2026-01-01T00:00:00.000001Z", "3"),
        ("scanned_before=2026-01-01T00:00:00.000001Z", "421"),
        (
            "after=1767225600000001:a0000000-0000-0000-0000-000000000002",
            "13",
        ),
        ("order=id", "4213"),
        ("order=id&after=a0000000-0000-0000-0000-000000000002", "13"),
        ("id=b0000000-0000-0000-0000-000000000001", "1"),
        ("id=B0000000-0000-0000-0000-000000000001", ""),
        ("id=gt.b", "13"),
        ("id=in.(b0000000-0000-0000-0000-000000000001,x)", "1"),
        ("id=like.*3", "3"),
        ("local=2026-01-01T00:00:00.5Z", "1"),
        ("local=lt.1970-01-01", "2"),
        ("day=gte.2026-02-28", "1"),
        ("day=ne.2026-02-28", "42"),
        ("small=gt.0", "2"),
        ("middle=in.(0,2147483647)", "42"),
        ("single=0.5", "1"),
        ("price=-12345.6789", "1"),
        ("price=gt.0", "42"),
        ("fixed=ab", "1"),
        ("fixed=like.ab*", "21"),
        ("mood=happy", "1"),
        ("mood=gt.happy", "2"),
        ("ok=true", "1"),
        ("ok=lt.true", "2"),
        ("raw=AP8=", "1"),
        ("j=is.null", "3"),
        ("ip=like.10.*", "1"),
        ("port=443", "1"),
        ("limit=2", "42"),
        ("tags=not.null&count=exact", "21"),
    ] {
        let path = format!("/api/v1/stream/t.csv?csv.header=false&columns=id&{query}");
        let found: String = server
            .document(&path)
            .lines()
            .filter_map(|id| id.chars().last())
            .collect();
        assert_eq!(found, ids, "{query}");
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn what_init_writes_of_native_types_is_served_and_checked() {
    let folder = folder();
    let name = shared().create();
    shared().sql(&name, TABLE);
    let url = shared().url(&name);
    let written = run(folder.path(), &["init", &url]).fine();
    assert_has(
        &written,
        &[
            &format!("url = \"{url}\""),
            "table = \"a schema.t\"",
            "time = \"at\"",
            "id = \"id\"",
            "{ name = \"at\", type = \"timestamp\", unit = \"us\"",
            "{ name = \"price\", type = \"decimal\", precision = 20, scale = 4, nullable = true }",
            "{ name = \"jb\", type = \"json\", nullable = true }",
        ],
    );
    std::fs::write(folder.path().join("flows.toml"), written).unwrap();
    let arguments = ["check", "--config", "flows.toml", "--all-rows"];
    let checked = run(folder.path(), &arguments).fine();
    assert_has(
        &checked,
        &[
            "  ip text, nullable (inet, cast to text)",
            "all 4 records are as declared",
        ],
    );
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_declared_type_that_a_column_is_not_is_an_error_with_the_way_out() {
    let folder = folder();
    let name = shared().create();
    shared().sql(&name, TABLE);
    for (declared, way_out) in [
        (
            "{ name = \"ok\", type = \"integer\" }",
            "declare type = \"boolean\"",
        ),
        (
            "{ name = \"price\", type = \"timestamp\", stored = \"epoch_real\" }",
            "",
        ),
        ("{ name = \"day\", type = \"timestamp\" }", ""),
        (
            "{ name = \"nothing\", type = \"text\" }",
            "has no column nothing; it has id, at, local",
        ),
    ] {
        let text = format!(
            "[[streams]]\nname = \"t\"\ntable = \"a schema.t\"\ntime = \"at\"\nid = \"id\"\ncolumns = [\n{declared},\n\
             {{ name = \"id\", type = \"text\" }}, {{ name = \"at\", type = \"timestamp\", unit = \"us\" }}]\n"
        );
        std::fs::write(folder.path().join("flows.toml"), text).unwrap();
        let arguments = [
            "check",
            "--config",
            "flows.toml",
            "--database",
            &shared().url(&name),
        ];
        let checked = flows(folder.path(), &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        // Nulls are not declared: that, too, is found.
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert_has(&said, &["error: stream t", way_out]);
    }
}
