//! Ids that are strings, and SQLite's own: in positions, links, slices and orders.

use std::fmt::Write;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::harness::{Server, database, folder, is_one_core, run};
use crate::store::{Store, both};

const STREAM: &str = "/api/v1/stream/t";

const T: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [{ name = "id", type = "text" }, { name = "time", type = "integer" }]
"#;

/// UUIDs, ULIDs, and strings with whatever may stand in one but a percent sign; in the order of their
/// UTF-8.
const IDS: [&str; 16] = [
    " a b",
    "01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "01BX5ZZKBKACTAV9WEVGEMMVRZ",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "7:8",
    "9223372036854775807",
    "A",
    "a\"b'c\\d",
    "a/b?c#d&e=f+g;h",
    "a:b:c",
    "é",
    "ﬁ",
    "\u{FFEE}",
    "😀",
    "😀 😀",
    "🦀/:",
];

/// All ids in two times, in each of which they come in order.
fn made(id: &str, suffix: &str, before: &str) -> String {
    let mut rows = Vec::new();
    for (at, id) in IDS.iter().enumerate() {
        rows.push(format!("('{}', {})", id.replace('\'', "''"), at % 2));
    }
    format!(
        "{before} PRAGMA journal_mode = WAL; CREATE TABLE t (id {id} PRIMARY KEY, time INTEGER) {suffix};
         INSERT INTO t VALUES {}; CREATE INDEX i ON t (time, id);",
        rows.join(", ")
    )
}

fn in_order(order: &str) -> Vec<(usize, &'static str)> {
    let mut records: Vec<_> = IDS
        .iter()
        .enumerate()
        .map(|(at, id)| (at % 2, *id))
        .collect();
    if order == "time" {
        records.sort_unstable();
    }
    records
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn found(document: &str) -> Vec<String> {
    let id = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["id"].as_str().unwrap().to_owned()
    };
    document.lines().map(id).collect()
}

both!(positions_with_ids_that_are_strings_hold_however_often_they_are_encoded);
fn positions_with_ids_that_are_strings_hold_however_often_they_are_encoded(store: Store) {
    for (id, suffix, before) in [
        ("TEXT", "", ""),
        ("TEXT", "WITHOUT ROWID", ""),
        ("TEXT COLLATE NOCASE", "", ""),
        ("TEXT", "", "PRAGMA encoding = 'UTF-16le';"),
        (
            "TEXT COLLATE NOCASE",
            "WITHOUT ROWID",
            "PRAGMA encoding = 'UTF-16be';",
        ),
    ] {
        let folder = folder();
        let path = database(folder.path(), &made(id, suffix, before));
        let server = store.serve(folder.path(), &path, T);
        for order in ["time", "id"] {
            let records = in_order(order);
            let ids: Vec<_> = records.iter().map(|(_, id)| *id).collect();
            let query = format!("{STREAM}.ndjson?order={order}");
            assert_eq!(
                found(&server.document(&query)),
                ids,
                "{id} {suffix} {before}"
            );
            for (at, (time, id)) in records.iter().enumerate() {
                let one = server.get(&format!("{query}&limit={}", at + 1));
                let position = one.header("flows-position").to_owned();
                let prefix = if order == "time" {
                    format!("{time}:")
                } else {
                    String::new()
                };
                assert!(position.starts_with(&prefix), "{position}");
                let raw = format!("{prefix}{id}");
                for after in [
                    // As a link has it, and pasted into a URL.
                    position.clone(),
                    // As what a program's URL library makes of it.
                    encoded(&position),
                    // As a program writes it that does not know that ids come encoded.
                    encoded(&raw),
                ] {
                    let rest = server.document(&format!("{query}&after={after}"));
                    assert_eq!(
                        found(&rest),
                        ids[at + 1..],
                        "{order}: after {raw}, as {after}"
                    );
                    let until = server.document(&format!("{query}&until={after}"));
                    assert_eq!(
                        found(&until),
                        ids[..=at],
                        "{order}: until {raw}, as {after}"
                    );
                }
            }
            for limit in [1, 3] {
                let (mut all, mut path) = (Vec::new(), format!("{query}&limit={limit}"));
                loop {
                    let reply = server.get(&path);
                    all.extend(found(&reply.body));
                    let Some(next) = reply.next(&path) else {
                        break;
                    };
                    path = next;
                }
                assert_eq!(all, ids, "{order} {limit}");
            }
        }
        // The end of a window without a record is after every id of its time.
        let window = server.get(&format!("{STREAM}.ndjson?scanned_after=1"));
        assert_eq!(window.header("flows-position"), "1:%25");
        for after in ["1:%25", "1:%2525"] {
            let rest = server.get(&format!("{STREAM}.ndjson?after={after}"));
            assert_eq!((rest.body.as_str(), rest.header("flows-end")), ("", ""));
            let rest = server.document(&format!(
                "{STREAM}.ndjson?after={}",
                after.replace('1', "0")
            ));
            assert_eq!(found(&rest).len(), 8);
        }
        let beyond = server.get(&format!("{STREAM}.ndjson?after=2:a"));
        assert_eq!(
            beyond.header("flows-end"),
            format!("1:{}", encoded(IDS[15]))
        );
        let beyond = server.get(&format!("{STREAM}.ndjson?order=id&after=%F4%8F%BF%BF"));
        assert_eq!(beyond.header("flows-end"), encoded(IDS[15]));
        for wrong in ["1:", "x:a", "1", "1:a%25b", "1:%25FF"] {
            server
                .get(&format!("{STREAM}?after={wrong}"))
                .problem(400, &["TIME:ID", "percent-encoded"]);
        }
        server
            .get(&format!("{STREAM}?order=id&after=a%2525b"))
            .problem(400, &["it must be ID"]);
        let line = server.get(&format!("{STREAM}?after=1:A&until=1:a%2525"));
        assert_eq!(line.status, 400);
        server.document(&format!("{STREAM}?after=0:%20a%20b&until=1:a:b"));
        server.logged(&["window=\"(0:%20a%20b..1:a%3Ab]\""]);
        let listed: serde_json::Value =
            serde_json::from_str(&server.document("/api/v1/streams")).unwrap();
        assert_eq!(
            listed["streams"][0]["position"]["id"],
            serde_json::json!({ "name": "id", "type": "text" })
        );
    }
}

both!(slices_of_a_table_whose_ids_are_strings_are_complete_and_in_order);
fn slices_of_a_table_whose_ids_are_strings_are_complete_and_in_order(store: Store) {
    for definition in [
        "id TEXT, time INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID; --",
        "id TEXT PRIMARY KEY, time INTEGER); CREATE UNIQUE INDEX i ON t (time, id); --",
    ] {
        let folder = folder();
        let mut sql = String::from("PRAGMA journal_mode = WAL; ");
        writeln!(sql, "CREATE TABLE t ({definition}").unwrap();
        sql.push_str(
            "INSERT INTO t (id, time) WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 299999) SELECT printf('%08x-%04x-7%03x', (i * 2654435761) % 4294967296, \
             i % 65536, i % 4096), i / 700 FROM n;",
        );
        let path = database(folder.path(), &sql);
        let server = store.serve(folder.path(), &path, T);
        let connection = rusqlite::Connection::open(&path).unwrap();
        for order in ["time", "id"] {
            let columns = if order == "time" { "time, id" } else { "id" };
            let mut expected = String::new();
            let mut statement = connection
                .prepare(&format!("SELECT id, time FROM t ORDER BY {columns}"))
                .unwrap();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let (id, time): (String, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
                writeln!(expected, "{id},{time}").unwrap();
            }
            // A primary key of PostgreSQL orders strings by the rules of a language.
            let sorted = match store {
                Store::Sqlite => order == "id" && definition.contains("WITHOUT ROWID"),
                Store::Postgres => order == "id" || definition.contains("WITHOUT ROWID"),
            };
            let path = format!("{STREAM}.csv?csv.header=false&order={order}");
            let document = if sorted || is_one_core() {
                server.bytes(&path)
            } else {
                server.in_slices(&path)
            };
            assert!(document == expected.as_bytes(), "{definition} {order}");
        }
    }
}

#[test]
fn the_rowid_is_an_id_where_there_is_no_other() {
    let folder = folder();
    let path = database(
        folder.path(),
        "PRAGMA journal_mode = WAL; CREATE TABLE t (time INTEGER, v TEXT); CREATE INDEX i ON t (time);
         INSERT INTO t VALUES (2, 'b'), (1, 'a'), (2, 'c'), (3, 'd');",
    );
    let configuration = T.replace("id = \"id\"", "id = \"rowid\"").replace(
        "{ name = \"id\", type = \"text\" }",
        "{ name = \"v\", type = \"text\" }",
    );
    let server = Server::with(folder.path(), &path, &configuration);
    for (query, values, position) in [
        ("", "abcd", "3:4"),
        ("after=2:1", "cd", "3:4"),
        ("limit=2", "ab", "2:1"),
        ("order=id", "bacd", "4"),
        ("order=id&after=2", "cd", "4"),
        ("order=id&after=1&limit=1", "a", "2"),
    ] {
        for _ in 0..2 {
            let reply = server.get(&format!("{STREAM}.csv?csv.header=false&columns=v&{query}"));
            assert_eq!(reply.body.replace('\n', ""), values, "{query}");
            assert_eq!(reply.header("flows-position"), position, "{query}");
        }
    }
    let beyond = server.get(&format!("{STREAM}?order=id&after=9"));
    assert_eq!(beyond.header("flows-end"), "4");
}

/// 4,000 rows of (time, id, what else), all of which SQL reads only at the beginning.
fn numbered(table: &str, index: &str) -> String {
    format!(
        "PRAGMA journal_mode = WAL; {table}; {index};
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         INSERT INTO t SELECT CASE WHEN i > 1000 THEN i + 100000 ELSE i END, i / 3, i FROM n;"
    )
}

#[test]
fn an_id_is_what_its_column_has_also_where_rows_are_read_from_pages() {
    let index = "CREATE INDEX i ON t (time)";
    let expressions: Vec<_> = (0..40).map(|at| format!("v + {at}")).collect();
    let wide = format!("CREATE INDEX i ON t (time, id, {})", expressions.join(", "));
    for (table, index, id, columns) in [
        // To SQLite that is no rowid, as one in ascending order is.
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY DESC, time INTEGER, v)",
            index,
            "id",
            "id, time, v",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v)",
            index,
            "id",
            "rowid, id, time, v",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v)",
            index,
            "rowid",
            "time, v, id",
        ),
        (
            "CREATE TABLE t (id INTEGER, time INTEGER, v)",
            index,
            "rowid",
            "rowid, time, id",
        ),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v)",
            &wide,
            "id",
            "id, time, v",
        ),
    ] {
        let folder = folder();
        let path = database(folder.path(), &numbered(table, index));
        let names: Vec<_> = columns.split(", ").collect();
        let column = |name: &&str| format!("{{ name = \"{name}\", type = \"integer\" }}");
        let declared: Vec<_> = names.iter().map(column).collect();
        let id_key = if names.contains(&id) {
            format!("\"{id}\"")
        } else {
            format!("{{ name = \"{id}\", type = \"integer\" }}")
        };
        let server = Server::with(
            folder.path(),
            &path,
            &format!(
                "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = {id_key}\n\
                 columns = [{}]\n",
                declared.join(", ")
            ),
        );
        let connection = rusqlite::Connection::open(&path).unwrap();
        let concatenated = names.join(" || ',' || ");
        let expected: Vec<String> = connection
            .prepare(&format!("SELECT {concatenated} FROM t ORDER BY time, {id}"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for query in [
            "?format=csv&csv.header=false",
            "?format=csv&csv.header=false&limit=3999",
        ] {
            let document = server.document(&format!("{STREAM}{query}"));
            let found: Vec<_> = document.lines().collect();
            assert_eq!(found, expected[..found.len()], "{table}, {id}");
            assert!(found.len() >= 3999, "{table}, {id}");
        }
    }
}

both!(what_no_position_can_carry_is_no_id);
fn what_no_position_can_carry_is_no_id(store: Store) {
    let folder = folder();
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (id TEXT, time INTEGER);
               CREATE INDEX i ON t (time, id); INSERT INTO t VALUES ('a', 1), ('c', 3);";
    let place = store.database(&database(folder.path(), sql));
    let server = Server::with(folder.path(), &place, T);
    let long = format!("'{}'", "x".repeat(1025));
    // To SQLite it is after every string, and so after its own position. PostgreSQL has none among strings.
    let blob = ("CAST('b' AS BLOB)", "a blob of 1 bytes");
    let ids = [("''", "the string \"\""), ("'50%'", "50%"), (&long, "xxxx")];
    let blob = Some(blob).filter(|_| store == Store::Sqlite);
    for (id, described) in ids.into_iter().chain(blob) {
        store.execute(&place, &format!("INSERT INTO t VALUES ({id}, 2)"));
        server
            .get(&format!("{STREAM}?format=ndjson"))
            .problem(500, &["column id", described, "1 to 1024 bytes"]);
        let checked = ["check", "--config", "test.toml", "--database", &place];
        run(folder.path(), &checked).failed(2, &[]);
        store.execute(&place, "DELETE FROM t WHERE time = 2");
    }
    assert_eq!(
        found(&server.document(&format!("{STREAM}?format=ndjson"))),
        ["a", "c"]
    );
}

both!(an_id_that_is_not_sent_is_read_as_one_that_is);
fn an_id_that_is_not_sent_is_read_as_one_that_is(store: Store) {
    let folder = folder();
    let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (id, time INTEGER);
               INSERT INTO t VALUES (5, 1), ('b', 2);";
    let path = database(folder.path(), sql);
    let hidden = T
        .replace("id = \"id\"", "id = { name = \"id\", type = \"text\" }")
        .replace("{ name = \"id\", type = \"text\" }, {", "{");
    for configuration in [T, &hidden] {
        let server = store.serve(folder.path(), &path, configuration);
        let reply = server.get(&format!("{STREAM}?format=ndjson&limit=1"));
        assert_eq!((reply.status, reply.header("flows-position")), (200, "1:5"));
    }
}
