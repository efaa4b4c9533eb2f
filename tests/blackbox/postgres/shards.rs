//! A table that is spread over several servers.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::Sharded;
use crate::harness::{FLOWS, Ran, Server, flows, folder, generated, is_long, wait_until};

/// Half of the times of `flows generate`.
const MIDDLE: i64 = 2_505_600;

fn rows() -> u64 {
    if is_long() { 1_000_000 } else { 100_000 }
}

/// Loads generated records through the coordinator, as an operator does.
fn load(folder: &std::path::Path, sharded: &Sharded) {
    let rows = rows().to_string();
    let mut generate = flows(folder, &["generate", "--rows", &rows]);
    let mut generate = generate.stdout(Stdio::piped()).spawn().unwrap();
    let url = sharded.url();
    let mut import = flows(folder, &["import", "-", "--database", &url]);
    let import = import
        .stdin(generate.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(generate.wait().unwrap().success());
    let said = Ran::from(import).fine();
    assert!(
        said.contains(&format!("kept {rows} lines in {url}")),
        "{said}"
    );
    sharded.sql("ANALYZE flows");
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn shards_are_streamed_as_a_file_is_byte_for_byte() {
    let (of_file, of_shards) = (folder(), folder());
    let file = Server::of(of_file.path(), &generated(of_file.path(), rows()));
    for sharded in [Sharded::by_time(&[MIDDLE]), Sharded::by_hash(2)] {
        load(of_shards.path(), &sharded);
        for shard in 0..2 {
            assert_ne!(
                sharded
                    .shard_sql(shard, "SELECT count(*) FROM flows")
                    .trim(),
                "0"
            );
        }
        let plan =
            sharded.sql("SET enable_sort = off; EXPLAIN SELECT * FROM flows ORDER BY time, id");
        assert!(
            plan.contains("Append") && !plan.contains("Sort  "),
            "{plan}"
        );
        let server = Server::with(of_shards.path(), &sharded.url(), "");
        let url = format!("{FLOWS}.json");
        let begun = Instant::now();
        server.ask(&url).read_exact(&mut [0; 1]).unwrap();
        let line = format!(
            "first byte of {} records over two shards after {:?}\n",
            rows(),
            begun.elapsed()
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        for query in [
            "format=json",
            "format=ndjson",
            "format=csv",
            "format=tsv",
            "format=xml",
            "format=json&order=id",
            "format=csv&scanned_after=2505000&scanned_before=2506200",
            "format=csv&limit=1000&after=2505000:1",
            "format=csv&src_comp=like.C1*&limit=500",
            "format=csv&protocol=17&columns=id,time&count=exact",
        ] {
            let path = format!("{FLOWS}?{query}");
            let (expected, found) = (file.get(&path), server.get(&path));
            assert!(
                found.complete && found.status == 200,
                "{query}: {} {}",
                found.status,
                found.body
            );
            assert!(found.bytes == expected.bytes, "{query}");
            for header in ["flows-position", "link", "flows-count"] {
                assert_eq!(
                    found.headers.get(header),
                    expected.headers.get(header),
                    "{query}"
                );
            }
        }
    }
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_shard_that_is_lost_breaks_streams_and_is_named() {
    let folder = folder();
    let mut sharded = Sharded::by_time(&[MIDDLE]);
    load(folder.path(), &sharded);
    let server = Server::with(
        folder.path(),
        &sharded.url(),
        "[database]\nsilence_seconds = 2\n",
    );
    let all = server.document(&format!("{FLOWS}.csv"));
    // Hanging: noticed in time.
    let late = format!("{FLOWS}.csv?scanned_after={MIDDLE}&limit=1");
    sharded.shards[1].pause();
    let begun = Instant::now();
    let reply = server.get(&late);
    assert_eq!(reply.status, 504, "{}", reply.body);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    sharded.shards[1].resume();
    wait_until("it is served again", || server.get(&late).status == 200);
    // Gone in mid-stream.
    let mut streaming = server.ask(&format!("{FLOWS}.json"));
    streaming.read_exact(&mut [0; 1000]).unwrap();
    sharded.shards[1].kill();
    let mut rest = Vec::new();
    let read = streaming.read_to_end(&mut rest);
    assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"));
    // Down at the start, and named; back without a restart.
    server.get(&late).problem(503, &["shard_1"]);
    sharded.shards[1].restart();
    wait_until("it is served again", || server.get(&late).status == 200);
    assert!(server.document(&format!("{FLOWS}.csv")) == all);
}
