//! That the servers of the tests are what they say.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::cluster::program;
use super::{Bouncer, Cluster, Mode, Sharded, shared, shared_copy};
use crate::harness::{PATIENCE, Server, assert_has, database, folder, generated, wait_until};
use crate::store::{Store, both};

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn awkward_values_are_the_same_in_a_copy() {
    let folder = folder();
    let sql = "CREATE TABLE \"a \"\"table\" (id INTEGER PRIMARY KEY, at DATETIME NOT NULL, r DOUBLE, \"a text\" VARCHAR(20) UNIQUE,
                                          b BLOB, ok BOOLEAN, price DECIMAL(10, 2), n, v, e);
        INSERT INTO \"a \"\"table\" VALUES
            (-9223372036854775808, '2024-01-01 00:00:00', 9e999, 'tab\t, line\n\r, \\, \\N and \\.', x'', 1, 12.3, 1, 1, NULL),
            (0, '2024-01-02 00:00:00', -9e999, '\\.', NULL, 'false', 5, 2, 2.5, NULL),
            (7, '2024-01-03 00:00:00', 0.1, '', x'00ff5c', NULL, NULL, NULL, 'Ω', NULL),
            (9223372036854775807, '', -1.7976931348623157e308, '\\N', x'41', 0, -1, -3, '😀', NULL);
        CREATE TABLE keyed (b TEXT, a INTEGER, c, PRIMARY KEY (a, b)) WITHOUT ROWID;
        INSERT INTO keyed VALUES ('x', 2, 1.5), ('y', 1, 2);
        CREATE INDEX plain ON keyed (c DESC, b); CREATE INDEX other ON keyed (abs(a)); CREATE INDEX part ON keyed (a) WHERE a > 1;
        CREATE VIEW seen AS SELECT a, b FROM keyed WHERE a > 1;";
    let name = shared_copy(&database(folder.path(), sql));
    let asked = |sql: &str| shared().sql(&name, sql);
    let records = asked(
        "SELECT id, at, r, convert_to(\"a text\", 'UTF8'), b, ok, price, n, convert_to(v, 'UTF8'), e FROM \"a \"\"table\" ORDER BY id",
    );
    let records: Vec<_> = records.lines().collect();
    assert_eq!(
        records,
        [
            "-9223372036854775808|2024-01-01 00:00:00|Infinity|\\x746162092c206c696e650a0d2c205c2c205c4e20616e64205c2e|\\x|t|12.3|1|\\x31|",
            "0|2024-01-02 00:00:00|-Infinity|\\x5c2e||f|5|2|\\x322e35|",
            "7|2024-01-03 00:00:00|0.1|\\x|\\x00ff5c||||\\xcea9|",
            "9223372036854775807||-1.7976931348623157e+308|\\x5c4e|\\x41|f|-1|-3|\\xf09f9880|",
        ]
    );
    let types = "SELECT string_agg(data_type, ' ' ORDER BY ordinal_position) FROM information_schema.columns
        WHERE table_name IN ('a \"table', 'keyed') GROUP BY table_name ORDER BY table_name";
    assert_eq!(
        asked(types),
        "bigint text double precision text bytea boolean numeric bigint text text\ntext bigint double precision"
    );
    assert_eq!(asked("SELECT * FROM seen"), "2|x");
    let indexes = asked("SELECT indexdef FROM pg_indexes WHERE tablename = 'keyed' ORDER BY 1");
    assert_eq!(
        indexes,
        "CREATE INDEX plain ON public.keyed USING btree (c DESC, b COLLATE \"C\")\n\
         CREATE UNIQUE INDEX keyed_pkey ON public.keyed USING btree (a, b)"
    );
    // Whoever compares texts has to say how.
    assert_eq!(asked("SELECT 'a' < 'B', 'a' < 'B' COLLATE \"C\""), "t|f");
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_server_is_stopped_killed_and_paused_and_comes_back() {
    let mut cluster = Cluster::start_with("work_mem = '1MB'");
    assert_eq!(cluster.sql("postgres", "SHOW work_mem"), "1MB");
    let name = cluster.create();
    cluster.sql(&name, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let address = ("127.0.0.1", cluster.port());
    cluster.stop();
    assert!(TcpStream::connect(address).is_err());
    cluster.restart();
    cluster.kill();
    assert!(TcpStream::connect(address).is_err());
    cluster.restart();
    assert_has(
        &cluster.log(),
        &["was interrupted", "ready to accept connections"],
    );
    cluster.pause();
    let mut psql = cluster.psql(&name).spawn().unwrap();
    let sql = b"SELECT a FROM t";
    psql.stdin.take().unwrap().write_all(sql).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(psql.try_wait().unwrap(), None);
    cluster.resume();
    assert_eq!(psql.wait_with_output().unwrap().stdout, b"1\n");
    let folder = cluster.socket().to_owned();
    assert!(folder.join("data").exists());
    drop(cluster);
    assert!(TcpStream::connect(address).is_err() && !folder.exists());
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_server_is_gone_with_the_process_that_started_it() {
    const OF_ANOTHER: &str = "CLUSTER_OF_ANOTHER";
    if std::env::var_os(OF_ANOTHER).is_some() {
        let cluster = shared();
        println!("cluster {} {}", cluster.port(), cluster.socket().display());
        std::thread::sleep(PATIENCE);
    }
    let name = "postgres::tests::a_server_is_gone_with_the_process_that_started_it";
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", name])
        .env(OF_ANOTHER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.contains("cluster "));
    let line = line.unwrap();
    let (port, folder) = line
        .rsplit_once("cluster ")
        .unwrap()
        .1
        .split_once(' ')
        .unwrap();
    let address = format!("127.0.0.1:{port}");
    assert!(TcpStream::connect(&address).is_ok() && Path::new(folder).exists());
    other.kill().unwrap();
    other.wait().unwrap();
    wait_until("the server is gone", || {
        TcpStream::connect(&address).is_err() && !Path::new(folder).exists()
    });
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn shards_have_parts_that_come_in_order() {
    let records = "INSERT INTO flows SELECT i, i / 3, 0, 'C' || i, 'N1', 'c' || i, '80', 6, 1, 100
        FROM generate_series(1, 1000) AS i; ANALYZE flows";
    let by_time = Sharded::by_time(&[100]);
    let by_hash = Sharded::by_hash(2);
    for (sharded, merges) in [(&by_time, "Append"), (&by_hash, "Merge Append")] {
        sharded.sql(records);
        let count = "SELECT count(*) FROM flows";
        let counts = [0, 1].map(|shard| sharded.shard_sql(shard, count).parse().unwrap());
        assert!(
            counts.iter().all(|count| (1..1000).contains(count)),
            "{counts:?}"
        );
        assert_eq!(counts.iter().sum::<i32>(), 1000);
        assert!(sharded.url().ends_with("/flows"));
        let explained = |sql: &str| sharded.sql(&format!("EXPLAIN (VERBOSE, COSTS OFF) {sql}"));
        for query in ["", "WHERE time >= 5 AND (time > 5 OR id > 16)"] {
            let plan = explained(&format!("SELECT * FROM flows {query} ORDER BY time, id"));
            assert_eq!(plan.lines().next().unwrap().trim(), merges, "{plan}");
            assert!(
                !plan.contains("Sort\n") && !plan.contains("Filter:"),
                "{plan}"
            );
        }
        // A shard compares texts for itself.
        let filtered = "SELECT * FROM flows WHERE src_comp COLLATE \"C\" > 'a' ORDER BY time, id";
        assert_has(&explained(filtered), &["src_comp > 'a'"]);
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_bouncer_leads_to_every_database() {
    for mode in [Mode::Session, Mode::Transaction] {
        let name = shared().create();
        let bouncer = Bouncer::start(shared(), mode);
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-A", "-t", "-c", "SELECT current_database()"]);
        let said = psql.arg(bouncer.url(&name)).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap().trim(), name);
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_copy_has_all_records_and_is_gone_with_the_thread_that_made_it() {
    let folder = folder();
    let made = generated(folder.path(), 100_000);
    let copied = || {
        let name = shared_copy(&made);
        assert_eq!(shared().sql(&name, "SELECT count(*) FROM flows"), "100000");
        name
    };
    let name = std::thread::scope(|scope| scope.spawn(copied).join().unwrap());
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    wait_until("the copy is dropped", || {
        shared().sql("postgres", &count) == "0"
    });
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
#[should_panic(expected = "PostgreSQL cannot hold NUL in a text: t.v")]
fn what_a_copy_cannot_hold_is_told() {
    let folder = folder();
    let sql = "CREATE TABLE t (v TEXT); INSERT INTO t VALUES ('a'), ('a' || char(0))";
    shared_copy(&database(folder.path(), sql));
}

/// A table, and the stream of it.
const TABLE: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, v TEXT); CREATE INDEX i ON t (time, id);
    INSERT INTO t VALUES (1, 5, 'a'), (2, 3, 'B');";

const T: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [{ name = "id", type = "integer" }, { name = "v", type = "text" }]
"#;

both!(what_a_file_holds_is_served_and_so_is_what_is_written_later);
fn what_a_file_holds_is_served_and_so_is_what_is_written_later(store: Store) {
    let folder = folder();
    let made = database(folder.path(), TABLE);
    let server = store.serve(folder.path(), &made, T);
    let path = "/api/v1/stream/t.csv";
    assert_eq!(server.document(path), "id,v\n2,B\n1,a\n");
    drop(server);
    let place = store.database(&made);
    store.execute(
        &place,
        "INSERT INTO t VALUES (3, 4, 'ä'); DELETE FROM t WHERE id = 1;",
    );
    let server = Server::with(folder.path(), &place, T);
    assert_eq!(server.document(path), "id,v\n2,B\n3,ä\n");
}

#[test]
fn the_documents_print_the_scripts_of_the_tests() {
    let printed = include_str!("../../../docs/shards.md");
    for script in [
        include_str!("../../sql/shard.sql"),
        include_str!("../../sql/sharded_by_time.sql"),
        include_str!("../../sql/sharded_by_hash.sql"),
    ] {
        assert_has(printed, &[script.trim_end()]);
    }
}
