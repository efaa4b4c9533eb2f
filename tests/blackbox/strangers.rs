//! Addresses that more than this machine can reach.

use std::fs;

use crate::harness::{FLOWS, Server, assert_has, flows, folder, run, ten_records};

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
    fs::write(
        folder.path().join("wide.toml"),
        "[server]\nlisten = \"0.0.0.0:5000\"",
    )
    .unwrap();
    let check = ["check", "--config", "wide.toml", "--database", "ten.db"];
    let ran = run(folder.path(), &check);
    assert_eq!(ran.code, Some(2));
    assert_has(
        &ran.stdout,
        &["error: nothing says who may read", "0.0.0.0:5000"],
    );
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

#[test]
fn who_says_who_may_read_listens_anywhere_until_the_last_token_would_be_gone() {
    let folder = folder();
    ten_records(folder.path());
    let file = folder.path().join("token.toml");
    let printed = run(folder.path(), &["token", "new", "one"]).fine();
    let (token, section) = printed.split_once("\n\n").unwrap();
    fs::write(&file, section).unwrap();
    let serve = ["serve", "--config", "token.toml", "--database", "ten.db"];
    let mut server = flows(
        folder.path(),
        &[&serve[..], &["--listen", "0.0.0.0:0"]].concat(),
    );
    let server = Server::start(folder.path(), &mut server);
    server.logged(&["WARN", "tokens travel in the clear to 0.0.0.0:", "TLS"]);
    let status = |head: &str| server.with_head("GET", FLOWS, head).status;
    assert_eq!(status(""), 401);
    fs::write(&file, "").unwrap();
    server.signal("HUP");
    server.logged(&["ERROR", "stays as it was", "nothing says who may read"]);
    assert_eq!(status(""), 401);
    assert_eq!(status(&format!("Authorization: Bearer {token}\r\n")), 200);
    // In the environment streams have commas between them; those without a token are no secret.
    let mut open = flows(folder.path(), &["serve", "--database", "ten.db"]);
    open.env("FLOWS__SERVER__LISTEN", "0.0.0.0:0");
    let mut none = open
        .env("FLOWS__AUTH__ANONYMOUS", "flows,logins")
        .output()
        .unwrap();
    let ran = String::from_utf8(std::mem::take(&mut none.stderr)).unwrap();
    assert!(
        ran.contains("auth.anonymous[1]") && ran.contains("no stream \"logins\""),
        "{ran}"
    );
    let server = Server::start(folder.path(), open.env("FLOWS__AUTH__ANONYMOUS", "flows"));
    server.document(&format!("{FLOWS}?limit=1"));
    assert!(!server.log().contains("in the clear"));
}
