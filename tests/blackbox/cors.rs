//! Pages of other origins: what browsers ask, and what they are told.

use crate::harness::{FLOWS, Reply, Server, assert_has, folder, run, ten_records};

const PAGE: &str = "https://app.example";

/// Asks as a page's browser does.
fn ask(server: &Server, method: &str, origin: &str, lines: &str) -> Reply {
    let lines = format!("Origin: {origin}\r\n{lines}");
    server.with_head(method, &format!("{FLOWS}?limit=1"), &lines)
}

/// As a browser asks before it sends a token.
fn preflight(server: &Server, origin: &str) -> Reply {
    let lines = "Access-Control-Request-Method: GET\r\n\
                 Access-Control-Request-Headers: authorization\r\n\
                 Access-Control-Request-Private-Network: true\r\n";
    // A 204 has no body.
    ask_head(server, origin, lines)
}

fn ask_head(server: &Server, origin: &str, lines: &str) -> Reply {
    let head = format!("OPTIONS {FLOWS} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    let tcp = server.send(format!("{head}Origin: {origin}\r\n{lines}\r\n").as_bytes());
    Reply::head(&mut std::io::BufReader::new(tcp))
}

/// No page is told anything.
#[track_caller]
fn tells_nothing(reply: &Reply) {
    let told = reply
        .headers
        .keys()
        .find(|name| name.starts_with("access-control-"));
    assert_eq!(told, None, "{reply:?}");
}

#[test]
fn pages_of_the_configured_origins_may_read() {
    let folder = folder();
    let path = ten_records(folder.path());
    let printed = run(folder.path(), &["token", "new", "page"]).fine();
    let (token, section) = printed.split_once("\n\n").unwrap();
    let configuration = format!("[server]\ncors_origins = ['{PAGE}']\n{section}");
    let server = Server::with(folder.path(), &path, &configuration);
    let authorization = format!("Authorization: Bearer {token}\r\n");

    let allowed = preflight(&server, PAGE);
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "GET, HEAD"),
        (
            "access-control-allow-headers",
            "Authorization, Accept, X-Request-Id, traceparent, Range, If-Range, If-Match, If-None-Match",
        ),
        ("access-control-max-age", "600"),
        ("access-control-allow-private-network", ""),
        ("access-control-allow-credentials", ""),
        ("content-length", ""),
        ("vary", "origin"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(allowed.header(name), value, "{name}");
    }
    for (lines, status) in [
        (authorization.as_str(), 200),
        ("", 401),
        ("Accept: x/y\r\n", 401),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = ask(&server, method, PAGE, lines);
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("access-control-allow-origin"), PAGE);
            let exposed = reply.header("access-control-expose-headers");
            assert_has(
                exposed,
                &["Link", "Flows-Position", "WWW-Authenticate", "Retry-After"],
            );
            assert_has(reply.header("vary"), &["origin"]);
        }
    }
    let vary = ask(&server, "GET", PAGE, &authorization)
        .header("vary")
        .to_owned();
    assert_eq!(vary.to_ascii_lowercase(), "accept, accept-encoding, origin");

    // Any other page is told nothing, with a token or without.
    for origin in [
        "https://app.example.org",
        "https://app.example:444",
        "http://app.example",
        "https://APP.example",
        "null",
    ] {
        let refused = preflight(&server, origin);
        assert_eq!(refused.status, 401);
        tells_nothing(&refused);
        let reply = ask(&server, "GET", origin, &authorization);
        assert_eq!((reply.status, reply.header("vary")), (200, vary.as_str()));
        tells_nothing(&reply);
    }
    // What asks for nothing is no preflight.
    assert_eq!(ask_head(&server, PAGE, "").status, 401);
    assert_eq!(ask_head(&server, PAGE, &authorization).status, 405);
}

#[test]
fn any_page_may_read_where_that_is_configured_and_none_otherwise() {
    let folder = folder();
    let path = ten_records(folder.path());
    let any = Server::with(folder.path(), &path, "[server]\ncors_origins = ['*']");
    for origin in ["https://a.example", "null"] {
        assert_eq!(preflight(&any, origin).status, 204);
        let reply = ask(&any, "GET", origin, "");
        assert_eq!(
            (reply.status, reply.header("access-control-allow-origin")),
            (200, origin)
        );
    }
    let none = Server::of(folder.path(), &path);
    let reply = ask(&none, "GET", PAGE, "");
    assert_eq!(
        reply.header("vary").to_ascii_lowercase(),
        "accept, accept-encoding"
    );
    tells_nothing(&reply);
    let refused = preflight(&none, PAGE);
    assert_eq!(refused.status, 405);
    tells_nothing(&refused);
}

#[test]
fn no_reply_is_to_be_taken_for_what_it_does_not_say() {
    let folder = folder();
    let server = Server::of(folder.path(), &ten_records(folder.path()));
    for request in [
        format!("GET {FLOWS} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        format!("POST {FLOWS} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /> HTTP/1.1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let reply = server.raw(&request);
        assert_eq!(
            reply.header("x-content-type-options"),
            "nosniff",
            "{request}"
        );
    }
}

#[test]
fn what_is_no_origin_is_said() {
    let folder = folder();
    for wrong in [
        "https://app.example/",
        "app.example",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://*.example",
        "https://bücher.example",
        "https://",
        "",
    ] {
        let text = format!("[server]\ncors_origins = ['*', '{wrong}']");
        std::fs::write(folder.path().join("c.toml"), text).unwrap();
        let ran = run(folder.path(), &["check", "--config", "c.toml"]);
        ran.failed(
            2,
            &[
                "server.cors_origins in c.toml",
                wrong,
                "https://app.example",
            ],
        );
    }
}
