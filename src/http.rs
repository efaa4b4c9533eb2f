//! The HTTP interface: warp filters, one file per concern.
//!
//! | file | what it does |
//! |---|---|
//! | `http/listeners.rs` | the addresses that it listens at |
//! | `http/server.rs` | accepts connections, stops gracefully |
//! | `http/addresses.rs` | how many connections each address has |
//! | `http/tcp.rs` | a connection's socket: clients that stall or have left, resets |
//! | `http/tls.rs` | certificate and key, and the handshake |
//! | `http/wire.rs` | a connection as hyper sees it: breaks that show, what hyper says by itself |
//! | `http/refused.rs` | answers what hyper does not take for a request |
//! | `http/request.rs` | who asks: request id, HTTP version; refuses methods and bodies |
//! | `http/access.rs` | who asks, and what they may read; `http/credentials.rs`: the token that they show |
//! | `http/quota.rs` | how much the holder of a token may ask for |
//! | `http/cors.rs` | which pages of other origins may read replies |
//! | `http/client_address.rs` | whose request it is, behind proxies |
//! | `http/trace.rs` | the trace that it is a part of |
//! | `http/target.rs` | path → stream and extension; a slash too many |
//! | `http/parameters.rs` | query string → what to read, format and its options |
//! | `http/filters.rs` | one filter of a column |
//! | `http/operators.rs` | a filter's operator, and what looks like one but is not |
//! | `http/instants.rs` | times as clients write them |
//! | `http/points.rs` | values that no record can have, compared exactly |
//! | `http/negotiation.rs` | `Accept`, `Accept-Encoding` (RFC 9110) → format, coding |
//! | `http/conditions.rs` | `ETag`, what the client has already, the part that it wants (RFC 9110) |
//! | `http/connection.rs` | borrows a pooled connection |
//! | `http/catalogue.rs` | what there is: streams, and their columns in several dialects |
//! | `http/reply.rs` | head and body of a stream |
//! | `http/body.rs` | the body, and the log line when it ends |
//! | `http/ending.rs` | how a reply ended |
//! | `http/line.rs` | the log line of a request |
//! | `http/selected.rs` | what a request reads, for the log |
//! | `http/health.rs` | `/`, `/healthz`, `/readyz` |
//! | `http/metrics.rs` | what is counted, and `/metrics` |
//! | `http/problem.rs` | errors as `application/problem+json` (RFC 9457) |

mod access;
mod addresses;
mod body;
mod catalogue;
mod client_address;
mod conditions;
mod connection;
mod cors;
mod credentials;
mod ending;
mod filters;
mod health;
mod instants;
mod line;
pub mod listeners;
mod metrics;
mod negotiation;
mod operators;
mod parameters;
mod points;
mod problem;
mod quota;
mod refused;
mod reply;
mod request;
mod selected;
pub mod server;
mod target;
mod tcp;
pub mod tls;
mod trace;
mod wire;

use std::convert::Infallible;
use std::sync::Arc;

use flows_formats::Registry;
use tokio_rustls::rustls::ServerConfig;
use warp::Filter;
use warp::reply::Response;

use access::Access;
use health::Health;
use metrics::{Counted, Metrics};
use tls::TlsError;

use crate::config::{Config, Database, Server};
use crate::definition::Stream;
use crate::selection::View;
use crate::store::Store;
use crate::stream::ContentCoding;
use crate::stream::connections::{Connections, OnLoan};
use crate::stream::places::Places;

/// What every request needs: the streams, the formats and the connections. A changed configuration makes
/// another one; requests that have begun keep theirs.
pub struct App {
    /// `[server]`
    server: Server,
    /// What new connections are encrypted with, if they are.
    tls: Option<Arc<ServerConfig>>,
    streams: Vec<Served>,
    access: Access,
    formats: Registry,
    /// Those of each database that had a stream when the server started, as it was configured then.
    databases: Vec<(Database, Connections)>,
    /// The codings of replies, best first.
    codings: [ContentCoding; 3],
    /// What is counted, since the server started.
    metrics: Arc<Metrics>,
    /// What is known of the databases, and whether the server stops.
    health: Arc<Health>,
    /// Whether `/metrics` has a listener of its own.
    metrics_apart: bool,
}

/// A stream that is served.
#[derive(Clone)]
struct Served {
    /// All there is in it.
    view: Arc<View>,
    /// The connections to its database.
    connections: Connections,
    /// What is counted of it.
    counted: Arc<Counted>,
}

/// Why a configuration cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A stream was added to a database that is not open.
    #[error(
        "stream {stream} is in a database that had no stream when the server started; it needs a restart"
    )]
    NotOpen {
        /// Its name.
        stream: String,
    },
    /// There is something wrong with the certificate or its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl App {
    /// The application that serves the configured streams; `store` opens each database of
    /// [`Config::served`], in its order.
    ///
    /// # Errors
    /// What is wrong with the certificate or its key: every stream's database is opened.
    pub fn new(
        config: &Config,
        formats: Registry,
        mut store: impl FnMut(&Database) -> Arc<dyn Store>,
    ) -> Result<App, AppError> {
        let (served, on_loan) = (config.served(), OnLoan::default());
        let places = Places::new(config.server.streams, served.len());
        let databases = served.into_iter().map(|(database, _)| {
            let connections = Connections::new(store(database), database.wait, &on_loan, &places);
            (database.clone(), connections)
        });
        let databases: Vec<_> = databases.collect();
        let metrics = Arc::new(Metrics::new(&databases));
        let health = Arc::new(Health::new(databases.len()));
        App::over(databases, metrics, health, config, formats, None)
    }

    /// The application after the configuration has changed, over the connections that there are.
    ///
    /// # Errors
    /// A stream is in a database to which there are none, or something is wrong with the certificate or its
    /// key.
    pub fn changed(&self, config: &Config, formats: Registry) -> Result<App, AppError> {
        let mut databases = self.databases.clone();
        if config.server.streams != self.server.streams {
            // Streams that run keep the places that they have.
            let places = Places::new(config.server.streams, databases.len());
            for (_, connections) in &mut databases {
                *connections = connections.with(&places);
            }
        }
        let metrics = Arc::clone(&self.metrics);
        let health = Arc::clone(&self.health);
        App::over(
            databases,
            metrics,
            health,
            config,
            formats,
            Some(&self.access),
        )
    }

    fn over(
        databases: Vec<(Database, Connections)>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        config: &Config,
        formats: Registry,
        before: Option<&Access>,
    ) -> Result<App, AppError> {
        let served = |stream: &Arc<Stream>| {
            let mut databases = databases.iter();
            let found = databases.find(|(database, _)| database.name == stream.database);
            let (_, connections) = found.ok_or_else(|| AppError::NotOpen {
                stream: stream.name.clone(),
            })?;
            Ok::<_, AppError>(Served {
                view: Arc::new(View::all(Arc::clone(stream))),
                connections: connections.clone(),
                counted: metrics.stream(&stream.name),
            })
        };
        let streams = config.streams.iter().map(served);
        let streams = streams.collect::<Result<Vec<_>, _>>()?;
        let tls = config.server.tls.as_ref().map(tls::acceptor).transpose()?;
        Ok(App {
            server: config.server.clone(),
            tls,
            access: Access::new(&config.auth, &streams, before),
            streams,
            formats,
            databases,
            codings: ContentCoding::all(&config.compression),
            metrics,
            health,
            metrics_apart: config.metrics.listen.is_some(),
        })
    }

    /// The databases that are open, as they were configured when the server started.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.databases.iter().map(|(database, _)| database)
    }
}

/// Where a request comes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listener {
    /// Where streams are.
    Main,
    /// `metrics.listen`
    Metrics,
}

/// The routes of `metrics.listen`.
fn metrics_routes()
-> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    metrics::metrics(Listener::Metrics)
        .or(health::health(Listener::Metrics))
        .unify()
        .recover(problem::recover)
        .unify()
}

/// Every route there is. Requests need the extension that [`server`] puts on them.
fn routes() -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static
{
    target::target()
        .and(request::get_or_head())
        .and(request::no_body())
        .and(request::query())
        .and(warp::ext::get::<request::Shared>())
        .and_then(parameters::asked)
        .and_then(connection::borrowed)
        .untuple_one()
        .then(reply::stream)
        .or(target::without_slash())
        .unify()
        .or(catalogue::catalogue())
        .unify()
        .or(health::health(Listener::Main))
        .unify()
        .or(health::root())
        .unify()
        .or(metrics::metrics(Listener::Main))
        .unify()
        .recover(problem::recover)
        .unify()
}
