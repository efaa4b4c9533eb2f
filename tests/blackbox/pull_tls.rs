//! `flows pull` over TLS, and with a token: whom it trusts, to whom it shows the token, and that what is cut off
//! is never taken for whole.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::certificates::{Authority, TLS};
use crate::harness::{FLOWS, Ran, Server, flows, folder, generated, run, ten_records};

/// A server of these records that speaks TLS, whose certificate those trust who trust `ca.pem`.
fn server(folder: &Path, database: &Path, configuration: &str) -> Server {
    let authority = Authority::new("test");
    authority.write(&folder.join("ca.pem"));
    authority.issue_to(folder);
    Server::with(folder, database, &format!("{TLS}{configuration}"))
}

fn url(address: SocketAddr) -> String {
    format!("https://localhost:{}{FLOWS}", address.port())
}

/// Pulls, with these variables in the environment.
fn pull(folder: &Path, url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let arguments = [&["pull", url, "--to", "pulled"], arguments].concat();
    let mut command = flows(folder, &arguments);
    Ran::from(command.envs(variables.iter().copied()).output().unwrap())
}

/// The contents of the files that have their names, in order.
fn pulled(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(folder.join("pulled")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn again(folder: &Path) {
    let _ = fs::remove_dir_all(folder.join("pulled"));
}

const CA: [&str; 2] = ["--ca-file", "ca.pem"];

#[test]
fn a_stream_is_pulled_over_tls_by_whoever_trusts_the_certificate() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let server = server(folder.path(), &path, "");
    let plain = Server::of(folder.path(), &path);
    let url = url(server.address);
    for format in ["ndjson", "csv", "avro"] {
        again(folder.path());
        let arguments = [&CA[..], &["--format", format, "--max-rows", "7000"]].concat();
        pull(folder.path(), &url, &arguments, &[]).fine();
        let files = pulled(folder.path());
        assert_eq!(files.len(), 3, "{format}");
        if format == "ndjson" {
            assert!(files.concat() == plain.bytes(&format!("{FLOWS}.ndjson")));
        }
        let more = pull(folder.path(), &url, &arguments, &[]).fine();
        assert!(more.contains("nothing new"), "{more}");
    }
    server.logged(&[r#"coding="zstd""#, "records=7000"]);

    // The system's store, where OpenSSL finds it, too.
    again(folder.path());
    pull(folder.path(), &url, &[], &[("SSL_CERT_FILE", "ca.pem")]).fine();
    assert_eq!(pulled(folder.path()).len(), 1);
    again(folder.path());
    let none = [("SSL_CERT_FILE", "none.pem"), ("SSL_CERT_DIR", "none")];
    pull(folder.path(), &url, &[], &none)
        .failed(2, &["no certificates", "--ca-file", "ca-certificates"]);
    // Another authority, another name, a certificate that has expired.
    let other = Authority::new("other");
    other.write(&folder.path().join("other.pem"));
    let ran = pull(folder.path(), &url, &["--ca-file", "other.pem"], &[]);
    ran.failed(2, &["whoever signed", "--ca-file"]);
    let by_address = url.replace("localhost", "127.0.0.1");
    pull(folder.path(), &by_address, &CA, &[]).failed(2, &["certificate", "not valid for name"]);
    for (file, text) in [
        ("none.pem", None),
        ("empty.pem", Some("")),
        ("bad.pem", Some("-----BEGIN CERTIFICATE-----\n")),
    ] {
        if let Some(text) = text {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let ran = pull(folder.path(), &url, &["--ca-file", file], &[]);
        ran.failed(2, &["--ca-file", file]);
    }
    // One side speaks TLS, the other does not.
    pull(folder.path(), &url.replace("https", "http"), &[], &[]).failed(1, &["400", "https://"]);
    let to_plain = url.replace(
        &server.address.port().to_string(),
        &plain.address.port().to_string(),
    );
    pull(folder.path(), &to_plain, &CA, &[]).failed(2, &["no TLS", "http://"]);
    assert_eq!(pulled(folder.path()), Vec::<Vec<u8>>::new());
}

#[test]
fn an_expired_certificate_is_not_trusted() {
    let folder = folder();
    let server = server(folder.path(), &ten_records(folder.path()), "");
    let authority = Authority::new("test");
    authority.write(&folder.path().join("ca.pem"));
    let (certificate, key) = authority.issue(2021);
    fs::write(folder.path().join("cert.pem"), certificate).unwrap();
    fs::write(folder.path().join("key.pem"), key).unwrap();
    server.signal("HUP");
    server.logged(&["configuration was read again"]);
    let ran = pull(folder.path(), &url(server.address), &CA, &[]);
    ran.failed(2, &["certificate", "expired"]);
}

/// A relay to a server that cuts each of the first `cuts` connections off after so many bytes of replies, as
/// a proxy does that does not know of TLS: with an end, or a reset.
fn relay(to: SocketAddr, cuts: usize, after: usize, resets: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(to).unwrap());
            let (mut upwards, mut from_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            let copying = thread::spawn(move || std::io::copy(&mut from_client, &mut upwards));
            let is_cut = count.fetch_add(1, Ordering::Relaxed) < cuts;
            thread::spawn(move || {
                let mut left = if is_cut { after } else { usize::MAX };
                let mut piece = vec![0; 16 << 10];
                while left > 0 {
                    let most = left.min(piece.len());
                    match server.read(&mut piece[..most]) {
                        Ok(read) if read > 0 && client.write_all(&piece[..read]).is_ok() => {
                            left -= read
                        }
                        _ => break,
                    }
                }
                if resets && is_cut {
                    let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
                    // Whoever still holds it keeps it from being reset.
                    let _ = client.shutdown(Shutdown::Read);
                    let _ = copying.join();
                } else {
                    let _ = client.shutdown(Shutdown::Both);
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn what_is_cut_off_is_never_taken_for_whole() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let server = server(folder.path(), &path, "");
    let plain = Server::of(folder.path(), &path);
    let document = plain.bytes(&format!("{FLOWS}.ndjson"));
    // In the handshake, the head, the middle, and just before the end of about 400 KB in zstd.
    for (round, after) in [500, 1_600, 3_000, 100_000, 300_000]
        .into_iter()
        .enumerate()
    {
        again(folder.path());
        let address = relay(server.address, 1, after, round % 2 == 0);
        pull(folder.path(), &url(address), &CA, &[]).fine();
        assert!(pulled(folder.path()).concat() == document, "{after}");
    }
    again(folder.path());
    let address = relay(server.address, usize::MAX, 200_000, false);
    let ran = pull(folder.path(), &url(address), &CA, &[]);
    ran.failed(75, &["broke off"]);
    assert_eq!(pulled(folder.path()), Vec::<Vec<u8>>::new());
}

#[test]
fn a_record_that_breaks_a_stream_is_named_over_tls() {
    let folder = folder();
    let path = generated(folder.path(), 20_000);
    let update = "UPDATE flows SET byte_count = 'lots' WHERE id = 15000";
    Connection::open(&path)
        .unwrap()
        .execute(update, [])
        .unwrap();
    let server = server(folder.path(), &path, "");
    for format in ["ndjson", "parquet"] {
        again(folder.path());
        let arguments = [&CA[..], &["--max-rows", "10000", "--format", format]].concat();
        let ran = pull(folder.path(), &url(server.address), &arguments, &[]);
        ran.failed(1, &["column byte_count", "id 15000"]);
        assert_eq!(pulled(folder.path()).len(), 1, "{format}");
    }
}

/// A server that answers each request so, and keeps the requests.
fn answering(reply: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keeps = Arc::clone(&asked);
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = [0; 4096];
            let read = client.read(&mut head).unwrap_or_default();
            let request = String::from_utf8_lossy(&head[..read]).into_owned();
            keeps.lock().unwrap().push(request);
            let _ = client.write_all(format!("HTTP/1.1 {reply}").as_bytes());
        }
    });
    (address, asked)
}

const EMPTY: &str = "200 OK\r\ncontent-type: application/x-ndjson\r\nflows-position: 5:5\r\nflows-count: 0\r\n\
                     content-length: 2\r\n\r\n{}";

/// Everything that a run left behind.
fn left(folder: &Path, ran: &Ran) -> String {
    let mut text = format!("{}{}", ran.stdout, ran.stderr);
    for entry in fs::read_dir(folder.join("pulled")).into_iter().flatten() {
        let path = entry.unwrap().path();
        text += &format!(
            "{path:?} {}",
            String::from_utf8_lossy(&fs::read(&path).unwrap())
        );
    }
    text
}

#[test]
fn the_token_is_shown_to_the_server_and_to_nobody_else() {
    let folder = folder();
    let token = folder.path().join("token");
    fs::write(&token, "  from-file \nsecond line\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let (address, asked) = answering(EMPTY);
    let url = format!("http://{address}{FLOWS}");
    let file = ["--token-file", "token"];
    let variable = [("FLOWS_TOKEN", "from-environment")];
    for (arguments, variables, wanted) in [
        (&file[..], &[][..], "Bearer from-file\r\n"),
        (&[], &variable, "Bearer from-environment\r\n"),
        (&file, &variable, "Bearer from-file\r\n"),
    ] {
        again(folder.path());
        asked.lock().unwrap().clear();
        let ran = pull(folder.path(), &url, arguments, variables);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let asked = asked.lock().unwrap();
        assert!(!asked.is_empty());
        for request in &*asked {
            assert!(
                request
                    .to_ascii_lowercase()
                    .contains(&format!("authorization: {}", wanted.to_ascii_lowercase())),
                "{request}"
            );
        }
        let left = left(folder.path(), &ran);
        assert!(
            !left.contains("from-file") && !left.contains("from-environment"),
            "{left}"
        );
    }
    // A proxy of the environment would read it.
    again(folder.path());
    let (proxy, proxied) = answering(EMPTY);
    let proxy = format!("http://{proxy}");
    let variables = [
        ("http_proxy", &*proxy),
        ("HTTP_PROXY", &proxy),
        ("ALL_PROXY", &proxy),
    ];
    assert_eq!(pull(folder.path(), &url, &file, &variables).code, Some(0));
    assert_eq!(*proxied.lock().unwrap(), Vec::<String>::new());

    // Others may read the file: it is used, and that is said.
    again(folder.path());
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = pull(folder.path(), &url, &file, &[]);
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.stderr.contains("644") && ran.stderr.contains("chmod 600 token"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_token_does_not_travel_in_the_clear() {
    let folder = folder();
    let start = Instant::now();
    for host in ["example.invalid", "192.0.2.1:5000", "127.0.0.1@192.0.2.1"] {
        let url = format!("http://{host}{FLOWS}");
        let ran = pull(folder.path(), &url, &[], &[("FLOWS_TOKEN", "secret")]);
        ran.failed(2, &["in the clear", "https://", "FLOWS_TOKEN"]);
        assert!(!ran.stderr.contains("secret"));
    }
    // Nothing was asked.
    assert!(start.elapsed() < Duration::from_secs(5));
    // A redirect is not followed.
    let (other, asked_other) = answering(EMPTY);
    let to = format!("302 Found\r\nlocation: http://{other}{FLOWS}\r\ncontent-length: 0\r\n\r\n");
    let (address, asked) = answering(to.leak());
    let url = format!("http://{address}{FLOWS}");
    let ran = pull(folder.path(), &url, &[], &[("FLOWS_TOKEN", "secret")]);
    ran.failed(1, &["302", &other.to_string()]);
    assert_eq!(
        (
            asked.lock().unwrap().len(),
            asked_other.lock().unwrap().len()
        ),
        (1, 0)
    );
}

#[test]
fn what_is_no_token_is_refused_and_not_repeated() {
    let folder = folder();
    let (address, asked) = answering(EMPTY);
    let url = format!("http://{address}{FLOWS}");
    let token = folder.path().join("token");
    for (text, part) in [
        (&b""[..], "is empty"),
        (b" \nsecret\n", "is empty"),
        (b"secret words\n", "has characters that no token has"),
        (b"secret\xff\n", "has characters that no token has"),
    ] {
        fs::write(&token, text).unwrap();
        let ran = pull(folder.path(), &url, &["--token-file", "token"], &[]);
        ran.failed(2, &["--token-file token", part]);
        assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    pull(folder.path(), &url, &["--token-file", "none"], &[])
        .failed(2, &["--token-file none", "No such file"]);
    let empty = pull(folder.path(), &url, &[], &[("FLOWS_TOKEN", "")]);
    empty.failed(2, &["FLOWS_TOKEN", "is empty"]);
    assert_eq!(asked.lock().unwrap().len(), 0);
    // Other commands take no offence at the variable.
    let mut check = flows(folder.path(), &["check", "--database", "none.db"]);
    let ran = Ran::from(check.env("FLOWS_TOKEN", "x").output().unwrap());
    assert!(!ran.stderr.contains("FLOWS_TOKEN"), "{}", ran.stderr);
}

#[test]
fn who_may_not_read_is_told_at_once_and_who_asks_too_often_later() {
    let folder = folder();
    for (reply, code, parts) in [
        (
            "401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-type: application/problem+json\r\n\
             content-length: 28\r\n\r\n{\"detail\": \"who are you, hm\"}",
            2,
            ["401", "who are you"],
        ),
        (
            "403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: 23\r\n\r\n{\"detail\": \"not yours\"} ",
            2,
            ["403", "not yours"],
        ),
        (
            "429 Too Many Requests\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n",
            75,
            ["429", "the next run goes on"],
        ),
    ] {
        let (address, asked) = answering(reply);
        let start = Instant::now();
        let ran = pull(folder.path(), &format!("http://{address}{FLOWS}"), &[], &[]);
        ran.failed(code, &parts);
        assert_eq!(asked.lock().unwrap().len(), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
        again(folder.path());
    }
    // A wait that is short enough is waited for.
    let reply = "429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    let (address, asked) = answering(reply);
    pull(folder.path(), &format!("http://{address}{FLOWS}"), &[], &[]).failed(75, &["429"]);
    assert!(asked.lock().unwrap().len() > 1);
}

#[test]
fn a_token_of_the_server_reads_its_stream_over_tls() {
    let folder = folder();
    let path = ten_records(folder.path());
    let made = run(
        folder.path(),
        &["token", "new", "alice", "--streams", "flows"],
    )
    .fine();
    let (token, section) = made.split_once('\n').unwrap();
    fs::write(folder.path().join("token"), token).unwrap();
    fs::set_permissions(
        folder.path().join("token"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let server = server(folder.path(), &path, section);
    let url = url(server.address);
    let with_token = [&CA[..], &["--token-file", "token"]].concat();
    pull(folder.path(), &url, &with_token, &[]).fine();
    assert_eq!(
        pulled(folder.path())
            .concat()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
        10
    );
    server.logged(&[r#"token="alice""#]);
    pull(folder.path(), &url, &CA, &[("FLOWS_TOKEN", token)]).fine();
    again(folder.path());
    pull(folder.path(), &url, &CA, &[]).failed(2, &["401"]);
    let wrong = format!("{}x", &token[..token.len() - 1]);
    pull(folder.path(), &url, &CA, &[("FLOWS_TOKEN", &wrong)]).failed(2, &["401"]);
    assert!(!server.log().contains(token));
}
