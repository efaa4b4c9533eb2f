//! Addresses that more than this machine can reach.

use std::fs;

use crate::harness::{FLOWS, Server, flows, folder, run, ten_records};

#[test]
fn who_says_nothing_of_who_may_read_listens_at_loopback_addresses_only() {
    let folder = folder();
    ten_records(folder.path());
    for address in ["0.0.0.0:0", "[::]:0"] {
        let serve = ["serve", "--database", "ten.db", "--listen", address];
        let ways_out = ["nothing says who may read", "127.0.0.1", "insecure = true"];
        run(folder.path(), &serve).failed(2, &ways_out);
        let demo = ["demo", "--rows", "1000000000", "--listen", address];
        run(folder.path(), &demo).failed(2, &["nothing says who may read", "127.0.0.1", "ssh -L"]);
    }
    // Unless it is written out.
    fs::write(folder.path().join("open.toml"), "[server]\ninsecure = true").unwrap();
    let serve = ["serve", "--config", "open.toml", "--database", "ten.db"];
    let mut server = flows(
        folder.path(),
        &[&serve[..], &["--listen", "0.0.0.0:0"]].concat(),
    );
    let server = Server::start(folder.path(), &mut server);
    assert!(server.address.ip().is_unspecified());
    server.document(&format!("{FLOWS}?limit=1"));
    // And not taken back while it serves.
    fs::write(folder.path().join("open.toml"), "").unwrap();
    server.signal("HUP");
    server.logged(&["ERROR", "stays as it was", "nothing says who may read"]);
    // Any address of the machine itself is its own.
    let serve = ["serve", "--database", "ten.db", "--listen", "127.8.9.10:0"];
    Server::start(folder.path(), &mut flows(folder.path(), &serve));
}
