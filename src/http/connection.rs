//! Borrows a pooled connection, without blocking a thread of the async runtime.

use warp::Rejection;

use super::parameters::StreamRequest;
use super::problem::Problem;
use crate::stream::connections::Lease;

/// A connection to the database of the stream that is asked for; 503 with `Retry-After` when there is none
/// within the configured wait; 429 when the
/// token runs as many streams as it may.
pub(super) async fn borrowed(asked: StreamRequest) -> Result<(StreamRequest, Lease), Rejection> {
    asked.request.runs().map_err(Problem::rejection)?;
    match asked.connections.borrow().await {
        Ok(lease) => Ok((asked, lease)),
        Err(error) => Err(Problem::unavailable(error.to_string()).rejection()),
    }
}
