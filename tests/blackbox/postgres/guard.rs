//! A folder in which servers run that are gone with this process, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::is_root;

/// A folder for servers. They and it are gone as soon as this is dropped or the process has ended, also by
/// SIGKILL: a shell of its own reads from a pipe that ends with the process.
pub(super) struct Guard {
    shell: Child,
    /// Taken to end it.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Guard {
    pub(super) fn new() -> Guard {
        // What interrupts the tests from a terminal does not interrupt what cleans up behind them.
        let mut shell = unprivileged("sh")
            .args(["-c", include_str!("guard.sh")])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answers = BufReader::new(shell.stdout.take().unwrap());
        let folder = PathBuf::from(line(&mut answers));
        assert!(folder.is_absolute(), "no folder is made: {folder:?}");
        Guard {
            orders: shell.stdin.take(),
            shell,
            answers,
            folder,
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A command that runs in the folder, by a user whom servers let start them.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = unprivileged(program);
        command.current_dir(&self.folder).process_group(0);
        command
    }

    /// Sends a signal, by name, to every process in the folder. After KILL they are gone.
    pub(super) fn signal(&mut self, name: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{name}").unwrap();
        assert_eq!(line(&mut self.answers), "done");
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.orders.take();
        let _ = self.shell.wait();
    }
}

fn line(answers: &mut impl BufRead) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A command that does not run as root, whom PostgreSQL and PgBouncer refuse.
fn unprivileged(program: impl AsRef<Path>) -> Command {
    let program = program.as_ref();
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    command.args(user).arg(program);
    command
}

/// A port of 127.0.0.1 where nobody listens, of those that no connection gets for its own end: it is
/// still free when a server is started anew.
pub(super) fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
