//! Content codings (RFC 9110 section 8.4.1): each worker compresses what it has encoded, chunk by
//! chunk.
//!
//! In zstd (RFC 8878) each slice is a frame, and frames follow one another. In gzip (RFC 1952) all
//! slices are one member: each ends on a byte's boundary, none refers to what another one holds, and
//! whoever reads them in order combines their checksums into the trailer.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, get_error_name};

use super::{Boundary, Chunk};
use crate::config;

/// How a document's bytes are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCoding {
    /// zstd of that level, -7 to 19.
    Zstd(i32),
    /// gzip of that level, 1 to 9.
    Gzip(u32),
    /// As they are.
    Identity,
}

impl ContentCoding {
    /// Every coding, with the configured levels; what clients are best served with comes first.
    pub fn all(levels: &config::Compression) -> [ContentCoding; 3] {
        [
            ContentCoding::Zstd(levels.zstd_level),
            ContentCoding::Gzip(levels.gzip_level),
            ContentCoding::Identity,
        ]
    }

    /// Its name in HTTP's headers.
    pub fn name(self) -> &'static str {
        match self {
            ContentCoding::Zstd(_) => "zstd",
            ContentCoding::Gzip(_) => "gzip",
            ContentCoding::Identity => "identity",
        }
    }
}

/// A gzip member's head: deflate, no name, no time, system unknown.
const GZIP_HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];

/// The last block of a deflate stream, with nothing in it.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// What stands between two zstd frames: a skippable frame with nothing in it (RFC 8878 section
/// 3.1.2), its first half after the one and its second half before the other. Some clients (httpx
/// 0.28) take what follows for an error when a chunk of theirs ends where a frame does.
const SKIPPED: ([u8; 4], [u8; 4]) = ([0x50, 0x2A, 0x4D, 0x18], [0; 4]);

/// Codes the chunks of one slice.
pub(super) struct Compressor {
    codec: Codec,
    /// Whether there are slices before this one.
    continues: bool,
    begun: bool,
}

enum Codec {
    Zstd(CCtx<'static>),
    Gzip(Box<Compress>),
    None,
}

impl Compressor {
    /// A compressor of the first slice of a document, or of one that `continues` after others.
    pub(super) fn new(coding: ContentCoding, continues: bool) -> io::Result<Compressor> {
        let codec = match coding {
            ContentCoding::Zstd(level) => {
                let mut context = CCtx::try_create()
                    .ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
                let level = CParameter::CompressionLevel(level);
                context.set_parameter(level).map_err(zstd_error)?;
                Codec::Zstd(context)
            }
            ContentCoding::Gzip(level) => {
                let compress = Compress::new(Compression::new(level), false);
                Codec::Gzip(Box::new(compress))
            }
            ContentCoding::Identity => Codec::None,
        };
        Ok(Compressor {
            codec,
            continues,
            begun: false,
        })
    }

    /// Appends the coded bytes to `out`, so that they can be decoded without what follows, and tells
    /// their checksum where the coding needs it.
    pub(super) fn code(
        &mut self,
        bytes: &[u8],
        boundary: Boundary,
        out: &mut Vec<u8>,
    ) -> io::Result<Crc> {
        let begins = !std::mem::replace(&mut self.begun, true);
        let mut crc = Crc::new();
        match &mut self.codec {
            Codec::Zstd(context) => {
                if begins && self.continues {
                    out.extend_from_slice(&SKIPPED.1);
                }
                zstd(context, bytes, boundary != Boundary::Nothing, out)?;
                if boundary == Boundary::Slice {
                    out.extend_from_slice(&SKIPPED.0);
                }
            }
            Codec::Gzip(compress) => {
                if begins && !self.continues {
                    out.extend_from_slice(&GZIP_HEAD);
                }
                crc.update(bytes);
                deflate(compress, bytes, out)?;
            }
            Codec::None => out.extend_from_slice(bytes),
        }
        Ok(crc)
    }
}

fn zstd(context: &mut CCtx<'_>, bytes: &[u8], ends: bool, out: &mut Vec<u8>) -> io::Result<()> {
    let directive = if ends {
        ZSTD_EndDirective::ZSTD_e_end
    } else {
        ZSTD_EndDirective::ZSTD_e_flush
    };
    let mut input = InBuffer::around(bytes);
    loop {
        out.reserve(bytes.len() / 4 + 1024);
        let at = out.len();
        let mut output = OutBuffer::around_pos(out, at);
        let left = context.compress_stream2(&mut output, &mut input, directive);
        if left.map_err(zstd_error)? == 0 {
            return Ok(());
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

fn deflate(compress: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let begun = compress.total_in();
    loop {
        out.reserve(bytes.len() / 4 + 1024);
        // At most what there is.
        let taken = (compress.total_in() - begun) as usize;
        compress.compress_vec(&bytes[taken..], out, FlushCompress::Sync)?;
        if out.len() < out.capacity() {
            // With room left, everything is taken and flushed.
            return Ok(());
        }
    }
}

/// Ends a document that is read in order, as its coding demands.
#[derive(Debug)]
pub(super) struct Trailer(Option<Crc>);

impl Trailer {
    pub(super) fn new(coding: ContentCoding) -> Trailer {
        Trailer(matches!(coding, ContentCoding::Gzip(_)).then(Crc::new))
    }

    /// Takes the next chunk; the last one gets gzip's checksum and size.
    pub(super) fn follow(&mut self, chunk: &mut Chunk) {
        let Some(crc) = &mut self.0 else {
            return;
        };
        crc.combine(&chunk.crc);
        if chunk.boundary == Boundary::Document {
            let mut bytes = chunk.bytes.to_vec();
            bytes.extend_from_slice(&LAST_BLOCK);
            bytes.extend_from_slice(&crc.sum().to_le_bytes());
            bytes.extend_from_slice(&crc.amount().to_le_bytes());
            chunk.bytes = bytes.into();
        }
    }
}
