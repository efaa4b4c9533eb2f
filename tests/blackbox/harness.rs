//! Starts the command, speaks HTTP, makes databases.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// The longest that anything may take here before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a test goes on that could go on for ever: seconds, or a minute under `tests/run --long`.
pub(crate) fn some_time() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 5 })
}

/// Whether `tests/run --long` runs the tests.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LONG_TESTS").is_some()
}

/// Whether nothing can come in slices at once; says so.
pub(crate) fn is_one_core() -> bool {
    let is = std::thread::available_parallelism().unwrap().get() == 1;
    if is {
        // Not by a macro, whose lines the tests' runner keeps to itself.
        let line = b"one core: slices at once are not tested\n";
        std::io::stderr().write_all(line).unwrap();
    }
    is
}

/// The path below which the stream `flows` is.
pub(crate) const FLOWS: &str = "/api/v1/stream/flows";

/// The command, in a folder where it finds no configuration, with no environment but the test's.
pub(crate) fn flows(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flows"));
    command
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// Runs the command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::from(flows(folder, arguments).output().unwrap())
}

/// What a command left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Succeeded, with nothing on standard error.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Failed with this code and one line on standard error that has all these parts.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert_has(&self.stderr, parts);
    }
}

/// The text has all these parts.
#[track_caller]
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// Whether this process may do anything.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.contains("Uid:\t0\t0")
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    start.elapsed()
}

/// A new empty folder.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("flows-test-")
        .tempdir()
        .unwrap()
}

/// The ten real records, in a file in `folder`.
pub(crate) fn ten_lines(folder: &Path) -> PathBuf {
    let path = folder.join("lanl-flows-head.txt");
    fs::write(&path, include_str!("../golden/lanl-flows-head.txt")).unwrap();
    path
}

/// A database of the ten real records.
pub(crate) fn ten_records(folder: &Path) -> PathBuf {
    ten_lines(folder);
    run(
        folder,
        &["import", "lanl-flows-head.txt", "--database", "ten.db"],
    )
    .fine();
    folder.join("ten.db")
}

/// A database of generated records.
pub(crate) fn generated(folder: &Path, rows: u64) -> PathBuf {
    let mut generate = flows(folder, &["generate", "--rows", &rows.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = flows(folder, &["import", "-", "--database", "generated.db"])
        .stdin(generate.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(generate.wait().unwrap().success());
    Ran::from(import).fine();
    folder.join("generated.db")
}

/// A database that the statements make.
pub(crate) fn database(folder: &Path, sql: &str) -> PathBuf {
    let path = folder.join("made.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    path
}

/// A database without tables, with pages of this size, and so many bytes at the end of each that
/// SQLite leaves alone.
pub(crate) fn empty_database(folder: &Path, page_size: usize, reserved: u8) -> PathBuf {
    let path = folder.join("made.db");
    let make = format!("PRAGMA page_size = {page_size}; PRAGMA user_version = 1;");
    Connection::open(&path)
        .unwrap()
        .execute_batch(&make)
        .unwrap();
    let mut page = fs::read(&path).unwrap();
    assert_eq!(page.len(), page_size);
    // Byte 20 of the file says how many are reserved; those at 105, where the table of tables, still
    // without content, has its content (0 stands for 65536).
    page[20] = reserved;
    let usable = (page_size - usize::from(reserved)) % 65536;
    page[105..107].copy_from_slice(&u16::try_from(usable).unwrap().to_be_bytes());
    fs::write(&path, page).unwrap();
    path
}

/// A running `flows serve`.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Serves a database with the default configuration.
    pub(crate) fn of(folder: &Path, database: &(impl AsRef<OsStr> + ?Sized)) -> Server {
        Server::with(folder, database, "")
    }

    /// Serves a database, by its path or URL, with a configuration file.
    pub(crate) fn with(
        folder: &Path,
        database: &(impl AsRef<OsStr> + ?Sized),
        configuration: &str,
    ) -> Server {
        fs::write(folder.join("test.toml"), configuration).unwrap();
        let arguments = ["serve", "--config", "test.toml", "--listen", "127.0.0.1:0"];
        let mut serve = flows(folder, &arguments);
        Server::start(folder, serve.arg("--database").arg(database))
    }

    /// Starts a command that prints `listening on http://ADDRESS`, or `https://`.
    pub(crate) fn start(folder: &Path, command: &mut Command) -> Server {
        let log = File::create(folder.join("server.log")).unwrap();
        Server::logging_to(log, folder, command)
    }

    /// Starts such a command with this standard error.
    pub(crate) fn logging_to(
        stderr: impl Into<Stdio>,
        folder: &Path,
        command: &mut Command,
    ) -> Server {
        let log = folder.join("server.log");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim_end().strip_prefix("listening on ");
        let address = address.and_then(|url| {
            let plain = url.strip_prefix("http://");
            plain.or_else(|| url.strip_prefix("https://"))
        });
        let address = address.unwrap_or_else(|| {
            panic!("{line:?}: {}", fs::read_to_string(&log).unwrap_or_default());
        });
        Server {
            child,
            address: address.parse().unwrap(),
            log,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line in the log that has all these parts.
    #[track_caller]
    pub(crate) fn logged(&self, parts: &[&str]) -> String {
        let mut found = None;
        wait_until(&format!("{parts:?} is logged, but: {}", self.log()), || {
            let log = self.log();
            let line = log
                .lines()
                .find(|line| parts.iter().all(|part| line.contains(part)));
            found = line.map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp
    }

    /// Connects from an address of this machine, such as any that begins with 127.
    pub(crate) fn connect_from(&self, ip: [u8; 4]) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from((ip, 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let tcp = TcpStream::from(socket);
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp
    }

    /// Sends these bytes; what comes back is still to be read.
    pub(crate) fn send(&self, request: &[u8]) -> TcpStream {
        let mut tcp = self.connect();
        tcp.write_all(request).unwrap();
        tcp
    }

    /// Sends a `GET`; what comes back is still to be read.
    pub(crate) fn ask(&self, path: &str) -> TcpStream {
        self.send(
            format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes(),
        )
    }

    /// A complete reply to a `GET`.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        Reply::read(self.ask(path))
    }

    /// A complete reply to these bytes.
    #[track_caller]
    pub(crate) fn raw(&self, request: &str) -> Reply {
        Reply::read(self.send(request.as_bytes()))
    }

    /// The document at a path, which must be complete.
    #[track_caller]
    pub(crate) fn document(&self, path: &str) -> String {
        let reply = self.get(path);
        reply.is_complete();
        reply.body
    }

    /// The bytes at a path, which must be complete.
    #[track_caller]
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        let reply = self.get(path);
        reply.is_complete();
        reply.bytes
    }

    /// The bytes at a path, which must be complete, and in how many slices they were written.
    #[track_caller]
    pub(crate) fn sliced(&self, path: &str) -> (Vec<u8>, u64) {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let id = format!("sliced-{}", ASKED.fetch_add(1, Ordering::Relaxed));
        let reply = self.with_head("GET", path, &format!("X-Request-Id: {id}\r\n"));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(reply.complete);
        let line = self.logged(&[&format!("id=\"{id}\""), "slices="]);
        let slices = line.split("slices=").nth(1).unwrap();
        (
            reply.bytes,
            slices.split(' ').next().unwrap().parse().unwrap(),
        )
    }

    /// The bytes at a path, as written in several slices at once; it may be asked more than once until
    /// a helper is idle.
    #[track_caller]
    pub(crate) fn in_slices(&self, path: &str) -> Vec<u8> {
        if is_one_core() {
            return self.bytes(path);
        }
        let mut document = Vec::new();
        wait_until(&format!("{path} comes in slices"), || {
            let (bytes, slices) = self.sliced(path);
            document = bytes;
            slices > 1
        });
        document
    }

    /// The bytes at a path, as written by one connection.
    #[track_caller]
    pub(crate) fn in_one_piece(&self, path: &str) -> Vec<u8> {
        let (document, slices) = self.sliced(path);
        assert_eq!(slices, 1, "{path}");
        document
    }

    /// A complete reply to a request with these lines in its head besides `Host` and `Connection`.
    #[track_caller]
    pub(crate) fn with_head(&self, method: &str, path: &str, lines: &str) -> Reply {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        let tcp = self.send(format!("{head}{lines}\r\n").as_bytes());
        if method == "HEAD" {
            return Reply::head(&mut BufReader::new(tcp));
        }
        Reply::read(tcp)
    }

    /// Sends a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until it has ended, and tells its exit code.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait_until("the server has ended", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap().code()
    }

    /// Anonymous memory in MiB: what the process holds besides mapped files.
    pub(crate) fn anonymous_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("RssAnon:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let kill = format!("kill -{name} {pid}");
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
}

/// A reply as it came off the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    /// The body, if it is text.
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
    /// Whether the body ended as its head announced.
    pub(crate) complete: bool,
}

impl Reply {
    /// Reads a reply up to its end or the connection's.
    #[track_caller]
    pub(crate) fn read(stream: impl Read) -> Reply {
        let mut reader = BufReader::new(stream);
        let mut reply = Reply::head(&mut reader);
        let mut body = Vec::new();
        if reply.headers.get("transfer-encoding").map(String::as_str) == Some("chunked") {
            while let Some(chunk) = chunk(&mut reader) {
                reply.complete = chunk.is_empty();
                body.extend(chunk);
                if reply.complete {
                    break;
                }
            }
        } else {
            let length = reply
                .headers
                .get("content-length")
                .map(|length| length.parse().unwrap());
            let mut rest = reader.take(length.unwrap_or(u64::MAX));
            reply.complete =
                rest.read_to_end(&mut body).is_ok() && length == Some(body.len() as u64);
        }
        reply.body = String::from_utf8(body.clone()).unwrap_or_default();
        reply.bytes = body;
        reply
    }

    /// Reads the head of a reply.
    #[track_caller]
    pub(crate) fn head(reader: &mut impl BufRead) -> Reply {
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let status = line();
        let status = status
            .split(' ')
            .nth(1)
            .unwrap_or_else(|| panic!("no head: {status:?}"));
        let mut reply = Reply {
            status: status.parse().unwrap(),
            headers: HashMap::new(),
            body: String::new(),
            bytes: Vec::new(),
            complete: false,
        };
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else {
                return reply;
            };
            reply
                .headers
                .insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Where its `Link` leads, if there is one: the path that was asked for, with another query.
    #[track_caller]
    pub(crate) fn next(&self, asked: &str) -> Option<String> {
        let link = self.headers.get("link")?;
        let query = link
            .strip_prefix("<?")
            .and_then(|link| link.strip_suffix(">; rel=\"next\""));
        let query = query.unwrap_or_else(|| panic!("no query: {link}"));
        let (path, _) = asked.split_once('?').unwrap_or((asked, ""));
        Some(format!("{path}?{query}"))
    }

    /// It is what was asked for, all of it.
    #[track_caller]
    pub(crate) fn is_complete(&self) {
        let found = (self.status, self.complete);
        assert_eq!(found, (200, true), "{}", self.body);
    }

    /// It is a problem document (RFC 9457) of this status, and its text has all these parts.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, parts: &[&str]) -> serde_json::Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert!(self.complete);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert!(!self.header("x-request-id").is_empty());
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["type"].is_string());
        assert_has(problem["detail"].as_str().unwrap(), parts);
        problem
    }
}

/// One chunk of a chunked body (RFC 9112 section 7.1); `None` when the connection ends instead.
pub(crate) fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut size = String::new();
    reader.read_line(&mut size).ok()?;
    let size = usize::from_str_radix(size.strip_suffix("\r\n")?, 16).ok()?;
    let mut chunk = vec![0; size];
    reader.read_exact(&mut chunk).ok()?;
    let mut end = [0; 2];
    reader.read_exact(&mut end).ok()?;
    (end == *b"\r\n").then_some(chunk)
}

/// Python with the readers and clients of `tests/requirements.txt`.
pub(crate) fn python(script: &str) -> Command {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut command = Command::new(format!("{tests}/.venv/bin/python"));
    command.arg(format!("{tests}/{script}"));
    command
}
