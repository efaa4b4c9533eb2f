//! Accepts connections, and stops gracefully.
//!
//! `warp::serve` can neither time out half a request, nor set `TCP_NODELAY`, nor bound a graceful
//! stop, so that warp's filters run as a service in an accept loop of our own.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use warp::Filter;
use warp::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use warp::http::{HeaderValue, Method};
use warp::reply::Response;

use super::App;
use super::addresses::Addresses;
use super::client_address::is_of;
use super::cors::Cors;
use super::ending::Ending;
use super::line::ended;
use super::listeners::Listeners;
use super::metrics::Reply;
use super::problem::{Problem, Why, shortened};
use super::refused::{self, Refused};
use super::request::{Request, Shared};
use super::tcp::Tcp;
use super::tls::{self, Greeted};
use super::wire::{Socket, Wire};
use crate::config::Server;
use crate::token::redacted_url;

/// Serves at most so many connections at once until `stop` is ready; then accepts no more, gives
/// running streams the configured time to finish, and breaks those that are left. Dropped, it breaks
/// all at once.
pub async fn serve(
    listeners: Listeners,
    sockets: usize,
    mut apps: watch::Receiver<Arc<App>>,
    stop: impl Future<Output = ()>,
) {
    let routes = super::routes();
    let (stop_all, make_room) = (watch::Sender::new(()), watch::Sender::new(()));
    let breaking = Arc::new(AtomicBool::new(false));
    let addresses = Addresses::default();
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let most = apps.borrow().server.connections.min(sockets);
        if connections.len() >= most {
            // Whoever comes next finds no place that an idle connection keeps.
            make_room.send_replace(());
        }
        tokio::select! {
            () = &mut stop => break,
            // There may be more places now, or fewer.
            Ok(()) = apps.changed() => {}
            accepted = listeners.accept(), if connections.len() < most => match accepted {
                Ok((tcp, peer)) => {
                    let (most, tls) = {
                        let app = apps.borrow();
                        // A proxy's are those of many clients.
                        let is_proxy = is_of(&app.server.proxies, peer.ip().to_canonical());
                        let most = app.server.connections_per_address;
                        (if is_proxy { usize::MAX } else { most }, app.tls.is_some())
                    };
                    let Some(counted) = addresses.count(peer.ip(), most) else {
                        let refused = addresses.refuse(tcp, peer.ip(), most, tls);
                        if let Some(parting) = refused {
                            connections.spawn(parting);
                        }
                        apps.borrow().metrics.refused(429);
                        continue;
                    };
                    let hang_up = HangUp {
                        stopped: stop_all.subscribe(),
                        crowded: make_room.subscribe(),
                    };
                    let (routes, apps) = (routes.clone(), apps.clone());
                    let breaking = Arc::clone(&breaking);
                    connections.spawn(async move {
                        let _counted = counted;
                        // Boxed: it is large, and soon over.
                        let wired = Box::pin(wired(tcp, peer, breaking, &apps, &hang_up));
                        if let Some(wire) = wired.await {
                            connection(wire, routes, apps, hang_up).await;
                        }
                    });
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
    apps.borrow().health.stops();
    drop(listeners);
    drop(stop_all);
    tracing::info!(connections = connections.len(), "stopping");
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let shutdown = apps.borrow().server.shutdown;
    if timeout(shutdown, all_ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "breaking the streams still running"
        );
        breaking.store(true, Ordering::Relaxed);
        connections.shutdown().await;
    }
}

/// The most connections at once of those who watch the server.
const WATCHERS: usize = 8;

/// Serves `/metrics` and the like, for ever: also while the server stops.
pub async fn watch(listeners: Listeners, apps: watch::Receiver<Arc<App>>) {
    let routes = super::metrics_routes();
    let (stop_all, make_room) = (watch::Sender::new(()), watch::Sender::new(()));
    let breaking = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listeners.accept(), if connections.len() < WATCHERS => match accepted {
                Ok((tcp, peer)) => {
                    // If it fails, the client left before it was served.
                    let Ok(tcp) = Tcp::new(tcp) else { continue };
                    let hang_up = HangUp {
                        stopped: stop_all.subscribe(),
                        crowded: make_room.subscribe(),
                    };
                    let breaking = Arc::clone(&breaking);
                    let wire = Arc::new(Wire::new(Arc::new(tcp), None, peer, breaking));
                    connections.spawn(connection(wire, routes.clone(), apps.clone(), hang_up));
                    if connections.len() >= WATCHERS {
                        make_room.send_replace(());
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How a connection hears that it is to be hung up on after its running request.
#[derive(Clone)]
struct HangUp {
    /// Closed when the server stops.
    stopped: watch::Receiver<()>,
    /// Changed when other clients need its place. Who has not asked for anything yet keeps it for a moment.
    crowded: watch::Receiver<()>,
}

/// How long a client may take to send the head of its request while others need its place.
const HURRY: Duration = Duration::from_secs(1);

/// How often a connection without a request is looked at, at least.
const LOOK: Duration = Duration::from_secs(5);

/// How often a reply is looked after: whether its client has left, or stalls.
const TICK: Duration = Duration::from_millis(250);

/// A connection whose client may now send requests, once it has agreed upon TLS where that is configured.
async fn wired(
    tcp: TcpStream,
    peer: SocketAddr,
    breaking: Arc<AtomicBool>,
    apps: &watch::Receiver<Arc<App>>,
    hang_up: &HangUp,
) -> Option<Arc<Wire>> {
    // If it fails, the client left before it was served.
    let tcp = Arc::new(Tcp::new(tcp).ok()?);
    let (tls, head) = {
        let app = apps.borrow();
        (app.tls.clone(), app.server.head)
    };
    let Some(tls) = tls else {
        return Some(Arc::new(Wire::new(tcp, None, peer, breaking)));
    };
    let HangUp {
        mut stopped,
        mut crowded,
    } = hang_up.clone();
    let hurried = async {
        let _ = crowded.changed().await;
        tokio::time::sleep(HURRY).await;
    };
    let greeted = tokio::select! {
        greeted = timeout(head, tls::greet(tls, &tcp)) => greeted,
        _ = stopped.changed() => return None,
        () = hurried => return None,
    };
    match greeted {
        Ok(Ok(Greeted::Tls(tls))) => Some(Arc::new(Wire::new(tcp, Some(tls), peer, breaking))),
        Ok(Ok(Greeted::Plain)) => {
            let wire = Arc::new(Wire::new(tcp, None, peer, breaking));
            let app = Arc::clone(&apps.borrow());
            refused::answer_plain(wire, &app).await;
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(client = %peer.ip(), %error, "no TLS was agreed upon");
            None
        }
        Err(_) => {
            tracing::debug!(client = %peer.ip(), "no TLS was agreed upon in time (server.head_seconds)");
            None
        }
    }
}

/// One connection, up to its end or, once it is to be hung up, to the end of its running request.
async fn connection<F>(
    wire: Arc<Wire>,
    routes: F,
    apps: watch::Receiver<Arc<App>>,
    mut hang_up: HangUp,
) where
    F: Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static,
    F::Future: Send,
{
    let _connected = apps.borrow().metrics.connected();
    let (head_bytes, head) = {
        let server = &apps.borrow().server;
        (server.head_bytes, server.head)
    };
    let mut late = pin!(tokio::time::sleep(head));
    let filters = TowerToHyperService::new(warp::service(routes));
    let service = service_fn(|request| {
        wire.answering();
        // What was configured when the request came, however old its connection is.
        let app = Arc::clone(&apps.borrow());
        answer(&filters, request, app, &wire)
    });
    let connection = http1::Builder::new()
        .max_header_size(head_bytes)
        .max_buf_size(head_bytes)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Socket(Arc::clone(&wire))), service);
    let mut connection = pin!(connection);
    let mut stopped = pin!(hang_up.stopped.changed());
    let mut crowded = pin!(hang_up.crowded.changed());
    let (mut is_crowded, mut is_last) = (false, false);
    let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = poll_fn(|context| {
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            return Poll::Ready(ended.map_err(Refused::Hyper));
        }
        is_crowded = is_crowded || crowded.as_mut().poll(context).is_ready();
        if !is_last
            && (stopped.as_mut().poll(context).is_ready() || is_crowded && wire.is_between())
        {
            is_last = true;
            connection.as_mut().graceful_shutdown();
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                return Poll::Ready(ended.map_err(Refused::Hyper));
            }
        }
        // Those of this moment, however old the connection is.
        let Server {
            head,
            idle,
            stall,
            stream,
            ..
        } = apps.borrow().server;
        while wire.is_answering() {
            ready!(tick.poll_tick(context));
            if wire.is_over(stall, stream, context) {
                return Poll::Ready(Ok(()));
            }
        }
        let head = if is_crowded { head.min(HURRY) } else { head };
        while let Some(deadline) = wire.deadline(head, idle) {
            let deadline = Instant::from_std(deadline);
            if deadline <= Instant::now() {
                return Poll::Ready(Err(Refused::Late));
            }
            // Mostly it is put off, which is not worth telling the timer.
            if late.is_elapsed() || deadline < late.deadline() {
                // What is configured may become shorter.
                late.as_mut().reset(deadline.min(Instant::now() + LOOK));
            }
            ready!(late.as_mut().poll(context));
        }
        Poll::Pending
    });
    if let Err(error) = ended.await {
        // A client that left, half a request, a stream that we broke and logged; or no request at all.
        let app = Arc::clone(&apps.borrow());
        refused::answer(Arc::clone(&wire), &error, &app).await;
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
    let method = request.method().clone();
    let known = Arc::new(Request::new(&request, app, wire));
    request.extensions_mut().insert(Arc::clone(&known));
    let cors = Cors::of(&known.app.server.cors_origins, &request);
    let mut line = Line {
        request: Arc::clone(&known),
        method,
        reply: None,
    };
    let url_bytes = known.app.server.url_bytes;
    let mut response = if known.uri.len() > url_bytes {
        Problem::url_too_long(url_bytes).response()
    } else if let Some(allowed) = cors.preflight() {
        allowed
    } else {
        filters.call(request).await?
    };
    cors.describe(response.headers_mut());
    if let Ok(id) = HeaderValue::from_str(&known.id) {
        response.headers_mut().insert("x-request-id", id);
    }
    // Without it a cache may guess how long a reply stays fresh, but records are added at any time. What has an
    // `ETag` says so itself.
    let never = HeaderValue::from_static("no-store");
    response.headers_mut().entry(CACHE_CONTROL).or_insert(never);
    // Records may hold anything, such as a page with a script.
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    let why = response.extensions_mut().remove::<Why>();
    line.reply = Some((response.status().as_u16(), why));
    Ok(response.map(|body| wire.carry(body)))
}

/// Logs a request when it is dropped, unless its reply does.
struct Line {
    request: Shared,
    method: Method,
    /// The status of the reply, and the reason for it. None is sent to a client that has left before.
    reply: Option<(u16, Option<Why>)>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let Line {
            request,
            method,
            reply,
        } = self;
        // A stream's line is written when its body ends.
        if !request.may_tell() {
            return;
        }
        let status = reply.as_ref().map(|(status, _)| *status);
        let (ending, ended) = match reply.take() {
            None => request.fate.reason(),
            Some((_, why)) => {
                let why = why.map_or_else(|| "complete".to_owned(), |why| why.0);
                (Ending::Complete, why)
            }
        };
        let metrics = &request.app.metrics;
        metrics.ended(
            request,
            ending,
            status.unwrap_or_default(),
            Reply::default(),
        );
        ended!(
            request,
            ending,
            status.unwrap_or_default(),
            method = shortened(method.as_str()),
            uri = shortened(&redacted_url(&request.uri, false)),
            status,
            ms = request.started.elapsed().as_millis() as u64,
            ended,
        );
    }
}
