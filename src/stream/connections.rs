//! Who gets a connection: requests in turn, and helpers of a large stream while cores are idle.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::store::{Connection, Limits, Store, StoreError, cores};

/// The time that opening a connection gets even when no time is left to wait for one.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// The store's connections. Requests queue here, in order, without a thread each.
#[derive(Clone)]
pub struct Connections {
    store: Arc<dyn Store>,
    /// How long a request waits for its turn.
    wait: Duration,
    /// One permit per connection.
    turns: Arc<Semaphore>,
    /// One permit per connection that large streams and their helpers may have: the last quarter is
    /// for small requests, however many clients read slowly.
    large: Arc<Semaphore>,
    on_loan: OnLoan,
}

/// How many connections are on loan, of all databases: each may keep a core busy.
#[derive(Clone, Default)]
pub struct OnLoan(Arc<AtomicUsize>);

/// The turn of one request, from when a connection is looked for.
struct Turn {
    _permit: OwnedSemaphorePermit,
    on_loan: OnLoan,
}

impl Turn {
    fn new(permit: OwnedSemaphorePermit, on_loan: &OnLoan) -> Turn {
        on_loan.0.fetch_add(1, Ordering::Relaxed);
        Turn {
            _permit: permit,
            on_loan: on_loan.clone(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.on_loan.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on loan.
pub struct Lease {
    // The connection goes home before the turn ends, so that the next in turn finds it.
    connection: Box<dyn Connection>,
    _turn: Turn,
    /// Whether it may be kept for long.
    large: Option<OwnedSemaphorePermit>,
    connections: Connections,
}

impl Connections {
    /// All connections of a store, for which requests wait so long. `on_loan` counts those of all stores.
    pub fn new(store: Arc<dyn Store>, wait: Duration, on_loan: &OnLoan) -> Connections {
        let all = store.capacity();
        Connections {
            store,
            wait,
            turns: Arc::new(Semaphore::new(all)),
            large: Arc::new(Semaphore::new(all - all / 4)),
            on_loan: on_loan.clone(),
        }
    }

    /// How much a request may ask to be compared.
    pub fn limits(&self) -> Limits {
        self.store.limits()
    }

    /// A connection, when it is this request's turn. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none within the wait; [`StoreError::Gone`] when the
    /// database is.
    pub async fn borrow(&self) -> Result<Lease, StoreError> {
        let turn = Turn::new(self.turn(&self.turns).await?, &self.on_loan);
        if let Some(connection) = self.store.idle() {
            return Ok(self.lease(connection, turn, None));
        }
        let (store, wait) = (Arc::clone(&self.store), self.wait.max(LEAST_WAIT));
        let opened = tokio::task::spawn_blocking(move || store.connect(wait)).await;
        let opened = opened.map_err(|_| StoreError::Unavailable { reason: None })?;
        Ok(self.lease(opened?, turn, None))
    }

    /// A connection for as long as a large stream takes. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when large streams have all that they may have, and none of them
    /// ends within the wait.
    pub async fn borrow_for_long(&self) -> Result<Lease, StoreError> {
        let large = self.turn(&self.large).await?;
        let mut lease = self.borrow().await?;
        lease.large = Some(large);
        Ok(lease)
    }

    async fn turn(&self, turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
        let turn = timeout(self.wait, Arc::clone(turns).acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or(StoreError::Unavailable { reason: None })
    }

    fn lease(
        &self,
        connection: Box<dyn Connection>,
        turn: Turn,
        large: Option<OwnedSemaphorePermit>,
    ) -> Lease {
        Lease {
            connection,
            _turn: turn,
            large,
            connections: self.clone(),
        }
    }

    /// Idle connections for helpers, as many as there are idle cores. Never waits.
    pub(super) fn helpers(&self) -> Vec<Lease> {
        let mut helpers = Vec::new();
        while self.on_loan() < cores() {
            let turn = Arc::clone(&self.turns).try_acquire_owned();
            let large = Arc::clone(&self.large).try_acquire_owned();
            let (Ok(turn), Ok(large)) = (turn, large) else {
                break;
            };
            let turn = Turn::new(turn, &self.on_loan);
            let Some(connection) = self.store.idle() else {
                break;
            };
            helpers.push(self.lease(connection, turn, Some(large)));
        }
        helpers
    }

    fn on_loan(&self) -> usize {
        self.on_loan.0.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Whether it may be kept for as long as a large stream takes. Never waits.
    pub fn may_be_kept(&mut self) -> bool {
        if self.large.is_none() {
            self.large = Arc::clone(&self.connections.large).try_acquire_owned().ok();
        }
        self.large.is_some()
    }

    /// Where it came from.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Whether others need the core, or the connection, of a helper.
    pub(super) fn should_yield(&self) -> bool {
        self.connections.on_loan() > cores() || self.connections.turns.available_permits() == 0
    }
}

impl Deref for Lease {
    type Target = dyn Connection;

    fn deref(&self) -> &(dyn Connection + 'static) {
        &*self.connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut (dyn Connection + 'static) {
        &mut *self.connection
    }
}
