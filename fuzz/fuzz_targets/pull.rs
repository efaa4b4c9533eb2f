//! What servers, proxies and strangers may reply to `flows pull`: a file appears for each reply that is complete,
//! with exactly what it holds, and for no other; and the next run goes on.
#![no_main]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::{fs, thread};

use arbitrary::{Arbitrary, Result, Unstructured};
use flows::pull::{Pull, PullError};
use flows::selection::Order;
use flows_formats::{Format, Registry};
use flows_fuzz::folder;
use indicatif::ProgressBar;
use libfuzzer_sys::fuzz_target;

/// The records of a page that is asked for; requests for fewer look for what is wrong.
const MAX_ROWS: u64 = 70;

/// Waits between retries take no time: the standard library sleeps by this function of the C library, which the
/// program's own stands in for.
#[unsafe(no_mangle)]
pub extern "C" fn clock_nanosleep(_: i32, _: i32, _: *const u8, _: *mut u8) -> i32 {
    0
}

/// The same, for where it sleeps by this one.
#[unsafe(no_mangle)]
pub extern "C" fn nanosleep(_: *const u8, _: *mut u8) -> i32 {
    0
}

#[derive(Debug)]
struct Input {
    format: &'static Format,
    order: Order,
    filtered: bool,
    replies: Vec<Reply>,
}

#[derive(Debug)]
enum Reply {
    Made(Made),
    /// Bytes, and then the connection ends.
    Raw(Vec<u8>),
}

/// A reply as HTTP has them.
#[derive(Debug)]
struct Made {
    status: u16,
    media_type: Option<&'static str>,
    position: Option<String>,
    link: bool,
    table_end: Option<&'static str>,
    count: Option<&'static str>,
    retry_after: Option<&'static str>,
    coding: Coding,
    framing: Framing,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Coding {
    Plain,
    Zstd,
    /// Zstd, of which the end is missing.
    HalfZstd,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Length,
    /// More was promised than came.
    Short(u16),
    Chunked(u8),
    /// Without the last chunk.
    HalfChunked(u8),
    /// Up to the end of the connection.
    None,
}

/// What is left to reply, and what files that should make.
#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    filtered: bool,
    order: Order,
    media_types: &'static [&'static str],
    files: Vec<Vec<u8>>,
    /// Whether it is not known which of the replies were complete.
    vague: bool,
}

static CURRENT: LazyLock<Mutex<Arc<Mutex<Script>>>> = LazyLock::new(Mutex::default);

static FORMATS: LazyLock<Registry> = LazyLock::new(|| Registry::load().unwrap());

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let script = Arc::clone(&CURRENT.lock().unwrap());
            thread::spawn(move || serve(client.unwrap(), &script));
        }
    });
    address
});

/// Replies to one request after another.
fn serve(mut client: TcpStream, script: &Mutex<Script>) {
    let mut head = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            match client.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(read) => head.extend_from_slice(&piece[..read]),
            }
        }
        let asked = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let (bytes, goes_on) = script.lock().unwrap().next(&asked);
        if client.write_all(&bytes).is_err() || !goes_on {
            return;
        }
    }
}

impl Script {
    /// The bytes of the next reply, and whether the connection goes on after it.
    fn next(&mut self, head: &str) -> (Vec<u8>, bool) {
        match self.replies.pop_front() {
            None => (
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
                true,
            ),
            Some(Reply::Raw(bytes)) => {
                self.vague = true;
                (bytes, false)
            }
            Some(Reply::Made(made)) => {
                let query = head
                    .split(' ')
                    .nth(1)
                    .and_then(|target| target.split_once('?'))
                    .unwrap()
                    .1;
                let parameter =
                    |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
                let after =
                    parameter("after=").map(|after| after.replace("%3A", ":").replace("%25", "%"));
                let is_page = parameter("limit=") == Some(&MAX_ROWS.to_string());
                if is_page && self.makes_file(&made, after.as_deref()) {
                    self.files.push(made.payload.clone());
                }
                made.bytes()
            }
        }
    }

    fn makes_file(&self, made: &Made, after: Option<&str>) -> bool {
        let position = made.position.as_deref();
        made.status == 200
            && made
                .media_type
                .is_some_and(|media_type| self.media_types.contains(&media_type))
            && position.is_some_and(|position| self.order.any_position(position).is_some())
            && position != after
            && made.table_end.is_none()
            && matches!(made.coding, Coding::Plain | Coding::Zstd)
            && matches!(made.framing, Framing::Length | Framing::Chunked(_))
            && !made.payload.is_empty()
            && (!self.filtered || made.count.is_some_and(|count| count != "0"))
    }
}

impl Made {
    fn bytes(&self) -> (Vec<u8>, bool) {
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", self.status);
        let position = self.position.as_deref();
        let (link, coding) = (
            self.link.then_some("</next>; rel=\"next\""),
            match self.coding {
                Coding::Plain => None,
                Coding::Zstd | Coding::HalfZstd => Some("zstd"),
                Coding::Other => Some("br"),
            },
        );
        for (name, value) in [
            ("content-type", self.media_type),
            ("flows-position", position),
            ("link", link),
            ("flows-end", self.table_end),
            ("flows-count", self.count),
            ("retry-after", self.retry_after),
            ("content-encoding", coding),
        ] {
            if let Some(value) = value {
                head += &format!("{name}: {value}\r\n");
            }
        }
        let mut body = match self.coding {
            Coding::Plain | Coding::Other => self.payload.clone(),
            Coding::Zstd | Coding::HalfZstd => zstd::encode_all(&*self.payload, 1).unwrap(),
        };
        if self.coding == Coding::HalfZstd {
            body.pop();
        }
        let mut sent = Vec::new();
        let mut chunked = |size: u8| {
            for chunk in body.chunks(usize::from(size) + 1) {
                sent.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                sent.extend_from_slice(chunk);
                sent.extend_from_slice(b"\r\n");
            }
        };
        let goes_on = match self.framing {
            Framing::Length => {
                head += &format!("content-length: {}\r\n", body.len());
                sent = body;
                true
            }
            Framing::Short(by) => {
                head += &format!("content-length: {}\r\n", body.len() + usize::from(by) + 1);
                sent = body;
                false
            }
            Framing::Chunked(size) => {
                head += "transfer-encoding: chunked\r\n";
                chunked(size);
                sent.extend_from_slice(b"0\r\n\r\n");
                true
            }
            Framing::HalfChunked(size) => {
                head += "transfer-encoding: chunked\r\n";
                chunked(size);
                false
            }
            Framing::None => {
                sent = body;
                false
            }
        };
        (
            [head.into_bytes(), b"\r\n".to_vec(), sent].concat(),
            goes_on,
        )
    }
}

fuzz_target!(|input: Input| {
    let Input {
        format,
        order,
        filtered,
        replies,
    } = input;
    let script = Script {
        replies: replies.into(),
        filtered,
        order,
        media_types: format.media_types,
        ..Script::default()
    };
    let script = Arc::new(Mutex::new(script));
    *CURRENT.lock().unwrap() = Arc::clone(&script);
    let into = tempfile::tempdir_in(folder()).unwrap();
    let pull = Pull {
        url: format!("http://{}/api/v1/stream/s", *SERVER),
        folder: into.path().to_owned(),
        format,
        max_rows: MAX_ROWS,
        order,
        columns: None,
        bearer: None,
        ca_file: None,
        filters: if filtered {
            vec![("c".to_owned(), "1".to_owned())]
        } else {
            vec![]
        },
    };
    let pulled = pull.run(&ProgressBar::hidden());
    let files = files(into.path());
    let script = script.lock().unwrap();
    if !script.vague {
        assert!(
            files == script.files,
            "{pulled:?}: {files:?} instead of {:?}",
            script.files
        );
    }
    match pulled {
        Ok(pulled) => {
            assert_eq!(pulled.files, files.len() as u64);
            assert_eq!(
                pulled.bytes,
                files.iter().map(Vec::len).sum::<usize>() as u64
            );
        }
        Err(
            PullError::State { .. }
            | PullError::Other { .. }
            | PullError::Running { .. }
            | PullError::Write { .. },
        ) => {
            panic!("the folder is as it was left")
        }
        Err(_) => {}
    }
    drop(script);
    // Whatever came, the next run finds what this one left.
    *CURRENT.lock().unwrap() = Arc::default();
    let again = pull.run(&ProgressBar::hidden());
    assert!(matches!(again, Err(PullError::Refused { .. })), "{again:?}");
    assert_eq!(self::files(into.path()), files);
});

/// The complete files, in the order of their names, and no other.
fn files(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort_unstable();
    let is_hidden = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
    let (hidden, complete): (Vec<_>, Vec<_>) = names.into_iter().partition(is_hidden);
    assert_eq!(hidden, [".flows-pull.json", ".flows-pull.lock"]);
    for name in &complete {
        let name = name.to_str().unwrap();
        assert!(
            name.starts_with("s-0000") && !name.ends_with(".part"),
            "{name}"
        );
    }
    complete
        .iter()
        .map(|name| fs::read(folder.join(name)).unwrap())
        .collect()
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Input> {
        let formats: Vec<_> = FORMATS.iter().collect();
        let (format, order) = (*u.choose(&formats)?, *u.choose(&Order::ALL)?);
        let filtered = u.ratio(1, 4)?;
        let mut replies = Vec::new();
        while !u.is_empty() && replies.len() < 8 {
            replies.push(reply(u, format, order)?);
        }
        Ok(Input {
            format,
            order,
            filtered,
            replies,
        })
    }
}

fn reply(u: &mut Unstructured<'_>, format: &'static Format, order: Order) -> Result<Reply> {
    if u.ratio(1, 12)? {
        let mut bytes = Vec::new();
        for _ in 0..12 {
            const WORDS: &[&str] = &[
                "HTTP/1.1 200 OK\r\n",
                "HTTP/1.0 200 OK\r\n",
                "HTTP/1.1 100 Continue\r\n\r\n",
                "HTTP/1.1 206 X\r\n",
                "HTTP/1.1 304 X\r\n",
                "HTTP/1.1 503 X\r\n",
                "content-type: ",
                "application/json",
                "\r\n",
                "\r\n\r\n",
                "flows-position: 1:1\r\n",
                "flows-position: 7\r\n",
                "content-length: 3\r\n",
                "content-length: 0\r\n",
                "content-length: 99999999999999999999\r\n",
                "transfer-encoding: chunked\r\n",
                "transfer-encoding: gzip\r\n",
                "3\r\nabc\r\n",
                "0\r\n",
                "0\r\n\r\n",
                "ffffffffffffffff\r\n",
                "-1\r\n",
                "location: /\r\n",
                "link: \r\n",
                "content-encoding: zstd\r\n",
                "content-encoding: gzip\r\n",
                "flows-count: 0\r\n",
                "retry-after: 1\r\n",
                "retry-after: 99999999999999999999\r\n",
                "connection: close\r\n",
                "\0",
                ": ",
                "\t",
                "abc",
            ];
            match u.arbitrary::<u8>()? {
                0..200 => bytes.extend_from_slice(u.choose(WORDS)?.as_bytes()),
                200..240 => bytes.push(u.arbitrary()?),
                _ => break,
            }
        }
        return Ok(Reply::Raw(bytes));
    }
    let position = match u.int_in_range(0..=11)? {
        0 => None,
        1 => Some(
            u.choose(&[
                "", "../x", "1:../x", "a b", "1", "1:", ":", "-", "%25", "1:%25", "1:a%2Fb",
                "+1:1", "01:1",
            ])?
            .to_string(),
        ),
        _ => Some(match order {
            Order::Time => format!("{}:{}", u.arbitrary::<i8>()?, u.arbitrary::<i8>()?),
            Order::Id => u.arbitrary::<i8>()?.to_string(),
        }),
    };
    let rarely =
        |u: &mut Unstructured<'_>, some: &'static [&'static str]| -> Result<Option<&'static str>> {
            Ok(if u.ratio(1, 12)? {
                Some(*u.choose(some)?)
            } else {
                None
            })
        };
    let media_type = match rarely(u, &["", "text/html", "application/problem+json"])? {
        Some("") => None,
        Some(other) => Some(other),
        None => format.media_types.first().copied(),
    };
    let framing = match u.int_in_range(0..=11)? {
        0 => Framing::Short(u.arbitrary()?),
        1 => Framing::HalfChunked(u.arbitrary()?),
        2 => Framing::None,
        3..=6 => Framing::Length,
        _ => Framing::Chunked(u.arbitrary()?),
    };
    let payload: Vec<u8> = if u.ratio(1, 30)? {
        // More than one read takes.
        vec![u.arbitrary()?; 300_000]
    } else {
        u.arbitrary()?
    };
    Ok(Reply::Made(Made {
        status: if u.ratio(1, 10)? {
            *u.choose(&[204, 206, 301, 304, 400, 401, 404, 429, 500, 502, 503, 504])?
        } else {
            200
        },
        media_type,
        position,
        link: u.ratio(3, 4)?,
        table_end: rarely(u, &["none", "1:1", "x"])?,
        count: if u.ratio(1, 6)? {
            *u.choose(&[None, Some("0")])?
        } else {
            Some("3")
        },
        retry_after: rarely(u, &["0", "1", "-1", "soon", "99999999999999999999"])?,
        coding: match u.int_in_range(0..=9)? {
            0 => Coding::HalfZstd,
            1 => Coding::Other,
            2..=4 => Coding::Zstd,
            _ => Coding::Plain,
        },
        framing,
        payload,
    }))
}
