//! Accepts connections, and stops gracefully.
//!
//! `warp::serve` can neither time out half a request, nor set `TCP_NODELAY`, nor bound a graceful
//! stop, so that warp's filters run as a service in an accept loop of our own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use warp::Filter;
use warp::http::HeaderValue;
use warp::http::header::CACHE_CONTROL;
use warp::reply::Response;

use super::listeners::Listeners;
use super::problem::{Why, shortened};
use super::reply::LogsItself;
use super::request::Request;
use super::wire::{Socket, Wire};
use super::{App, refused};
use crate::config::Server;

/// Serves at most so many connections at once until `stop` is ready; then accepts no more, gives
/// running streams the configured time to finish, and breaks those that are left. Dropped, it breaks
/// all at once.
pub async fn serve(
    listeners: Listeners,
    sockets: usize,
    apps: watch::Receiver<Arc<App>>,
    stop: impl Future<Output = ()>,
) {
    let routes = super::routes();
    let (stop_all, make_room) = (watch::Sender::new(()), watch::Sender::new(()));
    let breaking = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listeners.accept(), if connections.len() < sockets => match accepted {
                Ok((tcp, peer)) => {
                    let hang_up = HangUp {
                        stopped: stop_all.subscribe(),
                        crowded: make_room.subscribe(),
                    };
                    let wire = Wire::new(tcp, peer, Arc::clone(&breaking));
                    connections.spawn(connection(wire, routes.clone(), apps.clone(), hang_up));
                    if connections.len() >= sockets {
                        // Whoever comes next finds no place that an idle connection keeps.
                        make_room.send_replace(());
                    }
                }
                Err(error) => {
                    // Out of file descriptors, mostly.
                    tracing::warn!(%error, "cannot accept a connection; trying again");
                    make_room.send_replace(());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listeners);
    drop(stop_all);
    tracing::info!(connections = connections.len(), "stopping");
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let shutdown = apps.borrow().server.shutdown;
    if tokio::time::timeout(shutdown, all_ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "breaking the streams still running"
        );
        breaking.store(true, Ordering::Relaxed);
        connections.shutdown().await;
    }
}

/// How a connection hears that it is to be hung up on after its running request.
struct HangUp {
    /// Closed when the server stops.
    stopped: watch::Receiver<()>,
    /// Changed when other clients need its place. Who has not asked for anything yet keeps it.
    crowded: watch::Receiver<()>,
}

/// How often a reply is looked after: whether its client has left, or stalls.
const TICK: Duration = Duration::from_millis(250);

/// One connection, up to its end or, once it is to be hung up, to the end of its running request.
async fn connection<F>(
    wire: io::Result<Wire>,
    routes: F,
    apps: watch::Receiver<Arc<App>>,
    mut hang_up: HangUp,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let Ok(wire) = wire else {
        // The client left before it was served.
        return;
    };
    let wire = Arc::new(wire);
    let Server { head, stall, .. } = apps.borrow().server;
    let filters = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(|request| {
        wire.answering();
        // What was configured when the request came, however old its connection is.
        let app = Arc::clone(&apps.borrow());
        answer(&filters, request, app, &wire)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .serve_connection(TokioIo::new(Socket(Arc::clone(&wire))), service);
    let mut connection = pin!(connection);
    let mut stopped = pin!(hang_up.stopped.changed());
    let mut crowded = pin!(hang_up.crowded.changed());
    let mut is_last = false;
    let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        if ended.is_ready() {
            return ended;
        }
        if !is_last
            && (stopped.as_mut().poll(context).is_ready()
                || wire.has_answered() && crowded.as_mut().poll(context).is_ready())
        {
            is_last = true;
            connection.as_mut().graceful_shutdown();
            let ended = connection.as_mut().poll(context);
            if ended.is_ready() {
                return ended;
            }
        }
        while wire.is_answering() {
            ready!(tick.poll_tick(context));
            if wire.is_abandoned(stall, context) {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        // A client that left, half a request, a stream that we broke and logged; or no request at all.
        refused::answer(Arc::clone(&wire), &error).await;
    }
}

/// Answers one request: what the filters say, with the request's id, and a line in the log.
async fn answer<S>(
    filters: &S,
    mut request: hyper::Request<Incoming>,
    app: Arc<App>,
    wire: &Arc<Wire>,
) -> Result<hyper::Response<impl Body<Data = Bytes, Error = warp::Error> + use<S>>, Infallible>
where
    S: Service<hyper::Request<Incoming>, Response = Response, Error = Infallible>,
{
    let known = Arc::new(Request::new(&request, app, wire));
    let method = request.method().clone();
    request.extensions_mut().insert(Arc::clone(&known));
    let mut response = filters.call(request).await?;
    if let Ok(id) = HeaderValue::from_str(&known.id) {
        response.headers_mut().insert("x-request-id", id);
    }
    // Without it a cache may guess how long a reply stays fresh, but records are added at any time.
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, never);
    if response.extensions().get::<LogsItself>().is_none() {
        let why = response.extensions().get::<Why>().map(|why| why.0.as_str());
        tracing::info!(
            id = known.id,
            client = %known.peer.ip(),
            %method,
            uri = shortened(&known.uri),
            ms = known.started.elapsed().as_millis() as u64,
            ended = why.unwrap_or("complete"),
        );
    }
    Ok(response.map(|body| wire.carry(body)))
}
