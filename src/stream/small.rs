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
use super::{Boundary, Chunk, ReplyEnd, reply_end};
use crate::selection::{Position, Range, View, clone_into};
use crate::store::{Cancel, Sink, Stop};

/// The most bytes of a small document. What is written of a larger one is thrown away.
const MOST_BYTES: usize = 64 * 1024;

/// How long a small document may take on a thread that has other connections to serve.
const AT_ONCE: Duration = Duration::from_millis(1);

/// How long it may take on a thread that may block.
const SHORT: Duration = Duration::from_millis(50);

/// Writes the complete document on this thread, if it is small and the store is instant; `None` if it
/// is not, or if anything is wrong with it, which [`super::start`] will tell.
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
    in_time(lease, view, encoder, range, coding, AT_ONCE)
}

/// [`at_once`] on a thread that may block, whatever the store, and the encoder: for whoever may not
/// keep the connection for long. It goes home. `None` if the format panicked. Needs a tokio runtime.
pub async fn shortly(
    mut lease: Lease,
    view: Arc<View>,
    encoder: Box<dyn RecordEncoder>,
    range: Range,
    coding: ContentCoding,
) -> Option<(Box<dyn RecordEncoder>, Option<Chunk>)> {
    let written = tokio::task::spawn_blocking(move || {
        let chunk = in_time(&mut lease, &view, &*encoder, &range, coding, SHORT);
        (encoder, chunk)
    });
    written.await.ok()
}

fn in_time(
    lease: &mut Lease,
    view: &Arc<View>,
    encoder: &dyn RecordEncoder,
    range: &Range,
    coding: ContentCoding,
    time: Duration,
) -> Option<Chunk> {
    let encoder = encoder.fork()?;
    // A format that panics must not take the connection with it.
    catch_unwind(AssertUnwindSafe(|| {
        write(lease, view, encoder, range, coding, time)
    }))
    .ok()?
}

fn write(
    lease: &mut Lease,
    view: &Arc<View>,
    encoder: Box<dyn RecordEncoder>,
    range: &Range,
    coding: ContentCoding,
    time: Duration,
) -> Option<Chunk> {
    let mut small = Small {
        separator: encoder.separator(),
        encoder,
        buffer: Vec::new(),
        records: 0,
        last: None,
        replaced: 0,
        deadline: Instant::now() + time,
    };
    lease.snapshot(view, &Cancel::default()).ok()?;
    lease.entered();
    small.encoder.begin(&mut small.buffer).ok()?;
    let (mut small, scanned) = lease.scan(range, small, &Cancel::default());
    scanned.ok()?;
    let end = reply_end::after(
        lease,
        view,
        range,
        (small.records, small.last.take()),
        &Cancel::default(),
    )
    .ok()?;
    small.encoder.flush(&mut small.buffer).ok()?;
    small.encoder.end(small.records, &mut small.buffer).ok()?;
    // A format may keep its records until then.
    if small.buffer.len() > MOST_BYTES {
        return None;
    }
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
        end: Some(ReplyEnd {
            count: Some(small.records),
            ..end
        }),
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
    deadline: Instant,
}

impl Sink for Small {
    fn record(&mut self, record: &Record<'_>, position: &Position) -> Result<(), Stop> {
        if self.records > 0 {
            self.buffer.extend_from_slice(self.separator);
        }
        self.encoder
            .record(record, &mut self.buffer)
            .map_err(|_| Stop)?;
        self.records += 1;
        clone_into(position, &mut self.last);
        if self.buffer.len() > MOST_BYTES {
            return Err(Stop);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        if Instant::now() > self.deadline {
            return Err(Stop);
        }
        Ok(())
    }

    fn replaced(&mut self) {
        self.replaced += 1;
    }
}
