//! One connection, for what hyper neither sees nor does:
//!
//! - A reply whose client takes nothing of it is timed.
//! - A client that has left is noticed even if it has sent more than hyper reads.
//! - A streamed reply that breaks, be it that the server is killed, resets the connection: not every
//!   client knows a broken reply by its missing end.
//! - What hyper answers by itself is kept back; `refused.rs` says it better.
//!
//! hyper reads and writes plain text here; below are encryption, where there is any, and the socket
//! (`tcp.rs`).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::tcp::{Raw, Tcp};

use super::ending::Ending;

/// As much of a request's head as is kept, to say what is wrong with it.
const HEAD_BYTES: usize = 1024;

/// One connection.
pub(super) struct Wire {
    tcp: Arc<Tcp>,
    /// Encryption, where there is any. Boxed: it is large.
    tls: Option<Mutex<Box<TlsStream<Raw>>>>,
    peer: SocketAddr,
    state: Mutex<State>,
    fate: Arc<Fate>,
}

struct State {
    phase: Phase,
    /// Since when it has been that: the wait for a request, the request's head, or the reply.
    since: Instant,
    /// Whether there was a request.
    answered: bool,
    /// Whether the connection is reset when it is dropped.
    resets: bool,
    /// How the head of the request that is being read begins.
    head: Vec<u8>,
    /// The status that hyper gave by itself.
    refused: Option<u16>,
}

/// What is under way on a connection.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// The next request, if any. Whatever is written now is hyper's own.
    Reading,
    /// A reply.
    Answering,
    /// The last bytes of a reply, on their way out.
    Ending,
}

/// Why a reply ended before its end.
#[derive(Debug)]
pub(super) struct Fate {
    /// Whether the server breaks what is still running, because it stops.
    breaking: Arc<AtomicBool>,
    /// How long the client had taken nothing when it was cut off.
    stalled: OnceLock<Duration>,
    /// How long the reply had taken when it was broken for that.
    overdue: OnceLock<Duration>,
}

impl Fate {
    /// Whoever drops a reply half-way does so because its client has gone, or is made to.
    pub(super) fn reason(&self) -> (Ending, String) {
        if let Some(stalled) = self.stalled.get() {
            let seconds = stalled.as_secs();
            let how = format!("stalled: the client took nothing of it for {seconds} s");
            return (Ending::Stalled, how);
        }
        if let Some(overdue) = self.overdue.get() {
            let seconds = overdue.as_secs();
            let how = format!("broken: it took longer than {seconds} s (server.stream_seconds)");
            return (Ending::TooLong, how);
        }
        if self.breaking.load(Ordering::Relaxed) {
            return (Ending::ShutDown, "broken: the server stopped".to_owned());
        }
        (Ending::ClientLeft, "client left".to_owned())
    }
}

impl Wire {
    pub(super) fn new(
        tcp: Arc<Tcp>,
        tls: Option<Box<TlsStream<Raw>>>,
        peer: SocketAddr,
        breaking: Arc<AtomicBool>,
    ) -> Wire {
        let state = State {
            phase: Phase::Reading,
            since: Instant::now(),
            answered: false,
            resets: false,
            head: Vec::new(),
            refused: None,
        };
        Wire {
            tcp,
            tls: tls.map(Mutex::new),
            peer,
            state: Mutex::new(state),
            fate: Arc::new(Fate {
                breaking,
                stalled: OnceLock::new(),
                overdue: OnceLock::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tls(&self) -> Option<MutexGuard<'_, Box<TlsStream<Raw>>>> {
        let tls = self.tls.as_ref()?;
        Some(tls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn fate(&self) -> Arc<Fate> {
        Arc::clone(&self.fate)
    }

    /// Notes that a request is being answered.
    pub(super) fn answering(&self) {
        let mut state = self.state();
        state.phase = Phase::Answering;
        state.since = Instant::now();
        state.answered = true;
        state.head.clear();
    }

    /// Whether there was a request already, and nothing of the next one has come.
    pub(super) fn is_between(&self) -> bool {
        let state = self.state();
        state.answered && state.head.is_empty()
    }

    /// The body of a reply, so that its end is noted.
    pub(super) fn carry<B: Body>(self: &Arc<Self>, body: B) -> Carried<B> {
        if body.size_hint().exact().is_none() {
            self.set_resets(&mut self.state(), true);
        }
        Carried {
            body,
            wire: Arc::clone(self),
        }
    }

    fn set_resets(&self, state: &mut State, resets: bool) {
        if state.resets != resets {
            self.tcp.set_resets(resets);
            state.resets = resets;
        }
    }

    /// Whether a request is being answered.
    pub(super) fn is_answering(&self) -> bool {
        self.state().phase != Phase::Reading
    }

    /// When the client must have sent the head of its next request: so long after its first byte, or after
    /// the connection began; or, when nothing of it has come, so long after the reply before it. `None` while
    /// a request is being answered.
    pub(super) fn deadline(&self, head: Duration, idle: Duration) -> Option<Instant> {
        let state = self.state();
        let is_idle = state.answered && state.head.is_empty();
        let time = if is_idle { idle } else { head };
        (state.phase == Phase::Reading).then(|| state.since + time)
    }

    /// Whether the client has shut down its side, or taken nothing of the reply for too long, or the reply
    /// has taken too long.
    pub(super) fn is_over(
        &self,
        stall: Duration,
        stream: Duration,
        context: &mut Context<'_>,
    ) -> bool {
        if self.state().since.elapsed() >= stream {
            self.fate.overdue.get_or_init(|| stream);
            return true;
        }
        if let Some(waited) = self.tcp.waited().filter(|waited| *waited >= stall) {
            self.fate.stalled.get_or_init(|| waited);
            return true;
        }
        self.tcp.is_read_closed(context)
    }

    /// How the request began that was being read, and hyper's own answer to it.
    pub(super) fn take_refused(&self) -> (Vec<u8>, Option<u16>) {
        let mut state = self.state();
        (std::mem::take(&mut state.head), state.refused.take())
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.phase == Phase::Reading {
            let status = parts.first().and_then(|part| status(part));
            state.refused = state.refused.or(status);
            return Poll::Ready(Ok(parts.iter().map(|part| part.len()).sum()));
        }
        drop(state);
        match self.tls() {
            None => self.tcp.poll_write(context, parts),
            Some(mut tls) => Pin::new(&mut **tls).poll_write_vectored(context, parts),
        }
    }
}

/// The status of a reply, `HTTP/1.1 400 Bad Request…`.
fn status(head: &[u8]) -> Option<u16> {
    let status = head.get(9..12)?;
    std::str::from_utf8(status).ok()?.parse().ok()
}

/// A connection, as hyper reads and writes it.
pub(super) struct Socket(pub(super) Arc<Wire>);

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match self.0.tls() {
            None => self.0.tcp.poll_read(context, buffer),
            Some(mut tls) => Pin::new(&mut **tls).poll_read(context, buffer),
        })?;
        let mut state = self.0.state();
        if state.phase == Phase::Reading {
            if state.head.is_empty() && state.answered {
                state.since = Instant::now();
            }
            let room = HEAD_BYTES.saturating_sub(state.head.len());
            let read = &buffer.filled()[before..];
            state.head.extend(read.iter().take(room));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called when all is written that there was to write.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(mut tls) = self.0.tls() {
            ready!(Pin::new(&mut **tls).poll_flush(context))?;
        }
        let mut state = self.0.state();
        if state.phase == Phase::Ending {
            state.phase = Phase::Reading;
            state.since = Instant::now();
            // What the system still holds of it is to arrive, whatever becomes of the connection.
            self.0.set_resets(&mut state, false);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = self.0.state();
        if state.refused.is_some() {
            // It is still to be said.
            return Poll::Ready(Ok(()));
        }
        match self.0.tls() {
            None => Poll::Ready(self.0.tcp.shutdown()),
            // Its end would make what is broken look complete.
            Some(_) if state.resets => Poll::Ready(Ok(())),
            Some(mut tls) => Pin::new(&mut **tls).poll_shutdown(context),
        }
    }
}

/// A reply's body. The reply ends when hyper drops it, and flushes.
pub(super) struct Carried<B> {
    body: B,
    wire: Arc<Wire>,
}

impl<B: Body + Unpin> Body for Carried<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Carried<B> {
    fn drop(&mut self) {
        self.wire.state().phase = Phase::Ending;
    }
}
