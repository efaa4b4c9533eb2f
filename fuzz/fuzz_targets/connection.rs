//! Any bytes on a connection, in any pieces: whatever comes back is replies, complete but for the last, none of
//! them a 500, and the server goes on.
#![no_main]

use arbitrary::{Arbitrary, Result, Unstructured};
use flows_fuzz::server::{Reader, ask, parsed, send};
use libfuzzer_sys::fuzz_target;

const WORDS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"OPTIONS ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b" HTTP/0.9\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b": ",
    b"/api/v1/stream/flows",
    b"/api/v1/stream/words.csv?limit=1",
    b"/api/v1/stream/logins?score=>1",
    b"?host=\"",
    b"/api/v1/streams",
    b"*",
    b"http://localhost/api/v1/streams",
    b"%",
    b"?",
    b"&",
    b"<",
    b">",
    b"\"",
    b"\0",
    b"\xFF",
    b"\xC3\xA9",
    b"Host: localhost\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: h2c\r\n",
    b"Accept: ",
    b"Accept-Encoding: ",
    b"x-request-id: ",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    b"Forwarded: for=\"[2001:db8::1]:4711\"\r\n",
    b"X-Forwarded-For: 1.2.3.4, 5.6.7.8\r\n",
    b"Authorization: Bearer ",
    b"flows_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    b"Authorization: Bearer flows_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n",
    b"Authorization: Basic eDp5\r\n",
    b"Origin: http://x\r\n",
    b"Access-Control-Request-Method: GET\r\n",
    b"hello",
    b"GET /api/v1/stream/words?limit=2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
];

#[derive(Debug)]
struct Input {
    pieces: Vec<Vec<u8>>,
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let mut pieces = vec![Vec::new()];
        while !u.is_empty() && pieces.len() < 20 {
            let last = pieces.len() - 1;
            match u.arbitrary::<u8>()? {
                0..200 => pieces[last].extend_from_slice(u.choose(WORDS)?),
                200..240 => pieces[last].push(u.arbitrary()?),
                240..250 => pieces.push(Vec::new()),
                // More than a head may have.
                250..252 => {
                    let times = u.int_in_range(2..=40)?;
                    let word = *u.choose(WORDS)?;
                    pieces[last].extend(word.repeat(times));
                }
                _ => {
                    pieces[last].extend_from_slice(&b"x".repeat(usize::from(u.arbitrary::<u16>()?)))
                }
            }
        }
        Ok(Input { pieces })
    }
}

fuzz_target!(|input: Input| {
    let pieces: Vec<&[u8]> = input.pieces.iter().map(Vec::as_slice).collect();
    // Whoever asks for a head only is not told which replies are without a body.
    let has_heads = pieces.concat().windows(4).any(|bytes| bytes == b"HEAD");
    let received = send(Reader::Pages, &pieces);
    let mut rest = &received[..];
    while !rest.is_empty() && !has_heads {
        let Some((reply, length)) = parsed(rest, true) else {
            break;
        };
        if reply.status != 100 {
            reply.is_sound();
        }
        rest = &rest[length..];
    }
    let next = ask(
        Reader::Pages,
        b"GET /api/v1/stream/words.csv?limit=1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    assert_eq!(
        (next.status, next.body.as_slice()),
        (200, &b"word,at,a b\na,2023-11-14T22:13:20Z,1\n"[..])
    );
});
