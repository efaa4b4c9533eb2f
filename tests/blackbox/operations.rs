//! What docs/operations.md prints, as it is printed.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};

use rusqlite::Connection;

use crate::harness::{FLOWS, Server, folder, generated, wait_until};

/// What is printed in that language.
fn printed(language: &str) -> &'static str {
    let text = include_str!("../../docs/operations.md");
    let fence = format!("```{language}\n");
    let (_, rest) = text.split_once(&fence).unwrap();
    rest.split_once("```").unwrap().0
}

/// An nginx that runs until it is dropped.
struct Nginx(Child);

impl Nginx {
    /// As printed, in front of this server.
    fn before(server: SocketAddr, folder: &Path) -> (Nginx, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let printed = printed("nginx");
        let site = printed
            .replace("127.0.0.1:5000", &server.to_string())
            .replace("127.0.0.1:8080", &address.to_string());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary
            .map(|kind| format!("{kind}_temp_path {kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log nginx.log;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{site}}}\n"
        );
        fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let child = Command::new("nginx")
            .env("PATH", "/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
            .args([
                "-p",
                folder.to_str().unwrap(),
                "-c",
                "nginx.conf",
                "-e",
                "nginx.log",
            ])
            .spawn()
            .unwrap();
        let nginx = Nginx(child);
        wait_until("nginx listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        (nginx, address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn curl(arguments: &[&str]) -> (Option<i32>, Vec<u8>) {
    let output = Command::new("curl")
        .arg("-s")
        .args(arguments)
        .output()
        .unwrap();
    (output.status.code(), output.stdout)
}

#[test]
#[ignore = "needs nginx and curl; run by tests/run"]
fn a_broken_stream_is_seen_through_nginx() {
    let folder = folder();
    let generated = generated(folder.path(), 100_000);
    let server = Server::of(folder.path(), &generated);
    let (_nginx, address) = Nginx::before(server.address, folder.path());
    let url = format!("http://{address}{FLOWS}");
    let (code, whole) = curl(&[&url]);
    assert_eq!(code, Some(0));
    assert_eq!(whole, server.bytes(FLOWS));
    let one = format!("{url}?limit=1");
    let id = "X-Request-Id: through-it";
    let (code, head) = curl(&["-D", "-", "-o", "/dev/null", "-H", id, &one]);
    assert_eq!(code, Some(0));
    assert!(
        String::from_utf8(head)
            .unwrap()
            .to_lowercase()
            .contains("x-request-id: through-it")
    );
    server.logged(&["id=\"through-it\"", "ended=\"complete\""]);
    // A long URL passes.
    let long = format!("{url}?limit=1&src_comp=ne.{}", "C".repeat(30_000));
    let (_, replied) = curl(&[&long]);
    assert_eq!(
        String::from_utf8(replied).unwrap(),
        server.document(long.strip_prefix(&format!("http://{address}")).unwrap())
    );

    Connection::open(&generated)
        .unwrap()
        .execute("UPDATE flows SET byte_count = 'x' WHERE id = 60000", [])
        .unwrap();
    for codings in [&[][..], &["--compressed"]] {
        let (code, part) = curl(&[codings, &[&url]].concat());
        assert_eq!(code, Some(18), "{codings:?}");
        assert!(part.len() < whole.len());
    }
}
