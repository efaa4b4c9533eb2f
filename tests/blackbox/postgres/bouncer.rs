//! PgBouncer before a server.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use super::cluster::Cluster;
use super::guard::{Guard, free_port};
use crate::harness::wait_until;

/// For how long PgBouncer gives a client a connection of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    Session,
    Transaction,
}

/// A running PgBouncer that lets everybody in. It is gone when this is dropped or the process has ended.
pub(crate) struct Bouncer {
    port: u16,
    child: Child,
    // After the child has been waited for.
    guard: Guard,
}

impl Bouncer {
    /// Starts it before all databases of a server.
    pub(crate) fn start(cluster: &Cluster, mode: Mode) -> Bouncer {
        let guard = Guard::new();
        let port = free_port();
        let configuration = format!(
            "[databases]
             * = host=127.0.0.1 port={} user=flows
             [pgbouncer]
             listen_addr = 127.0.0.1
             listen_port = {port}
             unix_socket_dir =
             auth_type = any
             pool_mode = {}
             max_client_conn = 500
             default_pool_size = 20\n",
            cluster.port(),
            match mode {
                Mode::Session => "session",
                Mode::Transaction => "transaction",
            }
        );
        let lines: Vec<_> = configuration.lines().map(str::trim_start).collect();
        fs::write(guard.folder().join("pgbouncer.ini"), lines.join("\n")).unwrap();
        let log = File::create(guard.folder().join("log")).unwrap();
        let child = guard
            .command("/usr/sbin/pgbouncer")
            .arg("pgbouncer.ini")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let bouncer = Bouncer { port, child, guard };
        let listens = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        wait_until(
            &format!("PgBouncer listens, but: {}", bouncer.log()),
            listens,
        );
        bouncer
    }

    /// The URL of a database of the server behind it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://flows@127.0.0.1:{}/{database}", self.port)
    }

    /// What it has written to its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.guard.folder().join("log")).unwrap()
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.guard.signal("KILL");
        let _ = self.child.wait();
    }
}
