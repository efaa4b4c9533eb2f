//! A proxy that does to replies what proxies do, and worse.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// A reply on its way: its head without the empty line, and its body as it was sent.
pub(crate) struct Passing {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// How many ways there are to spoil a reply.
pub(crate) const KINDS: usize = 7;

impl Passing {
    /// Spoils a reply in the way of that number; where it is cut off, after so many thousandths.
    pub(crate) fn spoil(&mut self, kind: usize, thousandths: usize) {
        match kind {
            // The connection ends in the middle.
            0 => self.cut(thousandths),
            // So it does, and nothing says where the end would have been.
            1 => {
                self.unframe();
                self.cut(thousandths);
            }
            // What came is handed on as if it were all.
            2 => {
                self.unframe();
                self.cut(thousandths);
                self.reframe();
            }
            3 => self.strip("flows-position"),
            4 => self.strip("flows-count"),
            5 => {
                self.head = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html".to_owned();
                self.body = b"<html>".to_vec();
            }
            6 => {
                self.head.clear();
                self.body.clear();
            }
            _ => panic!("no kind {kind}"),
        }
    }

    /// Removes a header.
    pub(crate) fn strip(&mut self, name: &str) {
        let is_it = |line: &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        let lines = self.head.lines().filter(|line| !is_it(line));
        self.head = lines.collect::<Vec<_>>().join("\r\n");
    }

    /// Takes the body out of its chunks, and out of the head what tells where it ends.
    fn unframe(&mut self) {
        if self
            .head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            let mut reader = BufReader::new(&self.body[..]);
            let mut body = Vec::new();
            while let Some(chunk) = crate::harness::chunk(&mut reader).filter(|c| !c.is_empty()) {
                body.extend(chunk);
            }
            self.body = body;
        }
        self.strip("transfer-encoding");
        self.strip("content-length");
    }

    /// Says that what is left of the body is all of it.
    fn reframe(&mut self) {
        self.head += &format!("\r\ncontent-length: {}", self.body.len());
    }

    /// Cuts the body off after so many thousandths.
    fn cut(&mut self, thousandths: usize) {
        self.body.truncate(self.body.len() * thousandths / 1000);
    }
}

/// A proxy before a server. It hands on each reply as `change` leaves it, and then hangs up.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
}

impl Proxy {
    pub(crate) fn new(
        server: SocketAddr,
        mut change: impl FnMut(&mut Passing) + Send + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let Some(mut passing) = pass(&mut client, server) else {
                    continue;
                };
                change(&mut passing);
                // The client may have seen enough.
                let _ = client.write_all(format!("{}\r\n\r\n", passing.head).as_bytes());
                let _ = client.write_all(&passing.body);
            }
        });
        Proxy { address }
    }
}

/// What the server says to a request; nothing to one that never came.
fn pass(client: &mut TcpStream, server: SocketAddr) -> Option<Passing> {
    let mut request = String::new();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).ok()? == 0 {
            return None;
        }
    }
    request.insert_str(request.len() - 2, "Connection: close\r\n");
    let mut server = TcpStream::connect(server).unwrap();
    server.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(server);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    let head = head.trim_end().to_owned();
    Some(Passing { head, body })
}
