//! Who gets a connection: requests in turn, and helpers of a large stream while cores are idle.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::places::Places;
use crate::selection::View;
use crate::store::{Connection, HeldBack, Limits, Store, StoreError, cores};

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
    /// One permit per request that has a place and does not see any record yet.
    entering: Arc<Semaphore>,
    places: Places,
    on_loan: OnLoan,
    /// Requests that wait for their turn.
    waiting: Count,
}

/// How many connections are on loan, of all databases: each may keep a core busy.
#[derive(Clone, Default)]
pub struct OnLoan {
    all: Count,
    /// Those that write a slice of a document, beside others of the same one.
    slices: Count,
}

/// How many there are of something at this moment.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, until what comes back is dropped.
    fn add(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

/// One of those that are counted, until it is dropped.
pub(super) struct Counted(Count);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What becomes of a store's connections, at this moment.
pub struct Usage {
    /// How many there may be.
    pub most: usize,
    /// Those on loan.
    pub in_use: usize,
    /// Those that are open, and not on loan.
    pub idle: usize,
    /// How many requests wait for one.
    pub waiting: usize,
    /// How many of all stores write a slice of a document, beside others of the same one.
    pub slices: usize,
}

/// The turn of one request, or of a helper, from when a connection is looked for.
struct Turn {
    _permit: OwnedSemaphorePermit,
    /// The place of a request. Helpers have none.
    _place: Option<OwnedSemaphorePermit>,
    _on_loan: Counted,
}

impl Turn {
    fn new(
        permit: OwnedSemaphorePermit,
        place: Option<OwnedSemaphorePermit>,
        on_loan: &OnLoan,
    ) -> Turn {
        Turn {
            _permit: permit,
            _place: place,
            _on_loan: on_loan.all.add(),
        }
    }
}

/// A connection on loan.
pub struct Lease {
    // The connection goes home before the turn ends, so that the next in turn finds it.
    connection: Box<dyn Connection>,
    _turn: Turn,
    /// Whether it may be kept for long.
    large: Option<Large>,
    /// While no record was seen.
    entering: Option<OwnedSemaphorePermit>,
    connections: Connections,
}

/// What lets a connection be kept for long.
struct Large {
    _connection: OwnedSemaphorePermit,
    /// Helpers have none.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connections {
    /// All connections of a store, for which requests wait so long. `on_loan` counts those of all stores, and
    /// all have their `places` together.
    pub fn new(
        store: Arc<dyn Store>,
        wait: Duration,
        on_loan: &OnLoan,
        places: &Places,
    ) -> Connections {
        let all = store.capacity();
        Connections {
            store,
            wait,
            turns: Arc::new(Semaphore::new(all)),
            large: Arc::new(Semaphore::new(all - all / 4)),
            entering: Arc::new(Semaphore::new(places.entering)),
            places: places.clone(),
            on_loan: on_loan.clone(),
            waiting: Count::default(),
        }
    }

    /// The same connections, for requests that have other places than those before them.
    pub fn with(&self, places: &Places) -> Connections {
        Connections {
            entering: Arc::new(Semaphore::new(places.entering)),
            places: places.clone(),
            ..self.clone()
        }
    }

    /// What becomes of them at this moment.
    pub fn usage(&self) -> Usage {
        let most = self.store.capacity();
        Usage {
            most,
            in_use: most.saturating_sub(self.turns.available_permits()),
            idle: self.store.idle_count(),
            waiting: self.waiting.get(),
            slices: self.on_loan.slices.get(),
        }
    }

    /// Whose order of ids stays behind someone who writes.
    pub fn held_back(&self) -> Vec<HeldBack> {
        self.store.held_back()
    }

    /// Whether each view can be read, all connections on loan or not. Blocks its thread.
    pub fn probe(&self, views: &[Arc<View>]) -> Vec<Result<(), StoreError>> {
        self.store.probe(views)
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
        // Who waits for this database holds no place that the requests of others need.
        let turn = async {
            let turn = acquired(&self.turns).await?;
            let entering = acquired(&self.entering).await?;
            Some((turn, entering, acquired(&self.places.all).await?))
        };
        let places = &self.places;
        let full = || places.all.available_permits() == 0;
        let (turn, entering, place) = self.in_time(turn, full).await?;
        let turn = Turn::new(turn, Some(place), &self.on_loan);
        self.connected(turn, None, Some(entering)).await
    }

    /// A connection for as long as a large stream takes. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when large streams have all that they may have, and none of them
    /// ends within the wait.
    pub async fn borrow_for_long(&self) -> Result<Lease, StoreError> {
        let turn = async {
            let connection = acquired(&self.large).await?;
            let turn = acquired(&self.turns).await?;
            let place = acquired(&self.places.large).await?;
            Some((connection, turn, place, acquired(&self.places.all).await?))
        };
        let Places { all, large, .. } = &self.places;
        let full = || all.available_permits() == 0 || large.available_permits() == 0;
        let (connection, turn, large, place) = self.in_time(turn, full).await?;
        let turn = Turn::new(turn, Some(place), &self.on_loan);
        let large = Large {
            _connection: connection,
            _place: Some(large),
        };
        self.connected(turn, Some(large), None).await
    }

    async fn in_time<T>(
        &self,
        turn: impl Future<Output = Option<T>>,
        full: impl FnOnce() -> bool,
    ) -> Result<T, StoreError> {
        let _waiting = self.waiting.add();
        let turn = timeout(self.wait, turn).await.ok().flatten();
        turn.ok_or_else(|| StoreError::Unavailable {
            reason: full().then(|| "as many streams run as may: server.streams".to_owned()),
        })
    }

    async fn connected(
        &self,
        turn: Turn,
        large: Option<Large>,
        entering: Option<OwnedSemaphorePermit>,
    ) -> Result<Lease, StoreError> {
        let connections = self.clone();
        let lease = move |connection| Lease {
            connection,
            _turn: turn,
            large,
            entering,
            connections,
        };
        if let Some(connection) = self.store.idle() {
            return Ok(lease(connection));
        }
        let (store, wait) = (Arc::clone(&self.store), self.wait.max(LEAST_WAIT));
        // The turn lasts as long as the thread works, also when the client has left.
        let opened = tokio::task::spawn_blocking(move || store.connect(wait).map(lease)).await;
        opened.map_err(|_| StoreError::Unavailable { reason: None })?
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
            let turn = Turn::new(turn, None, &self.on_loan);
            let Some(connection) = self.store.idle() else {
                break;
            };
            helpers.push(Lease {
                connection,
                _turn: turn,
                large: Some(Large {
                    _connection: large,
                    _place: None,
                }),
                entering: None,
                connections: self.clone(),
            });
        }
        helpers
    }

    fn on_loan(&self) -> usize {
        self.on_loan.all.get()
    }
}

impl Lease {
    /// Whether it may be kept for as long as a large stream takes. Never waits.
    pub fn may_be_kept(&mut self) -> bool {
        if self.large.is_none() {
            let Connections { large, places, .. } = &self.connections;
            let connection = Arc::clone(large).try_acquire_owned();
            let place = Arc::clone(&places.large).try_acquire_owned();
            if let (Ok(connection), Ok(place)) = (connection, place) {
                self.large = Some(Large {
                    _connection: connection,
                    _place: Some(place),
                });
            }
        }
        self.large.is_some()
    }

    /// Notes that it sees the database's records, and waits for no lock.
    pub(super) fn entered(&mut self) {
        self.entering = None;
    }

    /// Counts it as one that writes a slice, until what comes back is dropped.
    pub(super) fn slicing(&self) -> Counted {
        self.connections.on_loan.slices.add()
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

/// A permit, in turn.
async fn acquired(permits: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // They are never closed.
    Arc::clone(permits).acquire_owned().await.ok()
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
