//! Positions: `after`, `until`, `Flows-Position`, `Link`, `order=id`, `count=exact`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    FLOWS, Reply, Server, assert_has, database, folder, generated, run, some_time, ten_records,
};
use crate::store::{Store, both};

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

const STREAM: &str = "/api/v1/stream/t";

/// Ten records a second apart, three of them in second 5, with ids that do not rise with time.
const TABLE: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v TEXT); CREATE INDEX i ON t (time, id);
    INSERT INTO t VALUES (8, 1, 'a'), (7, 2, 'b'), (6, 5, 'a'), (3, 5, 'b'), (9, 5, 'a'), (1, 7, 'b');";

/// The ids of a reply's records, its position, and where it leads.
fn asked(server: &Server, query: &str) -> (Vec<i64>, String, String) {
    let reply = server.get(&format!("{STREAM}.csv?csv.header=false&{query}"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.complete);
    let id = |line: &str| line.split(',').next().unwrap().parse().unwrap();
    let position = reply.header("flows-position").to_owned();
    (
        reply.body.lines().map(id).collect(),
        position,
        reply.header("link").to_owned(),
    )
}

both!(replies_say_where_they_end_and_go_on_behind_a_position);
fn replies_say_where_they_end_and_go_on_behind_a_position(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &database(folder.path(), TABLE), T);
    // The first request of a connection takes another way than those after it.
    for _ in 0..2 {
        for (query, ids, position) in [
            ("", &[8, 7, 3, 6, 9, 1][..], "7:1"),
            ("after=5:3", &[6, 9, 1], "7:1"),
            ("after=5:4", &[6, 9, 1], "7:1"),
            ("after=4:99", &[3, 6, 9, 1], "7:1"),
            ("after=5:3&until=5:6", &[6], "5:6"),
            ("until=5:6", &[8, 7, 3, 6], "5:6"),
            ("until=5:7", &[8, 7, 3, 6], "5:6"),
            // A cursor of the client's own beside that of a link: all bounds hold. An empty one is none.
            ("after=5:3&after=2:7", &[6, 9, 1], "7:1"),
            ("after=2:7&after=5:3", &[6, 9, 1], "7:1"),
            ("until=5:3&until=5:7", &[8, 7, 3], "5:3"),
            (
                "after=&until=&scanned_after=&scanned_before=",
                &[8, 7, 3, 6, 9, 1],
                "7:1",
            ),
            (
                "scanned_after=1&scanned_after=2&scanned_before=5&scanned_before=9",
                &[3, 6, 9],
                "5:9",
            ),
            ("scanned_from=5", &[3, 6, 9, 1], "7:1"),
            ("scanned_from=5&scanned_from=2", &[3, 6, 9, 1], "7:1"),
            ("scanned_from=5&scanned_after=5", &[1], "7:1"),
            ("scanned_from=5&scanned_after=2", &[3, 6, 9, 1], "7:1"),
            (
                "scanned_from=-9223372036854775808",
                &[8, 7, 3, 6, 9, 1],
                "7:1",
            ),
            (
                "scanned_from=9223372036854775807",
                &[],
                "9223372036854775806:9223372036854775807",
            ),
            ("order=id&scanned_from=5&scanned_from=2", &[1, 3, 6, 9], "9"),
            ("order=id&after=3&after=1", &[6, 7, 8, 9], "9"),
            ("after=5:3&scanned_after=5", &[1], "7:1"),
            ("after=5:3&scanned_after=1", &[6, 9, 1], "7:1"),
            ("after=5:3&scanned_before=5", &[6, 9], "5:9"),
            ("after=7:1", &[], "7:1"),
            ("after=5:3&until=2:0", &[], "5:3"),
            ("after=5:3&scanned_before=2", &[], "5:3"),
            ("after=5:3&until=5:3", &[], "5:3"),
            (
                "scanned_after=5&scanned_before=2",
                &[],
                "5:9223372036854775807",
            ),
            ("scanned_after=7", &[], "7:9223372036854775807"),
            ("scanned_before=0", &[], ""),
            ("limit=6", &[8, 7, 3, 6, 9, 1], "7:1"),
            ("limit=7", &[8, 7, 3, 6, 9, 1], "7:1"),
            ("limit=0&after=2:7", &[], "2:7"),
            ("v=a", &[8, 6, 9], "7:1"),
            ("v=c&after=2:7", &[], "7:1"),
            ("v=b&limit=9", &[7, 3, 1], "7:1"),
        ] {
            let expected = (ids.to_vec(), position.to_owned(), String::new());
            assert_eq!(asked(&server, query), expected, "{query}");
        }
    }
    // What a limit cut off is linked to, with the request's other parameters.
    for (query, ids, position) in [
        ("limit=2", &[8, 7][..], "2:7"),
        ("limit=1&after=5:3", &[6], "5:6"),
        ("limit=2&v=a", &[8, 6], "5:6"),
    ] {
        let (found, at, link) = asked(&server, query);
        assert_eq!((&found[..], at.as_str()), (ids, position), "{query}");
        // Without a path it survives a proxy that has put a prefix before ours.
        assert!(link.starts_with("<?"), "{link}");
        assert_has(&link, &["; rel=\"next\"", &format!("&after={position}>")]);
        assert_eq!(link.matches("after=").count(), 1, "{link}");
    }
    let mut ids = Vec::new();
    let mut path = format!("{STREAM}.csv?csv.header=false&limit=4");
    loop {
        let reply = server.get(&path);
        ids.extend(
            reply
                .body
                .lines()
                .map(|line| line.split(',').next().unwrap().to_owned()),
        );
        let Some(next) = reply.next(&path) else {
            break;
        };
        path = next;
    }
    assert_eq!(ids, ["8", "7", "3", "6", "9", "1"]);
    for (query, part) in [
        ("after=5", "after is \"5\"; it must be TIME:ID"),
        ("after=5:x", "TIME:ID"),
        ("after=+5:1", "TIME:ID"),
        ("until=%20", "until is \" \""),
        ("after=5:1&order=id", "it must be ID"),
        ("order=up", "time or id"),
        ("count=all", "exact"),
    ] {
        server
            .get(&format!("{STREAM}?{query}"))
            .problem(400, &[part]);
    }
}

both!(a_position_beyond_the_table_is_told_where_the_table_ends);
fn a_position_beyond_the_table_is_told_where_the_table_ends(store: Store) {
    let folder = folder();
    // One is written at once, the other by a scan of its own; a table without an index is sorted.
    for mode in ["WAL", "DELETE"] {
        for without in ["", "DROP INDEX i"] {
            let made = TABLE.replace("WAL", mode);
            let sql = format!("DROP TABLE IF EXISTS t; {made} {without}");
            let place = store.database(&database(folder.path(), &sql));
            let server = Server::with(folder.path(), &place, T);
            let end = |method, query: &str| {
                let reply = server.with_head(method, &format!("{STREAM}?{query}"), "");
                assert_eq!(reply.status, 200, "{query}");
                reply.headers.get("flows-end").cloned()
            };
            for (query, expected) in [
                ("after=7:2", Some("7:1")),
                ("after=8:0", Some("7:1")),
                ("after=8:0&limit=1", Some("7:1")),
                ("after=8:0&limit=0", Some("7:1")),
                ("after=8:0&v=a", Some("7:1")),
                ("after=8:0&v=a&limit=3&count=exact", Some("7:1")),
                ("after=8:0&scanned_after=2&scanned_before=3", Some("7:1")),
                ("after=8:0&scanned_after=9", Some("7:1")),
                ("after=10&order=id", Some("9")),
                ("after=10&order=id&columns=v", Some("9")),
                ("after=7:1", None),
                ("after=7:0", None),
                ("after=1:0&v=c", None),
                ("after=1:0&until=1:1", None),
                ("after=9&order=id", None),
                // No position of a record, but where windows end that have none.
                ("scanned_after=9", None),
                ("scanned_after=9&after=7:1", None),
                ("after=9:9223372036854775807", None),
                ("", None),
            ] {
                // The first request of a connection takes another way than those after it.
                for method in ["GET", "GET", "HEAD"] {
                    assert_eq!(end(method, query).as_deref(), expected, "{method} {query}");
                }
            }
            store.execute(&place, "DELETE FROM t");
            for query in ["after=0:0", "after=0&order=id", "after=0:0&v=a&limit=1"] {
                assert_eq!(end("GET", query).as_deref(), Some("none"), "{query}");
                assert_eq!(end("HEAD", query).as_deref(), Some("none"), "{query}");
            }
            assert_eq!(end("GET", ""), None);
        }
    }
}

both!(in_the_order_of_ids_a_late_arrival_is_not_missed);
fn in_the_order_of_ids_a_late_arrival_is_not_missed(store: Store) {
    let folder = folder();
    let place = store.database(&database(folder.path(), TABLE));
    let server = Server::with(folder.path(), &place, T);
    for (query, ids, position) in [
        ("order=id", &[1, 3, 6, 7, 8, 9][..], "9"),
        ("order=id&after=6", &[7, 8, 9], "9"),
        ("order=id&after=6&until=8", &[7, 8], "8"),
        ("order=id&after=9", &[], "9"),
        ("order=id&scanned_after=2", &[1, 3, 6, 9], "9"),
        ("order=id&scanned_before=2&after=1", &[7, 8], "9"),
        ("order=time", &[8, 7, 3, 6, 9, 1], "7:1"),
    ] {
        let expected = (ids.to_vec(), position.to_owned(), String::new());
        assert_eq!(asked(&server, query), expected, "{query}");
    }
    let (ids, position, link) = asked(&server, "order=id&limit=2");
    assert_eq!((&ids[..], position.as_str()), (&[1, 3][..], "3"));
    assert_has(&link, &["order=id", "&after=3>"]);
    store.execute(&place, "INSERT INTO t VALUES (10, 0, 'late')");
    assert_eq!(asked(&server, "order=id&after=9").0, [10]);
    assert_eq!(asked(&server, "after=7:1").0, [] as [i64; 0]);
    let report = run(
        folder.path(),
        &["check", "--config", "test.toml", "--database", &place],
    );
    let said = match store {
        Store::Sqlite => {
            "order=id, which misses no late arrival where id only grows: served by an index"
        }
        // A writer could take its id long before it commits.
        Store::Postgres => "order=id promises nothing, since id is not drawn from a sequence",
    };
    assert_has(&report.fine(), &[said]);
}

both!(large_replies_say_the_same_as_small_ones);
fn large_replies_say_the_same_as_small_ones(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 60_000), "");
    let positions = server.document(&format!("{FLOWS}.csv?columns=time,id&csv.header=false"));
    let positions: Vec<_> = positions
        .lines()
        .map(|line| line.replace(',', ":"))
        .collect();
    assert_eq!(positions.len(), 60_000);
    let head = |query: &str| server.with_head("HEAD", &format!("{FLOWS}?{query}"), "");
    assert_eq!(head("").header("flows-position"), positions[59_999]);
    assert_eq!(
        head("limit=60000").header("flows-position"),
        positions[59_999]
    );
    assert_eq!(head("limit=60000").header("link"), "");
    let cut = head("limit=50000");
    assert_eq!(cut.header("flows-position"), positions[49_999]);
    assert_has(
        cut.header("link"),
        &[&format!("limit=50000&after={}>", positions[49_999])],
    );
    // A filter counts what it lets through, and an order what it orders by.
    for (query, position) in [
        ("limit=3&id=gt.5", &positions[7]),
        ("limit=50000&id=gt.5", &positions[50_004]),
        (
            "limit=20000&protocol=6",
            &nth(&server, "protocol=6", 20_000),
        ),
        (
            "limit=40000&order=id&scanned_after=86400",
            &nth(&server, "order=id&scanned_after=86400", 40_000)
                .split_once(':')
                .unwrap()
                .1
                .to_owned(),
        ),
    ] {
        let cut = head(query);
        assert_eq!(cut.header("flows-position"), position, "{query}");
        let next = format!("{query}&after={position}>; rel=\"next\"");
        assert_has(cut.header("link"), &[&next]);
    }
    for query in [
        "limit=59995&id=gt.5",
        "limit=4000000",
        "limit=60001&order=id",
    ] {
        assert_eq!(head(query).header("link"), "", "{query}");
    }
    assert_eq!(head("id=gt.5").header("flows-position"), positions[59_999]);
    // Chained by position, pages are the table.
    let mut pages = String::new();
    let mut after = "-1:0".to_owned();
    loop {
        let reply = server.get(&format!(
            "{FLOWS}.csv?csv.header=false&limit=17001&after={after}"
        ));
        pages += &reply.body;
        after = reply.header("flows-position").to_owned();
        if reply.header("link").is_empty() {
            break;
        }
    }
    assert!(pages == server.document(&format!("{FLOWS}.csv?csv.header=false")));
}

/// The position of a record of that number of those that match a filter.
fn nth(server: &Server, filter: &str, number: usize) -> String {
    let path = format!("{FLOWS}.csv?columns=time,id&csv.header=false&{filter}");
    let positions = server.document(&path);
    positions.lines().nth(number - 1).unwrap().replace(',', ":")
}

both!(whoever_follows_the_links_gets_every_record);
fn whoever_follows_the_links_gets_every_record(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 100_000), "");
    for query in [
        "protocol=6&limit=20000",
        "byte_count=gt.100000&limit=3000",
        "order=id&scanned_after=86400&scanned_before=4000000&limit=30000",
        "order=id&dst_port=like.N1*&limit=4000",
        "limit=33333",
    ] {
        let path = format!("{FLOWS}.csv?csv.header=false&{query}");
        let limit = query.split('=').next_back().unwrap();
        let all = server.document(&path.replace(&format!("limit={limit}"), ""));
        let (mut pages, mut next) = (String::new(), Some(path));
        while let Some(path) = next {
            let reply = server.get(&path);
            assert!(reply.status == 200 && reply.complete);
            pages += &reply.body;
            next = reply.next(&path);
        }
        assert!(pages == all, "{query}: {} of {}", pages.len(), all.len());
        assert!(all.lines().count() > limit.parse().unwrap(), "{query}");
    }
}

both!(what_looks_for_a_position_is_not_what_reads_the_records);
fn what_looks_for_a_position_is_not_what_reads_the_records(store: Store) {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let server = store.serve(folder.path(), &path, "[database]\npool_size = 1\n");
    // On one connection, the same filters: first with a position to look for, then without.
    for filter in ["id=gt.5", "order=id&scanned_after=-5"] {
        let cut = server.document(&format!("{FLOWS}.csv?{filter}&limit=15000&columns=id"));
        let all = server.document(&format!("{FLOWS}.csv?{filter}"));
        assert_eq!(
            (cut.lines().count(), all.lines().count() > 19_990),
            (15_001, true)
        );
    }
}

both!(a_limit_holds_also_where_positions_repeat);
fn a_limit_holds_also_where_positions_repeat(store: Store) {
    let folder = folder();
    let repeated = "PRAGMA journal_mode = WAL;
        CREATE TABLE t (id INTEGER, time INTEGER, v TEXT); CREATE INDEX i ON t (time, id);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
        INSERT INTO t SELECT i / 1000, i / 1000, 'x' FROM n;";
    let server = store.serve(folder.path(), &database(folder.path(), repeated), T);
    for limit in [1, 1500, 4999] {
        for filter in ["", "&v=x"] {
            let path = format!("{STREAM}.csv?csv.header=false&count=exact&limit={limit}{filter}");
            let reply = server.get(&path);
            assert_eq!(reply.body.lines().count(), limit, "{path}");
            assert_eq!(reply.header("flows-count"), limit.to_string(), "{path}");
        }
    }
}

both!(records_are_counted_when_that_is_asked);
fn records_are_counted_when_that_is_asked(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 20_000), "");
    let count = |method: &str, query: &str| {
        let reply = server.with_head(method, &format!("{FLOWS}?{query}"), "");
        assert_eq!(reply.status, 200);
        reply.header("flows-count").to_owned()
    };
    assert_eq!(count("GET", "limit=5"), "");
    assert_eq!(count("HEAD", "count=exact"), "20000");
    assert_eq!(count("GET", "count=exact&limit=5"), "5");
    assert_eq!(count("GET", "count=exact&id=lte.77"), "77");
    assert_eq!(
        count("GET", "count=exact&id=lte.77&id=gt.70&limit=100"),
        "7"
    );
    assert_eq!(count("HEAD", "count=exact&scanned_after=5011199"), "0");
}

both!(pulls_chained_in_the_order_of_time_lose_nothing_and_repeat_nothing);
/// Pulls by position, while a writer inserts and deletes what was pulled, concatenate to exactly what
/// was inserted, though the server is killed in between, and clients in mid-stream.
fn pulls_chained_in_the_order_of_time_lose_nothing_and_repeat_nothing(store: Store) {
    chained(store, "time");
}

both!(pulls_chained_in_the_order_of_ids_lose_nothing_and_repeat_nothing);
fn pulls_chained_in_the_order_of_ids_lose_nothing_and_repeat_nothing(store: Store) {
    chained(store, "id");
}

/// For a while, one thread writes batches and deletes what is pulled, another one pulls, while the
/// server is killed now and then.
fn chained(store: Store, order: &str) {
    let folder = folder();
    let made = database(
        folder.path(),
        "PRAGMA journal_mode = WAL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v TEXT);
         CREATE INDEX i ON t (time, id);",
    );
    let place = store.database(&made);
    let mut pulled: Vec<(i64, (i64, String))> = Vec::new();
    let mut kills = 0;
    let (up_to, done) = (AtomicI64::new(0), AtomicBool::new(false));
    let inserted = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(store, &place, (&done, &up_to), order == "id"));
        let mut server = Server::with(folder.path(), &place, T);
        let mut random = fastrand::Rng::with_seed(7);
        let mut after = None;
        let end = Instant::now() + some_time();
        loop {
            // Once more when nothing is written any more.
            let last = writer.is_finished();
            let mut query = format!("csv.header=false&order={order}");
            if random.bool() && !last {
                write!(query, "&limit={}", random.u32(1..3000)).unwrap();
            }
            if let Some(after) = &after {
                write!(query, "&after={after}").unwrap();
            }
            let path_of = format!("{STREAM}.csv?{query}");
            match random.u8(0..100) {
                // Killed in mid-stream, it has sent nothing that counts; nor has it to a client that goes.
                0 => {
                    let mut reader = BufReader::new(server.ask(&path_of));
                    assert_eq!(Reply::head(&mut reader).status, 200);
                    server.signal("KILL");
                    kills += 1;
                    drop(server);
                    server = Server::with(folder.path(), &place, T);
                    continue;
                }
                1..5 => {
                    drop(server.ask(&path_of));
                    continue;
                }
                _ => {}
            }
            let reply = server.get(&path_of);
            assert!(reply.status == 200 && reply.complete);
            let position = reply.header("flows-position");
            after = Some(position.to_owned())
                .filter(|position| !position.is_empty())
                .or(after);
            for line in reply.body.lines() {
                let mut fields = line.splitn(3, ',');
                let mut integer = || fields.next().unwrap().parse::<i64>().unwrap();
                let (id, time) = (integer(), integer());
                let text = fields.next().unwrap().trim_matches('"').to_owned();
                pulled.push((id, (time, text)));
                up_to.store(id, Ordering::Relaxed);
            }
            if last {
                break;
            }
            done.store(Instant::now() > end && kills > 0, Ordering::Relaxed);
        }
        writer.join().unwrap()
    });
    assert!(inserted.len() > 1_000, "{}", inserted.len());
    for (id, record) in &pulled {
        assert_eq!(&inserted[id], record);
    }
    let mut ids: Vec<_> = pulled.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), pulled.len(), "a record was pulled twice");
    let all: Vec<_> = inserted.keys().copied().collect();
    assert!(ids == all, "a record was lost");
}

/// Writes batches, and deletes some of what was pulled; all that was inserted.
fn write_until(
    store: Store,
    place: &str,
    (done, up_to): (&AtomicBool, &AtomicI64),
    is_late: bool,
) -> BTreeMap<i64, (i64, String)> {
    let mut random = fastrand::Rng::with_seed(8);
    let mut inserted = BTreeMap::new();
    let (mut clock, mut id) = (1_000_i64, 0_i64);
    while !done.load(Ordering::Relaxed) {
        let mut rows = Vec::new();
        for _ in 0..random.u32(0..400) {
            clock += random.i64(0..2);
            id += 1;
            // In the order of ids a record may come late.
            let late = is_late && random.u8(..) < 30;
            let time = if late { random.i64(0..clock) } else { clock };
            let text = "x".repeat(random.usize(0..40));
            rows.push(format!("({id}, {time}, '{text}')"));
            inserted.insert(id, (time, text));
        }
        if !rows.is_empty() {
            store.execute(place, &format!("INSERT INTO t VALUES {}", rows.join(", ")));
        }
        let pulled = up_to.load(Ordering::Relaxed);
        if pulled > 0 {
            let id = random.i64(1..=pulled);
            store.execute(place, &format!("DELETE FROM t WHERE id = {id}"));
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..20)));
    }
    inserted
}

both!(an_index_that_falls_gives_the_same_order);
fn an_index_that_falls_gives_the_same_order(store: Store) {
    let folder = folder();
    let falling = TABLE.replace("t (time, id)", "t (time DESC, id DESC)");
    let server = store.serve(folder.path(), &database(folder.path(), &falling), T);
    for (query, ids) in [
        ("", &[8, 7, 3, 6, 9, 1][..]),
        ("scanned_after=1", &[7, 3, 6, 9, 1]),
        ("scanned_before=5", &[8, 7, 3, 6, 9]),
        ("after=5:3", &[6, 9, 1]),
        ("after=5:3&v=a", &[6, 9]),
        ("order=id&after=3", &[6, 7, 8, 9]),
    ] {
        assert_eq!(asked(&server, query).0, ids, "{query}");
    }
}

both!(positions_are_found_in_a_table_that_is_clustered);
fn positions_are_found_in_a_table_that_is_clustered(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    assert_eq!(server.get(FLOWS).header("flows-position"), "1:10");
}

both!(positions_are_found_in_a_table_that_is_sorted);
fn positions_are_found_in_a_table_that_is_sorted(store: Store) {
    let folder = folder();
    let sorted = match store {
        Store::Sqlite => {
            "CREATE TABLE t (id, time, v TEXT); INSERT INTO t VALUES ('3', '5', ''), ('1', 7, '')"
        }
        Store::Postgres => {
            "CREATE TABLE t (id INTEGER, time INTEGER, v TEXT); INSERT INTO t VALUES (3, 5, ''), (1, 7, '')"
        }
    };
    let server = store.serve(folder.path(), &database(folder.path(), sorted), T);
    assert_eq!(
        asked(&server, ""),
        (vec![3, 1], "7:1".into(), String::new())
    );
    assert_eq!(
        asked(&server, "after=5:3"),
        (vec![1], "7:1".into(), String::new())
    );
    assert_eq!(
        asked(&server, "order=id&after=1"),
        (vec![3], "3".into(), String::new())
    );
}
