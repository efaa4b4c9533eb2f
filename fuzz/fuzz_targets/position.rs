//! Anything in the place of a position: it is one for both orders' ends or for none, and cuts a stream in two
//! that are together the whole.
#![no_main]

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use arbitrary::{Arbitrary, Result, Unstructured};
use flows::selection::{Ids, Order};
use flows_fuzz::server::{Reader, STREAMS, ask};
use flows_fuzz::tokens;
use libfuzzer_sys::fuzz_target;

const WORDS: &[&str] = &[
    ":",
    ":",
    ":",
    "%3A",
    "%3a",
    "%253A",
    "-",
    "+",
    "%2B",
    "%25",
    "%2525",
    "%",
    "%20",
    "+",
    "now",
    "now-1d",
    "now-100000d",
    "15",
    "15:100",
    "0:1",
    "1700000000",
    "1700000000:a",
    "1700000003:7",
    "2023-11-14T22:13:20Z",
    "2023-11-14T22:13:20.000Z",
    "2024-02-29T00:00:00.000Z",
    "2023-11-14",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "0001-01-01T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z",
    "10000-01-01",
    "a",
    "b",
    "a%20b",
    "a%2Fb%3Ac",
    "a/b:c",
    "%C3%A9",
    "%FF",
    "%00",
    "é",
    "7",
    "32",
    "0",
    "-5",
    "-0",
    "00",
    " ",
    "T",
    "Z",
    ".",
    "000",
];

#[derive(Debug)]
struct Input {
    stream: &'static str,
    order: Order,
    text: String,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let (stream, order) = (*u.choose(&STREAMS)?, *u.choose(&Order::ALL)?);
        Ok(Input {
            stream,
            order,
            text: tokens::text(u, WORDS, 8)?,
        })
    }
}

static ALL: LazyLock<Mutex<HashMap<(&'static str, Order), Vec<u8>>>> =
    LazyLock::new(Mutex::default);

fuzz_target!(|input: Input| {
    let Input {
        stream,
        order,
        text,
    } = &input;
    for order in Order::ALL {
        if let Some(position) = order.any_position(text) {
            let written = [Ids::Integers, Ids::Strings].map(|ids| order.written(&position, ids));
            assert!(written.contains(text), "{written:?}");
        }
    }
    let read = |reader, bound: &str| {
        // A reader of URLs would take these for something else.
        let query = format!("format=ndjson&order={}{bound}", order.name());
        let head =
            format!("GET /api/v1/stream/{stream}?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let reply = ask(reader, head.as_bytes());
        reply.is_sound();
        reply
    };
    for reader in [Reader::Pages, Reader::Sql] {
        let [until, after] =
            ["until", "after"].map(|name| read(reader, &format!("&{name}={text}")));
        assert_eq!(until.status, after.status);
        if until.status != 200 {
            assert_eq!(until.status, 400);
            continue;
        }
        let mut all = ALL.lock().unwrap();
        let all = all
            .entry((stream, *order))
            .or_insert_with(|| read(Reader::Sql, "").body);
        assert!(*all == [until.body.clone(), after.body].concat());
        if let Some(position) = until.header("flows-position") {
            // What a reply says of its end means that end.
            assert!(order.any_position(position).is_some(), "{position:?}");
            assert_eq!(read(reader, &format!("&until={position}")).body, until.body);
        }
    }
});
