//! Chunks' memory, used again and again: to get and return it for each chunk costs more than to
//! send it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::CHUNK_BYTES;

/// The room of a chunk: its last record ends after [`CHUNK_BYTES`].
const ROOM: usize = CHUNK_BYTES + CHUNK_BYTES / 16;

/// The buffers of one stream that are free.
#[derive(Clone, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer on its way to the client; it comes back when it is sent.
struct PooledBuffer {
    buffer: Vec<u8>,
    home: Buffers,
}

impl Buffers {
    /// An empty buffer with room for a chunk.
    pub(super) fn take(&self) -> Vec<u8> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| Vec::with_capacity(ROOM))
    }

    /// Gives back a buffer that was not sent.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        if (CHUNK_BYTES..=2 * CHUNK_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(buffer);
        }
    }

    /// Sends a buffer's bytes. A buffer that is much smaller or larger than a chunk does not come
    /// back.
    pub(super) fn send(&self, buffer: Vec<u8>) -> Bytes {
        if (CHUNK_BYTES..=2 * CHUNK_BYTES).contains(&buffer.capacity()) {
            Bytes::from_owner(PooledBuffer {
                buffer,
                home: self.clone(),
            })
        } else {
            buffer.into()
        }
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}
