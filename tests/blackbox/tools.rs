//! What the README shows, with the tools it shows it with: sqlite3, awk, gzip, curl, script.
//! `tests/run` installs them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Ran, Server, assert_has, database, folder, generated, run, ten_lines, ten_records,
};
use crate::proxy::{KINDS, Proxy};

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
fn curl_fails_whenever_a_body_breaks() {
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
                matches!(outcome, "500 0" | "200 56"),
                "record {id}: {outcome}"
            );
        }
    }
    // Both happened: the wrong record was before and after the end of the first chunk.
    let server = Server::of(folder.path(), &folder.path().join("broken.db"));
    let last = shell(
        folder.path(),
        &format!("curl -s -o body http://{}{FLOWS}", server.address),
    );
    assert_eq!(last.code, Some(56));
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
    let line = "script -qec 'flows check --database new.db --all-rows' /dev/null";
    let shown = shell(folder.path(), line).fine();
    assert_has(
        &shown,
        &[
            "10 of 10 records of flows",
            "all 10 records are as declared",
        ],
    );
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
#[ignore = "needs gzip, sqlite3, openssl and curl: tests/run installs them"]
fn every_command_of_the_readmes_recipes_works_as_printed() {
    let folder = folder();
    // The commands in order, but for the three that build the project, which are its first, and for those
    // that serve a database of one's own.
    let commands: Vec<_> = include_str!("../../README.md")
        .split("```sh\n")
        .skip(5)
        .flat_map(|block| block.split("```").next().unwrap().lines())
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    let ports =
        [":5000", ":5001", ":5002", ":5003"].map(|port| (port, format!(":{}", free_port())));
    let mut script = format!(
        "set -e; export FLOWS__SERVER__LISTEN=127.0.0.1{}\n",
        ports[0].1
    );
    for mut command in commands.into_iter().map(str::to_owned) {
        let of = ports
            .iter()
            .position(|(printed, _)| command.contains(printed));
        for (printed, free) in &ports {
            command = command.replace(printed, free);
        }
        script += &command;
        if command.ends_with('&') {
            // Someone who types is slower than this script.
            script += " until curl -so /dev/null http://127.0.0.1";
            script += &format!("{}; do sleep 0.05; done", ports[of.unwrap_or(0)].1);
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
            "listening on https://127.0.0.1:",
            "<record><id>",
            "id,time,duration,src_comp",
            "HTTP/1.1 200 OK",
            "text/csv",
            "complete",
            "id,at,user\n1,60,U12\n2,61,\n",
        ],
    );
}

#[test]
#[ignore = "needs curl: tests/run installs it"]
fn three_lines_serve_a_database_of_ones_own() {
    let folder = folder();
    let path = database(
        folder.path(),
        "CREATE TABLE log (id INTEGER PRIMARY KEY, at DATETIME NOT NULL, text TEXT);
         INSERT INTO log VALUES (1, '2026-01-01 00:00:10.25', 'started');",
    );
    fs::rename(path, folder.path().join("app.db")).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let lines =
        printed("## Your own database\n\n```sh\n", "```").replace("127.0.0.1:5000", &address);
    assert_eq!(lines.lines().count(), 3);
    // Someone who types is slower than this script.
    let wait = format!("until curl -so /dev/null http://{address}; do sleep 0.05; done\ncurl ");
    let lines = lines.replace("curl ", &wait);
    let script = format!(
        "set -e; export FLOWS__SERVER__LISTEN={address}\n{lines}curl 'http://{address}/api/v1/stream/log.csv'\n\
         kill -TERM $(jobs -p); wait"
    );
    let ran = shell(folder.path(), &format!("({script}) 2>log"));
    assert_eq!(ran.code, Some(0), "{script}\n{}", ran.stdout);
    assert_has(
        &ran.stdout,
        &[
            "\"log\"",
            "id,at,text\n1,2026-01-01T00:00:10.250000Z,started\n",
        ],
    );
}

/// What the README prints between two strings.
fn printed(before: &str, after: &str) -> &'static str {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once(before).unwrap();
    rest.split_once(after).unwrap().0
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
#[ignore = "needs curl: tests/run installs it"]
fn pull_sh_loses_nothing_behind_a_proxy_that_breaks_replies() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 120_000));
    let cuts = [0, 10, 333, 750, 999];
    let breaks = KINDS * cuts.len();
    let pages = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&pages);
    let proxy = Proxy::new(server.address, move |passing| {
        if passing.head.contains("flows-count: 0") {
            return;
        }
        // Every other page is let through.
        let page = seen.fetch_add(1, Ordering::Relaxed);
        let number = page / 2;
        if page.is_multiple_of(2) && number < breaks {
            passing.spoil(number % KINDS, cuts[number / KINDS]);
        }
    });
    let script = printed("cat > pull.sh <<'END'\n", "END\n")
        .replace("127.0.0.1:5000", &proxy.address.to_string());
    assert!(script.contains(&proxy.address.to_string()));
    fs::write(folder.path().join("pull.sh"), script).unwrap();
    let run = || shell(folder.path(), "sh pull.sh");
    let mut failures = 0;
    while pages.load(Ordering::Relaxed) < 2 * breaks {
        if run().code != Some(0) {
            failures += 1;
            continue;
        }
        // There is a page to break as long as there are breaks.
        let path = folder.path().join("generated.db");
        let more = "INSERT INTO flows SELECT id + (SELECT max(id) FROM flows), time, duration,
            src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count
            FROM flows WHERE id <= 5000";
        Connection::open(path).unwrap().execute(more, []).unwrap();
    }
    run().fine();
    assert_eq!(failures, breaks);
    let complete = server.document(&format!("{FLOWS}.ndjson?order=id"));
    let is_page = |name: &str| name.starts_with("flows-") && name.ends_with(".ndjson");
    let files = fs::read_dir(folder.path()).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files = files
        .filter(|path| is_page(path.file_name().unwrap().to_str().unwrap()))
        .collect::<Vec<_>>();
    files.sort();
    let pages = files.iter().map(|path| fs::read_to_string(path).unwrap());
    assert!(pages.collect::<String>() == complete);
}

/// BigQuery's command, as far as the README uses it: the table is a file, and so is each job. What
/// befalls a load is the next line of `plan`.
const BQ: &str = r#"#!/bin/sh
cd "$(dirname "$0")/../bq" || exit 9
case $1 in
--job_id=*)
    [ "$2 $3 $4 $#" = "load --source_format=NEWLINE_DELIMITED_JSON lanl.flows 6" ] || exit 9
    job=jobs/${1#--job_id=} file=$OLDPWD/$5 schema=$6
    case $1 in *[!A-Za-z0-9_=-]*) exit 9;; esac
    [ -e "$job" ] && { echo "Already Exists: Job p:US.$job" >&2; exit 1; }
    grep -q '"INTEGER"' "$schema" && [ -e "$file" ] || exit 9
    fate=$(head -n 1 plan)
    sed -i 1d plan
    case $fate in
    unreachable) exit 1;;
    failed) echo failed > "$job"; exit 1;;
    esac
    cat "$file" >> table
    echo done > "$job"
    case $fate in
    lost) exit 1;;
    killed) kill -9 $PPID; exit 1;;
    esac;;
wait)
    [ "$(cat "jobs/$2")" = done ];;
--format=json)
    [ "$2 $3 $#" = "show -j 4" ] || exit 9
    case $(cat "jobs/$4") in
    done) echo '{"status":{"state":"DONE"}}';;
    failed) echo '{"status":{"errorResult":{"reason":"invalid"},"state":"DONE"}}';;
    *) exit 1;;
    esac;;
*) exit 9;;
esac
"#;

/// Runs the README's crontab as cron does: with its own bare environment, at home.
fn cron(home: &Path, address: &str) -> Ran {
    let at = |text: &str| {
        let data = format!("{}/data", home.display());
        let bin = format!("{}/bin", home.display());
        let text = text.replace("/data", &data).replace("/usr/local/bin", &bin);
        text.replace("HOST:5000", address)
    };
    let script = at(printed("```text\n#!/bin/sh\n", "```"));
    let script = format!("#!/bin/sh\n{script}");
    executable(&home.join("bin/load-flows"), &script);
    let mut command = Command::new("/bin/sh");
    command
        .env_clear()
        .env("HOME", home)
        .env("SHELL", "/bin/sh");
    command.env("PATH", "/usr/bin:/bin").current_dir(home);
    let crontab = at(printed("```crontab\n", "```"));
    let mut lines = crontab.lines().collect::<Vec<_>>();
    let job = lines.pop().unwrap();
    for line in lines {
        let (name, value) = line.split_once('=').unwrap();
        command.env(name, value);
    }
    let job = job.strip_prefix("0 */3 * * * ").unwrap();
    Ran::from(command.args(["-c", job]).output().unwrap())
}

#[test]
fn the_crontab_loads_each_record_once_whatever_happens_to_bq() {
    let home = folder();
    let at = |name: &str| home.path().join(name);
    for name in ["bin", "data", "bq/jobs"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_flows"), at("bin/flows")).unwrap();
    executable(&at("bin/bq"), BQ);
    let table =
        "PRAGMA journal_mode = WAL; CREATE TABLE flows (id INTEGER PRIMARY KEY, time INTEGER,
        duration INTEGER, src_comp TEXT, src_port TEXT, dst_comp TEXT, dst_port TEXT,
        protocol INTEGER, packet_count INTEGER, byte_count INTEGER);";
    let path = database(home.path(), table);
    let server = Server::of(home.path(), &path);
    let address = server.address.to_string();
    let schema = server.document("/api/v1/schema/flows?dialect=bigquery");
    fs::write(at("data/flows.schema.json"), schema).unwrap();
    let plan = [
        "",
        "unreachable",
        "lost",
        "killed",
        "failed",
        "failed",
        "",
        "killed",
        "unreachable",
    ];
    fs::write(at("bq/plan"), plan.join("\n") + "\n").unwrap();
    let connection = Connection::open(&path).unwrap();
    let mut codes = Vec::new();
    for run in 0..20 {
        let insert = format!(
            "WITH RECURSIVE n (n) AS (SELECT {run} * 100 + 1 UNION ALL SELECT n + 1 FROM n LIMIT 100)
             INSERT INTO flows SELECT n, n, 1, 'C1', '80', 'C2', '80', 6, 1, 1 FROM n"
        );
        connection.execute(&insert, []).unwrap();
        codes.push(cron(home.path(), &address).code);
    }
    let failures = codes.iter().filter(|code| **code != Some(0)).count();
    // A load whose answer alone was lost is none.
    assert_eq!(
        failures,
        plan.iter()
            .filter(|fate| !["", "lost"].contains(fate))
            .count()
    );
    assert_eq!(codes.last(), Some(&Some(0)));
    let mut loaded: Vec<_> = fs::read_to_string(at("bq/table"))
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let document = server.document(&format!("{FLOWS}.ndjson?order=id"));
    assert_eq!(document.lines().count(), 2000);
    let mut complete: Vec<_> = document.lines().map(str::to_owned).collect();
    loaded.sort();
    complete.sort();
    assert!(loaded == complete, "{} of {}", loaded.len(), complete.len());
    assert_eq!(fs::read_dir(at("data/flows/loaded")).unwrap().count(), 20);
}
