//! The log, on standard error: lines may be lost and counted, the server never waits for them.
//!
//! Standard error can be a full disk, a pipe whose reader has gone, or one that nobody reads.
//! Whoever logs therefore only adds to a bounded buffer, which a thread of its own writes.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::token::redacted;

/// The bytes that may wait to be written: some thousands of lines.
const MOST_WAITING: usize = 1 << 20;

/// How long [`flush`] waits for what may never be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the writer lets lines gather: to wake a thread for each would cost a small request a tenth
/// of its time.
const GATHER: Duration = Duration::from_millis(5);

static QUEUE: Queue = Queue {
    state: Mutex::new(State {
        waiting: Vec::new(),
        lost: 0,
        writing: false,
    }),
    filled: Condvar::new(),
    written: Condvar::new(),
};

struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// All there was has been written, or lost.
    written: Condvar,
}

struct State {
    /// Complete lines.
    waiting: Vec<u8>,
    /// Lines that came after those that wait, and found no room.
    lost: u64,
    /// Whether the writer has lines in its hands.
    writing: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        let writer_waits = state.waiting.is_empty() && state.lost == 0;
        // Once a line is lost, all are until the writer comes: it tells their number in their place.
        if state.lost > 0 || state.waiting.len() + line.len() > MOST_WAITING {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
        }
        if writer_waits {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to write.
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let idle = |state: &mut State| state.waiting.is_empty() && state.lost == 0;
        let state = self.filled.wait_while(state, idle);
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for ever.
    fn write_to<W: Write>(&self, mut writer: Writer<W>) {
        let mut lines = Vec::new();
        let mut state = self.lock();
        loop {
            drop(self.wait(state));
            thread::sleep(GATHER);
            state = self.lock();
            mem::swap(&mut lines, &mut state.waiting);
            let lost = mem::take(&mut state.lost);
            state.writing = true;
            drop(state);
            writer.write(&lines);
            writer.lose(lost);
            lines.clear();
            state = self.lock();
            state.writing = false;
            self.written.notify_all();
        }
    }
}

/// Writes lines as long as that works, and counts those that are lost.
struct Writer<W> {
    out: W,
    /// Lines lost since the last that was written.
    lost: u64,
    /// Whether the last line was written in part.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Writer<W> {
        Writer {
            out,
            lost: 0,
            torn: false,
        }
    }

    /// Writes these lines, after the number of those lost before them.
    fn write(&mut self, lines: &[u8]) {
        let left = if self.tell() {
            self.attempt(lines)
        } else {
            lines
        };
        self.lost += left.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    /// Notes that more were lost after those written.
    fn lose(&mut self, lost: u64) {
        self.lost += lost;
        self.tell();
    }

    /// Says how many lines were lost, if any; `false` if that cannot be written either.
    fn tell(&mut self) -> bool {
        if self.lost == 0 {
            return true;
        }
        let newline = if self.torn { "\n" } else { "" };
        let lost = self.lost;
        let notice =
            format!("{newline} WARN log lines lost here, which could not be written: {lost}\n");
        let told = self.attempt(notice.as_bytes()).is_empty();
        if told {
            self.lost = 0;
        }
        told
    }

    /// Writes as much as can be written; what is left comes back.
    fn attempt<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        while !text.is_empty() {
            match self.out.write(text) {
                Ok(0) => break,
                Ok(written) => {
                    self.torn = text[written - 1] != b'\n';
                    text = &text[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other end of the pipe was made not to block: this thread may wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(_) => break,
            }
        }
        text
    }
}

/// One line, on its way to the queue.
struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Whatever else repeats what a client sent.
        match str::from_utf8(line).map(redacted) {
            Ok(redacted) => QUEUE.push(redacted.as_bytes()),
            Err(_) => QUEUE.push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the log to standard error.
///
/// # Errors
/// There is no standard error, or no thread for it.
pub fn start() -> io::Result<()> {
    // Not through `io::stderr`, whose lock a write that blocks would hold.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| QUEUE.write_to(Writer::new(out)))?;
    tracing_subscriber::fmt()
        .with_writer(|| Line)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // It would print its errors where they may block, or panic.
        .log_internal_errors(false)
        .init();
    // The standard hook writes to standard error by itself, and may wait there.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        if thread::current().name() == Some("main") {
            // Nothing comes after it.
            flush();
        }
    }));
    Ok(())
}

/// Waits until what was logged is written, but no longer than a second.
pub fn flush() {
    let state = QUEUE.lock();
    let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
    drop(QUEUE.written.wait_timeout_while(state, PATIENCE, busy));
}
