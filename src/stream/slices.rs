//! One document in several slices at once, by the connection that began it and its helpers.
//!
//! The range is cut into runs of about as many records as fill [`SLICE_BYTES`], or as the format
//! wants. Whoever is free takes the next run; the slices' channels queue in order, so that the document
//! is read in order.
//! When the client takes nothing, helpers leave at once: what they have begun is set aside, for the
//! stream's own connection to go on with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flows_formats::RecordEncoder;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::buffers::Buffers;
use super::connections::Lease;
use super::document::{Document, PATIENCE, Parts, Sender};
use super::{Boundary, CHUNK_BYTES, ContentCoding, Failure, Pump, Slice, StreamError};
use crate::selection::{Position, Range, View};
use crate::store::{Cancel, Find, Stop, StoreError};

/// About how many bytes of the document a slice writes: enough that finding its end is nothing
/// beside it, few enough that the slices that wait for their turn fit into memory.
const SLICE_BYTES: usize = 4 * CHUNK_BYTES;

/// Chunks of a slice that wait for their turn: all of a usual one.
const WAITING_CHUNKS: usize = SLICE_BYTES / CHUNK_BYTES + 1;

/// The same of a format that says how many records a slice gets: its one block, and its end.
const WAITING_BLOCKS: usize = 2;

/// How many records a slice gets, before filters: how many they let through is not known.
const FILTERED_RECORDS: u64 = 100_000;

/// What the workers of one document share.
pub(super) struct Slices<'a> {
    pub(super) view: &'a Arc<View>,
    pub(super) cancel: &'a Cancel,
    pub(super) buffers: &'a Buffers,
    pub(super) coding: ContentCoding,
    /// Where the slices' channels queue.
    pub(super) queue: &'a mpsc::Sender<Slice>,
    records_per_slice: u64,
    /// Whether a slice must not have more: the format says so.
    exact: bool,
    waiting_chunks: usize,
    left: Mutex<Left>,
    set_aside: Arc<SetAside>,
    records: AtomicU64,
    parts: Mutex<Parts>,
    /// How many helpers there still are.
    helping: AtomicUsize,
    /// Why the document failed, if it did.
    failure: &'a Failure,
    /// Whether a slice failed, so that those after it are of no use.
    failed: AtomicBool,
}

/// What no worker has taken yet.
struct Left {
    /// `None` when all is taken.
    range: Option<Range>,
    /// The number of the next slice.
    number: u64,
}

/// Slices that were begun, by number: the client took nothing, and their workers had something better
/// to do. The connection that the stream keeps goes on with them, the first one first.
type SetAside = Mutex<BTreeMap<u64, Begun>>;

/// A slice that a worker has begun.
struct Begun {
    /// What is left of it; `None` when all is written, and not all is sent.
    range: Option<Range>,
    slice: Document,
}

/// Who writes slices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worker {
    /// The connection that the stream keeps until its end.
    Own,
    /// One that others may need.
    Helper,
}

impl<'a> Slices<'a> {
    /// The slices of what is left of a document.
    pub(super) fn new(
        pump: &'a Pump,
        range: Range,
        document: &Document,
        helpers: usize,
    ) -> Slices<'a> {
        let written = document.records;
        let wanted = document.encoder.slice_records();
        let records_per_slice = match wanted {
            Some(records) => records,
            None if pump.view.filters.is_empty() => {
                Slices::records_per_slice(written, document.buffer.len())
            }
            None => FILTERED_RECORDS,
        };
        let left = Left {
            range: Some(range),
            number: 0,
        };
        Slices {
            view: &pump.view,
            cancel: &pump.cancel,
            buffers: &pump.buffers,
            coding: pump.coding,
            queue: &pump.slices,
            records_per_slice,
            exact: wanted.is_some(),
            waiting_chunks: wanted.map_or(WAITING_CHUNKS, |_| WAITING_BLOCKS),
            left: Mutex::new(left),
            set_aside: Arc::default(),
            records: AtomicU64::new(written),
            parts: Mutex::default(),
            helping: AtomicUsize::new(helpers),
            failure: &pump.failure,
            failed: AtomicBool::new(false),
        }
    }

    /// How many records a slice gets when so many of them took so many bytes.
    fn records_per_slice(records: u64, bytes: usize) -> u64 {
        (records * SLICE_BYTES as u64 / bytes.max(1) as u64).max(1)
    }

    /// Writes all slices, together with helpers; how many records there are then, and what the end of
    /// the document has to know of the slices. `None` when a slice failed, which has said why.
    pub(super) fn write_all(
        self,
        lease: &mut Lease,
        helpers: Vec<Lease>,
        encoder: &dyn RecordEncoder,
    ) -> Option<(u64, Parts)> {
        let runtime = Handle::current();
        std::thread::scope(|scope| {
            for mut helper in helpers {
                if let Some(encoder) = encoder.fork() {
                    let (slices, runtime) = (&self, runtime.clone());
                    scope.spawn(move || {
                        let _entered = runtime.enter();
                        slices.work(&mut helper, &*encoder, Worker::Helper);
                        slices.helping.fetch_sub(1, Ordering::Release);
                    });
                }
            }
            self.work(lease, encoder, Worker::Own);
        });
        // Helpers may have set some aside when all was taken, or when one had failed.
        self.work(lease, encoder, Worker::Own);
        let parts = self.parts.into_inner();
        (!self.failed.into_inner()).then(|| {
            let parts = parts.unwrap_or_else(PoisonError::into_inner);
            (self.records.into_inner(), parts)
        })
    }

    /// Writes slice after slice, until none is left or a helper is needed elsewhere.
    fn work(&self, lease: &mut Lease, encoder: &dyn RecordEncoder, worker: Worker) {
        let _slicing = lease.slicing();
        loop {
            if worker == Worker::Helper && lease.should_yield() {
                return;
            }
            let next = match self.next_set_aside(worker) {
                Some(begun) => Ok(Some(begun)),
                None => self.take(lease, encoder, worker),
            };
            let went_on = match next {
                Ok(Some((number, begun))) => self.write(lease, number, begun, worker),
                Ok(None) => return,
                Err(error) => return self.fail(error),
            };
            if !went_on {
                return;
            }
        }
    }

    /// The first slice that was set aside, which is the one that the client waits for.
    fn next_set_aside(&self, worker: Worker) -> Option<(u64, Begun)> {
        let mut set_aside = self
            .set_aside
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (worker == Worker::Own)
            .then(|| set_aside.pop_first())
            .flatten()
    }

    /// Takes the next run of records off what is left, and queues the channel for its chunks; `None`
    /// when nothing is left, or when there is something better to do.
    fn take(
        &self,
        lease: &mut Lease,
        encoder: &dyn RecordEncoder,
        worker: Worker,
    ) -> Result<Option<(u64, Begun)>, StreamError> {
        let place = loop {
            let place = async { timeout(PATIENCE, self.queue.reserve()).await };
            match Handle::current().block_on(place) {
                Ok(Ok(place)) => break place,
                // Nobody reads the document any more.
                Ok(Err(_)) => return Ok(None),
                Err(_) if worker == Worker::Helper => return Ok(None),
                Err(_) => {
                    if let Some(begun) = self.next_set_aside(worker) {
                        return Ok(Some(begun));
                    }
                }
            }
        };
        // Held while the channel is queued: slices queue in the order of their runs.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut range) = left.range.take() else {
            return Ok(None);
        };
        if self.failed.load(Ordering::Relaxed) || self.cancel.is_cancelled() {
            return Ok(None);
        }
        let alone = self.helping.load(Ordering::Acquire) == 0;
        // The last helper may have set one aside since that was looked at, and gone.
        if alone && let Some(begun) = self.next_set_aside(worker) {
            left.range = Some(range);
            return Ok(Some(begun));
        }
        let cut = if alone {
            None
        } else {
            self.cut(lease, &range)?
        };
        if let Some(cut) = cut {
            left.range = Some(Range {
                after: Some(cut.clone()),
                ..range.clone()
            });
            range.until = Some(cut);
        }
        let (sender, receiver) = mpsc::channel(self.waiting_chunks);
        place.send(receiver);
        let number = left.number;
        left.number += 1;
        drop(left);
        // An encoder that has forked forks again.
        let encoder = encoder.fork().ok_or(StreamError::Defect)?;
        let begun = Begun {
            range: Some(range),
            slice: Document::slice(encoder, sender, self.coding, self.buffers),
        };
        Ok(Some((number, begun)))
    }

    /// Where the next slice ends.
    fn cut(&self, lease: &mut Lease, range: &Range) -> Result<Option<Position>, StoreError> {
        if self.exact {
            lease.find(range, Find::Nth(self.records_per_slice), self.cancel)
        } else {
            lease.split(range, self.records_per_slice)
        }
    }

    /// Writes a slice, or goes on with it; whether the worker goes on with another one.
    fn write(&self, lease: &mut Lease, number: u64, begun: Begun, worker: Worker) -> bool {
        let Begun { range, mut slice } = begun;
        slice.may_be_set_aside(match worker {
            Worker::Helper => Arc::new(|| true),
            Worker::Own => {
                let set_aside = Arc::clone(&self.set_aside);
                Arc::new(move || {
                    let set_aside = set_aside.lock().unwrap_or_else(PoisonError::into_inner);
                    set_aside.keys().next().is_some_and(|first| *first < number)
                })
            }
        });
        // Kept open until the reason for its end is told.
        let sender = slice.sender();
        match self.write_range(lease, number, range, slice) {
            Ok(None) => true,
            Ok(Some(begun)) => {
                let mut set_aside = self
                    .set_aside
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                set_aside.insert(number, begun);
                // The client takes nothing: the connection goes home.
                worker == Worker::Own
            }
            Err(error) => {
                self.fail(error);
                drop(sender);
                false
            }
        }
    }

    /// Writes a range into a slice; what is left of it if it is set aside.
    fn write_range(
        &self,
        lease: &mut Lease,
        number: u64,
        range: Option<Range>,
        mut slice: Document,
    ) -> Result<Option<Begun>, StreamError> {
        let stopped = |slice: Document, range| match slice.is_set_aside() {
            true => Ok(Some(Begun { range, slice })),
            false => Err(StoreError::Stopped.into()),
        };
        if slice.go_on_sending().is_err() {
            return stopped(slice, range);
        }
        let Some(mut range) = range else {
            return Ok(None);
        };
        let (mut slice, scanned) = lease.scan(&range, slice, self.cancel);
        if slice.is_set_aside() {
            range.after = slice.last.clone().or(range.after);
            return stopped(slice, Some(range));
        }
        slice.end_slice(self.view, scanned)?;
        self.records.fetch_add(slice.records, Ordering::Relaxed);
        if let Some(part) = slice.part.take() {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.insert(number, (slice.bytes(), part));
        }
        match slice.send(Boundary::Slice) {
            Ok(()) => Ok(None),
            Err(Stop) => stopped(slice, None),
        }
    }

    /// Breaks the document where the slice ends that failed, or after those taken so far.
    fn fail(&self, error: StreamError) {
        self.failure.set(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Queues a new slice's channel; `None` when nobody reads the document any more.
pub(super) fn queue(queue: &mpsc::Sender<Slice>, chunks: usize) -> Option<Sender> {
    let (sender, receiver) = mpsc::channel(chunks);
    queue.blocking_send(receiver).ok().map(|()| sender)
}
