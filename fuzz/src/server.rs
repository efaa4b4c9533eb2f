//! The real server, at loopback, with a small real database: one that reads pages, and one that asks SQLite for
//! everything, so that each question has two answers.
//!
//! Servers and their client take turns on one thread: what a request does is over when its reply is there.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use flows::config::Config;
use flows::http::listeners::Listeners;
use flows::http::{App, server};
use flows::store::sqlite::Sqlite;
use flows_formats::Registry;
use rusqlite::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::folder;

/// The longest that a reply may take, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The streams that are served.
pub const STREAMS: [&str; 3] = ["flows", "logins", "words"];

/// A token of some streams and columns. Neither a reply nor the log says it.
pub const TOKEN: &str = "flows_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const CONFIGURATION: &str = include_str!("streams.toml");

const DATA: &str = include_str!("streams.sql");

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A server that reads pages where it can.
    Pages,
    /// One that asks SQLite.
    Sql,
}

struct Servers {
    runtime: Runtime,
    addresses: [SocketAddr; 2],
    /// Connections that are kept.
    clients: [Option<TcpStream>; 2],
}

static SERVERS: LazyLock<Mutex<Servers>> = LazyLock::new(|| {
    let path = folder().join("served.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch(DATA)
        .unwrap();
    tracing::subscriber::set_global_default(Log).unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let addresses = [true, false].map(|page_reader| {
        let path = path.display();
        let database =
            format!("[database]\npath = \"{path}\"\npool_size = 4\nwait_ms = 60000\npage_reader = {page_reader}\n");
        runtime.block_on(serve(&(database + CONFIGURATION)))
    });
    Mutex::new(Servers {
        runtime,
        addresses,
        clients: [None, None],
    })
});

/// Starts a server, which runs for as long as the process does.
async fn serve(configuration: &str) -> SocketAddr {
    let formats = Registry::load().unwrap();
    let config = Config::parse(configuration, &formats).unwrap();
    let listeners = Listeners::bind("127.0.0.1:0").await.unwrap();
    let address = listeners.addresses().unwrap()[0];
    let app = App::new(&config, formats, |database| Arc::new(Sqlite::new(database)));
    let (app, apps) = watch::channel(Arc::new(app.unwrap()));
    tokio::spawn(async move {
        // The configuration stays as it is.
        let _app = app;
        server::serve(listeners, 100, apps, std::future::pending()).await;
    });
    address
}

/// Reads what is logged.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of a line of the log.
struct Line;

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        assert!(!text.contains(TOKEN), "the log has a token: {field} {text}");
    }
}

/// A complete reply.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value; names are in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Panics unless the reply is a good one, or says in a problem document what is wrong with the request.
    pub fn is_sound(&self) {
        let Reply {
            status, headers, ..
        } = self;
        assert!(
            *status < 500 || *status == 505,
            "{status} {headers:?}: {}",
            String::from_utf8_lossy(&self.body)
        );
        let has_validator = self.header("etag").is_some();
        let caching = if has_validator {
            "no-cache"
        } else {
            "no-store"
        };
        assert_eq!(self.header("cache-control"), Some(caching));
        let said = format!("{headers:?} {}", String::from_utf8_lossy(&self.body));
        assert!(!said.contains(TOKEN), "the reply has the token: {said}");
        assert!(self.header("x-request-id").is_some() && self.header("date").is_some());
        if *status >= 400 {
            assert_eq!(
                self.header("content-type"),
                Some("application/problem+json")
            );
            if !self.body.is_empty() {
                let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
                assert_eq!(problem["status"], *status);
                assert!(!problem["detail"].as_str().unwrap().is_empty());
            }
        }
    }
}

/// What a server replies to one request, of which `head` ends with an empty line.
pub fn ask(reader: Reader, head: &[u8]) -> Reply {
    let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let Servers {
        runtime,
        addresses,
        clients,
    } = &mut *servers;
    let at = usize::from(reader == Reader::Sql);
    let (address, client) = (addresses[at], &mut clients[at]);
    let asked = async {
        let kept = client.take();
        let mut tcp = match kept {
            Some(tcp) => tcp,
            None => TcpStream::connect(address).await.unwrap(),
        };
        tcp.write_all(head).await.unwrap();
        let mut received = Vec::new();
        let has_body = !head.starts_with(b"HEAD ");
        loop {
            if let Some((reply, length)) = parsed(&received, has_body) {
                assert_eq!(length, received.len(), "something follows the reply");
                let closes = reply
                    .header("connection")
                    .is_some_and(|value| value.contains("close"));
                *client = (!closes).then_some(tcp);
                return reply;
            }
            let read = tcp.read_buf(&mut received).await.unwrap();
            assert!(
                read > 0,
                "no complete reply: {:?}",
                String::from_utf8_lossy(&received)
            );
        }
    };
    let reply = runtime.block_on(async { timeout(PATIENCE, asked).await });
    reply.expect("a reply in time")
}

/// What a server replies on a connection that takes these pieces one after another, and no more.
pub fn send(reader: Reader, pieces: &[&[u8]]) -> Vec<u8> {
    let servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    let address = servers.addresses[usize::from(reader == Reader::Sql)];
    let talk = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let mut received = Vec::new();
        for piece in pieces {
            // The server may have hung up.
            let _ = tcp.write_all(piece).await;
            // It reads while others wait.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        }
        let _ = tcp.shutdown().await;
        let _ = tcp.read_to_end(&mut received).await;
        received
    };
    let received = servers
        .runtime
        .block_on(async { timeout(PATIENCE, talk).await });
    received.expect("the connection ends in time")
}

/// The reply that `bytes` begin with, and its length; `None` when it is not complete.
pub fn parsed(bytes: &[u8], has_body: bool) -> Option<(Reply, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes).expect("a reply of HTTP/1.1") {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return None,
    };
    let text = |value: &[u8]| str::from_utf8(value).expect("headers are ASCII").to_owned();
    let headers = head
        .headers
        .iter()
        .map(|header| (header.name.to_ascii_lowercase(), text(header.value)));
    let mut reply = Reply {
        status: head.code.unwrap(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    let mut rest = &bytes[length..];
    if !has_body || matches!(reply.status, 100..200 | 204 | 304) {
        return Some((reply, length));
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        loop {
            let httparse::Status::Complete((start, size)) =
                httparse::parse_chunk_size(rest).unwrap()
            else {
                return None;
            };
            let size = usize::try_from(size).unwrap();
            let chunk = rest.get(start..start + size)?;
            assert!(rest.get(start + size..start + size + 2)? == b"\r\n");
            reply.body.extend_from_slice(chunk);
            rest = &rest[start + size + 2..];
            if size == 0 {
                break;
            }
        }
    } else {
        let size: usize = reply
            .header("content-length")
            .expect("a length")
            .parse()
            .unwrap();
        reply.body = rest.get(..size)?.to_vec();
        rest = &rest[size..];
    }
    Some((reply, bytes.len() - rest.len()))
}
