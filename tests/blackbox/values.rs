//! Declared types against what SQLite holds.

use std::path::Path;

use crate::harness::{Server, database, folder};
use crate::store::{Store, both};

/// Serves the table `t` with its columns `id` and `time` and one more, `v`, of a type.
fn serve(store: Store, folder: &Path, sql: &str, v: &str) -> Server {
    let configuration = format!(
        r#"
        [[streams]]
        name = "t"
        table = "t"
        time = "time"
        id = "id"
        columns = [{{ name = "id", type = "integer" }}, {{ name = "v", {v} }}]
        "#
    );
    store.serve(folder, &database(folder, sql), &configuration)
}

const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v);
                     CREATE INDEX i ON t (time, id);";

/// What a value, written in SQL, becomes under a declared type: the JSON, or the error.
fn sent(v: &str, sql: &str) -> Result<String, String> {
    let folder = folder();
    let sql = format!("{TABLE} INSERT INTO t VALUES (7, 1, {sql})");
    let reply = serve(Store::Sqlite, folder.path(), &sql, v).get("/api/v1/stream/t");
    if reply.status == 200 {
        let json = reply.body.strip_prefix("[\n{\"id\":7,\"v\":").unwrap();
        return Ok(json.strip_suffix("}\n]\n").unwrap().to_owned());
    }
    let problem = reply.problem(500, &["stream t, column v, record with id 7"]);
    Err(problem["detail"].as_str().unwrap().to_owned())
}

#[test]
fn values_are_sent_as_declared_or_break_the_stream() {
    for (declared, sql, expected) in [
        ("integer", "5323", "5323"),
        ("integer", "'5323'", "5323"),
        ("integer", "'-9223372036854775808'", "-9223372036854775808"),
        ("integer", "5.0", "5"),
        ("real", "5", "5.0"),
        ("real", "'2.5e3'", "2500.0"),
        ("real", "0.1", "0.1"),
        ("real", "9e999", "null"),
        ("text", "'C17'", "\"C17\""),
        ("text", "389", "\"389\""),
        ("text", "0.5", "\"0.5\""),
        ("blob", "5", "\"NQ==\""),
        ("text", "''", "\"\""),
        ("text", "x'433137'", "\"C17\""),
        ("text", "'a' || char(0) || 'b'", "\"a\\u0000b\""),
        ("blob", "x'00ff'", "\"AP8=\""),
        ("blob", "x''", "\"\""),
        ("blob", "'C17'", "\"QzE3\""),
    ] {
        let value = sent(&format!("type = \"{declared}\""), sql);
        assert_eq!(value.as_deref(), Ok(expected), "{declared} {sql}");
    }
    for (declared, sql, reason) in [
        (
            "integer",
            "'lots'",
            "the string \"lots\", which is not an integer",
        ),
        ("integer", "' 5'", "not an integer"),
        ("integer", "''", "not an integer"),
        ("integer", "5.5", "5.5, which is not an integer"),
        ("integer", "1e300", "not an integer"),
        ("integer", "'9223372036854775808'", "not an integer"),
        (
            "integer",
            "x'35'",
            "a blob of 1 bytes, which is not an integer",
        ),
        (
            "integer",
            "NULL",
            "null, and the column is not declared nullable",
        ),
        ("real", "9223372036854775807", "not a real"),
        ("real", "'nan'", "not a real"),
        ("real", "'1e999'", "not a real"),
        ("real", "'x'", "not a real"),
        ("text", "NULL", "nullable = true"),
    ] {
        let error = sent(&format!("type = \"{declared}\""), sql).unwrap_err();
        assert!(error.contains(reason), "{declared} {sql}: {error}");
    }
    for declared in ["integer", "real", "text", "blob"] {
        let v = format!("type = \"{declared}\", nullable = true");
        assert_eq!(sent(&v, "NULL").as_deref(), Ok("null"));
    }
}

#[test]
fn text_that_is_not_utf_8_is_replaced_in_every_format_and_counted() {
    let folder = folder();
    let sql = format!(
        "{TABLE} INSERT INTO t VALUES (1, 1, CAST(x'41ff42' AS TEXT)), (2, 2, 'fine'),
                                      (3, 3, CAST(x'c3' AS TEXT));"
    );
    let server = serve(Store::Sqlite, folder.path(), &sql, "type = \"text\"");
    for format in ["json", "xml", "csv"] {
        let document = server.document(&format!("/api/v1/stream/t.{format}"));
        assert_eq!(document.matches('\u{FFFD}').count(), 2, "{document}");
        assert!(document.contains("A\u{FFFD}B"), "{document}");
        server.logged(&[
            &format!("format=\"{format}\""),
            "replaced_strings=2",
            "records=3",
        ]);
    }
}

#[test]
fn untyped_times_and_ids_are_compared_as_integers() {
    let folder = folder();
    // As strings, '10' comes before '9', and every string is above every number.
    let server = serve(
        Store::Sqlite,
        folder.path(),
        "CREATE TABLE t (id, time, v);
         INSERT INTO t VALUES ('9', '9', 'a'), ('10', '10', 'b'), ('100', '9', 'c'), ('2', '100', 'd');",
        "type = \"text\"",
    );
    let ids = |query: &str| {
        let csv = server.document(&format!("/api/v1/stream/t.csv?{query}"));
        let ids: Vec<_> = csv
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap())
            .collect();
        ids.join(" ")
    };
    assert_eq!(ids(""), "9 100 10 2");
    assert_eq!(ids("scanned_after=9"), "10 2");
    assert_eq!(ids("scanned_before=10"), "9 100 10");
    assert_eq!(ids("scanned_after=9&scanned_before=99"), "10");
    assert_eq!(ids("limit=2"), "9 100");
}

both!(a_second_stream_needs_only_another_section);
fn a_second_stream_needs_only_another_section(store: Store) {
    let folder = folder();
    let path = database(
        folder.path(),
        r#"CREATE TABLE "odd ""table" ("the id" INTEGER PRIMARY KEY, "when" INTEGER, "1st, value" TEXT);
           INSERT INTO "odd ""table" VALUES (1, 5, 'x'), (2, 4, NULL);
           CREATE TABLE log (at INTEGER, level REAL, number INTEGER PRIMARY KEY);
           INSERT INTO log VALUES (3, 0.5, 1), (2, 1.5, 2);"#,
    );
    let configuration = r#"
        [[streams]]
        name = "odd"
        table = 'odd "table'
        time = "when"
        id = "the id"
        columns = [{ name = "1st, value", type = "text", nullable = true }, { name = "when", type = "integer" }]

        [[streams]]
        name = "log"
        table = "log"
        time = "at"
        id = "number"
        columns = [{ name = "level", type = "real" }]
    "#;
    let server = store.serve(folder.path(), &path, configuration);
    assert_eq!(
        server.document("/api/v1/stream/odd.csv"),
        "\"1st, value\",when\n,4\nx,5\n"
    );
    let xml = server.document("/api/v1/stream/odd.xml?limit=1");
    let nil = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:nil=\"true\"/>";
    assert!(
        xml.contains(&format!(
            "<_x0031_st_x002C__x0020_value {nil}<when>4</when>"
        )),
        "{xml}"
    );
    assert_eq!(
        server.document("/api/v1/stream/log"),
        "[\n{\"level\":1.5},\n{\"level\":0.5}\n]\n"
    );
    assert_eq!(
        server.document("/api/v1/stream/log?scanned_after=2"),
        "[\n{\"level\":0.5}\n]\n"
    );
    server.get("/api/v1/stream/flows").problem(404, &["flows"]);
}

both!(a_large_text_is_one_record_like_any_other);
fn a_large_text_is_one_record_like_any_other(store: Store) {
    let folder = folder();
    let sql = format!(
        "{TABLE} INSERT INTO t VALUES (1, 1, 'a'), (2, 2, replace(hex(zeroblob(4000000)), '0', '\"')), (3, 3, 'z');"
    );
    let server = serve(store, folder.path(), &sql, "type = \"text\"");
    let document = server.document("/api/v1/stream/t");
    let records: Vec<serde_json::Value> = serde_json::from_str(&document).unwrap();
    assert_eq!(records[1]["v"].as_str().unwrap(), "\"".repeat(8_000_000));
    assert_eq!(records[2]["v"], "z");
}

both!(a_view_whose_parts_are_each_ordered_comes_in_order);
fn a_view_whose_parts_are_each_ordered_comes_in_order(store: Store) {
    let folder = folder();
    let path = database(
        folder.path(),
        "PRAGMA journal_mode = WAL;
         CREATE TABLE a (id INTEGER PRIMARY KEY, time INTEGER); CREATE INDEX ai ON a (time, id);
         CREATE TABLE b (id INTEGER PRIMARY KEY, time INTEGER); CREATE INDEX bi ON b (time, id);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO a SELECT 2 * i, i FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO b SELECT 2 * i + 1, i FROM n;
         CREATE VIEW t AS SELECT id, time FROM a UNION ALL SELECT id, time FROM b;",
    );
    let configuration = r#"
        [[streams]]
        name = "t"
        table = "t"
        time = "time"
        id = "id"
        columns = [{ name = "time", type = "integer" }, { name = "id", type = "integer" }]
    "#;
    let server = store.serve(folder.path(), &path, configuration);
    let all: String = (1..=5000)
        .map(|i| format!("{i},{}\n{i},{}\n", 2 * i, 2 * i + 1))
        .collect();
    let ask =
        |query: &str| server.document(&format!("/api/v1/stream/t.csv?csv.header=false&{query}"));
    assert_eq!(ask(""), all);
    assert_eq!(
        ask("limit=7"),
        all.lines()
            .take(7)
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    );
    assert_eq!(
        ask("scanned_after=4998"),
        "4999,9998\n4999,9999\n5000,10000\n5000,10001\n"
    );
    assert_eq!(ask("id=in.(7,8,9)&order=id"), "3,7\n4,8\n4,9\n");
    assert_eq!(ask("order=id&limit=2&after=100"), "50,101\n51,102\n");
}
