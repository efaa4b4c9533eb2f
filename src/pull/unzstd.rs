//! Decompresses replies, within bounds.

use std::cell::Cell;
use std::io::{self, BufReader, Read};

use zstd::stream::read::Decoder;

/// The largest window that a reply may ask memory for, 8 MiB: what HTTP allows zstd (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// How many times as much as came over the wire a reply may come to.
const RATIO: u64 = 1000;

/// How much a reply may come to however little came over the wire.
const FREE: u64 = 64 << 20;

/// What a body in zstd comes to. Where that is far more than came over the wire, a few bytes could fill
/// a disk: it breaks off, and asks for plain replies, whose bytes somebody had to send.
pub(super) struct Unzstd<'s, R: Read> {
    decoder: Decoder<'static, BufReader<Counted<R>>>,
    bytes: u64,
    plain: &'s Cell<bool>,
}

impl<'s, R: Read> Unzstd<'s, R> {
    /// `plain` is set when plain replies are wanted.
    pub(super) fn new(body: R, plain: &'s Cell<bool>) -> io::Result<Unzstd<'s, R>> {
        let mut decoder = Decoder::new(Counted { body, bytes: 0 })?;
        decoder.window_log_max(WINDOW_LOG)?;
        Ok(Unzstd {
            decoder,
            bytes: 0,
            plain,
        })
    }
}

impl<R: Read> Read for Unzstd<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoder.read(buffer)?;
        self.bytes += read as u64;
        let received = self.decoder.get_ref().get_ref().bytes;
        if self.bytes > received.saturating_mul(RATIO).saturating_add(FREE) {
            self.plain.set(true);
            let reason =
                format!("{received} bytes of zstd came to more than {RATIO} times as much");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(read)
    }
}

/// Counts the bytes of a body.
struct Counted<R> {
    body: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
