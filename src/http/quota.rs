//! How much the holder of a token may ask for: requests in a minute, streams at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// What a token's holder has used of it, whatever the configuration has become since.
#[derive(Default)]
pub(super) struct Usage {
    /// When the last request would have come, had they all come evenly.
    last: Mutex<Option<Instant>>,
    running: AtomicU32,
}

/// A stream that runs, until it is dropped.
pub(super) struct Running(Arc<Usage>);

impl Usage {
    /// Counts a request, if there may be one more now; else says after which time there may.
    pub(super) fn request(&self, per_minute: u32) -> Result<(), Duration> {
        self.request_at(Instant::now(), per_minute)
    }

    fn request_at(&self, now: Instant, per_minute: u32) -> Result<(), Duration> {
        let each = MINUTE / per_minute.max(1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let even = last.map_or(now, |last| last.max(now)) + each;
        // Those of a minute may come at once.
        let wait = (even - now).saturating_sub(MINUTE);
        if wait.is_zero() {
            *last = Some(even);
            return Ok(());
        }
        Err(wait)
    }

    /// Counts a stream, if there may be one more at once.
    pub(super) fn stream(self: &Arc<Self>, at_once: u32) -> Option<Running> {
        let more = |running: u32| (running < at_once).then_some(running + 1);
        let counted = self
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        counted.ok().map(|_| Running(Arc::clone(self)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_requests_may_come_at_once_and_then_evenly() {
        let (usage, start) = (Usage::default(), Instant::now());
        let at = |seconds: f64| usage.request_at(start + Duration::from_secs_f64(seconds), 6);
        assert!((0..6).all(|_| at(0.0).is_ok()));
        assert_eq!(at(0.0), Err(Duration::from_secs(10)));
        assert_eq!(at(9.5), Err(Duration::from_millis(500)));
        assert_eq!(at(10.0), Ok(()));
        assert_eq!(at(10.0), Err(Duration::from_secs(10)));
        assert_eq!((0..9).filter(|_| at(45.0).is_ok()).count(), 3);
        assert_eq!((0..9).filter(|_| at(500.0).is_ok()).count(), 6);
    }

    #[test]
    fn streams_count_as_long_as_they_run() {
        let usage = Arc::new(Usage::default());
        let (one, two) = (usage.stream(2), usage.stream(2));
        assert!(one.is_some() && two.is_some() && usage.stream(2).is_none());
        drop(one);
        assert!(usage.stream(1).is_none() && usage.stream(2).is_some());
    }
}
