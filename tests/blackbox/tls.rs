//! TLS: what it agrees upon, what is seen of clients through it, and that its end tells whether a stream is
//! complete.

use std::fs;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio_rustls::rustls::version::TLS13;

use crate::certificates::{Authority, TLS, Tls, VERSIONS, ask, connect};
use crate::harness::{
    FLOWS, Ran, Reply, Server, flows, folder, generated, python, run, ten_records, wait_until,
};

/// A server of these records that speaks TLS, and the authority that signed its certificate.
fn server(folder: &Path, database: &Path, configuration: &str) -> (Server, Authority) {
    let authority = Authority::new("test");
    authority.write(&folder.join("ca.pem"));
    authority.issue_to(folder);
    let server = Server::with(folder, database, &format!("{TLS}{configuration}"));
    (server, authority)
}

/// What is left of a reply, which must break off by a reset, without TLS's own end.
fn broken(mut reply: impl Read) -> Vec<u8> {
    let mut rest = Vec::new();
    let error = reply.read_to_end(&mut rest).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    rest
}

#[test]
fn both_versions_are_spoken_and_a_complete_reply_ends_as_tls_does() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let (server, authority) = server(folder.path(), &path, "");
    let mut documents = Vec::new();
    for version in VERSIONS {
        let mut client = authority.client(version);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut tls = ask(&server, client, &format!("{FLOWS}.csv"));
        let reply = Reply::read(&mut tls);
        assert_eq!((reply.status, reply.complete), (200, true));
        assert_eq!(reply.header("transfer-encoding"), "chunked");
        assert_eq!(reply.body.lines().count(), 20_001);
        // An end that TLS does not tell is an error.
        assert_eq!(tls.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert_eq!(tls.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(tls.conn.protocol_version(), Some(version.version));
        documents.push(reply.body);
    }
    assert_eq!(documents[0], documents[1]);

    // One connection, several requests; one that hyper refuses; one that idles.
    let mut tls = connect(&server, authority.client(&TLS13));
    for limit in [1, 2, 3] {
        write!(
            tls,
            "GET {FLOWS}.csv?limit={limit} HTTP/1.1\r\nHost: t\r\n\r\n"
        )
        .unwrap();
        assert_eq!(Reply::read(&mut tls).body.lines().count(), limit + 1);
    }
    write!(tls, "GET {FLOWS}?byte_count=>5 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    Reply::read(&mut tls).problem(400, &["'>'", "%3E"]);
    assert_eq!(tls.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn a_client_of_http_2_only_is_told_so_by_the_handshake() {
    let folder = folder();
    let (server, authority) = server(folder.path(), &ten_records(folder.path()), "");
    for version in VERSIONS {
        let mut client = authority.client(version);
        client.alpn_protocols = vec![b"h2".to_vec()];
        let mut tls = connect(&server, client);
        // With TLS 1.3 the client is done, and writes, before the server answers.
        let refused = tls.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let refused = refused.and_then(|()| tls.read(&mut [0])).unwrap_err();
        assert!(
            refused.to_string().contains("NoApplicationProtocol"),
            "{refused}"
        );
    }
    // Who does not say what it speaks is served.
    let reply = Reply::read(ask(&server, authority.client(&TLS13), FLOWS));
    assert_eq!((reply.status, reply.complete), (200, true));
}

#[test]
fn a_client_without_tls_is_told_of_it() {
    let folder = folder();
    let (server, authority) = server(folder.path(), &ten_records(folder.path()), "");
    server.get(FLOWS).problem(400, &["TLS", "https://"]);
    server.logged(&["GET /api/v1/stream/flows", "400", "https://"]);
    assert_eq!(server.with_head("HEAD", FLOWS, "").status, 400);
    // What is neither harms nobody.
    for garbage in [&b"\x16\x03\x01\x00\x05hello"[..], b"\x80\x00", b"\0"] {
        let _ = server.send(garbage).read_to_end(&mut Vec::new());
    }
    let reply = Reply::read(ask(&server, authority.client(&TLS13), FLOWS));
    assert!(reply.complete);
}

#[test]
fn a_client_that_does_not_shake_hands_is_closed_in_time() {
    let folder = folder();
    let (mut server, authority) = server(
        folder.path(),
        &ten_records(folder.path()),
        "[server]\nhead_seconds = 2\n",
    );
    // It says nothing, or begins a greeting.
    for greeting in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let start = Instant::now();
        let mut silent = server.send(greeting);
        let _ = silent.read_to_end(&mut Vec::new());
        let waited = start.elapsed().as_secs_f64();
        assert!((1.5..6.0).contains(&waited), "{waited}");
    }
    // It has shaken hands, and asks for nothing: that ends as TLS does.
    let mut idle = connect(&server, authority.client(&TLS13));
    idle.conn.complete_io(&mut idle.sock).unwrap();
    assert_eq!(idle.read_to_end(&mut Vec::new()).unwrap(), 0);
    // Nobody waits for a handshake when the server stops.
    let _silent = server.connect();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_break_resets_the_connection_and_does_not_end_tls() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let update = "UPDATE flows SET byte_count = 'lots' WHERE id = 15000";
    Connection::open(&path)
        .unwrap()
        .execute(update, [])
        .unwrap();
    let (server, authority) = server(folder.path(), &path, "");
    for version in VERSIONS {
        for _ in 0..5 {
            let tls = ask(&server, authority.client(version), &format!("{FLOWS}.csv"));
            let mut reader = BufReader::new(tls);
            assert_eq!(Reply::head(&mut reader).status, 200);
            let rest = broken(reader);
            assert!(!rest.ends_with(b"\r\n0\r\n\r\n"));
        }
    }
    server.logged(&["broken: stream flows", "record with id 15000"]);
}

#[test]
fn a_server_that_is_killed_or_stopped_resets_its_streams() {
    for signal in ["KILL", "TERM"] {
        let folder = folder();
        let path = generated(folder.path(), 300_000);
        let (mut server, authority) =
            server(folder.path(), &path, "[server]\nshutdown_seconds = 0\n");
        let mut reader = BufReader::new(ask(&server, authority.client(&TLS13), FLOWS));
        assert_eq!(Reply::head(&mut reader).status, 200);
        server.signal(signal);
        server.ended();
        broken(reader);
    }
}

#[test]
fn a_client_that_takes_nothing_is_cut_off_and_one_that_takes_little_is_not() {
    let folder = folder();
    let configuration = "[server]\nstall_seconds = 2\n[database]\npool_size = 2\n";
    let path = generated(folder.path(), 300_000);
    let (server, authority) = server(folder.path(), &path, configuration);
    let started = |path| {
        let mut reader = BufReader::new(ask(&server, authority.client(&TLS13), path));
        assert_eq!(Reply::head(&mut reader).status, 200);
        reader
    };
    let stalled = started(FLOWS);
    let mut slow = started(FLOWS);
    let start = Instant::now();
    let mut part = [0; 64 << 10];
    while start.elapsed() < Duration::from_secs(6) {
        slow.read_exact(&mut part).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    server.logged(&[r#"ended="stalled: the client took nothing of it for 2 s""#]);
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"]\n\r\n0\r\n\r\n"));
    broken(stalled);
}

#[test]
fn a_client_that_leaves_gives_the_connection_back() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let one = "[database]\npool_size = 1\nwait_ms = 60000\n";
    let (server, authority) = server(folder.path(), &path, one);
    // It leaves without a word, or as TLS does.
    for says_so in [false, true] {
        let mut reader = BufReader::new(ask(&server, authority.client(&TLS13), FLOWS));
        assert_eq!(Reply::head(&mut reader).status, 200);
        if says_so {
            reader.get_mut().conn.send_close_notify();
            reader.get_mut().flush().unwrap();
        } else {
            drop(reader);
        }
        let left = Instant::now();
        let next = ask(
            &server,
            authority.client(&TLS13),
            &format!("{FLOWS}?limit=1"),
        );
        assert!(Reply::read(next).complete);
        assert!(
            left.elapsed() < Duration::from_secs(2),
            "{:?}",
            left.elapsed()
        );
    }
    server.logged(&[r#"ended="client left""#]);
}

#[test]
fn a_complete_stream_arrives_even_if_it_is_read_after_the_server_has_gone() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let (mut server, authority) = server(folder.path(), &path, "");
    let mut tls = ask(&server, authority.client(&TLS13), &format!("{FLOWS}.csv"));
    // Its handshake needs the client; then it is more than one chunk, and less than a socket holds.
    tls.flush().unwrap();
    server.logged(&[r#"ended="complete""#]);
    std::thread::sleep(Duration::from_millis(500));
    server.signal("TERM");
    server.ended();
    let reply = Reply::read(&mut tls);
    assert!(reply.complete);
    assert_eq!(reply.body.lines().count(), 20_001);
    assert_eq!(tls.read_to_end(&mut Vec::new()).unwrap(), 0);
}

/// The certificate that a server shows.
fn shown(server: &Server, authority: &Authority) -> Vec<u8> {
    let mut tls: Tls = ask(
        server,
        authority.client(&TLS13),
        &format!("{FLOWS}?limit=1"),
    );
    assert!(Reply::read(&mut tls).complete);
    tls.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_new_certificate_is_taken_at_sighup_and_a_broken_one_is_not() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let (server, authority) = server(folder.path(), &path, "");
    let mut running = BufReader::new(ask(&server, authority.client(&TLS13), FLOWS));
    assert_eq!(Reply::head(&mut running).status, 200);
    let mut kept = connect(&server, authority.client(&TLS13));
    let mut ask_again = || {
        write!(kept, "GET {FLOWS}?limit=1 HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert!(Reply::read(&mut kept).complete);
    };
    ask_again();
    let old = shown(&server, &authority);

    authority.issue_to(folder.path());
    server.signal("HUP");
    server.logged(&["SIGHUP: the configuration was read again"]);
    let new = shown(&server, &authority);
    assert_ne!(old, new);
    ask_again();

    let (other, _) = authority.issue(2100);
    for (file, text) in [("cert.pem", ""), ("cert.pem", other.as_str())] {
        let right = fs::read(folder.path().join(file)).unwrap();
        fs::write(folder.path().join(file), text).unwrap();
        let before = server.log().matches("stays as it was").count();
        server.signal("HUP");
        wait_until("the broken file is refused", || {
            server.log().matches("stays as it was").count() > before
        });
        fs::write(folder.path().join(file), right).unwrap();
        assert_eq!(shown(&server, &authority), new);
    }
    server.logged(&[
        "ERROR",
        "stays as it was",
        "server.tls.cert",
        "no certificate",
    ]);
    server.logged(&[
        "ERROR",
        "stays as it was",
        "server.tls.key",
        "is not the key of",
    ]);

    let mut rest = Vec::new();
    running.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"]\n\r\n0\r\n\r\n"));
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let folder = folder();
    let path = ten_records(folder.path());
    let authority = Authority::new("test");
    let (certificate, key) = authority.issue(2100);
    let (other, _) = authority.issue(2100);
    let (expired, key_of_expired) = authority.issue(2021);
    authority.write(&folder.path().join("ca.pem"));
    let of_authority = fs::read_to_string(folder.path().join("ca.pem")).unwrap();
    let cut = &certificate[..certificate.len() - 30];
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    let written = |certificate: Option<&str>, key: Option<&str>| {
        for (name, text) in [("cert.pem", certificate), ("key.pem", key)] {
            let _ = fs::remove_file(folder.path().join(name));
            if let Some(text) = text {
                fs::write(folder.path().join(name), text).unwrap();
            }
        }
    };
    fs::write(folder.path().join("test.toml"), TLS).unwrap();
    let database = path.to_str().unwrap();
    let command = |name| {
        let listen = ["--listen", "127.0.0.1:0"];
        let mut arguments = vec![name, "--config", "test.toml", "--database", database];
        if name == "serve" {
            arguments.extend(listen);
        }
        run(folder.path(), &arguments)
    };
    for (certificate, key, parts) in [
        (
            None,
            Some(&*key),
            [
                "server.tls.cert: cert.pem",
                "No such file",
                "working directory",
            ],
        ),
        (
            Some(&*certificate),
            None,
            [
                "server.tls.key: key.pem",
                "No such file",
                "working directory",
            ],
        ),
        (
            Some("hello"),
            Some(&key),
            ["server.tls.cert", "no certificate", "PEM"],
        ),
        (Some(cut), Some(&key), ["server.tls.cert", "not PEM", "END"]),
        (
            Some(garbage),
            Some(&key),
            ["server.tls.cert", "cannot be used", "cert.pem"],
        ),
        (
            Some(&certificate),
            Some(&certificate),
            ["server.tls.key", "no private key", "PEM"],
        ),
        (
            Some(&certificate),
            Some(encrypted),
            ["server.tls.key", "encrypted", "openssl pkey"],
        ),
        (
            Some(&certificate),
            Some(no_key),
            ["server.tls.key", "cannot be used", "ECDSA"],
        ),
        (
            Some(&other),
            Some(&key),
            [
                "server.tls.key: key.pem is not the key of",
                "first",
                "cert.pem",
            ],
        ),
        (
            Some(&(of_authority + &certificate)),
            Some(&key),
            ["server.tls.key", "not the key of", "first"],
        ),
    ] {
        written(certificate, key);
        command("serve").failed(2, &parts);
        let ran = command("check");
        assert_eq!(ran.code, Some(2), "{ran:?}");
        for part in parts {
            assert!(ran.stdout.contains(part), "no {part:?} in {}", ran.stdout);
        }
    }
    fs::write(
        folder.path().join("test.toml"),
        "[server.tls]\ncert = \"cert.pem\"\n",
    )
    .unwrap();
    command("check").failed(2, &["server.tls", "key", "test.toml"]);
    fs::write(folder.path().join("test.toml"), TLS).unwrap();

    // An intermediate certificate may follow; it says until when the server's own is valid.
    written(Some(&(certificate.clone() + &other)), Some(&key));
    let fine = command("check").fine();
    assert!(
        fine.contains("TLS by cert.pem, which is valid until Fri, 01 Jan 2100"),
        "{fine}"
    );
    written(Some(&expired), Some(&key_of_expired));
    let warned = command("check").fine();
    assert!(
        warned.contains("warning: server.tls.cert: cert.pem expired at Fri, 01 Jan 2021"),
        "{warned}"
    );
    let server = Server::with(folder.path(), &path, TLS);
    server.logged(&["WARN", "expired at Fri, 01 Jan 2021", "SIGHUP"]);
    let mut tls = connect(&server, authority.client(&TLS13));
    let refused = tls.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert!(refused.to_string().contains("xpired"), "{refused}");
}

#[test]
#[ignore = "needs openssl: tests/run installs it"]
fn keys_of_every_kind_serve() {
    let folder = folder();
    let path = ten_records(folder.path());
    for make in [
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem && grep -q 'BEGIN EC PRIVATE' key.pem",
        "openssl genrsa -traditional -out key.pem 2048 && grep -q 'BEGIN RSA PRIVATE' key.pem",
        "openssl genpkey -algorithm RSA -out key.pem && grep -q 'BEGIN PRIVATE' key.pem",
        "openssl genpkey -algorithm ed25519 -out key.pem",
        "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp384r1 -out key.pem",
    ] {
        let made = format!(
            "({make}) && openssl req -x509 -key key.pem -days 2 -out cert.pem -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        );
        let made = Command::new("sh")
            .arg("-c")
            .arg(made)
            .current_dir(folder.path())
            .output();
        assert!(made.unwrap().status.success(), "{make}");
        let server = Server::with(folder.path(), &path, TLS);
        let mut curl = Command::new("curl");
        curl.current_dir(folder.path())
            .args(["-sSf", "--cacert", "cert.pem"])
            .arg(format!(
                "https://localhost:{}{FLOWS}.csv",
                server.address.port()
            ));
        let read = Ran::from(curl.output().unwrap()).fine();
        assert_eq!(read.lines().count(), 11, "{make}");
    }
}

#[test]
#[ignore = "needs curl and tests/.venv: tests/run installs them"]
fn curl_and_python_read_streams_over_tls() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let (server, _) = server(folder.path(), &path, "");
    let url = format!("https://localhost:{}{FLOWS}.csv", server.address.port());
    let curl = |arguments: &[&str]| {
        let mut curl = Command::new("curl");
        curl.current_dir(folder.path()).args(arguments).arg(&url);
        Ran::from(curl.output().unwrap())
    };
    let read = curl(&["-sSf", "--cacert", "ca.pem"]).fine();
    assert_eq!(read.lines().count(), 20_001);
    assert_eq!(
        curl(&[
            "-sSf",
            "--cacert",
            "ca.pem",
            "--compressed",
            "--tls-max",
            "1.2"
        ])
        .fine(),
        read
    );
    // Nobody is believed without.
    assert_eq!(curl(&["-sS"]).code, Some(60));
    let asked = python("tls_client.py")
        .arg(&url)
        .arg(folder.path().join("ca.pem"))
        .output();
    assert_eq!(
        Ran::from(asked.unwrap()).fine(),
        format!("{0} {0}\n", read.len())
    );
}

#[test]
fn the_demo_stays_plain() {
    let folder = folder();
    let mut command = flows(
        folder.path(),
        &["demo", "--rows", "10", "--listen", "127.0.0.1:0"],
    );
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(folder.path().join("config/flows.toml"), TLS).unwrap();
    let mut demo = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(demo.stdout.take().unwrap()), &mut line)
        .unwrap();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(line.contains("http://127.0.0.1:"), "{line}");
}
