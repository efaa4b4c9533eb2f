//! The HTTP interface: warp filters, one file per concern.
//!
//! | file | what it does |
//! |---|---|
//! | `http/server.rs` | accepts connections, stops gracefully |
//! | `http/request.rs` | who asks: request id, HTTP version; refuses methods and bodies |
//! | `http/target.rs` | path → stream and extension |
//! | `http/parameters.rs` | query string → selection and format |
//! | `http/connection.rs` | borrows a pooled connection |
//! | `http/reply.rs` | head and body of a stream |
//! | `http/body.rs` | the body, and the log line when it ends |
//! | `http/problem.rs` | errors as `application/problem+json` (RFC 9457) |

mod body;
mod connection;
mod parameters;
mod problem;
mod reply;
mod request;
pub mod server;
mod target;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use flows_formats::Registry;
use warp::Filter;
use warp::reply::Response;

use crate::config::{Config, Stream};
use crate::store::Store;
use crate::stream::connections::Connections;

/// What every request needs: the streams, the formats and the connections.
pub struct App {
    streams: Vec<Arc<Stream>>,
    formats: Registry,
    connections: Connections,
    wait: Duration,
}

impl App {
    /// The application that serves the configured streams from a store.
    pub fn new(config: &Config, formats: Registry, store: Arc<dyn Store>) -> App {
        App {
            streams: config.streams.clone(),
            formats,
            connections: Connections::new(store),
            wait: config.database.wait,
        }
    }
}

/// Every route there is. Requests need the extension that [`server`] puts on them.
fn routes(
    app: &Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    target::target(app)
        .and(request::get_or_head())
        .and(request::no_body())
        .and(request::query())
        .and_then(parameters::asked)
        .and(connection::borrowed(app))
        .and(warp::ext::get::<Arc<request::Request>>())
        .then(reply::stream)
        .recover(problem::recover)
        .unify()
}
