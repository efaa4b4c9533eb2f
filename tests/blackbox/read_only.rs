//! Databases and folders that can only be read.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use crate::harness::{
    FLOWS, Ran, Server, assert_has, flows, folder, generated, is_root, ten_records,
};

const IMMUTABLE: &str = "[database]\nimmutable = true\n";

/// The command on a database, of a user who can write nowhere in the folder.
fn stranger(folder: &Path, command: &str, database: &str, configuration: &str) -> Command {
    let program = folder.join("program");
    fs::copy(env!("CARGO_BIN_EXE_flows"), &program).unwrap();
    fs::write(folder.join("test.toml"), configuration).unwrap();
    let arguments = [command, "--config", "test.toml", "--database", database];
    let mut stranger = Command::new(program);
    stranger.current_dir(folder).args(arguments).env_clear();
    if command == "serve" {
        stranger.args(["--listen", "127.0.0.1:0"]);
    }
    if is_root() {
        // To root every folder is writable.
        stranger.uid(65534).gid(65534);
    }
    stranger
}

/// Runs something while nobody but root can write in the folder.
fn locked<T>(folder: &Path, run: impl FnOnce() -> T) -> T {
    fs::set_permissions(folder, Permissions::from_mode(0o555)).unwrap();
    let ran = run();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    ran
}

/// The number of bytes of the first record, as it is served.
fn first(server: &Server) -> String {
    server.document(&format!(
        "{FLOWS}.csv?limit=1&columns=byte_count&csv.header=false"
    ))
}

fn set_first(writer: &Connection, byte_count: i64) {
    let update = "UPDATE flows SET byte_count = ?1 WHERE id = 1";
    writer.execute(update, [byte_count]).unwrap();
}

#[test]
fn an_immutable_database_needs_no_folder_that_can_be_written() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let absolute = folder.path().join("absolute?.db");
    let absolute = absolute.to_str().unwrap();
    let doubled = format!("/{absolute}");
    // All of them mean something in a URI.
    let names = [
        "file:a.db",
        "a?immutable=0#b%20c&d é.db",
        "%3f.db",
        absolute,
        &doubled,
    ];
    for name in names {
        fs::copy(&ten, folder.path().join(name)).unwrap();
        let log = fs::File::create(folder.path().join("server.log")).unwrap();
        let mut serve = stranger(folder.path(), "serve", name, IMMUTABLE);
        let server = locked(folder.path(), || {
            Server::logging_to(log, folder.path(), &mut serve)
        });
        assert_eq!(
            server.document(&format!("{FLOWS}.csv")).lines().count(),
            11,
            "{name}"
        );
        for end in ["-wal", "-shm", "-journal"] {
            assert!(!folder.path().join(format!("{name}{end}")).exists());
        }
    }
    // Another file in its place is served, immutable or not.
    fs::rename(&ten, folder.path().join("served.db")).unwrap();
    let server = Server::with(folder.path(), &folder.path().join("served.db"), IMMUTABLE);
    let before = first(&server);
    let next = folder.path().join("next.db");
    fs::copy(folder.path().join("served.db"), &next).unwrap();
    set_first(&Connection::open(&next).unwrap(), 7);
    fs::rename(&next, folder.path().join("served.db")).unwrap();
    assert_ne!(before, "7\n");
    assert_eq!(first(&server), "7\n");
}

#[test]
fn what_has_a_log_beside_it_is_not_immutable() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let server = Server::with(folder.path(), &ten, IMMUTABLE);
    let served = first(&server);
    let writer = Connection::open(&ten).unwrap();
    set_first(&writer, 7);
    let check = || {
        let mut check = flows(
            folder.path(),
            &["check", "--config", "test.toml", "--database", "ten.db"],
        );
        Ran::from(check.output().unwrap())
    };
    let ran = check();
    ran.failed(2, &["1 error"]);
    assert_has(
        &ran.stdout,
        &[
            "ten.db is not immutable",
            "ten.db-wal",
            "database.immutable must be left out",
        ],
    );
    // Another file that is put in its place with one is a 503.
    let with_log = |name: &str| folder.path().join(format!("other.db{name}"));
    fs::copy(&ten, with_log("")).unwrap();
    fs::rename(with_log(""), &ten).unwrap();
    let reply = server.get(FLOWS);
    reply.problem(503, &["ten.db-wal"]);
    drop(writer);
    // A log that is done with may stay.
    for done in [&[][..], &[0; 512]] {
        fs::write(folder.path().join("ten.db-wal"), done).unwrap();
        fs::write(folder.path().join("ten.db-journal"), done).unwrap();
        check().fine();
    }
    assert_eq!(first(&server), served);
    fs::write(folder.path().join("ten.db-journal"), [0xd9, 0xd5]).unwrap();
    assert_has(&check().stdout, &["not immutable", "ten.db-journal"]);
}

#[test]
fn what_a_writer_made_is_enough_in_a_folder_that_cannot_be_written() {
    let folder = folder();
    let ten = ten_records(folder.path());
    let writer = Connection::open(&ten).unwrap();
    set_first(&writer, 1);
    for end in ["-wal", "-shm"] {
        let beside = folder.path().join(format!("ten.db{end}"));
        fs::set_permissions(beside, Permissions::from_mode(0o644)).unwrap();
    }
    let log = fs::File::create(folder.path().join("server.log")).unwrap();
    let mut serve = stranger(folder.path(), "serve", "ten.db", "");
    let server = locked(folder.path(), || {
        Server::logging_to(log, folder.path(), &mut serve)
    });
    server.logged(&["WARN", "write-ahead-log mode", "once it removes them"]);
    let mut writer = Some(writer);
    for byte_count in 2..40 {
        let open = || Connection::open(&ten).unwrap();
        let open = writer.take().unwrap_or_else(open);
        set_first(&open, byte_count);
        if byte_count % 4 != 0 {
            let checkpoint = ["PASSIVE", "RESTART", "TRUNCATE"][byte_count as usize % 3];
            let checkpoint = format!("PRAGMA wal_checkpoint({checkpoint})");
            open.query_row(&checkpoint, [], |_| Ok(())).unwrap();
        }
        // The writer that leaves now and then cannot remove what the server reads.
        writer = (byte_count % 3 != 0).then_some(open);
        assert_eq!(first(&server), format!("{byte_count}\n"));
    }
}

/// The command in a mount namespace of its own, in which nothing can be written; `None`, said, where that is
/// not allowed.
fn where_nothing_can_be_written(folder: &Path, arguments: &str) -> Option<Command> {
    let script = |last: &str| {
        format!(
            "for mount in $(cut -d ' ' -f 5 /proc/self/mountinfo); do
                 mount -o remount,bind,ro $mount 2> /dev/null
             done
             for folder in . /tmp /var/tmp /dev/shm; do
                 ! touch $folder/written 2> /dev/null || exit 1
             done
             {last}"
        )
    };
    let unshare = |script: String| {
        let mut unshare = Command::new("unshare");
        unshare.current_dir(folder).arg("--mount");
        if !is_root() {
            unshare.arg("--map-root-user");
        }
        unshare.args(["sh", "-c", &script]);
        unshare
    };
    let probed = unshare(script("true")).status();
    if !probed.is_ok_and(|status| status.success()) {
        // Not by a macro, whose lines the tests' runner keeps to itself.
        let line = b"no mount namespaces here: read-only mounts are not tested\n";
        std::io::stderr().write_all(line).unwrap();
        return None;
    }
    let program = env!("CARGO_BIN_EXE_flows");
    Some(unshare(script(&format!("exec {program} {arguments}"))))
}

#[test]
#[ignore = "needs unshare, and to be allowed to use it; run by tests/run"]
fn nothing_is_written_but_the_log() {
    let folder = folder();
    let generated = generated(folder.path(), 100_000);
    Connection::open(&generated)
        .unwrap()
        .execute_batch("CREATE TABLE sorted AS SELECT * FROM flows")
        .unwrap();
    let serve = "serve --config test.toml --database generated.db --listen 127.0.0.1:0";
    let Some(mut refused) = where_nothing_can_be_written(folder.path(), serve) else {
        return;
    };
    fs::write(folder.path().join("test.toml"), "").unwrap();
    let refused = Ran::from(refused.output().unwrap());
    refused.failed(
        2,
        &[
            "write-ahead-log mode",
            "cannot write the folder /",
            "immutable = true",
        ],
    );

    let columns = "columns = [{ name = \"src_comp\", type = \"text\" }]";
    let stream = |name: &str| {
        format!(
            "[[streams]]\nname = \"{name}\"\ntable = \"{name}\"\ntime = \"time\"\nid = \"id\"\n{columns}\n"
        )
    };
    let configuration = IMMUTABLE.to_owned() + &stream("flows") + &stream("sorted");
    fs::write(folder.path().join("test.toml"), configuration).unwrap();
    let Some(mut serve) = where_nothing_can_be_written(folder.path(), serve) else {
        return;
    };
    let server = Server::start(folder.path(), &mut serve);
    server.logged(&["WARN", "stream sorted", "SQLITE_TMPDIR"]);
    assert_eq!(
        server.document(&format!("{FLOWS}.csv")).lines().count(),
        100_001
    );
    server.bytes(&format!("{FLOWS}.parquet"));
    // What fits into memory is sorted there.
    let few = server.document("/api/v1/stream/sorted.csv?scanned_before=100000");
    assert!(few.lines().count() > 1_000);
    let reply = server.get("/api/v1/stream/sorted.csv");
    reply.problem(500, &[]);
    server.logged(&["sorts in a temporary file", "SQLITE_TMPDIR"]);
}
