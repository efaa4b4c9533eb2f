//! A document that is small and found at once, without a thread or a channel of its own: to hand
//! it from one thread to another would take longer than to write it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Crc;
use flows_formats::{Record, RecordEncoder};

use super::coding::{Compressor, ContentCoding, Trailer};
use super::connections::Lease;
use super::{Boundary, Chunk, reply_end};
use crate::selection::{Position, Range, View};
use crate::store::{Cancel, Sink, Stop};

/// The most bytes of a small document. What is written of a larger one is thrown away.
const MOST_BYTES: usize = 64 * 1024;

/// How long a small document may take: the thread that writes it has other connections to serve.
const MOST_TIME: Duration = Duration::from_millis(1);

/// Writes the complete document on this thread, if it is small and the store is instant; `None` if it is
/// not, or if anything is wrong with it, which [`super::start`] will tell.
pub fn at_once(
    lease: &mut Lease,
    view: &Arc<View>,
    encoder: &dyn RecordEncoder,
    range: &Range,
    coding: ContentCoding,
) -> Option<Chunk> {
    if !lease.is_instant(view) {
        return None;
    }
    let encoder = encoder.fork()?;
    // A format that panics must not take the connection with it.
    catch_unwind(AssertUnwindSafe(|| {
        write(lease, view, encoder, range, coding)
    }))
    .ok()?
}

fn write(
    lease: &mut Lease,
    view: &Arc<View>,
    encoder: Box<dyn RecordEncoder>,
    range: &Range,
    coding: ContentCoding,
) -> Option<Chunk> {
    let mut small = Small {
        separator: encoder.separator(),
        encoder,
        buffer: Vec::new(),
        records: 0,
        last: None,
        replaced: 0,
        began: Instant::now(),
    };
    lease.snapshot(view, &Cancel::default()).ok()?;
    small.encoder.begin(&mut small.buffer).ok()?;
    let (mut small, scanned) = lease.scan(range, small, &Cancel::default());
    scanned.ok()?;
    let end = reply_end::after(
        lease,
        view,
        range,
        (small.records, small.last),
        &Cancel::default(),
    )
    .ok()?;
    small.encoder.flush(&mut small.buffer).ok()?;
    small.encoder.end(small.records, &mut small.buffer).ok()?;
    let (bytes, crc) = if coding == ContentCoding::Identity {
        (small.buffer, Crc::new())
    } else {
        let mut coded = Vec::new();
        let mut compressor = Compressor::new(coding, false).ok()?;
        let crc = compressor
            .code(&small.buffer, Boundary::Document, &mut coded)
            .ok()?;
        (coded, crc)
    };
    let mut chunk = Chunk {
        bytes: Bytes::from(bytes),
        crc,
        records: small.records,
        replaced: small.replaced,
        boundary: Boundary::Document,
        held: 0,
        end: Some(end),
    };
    Trailer::new(coding).follow(&mut chunk);
    Some(chunk)
}

/// A small document being written.
struct Small {
    encoder: Box<dyn RecordEncoder>,
    separator: &'static [u8],
    buffer: Vec<u8>,
    records: u64,
    /// Where the last record stands.
    last: Option<Position>,
    replaced: u64,
    began: Instant,
}

impl Sink for Small {
    fn record(&mut self, record: &Record<'_>, position: Position) -> Result<(), Stop> {
        if self.records > 0 {
            self.buffer.extend_from_slice(self.separator);
        }
        self.encoder
            .record(record, &mut self.buffer)
            .map_err(|_| Stop)?;
        self.records += 1;
        self.last = Some(position);
        if self.buffer.len() > MOST_BYTES {
            return Err(Stop);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        if self.began.elapsed() > MOST_TIME {
            return Err(Stop);
        }
        Ok(())
    }

    fn replaced(&mut self) {
        self.replaced += 1;
    }
}
