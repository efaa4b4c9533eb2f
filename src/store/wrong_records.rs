//! What a check of every record says of those that would break a stream.

use super::guess::thousands;
use super::{Finding, StoreError};

/// How many records are read from one report of progress to the next.
pub(super) const STEP: u64 = 4096;

/// The most that are listed.
const MOST: u64 = 20;

/// The records of a stream that would break it: the first are listed, and the others counted.
pub(super) struct WrongRecords<'f> {
    stream: &'f str,
    wrong: u64,
    findings: &'f mut Vec<Finding>,
}

impl<'f> WrongRecords<'f> {
    /// Lists those of a stream among these findings.
    pub(super) fn new(stream: &'f str, findings: &'f mut Vec<Finding>) -> WrongRecords<'f> {
        WrongRecords {
            stream,
            wrong: 0,
            findings,
        }
    }

    /// One more.
    pub(super) fn add(&mut self, error: &StoreError) {
        self.wrong += 1;
        if self.wrong <= MOST {
            self.findings.push(Finding::Error(error.to_string()));
        }
    }

    /// Says how many more there are, or that there was none of so many records.
    pub(super) fn end(self, records: u64) {
        let WrongRecords {
            stream,
            wrong,
            findings,
        } = self;
        let number = |number| thousands(usize::try_from(number).unwrap_or(usize::MAX));
        let all = number(records);
        if wrong > MOST {
            let more = number(wrong - MOST);
            let text = format!("stream {stream}: {more} more of {all} records would break it");
            findings.push(Finding::Error(text));
        } else if wrong == 0 {
            let text = format!("stream {stream}: all {all} records are as declared, and in order");
            findings.push(Finding::Fine(text));
        }
    }
}
