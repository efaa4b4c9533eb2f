//! Requests for streams with any path and query: never a 500, never a reply that breaks off, the same records
//! from pages as from SQL, and positions and links that can be gone on from.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use flows::selection::Order;
use flows_fuzz::server::{Reader, Reply, STREAMS, TOKEN, ask};
use flows_fuzz::tokens;
use libfuzzer_sys::fuzz_target;

/// What means something in a path or a query, or looks like it.
const WORDS: &[&str] = &[
    "&",
    "&",
    "&",
    "=",
    "?",
    ",",
    ":",
    "%2C",
    "%22",
    "(",
    ")",
    ".",
    "*",
    "-",
    "+",
    "%",
    "%zz",
    "%FF",
    "%00",
    "scanned_after=",
    "scanned_before=",
    "after=",
    "until=",
    "limit=",
    "order=",
    "columns=",
    "count=",
    "format=",
    "&scanned_after=",
    "&scanned_before=",
    "&after=",
    "&until=",
    "&limit=",
    "&order=",
    "&columns=",
    "&count=exact",
    "&token=",
    "&access_token=",
    "flows_",
    "%66lows_",
    "flows_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "%41",
    "A%2541",
    "&format=",
    "time",
    "id",
    "exact",
    "order=id",
    "&order=id",
    "json",
    "ndjson",
    "csv",
    "tsv",
    "xml",
    "avro",
    "arrow",
    "parquet",
    "&json.integers=string",
    "&csv.delimiter=;",
    "&csv.header=false",
    "&parquet.row_group_rows=1000",
    "&xml.timestamps=epoch",
    "json.",
    "csv.",
    "true",
    "false",
    "null",
    "eq.",
    "ne.",
    "gt.",
    "gte.",
    "lt.",
    "lte.",
    "in.",
    "in.(",
    "like.",
    "is.null",
    "not.null",
    "not.",
    "is.",
    "neq.",
    ">=",
    "!=",
    "&host=",
    "&bytes=",
    "&time=",
    "&id=",
    "&name=",
    "&score=",
    "&key=",
    "&ok=",
    "&more=",
    "&day=",
    "&price=",
    "&created_at=",
    "&word=",
    "&at=",
    "&a%20b=",
    "&a+b=",
    "now",
    "now-",
    "now+",
    "1d",
    "30m",
    "1h",
    "s",
    "ms",
    "2023-11-14T22:13:20Z",
    "2023-11-14",
    "T00:00:00",
    ".000",
    "Z",
    "%2B01:00",
    "2024-02-29T00:00:00.000Z",
    "0001-01-01",
    "9999-12-31T23:59:59.999999999Z",
    "1700000000",
    "1700003600000",
    "15:100",
    "15:",
    ":100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "-9223372036854775809",
    "170141183460469231731687303715884105727",
    "0",
    "1",
    "-1",
    "1e3",
    "1.5",
    ".25",
    "1e-400",
    "Infinity",
    "NaN",
    "-0.0",
    "C7",
    "C1*",
    "?1",
    "user%201",
    "a2V5MQ==",
    "Gr%C3%B6%C3%9Fe",
    "%EF%BF%BD",
    "%EF%BF%BDA",
    "a%2Fb%3Ac",
    "a%252Fb",
    "%25",
    "%2525",
    "{\"n\":1}",
    "[]",
    "%5B%5D",
    "'",
    "\"",
    "#",
];

const EXTENSIONS: &[&str] = &[
    "", "", "", ".json", ".ndjson", ".csv", ".tsv", ".xml", ".avro", ".arrows", ".parquet", ".x",
];

/// What lies under a stream's path, and beside it.
const PATHS: &[&str] = &[
    "/api/v1/streams",
    "/api/v1/schema/",
    "/api/v1/stream/",
    "/api/v1/",
    "/",
    "*",
];

#[derive(Debug)]
struct Input {
    method: &'static str,
    target: String,
    accept: &'static str,
    authorized: bool,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let method = match u.arbitrary::<u8>()? {
            0..10 => "HEAD",
            10..12 => "OPTIONS",
            12 => "POST",
            _ => "GET",
        };
        let mut target = if u.ratio(1, 16)? {
            let path = *u.choose(PATHS)?;
            format!(
                "{path}{}",
                tokens::text(u, &[STREAMS[0], STREAMS[1], "/", "..", "%2F"], 4)?
            )
        } else {
            format!(
                "/api/v1/stream/{}{}",
                u.choose(&STREAMS)?,
                u.choose(EXTENSIONS)?
            )
        };
        let accept = *u.choose(&["*/*", "application/json", "text/csv"])?;
        let query = tokens::text(u, WORDS, 60)?;
        if !query.is_empty() {
            target += "?";
            target += query.trim_start_matches('&');
        }
        Ok(Input {
            method,
            target,
            accept,
            authorized: u.ratio(1, 4)?,
        })
    }
}

static FORMATS: LazyLock<flows_formats::Registry> =
    LazyLock::new(|| flows_formats::Registry::load().unwrap());

fuzz_target!(|input: Input| {
    let authorization = if input.authorized {
        format!("authorization: Bearer {TOKEN}\r\n")
    } else {
        String::new()
    };
    let head = |method: &str, target: &str| {
        let accept = input.accept;
        format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n{authorization}\r\n"
        )
    };
    let asked = head(input.method, &input.target);
    let [pages, sql] = [Reader::Pages, Reader::Sql].map(|reader| ask(reader, asked.as_bytes()));
    pages.is_sound();
    sql.is_sound();
    same(&input.target, &pages, &sql);
    if pages.status != 200 || input.method != "GET" || !input.target.starts_with("/api/v1/stream/")
    {
        return;
    }
    let media_type = pages
        .header("content-type")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert!(
        FORMATS
            .iter()
            .any(|format| format.named_by().any(|named| named == media_type))
    );
    let position = pages.header("flows-position");
    let is_position = |text| {
        Order::ALL
            .iter()
            .any(|order| order.any_position(text).is_some())
    };
    if let Some(position) = position {
        assert!(is_position(position), "{position:?} is no position");
    }
    let mut link = pages.header("link").map(str::to_owned);
    for _ in 0..2 {
        let Some(next) = link else { break };
        let next = next
            .strip_prefix("<?")
            .and_then(|next| next.strip_suffix(">; rel=\"next\""))
            .expect("a link to a query");
        let (path, _) = input.target.split_once('?').unwrap_or((&input.target, ""));
        let next = format!("{path}?{next}");
        let head = head("GET", &next);
        let page = ask(Reader::Pages, head.as_bytes());
        assert_eq!(
            page.status,
            200,
            "{next}: {}",
            String::from_utf8_lossy(&page.body)
        );
        assert_eq!(page.header("content-type"), pages.header("content-type"));
        link = page.header("link").map(str::to_owned);
    }
});

/// Panics unless both replies say the same.
fn same(target: &str, pages: &Reply, sql: &Reply) {
    let said = |reply: &Reply| {
        let mut said = reply.clone();
        said.headers
            .retain(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
        // Now is another moment for each.
        let has_now = target.contains("now");
        said.headers.retain(|(name, _)| name != "link" || !has_now);
        said
    };
    let (pages, sql) = (said(pages), said(sql));
    assert_eq!(pages.status, sql.status);
    assert_eq!(pages.headers, sql.headers);
    assert!(
        pages.body == sql.body,
        "{}\nis not\n{}",
        String::from_utf8_lossy(&pages.body),
        String::from_utf8_lossy(&sql.body)
    );
}
