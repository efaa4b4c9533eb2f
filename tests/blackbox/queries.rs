//! Streams of a query in the place of a table.

use rusqlite::Connection;

use crate::harness::{Ran, Server, assert_has, database, flows, folder};
use crate::store::{Store, both};

/// Logins that refer to users, and a state that is a number.
const TABLES: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
    INSERT INTO users VALUES (1, 'ann'), (2, 'bob');
    CREATE TABLE logins (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, user INTEGER, state INTEGER);
    CREATE INDEX logins_at ON logins (at);
    INSERT INTO logins VALUES (1, 10, 1, 0), (2, 10, 2, 1), (3, 20, 1, 1), (4, 20, NULL, 7), (5, 30, 2, 0);";

/// The stream is called as a table that its query reads from.
fn configuration(query: &str) -> String {
    format!(
        "[database]\npath = 'made.db'\n[[streams]]\nname = 'logins'\nquery = '''{query}'''\n\
         time = 'at'\nid = 'id'\ncolumns = [{{ name = 'id', type = 'integer' }}, \
         {{ name = 'at', type = 'integer' }}, {{ name = 'user', type = 'text' }}, \
         {{ name = 'state', type = 'text', nullable = true }}]\n"
    )
}

const QUERY: &str = "
    SELECT l.id, l.at, u.name AS user, CASE l.state WHEN 0 THEN 'in' WHEN 1 THEN 'out' END AS state
    FROM logins AS l JOIN users AS u ON u.id = l.user -- those without a user are nobody's business
    WHERE l.id <> 5;";

fn check(folder: &std::path::Path, query: &str) -> Ran {
    std::fs::write(folder.join("c.toml"), configuration(query)).unwrap();
    let mut check = flows(folder, &["check", "--config", "c.toml", "--all-rows"]);
    Ran::from(check.output().unwrap())
}

both!(a_join_with_a_case_and_a_filter_is_served_as_a_table_is);
fn a_join_with_a_case_and_a_filter_is_served_as_a_table_is(store: Store) {
    let folder = folder();
    let made = database(folder.path(), TABLES);
    let place = store.database(&made);
    let server = Server::with(folder.path(), &place, &configuration(QUERY));
    let stream = "/api/v1/stream/logins";
    let head = "id,at,user,state\n";
    for (query, lines) in [
        ("", "1,10,ann,in\n2,10,bob,out\n3,20,ann,out\n"),
        ("?at_after=10", "3,20,ann,out\n"),
        ("?at_before=10", "1,10,ann,in\n2,10,bob,out\n"),
        ("?after=10:1", "2,10,bob,out\n3,20,ann,out\n"),
        ("?after=10:1&until=10:2", "2,10,bob,out\n"),
        ("?order=id&after=1", "2,10,bob,out\n3,20,ann,out\n"),
        ("?user=ann&state=out", "3,20,ann,out\n"),
        ("?state=ne.out", "1,10,ann,in\n"),
        ("?limit=1", "1,10,ann,in\n"),
    ] {
        let query = query.replace("at_after", "scanned_after");
        let query = query.replace("at_before", "scanned_before");
        let document = server.document(&format!("{stream}.csv{query}"));
        assert_eq!(document, format!("{head}{lines}"), "{query}");
    }
    let columns = server.document(&format!("{stream}.csv?columns=state&user=bob"));
    assert_eq!(columns, "state\nout\n");
    let reply = server.get(&format!("{stream}?user=ann&count=exact&limit=1"));
    assert_eq!(reply.header("flows-count"), "1");
    assert_has(reply.header("link"), &["after=10:1", "rel=\"next\""]);
    assert_eq!(reply.header("flows-position"), "10:1");
    // What is written is seen at once, by connections that were there before too.
    store.execute(&place, "INSERT INTO logins VALUES (6, 40, 2, 0)");
    for _ in 0..4 {
        let new = server.document(&format!("{stream}.csv?scanned_after=20"));
        assert_eq!(new, format!("{head}6,40,bob,in\n"));
    }
}

both!(many_streams_of_queries_at_once_on_connections_that_have_their_views_or_not);
fn many_streams_of_queries_at_once_on_connections_that_have_their_views_or_not(store: Store) {
    let folder = folder();
    let made = database(folder.path(), TABLES);
    let one = configuration(QUERY);
    let others = "[[streams]]\nname = 'users'\nquery = 'SELECT id, 0 AS at, name FROM users'\ntime = 'at'\n\
                  id = 'id'\ncolumns = [{ name = 'name', type = 'text' }]\n";
    let server = store.serve(folder.path(), &made, &format!("{one}{others}"));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let names = server.document("/api/v1/stream/users.csv");
                    assert_eq!(names, "name\nann\nbob\n");
                    let states = server.document("/api/v1/stream/logins.csv?columns=state");
                    assert_eq!(states, "state\nin\nout\nout\n");
                }
            });
        }
    });
}

#[test]
fn check_says_how_a_query_is_read() {
    let folder = folder();
    database(folder.path(), TABLES);
    let report = check(folder.path(), QUERY).fine();
    assert_has(
        &report,
        &[
            "\nstream logins: a query, ordered by (at, id)\n",
            "\n  state text, nullable\n",
            "\n  read by SQL: it is a view\n",
            "warning: stream logins: nothing in the query of stream logins says that no two records have the \
             same (at, id)",
            "stream logins: all 3 records are as declared, and in order",
        ],
    );
    let sorted = check(folder.path(), &QUERY.replace("l.at,", "l.at + 0 AS at,")).fine();
    assert_has(
        &sorted,
        &[
            "no index of the query of stream logins gives (at, id) order",
            "index the table behind the query by (at, id)",
        ],
    );
}

#[test]
fn wrong_queries_are_refused_with_the_reason() {
    let folder = folder();
    database(folder.path(), TABLES);
    let select = "its query is not one SELECT that SQLite takes: ";
    for (query, parts) in [
        ("SELEC 1", &[select, "near \"SELEC\": syntax error"][..]),
        ("SELECT 1 FROM", &[select, "incomplete input"]),
        ("DELETE FROM logins", &[select, "near \"DELETE\""]),
        (
            "SELECT 1; DELETE FROM logins",
            &[select, "Multiple statements"],
        ),
        (
            "SELECT ?1 AS id",
            &[select, "parameters are not allowed in views"],
        ),
        (
            "SELECT * FROM login",
            &["stream logins: its query: no such table: ", "login"],
        ),
        (
            "SELECT id, att AS at FROM logins",
            &["stream logins: its query: no such column: att"],
        ),
        (
            "SELECT id, at, 'x' AS usr, 'y' AS state FROM logins",
            &[
                "the query of stream logins has no column user (did you mean usr?); it has: id, at, usr, state",
            ],
        ),
        (
            "SELECT *, name AS user FROM logins AS l JOIN users AS u ON u.id = l.user",
            &[
                "more than one column of its query is called id; `AS` gives one of them another name",
            ],
        ),
        (
            "SELECT id, 'x' AS at, 'x' AS user, '' AS state FROM logins",
            &["the time column at of the query of stream logins holds the string \"x\""],
        ),
    ] {
        let ran = check(folder.path(), query);
        assert_eq!(ran.code, Some(2), "{query}: {ran:?}");
        assert_has(&ran.stdout, parts);
        let arguments = ["serve", "--config", "c.toml", "--listen", "127.0.0.1:0"];
        let serve = flows(folder.path(), &arguments).output().unwrap();
        Ran::from(serve).failed(2, parts);
    }
    let ten: i64 = Connection::open(folder.path().join("made.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM logins", [], |row| row.get(0))
        .unwrap();
    assert_eq!(ten, 5, "nothing is written");
}

both!(a_table_that_the_query_reads_from_is_dropped_and_made_anew);
fn a_table_that_the_query_reads_from_is_dropped_and_made_anew(store: Store) {
    let folder = folder();
    let made = database(folder.path(), TABLES);
    let place = store.database(&made);
    let server = Server::with(folder.path(), &place, &configuration(QUERY));
    let all = || server.get("/api/v1/stream/logins.csv");
    let before = all().body;
    let (no_table, no_column) = match store {
        Store::Sqlite => (
            "its query: no such table: ",
            "its query: no such column: u.name",
        ),
        Store::Postgres => (
            "relation \"users\" does not exist",
            "column u.name does not exist",
        ),
    };
    for _ in 0..2 {
        store.execute(&place, "ALTER TABLE users RENAME TO away");
        let parts = ["stream logins: ", no_table, "users", "flows check"];
        all().problem(500, &parts);
        store.execute(&place, "ALTER TABLE away RENAME TO users");
        assert_eq!(all().body, before);
    }
    store.execute(&place, "ALTER TABLE users RENAME COLUMN name TO called");
    all().problem(500, &["stream logins: ", no_column]);
    // Made anew with another affinity: what is sent is as declared.
    let anew = "DROP TABLE users; CREATE TABLE users (id INTEGER PRIMARY KEY, name INTEGER);
                INSERT INTO users VALUES (1, 7), (2, 8)";
    store.execute(&place, anew);
    let lines = "id,at,user,state\n1,10,7,in\n2,10,8,out\n3,20,7,out\n";
    assert_eq!(all().body, lines);
}

#[test]
fn nothing_is_imported_into_a_query() {
    let folder = folder();
    let configuration = configuration("SELECT 1").replace("'logins'", "'flows'");
    std::fs::write(folder.path().join("c.toml"), configuration).unwrap();
    std::fs::write(folder.path().join("lines"), "").unwrap();
    let import = flows(folder.path(), &["import", "lines", "--config", "c.toml"])
        .output()
        .unwrap();
    Ran::from(import).failed(
        2,
        &["the stream flows has a query, and no table to import into"],
    );
    assert!(!folder.path().join("made.db").exists());
}
