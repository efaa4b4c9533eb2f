//! In the order of ids nothing is missed, whoever writes and however long it takes to commit.

use std::collections::HashSet;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::{Cluster, shared};
use crate::harness::{Server, assert_has, flows, folder, is_long, wait_until};

const STREAM: &str = "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\n\
                      columns = [{ name = \"id\", type = \"integer\" }]\n";

const TABLE: &str = "CREATE TABLE t (id bigserial PRIMARY KEY, time bigint NOT NULL DEFAULT 1); \
                     CREATE INDEX ON t (time, id);";

fn psql(cluster: &Cluster, name: &str) -> Child {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-q", "-A", "-t"]).arg(cluster.url(name));
    let psql = psql.stdin(Stdio::piped()).stdout(Stdio::null());
    psql.spawn().unwrap()
}

/// What a writer does, over and over: it draws ids, waits, and commits or does not.
fn written(random: &mut Rng, rows: u32) -> String {
    let sleep = random.u32(0..20);
    let insert = format!("INSERT INTO t SELECT FROM generate_series(1, {rows});");
    // The id is drawn long before the record is written.
    let drawn = "SELECT nextval('t_id_seq') AS id \\gset\n";
    match random.u8(0..6) {
        0 => format!("BEGIN; {insert} SELECT pg_sleep(0.{sleep:03}); ROLLBACK;\n"),
        1 => format!(
            "BEGIN; {drawn} SELECT pg_sleep(0.{sleep:03}); INSERT INTO t (id) VALUES (:id); COMMIT;\n"
        ),
        2 => format!(
            "BEGIN; SAVEPOINT a; {insert} ROLLBACK TO a; {insert} SELECT pg_sleep(0.{sleep:03}); COMMIT;\n"
        ),
        3 => format!("{insert}\n"),
        _ => format!("BEGIN; {insert} SELECT pg_sleep(0.{sleep:03}); COMMIT;\n"),
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn who_pulls_by_id_beside_writers_gets_every_record_once() {
    let folder = folder();
    let name = shared().create();
    shared().sql(&name, TABLE);
    let server = Server::with(folder.path(), &shared().url(&name), STREAM);
    let (rounds, rows) = if is_long() { (400, 400) } else { (60, 200) };
    let writers: Vec<_> = (0..8)
        .map(|seed| {
            let mut writer = psql(shared(), &name);
            let mut stdin = writer.stdin.take().unwrap();
            let written = std::thread::spawn(move || {
                let mut random = Rng::with_seed(seed);
                for _ in 0..rounds {
                    let rows = random.u32(1..rows);
                    stdin
                        .write_all(written(&mut random, rows).as_bytes())
                        .unwrap();
                }
            });
            (writer, written)
        })
        .collect();
    // Readers that are in no hurry do not matter.
    let mut reader = psql(shared(), &name);
    let asked =
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t; SELECT pg_sleep(60);\n";
    let mut held = reader.stdin.take().unwrap();
    held.write_all(asked.as_bytes()).unwrap();
    let (mut pulled, mut position, mut pulls) = (Vec::<i64>::new(), String::new(), 0);
    let mut pull = |pulled: &mut Vec<i64>| {
        let reply = server.get(&format!(
            "/api/v1/stream/t.csv?csv.header=false&order=id{position}"
        ));
        assert_eq!(reply.status, 200, "{}", reply.body);
        pulled.extend(reply.body.lines().map(|id| id.parse::<i64>().unwrap()));
        if let Some(end) = reply.headers.get("flows-position") {
            position = format!("&after={end}");
        }
        pulls += 1;
    };
    let mut beside = 0;
    for (mut writer, written) in writers {
        while writer.try_wait().unwrap().is_none() {
            pull(&mut pulled);
            beside = pulled.len();
        }
        written.join().unwrap();
    }
    pull(&mut pulled);
    let committed = shared().sql(&name, "SELECT id FROM t ORDER BY id");
    let committed: Vec<i64> = committed.lines().map(|id| id.parse().unwrap()).collect();
    println!(
        "{} records, {beside} of them beside writers",
        committed.len()
    );
    assert!(
        beside * 2 > committed.len(),
        "{beside} of {} came beside the writers",
        committed.len()
    );
    let missing: HashSet<_> = committed.iter().collect();
    let missing = missing.difference(&pulled.iter().collect()).count();
    assert!(
        pulled == committed,
        "{missing} of {} are missing",
        committed.len()
    );
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn who_writes_for_long_holds_the_order_of_ids_back_and_is_named() {
    let folder = folder();
    let name = shared().create();
    shared().sql(&name, TABLE);
    let place = shared().url(&name);
    let server = Server::with(folder.path(), &place, STREAM);
    let path = "/api/v1/stream/t.csv?csv.header=false&order=id";
    shared().sql(&name, "INSERT INTO t SELECT FROM generate_series(1, 3)");
    assert_eq!(server.document(path), "1\n2\n3\n");
    let mut writer = psql(shared(), &name);
    let mut stdin = writer.stdin.take().unwrap();
    stdin
        .write_all(b"SET application_name = 'a slow one'; BEGIN; INSERT INTO t DEFAULT VALUES;\n")
        .unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 't'::regclass";
    wait_until("it has written", || {
        shared().sql(&name, locks).trim() == "1"
    });
    shared().sql(&name, "INSERT INTO t DEFAULT VALUES");
    // The fifth is there, and the fourth may come.
    let begun = Instant::now();
    assert_eq!(server.document(path), "1\n2\n3\n");
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    // In the order of time nobody waits.
    assert_eq!(
        server.document("/api/v1/stream/t.csv?csv.header=false"),
        "1\n2\n3\n5\n"
    );
    let arguments = ["check", "--config", "test.toml", "--database", &place];
    let checked = flows(folder.path(), &arguments).output().unwrap();
    assert_has(
        &String::from_utf8_lossy(&checked.stdout),
        &[
            "order=id waits at this moment for process",
            "a slow one",
            "whose transaction began",
        ],
    );
    let metrics = server.document("/metrics");
    assert_has(
        &metrics,
        &["flows_order_by_id_held_back_seconds{stream=\"t\",process="],
    );
    stdin.write_all(b"COMMIT;\n\\q\n").unwrap();
    writer.wait().unwrap();
    assert_eq!(server.document(path), "1\n2\n3\n4\n5\n");
}
