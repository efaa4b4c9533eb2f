//! One document in several slices at once, by the connection that began it and its helpers.
//!
//! The range is cut into runs of about as many records as fill [`SLICE_BYTES`]. Whoever is free
//! takes the next run; the slices' channels queue in order, so that the document is read in order.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flows_formats::RecordEncoder;
use tokio::sync::mpsc;

use super::buffers::Buffers;
use super::connections::Lease;
use super::document::{Document, Sender};
use super::{Boundary, CHUNK_BYTES, ContentCoding, Slice, StreamError};
use crate::selection::{Range, View};
use crate::store::{Cancel, StoreError};

/// About how many bytes of the document a slice writes: enough that finding its end is nothing
/// beside it, few enough that the slices that wait for their turn fit into memory.
const SLICE_BYTES: usize = 4 * CHUNK_BYTES;

/// Chunks of a slice that wait for their turn: all of a usual one.
const WAITING_CHUNKS: usize = SLICE_BYTES / CHUNK_BYTES + 1;

/// How many records a slice gets, before filters: how many they let through is not known.
pub(super) const FILTERED_RECORDS: u64 = 100_000;

/// What the workers of one document share.
pub(super) struct Slices<'a> {
    pub(super) view: &'a Arc<View>,
    pub(super) cancel: &'a Cancel,
    pub(super) buffers: &'a Buffers,
    pub(super) coding: ContentCoding,
    /// Where the slices' channels queue.
    pub(super) queue: &'a mpsc::Sender<Slice>,
    /// What is not yet taken; `None` when all is.
    pub(super) left: Mutex<Option<Range>>,
    pub(super) records_per_slice: u64,
    pub(super) records: AtomicU64,
    /// How many helpers there still are.
    pub(super) helping: AtomicUsize,
    /// Whether a slice failed, so that those after it are of no use.
    pub(super) failed: AtomicBool,
}

impl Slices<'_> {
    /// How many records a slice gets when so many of them took so many bytes.
    pub(super) fn records_per_slice(records: u64, bytes: usize) -> u64 {
        (records * SLICE_BYTES as u64 / bytes.max(1) as u64).max(1)
    }

    /// Writes slice after slice, until none is left or others need the core or the connection.
    pub(super) fn help(&self, lease: &mut Lease, encoder: Box<dyn RecordEncoder>) {
        self.work(lease, &*encoder, |lease| !lease.should_yield());
        self.helping.fetch_sub(1, Ordering::Relaxed);
    }

    /// Writes slice after slice, until none is left or `goes_on` says no.
    pub(super) fn work(
        &self,
        lease: &mut Lease,
        encoder: &dyn RecordEncoder,
        goes_on: impl Fn(&Lease) -> bool,
    ) {
        while goes_on(lease) {
            let (range, sender) = match self.take(lease) {
                Ok(Some(taken)) => taken,
                Ok(None) => return,
                Err(error) => return self.fail(error),
            };
            // An encoder that has forked forks again.
            let Some(encoder) = encoder.fork() else {
                return self.fail(StreamError::Defect);
            };
            let slice = Document::slice(encoder, sender.clone(), self.coding, self.buffers);
            if let Err(error) = self.write(lease, &range, slice) {
                self.failed.store(true, Ordering::Relaxed);
                // When sending fails, nobody is there to hear of it.
                let _ = sender.blocking_send(Err(error));
                return;
            }
        }
    }

    /// Takes the next run of records off what is left, and queues the channel for its chunks.
    fn take(&self, lease: &mut Lease) -> Result<Option<(Range, Sender)>, StreamError> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut range) = *left else {
            return Ok(None);
        };
        if self.failed.load(Ordering::Relaxed) || self.cancel.is_cancelled() {
            *left = None;
            return Ok(None);
        }
        let Slices {
            view,
            records_per_slice,
            ..
        } = *self;
        let alone = self.helping.load(Ordering::Relaxed) == 0;
        let cut = match range.limit {
            _ if alone => None,
            Some(limit) if limit <= records_per_slice => None,
            // What is left of a limit is known only if the slice's records are counted.
            Some(_) => lease.nth(view, &range, records_per_slice, self.cancel)?,
            None => lease.cut(view, &range, records_per_slice)?,
        };
        *left = cut.map(|cut| {
            let limit = range.limit.map(|limit| limit - records_per_slice);
            Range {
                after: Some(cut),
                limit,
                ..range
            }
        });
        if let Some(cut) = cut {
            range.until = Some(cut);
            range.limit = None;
        }
        // The lock is held while the queue is full: slices queue in the order of their runs.
        Ok(queue(self.queue, WAITING_CHUNKS).map(|sender| (range, sender)))
    }

    fn write(&self, lease: &mut Lease, range: &Range, slice: Document) -> Result<(), StreamError> {
        let (mut slice, scanned) = lease.scan(self.view, range, slice, self.cancel);
        slice.end_slice(self.view, scanned)?;
        self.records.fetch_add(slice.records, Ordering::Relaxed);
        slice
            .send(Boundary::Slice)
            .map_err(|_| StoreError::Stopped.into())
    }

    /// Breaks the document after the slices taken so far.
    fn fail(&self, error: StreamError) {
        self.failed.store(true, Ordering::Relaxed);
        if let Some(sender) = queue(self.queue, 1) {
            let _ = sender.blocking_send(Err(error));
        }
    }
}

/// Queues a new slice's channel; `None` when nobody reads the document any more.
pub(super) fn queue(queue: &mpsc::Sender<Slice>, chunks: usize) -> Option<Sender> {
    let (sender, receiver) = mpsc::channel(chunks);
    queue.blocking_send(receiver).ok().map(|()| sender)
}
