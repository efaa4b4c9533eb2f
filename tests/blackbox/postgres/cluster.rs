//! A real PostgreSQL server.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::guard::{Guard, free_port};

/// Small and fast; nothing has to survive. What a session may set otherwise is not what programs expect, so
/// that one which relies on it is found out.
const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
max_connections = 500
shared_buffers = 32MB
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
autovacuum = off
# In the data folder, and gone with it.
dynamic_shared_memory_type = mmap
timezone = 'Asia/Kathmandu'
datestyle = 'SQL, DMY'
bytea_output = 'escape'
";

/// The one who may do everything in a cluster.
const USER: &str = "flows";

/// A PostgreSQL server on a port of 127.0.0.1 that trusts everybody. It is gone when this is dropped or the
/// process has ended.
pub(crate) struct Cluster {
    guard: Guard,
    port: u16,
}

impl Cluster {
    pub(crate) fn start() -> Cluster {
        Cluster::start_with("")
    }

    /// Starts a server with these lines of postgresql.conf besides.
    pub(crate) fn start_with(settings: &str) -> Cluster {
        let guard = Guard::new();
        let port = free_port();
        // Texts sort by the rules of a language, unless they are told to sort as they are sent.
        let init = [
            "--pgdata=data",
            "--auth=trust",
            &format!("--username={USER}"),
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--locale-provider=icu",
            "--icu-locale=en-US",
            "--wal-segsize=1",
            "--no-sync",
        ];
        finish(guard.command(program("initdb")).args(init))
            .unwrap_or_else(|error| panic!("{error}"));
        let folder = guard.folder();
        let configuration = folder.join("data/postgresql.conf");
        let place = format!(
            "port = {port}\nunix_socket_directories = '{}'",
            folder.display()
        );
        fs::write(configuration, format!("{SETTINGS}{place}\n{settings}\n")).unwrap();
        let mut cluster = Cluster { guard, port };
        cluster.restart();
        cluster
    }

    /// Stops the server as an operator does: connections end, what was written is kept.
    pub(crate) fn stop(&mut self) {
        self.control(&["stop", "--mode=fast"]);
    }

    /// Starts the server, after a stop of it if it runs, where it was.
    pub(crate) fn restart(&mut self) {
        if self.guard.folder().join("data/postmaster.pid").exists() {
            self.stop();
        }
        self.control(&["start", "--log=log"]);
    }

    /// Kills all processes of the server at once.
    pub(crate) fn kill(&mut self) {
        self.guard.signal("KILL");
    }

    /// Stops all processes of the server where they are: connections stay, and are silent.
    pub(crate) fn pause(&mut self) {
        self.guard.signal("STOP");
    }

    /// Lets the processes of a paused server go on.
    pub(crate) fn resume(&mut self) {
        self.guard.signal("CONT");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the server's socket.
    pub(crate) fn socket(&self) -> &Path {
        self.guard.folder()
    }

    /// What the server has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.guard.folder().join("log")).unwrap()
    }

    /// The URL of a database in it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database: its name.
    pub(crate) fn create(&self) -> String {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let name = format!("made_{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0"),
        );
        name
    }

    /// Runs a script of statements, and tells what it says: a line a row, with a | between values.
    #[track_caller]
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        self.script(database, &[], |script| script.write_all(sql.as_bytes()))
    }

    /// Runs a script that is written while it runs, with these variables of psql.
    #[track_caller]
    pub(crate) fn script(
        &self,
        database: &str,
        variables: &[(&str, &str)],
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> String {
        let said = self.try_script(database, variables, write);
        said.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs such a script: what it says, or what is wrong with it.
    pub(crate) fn try_script(
        &self,
        database: &str,
        variables: &[(&str, &str)],
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<String, String> {
        let mut psql = self.psql(database);
        for (name, value) in variables {
            psql.arg("-v").arg(format!("{name}={value}"));
        }
        let mut psql = psql.spawn().map_err(|error| error.to_string())?;
        let mut script = BufWriter::new(psql.stdin.take().unwrap());
        let (written, output) = thread::scope(|scope| {
            // What it says is read meanwhile: it could be more than a pipe holds.
            let output = scope.spawn(|| psql.wait_with_output().unwrap());
            let written = write(&mut script).and_then(|()| script.flush());
            drop(script);
            (written, output.join().unwrap())
        });
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        written.map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(said.trim_end_matches('\n').to_owned())
    }

    /// A psql that runs what it is told on its standard input.
    pub(super) fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .arg(self.url(database))
            .env("PGTZ", "UTC")
            .env("PGDATESTYLE", "ISO")
            .env(
                "PGOPTIONS",
                "-c bytea_output=hex -c client_min_messages=warning",
            )
            .env("PGCLIENTENCODING", "UTF8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        psql
    }

    fn control(&self, arguments: &[&str]) {
        let mut control = self.guard.command(program("pg_ctl"));
        control.args(["--pgdata=data", "--silent", "--wait"]);
        let result = finish(control.args(arguments));
        result.unwrap_or_else(|error| panic!("{error}{}", self.log()));
    }
}

/// A program of PostgreSQL: the newest that Debian has installed, or else the one that the shell would find.
pub(super) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|version| version.ok()?.path().canonicalize().ok())
        .filter(|version| version.join("bin").join(name).exists())
        .max_by_key(|version| {
            let number = version.file_name().and_then(|name| name.to_str());
            number.and_then(|number| number.parse::<u32>().ok())
        });
    newest.map_or_else(|| name.into(), |version| version.join("bin").join(name))
}

/// Runs a command to its end: what is wrong, if that is not a good one.
fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let is_good = output.status.success();
    is_good
        .then_some(())
        .ok_or_else(|| format!("{command:?}: {stderr}"))
}
