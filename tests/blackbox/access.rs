//! Tokens: who may read what.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    FLOWS, Reply, Server, assert_has, database, folder, generated, run, wait_until,
};

const TABLE: &str =
    "CREATE TABLE t (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, a INTEGER, token TEXT);
                     CREATE INDEX t_at ON t (at);
                     INSERT INTO t VALUES (1, 10, 100, 'x'), (2, 20, 200, 'y');";

/// Streams of that table.
fn streams(names: &[&str]) -> String {
    let stream = |name: &&str| {
        format!(
            "[[streams]]\nname = \"{name}\"\ntable = \"t\"\ntime = \"at\"\nid = \"id\"\n\
             default_format = \"csv\"\ncolumns = [{{ name = \"at\", type = \"integer\" }}, \
             {{ name = \"a\", type = \"integer\" }}, {{ name = \"token\", type = \"text\" }}]\n"
        )
    };
    names.iter().map(stream).collect()
}

/// A new token, and the section for it.
fn token(folder: &Path, arguments: &[&str]) -> (String, String) {
    let printed = run(folder, &[&["token", "new"], arguments].concat()).fine();
    let (token, section) = printed.split_once("\n\n").unwrap();
    (token.to_owned(), section.to_owned())
}

/// Asks with a header.
fn ask(server: &Server, path: &str, authorization: &str) -> Reply {
    server.with_head("GET", path, &format!("Authorization: {authorization}\r\n"))
}

/// What a token gets.
fn get(server: &Server, path: &str, token: &str) -> Reply {
    match token {
        "" => server.get(path),
        token => ask(server, path, &format!("Bearer {token}")),
    }
}

/// The names in a catalogue.
fn catalogue(reply: &Reply) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let streams = document["streams"].as_array().unwrap().iter();
    streams
        .map(|stream| stream["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_new_token_is_random_and_its_section_has_its_hash() {
    let folder = folder();
    let (token, section) = self::token(
        folder.path(),
        &["alice", "--streams", "a,b", "--expires", "2999-01-01"],
    );
    assert!(token.starts_with("flows_") && token.len() == 49, "{token}");
    let mut sha256sum = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    sha256sum
        .stdin
        .take()
        .unwrap()
        .write_all(token.as_bytes())
        .unwrap();
    let sum = String::from_utf8(sha256sum.wait_with_output().unwrap().stdout).unwrap();
    let hash = sum.split(' ').next().unwrap();
    assert_eq!(
        section,
        format!(
            "[[auth.tokens]]\nname = \"alice\"\nsha256 = \"{hash}\"\nstreams = [\"a\", \"b\"]\n\
             expires = \"2999-01-01\"\n"
        )
    );
    assert_ne!(self::token(folder.path(), &["alice"]).0, token);
    for (arguments, part) in [
        (&["a b"][..], "letters, digits"),
        (&["a", "--streams", "a,,b"], "names of streams"),
        (&["a", "--expires", "soon"], "2026-12-31"),
        (&["a", "--expires", "2020-01-01"], "in the future"),
    ] {
        let ran = run(folder.path(), &[&["token", "new"], arguments].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_has(&ran.stderr, &[part]);
    }
}

#[test]
fn each_caller_reads_what_is_theirs_and_hears_of_nothing_else() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (all, all_section) = token(folder.path(), &["all"]);
    let (one, one_section) = token(folder.path(), &["one", "--streams", "a"]);
    let (narrow, narrow_section) = token(folder.path(), &["narrow", "--streams", "a,b"]);
    let (expired, expired_section) = token(folder.path(), &["old"]);
    let configuration = format!(
        "[auth]\nanonymous = [\"open\"]\n{all_section}{one_section}{narrow_section}\
         columns = {{ a = [\"a\"] }}\n{expired_section}expires = 2020-01-01\n{}",
        streams(&["open", "a", "b"])
    );
    let server = Server::with(folder.path(), &path, &configuration);
    let check = ["check", "--config", "test.toml", "--database", "made.db"];
    let said = run(folder.path(), &check).stdout;
    assert_has(&said, &["warning: the token old expired at 2020-01-01"]);
    let wrong = format!("flows_{}", "A".repeat(43));

    // Callers × streams: without a token, what there is and what there is not are the same.
    for (token, statuses) in [
        ("", [200, 401, 401, 401]),
        (all.as_str(), [200, 200, 200, 404]),
        (&one, [200, 200, 403, 404]),
        (&narrow, [200, 200, 200, 404]),
        (&expired, [401; 4]),
        (&wrong, [401; 4]),
        ("x", [401; 4]),
    ] {
        for (stream, status) in ["open", "a", "b", "none"].into_iter().zip(statuses) {
            for path in ["stream/NAME", "stream/NAME.csv?limit=1", "schema/NAME"] {
                let path = format!("/api/v1/{}", path.replace("NAME", stream));
                let reply = get(&server, &path, token);
                assert_eq!(reply.status, status, "{token} {path} {}", reply.body);
                let challenge = reply.header("www-authenticate");
                match (status, token) {
                    (401, "") => assert_eq!(challenge, "Bearer realm=\"flows\""),
                    (401, _) => assert_has(
                        challenge,
                        &["Bearer realm=\"flows\", error=\"invalid_token\", error_description=\""],
                    ),
                    (403, _) => assert_has(challenge, &["error=\"insufficient_scope\""]),
                    _ => assert_eq!(challenge, ""),
                }
                let head = server.with_head(
                    "HEAD",
                    &path,
                    &match token {
                        "" => String::new(),
                        token => format!("Authorization: Bearer {token}\r\n"),
                    },
                );
                assert_eq!(head.status, status);
            }
        }
    }
    let hidden = server.get("/api/v1/stream/a?x=1").body;
    assert_eq!(hidden, server.get("/api/v1/stream/none?x=1").body);
    get(&server, "/api/v1/stream/a", &expired).problem(401, &["old", "expired at 2020-01-01"]);

    // What there is to know.
    for (token, names) in [
        ("", &["open"][..]),
        (&all, &["open", "a", "b"]),
        (&one, &["open", "a"]),
        (&narrow, &["open", "a", "b"]),
    ] {
        assert_eq!(catalogue(&get(&server, "/api/v1/streams", token)), names);
    }
    assert_eq!(get(&server, "/api/v1/streams", &wrong).status, 401);
    let problem = get(&server, "/api/v1/stream/opne", &one).problem(404, &["no stream called"]);
    assert_eq!(problem["allowed"], serde_json::json!(["open", "a"]));
    assert_eq!(problem["suggestion"], "open");
    let problem = get(&server, "/api/v1/stream/b", &one).problem(403, &["token one"]);
    assert_eq!(problem["allowed"], serde_json::json!(["open", "a"]));

    // Columns that it may not read do not exist.
    let a = "/api/v1/stream/a";
    assert_eq!(
        get(&server, a, &one).body,
        "at,a,token\n10,100,x\n20,200,y\n"
    );
    assert_eq!(get(&server, a, &narrow).body, "a\n100\n200\n");
    assert_eq!(
        get(&server, "/api/v1/stream/b", &narrow).body,
        "at,a,token\n10,100,x\n20,200,y\n"
    );
    let documents = [
        get(&server, "/api/v1/schema/a", &narrow).body,
        get(&server, "/api/v1/schema/a?dialect=bigquery", &narrow).body,
    ];
    assert!(
        documents.iter().all(|document| !document.contains("token")),
        "{documents:?}"
    );
    let filter = get(&server, &format!("{a}?at=10"), &narrow);
    let unknown = get(&server, &format!("{a}?zz=10"), &narrow);
    let known = |reply: &Reply| reply.problem(400, &["there is no parameter"])["allowed"].clone();
    assert_eq!(known(&filter), known(&unknown));
    assert!(!known(&unknown).to_string().contains("token"));
    let columns = get(&server, &format!("{a}?columns=token"), &narrow);
    let problem = columns.problem(400, &["there is no column \"token\""]);
    assert_eq!(problem["allowed"], serde_json::json!(["a"]));
    // Time and id order its records all the same.
    let after = get(&server, &format!("{a}?scanned_after=10&a=gt.1"), &narrow);
    assert_eq!(
        (after.body.as_str(), after.header("flows-position")),
        ("a\n200\n", "20:2")
    );
}

#[test]
fn what_is_no_token_is_refused() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (token, section) = token(folder.path(), &["alice"]);
    let configuration = format!("[auth]\nanonymous = [\"a\"]\n{section}{}", streams(&["a"]));
    let server = Server::with(folder.path(), &path, &configuration);
    let a = "/api/v1/stream/a";
    for right in [format!("Bearer {token}"), format!("bEARER   {token}")] {
        assert_eq!(ask(&server, a, &right).status, 200, "{right}");
    }
    for (wrong, part) in [
        (token.clone(), "another scheme"),
        (format!("Basic {token}"), "another scheme"),
        ("Bearer".to_owned(), "no token after Bearer"),
        ("Bearer ".to_owned(), "no token after Bearer"),
        (String::new(), "another scheme"),
        (format!("Bearer {token}x"), "none of those"),
        (format!("Bearer {}", &token[..48]), "none of those"),
        (format!("Bearer {token} {token}"), "none of those"),
        (format!("Bearer {}", token.to_uppercase()), "none of those"),
        (format!("Bearer {}", "x".repeat(10_000)), "longer than any"),
        ("Bearer é".to_owned(), "characters that no token has"),
        (
            format!("Bearer {token}\r\nAuthorization: Bearer {token}"),
            "more than one",
        ),
    ] {
        ask(&server, a, &wrong).problem(401, &[part]);
    }
    // The log is written beside the replies, and may be behind them.
    server.logged(&["token=\"alice\""]);
    server.logged(&["more than one"]);
    let log = server.log();
    assert!(!log.contains(&token[..20]), "{log}");
}

#[test]
fn a_token_in_the_url_is_refused_and_written_down_nowhere() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (token, section) = token(folder.path(), &["alice"]);
    let configuration = format!("{section}{}", streams(&["a"]));
    let server = Server::with(folder.path(), &path, &configuration);
    let a = "/api/v1/stream/a";
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let twice = encoded.replace('%', "%25");
    let secrets = [token.as_str(), &encoded, &twice];
    let clean = |reply: &Reply| {
        let text = format!("{reply:?}");
        assert!(
            secrets.iter().all(|secret| !text.contains(&secret[..40])),
            "{text}"
        );
    };
    for secret in secrets {
        for path in [
            format!("{a}?access_token={secret}"),
            format!("{a}?a={secret}&limit=1"),
            format!("{a}?limit={secret}"),
            format!("{a}?{secret}"),
            format!("{a}.{secret}"),
            format!("/api/v1/stream/{secret}"),
            format!("/api/v1/schema/a?dialect={secret}"),
            format!("/api/v1/streams?{secret}=1"),
        ] {
            for caller in ["", &token] {
                let reply = get(&server, &path, caller);
                reply.problem(400, &["Authorization: Bearer TOKEN"]);
                clean(&reply);
            }
        }
        for path in [format!("/{secret}"), format!("/api/{secret}?{secret}")] {
            let reply = get(&server, &path, "");
            reply.problem(404, &[]);
            clean(&reply);
        }
        // What is no request, or has it elsewhere.
        for request in [
            format!("GET {a}?a={secret}> HTTP/1.1\r\n\r\n"),
            format!("GET {a}?token={secret}&x=\" HTTP/1.1\r\n\r\n"),
            format!("{}GET /{secret}", "\r\n".repeat(480)),
        ] {
            let mut tcp = server.send(request.as_bytes());
            let _ = tcp.shutdown(std::net::Shutdown::Write);
            let _ = std::io::Read::read_to_end(&mut tcp, &mut Vec::new());
        }
    }
    // What other services call a token is one here, unless it is the name of a column.
    for name in ["access_token", "api_key", "API-Key", "apikey"] {
        for value in ["geheim", "geheim%zz", "geheim%ff"] {
            let path = format!("{a}?{name}={value}");
            for caller in ["", &token] {
                let reply = get(&server, &path, caller);
                reply.problem(400, &["Authorization: Bearer TOKEN"]);
                assert!(!reply.body.contains("geheim"), "{}", reply.body);
            }
        }
    }
    get(&server, "/api/v1/streams?token=geheim", &token).problem(400, &["Bearer TOKEN"]);
    assert_eq!(
        get(&server, &format!("{a}?token=eq.x"), &token).body,
        "at,a,token\n10,100,x\n"
    );
    // In other headers.
    for header in ["X-Request-Id", "Accept", "User-Agent", "Referer"] {
        let head = format!("Authorization: Bearer {token}\r\n{header}: {token}\r\n");
        let reply = server.with_head("GET", a, &head);
        assert!(!reply.header("x-request-id").contains(&token));
    }
    server.get("/the/last/one");
    let log = server.logged(&["/the/last/one"]) + &server.log();
    for secret in secrets {
        assert!(!log.contains(&secret[..40]), "{secret} {log}");
    }
    assert!(!log.contains("geheim"), "{log}");
    assert_has(&log, &["[redacted]"]);
}

#[test]
fn a_token_that_is_gone_works_no_more_also_where_its_holder_is_connected() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (token, section) = token(folder.path(), &["alice"]);
    let (_, other) = self::token(folder.path(), &["bob"]);
    let server = Server::with(
        folder.path(),
        &path,
        &format!("{section}{}", streams(&["a"])),
    );
    let mut kept = server.connect();
    let mut ask = || {
        let head = format!("Authorization: Bearer {token}\r\n");
        write!(
            kept,
            "GET /api/v1/stream/a HTTP/1.1\r\nHost: test\r\n{head}\r\n"
        )
        .unwrap();
        Reply::read(kept.try_clone().unwrap()).status
    };
    assert_eq!(ask(), 200);
    let reload = |configuration: String| {
        fs::write(folder.path().join("test.toml"), configuration).unwrap();
        let before = server.log().matches("SIGHUP").count();
        server.signal("HUP");
        wait_until("it was read", || {
            server.log().matches("SIGHUP").count() > before
        });
    };
    reload(format!("{other}{}", streams(&["a"])));
    assert_eq!(ask(), 401);
    reload(format!(
        "{section}streams = [\"b\"]\n{}",
        streams(&["a", "b"])
    ));
    assert_eq!(ask(), 403);
    reload(format!("{section}{}", streams(&["a"])));
    assert_eq!(ask(), 200);
}

#[test]
fn what_is_wrong_in_who_may_read_is_said() {
    let folder = folder();
    let hash = "0".repeat(64);
    let one = format!("[[auth.tokens]]\nname = 'one'\nsha256 = '{hash}'\n");
    let two = |key: &str| {
        format!(
            "{one}[[auth.tokens]]\nname = 'two'\nsha256 = '{}'\n{key}",
            "1".repeat(64)
        )
    };
    for (text, parts) in [
        (
            "[auth]\nanonymous = ['flosw']".to_owned(),
            &[
                "auth.anonymous[0] in c.toml",
                "flosw",
                "did you mean flows?",
            ][..],
        ),
        (
            "[auth]\nanonymous = ['flows', 'flows']".to_owned(),
            &["auth.anonymous[1] in c.toml", "listed once"],
        ),
        (
            "[auth]\nanonymous = 'flows'".to_owned(),
            &["auth.anonymous in c.toml", "sequence"],
        ),
        (
            "[auth]\ntoken = 1".to_owned(),
            &["auth.token in c.toml", "did you mean tokens?"],
        ),
        (
            one.replace("one", "o ne"),
            &["auth.tokens[0].name in c.toml", "letters, digits"],
        ),
        (
            one.replace(&hash, "secret"),
            &["auth.tokens[0].sha256 in c.toml", "64 hexadecimal digits"],
        ),
        (
            one.replace(&hash, &hash[1..]),
            &["auth.tokens[0].sha256 in c.toml", "64 hexadecimal digits"],
        ),
        (
            one.replace("sha256", "sha265"),
            &["auth.tokens[0].sha265 in c.toml", "did you mean sha256?"],
        ),
        (
            two("").replace("two", "one"),
            &["auth.tokens[1].name in c.toml", "a name of its own"],
        ),
        (
            two("").replace(&"1".repeat(64), &hash),
            &["auth.tokens[1].sha256 in c.toml", "\"one\" has the same"],
        ),
        (
            two("streams = ['flow']"),
            &["auth.tokens[1].streams[0] in c.toml", "did you mean flows?"],
        ),
        (
            two("streams = []"),
            &["auth.tokens[1].streams in c.toml", "left out for all"],
        ),
        (
            two("columns = { flow = ['id'] }"),
            &["auth.tokens[1].columns.flow in c.toml", "no stream"],
        ),
        (
            two("columns = { flows = [] }"),
            &[
                "auth.tokens[1].columns.flows in c.toml",
                "at least one column",
            ],
        ),
        (
            two("columns = { flows = ['tmie'] }"),
            &[
                "auth.tokens[1].columns.flows[0] in c.toml",
                "did you mean time?",
            ],
        ),
        (
            two("expires = 'soon'"),
            &["auth.tokens[1].expires in c.toml", "\"soon\"", "2026-12-31"],
        ),
        (
            two("expires = 2026-12-31T12:00:00"),
            &["auth.tokens[1].expires in c.toml", "RFC 3339"],
        ),
    ] {
        fs::write(folder.path().join("c.toml"), &text).unwrap();
        let ran = run(folder.path(), &["check", "--config", "c.toml"]);
        assert!(!ran.stderr.contains("secret"), "{ran:?}");
        ran.failed(2, parts);
    }
}

/// The connection's reply, of which nothing was read yet.
fn begin(server: &Server, path: &str, token: &str) -> std::net::TcpStream {
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\r\n");
    let tcp = server.send(head.as_bytes());
    // Another request could be faster, and take its place.
    tcp.peek(&mut [0]).unwrap();
    tcp
}

#[test]
fn a_token_has_its_requests_per_minute_also_over_a_reload() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (slow, slow_section) = token(folder.path(), &["slow"]);
    let (other, other_section) = token(folder.path(), &["other"]);
    let configuration = format!(
        "{slow_section}requests_per_minute = 30\n{other_section}{}",
        streams(&["a"])
    );
    let server = Server::with(folder.path(), &path, &configuration);
    let a = "/api/v1/stream/a";
    for path in [a, "/api/v1/streams"].into_iter().cycle().take(30) {
        assert_eq!(get(&server, path, &slow).status, 200);
    }
    let refused = get(&server, a, &slow);
    refused.problem(
        429,
        &[
            "token slow",
            "30 requests in a minute",
            "requests_per_minute",
        ],
    );
    assert_eq!(refused.header("retry-after"), "2");
    server.logged(&["token=\"slow\"", "429"]);
    // No other token pays for it.
    assert_eq!(get(&server, a, &other).status, 200);
    server.signal("HUP");
    server.logged(&["read again"]);
    let refused = get(&server, a, &slow);
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(wait));
    assert_eq!(get(&server, a, &slow).status, 200);
}

#[test]
fn a_token_has_its_streams_at_once_and_gets_them_back_however_they_end() {
    let folder = folder();
    let path = generated(folder.path(), 300_000);
    let (token, section) = token(folder.path(), &["two"]);
    let configuration = format!("[server]\nstall_seconds = 5\n{section}streams_at_once = 2\n");
    let server = Server::with(folder.path(), &path, &configuration);
    let small = format!("{FLOWS}?limit=1");
    let is_free = || get(&server, &small, &token).status == 200;
    let hold = || begin(&server, FLOWS, &token);
    let (left, _stalls) = (hold(), hold());
    wait_until("two run", || !is_free());
    let refused = get(&server, &small, &token);
    refused.problem(429, &["token two", "2 streams at once", "streams_at_once"]);
    assert_eq!(refused.header("retry-after"), "1");
    // Also over a reload; what is no stream may be asked for.
    server.signal("HUP");
    server.logged(&["read again"]);
    assert!(!is_free());
    assert_eq!(get(&server, "/api/v1/streams", &token).status, 200);
    // One leaves, one stalls, and is cut off.
    drop(left);
    wait_until("one has left", is_free);
    server.logged(&["stalled"]);
    let two_complete = || {
        // Both are read all the time: neither stalls.
        let read = |tcp| std::thread::spawn(move || Reply::read(tcp));
        let two = [hold(), hold()]
            .map(read)
            .map(|reply| reply.join().unwrap());
        two.iter()
            .all(|reply| reply.status == 200 && reply.complete)
    };
    wait_until("both are free", two_complete);
    // Complete ones and heads are over when they are there.
    for _ in 0..5 {
        assert!(is_free());
        let head = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(server.with_head("HEAD", FLOWS, &head).status, 200);
        assert_eq!(
            get(&server, &format!("{FLOWS}?limit=x"), &token).status,
            400
        );
    }
    wait_until("all are back", two_complete);
}

#[test]
fn a_reload_neither_opens_what_was_closed_nor_keeps_a_token_for_a_database_that_is_unwell() {
    let folder = folder();
    let path = database(folder.path(), TABLE);
    let (gone, gone_section) = token(folder.path(), &["gone"]);
    let (kept, kept_section) = token(folder.path(), &["kept"]);
    let streams = streams(&["a"]);
    let both = format!("{gone_section}{kept_section}{streams}");
    let server = Server::with(folder.path(), &path, &both);
    let status = |token: &str| get(&server, "/api/v1/streams", token).status;
    let reload = |configuration: &str, part: &str| {
        std::fs::write(folder.path().join("test.toml"), configuration).unwrap();
        server.signal("HUP");
        server.logged(&["SIGHUP", part]);
    };
    // The table is gone, which is not the new file's fault.
    let writer = rusqlite::Connection::open(&path).unwrap();
    writer.execute_batch("ALTER TABLE t RENAME TO u").unwrap();
    reload(&format!("{kept_section}{streams}"), "read again");
    assert_eq!((status(&gone), status(&kept)), (401, 200));
    writer.execute_batch("ALTER TABLE u RENAME TO t").unwrap();
    // The last one, at a loopback address: there may be a proxy in front of it.
    reload(&streams, "nothing says who may read any more");
    assert_eq!((status(""), status(&kept)), (401, 200));
    reload(
        &format!("[server]\ninsecure = true\n{streams}"),
        "read again",
    );
    wait_until("everybody may read", || status("") == 200);
}
