//! A server that is down, hangs, is killed or restarted; clients that leave; tables that change.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use super::{Bouncer, Cluster, Mode};
use crate::harness::{FLOWS, Server, assert_has, flows, folder, generated, wait_until};

/// A server that has so many flows, and the name of the database.
fn with_flows(rows: u64) -> (Cluster, String) {
    let folder = folder();
    let file = generated(folder.path(), rows);
    let cluster = Cluster::start();
    let name = cluster.create();
    cluster.copy(&file, &name);
    (cluster, name)
}

const IMPATIENT: &str = "[database]\nsilence_seconds = 2\nconnect_seconds = 2\n";

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_server_that_is_down_is_a_503_until_it_is_back() {
    let folder = folder();
    let (mut cluster, name) = with_flows(10);
    let url = cluster.url(&name).replace("flows@", "flows:a%20secret@");
    let server = Server::with(folder.path(), &url, IMPATIENT);
    // Several connections are idle when it goes.
    let all = server.document(&format!("{FLOWS}.csv"));
    assert_eq!(server.get("/readyz").status, 200);
    cluster.stop();
    let reply = server.get(FLOWS);
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert_has(
        &reply.body,
        &["cannot be reached", "postgres://flows@127.0.0.1"],
    );
    wait_until("it is not ready", || server.get("/readyz").status == 503);
    // Nor does it start without.
    let serve = ["serve", "--database", &url, "--listen", "127.0.0.1:0"];
    let started = flows(folder.path(), &serve).output().unwrap();
    let said = String::from_utf8_lossy(&started.stderr);
    assert_eq!(started.status.code(), Some(2), "{said}");
    assert_has(
        &said,
        &["cannot be reached", "--database or database.url names it"],
    );
    cluster.restart();
    assert_eq!(server.document(&format!("{FLOWS}.csv")), all);
    wait_until("it is ready", || server.get("/readyz").status == 200);
    // Restarted while connections are idle: nobody notices.
    cluster.restart();
    assert_eq!(server.document(&format!("{FLOWS}.csv")), all);
    let log = server.log();
    for text in [&log, &reply.body, &said.into_owned()] {
        assert!(
            !text.contains("secret") && !text.contains("panicked"),
            "{text}"
        );
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_server_that_hangs_is_noticed_in_time() {
    let folder = folder();
    let (mut cluster, name) = with_flows(300_000);
    let server = Server::with(folder.path(), &cluster.url(&name), IMPATIENT);
    server.document(&format!("{FLOWS}.csv?limit=1"));
    let mut streaming = server.ask(&format!("{FLOWS}.json"));
    streaming.read_exact(&mut [0; 1000]).unwrap();
    cluster.pause();
    // Before the head: of a connection that is there, or a new one.
    let begun = Instant::now();
    let reply = server.get(&format!("{FLOWS}.csv?limit=1"));
    assert!(
        [503, 504].contains(&reply.status),
        "{} {}",
        reply.status,
        reply.body
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    // After it.
    let mut rest = Vec::new();
    let read = streaming.read_to_end(&mut rest);
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"));
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    cluster.resume();
    wait_until("it is served again", || {
        server.get(&format!("{FLOWS}.csv?limit=1")).status == 200
    });
    server.logged(&["ended=\"broken", "said nothing"]);
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_server_that_is_killed_in_mid_stream_breaks_the_stream() {
    let folder = folder();
    let (mut cluster, name) = with_flows(300_000);
    let server = Server::with(folder.path(), &cluster.url(&name), "");
    let mut streaming = server.ask(&format!("{FLOWS}.json"));
    streaming.read_exact(&mut [0; 1000]).unwrap();
    cluster.kill();
    let mut rest = Vec::new();
    let read = streaming.read_to_end(&mut rest);
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"));
    server.logged(&["ended=\"broken"]);
    cluster.restart();
    wait_until("it is served again", || {
        server.get(&format!("{FLOWS}.csv?limit=1")).status == 200
    });
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_client_that_leaves_cancels_its_query_at_the_server() {
    let folder = folder();
    let (cluster, name) = with_flows(300_000);
    let bouncers = [Mode::Session, Mode::Transaction].map(|mode| Bouncer::start(&cluster, mode));
    let urls = [
        cluster.url(&name),
        bouncers[0].url(&name),
        bouncers[1].url(&name),
    ];
    for url in urls {
        let server = Server::with(folder.path(), &url, "");
        let all = server.bytes(&format!("{FLOWS}.ndjson"));
        assert_eq!(all.iter().filter(|byte| **byte == b'\n').count(), 300_000);
        for _ in 0..3 {
            let mut streaming = server.ask(&format!("{FLOWS}.json"));
            streaming.read_exact(&mut [0; 1000]).unwrap();
            let active = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE '%COPY%' \
                          AND pid <> pg_backend_pid()";
            assert_ne!(cluster.sql(&name, active).trim(), "0");
            drop(streaming);
            wait_until("no query runs", || cluster.sql(&name, active).trim() == "0");
        }
        assert_eq!(server.bytes(&format!("{FLOWS}.ndjson")), all);
        assert!(!server.log().contains("panicked"));
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_table_that_changes_gets_right_answers_or_clear_errors() {
    let folder = folder();
    let (cluster, name) = with_flows(10);
    let server = Server::with(folder.path(), &cluster.url(&name), "");
    let bytes = format!("{FLOWS}.csv?columns=byte_count&csv.header=false");
    let all = server.document(&bytes);
    for (sql, status) in [
        ("ALTER TABLE flows ALTER byte_count TYPE integer", 200),
        ("ALTER TABLE flows ALTER byte_count TYPE text", 200),
        ("ALTER TABLE flows RENAME byte_count TO bytes", 500),
        ("ALTER TABLE flows RENAME bytes TO byte_count", 200),
        (
            "ALTER TABLE flows ADD more text, ALTER byte_count TYPE numeric USING byte_count::numeric",
            200,
        ),
        ("ALTER TABLE flows RENAME TO others", 500),
        ("CREATE VIEW flows AS SELECT * FROM others", 200),
    ] {
        cluster.sql(&name, sql);
        let reply = server.get(&bytes);
        assert_eq!(reply.status, status, "{sql}: {}", reply.body);
        if status == 200 {
            assert_eq!(reply.body, all, "{sql}");
        }
    }
    // Nobody waits for a lock for ever.
    let mut locking = std::process::Command::new("psql");
    locking.args([
        "-X",
        "-q",
        "-c",
        "BEGIN; LOCK TABLE others; SELECT pg_sleep(30)",
    ]);
    let mut locking = locking.arg(cluster.url(&name)).spawn().unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted";
    wait_until("it is locked", || cluster.sql(&name, locks).trim() == "1");
    server.get(&bytes).problem(503, &["locked by a writer"]);
    locking.kill().unwrap();
    locking.wait().unwrap();
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn passwords_come_from_where_psql_has_them_and_are_in_no_message() {
    let folder = folder();
    let cluster = Cluster::start();
    cluster.sql(
        "postgres",
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'a secret: \\'; \
         SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'a secret: \\'; \
         ALTER DATABASE postgres OWNER TO scram; CREATE TABLE t (id bigint PRIMARY KEY, time bigint); \
         GRANT SELECT ON t TO old, scram",
    );
    let settings = cluster.sql("postgres", "SHOW hba_file");
    let rules = "host all scram 127.0.0.1/32 scram-sha-256\nhost all old 127.0.0.1/32 md5\n";
    let known = fs::read_to_string(settings.trim()).unwrap();
    fs::write(settings.trim(), format!("{rules}{known}")).unwrap();
    cluster.sql("postgres", "SELECT pg_reload_conf()");
    std::thread::sleep(Duration::from_millis(300));
    fs::write(
        folder.path().join("t.toml"),
        "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\ncolumns = [{ name = \"id\", type = \"integer\" }]\n",
    )
    .unwrap();
    let pass = folder.path().join("pass");
    fs::write(
        &pass,
        "# passwords\n*:*:*:nobody:x\n127.0.0.1:*:postgres:*:a secret\\: \\\\\n",
    )
    .unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
    let port = cluster.port();
    for user in ["scram", "old"] {
        let checked = |url: &str, environment: &[(&str, &str)]| {
            let arguments = ["check", "--config", "t.toml", "--database", url];
            let mut check = flows(folder.path(), &arguments);
            let output = check.envs(environment.iter().copied()).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert!(!said.contains("a secret"), "{said}");
            (output.status.code(), said)
        };
        let plain = format!("postgres://{user}@127.0.0.1:{port}/postgres");
        let in_url = format!("postgres://{user}:a%20secret%3A%20%5C@127.0.0.1:{port}/postgres");
        let file = pass.to_str().unwrap();
        for (url, environment) in [
            (in_url.as_str(), &[][..]),
            (&plain, &[("PGPASSWORD", "a secret: \\")]),
            (&plain, &[("PGPASSFILE", file)]),
            (&format!("{plain}?passfile={file}"), &[]),
        ] {
            let (code, said) = checked(url, environment);
            assert_eq!(code, Some(0), "{url}: {said}");
        }
        let (code, said) = checked(&plain, &[("PGPASSWORD", "a secret of others")]);
        assert_eq!(code, Some(2));
        assert_has(&said, &["password authentication failed", "28P01"]);
        let (code, said) = checked(&plain, &[]);
        assert_eq!(code, Some(2));
        assert_has(&said, &["wants a password", "PGPASSWORD"]);
    }
    // A server that has no TLS is not spoken to without.
    let arguments = ["check", "--config", "t.toml", "--database"];
    let url = format!("postgres://scram@127.0.0.1:{port}/postgres?sslmode=verify-full");
    let checked = flows(folder.path(), &[&arguments[..], &[&url]].concat())
        .output()
        .unwrap();
    assert_has(&String::from_utf8_lossy(&checked.stdout), &["has no TLS"]);
}
