//! Who gets a connection: requests in turn, and helpers of a large stream while cores are idle.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::store::{Connection, Store, StoreError, cores};

/// The time that opening a connection gets even when no time is left to wait for one.
const LEAST_WAIT: Duration = Duration::from_millis(500);

/// The store's connections. Requests queue here, in order, without a thread each.
#[derive(Clone)]
pub struct Connections {
    store: Arc<dyn Store>,
    /// One permit per connection.
    turns: Arc<Semaphore>,
}

/// A connection on loan.
pub struct Lease {
    // The connection goes home before the turn ends, so that the next in turn finds it.
    connection: Box<dyn Connection>,
    _turn: OwnedSemaphorePermit,
    connections: Connections,
}

impl Connections {
    /// All connections of a store.
    pub fn new(store: Arc<dyn Store>) -> Connections {
        let turns = Arc::new(Semaphore::new(store.connections()));
        Connections { store, turns }
    }

    /// A connection, when it is this request's turn. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is none within `wait`.
    pub async fn borrow(&self, wait: Duration) -> Result<Lease, StoreError> {
        let none = || StoreError::Unavailable { reason: None };
        let turn = timeout(wait, Arc::clone(&self.turns).acquire_owned());
        let Ok(Ok(turn)) = turn.await else {
            return Err(none());
        };
        if let Some(connection) = self.store.idle() {
            return Ok(self.lease(connection, turn));
        }
        let (store, wait) = (Arc::clone(&self.store), wait.max(LEAST_WAIT));
        let opened = tokio::task::spawn_blocking(move || store.connect(wait)).await;
        Ok(self.lease(opened.map_err(|_| none())??, turn))
    }

    fn lease(&self, connection: Box<dyn Connection>, turn: OwnedSemaphorePermit) -> Lease {
        Lease {
            connection,
            _turn: turn,
            connections: self.clone(),
        }
    }

    /// Idle connections for helpers, as many as there are idle cores. Never waits.
    pub(super) fn helpers(&self) -> Vec<Lease> {
        let mut helpers = Vec::new();
        while self.on_loan() < cores() {
            let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
                break;
            };
            let Some(connection) = self.store.idle() else {
                break;
            };
            helpers.push(self.lease(connection, turn));
        }
        helpers
    }

    fn on_loan(&self) -> usize {
        self.store.connections() - self.turns.available_permits()
    }
}

impl Lease {
    /// Where it came from.
    pub(super) fn connections(&self) -> Connections {
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
