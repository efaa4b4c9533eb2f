//! `flows import`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::Connection;

use crate::harness::{
    Ran, Server, assert_has, flows, folder, run, signal, ten_lines, ten_records, wait_until,
};

fn import(folder: &Path, arguments: &[&str]) -> Ran {
    run(
        folder,
        &[&["import"], arguments, &["--database", "new.db"]].concat(),
    )
}

fn query<T: rusqlite::types::FromSql>(database: &Path, sql: &str) -> T {
    Connection::open(database)
        .unwrap()
        .query_row(sql, [], |row| row.get(0))
        .unwrap()
}

#[test]
fn keeps_flows_numbers_them_and_puts_the_rest_aside() {
    let folder = folder();
    let long = "x".repeat(70_000);
    let lines = format!(
        "1,0,C1,389,C2,N1,6,10,5323\n\
         \n\
         2,0,C1,389,C2,N1,6,10\r\n\
         3,0,C1,389,C2,N1,6,10,5323,9\n\
         x,0,C1,389,C2,N1,6,10,5323\n\
         5,0,,389,C2,N1,6,10,5323\n\
         6,0,C1,389,C2,N1,6,10,9223372036854775808\n\
         7,0,C1,389,C2,N1,6,10,5323\r\n\
         8,0,{long},389,C2,N1,6,10,5323\n\
         9,0,C1,3\u{FFFD}9,C2,N1,6,10,-1"
    );
    let bytes = lines.replace('\u{FFFD}', "\u{1}").into_bytes();
    let bytes: Vec<_> = bytes
        .iter()
        .map(|byte| if *byte == 1 { 0xFF } else { *byte })
        .collect();
    fs::write(folder.path().join("flows.txt"), bytes).unwrap();
    let printed = import(folder.path(), &["flows.txt"]).fine();
    assert_has(
        &printed,
        &[
            "kept 2 lines in new.db (ids 1 to 2)",
            "rejected 8",
            "flows.txt.rejected",
        ],
    );
    let rejected = fs::read(folder.path().join("flows.txt.rejected")).unwrap();
    let rejected = String::from_utf8_lossy(&rejected);
    let rejected: Vec<_> = rejected.lines().collect();
    for (line, start) in rejected.iter().zip([
        "2\t1 fields instead of 9\t",
        "3\t8 fields instead of 9\t2,0,C1,389,C2,N1,6,10",
        "4\t10 fields instead of 9\t3,",
        "5\ttime is \"x\", not a 64-bit integer\tx,0",
        "6\tsrc_comp is empty\t5,0,,",
        "7\tbyte_count is \"9223372036854775808\", not a 64-bit integer\t6,",
        "9\tlonger than 65536 bytes\t8,0,xxx",
        "10\tnot UTF-8\t9,0",
    ]) {
        assert!(line.starts_with(start), "{line:.60} {start}");
    }
    assert_eq!(rejected.len(), 8);
    let times: String = query(
        &folder.path().join("new.db"),
        "SELECT group_concat(id || ':' || time) FROM flows",
    );
    assert_eq!(times, "1:1,2:7");
}

#[test]
fn reads_gzip_and_standard_input() {
    let folder = folder();
    let text = fs::read(ten_lines(folder.path())).unwrap();
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&text[..100]).unwrap();
    let mut bytes = gz.finish().unwrap();
    // A second member, as `cat a.gz b.gz` makes.
    let mut gz = GzEncoder::new(Vec::new(), Compression::default());
    gz.write_all(&text[100..]).unwrap();
    bytes.extend(gz.finish().unwrap());
    fs::write(folder.path().join("flows.txt.gz"), &bytes).unwrap();
    assert_has(
        &import(folder.path(), &["flows.txt.gz"]).fine(),
        &["kept 10 lines"],
    );

    for (database, input) in [
        ("text.db", &[&text[..], b"junk\n"].concat()),
        ("gz.db", &bytes),
    ] {
        let mut child = flows(folder.path(), &["import", "-", "--database", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let printed = Ran::from(child.wait_with_output().unwrap()).fine();
        assert_has(&printed, &["kept 10 lines"]);
        assert_eq!(printed.contains("stdin.rejected"), database == "text.db");
    }

    fs::write(folder.path().join("cut.gz"), &bytes[..bytes.len() - 9]).unwrap();
    let ran = run(folder.path(), &["import", "cut.gz", "--database", "cut.db"]);
    ran.failed(1, &["cut.gz", "nothing was imported"]);
    assert!(!folder.path().join("cut.db").exists());
}

#[test]
fn refuses_a_table_with_rows_unless_appending() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let again = ["import", "lanl-flows-head.txt", "--database", "ten.db"];
    run(folder.path(), &again).failed(1, &["ten.db", "has records already", "--append"]);
    let printed = run(folder.path(), &[&again[..], &["--append"]].concat()).fine();
    assert_has(&printed, &["kept 10 lines", "ids 11 to 20"]);
    let ids: String = query(
        &ten,
        "SELECT min(id) || ' ' || max(id) || ' ' || count(*) FROM flows",
    );
    assert_eq!(ids, "1 20 20");
    // An empty table and an empty file are filled without --append.
    Connection::open(&ten)
        .unwrap()
        .execute_batch("DELETE FROM flows")
        .unwrap();
    run(folder.path(), &again).fine();
    fs::write(folder.path().join("new.db"), "").unwrap();
    assert_has(
        &import(folder.path(), &["lanl-flows-head.txt"]).fine(),
        &["kept 10 lines"],
    );
}

#[test]
fn the_table_gives_windows_and_ids_without_a_sort_and_is_in_wal_mode() {
    let folder = folder();
    let ten = ten_records(folder.path());
    for sql in [
        "SELECT * FROM flows WHERE time > 0 AND time <= 1 ORDER BY time, id",
        "SELECT * FROM flows ORDER BY time, id",
        "SELECT * FROM flows ORDER BY id",
        "SELECT * FROM flows WHERE id > 5 ORDER BY id",
    ] {
        let connection = Connection::open(&ten).unwrap();
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps: Vec<String> = plan
            .query_map([], |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(
            !steps.iter().any(|step| step.contains("TEMP B-TREE")),
            "{sql}: {steps:?}"
        );
    }
    assert_eq!(query::<String>(&ten, "PRAGMA journal_mode"), "wal");
    assert_eq!(query::<String>(&ten, "PRAGMA integrity_check"), "ok");
    fs::write(folder.path().join("empty.db"), "").unwrap();
    run(
        folder.path(),
        &["import", "lanl-flows-head.txt", "--database", "empty.db"],
    )
    .fine();
    assert_eq!(
        query::<String>(&folder.path().join("empty.db"), "PRAGMA journal_mode"),
        "wal"
    );
}

#[test]
fn errors_name_the_source_the_stream_and_the_way_out() {
    let folder = folder();
    ten_lines(folder.path());
    import(folder.path(), &["none.txt"]).failed(1, &["none.txt", "No such file"]);
    let other = r#"
        [[streams]]
        name = "flows"
        table = "flows"
        time = "time"
        id = "id"
        columns = [{ name = "id", type = "integer" }]
    "#;
    fs::write(folder.path().join("other.toml"), other).unwrap();
    let ran = import(
        folder.path(),
        &["lanl-flows-head.txt", "--config", "other.toml"],
    );
    ran.failed(2, &["stream flows", "other columns", "src_comp"]);
    fs::write(
        folder.path().join("other.toml"),
        other.replace("name = \"flows\"", "name = \"x\""),
    )
    .unwrap();
    let ran = import(
        folder.path(),
        &["lanl-flows-head.txt", "--config", "other.toml"],
    );
    ran.failed(2, &["no stream called flows"]);
    fs::write(
        folder.path().join("new.db"),
        "not a database, but long enough to look like one",
    )
    .unwrap();
    import(folder.path(), &["lanl-flows-head.txt"]).failed(1, &["new.db", "not a database"]);
}

#[test]
fn a_source_without_a_flow_is_an_error_and_makes_no_database() {
    let folder = folder();
    fs::write(folder.path().join("junk.txt"), "BZh91AY&SY\n\0\n").unwrap();
    import(folder.path(), &["junk.txt"])
        .failed(1, &["none of the 2 lines of junk.txt", "junk.txt.rejected"]);
    assert!(!folder.path().join("new.db").exists());
    // Nothing at all is nothing wrong.
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    assert_has(
        &import(folder.path(), &["empty.txt"]).fine(),
        &["kept 0 lines"],
    );
}

#[test]
fn tables_that_cannot_take_flows_are_refused_with_the_reason() {
    for (sql, reason) in [
        ("CREATE TABLE flows (id)", "has no column time"),
        ("CREATE VIEW flows AS SELECT 1 AS id", "is a view"),
    ] {
        let folder = folder();
        ten_lines(folder.path());
        crate::harness::database(folder.path(), sql);
        let ran = run(
            folder.path(),
            &["import", "lanl-flows-head.txt", "--database", "made.db"],
        );
        ran.failed(1, &["the table flows of made.db", reason, "new database"]);
    }
}

#[test]
fn what_a_killed_import_left_is_not_emptied_under_another_name() {
    let folder = folder();
    let ten = ten_records(folder.path());
    fs::hard_link(&ten, folder.path().join("new.db.importing")).unwrap();
    import(folder.path(), &["lanl-flows-head.txt"]).fine();
    assert_eq!(query::<i64>(&ten, "SELECT count(*) FROM flows"), 10);
    assert_eq!(query::<String>(&ten, "PRAGMA integrity_check"), "ok");
}

/// What is left beside `ten.db`, and would be replayed into a database of that name, once its writer
/// was killed and the file removed.
fn remains(folder: &Path, mode: &str) {
    let ten = ten_records(folder);
    query::<String>(&ten, &format!("PRAGMA journal_mode = {mode}"));
    if mode == "WAL" {
        // With a reader, what is appended stays in the log; killed, the reader leaves it there.
        let server = Server::of(folder, &ten);
        server.document("/api/v1/stream/flows");
        let again = ["import", "lanl-flows-head.txt", "--database", "ten.db"];
        run(folder, &[&again[..], &["--append"]].concat()).fine();
    } else {
        let (mut child, _lines) = endless(folder, "ten.db", true, "ten.db");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fs::remove_file(ten).unwrap();
}

#[test]
fn what_a_killed_writer_left_is_not_replayed_into_a_new_database() {
    for (mode, remain) in [("WAL", "ten.db-wal"), ("DELETE", "ten.db-journal")] {
        let folder = folder();
        remains(folder.path(), mode);
        assert!(fs::metadata(folder.path().join(remain)).unwrap().len() > 512);
        let mut lines = flows(folder.path(), &["generate", "--rows", "3000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut import = flows(folder.path(), &["import", "-", "--database", "ten.db"]);
        let import = import.stdin(lines.stdout.take().unwrap()).output().unwrap();
        lines.wait().unwrap();
        assert_has(&Ran::from(import).fine(), &["kept 3000 lines"]);
        let left = ["-wal", "-shm", "-journal"].map(|end| format!("ten.db{end}"));
        let left = left.iter().any(|name| folder.path().join(name).exists());
        let ten = folder.path().join("ten.db");
        assert_eq!(
            query::<String>(&ten, "PRAGMA integrity_check"),
            "ok",
            "{mode}"
        );
        assert_eq!(query::<i64>(&ten, "SELECT count(*) FROM flows"), 3000);
        assert!(!left, "{mode}");
    }
}

#[test]
fn a_removed_database_that_is_still_written_is_not_replaced() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let (mut writer, _lines) = endless(folder.path(), "ten.db", true, "ten.db-wal");
    fs::remove_file(&ten).unwrap();
    let again = ["import", "lanl-flows-head.txt", "--database", "ten.db"];
    run(folder.path(), &again).failed(1, &["still writes", "ten.db-shm", "end it first"]);
    assert!(folder.path().join("ten.db-wal").exists());
    writer.kill().unwrap();
    writer.wait().unwrap();
    run(folder.path(), &again).fine();
    assert_eq!(query::<String>(&ten, "PRAGMA integrity_check"), "ok");
    // Readers do not keep it from its place.
    let server = Server::of(folder.path(), &ten);
    server.document("/api/v1/stream/flows");
    fs::remove_file(&ten).unwrap();
    run(folder.path(), &again).fine();
    assert_eq!(query::<i64>(&ten, "SELECT count(*) FROM flows"), 10);
}

#[test]
fn rejected_lines_follow_no_symbolic_link() {
    let folder = folder();
    let precious = folder.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    fs::write(
        folder.path().join("flows.txt"),
        "1,0,C1,389,C2,N1,6,10,5\njunk\n",
    )
    .unwrap();
    let rejected = folder.path().join("flows.txt.rejected");
    for target in ["precious", "nowhere"] {
        let _ = fs::remove_file(&rejected);
        std::os::unix::fs::symlink(target, &rejected).unwrap();
        let database = format!("{target}.db");
        run(
            folder.path(),
            &["import", "flows.txt", "--database", &database],
        )
        .fine();
        assert_eq!(fs::read(&precious).unwrap(), b"mine");
        assert!(!folder.path().join("nowhere").exists());
        assert!(rejected.symlink_metadata().unwrap().is_file());
        assert_has(&fs::read_to_string(&rejected).unwrap(), &["2\t1 fields"]);
    }
}

/// A `flows generate` that goes on until nobody reads it.
struct Endless(Child);

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts an import of endless lines into a database, and waits until it is well under way.
fn endless(folder: &Path, database: &str, append: bool, growing: &str) -> (Child, Endless) {
    let mut lines = flows(folder, &["generate", "--rows", "1000000000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut arguments = vec!["import", "-", "--database", database];
    arguments.extend(append.then_some("--append"));
    let child = flows(folder, &arguments)
        .stdin(lines.stdout.take().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let size = || fs::metadata(folder.join(growing)).map_or(0, |file| file.len());
    wait_until("a good deal is written", || size() > 8 << 20);
    (child, Endless(lines))
}

#[test]
fn killed_it_leaves_no_new_database_and_the_next_import_works() {
    let folder = folder();
    let (mut child, _lines) = endless(folder.path(), "new.db", false, "new.db.importing");
    let second = import(folder.path(), &["-"]);
    second.failed(1, &["another import", "new.db"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path().join("new.db").exists());
    ten_lines(folder.path());
    import(folder.path(), &["lanl-flows-head.txt"]).fine();
    assert_eq!(
        query::<i64>(&folder.path().join("new.db"), "SELECT count(*) FROM flows"),
        10
    );
    assert!(!folder.path().join("new.db.importing").exists());
}

#[test]
fn killed_while_appending_it_leaves_the_database_as_it_was() {
    let folder = folder();
    let ten = ten_records(folder.path());
    for (mode, growing) in [("WAL", "ten.db-wal"), ("DELETE", "ten.db")] {
        let set = format!("PRAGMA journal_mode = {mode}");
        query::<String>(&ten, &set);
        let server = Server::of(folder.path(), &ten);
        let before = server.document("/api/v1/stream/flows");
        let (mut child, _lines) = endless(folder.path(), "ten.db", true, growing);
        if mode == "WAL" {
            // Readers are not kept waiting, and see nothing of it.
            assert_eq!(server.document("/api/v1/stream/flows"), before);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if mode == "DELETE" {
            roll_back(folder.path(), &server);
        }
        assert_eq!(server.document("/api/v1/stream/flows"), before);
        assert_eq!(query::<String>(&ten, "PRAGMA integrity_check"), "ok");
    }
}

/// Checks that everybody says what to do about a killed writer's journal, and does it.
fn roll_back(folder: &Path, server: &Server) {
    for path in ["/api/v1/stream/flows", "/api/v1/stream/flows.csv?limit=1"] {
        let reply = server.get(path);
        reply.problem(503, &["a writer was killed", "roll it back", "flows check"]);
        assert_eq!(reply.header("retry-after"), "1");
    }
    let report = run(folder, &["check", "--database", "ten.db"]);
    report.failed(2, &["1 error"]);
    assert_has(
        &report.stdout,
        &["error: a writer of ten.db was killed", "ten.db-journal"],
    );
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database", "ten.db"];
    run(folder, &serve).failed(2, &["a writer of ten.db was killed", "`sqlite3 ten.db '"]);
    let sql = report.stdout.split("`sqlite3 ten.db '").nth(1).unwrap();
    query::<i64>(&folder.join("ten.db"), sql.split('\'').next().unwrap());
}

#[test]
fn interrupted_it_says_so_and_cleans_up() {
    let folder = folder();
    let (child, _lines) = endless(folder.path(), "new.db", false, "new.db.importing");
    signal(child.id(), "INT");
    let ran = Ran::from(child.wait_with_output().unwrap());
    ran.failed(1, &["interrupted; nothing was imported"]);
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
