//! Borrows a pooled connection, without blocking a thread of the async runtime.

use std::sync::Arc;

use warp::{Filter, Rejection};

use super::App;
use super::problem::Problem;
use crate::stream::connections::Lease;

/// A connection; 503 with `Retry-After` when there is none within the configured wait.
pub(super) fn borrowed(
    app: &Arc<App>,
) -> impl Filter<Extract = (Lease,), Error = Rejection> + Clone + use<> {
    let app = Arc::clone(app);
    warp::any().and_then(move || {
        let app = Arc::clone(&app);
        async move {
            let lease = app.connections.borrow().await;
            lease.map_err(|error| Problem::unavailable(error.to_string()).rejection())
        }
    })
}
