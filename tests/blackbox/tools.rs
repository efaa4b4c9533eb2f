//! What the README shows, with the tools it shows it with: sqlite3, awk, gzip, curl, script.
//! `tests/run` installs them.

use std::fs;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Ran, Server, assert_has, folder, generated, run, ten_lines, ten_records,
};

/// Runs a shell's command line, with `flows` on the path.
fn shell(folder: &Path, line: &str) -> Ran {
    let flows = Path::new(env!("CARGO_BIN_EXE_flows")).parent().unwrap();
    let path = format!("{}:{}", flows.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command
        .args(["-o", "pipefail", "-c", line])
        .current_dir(folder)
        .env("PATH", path);
    Ran::from(command.output().unwrap())
}

/// The blog's database: untyped `byte_count`, no index, everything through awk and `.import`.
fn as_the_blog_makes_it(folder: &Path, time: &str) -> std::path::PathBuf {
    ten_lines(folder);
    let table = format!(
        "CREATE TABLE flows (id INTEGER PRIMARY KEY, {time}, duration INTEGER, src_comp TEXT, \
         src_port TEXT, dst_comp TEXT, dst_port TEXT, protocol INTEGER, packet_count INTEGER, \
         byte_count) WITHOUT ROWID;"
    );
    let line = format!(
        "gzip -kf lanl-flows-head.txt && sqlite3 blog.db '{table}' && \
         gunzip -c lanl-flows-head.txt.gz | awk -F, 'NF == 9' | awk '{{ print NR \",\" $0 }}' | \
         sqlite3 -csv blog.db '.import /dev/stdin flows'"
    );
    shell(folder, &line).fine();
    folder.join("blog.db")
}

#[test]
#[ignore = "needs sqlite3, awk and gzip: tests/run installs them"]
fn the_blogs_own_database_is_served_right() {
    for time in ["time INTEGER", "time"] {
        let folder = folder();
        let blog = as_the_blog_makes_it(folder.path(), time);
        let kinds: String = Connection::open(&blog)
            .unwrap()
            .query_row(
                "SELECT typeof(time) || ' ' || typeof(byte_count) FROM flows",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(
            kinds,
            if time == "time" {
                "text text"
            } else {
                "integer text"
            }
        );
        let server = Server::of(folder.path(), &blog);
        for (format, golden) in [
            ("json", include_str!("../golden/flows.json")),
            ("xml", include_str!("../golden/flows.xml")),
            ("csv", include_str!("../golden/flows.csv")),
        ] {
            let query = "scanned_after=0&scanned_before=1&limit=10";
            assert_eq!(
                server.document(&format!("{FLOWS}.{format}?{query}")),
                golden
            );
        }
        assert_eq!(server.document(&format!("{FLOWS}?scanned_after=1")), "[]\n");
        server.logged(&[
            "WARN",
            "no index of flows gives (time, id) order",
            "CREATE INDEX",
        ]);
        server.logged(&[
            "WARN",
            "byte_count is declared integer, but in the table it has no type",
        ]);
    }
}

#[test]
#[ignore = "needs curl: tests/run installs it"]
fn curl_exits_with_18_whenever_a_body_breaks() {
    let folder = folder();
    let good = generated(folder.path(), 5_000);
    let csv = run(folder.path(), &["generate", "--rows", "5000"]).fine();
    // The first chunk is full near the record that this finds; the wrong one comes next to it.
    let per_record = include_str!("../golden/flows.json").len() / 10;
    let middle = flows::stream::CHUNK_BYTES / per_record;
    assert!(csv.lines().count() > middle + 200);
    for id in (middle - 150..middle + 150).step_by(5) {
        let broken = folder.path().join("broken.db");
        fs::copy(&good, &broken).unwrap();
        let connection = Connection::open(&broken).unwrap();
        connection
            .execute(
                "UPDATE flows SET byte_count = 'x' WHERE id = ?1",
                [id as i64],
            )
            .unwrap();
        drop(connection);
        let server = Server::of(folder.path(), &broken);
        let line = format!(
            "for i in 1 2 3; do curl -s -o body -w '%{{http_code}} ' http://{}{FLOWS}; echo $?; done",
            server.address
        );
        for outcome in shell(folder.path(), &line).fine().lines() {
            // Either it failed in time for a status, or it is visibly broken.
            assert!(
                matches!(outcome, "500 0" | "200 18"),
                "record {id}: {outcome}"
            );
        }
    }
    // Both happened: the wrong record was before and behind the end of the first chunk.
    let server = Server::of(folder.path(), &folder.path().join("broken.db"));
    let last = shell(
        folder.path(),
        &format!("curl -s -o body http://{}{FLOWS}", server.address),
    );
    assert_eq!(last.code, Some(18));
}

#[test]
#[ignore = "needs gzip: tests/run installs it"]
fn generated_flows_can_be_piped_and_compressed() {
    let folder = folder();
    shell(
        folder.path(),
        "flows generate --rows 2000 | flows import - --database demo.db",
    )
    .fine();
    shell(
        folder.path(),
        "flows generate --rows 2000 | gzip > flows.txt.gz",
    )
    .fine();
    shell(folder.path(), "flows import flows.txt.gz --database gz.db").fine();
    let dump = "sqlite3 demo.db 'SELECT * FROM flows' > a; sqlite3 gz.db 'SELECT * FROM flows' > b; cmp a b && wc -l < a";
    assert_eq!(shell(folder.path(), dump).fine().trim(), "2000");
    let head = "flows generate --rows 10000000 | head -n 1 | wc -l";
    assert_eq!(shell(folder.path(), head).fine().trim(), "1");
}

#[test]
#[ignore = "needs script: tests/run installs it"]
fn a_progress_bar_is_for_terminals_only() {
    let folder = folder();
    ten_records(folder.path());
    // `script` gives a command a terminal. Without one, `fine` sees that nothing is shown.
    let line = "script -qec 'flows import lanl-flows-head.txt --database new.db' /dev/null";
    let shown = shell(folder.path(), line).fine();
    assert_has(&shown, &["340 B of 340 B", "kept 10 lines"]);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
#[ignore = "needs gzip, sqlite3 and curl: tests/run installs them"]
fn every_command_of_the_readmes_recipes_works_as_printed() {
    let folder = folder();
    // The commands in order, but for the three that build the project, which are its first.
    let commands: Vec<_> = include_str!("../../README.md")
        .split("```sh\n")
        .skip(4)
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let ports = [":5000", ":5001"].map(|port| (port, format!(":{}", free_port())));
    let mut script = format!(
        "set -e; export FLOWS__SERVER__LISTEN=127.0.0.1{}\n",
        ports[0].1
    );
    for mut command in commands.into_iter().map(str::to_owned) {
        let of = usize::from(command.contains(ports[1].0));
        for (printed, free) in &ports {
            command = command.replace(printed, free);
        }
        script += &command;
        if command.ends_with('&') {
            // Someone who types is slower than this script.
            script += " until curl -so /dev/null http://127.0.0.1";
            script += &format!("{}; do sleep 0.05; done", ports[of].1);
        }
        script += "\n";
    }
    let ran = shell(
        folder.path(),
        &format!("({script}kill -TERM $(jobs -p); wait) 2>log"),
    );
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(ran.code, Some(0), "{script}\n{}\n{log}", ran.stdout);
    assert_has(
        &ran.stdout,
        &[
            "kept 100000 lines in flows.db (ids 1 to 100000), rejected none",
            "stream flows: table flows, ordered by (time, id)",
            "listening on http://127.0.0.1:",
            "<record><id>",
            "id,time,duration,src_comp",
            "HTTP/1.1 200 OK",
            "text/csv",
            "complete",
            "id,at,user\n1,60,U12\n2,61,\n",
        ],
    );
}
