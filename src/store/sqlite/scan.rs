//! The scan that a thread runs: what takes its rows, and when it is over.
//!
//! Both calls come on the thread that runs the query, which is why the scan belongs to the thread.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;

use super::held;
use crate::selection::Position;
use crate::store::values::Decoder;
use crate::store::{Cancel, Sink, StoreError};

/// How many instructions of SQLite's virtual machine pass between two looks at whether the scan is
/// over: some 20 microseconds.
pub(super) const INSTRUCTIONS: i32 = 1000;

/// How far a scan went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Went {
    /// To its end.
    Done,
    /// Until it was to stop.
    Stopped,
}

/// A scan on its way.
pub(super) struct Scan {
    sink: Box<dyn Sink>,
    decoder: Decoder,
    cancel: Cancel,
    /// Why the sink or the decoder ended the scan.
    ended: Option<StoreError>,
}

thread_local! {
    static SCAN: RefCell<Option<Scan>> = const { RefCell::new(None) };
}

/// When what the thread asks SQLite besides its scan ends without an answer.
struct Watch {
    cancel: Cancel,
    deadline: Option<Instant>,
}

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Asks SQLite something, until it has the answer, `cancel` is set or the time is over.
pub(super) fn with_deadline<T>(
    cancel: &Cancel,
    time: Option<Duration>,
    ask: impl FnOnce() -> T,
) -> T {
    /// Ends the watch also when what is asked panics.
    struct Watched;
    impl Drop for Watched {
        fn drop(&mut self) {
            WATCH.set(None);
        }
    }
    let _watched = Watched;
    WATCH.set(Some(Watch {
        cancel: cancel.clone(),
        deadline: time.map(|time| Instant::now() + time),
    }));
    ask()
}

impl Watch {
    fn is_over(&self) -> bool {
        let late = |deadline| Instant::now() > deadline;
        self.cancel.is_cancelled() || self.deadline.is_some_and(late)
    }
}

/// Sets the thread's scan, and gives back the one there was.
pub(super) fn set(scan: Option<Scan>) -> Option<Scan> {
    SCAN.replace(scan)
}

/// Hands a row to the thread's scan; whether it goes on.
#[inline]
pub(super) fn record<'r>(value: impl Fn(usize) -> ValueRef<'r>) -> bool {
    SCAN.with_borrow_mut(|scan| scan.as_mut().is_some_and(|scan| scan.record(value)))
}

/// What a function makes of the position of the last record of the thread's scan.
pub(super) fn last<T>(of: impl FnOnce(&Position) -> Option<T>) -> Option<T> {
    SCAN.with_borrow(|scan| scan.as_ref()?.decoder.last().and_then(of))
}

/// Asked many times a second: whether nobody wants the records of the thread's scan any more.
pub(super) fn is_over() -> bool {
    SCAN.with_borrow_mut(|scan| match scan {
        Some(scan) => scan.is_over(),
        None => WATCH.with_borrow(|watch| watch.as_ref().is_some_and(Watch::is_over)),
    })
}

impl Scan {
    pub(super) fn new(sink: Box<dyn Sink>, decoder: Decoder, cancel: Cancel) -> Scan {
        Scan {
            sink,
            decoder,
            cancel,
            ended: None,
        }
    }

    /// The sink, and why the scan ended if it was not at its end.
    pub(super) fn end(self) -> (Box<dyn Sink>, Option<StoreError>) {
        (self.sink, self.ended)
    }

    /// Takes a row; whether the scan goes on.
    #[inline]
    fn record<'r>(&mut self, value: impl Fn(usize) -> ValueRef<'r>) -> bool {
        match self.decoder.record(|at| held(value(at)), &mut *self.sink) {
            Ok(()) => true,
            Err(error) => {
                self.ended = Some(error);
                false
            }
        }
    }

    fn is_over(&mut self) -> bool {
        let over = self.cancel.is_cancelled() || self.sink.tick().is_err();
        if over {
            self.ended = Some(StoreError::Stopped);
        }
        over
    }
}
