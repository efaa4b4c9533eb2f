//! Documents that are known before their head: `ETag`, conditions, ranges.

use std::io::{BufReader, Read};

use rusqlite::Connection;

use crate::harness::{FLOWS, Reply, Server, assert_has, folder, generated, ten_records};

/// A reply that has no body.
fn without_body(server: &Server, method: &str, path: &str, lines: &str) -> Reply {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    let tcp = server.send(format!("{head}{lines}\r\n").as_bytes());
    let mut reader = BufReader::new(tcp);
    let reply = Reply::head(&mut reader);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"", "{method} {path} {lines}");
    reply
}

#[test]
fn a_known_document_has_a_validator_of_its_bytes() {
    let folder = folder();
    let database = ten_records(folder.path());
    let server = Server::of(folder.path(), &database);
    let etag = |path: &str, lines: &str| {
        let reply = server.with_head("GET", path, lines);
        reply.is_complete();
        assert_eq!(reply.header("cache-control"), "no-cache");
        assert_eq!(reply.header("accept-ranges"), "bytes");
        assert_eq!(
            reply.header("content-length"),
            reply.bytes.len().to_string()
        );
        let head = without_body(&server, "HEAD", path, lines);
        for name in ["etag", "content-length", "accept-ranges", "cache-control"] {
            assert_eq!(head.header(name), reply.header(name), "{path} {lines}");
        }
        let etag = reply.header("etag").to_owned();
        assert!(etag.len() > 20 && etag.starts_with('"') && etag.ends_with('"'));
        etag
    };
    // As many as there are different replies.
    let requests = [
        (FLOWS.to_owned(), ""),
        (FLOWS.to_owned(), "Accept-Encoding: gzip\r\n"),
        (FLOWS.to_owned(), "Accept-Encoding: zstd\r\n"),
        (FLOWS.to_owned(), "Accept: text/json\r\n"),
        (format!("{FLOWS}.csv"), ""),
        (format!("{FLOWS}.avro"), ""),
        (format!("{FLOWS}.parquet"), ""),
        (format!("{FLOWS}?limit=3"), ""),
        (format!("{FLOWS}.ndjson?limit=0"), ""),
    ];
    let etags = || {
        let of_each = requests.iter().map(|(path, lines)| etag(path, lines));
        of_each.collect::<Vec<_>>()
    };
    let before = etags();
    for (at, etag) in before.iter().enumerate() {
        assert!(!before[..at].contains(etag), "{:?}", requests[at]);
    }
    assert_eq!(etags(), before);
    assert_eq!(etag(&format!("{FLOWS}?limit=03"), ""), before[7]);
    let delete = "DELETE FROM flows WHERE id = 10";
    Connection::open(&database)
        .unwrap()
        .execute(delete, [])
        .unwrap();
    for (request, (before, after)) in requests.iter().zip(before.iter().zip(etags())) {
        assert_eq!(*before == after, request.0.contains("limit"), "{request:?}");
    }
}

#[test]
fn who_has_it_already_is_told_so() {
    let folder = folder();
    let server = Server::of(folder.path(), &ten_records(folder.path()));
    let path = format!("{FLOWS}.csv?limit=3");
    let whole = server.get(&path);
    let etag = whole.header("etag");
    assert_ne!(etag, "");
    for (tags, matches) in [
        (etag.to_owned(), true),
        (format!("W/{etag}"), true),
        (format!("\"a,b\", W/\"c\" ,{etag}"), true),
        (format!("\"a\"\r\nIf-None-Match: {etag}"), true),
        ("*".to_owned(), true),
        ("\"a\", W/\"b\"".to_owned(), false),
        (etag.trim_matches('"').to_owned(), false),
        (String::new(), false),
    ] {
        for method in ["GET", "HEAD"] {
            let lines = format!("If-None-Match: {tags}\r\n");
            if !matches {
                let reply = server.with_head(method, &path, &lines);
                assert_eq!(reply.status, 200, "{tags}");
                continue;
            }
            let reply = without_body(&server, method, &path, &lines);
            assert_eq!(reply.status, 304, "{tags}");
            // RFC 9110 section 15.4.5, and what says how to go on.
            for name in ["etag", "cache-control", "vary", "link", "flows-position"] {
                assert_ne!(reply.header(name), "", "{name}");
                assert_eq!(reply.header(name), whole.header(name), "{name}");
            }
            for name in [
                "content-type",
                "content-disposition",
                "content-length",
                "transfer-encoding",
                "content-range",
            ] {
                assert_eq!(reply.header(name), "", "{name}");
            }
        }
    }
    // A condition comes before a range, and the connection stays in step.
    let asked = format!("GET {path} HTTP/1.1\r\nHost: t\r\nIf-None-Match: {etag}\r\n");
    let next = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let tcp = server.send(format!("{asked}Range: bytes=0-0\r\n\r\n{next}").as_bytes());
    let mut reader = BufReader::new(tcp);
    assert_eq!(Reply::head(&mut reader).status, 304);
    assert_eq!(Reply::read(reader).body, whole.body);
    server.logged(&["status=304", "records=0", "bytes=0", "ended=\"complete\""]);

    for (tags, status) in [
        (etag.to_owned(), 200),
        ("*".to_owned(), 200),
        (format!("\"a\", {etag}"), 200),
        (format!("W/{etag}"), 412),
        ("\"a\"".to_owned(), 412),
    ] {
        let reply = server.with_head("GET", &path, &format!("If-Match: {tags}\r\n"));
        match status {
            200 => assert_eq!(reply.body, whole.body),
            _ => drop(reply.problem(412, &["If-Match"])),
        }
    }
}

#[test]
fn a_part_of_a_known_document_can_be_asked_for() {
    let folder = folder();
    let server = Server::of(folder.path(), &ten_records(folder.path()));
    let path = format!("{FLOWS}.csv?limit=3");
    for coding in ["", "Accept-Encoding: gzip\r\n"] {
        let whole = server.with_head("GET", &path, coding);
        let (bytes, length) = (&whole.bytes, whole.bytes.len());
        let ask = |lines: &str| server.with_head("GET", &path, &format!("{coding}{lines}\r\n"));
        for (range, from, to) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=5-9".to_owned(), 5, 10),
            ("Bytes= 5-9 ".to_owned(), 5, 10),
            ("bytes=7-".to_owned(), 7, length),
            ("bytes=0-".to_owned(), 0, length),
            ("bytes=-4".to_owned(), length - 4, length),
            ("bytes=-99999999999999999999999".to_owned(), 0, length),
            ("bytes=3-99999999999999999999999".to_owned(), 3, length),
            (format!("bytes={}-{length}", length - 1), length - 1, length),
        ] {
            let part = ask(&format!("Range: {range}"));
            assert_eq!((part.status, part.complete), (206, true), "{range}");
            assert!(part.bytes == bytes[from..to], "{range}");
            let said = format!("bytes {from}-{}/{length}", to - 1);
            assert_eq!(part.header("content-range"), said);
            assert_eq!(part.header("content-length"), (to - from).to_string());
            let mut headers = part.headers;
            for own in ["content-range", "content-length", "date", "x-request-id"] {
                headers.remove(own);
            }
            for (name, value) in headers {
                assert_eq!(value, whole.header(&name), "{name}");
            }
        }
        // What is no range of bytes, or several.
        for range in [
            "bytes=0-1,4-5",
            "bytes=5-4",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=0-1\r\nRange: bytes=4-5",
            "bytes",
            "items=0-1",
            "",
        ] {
            let reply = ask(&format!("Range: {range}"));
            reply.is_complete();
            assert!(reply.bytes == *bytes, "{range}");
            assert_eq!(reply.header("content-range"), "");
        }
        for range in [
            format!("bytes={length}-"),
            format!("bytes={length}-{}", length + 1),
            "bytes=99999999999999999999999-".to_owned(),
            "bytes=-0".to_owned(),
        ] {
            let reply = ask(&format!("Range: {range}"));
            reply.problem(416, &[&length.to_string()]);
            assert_eq!(reply.header("content-range"), format!("bytes */{length}"));
            assert_eq!(reply.header("cache-control"), "no-store");
        }
        let etag = whole.header("etag");
        for (condition, status) in [
            (etag.to_owned(), 206),
            (format!("W/{etag}"), 200),
            ("\"other\"".to_owned(), 200),
            ("Tue, 01 Dec 2026 10:00:00 GMT".to_owned(), 200),
        ] {
            for range in ["bytes=1-2", "bytes=99999-"] {
                let reply = ask(&format!("If-Range: {condition}\r\nRange: {range}"));
                let status = if status == 206 && range.ends_with("99999-") {
                    416
                } else {
                    status
                };
                assert_eq!(reply.status, status, "{condition}");
            }
        }
        assert_eq!(ask(&format!("If-Range: {etag}")).status, 200);
        // It is for GET alone.
        let lines = format!("{coding}Range: bytes=0-0\r\n");
        let head = without_body(&server, "HEAD", &path, &lines);
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, length.to_string().as_str())
        );
    }
    server.logged(&["status=206", "records=0", "bytes=5 "]);
    let empty = format!("{FLOWS}.ndjson?limit=0");
    let of_none = |range: &str| server.with_head("GET", &empty, &format!("Range: {range}\r\n"));
    assert_eq!(of_none("bytes=0-").header("content-range"), "bytes */0");
    of_none("bytes=-5").is_complete();
}

#[test]
fn what_is_not_known_before_its_head_is_sent_as_it_ever_was() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 50_000));
    let whole = server.get(FLOWS);
    for lines in [
        "",
        "Range: bytes=0-9\r\n",
        "Range: bytes=999999999-\r\n",
        "If-None-Match: *\r\n",
        "If-Match: \"a\"\r\n",
        "If-Range: \"a\"\r\nRange: bytes=0-9\r\n",
    ] {
        let reply = server.with_head("GET", FLOWS, lines);
        reply.is_complete();
        assert_eq!(reply.header("transfer-encoding"), "chunked");
        assert_eq!(reply.header("cache-control"), "no-store");
        for name in ["etag", "accept-ranges", "content-range", "content-length"] {
            assert_eq!(reply.header(name), "", "{name}");
        }
        assert!(reply.bytes == whole.bytes);
    }
}

#[test]
fn pages_of_other_origins_may_ask_for_parts_and_read_what_they_are() {
    let folder = folder();
    let configuration = "[server]\ncors_origins = ['*']";
    let server = Server::with(folder.path(), &ten_records(folder.path()), configuration);
    let lines = "Origin: https://a.example\r\nRange: bytes=0-0\r\n";
    let reply = server.with_head("GET", FLOWS, lines);
    assert_eq!(reply.status, 206);
    let exposed = reply.header("access-control-expose-headers");
    assert_has(exposed, &["ETag", "Accept-Ranges", "Content-Range"]);
    let lines = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
    let allowed = without_body(&server, "OPTIONS", FLOWS, lines);
    let allowed = allowed.header("access-control-allow-headers");
    assert_has(allowed, &["Range", "If-Range", "If-None-Match"]);
}
