//! The scan that a thread runs, and what SQLite calls back: with each record, and to ask whether to
//! go on.
//!
//! Both calls come on the thread that runs the query, which is why the scan belongs to the thread.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::{Null, ValueRef};
use rusqlite::{Connection, Error, Result};

use super::INSTRUCTIONS;
use super::functions;
use super::query::{EMIT, EMIT_ALL};
use super::values::Decoder;
use crate::selection::Position;
use crate::store::{Cancel, Sink, StoreError};

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
    WATCH.set(Some(Watch {
        cancel: cancel.clone(),
        deadline: time.map(|time| Instant::now() + time),
    }));
    let answer = ask();
    WATCH.set(None);
    answer
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

/// The position of the last record of the thread's scan.
pub(super) fn last() -> Option<Position> {
    SCAN.with_borrow(|scan| scan.as_ref().and_then(|scan| scan.decoder.last()))
}

/// Registers what SQLite calls, once for a connection.
pub(super) fn register(connection: &Connection) -> Result<()> {
    // Not for views and triggers of the database to call.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(EMIT, -1, flags, |call| emit(call).map(|()| Null))?;
    connection.create_aggregate_function(EMIT_ALL, -1, flags, EmitAll)?;
    functions::register(connection)?;
    connection.progress_handler(INSTRUCTIONS, Some(is_over))
}

/// Asked many times a second: whether nobody wants the records of the thread's scan any more.
pub(super) fn is_over() -> bool {
    SCAN.with_borrow_mut(|scan| match scan {
        Some(scan) => scan.is_over(),
        None => WATCH.with_borrow(|watch| watch.as_ref().is_some_and(Watch::is_over)),
    })
}

#[inline]
fn emit(call: &Context<'_>) -> Result<()> {
    if record(|column| call.get_raw(column)) {
        Ok(())
    } else {
        // The reason is in the scan.
        Err(Error::UserFunctionError("stopped".into()))
    }
}

/// [`emit`] as an aggregate: the query yields no row until all records are taken.
struct EmitAll;

impl Aggregate<(), Null> for EmitAll {
    fn init(&self, _call: &mut Context<'_>) -> Result<()> {
        Ok(())
    }

    fn step(&self, call: &mut Context<'_>, (): &mut ()) -> Result<()> {
        emit(call)
    }

    fn finalize(&self, _call: &mut Context<'_>, _all: Option<()>) -> Result<Null> {
        Ok(Null)
    }
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
        match self.decoder.record(value, &mut *self.sink) {
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
