//! The log, on standard error: lines may be lost and counted, the server never waits for them.
//!
//! Standard error can be a full disk, a pipe whose reader has gone, or one that nobody reads.
//! Whoever logs therefore only adds to a bounded buffer, which a thread of its own writes.
//!
//! Whatever a client sends stays within its field of its line: as text, strings are quoted and what does
//! not print is escaped; as JSON, a line is ASCII.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::mem;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Registry, reload};

use crate::token::redacted;

/// What a log can be told to say, by name: each says what those before it do, and more.
pub const LEVELS: [(&str, LevelFilter); 4] = [
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
];

/// What a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// The formats of a log, by name.
pub const FORMATS: [(&str, Format); 2] = [("text", Format::Text), ("json", Format::Json)];

/// The bytes that may wait to be written: some thousands of lines.
const MOST_WAITING: usize = 1 << 20;

/// How long [`flush`] waits for what may never be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the writer lets lines gather: to wake a thread for each would cost a small request a tenth
/// of its time.
const GATHER: Duration = Duration::from_millis(5);

/// How many lines were lost since the start.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Changes what is logged.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

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
            LOST.fetch_add(1, Ordering::Relaxed);
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
    format: Format,
    /// Lines lost since the last that was written.
    lost: u64,
    /// Whether the last line was written in part.
    torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W, format: Format) -> Writer<W> {
        Writer {
            out,
            format,
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
        let lost = left.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lost += lost;
        LOST.fetch_add(lost, Ordering::Relaxed);
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
        let (lost, what) = (self.lost, "log lines lost here, which could not be written");
        let notice = match self.format {
            Format::Text => format!("{newline} WARN {what}: {lost}\n"),
            Format::Json => {
                let mut timestamp = String::new();
                // A string takes all that is written to it.
                let _ = SystemTime.format_time(&mut format::Writer::new(&mut timestamp));
                let notice = json!({ "timestamp": timestamp, "level": "WARN", "message": what, "lost": lost });
                format!("{newline}{notice}\n")
            }
        };
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
struct Line(Format);

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Whatever else repeats what a client sent.
        let redacted = str::from_utf8(line).map(redacted);
        let written = redacted.as_ref().map_or(line, |line| line.as_bytes());
        match self.0 {
            Format::Json if !is_plain(written) => QUEUE.push(escaped(written).as_bytes()),
            _ => QUEUE.push(written),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a line of JSON is nothing that a terminal, or a reader of lines, takes for more than it is.
fn is_plain(line: &[u8]) -> bool {
    line.iter().all(|byte| byte.is_ascii() && *byte != 0x7f)
}

/// A line of JSON in ASCII: JSON has what ends lines, or turns them around, as it is.
fn escaped(line: &[u8]) -> String {
    let mut escaped = String::with_capacity(2 * line.len());
    for c in String::from_utf8_lossy(line).chars() {
        if c.is_ascii() && c != '\x7f' {
            escaped.push(c);
        } else {
            let units = c.encode_utf16(&mut [0; 2]).to_vec();
            escaped.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    escaped
}

/// Ours at this level; what others have to say is never about more than a request.
fn targets(level: LevelFilter) -> Targets {
    let others = level.min(LevelFilter::INFO);
    Targets::new()
        .with_default(others)
        .with_target("flows", level)
}

/// Sends the log to standard error.
///
/// # Errors
/// There is no standard error, or no thread for it.
pub fn start(level: LevelFilter, format: Format) -> io::Result<()> {
    // Not through `io::stderr`, whose lock a write that blocks would hold.
    let out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || QUEUE.write_to(Writer::new(out, format)))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Line(format))
        .with_ansi(format == Format::Text && io::stderr().is_terminal())
        .with_target(false)
        // It would print its errors where they may block, or panic.
        .log_internal_errors(false);
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    let (level, handle) = reload::Layer::new(targets(level));
    LEVEL.get_or_init(|| handle);
    tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .init();
    // The standard hook writes to standard error by itself, and may wait there.
    std::panic::set_hook(Box::new(|panic| {
        // As a field: what a panic says may have lines.
        tracing::error!(panic = panic.to_string());
        if thread::current().name() == Some("main") {
            // Nothing comes after it.
            flush();
        }
    }));
    Ok(())
}

/// Changes what is logged from now on.
pub fn set_level(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // It fails only when the log has ended.
        let _ = handle.reload(targets(level));
    }
}

/// How many lines were lost since the start, because they could not be written, or not fast enough.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Waits until what was logged is written, but no longer than a second.
pub fn flush() {
    let state = QUEUE.lock();
    let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
    drop(QUEUE.written.wait_timeout_while(state, PATIENCE, busy));
}

#[cfg(test)]
mod tests {
    use super::{escaped, is_plain};

    #[test]
    fn a_line_of_json_is_ascii() {
        let text = "a\u{7f}\u{85}\u{2028}\u{202e}é😀\u{9b}31m\"\\";
        let line = serde_json::json!({ "text": text }).to_string() + "\n";
        let escaped = escaped(line.as_bytes());
        assert!(!is_plain(line.as_bytes()) && is_plain(escaped.as_bytes()));
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["text"], text);
    }
}
