//! Selecting: `columns`, filters.

use crate::harness::{FLOWS, Server, database, folder, generated};
use crate::store::{Store, both};

const STREAM: &str = "/api/v1/stream/t";

fn stream(extra: &str) -> String {
    format!(
        r#"
        [[streams]]
        name = "t"
        table = "t"
        time = "time"
        id = "id"
        {extra}
        columns = [
            {{ name = "id", type = "integer" }},
            {{ name = "n", type = "integer", nullable = true }},
            {{ name = "r", type = "real", nullable = true }},
            {{ name = "a text", type = "text", nullable = true }},
            {{ name = "b", type = "blob", nullable = true }},
        ]
        "#
    )
}

/// `n` holds numbers as strings, and `a text` compares as SQLite's NOCASE unless told otherwise.
const TABLE: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n, r REAL, \"a text\" TEXT COLLATE NOCASE,
                    b BLOB, hidden TEXT);
    CREATE INDEX i ON t (time, id);
    INSERT INTO t VALUES
        (1, 1, '9', 1.5, 'C17', x'00ff', 'h'), (2, 2, '10', -2.0, 'c17', x'', 'h'),
        (3, 3, '100', NULL, 'C1,7', NULL, 'h'), (4, 4, NULL, 0.0, '', x'00', 'h'),
        (5, 5, '9223372036854775807', 9e999, 'gt.5', x'41', 'h'), (6, 6, '-1', 2.0, NULL, x'42', 'h'),
        (7, 7, '0', 3.0, 'C[1]*', x'43', 'h'), (8, 8, '1', 4.0, ''' OR 1=1 --', x'44', 'h');";

/// The ids of the records that a query keeps.
fn found(server: &Server, query: &str) -> String {
    let path = format!("{STREAM}.csv?csv.header=false&columns=id&{query}");
    server.document(&path).trim_end().replace('\n', " ")
}

both!(filters_compare_by_the_declared_type);
fn filters_compare_by_the_declared_type(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &database(folder.path(), TABLE), &stream(""));
    for (query, ids) in [
        ("n=9", "1"),
        ("n=gt.9", "2 3 5"),
        ("n=gte.9", "1 2 3 5"),
        ("n=lt.0", "6"),
        ("n=lte.0", "6 7"),
        ("n=ne.9", "2 3 5 6 7 8"),
        ("n=eq.9223372036854775807", "5"),
        ("n=in.(9,10,77)", "1 2"),
        ("n=is.null", "4"),
        ("n=not.null", "1 2 3 5 6 7 8"),
        ("n=gt.0&n=lt.100", "1 2 8"),
        ("n=gt.0&r=lt.0", "2"),
        ("r=1.5", "1"),
        ("r=gt.3", "5 8"),
        ("r=inf", "5"),
        ("r=0", "4"),
        ("r=-0.0", "4"),
        ("r=is.null", "3"),
        ("a+text=C17", "1"),
        ("a%20text=c17", "2"),
        ("a+text=in.(C17,%22C1,7%22)", "1 3"),
        ("a+text=", "4"),
        ("a+text=eq.gt.5", "5"),
        ("a+text=gt.D", "2 5"),
        ("a+text=like.C1*", "1 3"),
        ("a+text=like.?17", "1 2"),
        ("a+text=like.C[1]*", "7"),
        ("a+text=like.*", "1 2 3 4 5 7 8"),
        ("a+text=' OR 1=1 --", "8"),
        ("a+text=ne.C17", "2 3 4 5 7 8"),
        ("a+text=is.null", "6"),
        ("b=AP8=", "1"),
        ("b=", "2"),
        ("b=gt.QQ==", "6 7 8"),
        ("b=is.null", "3"),
        ("id=gt.2&limit=2", "3 4"),
        ("id=gt.2&scanned_before=4", "3 4"),
        ("id=gt.2&order=id&after=5", "6 7 8"),
        ("id=1&id=2", ""),
    ] {
        // The first request of a connection takes another way than those after it.
        for _ in 0..2 {
            let query = query.replace(' ', "%20");
            assert_eq!(found(&server, &query), ids, "{query}");
        }
    }
    for (query, parts) in [
        (
            "n=x",
            &["n is compared to \"x\"; it must be an integer"][..],
        ),
        ("n=gt.", &["an integer"]),
        ("n=1.5", &["an integer"]),
        ("n=like.1*", &["n is not a string"]),
        ("n=is.nul", &["is.null or not.null, or eq.is.nul"]),
        ("n=in.1", &["in.(A,B)"]),
        ("n=in.(1", &["in.(A,B)"]),
        ("r=nan", &["a number"]),
        ("b=A", &["base64"]),
        ("hidden=h", &["no parameter \"hidden\""]),
        ("time=1", &["no parameter \"time\""]),
        ("a_text=1", &["no parameter", "did you mean a text?"]),
    ] {
        server.get(&format!("{STREAM}?{query}")).problem(400, parts);
    }
}

#[test]
fn what_is_not_of_the_type_meets_no_comparison() {
    let folder = folder();
    let sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n, r REAL, \"a text\" TEXT, b BLOB);
        CREATE INDEX i ON t (time, id);
        INSERT INTO t VALUES (1, 1, 'abc', 'abc', x'62', 'b'), (2, 2, 5.7, 1.0, 'b', x'62'),
                             (3, 3, '5', 2.0, 'a' || char(0) || 'b', x'61'), (4, 4, 6, 3.0, 'a', NULL);";
    let server = Server::with(folder.path(), &database(folder.path(), sql), &stream(""));
    for (query, ids) in [
        ("n=0", ""),
        ("n=5", "3"),
        ("n=lt.7", "3 4"),
        ("n=gt.5", "4"),
        ("n=not.null", "1 2 3 4"),
        ("r=gt.1", "3 4"),
        ("r=ne.2", "2 4"),
        ("a+text=b", "2"),
        ("a+text=gt.a", "2 3"),
        ("a+text=like.a", "4"),
        ("a+text=like.a*", "3 4"),
        ("a+text=like.a%00b", "3"),
        ("a+text=like.a%00c", ""),
        ("b=lt.Yg==", "3"),
    ] {
        assert_eq!(found(&server, query), ids, "{query}");
    }
    let many = ["n=1"; 400].join("&");
    let list = format!("n=in.({})", ["1"; 10_001].join(","));
    for query in [many, list] {
        let parts = ["at most 300 filters", "10000 values"];
        server
            .get(&format!("{STREAM}?{query}"))
            .problem(400, &parts);
    }
}

#[test]
fn strings_that_are_not_utf_8_compare_as_they_are_sent() {
    let rows = "(1, 1, CAST(x'41ff42' AS TEXT)), (2, 2, 'A' || char(65533) || 'B'),
                (3, 3, CAST(x'4180' AS TEXT)), (4, 4, CAST(x'ff' AS TEXT)), (5, 5, 'AxB'),
                (6, 6, CAST(x'41e282' AS TEXT)), (7, 7, CAST(x'f09f98' AS TEXT)), (8, 8, 'B');";
    let columns = "n INTEGER, r REAL, \"a text\" TEXT, b BLOB";
    for table in [
        format!("id INTEGER PRIMARY KEY, time INTEGER, {columns})"),
        format!("id INTEGER, time INTEGER, {columns}, PRIMARY KEY (time, id)) WITHOUT ROWID"),
    ] {
        let folder = folder();
        let sql = format!(
            "CREATE TABLE t ({table}; CREATE INDEX i ON t (time, id); CREATE INDEX a ON t (\"a text\");
             INSERT INTO t (id, time, \"a text\") VALUES {rows}"
        );
        let server = Server::with(folder.path(), &database(folder.path(), &sql), &stream(""));
        for (query, ids) in [
            ("like.A*", "1 2 3 5 6"),
            ("like.A?B", "1 2 5"),
            ("like.A�B", "1 2"),
            ("like.A�*", "1 2 3 6"),
            ("like.A?", "3 6"),
            ("like.�", "4 7"),
            ("like.�*", "4 7"),
            ("like.?", "4 7 8"),
            ("eq.A�B", "1 2"),
            ("ne.A�B", "3 4 5 6 7 8"),
            ("ne.AxB", "1 2 3 4 6 7 8"),
            ("in.(A�,�,B)", "3 4 6 7 8"),
            ("in.(AxB,B)", "5 8"),
            ("eq.B", "8"),
        ] {
            let query = query.replace('�', "%EF%BF%BD");
            assert_eq!(found(&server, &format!("a+text={query}")), ids, "{query}");
        }
    }
}

both!(texts_of_utf_16_compare_as_their_utf_8);
fn texts_of_utf_16_compare_as_their_utf_8(store: Store) {
    let folder = folder();
    let sql = "PRAGMA encoding = 'UTF-16le';
        CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n, r REAL, \"a text\" TEXT, b BLOB);
        CREATE INDEX i ON t (time, id);
        INSERT INTO t (id, time, \"a text\")
            VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'ā'), (4, 4, 'é'), (5, 5, 'z');";
    let server = store.serve(folder.path(), &database(folder.path(), sql), &stream(""));
    for (query, ids) in [("gt.b", "3 4 5"), ("lte.z", "1 2 5"), ("like.%C4%81*", "3")] {
        assert_eq!(found(&server, &format!("a+text={query}")), ids, "{query}");
    }
}

both!(a_text_like_no_pattern_holds_no_one_else_up);
fn a_text_like_no_pattern_holds_no_one_else_up(store: Store) {
    let folder = folder();
    let sql = "PRAGMA journal_mode = WAL;
        CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n, r REAL, \"a text\" TEXT, b BLOB);
        CREATE INDEX i ON t (time, id);
        INSERT INTO t (id, time, \"a text\") VALUES (1, 1, replace(hex(zeroblob(500000)), '0', 'a'));";
    let server = store.serve(folder.path(), &database(folder.path(), sql), &stream(""));
    // Known to a connection, the query is one that may be answered at once.
    for _ in 0..8 {
        server.document(&format!("{STREAM}?a+text=like.*x"));
    }
    let pattern = format!("*{}b", "a".repeat(30_000));
    let _waiting: Vec<_> = (0..2)
        .map(|_| server.ask(&format!("{STREAM}?a+text=like.{pattern}")))
        .collect();
    let start = std::time::Instant::now();
    server.get(&format!("{STREAM}?limit=0"));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

both!(columns_come_in_the_order_asked_for_in_every_format);
fn columns_come_in_the_order_asked_for_in_every_format(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &database(folder.path(), TABLE), &stream(""));
    let get = |path: &str| server.document(&format!("{STREAM}{path}"));
    assert_eq!(
        get(".csv?columns=a+text,id&limit=2"),
        "a text,id\nC17,1\nc17,2\n"
    );
    assert_eq!(get(".ndjson?columns=n&limit=2"), "{\"n\":9}\n{\"n\":10}\n");
    assert_eq!(
        get(".tsv?columns=r,%22a+text%22&limit=1"),
        "r\ta text\n1.5\tC17\n"
    );
    for format in flows_formats::Registry::load().unwrap().iter() {
        let path = format!("{STREAM}?format={}&columns=b,r", format.name);
        assert!(!server.bytes(&path).is_empty());
    }
    for (list, part) in [
        ("", "names with commas"),
        ("id,", "no column \"\""),
        ("id,id", "columns names id more than once"),
        ("a_text", "did you mean a text?"),
        ("hidden", "no column \"hidden\""),
        ("%22id", "in quotes"),
    ] {
        server
            .get(&format!("{STREAM}?columns={list}"))
            .problem(400, &[part]);
    }
}

both!(an_operator_can_forbid_filters);
fn an_operator_can_forbid_filters(store: Store) {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let server = store.serve(folder.path(), &path, &stream("filters = false"));
    server
        .get(&format!("{STREAM}?n=9"))
        .problem(403, &["n cannot be compared", "the stream t"]);
    assert_eq!(
        server.document(&format!("{STREAM}.csv?columns=id&limit=1")),
        "id\n1\n"
    );
    let window = format!("{STREAM}.csv?columns=id&order=id&scanned_after=6");
    assert_eq!(server.document(&window), "id\n7\n8\n");
}

both!(filtered_slices_make_the_document_that_one_connection_makes);
fn filtered_slices_make_the_document_that_one_connection_makes(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 400_000);
    let many = store.serve(folder.path(), &path, "");
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    let one = Server::with(&alone, &path, "[database]\npool_size = 1\n");
    for query in [
        "protocol=6",
        "byte_count=gt.20000",
        "protocol=6&limit=30000",
        "protocol=17&columns=dst_comp,byte_count,time",
        "columns=src_comp,dst_comp,src_port,dst_port",
        "order=id&protocol=6",
        "order=id&columns=id,byte_count,src_comp,dst_comp",
        "order=id&after=100000&limit=200000&columns=id,byte_count,src_comp,dst_comp",
        "src_comp=like.C1*&scanned_after=1000000",
    ] {
        let path = format!("{FLOWS}.ndjson?{query}");
        let (sliced, complete) = (many.in_slices(&path), one.in_one_piece(&path));
        assert!(complete.len() > 1 << 20, "{query}: {}", complete.len());
        assert!(sliced == complete, "{query}");
    }
    // The same records as without a filter, chosen afterwards.
    let all = one.document(&format!("{FLOWS}.ndjson"));
    let chosen: String = all
        .split_inclusive('\n')
        .filter(|line| line.contains("\"protocol\":6,"))
        .collect();
    assert!(many.document(&format!("{FLOWS}.ndjson?protocol=6")) == chosen);
}

both!(a_client_that_leaves_a_filter_that_finds_nothing_gives_the_connection_back);
fn a_client_that_leaves_a_filter_that_finds_nothing_gives_the_connection_back(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 2_000_000);
    let server = store.serve(
        folder.path(),
        &path,
        "[database]\npool_size = 1\nwait_ms = 60000\n",
    );
    server.document(&format!("{FLOWS}?limit=1"));
    let start = std::time::Instant::now();
    server.document(&format!("{FLOWS}?src_comp=like.*nowhere*&count=exact"));
    let complete = start.elapsed();
    for query in [
        "src_comp=like.*nowhere*",
        "src_comp=like.*nowhere*&count=exact",
    ] {
        let start = std::time::Instant::now();
        let leaver = server.ask(&format!("{FLOWS}?{query}"));
        std::thread::sleep(complete / 20);
        drop(leaver);
        server.document(&format!("{FLOWS}?limit=1"));
        assert!(
            start.elapsed() < complete / 2,
            "{:?} of {complete:?}",
            start.elapsed()
        );
    }
}
