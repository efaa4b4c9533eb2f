//! How many streams run at once, over all databases.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// The places for streams, each of which may hold memory and keep a core busy.
#[derive(Clone)]
pub struct Places {
    /// One permit per stream.
    pub(super) all: Arc<Semaphore>,
    /// One permit per large stream: the last quarter is for small requests.
    pub(super) large: Arc<Semaphore>,
    /// How many requests of one database may hold a place before they see its records: while it is locked,
    /// they wait for that, and leave places to the requests of others, also where large streams have all of
    /// theirs.
    pub(super) entering: usize,
}

impl Places {
    /// So many places, for the requests of so many databases.
    pub fn new(streams: usize, databases: usize) -> Places {
        let entering = match databases {
            0 | 1 => streams,
            databases => (streams / 4 / databases).max(1),
        };
        Places {
            all: Arc::new(Semaphore::new(streams)),
            large: Arc::new(Semaphore::new(streams - streams / 4)),
            entering,
        }
    }
}
