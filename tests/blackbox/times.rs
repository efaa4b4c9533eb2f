//! Times that are instants, however the database holds them: in windows, positions, filters and links.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Server, assert_has, database, folder, run};
use crate::store::{Store, both};

const STREAM: &str = "/api/v1/stream/t";

/// Instants at the ends of the years that there are, before 1970, on leap days, and a moment apart, in
/// seconds since 1970.
const SECONDS: [i64; 12] = [
    -62_135_596_800, // 0001-01-01T00:00:00Z
    -62_135_596_799,
    -1,            // 1969-12-31T23:59:59Z
    0,             // 1970-01-01T00:00:00Z
    951_782_399,   // 2000-02-28T23:59:59Z
    951_782_400,   // 2000-02-29T00:00:00Z
    1_709_164_800, // 2024-02-29T00:00:00Z
    1_709_251_199, // 2024-02-29T23:59:59Z
    1_709_251_200, // 2024-03-01T00:00:00Z
    1_767_225_600, // 2026-01-01T00:00:00Z
    253_402_300_798,
    253_402_300_799, // 9999-12-31T23:59:59Z
];

/// What a nanosecond's 64 bits hold of those.
fn of_nanoseconds() -> Vec<i64> {
    let holds = |second: &i64| second.checked_mul(1_000_000_000).is_some();
    SECONDS.into_iter().filter(holds).collect()
}

/// The stream of a table `t` whose time is declared so.
fn stream(time: &str) -> String {
    format!(
        "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\ncolumns = [\n\
         {{ name = \"id\", type = \"integer\" }},\n{{ name = \"time\", {time} }}]\n"
    )
}

/// A table whose record number N, counted from 1, has the time number N, as an SQL literal.
fn table(declared: &str, literals: &[String]) -> String {
    let numbered = literals.iter().enumerate();
    let rows: Vec<_> = numbered
        .map(|(at, literal)| format!("({}, {literal})", at + 1))
        .collect();
    format!(
        "PRAGMA journal_mode = WAL; DROP TABLE IF EXISTS t;
         CREATE TABLE t (id INTEGER PRIMARY KEY, time {declared});
         CREATE INDEX i ON t (time, id); INSERT INTO t VALUES {};",
        rows.join(", ")
    )
}

/// Every way to hold these instants: how it is declared in the table and in the stream, and literals.
fn storages() -> Vec<(&'static str, String, Vec<i64>, Vec<String>)> {
    let integers = |seconds: &[i64], per: i64| -> Vec<String> {
        seconds.iter().map(|s| (s * per).to_string()).collect()
    };
    let mut storages = Vec::new();
    for (unit, per) in [("s", 1), ("ms", 1000), ("us", 1_000_000)] {
        let kind = format!("type = \"timestamp\", unit = \"{unit}\", stored = \"epoch\"");
        let literals = integers(&SECONDS, per);
        storages.push(("INTEGER", kind, SECONDS.to_vec(), literals));
    }
    let seconds = of_nanoseconds();
    let literals = integers(&seconds, 1_000_000_000);
    let kind = "type = \"timestamp\", unit = \"ns\", stored = \"epoch\"";
    storages.push(("INTEGER", kind.to_owned(), seconds, literals));
    for unit in ["s", "ms", "us"] {
        let kind = format!("type = \"timestamp\", unit = \"{unit}\", stored = \"epoch_real\"");
        let literals = SECONDS.iter().map(|s| format!("{s}.0")).collect();
        storages.push(("REAL", kind, SECONDS.to_vec(), literals));
    }
    for (spelling, format) in [
        ("YYYY-MM-DD HH:MM:SS.f*", "%Y-%m-%d %H:%M:%S"),
        ("YYYY-MM-DD HH:MM:SS", "%Y-%m-%d %H:%M:%S"),
        ("YYYY-MM-DDTHH:MM:SSZ", "%Y-%m-%dT%H:%M:%SZ"),
        ("YYYY-MM-DDTHH:MM:SS.fffZ", "%Y-%m-%dT%H:%M:%S.000Z"),
        (
            "YYYY-MM-DD HH:MM:SS.ffffff+00:00",
            "%Y-%m-%d %H:%M:%S.000000+00:00",
        ),
    ] {
        let kind = format!("type = \"timestamp\", stored = \"iso8601\", spelling = \"{spelling}\"");
        let literal = |s: &i64| format!("strftime('{format}', {s}, 'unixepoch')");
        let literals = SECONDS.iter().map(literal).collect();
        storages.push(("TEXT", kind, SECONDS.to_vec(), literals));
    }
    storages
}

/// The ids that a query gives.
#[track_caller]
fn ids(server: &Server, query: &str) -> Vec<usize> {
    let path = format!("{STREAM}.csv?csv.header=false&columns=id&{query}");
    let document = server.document(&path);
    document.lines().map(|id| id.parse().unwrap()).collect()
}

both!(windows_positions_and_filters_are_of_instants_in_every_storage);
fn windows_positions_and_filters_are_of_instants_in_every_storage(store: Store) {
    // What a client writes, and the second that it means: with half a second more or without.
    let bounds = [
        ("0001-01-01T00:00:00Z", -62_135_596_800, false),
        ("0001-01-01T00:00:00.5Z", -62_135_596_800, true),
        ("1969-12-31T23:59:59Z", -1, false),
        ("1969-12-31T23:59:58.5Z", -2, true),
        ("1970-01-01", 0, false),
        ("1970-01-01T00:00:00", 0, false),
        ("2000-02-29", 951_782_400, false),
        ("2000-02-29T00:00:00-00:01", 951_782_460, false),
        ("2024-02-29T05:30:00%2B05:30", 1_709_164_800, false),
        // A plus that became a space.
        ("2024-02-29T05:30:00+05:30", 1_709_164_800, false),
        ("2024-02-28+19:00:00-05:00", 1_709_164_800, false),
        ("2024-02-29T23:59:59.5Z", 1_709_251_199, true),
        ("2026-01-01T00:00:00.000000000Z", 1_767_225_600, false),
        ("9999-12-31T23:59:58.999999999Z", 253_402_300_798, true),
        ("9999-12-31T23:59:59Z", 253_402_300_799, false),
        ("9999-12-31T23:59:59.999999999Z", 253_402_300_799, true),
    ];
    for (declared, kind, seconds, literals) in storages() {
        let folder = folder();
        let path = database(folder.path(), &table(declared, &literals));
        let place = store.database(&path);
        let server = Server::with(folder.path(), &place, &stream(&kind));
        // An index serves it all.
        let check = ["check", "--config", "test.toml", "--all-rows"];
        let mut with_database = check.to_vec();
        with_database.extend(["--database", &place]);
        let checked = run(folder.path(), &with_database);
        assert_eq!(checked.code, Some(0), "{kind}: {checked:?}");
        assert!(!checked.stdout.contains("sort"), "{kind}: {checked:?}");
        let of = |holds: &dyn Fn(i64) -> bool| -> Vec<usize> {
            let numbered = seconds.iter().enumerate();
            let matching = numbered.filter(|(_, second)| holds(**second));
            matching.map(|(at, _)| at + 1).collect()
        };
        for (text, bound, more) in bounds {
            let up_to = |second: i64| second <= bound;
            let below = |second: i64| second < bound || (more && second == bound);
            let at = |second: i64| second == bound && !more;
            for order in ["time", "id"] {
                for (query, expected) in [
                    (format!("scanned_after={text}"), of(&|s| !up_to(s))),
                    (format!("scanned_before={text}"), of(&up_to)),
                    (format!("time=gt.{text}"), of(&|s| !up_to(s))),
                    (format!("time=gte.{text}"), of(&|s| !below(s))),
                    (format!("time=lt.{text}"), of(&below)),
                    (format!("time=lte.{text}"), of(&up_to)),
                    (format!("time={text}"), of(&at)),
                    (format!("time=ne.{text}"), of(&|s| !at(s))),
                    (format!("time=in.({text})"), of(&at)),
                ] {
                    let query = format!("{query}&order={order}");
                    assert_eq!(ids(&server, &query), expected, "{kind}: {query}");
                }
            }
            // No record has an id of 99, and all have one that is greater than 0.
            for (query, expected) in [
                (format!("after={text}:99"), of(&|s| !up_to(s))),
                (format!("after={text}:0"), of(&|s| !below(s))),
                (format!("until={text}:99"), of(&up_to)),
                (format!("until={text}:0"), of(&below)),
            ] {
                assert_eq!(ids(&server, &query), expected, "{kind}: {query}");
            }
        }
        let all: Vec<usize> = (1..=seconds.len()).collect();
        assert_eq!(ids(&server, ""), all, "{kind}");
        assert_eq!(followed(&server, "limit=1").0, all, "{kind}");
        assert_eq!(
            followed(&server, "limit=5&scanned_after=0001-01-01")
                .0
                .len(),
            all.len() - usize::from(seconds[0] == SECONDS[0])
        );
    }
}

/// The ids of all pages, and the links between them.
fn followed(server: &Server, query: &str) -> (Vec<usize>, Vec<String>) {
    let (mut ids, mut links) = (Vec::new(), Vec::new());
    let mut path = format!("{STREAM}.csv?csv.header=false&columns=id&{query}");
    loop {
        let reply = server.get(&path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        ids.extend(reply.body.lines().map(|id| id.parse::<usize>().unwrap()));
        let Some(next) = reply.next(&path) else {
            return (ids, links);
        };
        path = next;
        links.push(path.clone());
    }
}

both!(now_is_the_servers_and_links_say_what_it_was);
fn now_is_the_servers_and_links_say_what_it_was(store: Store) {
    let folder = folder();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    // Ten minutes apart; the last are in an hour.
    let seconds: Vec<i64> = (0..20).map(|at| now - 7980 + at * 600).collect();
    let literals: Vec<_> = seconds.iter().map(i64::to_string).collect();
    let path = database(folder.path(), &table("INTEGER", &literals));
    let configuration = stream("type = \"timestamp\", unit = \"s\"");
    let server = store.serve(folder.path(), &path, &configuration);
    let past: Vec<usize> = (1..=14).collect();
    assert_eq!(ids(&server, "scanned_before=now"), past);
    assert_eq!(ids(&server, "time=lte.now"), past);
    assert_eq!(ids(&server, "time=gt.now"), (15..=20).collect::<Vec<_>>());
    assert_eq!(ids(&server, "until=now:5"), past);
    for hours in ["now-1h", "now-60m", "now-3600s"] {
        let query = format!("scanned_after={hours}&scanned_before=now");
        assert_eq!(
            ids(&server, &query),
            (9..=14).collect::<Vec<_>>(),
            "{query}"
        );
    }
    assert_eq!(ids(&server, "scanned_after=now-7d").len(), 20);
    for query in [
        "limit=2&scanned_after=now-1h&scanned_before=now",
        "limit=2&time=gt.now-1h&time=lte.now",
        "limit=2&after=now-1h:0&until=now:5",
        "limit=2&order=id&time=gt.now-1h&scanned_before=now",
    ] {
        let (found, links) = followed(&server, query);
        assert_eq!(found, (9..=14).collect::<Vec<_>>(), "{query}");
        // A filter does not know that its page is the last.
        assert!([2, 3].contains(&links.len()), "{links:?}");
        for link in links {
            assert!(!link.contains("now"), "{link}");
            assert_has(&link, &["T", "%3A", "Z"]);
        }
    }
    let (_, links) = followed(&server, "limit=7&time=in.(now,now-1d)&time=not.null");
    assert_eq!(links, Vec::<String>::new());
    // What a string says of now is a string.
    server
        .get(&format!("{STREAM}?id=now"))
        .problem(400, &["an integer"]);
}

both!(what_is_no_instant_is_told_what_is);
fn what_is_no_instant_is_told_what_is(store: Store) {
    let folder = folder();
    let path = database(folder.path(), &table("INTEGER", &["0".to_owned()]));
    let server = store.serve(folder.path(), &path, &stream("type = \"timestamp\""));
    for value in [
        "x",
        "2026-02-29",
        "0000-12-31",
        "10000-01-01",
        "0001-01-01T00:00:00%2B00:01",
        "2026-01-01T00:00:00.0000000001Z",
        "now-3w",
        "now-99999999d",
        "1.5",
        ":",
    ] {
        for parameter in ["scanned_after", "scanned_from", "scanned_before", "time"] {
            server
                .get(&format!("{STREAM}?{parameter}={value}"))
                .problem(400, &[parameter, "2026-01-01T00:00:00Z", "in us", "now-3h"]);
        }
        server
            .get(&format!("{STREAM}?after={value}:1"))
            .problem(400, &["after is", "TIME:ID", "now-3h"]);
    }
    for query in ["time=", "after=:1"] {
        server
            .get(&format!("{STREAM}?{query}"))
            .problem(400, &["now-3h"]);
    }
    let server = store.serve(folder.path(), &path, &stream("type = \"integer\""));
    server
        .get(&format!("{STREAM}?scanned_after=2026-01-01"))
        .problem(
            400,
            &["an integer", "since the stream's time, time, is one"],
        );
    server
        .get(&format!("{STREAM}?after=2026-01-01:5"))
        .problem(400, &["two integers"]);
}

both!(nanoseconds_have_ends_of_their_own_and_windows_beyond_them_are_exact);
fn nanoseconds_have_ends_of_their_own_and_windows_beyond_them_are_exact(store: Store) {
    let folder = folder();
    let literals = ["-9223372036854775808", "0", "9223372036854775806"].map(str::to_owned);
    let sql = table("INTEGER", &literals);
    let path = database(folder.path(), &sql);
    let configuration = stream("type = \"timestamp\", unit = \"ns\"");
    let server = store.serve(folder.path(), &path, &configuration);
    for (query, expected) in [
        ("scanned_after=0001-01-01", &[1, 2, 3][..]),
        ("scanned_after=1677-09-21T00:12:43.145224192Z", &[2, 3]),
        ("scanned_after=9999-12-31", &[]),
        ("scanned_before=0001-01-01", &[]),
        ("scanned_before=1677-09-21T00:12:43.145224192Z", &[1]),
        ("scanned_before=9999-12-31", &[1, 2, 3]),
        ("after=0001-01-01:5", &[1, 2, 3]),
        ("until=0001-01-01:5", &[]),
        ("until=9999-12-31:5", &[1, 2, 3]),
        ("after=9999-12-31:5", &[]),
        ("time=gt.0001-01-01", &[1, 2, 3]),
        ("time=gte.9999-12-31", &[]),
        ("time=lt.9999-12-31", &[1, 2, 3]),
        ("time=lte.0001-01-01", &[]),
        ("time=ne.0001-01-01", &[1, 2, 3]),
        ("time=in.(0001-01-01,1970-01-01)", &[2]),
    ] {
        assert_eq!(ids(&server, query), expected, "{query}");
        if !query.contains(':') || query.contains("T00") {
            let by_id = format!("{query}&order=id");
            assert_eq!(ids(&server, &by_id), expected, "{by_id}");
        }
    }
}

both!(days_booleans_decimals_and_json_are_compared_as_what_they_are);
fn days_booleans_decimals_and_json_are_compared_as_what_they_are(store: Store) {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, day TEXT, days INTEGER, flag, price TEXT, j TEXT);
         INSERT INTO t VALUES
            (1, 1, '0001-01-01', -719162, 0, '-1.5', '{\"a\":1}'),
            (2, 2, '2024-02-29', 19782, 'true', '9.99', '\"x\"'),
            (3, 3, '9999-12-31', 2932896, 't', '10', '[1,2]'),
            (4, 4, NULL, NULL, NULL, NULL, NULL);",
    );
    let configuration = "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\ncolumns = [\n\
        { name = \"id\", type = \"integer\" },\n\
        { name = \"day\", type = \"date\", nullable = true },\n\
        { name = \"days\", type = \"date\", stored = \"days\", nullable = true },\n\
        { name = \"flag\", type = \"boolean\", nullable = true },\n\
        { name = \"price\", type = \"decimal\", precision = 10, scale = 2, nullable = true },\n\
        { name = \"j\", type = \"json\", nullable = true }]\n";
    let server = store.serve(folder.path(), &path, configuration);
    for (query, expected) in [
        ("day=2024-02-29", &[2][..]),
        ("days=2024-02-29", &[2]),
        ("day=gt.0001-01-01", &[2, 3]),
        ("days=lt.9999-12-31", &[1, 2]),
        ("day=in.(0001-01-01,9999-12-31)", &[1, 3]),
        ("day=ne.2024-02-29", &[1, 3]),
        ("flag=true", &[2, 3]),
        ("flag=eq.t", &[2, 3]),
        ("flag=0", &[1]),
        ("flag=ne.false", &[2, 3]),
        ("flag=in.(true,f)", &[1, 2, 3]),
        ("price=9.990", &[2]),
        ("price=9.991", &[]),
        ("price=ne.9.991", &[1, 2, 3]),
        ("price=gt.9.9899", &[2, 3]),
        ("price=gte.9.9901", &[3]),
        ("price=lt.-1.499", &[1]),
        ("price=lte.-1.501", &[]),
        (
            "price=lt.100000000000000000000000000000000000000000",
            &[1, 2, 3],
        ),
        (
            "price=gt.-100000000000000000000000000000000000000000",
            &[1, 2, 3],
        ),
        ("price=gt.100000000000000000000000000000000000000000", &[]),
        ("price=in.(9.99,10.00,7.777)", &[2, 3]),
        ("j=%22x%22", &[2]),
        ("j=like.*1*", &[1, 3]),
        ("j=is.null", &[4]),
    ] {
        assert_eq!(ids(&server, query), expected, "{query}");
    }
    for (query, part) in [
        ("day=2024-02-30", "a day of the years 1 to 9999"),
        ("day=5", "a day"),
        ("day=now", "a day"),
        ("flag=yes", "true or false"),
        ("flag=like.t*", "not a string"),
        ("price=1e3", "a number without an exponent"),
        ("price=.5", "a number"),
        ("price=5.", "a number"),
        ("price=%2B5", "a number"),
        ("day=gtr.2024-01-01", "no operator"),
    ] {
        server
            .get(&format!("{STREAM}?{query}"))
            .problem(400, &[part]);
    }
    let listed: serde_json::Value =
        serde_json::from_str(&server.document("/api/v1/schema/t")).unwrap();
    assert_eq!(
        listed["columns"][4],
        serde_json::json!({ "name": "price", "type": "decimal", "precision": 10, "scale": 2, "nullable": true })
    );
}

both!(a_time_that_is_not_as_declared_or_not_in_order_breaks_the_stream);
fn a_time_that_is_not_as_declared_or_not_in_order_breaks_the_stream(store: Store) {
    let folder = folder();
    let literals = [1, 2, 3].map(|second| format!("'2026-01-01 00:00:0{second}'"));
    let place = store.database(&database(folder.path(), &table("TEXT", &literals)));
    let configuration = stream("type = \"timestamp\", stored = \"iso8601\"");
    let server = Server::with(folder.path(), &place, &configuration);
    let set = |sql: &str| store.execute(&place, sql);
    for (time, reason) in [
        // Sorts where it belongs, but is not spelled so.
        ("'2026-01-01 00:00:02Z'", "2026-01-01 00:00:02Z"),
        ("'2026-01-01T00:00:02'", "2026-01-01T00:00:02"),
        ("'2026-02-30 00:00:02'", "2026-02-30"),
        ("'2026-01-01 00:00:02.1234567'", "00:00:02.1234567"),
        ("1767225602", "1767225602"),
    ] {
        set(&format!("UPDATE t SET time = {time} WHERE id = 2"));
        for query in ["", "?limit=3", "?order=id"] {
            server
                .get(&format!("{STREAM}{query}"))
                .problem(500, &["column time, record with id 2: ", reason]);
        }
        set("UPDATE t SET time = '2026-01-01 00:00:02' WHERE id = 2");
        assert_eq!(ids(&server, ""), [1, 2, 3]);
    }
    // One instant in two spellings, of which the second has the lesser id.
    set("UPDATE t SET time = '2026-01-01 00:00:05.50' WHERE id = 1;
         UPDATE t SET time = '2026-01-01 00:00:05.5' WHERE id = 2");
    server
        .get(STREAM)
        .problem(500, &["column time, record with id 1: ", "order"]);
    assert_eq!(ids(&server, "order=id"), [1, 2, 3]);
}

both!(a_record_without_a_time_is_never_left_out_in_silence);
fn a_record_without_a_time_is_never_left_out_in_silence(store: Store) {
    let folder = folder();
    let path = database(
        folder.path(),
        "PRAGMA journal_mode = WAL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER); CREATE INDEX i ON t (time);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         INSERT INTO t SELECT i, i FROM n;",
    );
    let place = store.database(&path);
    let server = Server::with(folder.path(), &place, &stream("type = \"integer\""));
    assert_eq!(ids(&server, "limit=2"), [1, 2]);
    store.execute(&place, "UPDATE t SET time = NULL WHERE id = 7");
    for query in [
        "",
        "?limit=2",
        "?limit=500",
        "?limit=5000",
        "?limit=2&id=gt.1",
    ] {
        server
            .get(&format!("{STREAM}{query}"))
            .problem(500, &["record with id 7", "null"]);
    }
    // It is in no window.
    assert_eq!(ids(&server, "scanned_after=-1&limit=2"), [1, 2]);
}
