//! How connections are pooled, whatever they are to.

use std::time::Duration;

use r2d2::{Builder, ManageConnection, Pool, PooledConnection};

use super::{StoreError, cores};

/// How long a connection may be idle before it is closed: a burst's go, with their descriptors.
const IDLE: Duration = Duration::from_secs(60);

/// How long after a connection could not be opened the next attempt is made at most: left alone, the pool makes it
/// 15 seconds.
const RETRY: Duration = Duration::from_millis(250);

/// Builds a pool of so many connections at most.
pub(super) fn builder<M: ManageConnection>(size: u32) -> Builder<M> {
    // As many as can scan at once, so that a stream finds helpers.
    let idle = size.min(u32::try_from(cores()).unwrap_or(u32::MAX));
    Pool::builder()
        .max_size(size)
        .min_idle(Some(idle))
        .idle_timeout(Some(IDLE))
        // What could not be opened is tried again after half of this at most.
        .connection_timeout(2 * RETRY)
        // Its query would be paid by every request; on a broken connection the scan, or the snapshot, finds out.
        .test_on_check_out(false)
}

/// A connection, opened now or handed back within `wait`.
pub(super) fn get<M: ManageConnection>(
    pool: &Pool<M>,
    wait: Duration,
) -> Result<PooledConnection<M>, StoreError> {
    pool.get_timeout(wait).map_err(|error| {
        // r2d2 writes "timed out waiting for connection: REASON".
        let text = error.to_string();
        let reason = text.split_once(": ").map(|(_, reason)| reason.to_owned());
        StoreError::Unavailable { reason }
    })
}
