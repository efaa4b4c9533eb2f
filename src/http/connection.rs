//! Borrows a pooled connection, without blocking a thread of the async runtime.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use warp::{Filter, Rejection};

use super::App;
use super::problem::Problem;
use crate::config::Stream;
use crate::selection::Range;
use crate::store::{Cancel, Connection, Sink, StoreError};

/// A connection on loan, and the turn that came with it. The connection goes home first, so that
/// the next in turn finds it.
struct Borrowed {
    connection: Box<dyn Connection>,
    _turn: OwnedSemaphorePermit,
}

impl Connection for Borrowed {
    fn scan_into(
        &mut self,
        stream: &Stream,
        range: &Range,
        sink: Box<dyn Sink>,
        cancel: &Cancel,
    ) -> (Box<dyn Sink>, Result<(), StoreError>) {
        self.connection.scan_into(stream, range, sink, cancel)
    }
}

/// A connection; 503 with `Retry-After` when there is none within the configured wait.
pub(super) fn borrowed(
    app: &Arc<App>,
) -> impl Filter<Extract = (Box<dyn Connection>,), Error = Rejection> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().and_then(move || {
        let app = Arc::clone(&app);
        async move {
            borrow(&app)
                .await
                .map_err(|detail| Problem::unavailable(detail).rejection())
        }
    })
}

async fn borrow(app: &App) -> Result<Box<dyn Connection>, String> {
    let none = || StoreError::Unavailable { reason: None }.to_string();
    let turn = timeout(app.wait, Arc::clone(&app.turns).acquire_owned());
    let Ok(Ok(turn)) = turn.await else {
        return Err(none());
    };
    if let Some(connection) = app.store.idle() {
        return Ok(Box::new(Borrowed {
            connection,
            _turn: turn,
        }));
    }
    let (store, wait) = (Arc::clone(&app.store), app.wait.max(LEAST));
    let opened = tokio::task::spawn_blocking(move || store.connect(wait)).await;
    let connection = opened
        .map_err(|_| none())?
        .map_err(|error| error.to_string())?;
    Ok(Box::new(Borrowed {
        connection,
        _turn: turn,
    }))
}

/// The time that opening a connection gets even when no time is left to wait for one.
const LEAST: Duration = Duration::from_millis(500);
