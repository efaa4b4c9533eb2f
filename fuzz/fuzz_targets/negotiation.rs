//! `Accept` and `Accept-Encoding` of any kind: a reply is in a format and a coding that they speak of, and it is
//! the document that it is without any.
#![no_main]

use std::collections::HashMap;
use std::io::Read;
use std::sync::{LazyLock, Mutex};

use arbitrary::{Arbitrary, Result, Unstructured};
use flows_fuzz::server::{Reader, STREAMS, ask};
use flows_fuzz::tokens;
use libfuzzer_sys::fuzz_target;

const MEDIA: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "text/tab-separated-values",
    "application/xml",
    "text/xml",
    "application/avro",
    "avro/binary",
    "application/vnd.apache.arrow.stream",
    "application/vnd.apache.parquet",
    "*/*",
    "text/*",
    "application/*",
    "*",
    "/",
    ",",
    ", ",
    ";",
    ";q=",
    ";q=0",
    ";q=0.5",
    ";q=0.001",
    ";q=1.000",
    ";q=1.001",
    " ",
    "q=",
    "Q=",
    "0.",
    "1",
    "=",
    "\"",
    "\\",
    "\t",
    ";charset=utf-8",
    ";version=1",
    "APPLICATION/JSON",
    "x",
];

const CODINGS: &[&str] = &[
    "gzip",
    "x-gzip",
    "zstd",
    "identity",
    "br",
    "deflate",
    "*",
    ",",
    ", ",
    ";q=",
    ";q=0",
    ";q=0.5",
    ";q=1",
    ";q=0.000",
    ";q=0.0001",
    " ",
    "\t",
    "\"",
    "\\",
    ";",
    "GZIP",
    "0",
    "1",
    ".",
];

#[derive(Debug)]
struct Input {
    stream: &'static str,
    accept: Option<String>,
    encoding: Option<String>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let stream = *u.choose(&STREAMS)?;
        let accept = u
            .arbitrary::<bool>()?
            .then(|| tokens::text(u, MEDIA, 16))
            .transpose()?;
        let encoding = u
            .arbitrary::<bool>()?
            .then(|| tokens::text(u, CODINGS, 16))
            .transpose()?;
        Ok(Input {
            stream,
            accept,
            encoding,
        })
    }
}

/// What was asked for in plain, by stream and media type.
static PLAIN: LazyLock<Mutex<HashMap<String, Vec<u8>>>> = LazyLock::new(Mutex::default);

fuzz_target!(|input: Input| {
    let path = format!("/api/v1/stream/{}", input.stream);
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
    for (name, value) in [
        ("accept", &input.accept),
        ("accept-encoding", &input.encoding),
    ] {
        if let Some(value) = value {
            head += &format!("{name}: {value}\r\n");
        }
    }
    let reply = ask(Reader::Pages, (head + "\r\n").as_bytes());
    reply.is_sound();
    if reply.status != 200 {
        assert_eq!(reply.status, 406);
        assert!(input.accept.is_some() || input.encoding.is_some());
        return;
    }
    let media_type = reply
        .header("content-type")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let accept = input
        .accept
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let (kind, _) = media_type.split_once('/').unwrap();
    let named = [media_type, &format!("{kind}/*"), "*/*"];
    assert!(
        accept.trim().is_empty() || named.iter().any(|name| accept.contains(name)),
        "{media_type}"
    );
    let encoding = input
        .encoding
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let coding = reply.header("content-encoding");
    assert!(
        coding.is_none_or(|coding| encoding.contains(coding) || encoding.contains('*')),
        "{coding:?}"
    );
    let mut body = Vec::new();
    match coding {
        None => body.clone_from(&reply.body),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&*reply.body)
                .read_to_end(&mut body)
                .map(drop)
                .unwrap();
        }
        Some("zstd") => body = zstd::decode_all(&*reply.body).unwrap(),
        Some(coding) => panic!("{coding}"),
    }
    let key = format!("{path} {media_type}");
    let mut plain = PLAIN.lock().unwrap();
    let plain = plain.entry(key).or_insert_with(|| {
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {media_type}\r\n\r\n");
        let reply = ask(Reader::Pages, head.as_bytes());
        assert_eq!(
            (reply.status, reply.header("content-encoding")),
            (200, None)
        );
        reply.body
    });
    assert!(*plain == body);
});
