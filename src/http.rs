//! The HTTP interface: warp filters, one file per concern.
//!
//! | file | what it does |
//! |---|---|
//! | `http/listeners.rs` | the addresses that it listens at |
//! | `http/server.rs` | accepts connections, stops gracefully |
//! | `http/wire.rs` | a connection's socket: clients that stall or have left, breaks that show |
//! | `http/refused.rs` | answers what hyper does not take for a request |
//! | `http/request.rs` | who asks: request id, HTTP version; refuses methods and bodies |
//! | `http/target.rs` | path → stream and extension |
//! | `http/parameters.rs` | query string → what to read, format and its options |
//! | `http/filters.rs` | one filter of a column |
//! | `http/operators.rs` | a filter's operator, and what looks like one but is not |
//! | `http/instants.rs` | times as clients write them |
//! | `http/points.rs` | values that no record can have, compared exactly |
//! | `http/negotiation.rs` | `Accept`, `Accept-Encoding` (RFC 9110) → format, coding |
//! | `http/connection.rs` | borrows a pooled connection |
//! | `http/catalogue.rs` | what there is: streams, and their columns in several dialects |
//! | `http/reply.rs` | head and body of a stream |
//! | `http/body.rs` | the body, and the log line when it ends |
//! | `http/problem.rs` | errors as `application/problem+json` (RFC 9457) |

mod body;
mod catalogue;
mod connection;
mod filters;
mod instants;
pub mod listeners;
mod negotiation;
mod operators;
mod parameters;
mod points;
mod problem;
mod refused;
mod reply;
mod request;
pub mod server;
mod target;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use flows_formats::Registry;
use warp::Filter;
use warp::reply::Response;

use parameters::StreamRequest;
use problem::{Problem, shortened};

use crate::config::{Config, Database};
use crate::definition::Stream;
use crate::selection::View;
use crate::store::Store;
use crate::stream::ContentCoding;
use crate::stream::connections::{Connections, OnLoan};

/// What every request needs: the streams, the formats and the connections.
pub struct App {
    /// The streams, each as the view of all there is in it.
    streams: Vec<Arc<View>>,
    formats: Registry,
    /// Those of each database that has a stream, with its name.
    databases: Vec<(Option<String>, Connections)>,
    /// The codings of replies, best first.
    codings: [ContentCoding; 3],
}

impl App {
    /// The application that serves the configured streams; `store` opens each database of
    /// [`Config::served`], in its order.
    pub fn new(
        config: &Config,
        formats: Registry,
        mut store: impl FnMut(&Database) -> Arc<dyn Store>,
    ) -> App {
        let on_loan = OnLoan::default();
        let databases = config.served().into_iter().map(|(database, _)| {
            let connections = Connections::new(store(database), database.wait, &on_loan);
            (database.name.clone(), connections)
        });
        let complete = |stream: &Arc<Stream>| Arc::new(View::all(Arc::clone(stream)));
        App {
            streams: config.streams.iter().map(complete).collect(),
            formats,
            databases: databases.collect(),
            codings: ContentCoding::all(&config.compression),
        }
    }
}

impl App {
    /// The connections to the database that a stream is in.
    fn connections(&self, stream: &Stream) -> &Connections {
        let mut databases = self.databases.iter();
        let found = databases.find(|(name, _)| *name == stream.database);
        let (_, connections) = found.expect("each database that has a stream has a store");
        connections
    }

    /// The stream of that name; 404 when there is none.
    fn stream(&self, name: &str) -> Result<&Arc<View>, Problem> {
        let found = self.streams.iter().find(|view| view.stream.name == name);
        found.ok_or_else(|| {
            let detail = format!("there is no stream called {:?}", shortened(name));
            let names = self.streams.iter().map(|view| view.stream.name.as_str());
            Problem::not_found(detail).allowing(name, names)
        })
    }
}

/// Every route there is. Requests need the extension that [`server`] puts on them.
fn routes(
    app: &Arc<App>,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let of_stream = Arc::clone(app);
    target::target(app)
        .and(request::get_or_head())
        .and(request::no_body())
        .and(request::query())
        .and(warp::ext::get::<request::Shared>())
        .and_then(parameters::asked)
        .and_then(move |asked: StreamRequest| {
            let connections = of_stream.connections(&asked.view.stream).clone();
            connection::borrowed(asked, connections)
        })
        .untuple_one()
        .then(reply::stream)
        .or(catalogue::catalogue(app))
        .unify()
        .recover(problem::recover)
        .unify()
}
