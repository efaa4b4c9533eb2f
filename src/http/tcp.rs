//! A connection's socket, below any encryption: it times clients that take nothing, notices those that
//! have left, and can be reset.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// The socket of one connection.
pub(super) struct Tcp {
    stream: TcpStream,
    /// Since when there has been something that the client has taken nothing of.
    waiting: Mutex<Option<Instant>>,
}

impl Tcp {
    pub(super) fn new(stream: TcpStream) -> io::Result<Tcp> {
        // Without it the end of a small reply waits 40 ms for the client's acknowledgement.
        stream.set_nodelay(true)?;
        Ok(Tcp {
            stream,
            waiting: Mutex::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the client has taken nothing of what there is for it, if there is anything.
    pub(super) fn waited(&self) -> Option<Duration> {
        self.waiting().map(|since| since.elapsed())
    }

    /// Whether the client has shut down its side.
    pub(super) fn is_read_closed(&self, context: &mut Context<'_>) -> bool {
        let ready = pin!(self.stream.ready(Interest::READABLE));
        matches!(ready.poll(context), Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether the connection is reset when it is dropped.
    pub(super) fn set_resets(&self, resets: bool) {
        // It fails on a connection that has gone, and then does not matter.
        let linger = resets.then_some(Duration::ZERO);
        let _ = SockRef::from(&self.stream).set_linger(linger);
    }

    /// The first byte that the client sends, which stays to be read; `None` if it sends nothing.
    pub(super) async fn first_byte(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        let found = self.stream.peek(&mut first).await?;
        Ok((found > 0).then_some(first[0]))
    }

    pub(super) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            if let Poll::Ready(read) = would_block(self.stream.try_read_buf(buffer)) {
                return Poll::Ready(read.map(drop));
            }
        }
    }

    pub(super) fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut waiting = self.waiting();
        let mut written = match *waiting {
            None => Poll::Pending,
            // The system calls a socket writable when half of its buffer is free, which a slow client
            // may take minutes for; the buffer takes more as soon as there is any room.
            Some(_) => would_block(SockRef::from(&self.stream).send_vectored(parts)),
        };
        while written.is_pending() {
            if self.stream.poll_write_ready(context)?.is_pending() {
                waiting.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            written = would_block(self.stream.try_write_vectored(parts));
        }
        *waiting = None;
        written
    }

    /// Says that nothing more is written.
    pub(super) fn shutdown(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }
}

/// What a socket says that may have to wait.
fn would_block<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// A socket, as encryption reads and writes it.
pub(super) struct Raw(pub(super) Arc<Tcp>);

impl AsyncRead for Raw {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(context, buffer)
    }
}

impl AsyncWrite for Raw {
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

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown())
    }
}
