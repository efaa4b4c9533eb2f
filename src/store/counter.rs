//! Counts the records of a scan up to a number, to find where that one stands.

use std::any::Any;
use std::time::Instant;

use flows_formats::Record;

use super::{Sink, Stop};
use crate::selection::{Position, clone_into};

/// Counts records up to a number.
pub(super) struct Counter {
    left: u64,
    /// Where the last one stands.
    last: Option<Position>,
    deadline: Option<Instant>,
}

impl Counter {
    /// Counts up to `number`, at least 1; has enough at the deadline, too, if there was a record by then.
    pub(super) fn new(number: u64, deadline: Option<Instant>) -> Box<Counter> {
        Box::new(Counter {
            left: number,
            last: None,
            deadline,
        })
    }

    /// Where the last record stands that a counter has counted; `None` of other sinks.
    pub(super) fn last(sink: Box<dyn Sink>) -> Option<Position> {
        let sink: Box<dyn Any> = sink;
        sink.downcast::<Counter>().ok()?.last
    }
}

impl Sink for Counter {
    fn record(&mut self, _record: &Record<'_>, position: &Position) -> Result<(), Stop> {
        clone_into(position, &mut self.last);
        self.left -= 1;
        if self.left == 0 { Err(Stop) } else { Ok(()) }
    }

    fn tick(&mut self) -> Result<(), Stop> {
        let is_late = |deadline| Instant::now() > deadline;
        if self.last.is_some() && self.deadline.is_some_and(is_late) {
            return Err(Stop);
        }
        Ok(())
    }

    fn replaced(&mut self) {}
}
