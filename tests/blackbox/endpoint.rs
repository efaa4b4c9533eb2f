//! What a request may say, and what comes back.

use std::io::{BufReader, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use crate::harness::{
    FLOWS, PATIENCE, Reply, assert_has, database, folder, generated, ten_records,
};
use crate::store::{Store, both};

/// `time` and `id` of every record in a JSON document.
fn positions(document: &str) -> Vec<(i64, i64)> {
    let records: Vec<serde_json::Value> = serde_json::from_str(document).unwrap();
    records
        .iter()
        .map(|r| (r["time"].as_i64().unwrap(), r["id"].as_i64().unwrap()))
        .collect()
}

both!(the_ten_real_records_in_every_format);
fn the_ten_real_records_in_every_format(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let (json, xml, csv) = (
        include_str!("../golden/flows.json"),
        include_str!("../golden/flows.xml"),
        include_str!("../golden/flows.csv"),
    );
    let ndjson = json
        .replace("[\n", "")
        .replace(",\n", "\n")
        .replace("]\n", "");
    let tsv = csv.replace(',', "\t");
    for (format, media_type, golden) in [
        ("json", "application/json", json),
        ("ndjson", "application/x-ndjson", &ndjson),
        ("xml", "application/xml; charset=utf-8", xml),
        ("csv", "text/csv; charset=utf-8", csv),
        ("tsv", "text/tab-separated-values; charset=utf-8", &tsv),
    ] {
        for path in [
            format!("{FLOWS}?scanned_after=0&scanned_before=1&limit=10&format={format}"),
            format!("{FLOWS}.{format}"),
            format!("{FLOWS}.{format}?format={format}"),
        ] {
            let reply = server.get(&path);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.body, golden);
            assert_eq!(reply.header("content-type"), media_type);
            let name = format!("inline; filename=\"flows.{format}\"");
            assert_eq!(reply.header("content-disposition"), name);
            assert_eq!(reply.header("content-length"), golden.len().to_string());
        }
    }
    assert_eq!(server.document(FLOWS), include_str!("../golden/flows.json"));
}

both!(empty_documents);
fn empty_documents(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let header = include_str!("../golden/flows.csv").lines().next().unwrap();
    for query in [
        "limit=0",
        "scanned_after=1",
        "scanned_before=0",
        "scanned_after=5&scanned_before=2",
    ] {
        let get = |format| server.document(&format!("{FLOWS}.{format}?{query}"));
        assert_eq!(get("json"), "[]\n");
        assert_eq!(get("csv"), format!("{header}\n"));
        assert_eq!(
            get("xml"),
            "<?xml version='1.0' encoding='UTF-8'?><records>\n</records>\n"
        );
    }
}

both!(windows_are_open_below_and_closed_above_and_in_time_id_order);
fn windows_are_open_below_and_closed_above_and_in_time_id_order(store: Store) {
    let folder = folder();
    // Inserted out of order; times and ids at the ends of what 64 bits hold.
    let (min, max) = (i64::MIN, i64::MAX);
    let rows = [
        (5, 3),
        (max, 9),
        (5, 1),
        (min, 7),
        (6, 2),
        (5, 2),
        (max, max),
        (min, min),
        (4, max),
    ];
    let values: Vec<_> = rows
        .iter()
        .map(|(time, id)| format!("({time}, {id})"))
        .collect();
    let database = database(
        folder.path(),
        &format!(
            "CREATE TABLE t (time INTEGER, id INTEGER, PRIMARY KEY (time, id)) WITHOUT ROWID;
             INSERT INTO t VALUES {};",
            values
                .join(", ")
                .replace(&min.to_string(), "-9223372036854775807 - 1")
        ),
    );
    let server = store.serve(
        folder.path(),
        &database,
        r#"
        [[streams]]
        name = "t"
        table = "t"
        time = "time"
        id = "id"
        columns = [{ name = "id", type = "integer" }, { name = "time", type = "integer" }]
        "#,
    );
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    let bounds = [
        None,
        Some(min),
        Some(min + 1),
        Some(4),
        Some(5),
        Some(6),
        Some(max - 1),
        Some(max),
    ];
    for after in bounds {
        for before in bounds {
            for limit in [None, Some(0), Some(1), Some(3), Some(max as usize)] {
                let mut query = Vec::new();
                query.extend(after.map(|after| format!("scanned_after={after}")));
                query.extend(before.map(|before| format!("scanned_before={before}")));
                query.extend(limit.map(|limit| format!("limit={limit}")));
                let expected: Vec<_> = sorted
                    .iter()
                    .filter(|(time, _)| after.is_none_or(|after| *time > after))
                    .filter(|(time, _)| before.is_none_or(|before| *time <= before))
                    .take(limit.unwrap_or(usize::MAX))
                    .copied()
                    .collect();
                let path = format!("/api/v1/stream/t?{}", query.join("&"));
                assert_eq!(positions(&server.document(&path)), expected, "{path}");
            }
        }
    }
}

both!(consecutive_windows_give_the_table);
fn consecutive_windows_give_the_table(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 20_000), "");
    let complete = server.document(&format!("{FLOWS}.csv"));
    let mut joined = String::new();
    for (after, before) in [
        (0, 1000),
        (1000, 2_000_000),
        (2_000_000, 5_011_198),
        (5_011_198, 9_000_000),
    ] {
        let part = server.document(&format!(
            "{FLOWS}.csv?scanned_after={after}&scanned_before={before}"
        ));
        let (header, records) = part.split_once('\n').unwrap();
        if joined.is_empty() {
            joined = format!("{header}\n");
        }
        joined.push_str(records);
    }
    assert!(
        complete == joined,
        "{} and {} bytes",
        complete.len(),
        joined.len()
    );
    assert_eq!(complete.lines().count(), 20_001);
}

both!(misuse_is_a_400_that_names_the_parameter_and_the_way_out);
fn misuse_is_a_400_that_names_the_parameter_and_the_way_out(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let range = "an integer from -9223372036854775808 to 9223372036854775807";
    for (query, parameter, value, parts) in [
        (
            "scaned_after=1",
            "scaned_after",
            "1",
            &["scaned_after", "did you mean scanned_after?"][..],
        ),
        ("Limit=1", "Limit", "1", &["Limit"]),
        ("=1", "", "1", &["no parameter"]),
        ("foo", "foo", "", &["foo"]),
        ("limit=1&limit=1", "limit", "1", &["more than once"]),
        ("scanned_from=x", "scanned_from", "x", &[range]),
        ("scanned_after=1.5", "scanned_after", "1.5", &["1.5", range]),
        ("scanned_after=%2B1", "scanned_after", "+1", &["+1", range]),
        ("scanned_after=+1", "scanned_after", " 1", &[range]),
        (
            "scanned_before=1e3",
            "scanned_before",
            "1e3",
            &["1e3", range],
        ),
        ("scanned_before=0x10", "scanned_before", "0x10", &[range]),
        (
            "scanned_before=9223372036854775808",
            "scanned_before",
            "9223372036854775808",
            &[range],
        ),
        (
            "scanned_before=%FF",
            "scanned_before",
            "\u{FFFD}",
            &["not UTF-8"],
        ),
        ("src_comp=%zz", "src_comp", "%zz", &["written %25"]),
        (
            "scanned_before=%D9%A1",
            "scanned_before",
            "\u{661}",
            &[range],
        ),
        (
            "limit=-1",
            "limit",
            "-1",
            &["from 0 to 9223372036854775807"],
        ),
        (
            "limit=1;DROP TABLE flows",
            "limit",
            "1;DROP TABLE flows",
            &["limit"],
        ),
        (
            "format=jsn",
            "format",
            "jsn",
            &["jsn", "did you mean json?"],
        ),
        (
            "format=JSONEachRow",
            "format",
            "JSONEachRow",
            &["did you mean ndjson?"],
        ),
        (
            "format=ArrowStream",
            "format",
            "ArrowStream",
            &["did you mean arrow?"],
        ),
        ("format=", "format", "", &["format"]),
        ("format=JSON", "format", "JSON", &["JSON"]),
    ] {
        let reply = server.get(&format!("{FLOWS}?{}", query.replace(' ', "%20")));
        let problem = reply.problem(400, parts);
        assert_eq!(problem["parameter"], parameter, "{query}");
        assert_eq!(problem["value"], value, "{query}");
        assert!(
            !problem["allowed"].as_array().unwrap().is_empty(),
            "{query}"
        );
    }
    let problem = server.get(&format!("{FLOWS}?scaned_after=1"));
    let problem = problem.problem(400, &[]);
    assert_eq!(problem["suggestion"], "scanned_after");
    assert_has(
        &problem["allowed"].to_string(),
        &["scanned_after", "scanned_before", "limit", "format"],
    );
    let reply = server.get(&format!("{FLOWS}.csv?format=json"));
    reply.problem(400, &["json", ".csv", "leave one"]);
    let long = "9".repeat(5000);
    let reply = server.get(&format!("{FLOWS}?limit={long}"));
    reply.problem(400, &["999…"]);
}

both!(what_looks_like_an_operator_is_not_taken_for_a_string);
fn what_looks_like_an_operator_is_not_taken_for_a_string(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    for (query, suggestion) in [
        ("src_comp=ilike.c1*", "like.c1*"),
        ("src_comp=neq.C1065", "ne.C1065"),
        ("src_comp=EQ.C1065", "eq.C1065"),
        ("src_comp=not.eq.C1065", "ne.C1065"),
        ("src_comp=%3E%3DC1065", "gte.C1065"),
        ("byte_count=gtr.5", "gt.5"),
        ("byte_count=%3E5", "gt.5"),
        ("byte_count%3E=5", "byte_count=gte.5"),
        ("byte_count%3C5", "byte_count=lt.5"),
    ] {
        let reply = server.get(&format!("{FLOWS}?{query}"));
        let problem = reply.problem(400, &[&format!("did you mean {suggestion}?")]);
        assert_eq!(problem["suggestion"], suggestion, "{query}");
    }
    let reply = server.get(&format!("{FLOWS}?src_comp=ilike.c1*"));
    reply.problem(400, &["no operator \"ilike\"", "eq.ilike.c1* means"]);
    for value in [
        "eq.ilike.c1*",
        "example.com",
        "C17.local",
        "en.wikipedia.org",
    ] {
        let path = format!("{FLOWS}?src_comp={value}");
        assert_eq!(server.document(&path), "[]\n", "{value}");
    }
}

both!(no_reply_is_taken_from_a_cache_unasked);
fn no_reply_is_taken_from_a_cache_unasked(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    for (path, status, expected) in [
        // It has an ETag to ask with.
        (FLOWS, 200, "no-cache"),
        ("/api/v1/stream/flows?limit=x", 400, "no-store"),
        ("/api/v1/streams", 200, "no-store"),
        ("/api/v1/schema/flows?dialect=avro", 200, "no-store"),
        ("/nothing", 404, "no-store"),
    ] {
        let reply = server.get(path);
        assert_eq!(
            (reply.status, reply.header("cache-control")),
            (status, expected),
            "{path}"
        );
    }
}

both!(many_unknown_parameters_are_refused_at_the_first);
fn many_unknown_parameters_are_refused_at_the_first(store: Store) {
    let folder = folder();
    let path = ten_records(folder.path());
    let server = store.serve(folder.path(), &path, "[server]\nurl_bytes = 65534\n");
    // Almost as many as the longest URL has room for, each another one.
    let names: Vec<_> = (0..16_000).map(|i| format!("{:03x}", 4096 + i)).collect();
    let path = format!("{FLOWS}?{}", names.join("&").replace("1", "g"));
    let answered = || {
        let start = Instant::now();
        let reply = server.get(&path[..path.len().min(65_000)]);
        reply.problem(400, &["no parameter \"g000\""]);
        start.elapsed()
    };
    let fastest = (0..5).map(|_| answered()).min().unwrap();
    // To compare each to all before it takes more than 300 ms.
    assert!(fastest.as_millis() < 100, "{fastest:?}");
}

both!(paths_methods_and_bodies);
fn paths_methods_and_bodies(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    server
        .get("/api/v1/stream/flow")
        .problem(404, &["flow", "did you mean flows?"]);
    server
        .get("/api/v1/stream/flows.cvs")
        .problem(404, &["cvs", "did you mean csv?"]);
    server
        .get("/api/v1/stream/flows.")
        .problem(404, &["extension"]);
    server
        .get("/api/v1/stream/flows.csv.gz")
        .problem(404, &["csv.gz"]);
    // What load balancers ask for unless they are told otherwise, by HTTP/1.0 too.
    for method in ["GET", "HEAD", "OPTIONS"] {
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            let request = format!("{method} / {version}\r\nHost: t\r\nConnection: close\r\n\r\n");
            let reply = server.raw(&request);
            assert_eq!(reply.status, 200, "{request}");
            assert_eq!(reply.header("allow"), "GET, HEAD, OPTIONS");
            assert_eq!(reply.body.contains("/api/v1/streams"), method != "HEAD");
        }
    }
    let post = "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    server.raw(post).problem(405, &["OPTIONS"]);
    for path in [
        "/api/v1/stream",
        "/api/v1/stream/",
        "/api/v2/stream/flows",
        "/favicon.ico",
    ] {
        server.get(path).problem(404, &[]);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let request = format!("{method} {FLOWS} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let reply = server.raw(&request);
        reply.problem(405, &[method]);
        assert_eq!(reply.header("allow"), "GET, HEAD");
    }
    for body in [
        "Content-Length: 2\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let request = format!("GET {FLOWS} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{body}");
        server.raw(&request).problem(400, &["body"]);
    }
    let request = format!("GET {FLOWS}?limit=0 HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(server.raw(&request).body, "[]\n");
}

both!(other_extensions_are_the_same_formats);
fn other_extensions_are_the_same_formats(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    for (extension, other, format) in [("ndjson", "jsonl", "ndjson"), ("arrows", "arrow", "arrow")]
    {
        let documents =
            [extension, other].map(|extension| server.get(&format!("{FLOWS}.{extension}")));
        let [first, second] = &documents;
        assert_eq!((second.status, &first.bytes), (200, &second.bytes));
        for header in ["content-type", "content-disposition"] {
            assert_eq!(first.header(header), second.header(header));
        }
        server.document(&format!("{FLOWS}.{other}?limit=0&format={format}"));
        let problem = server.get(&format!("{FLOWS}.{other}?format=csv"));
        problem.problem(400, &[&format!("the path ends in .{other}")]);
    }
    let problem = server.get(&format!("{FLOWS}?format=jsonl"));
    problem.problem(400, &["did you mean ndjson?"]);
}

both!(the_same_request_gets_the_same_bytes);
fn the_same_request_gets_the_same_bytes(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    for format in flows_formats::Registry::load().unwrap().iter() {
        let path = format!("{FLOWS}?format={}", format.name);
        assert!(server.bytes(&path) == server.bytes(&path), "{path}");
    }
}

both!(a_slash_too_many_leads_to_where_it_is_not);
fn a_slash_too_many_leads_to_where_it_is_not(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    for (path, to) in [
        ("/api/v1/stream/flows/", "../flows"),
        (
            "/api/v1/stream/flows.csv/?limit=1&src_comp=like.C*",
            "../flows.csv?limit=1&src_comp=like.C*",
        ),
        ("/api/v1/streams/", "../streams"),
        (
            "/api/v1/schema/flows/?dialect=avro",
            "../flows?dialect=avro",
        ),
    ] {
        for method in ["GET", "HEAD"] {
            let reply = server.with_head(method, path, "");
            // Relative, so that what a proxy has put before the path stays there.
            assert_eq!(
                (reply.status, reply.header("location")),
                (308, to),
                "{path}"
            );
            assert_eq!(reply.header("cache-control"), "no-store");
        }
    }
    for path in [
        "/api/v1/stream/flow/",
        "/api/v1/stream/flows.cvs/",
        "/api/v1/stream/flows//",
        "/api/v1/stream/",
        "/api/v1/streams//",
        "/api/v1/schema/flow/",
        "/api/v1/schema//",
        "/api/v1/",
        "//evil.example/",
        "//evil.example/api/v1/streams/",
        "/api/v1//evil.example/",
        "/api/v1/stream//evil.example/",
    ] {
        let reply = server.get(path);
        reply.problem(404, &[]);
        assert_eq!(reply.header("location"), "", "{path}");
    }
    server
        .get("/api/v1/stream/flow/")
        .problem(404, &["did you mean flows?"]);
}

both!(head_is_the_head_of_get);
fn head_is_the_head_of_get(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 50_000), "");
    for path in [
        format!("{FLOWS}?limit=3&format=xml"),
        format!("{FLOWS}.csv"),
        format!("{FLOWS}?limit=x"),
    ] {
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let mut reader = BufReader::new(server.send(request.as_bytes()));
        let mut head = Reply::head(&mut reader);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "a HEAD has no body");
        let mut get = server.get(&path);
        // RFC 9110 section 9.3.2: what follows from the content may be left out.
        for volatile in ["date", "x-request-id", "transfer-encoding"] {
            head.headers.remove(volatile);
            get.headers.remove(volatile);
        }
        assert_eq!(
            (head.status, head.headers),
            (get.status, get.headers),
            "{path}"
        );
    }
}

both!(request_ids_are_taken_over_if_sane);
fn request_ids_are_taken_over_if_sane(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let ask = |id: &str| {
        let request = format!(
            "GET {FLOWS}?limit=1 HTTP/1.1\r\nHost: t\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n"
        );
        server.raw(&request).header("x-request-id").to_owned()
    };
    assert_eq!(ask("job-17.a"), "job-17.a");
    server.logged(&[
        r#"id="job-17.a""#,
        r#"stream="flows""#,
        r#"format="json""#,
        r#"window="(..] limit 1""#,
        "records=1",
        "bytes=159",
        "ms=",
        r#"ended="complete""#,
    ]);
    for strange in ["a b", "a\"b", &"a".repeat(129), "", "ä"] {
        let id = ask(strange);
        assert!(id != strange && id.len() == 16, "{id}");
    }
    assert_ne!(ask(""), ask(""));
}

both!(http_1_0_gets_only_what_has_a_length);
fn http_1_0_gets_only_what_has_a_length(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 20_000), "");
    let reply = server.raw(&format!("GET {FLOWS}?limit=2 HTTP/1.0\r\n\r\n"));
    assert_eq!((reply.status, reply.complete), (200, true));
    assert_eq!(reply.header("content-length"), reply.body.len().to_string());
    let reply = server.raw(&format!("GET {FLOWS} HTTP/1.0\r\n\r\n"));
    reply.problem(505, &["HTTP/1.0", "proxy_http_version 1.1"]);
}

both!(strange_requests_get_an_answer_and_hurt_nobody);
fn strange_requests_get_an_answer_and_hurt_nobody(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let long = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(1 << 20));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for request in [
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n",
        "CONNECT example.com:443 HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET http://other/api/v1/stream/flows?limit=0 HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET //api//v1/stream/flows HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /api/v1/stream/%66%00%ff HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /api/v1/stream/flows?%&%zz=%&&& HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /api/v1/stream/flows#x HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /\u{1F600} HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /api/v1/stream/flows HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        &long,
        &headers,
    ] {
        let mut tcp = server.connect();
        // It may answer and hang up before it has read all.
        let _ = tcp.write_all(request.as_bytes());
        let _ = tcp.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let shown: String = request.chars().take(60).collect();
        assert!(!answer.contains(" 500 "), "{shown:?}: {answer}");
        assert_eq!(
            server.document(&format!("{FLOWS}?limit=0")),
            "[]\n",
            "after {shown:?}"
        );
    }
    let absolute = "GET http://other/api/v1/stream/flows?limit=0 HTTP/1.1\r\nHost: t\r\n\r\n";
    assert_eq!(server.raw(absolute).body, "[]\n");
}

both!(half_a_request_is_hung_up_on);
fn half_a_request_is_hung_up_on(store: Store) {
    let folder = folder();
    let database = ten_records(folder.path());
    let server = store.serve(folder.path(), &database, "[server]\nhead_seconds = 1");
    let start = Instant::now();
    let reply = Reply::read(server.send(b"GET /api/v1/str"));
    reply.problem(408, &["server.head_seconds"]);
    assert_eq!(reply.header("connection"), "close");
    // Who sends nothing asks for nothing.
    let mut answer = Vec::new();
    server.connect().read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"");
    let waited = start.elapsed();
    assert!(waited < PATIENCE / 4, "{waited:?}");
    server.logged(&[r#"request="GET /api/v1/str""#, r#"ended="408 "#]);
}

both!(what_is_no_request_gets_a_problem_too);
fn what_is_no_request_gets_a_problem_too(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let head = "HTTP/1.1\r\nHost: t\r\n\r\n";
    let long = format!("GET {FLOWS}?src_comp={} {head}", "a".repeat(33_000));
    let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    let large = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "b".repeat(1 << 20));
    for (request, status, parts) in [
        (
            format!("GET {FLOWS}?byte_count=>5 {head}"),
            400,
            &["did you mean byte_count=gt.5?"][..],
        ),
        (
            format!("GET {FLOWS}?byte_count>=5 {head}"),
            400,
            &["did you mean byte_count=gte.5?"],
        ),
        (
            format!("GET {FLOWS}?src_comp=\"C1\" {head}"),
            400,
            &["'\"'", "%22"],
        ),
        (
            format!("GET {FLOWS}?limit=1 0 {head}"),
            400,
            &["' '", "%20"],
        ),
        ("GET\r\n\r\n".into(), 400, &["not a request of HTTP/1.1"]),
        ("G(T / HTTP/1.1\r\n\r\n".into(), 400, &["method"]),
        ("GET / HTTP/9.9\r\n\r\n".into(), 400, &["version"]),
        (
            "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".into(),
            400,
            &["content-length"],
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            505,
            &["HTTP/1.1"],
        ),
        (long, 414, &["32768 bytes", "server.url_bytes"]),
        (lines, 431, &["100 lines"]),
        (large, 431, &["65536 bytes", "server.head_bytes"]),
    ] {
        let shown: String = request.chars().take(60).collect();
        let mut tcp = server.connect();
        // All of it is sent, and the answer read only then: it is still there.
        tcp.write_all(request.as_bytes())
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let reply = Reply::read(tcp);
        reply.problem(status, parts);
        assert_eq!(reply.header("cache-control"), "no-store");
        // It was a request, but for the length of its URL.
        let end = if status == 414 { "" } else { "close" };
        assert_eq!(reply.header("connection"), end);
        assert!(!reply.header("date").is_empty());
        server.logged(&[reply.header("x-request-id"), &format!("ended=\"{status} ")]);
    }
    // After a reply, and sent together with its request.
    let good = format!("GET {FLOWS}?limit=0 {head}");
    let mut reader = BufReader::new(server.send(format!("{good}GET /> {head}").as_bytes()));
    let first = Reply::head(&mut reader);
    assert_eq!((first.status, first.header("content-length")), (200, "3"));
    reader.read_exact(&mut [0; 3]).unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert_has(
        &rest,
        &[
            "HTTP/1.1 400 Bad Request\r\n",
            "application/problem+json",
            "invalid URI",
        ],
    );
    let reply = server.send(format!("HEAD /> {head}").as_bytes());
    let mut reader = BufReader::new(reply);
    assert_eq!(Reply::head(&mut reader).status, 400);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}
