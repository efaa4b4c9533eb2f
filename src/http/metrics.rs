//! What is counted, for `/metrics`: counters since the start, and what is so at the moment.
//!
//! No label is what a client can make up: streams and formats are names of those that there are.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{self, CONTENT_TYPE};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::Listener;
use super::ending::Ending;
use super::problem::Problem;
use super::request::{self, Shared};
use crate::config::Database;
use crate::log;
use crate::stream::connections::Connections;

/// From a small request to a large stream, in seconds.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0,
];

/// All that is counted of a server, from its start to its end.
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    records: Family<Sent, Counter>,
    bytes: Family<Sent, Counter>,
    first_byte: Family<OfStream, Histogram, fn() -> Histogram>,
    duration: Family<OfStream, Histogram, fn() -> Histogram>,
    /// Streams that are running.
    streams: Gauge,
    /// Connections of clients that are open.
    connections: Gauge,
    /// Of requests for no stream.
    none: Arc<Counted>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    stream: String,
    format: &'static str,
    coding: &'static str,
    status: u16,
    ending: Ending,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Sent {
    stream: String,
    format: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfStream {
    stream: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl EncodeLabelValue for Ending {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        EncodeLabelValue::encode(&self.name(), encoder)
    }
}

/// What is counted of one stream, found once and not with each request.
#[derive(Debug)]
pub(super) struct Counted {
    stream: String,
    first_byte: Histogram,
    duration: Histogram,
}

/// What a reply was.
#[derive(Clone, Copy, Default)]
pub(super) struct Reply {
    pub(super) format: &'static str,
    pub(super) coding: &'static str,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Metrics {
    /// Nothing is counted yet; tells of these databases' connections.
    pub(super) fn new(databases: &[(Database, Connections)]) -> Metrics {
        let mut registry = Registry::with_prefix("flows");
        let (requests, records, bytes) = <(Family<_, _>, Family<_, _>, Family<_, _>)>::default();
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let first_byte = Family::new_with_constructor(histogram);
        let duration = Family::new_with_constructor(histogram);
        let (streams, connections) = <(Gauge, Gauge)>::default();
        registry.register(
            "requests",
            "Requests that have ended",
            Family::clone(&requests),
        );
        registry.register(
            "sent_records",
            "Records sent in streams",
            Family::clone(&records),
        );
        registry.register(
            "sent_bytes",
            "Bytes sent in streams, as coded",
            Family::clone(&bytes),
        );
        registry.register(
            "request_first_byte_seconds",
            "Time from the head of a request to the head of its reply",
            Family::clone(&first_byte),
        );
        registry.register(
            "request_duration_seconds",
            "Time from the head of a request to the end of its reply",
            Family::clone(&duration),
        );
        registry.register("streams_running", "Streams on their way", streams.clone());
        registry.register(
            "connections_open",
            "Connections of clients that are open",
            connections.clone(),
        );
        let version = env!("CARGO_PKG_VERSION");
        registry.register(
            "build",
            "The version that runs",
            Info::new(Build { version }),
        );
        // A clock before 1970 is wrong anyhow.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = ConstGauge::new(now.unwrap_or_default().as_secs_f64());
        registry.register("start_time_seconds", "When it started, since 1970", start);
        registry.register_collector(Box::new(Present(databases.to_vec())));
        let none = counted(&first_byte, &duration, "");
        Metrics {
            registry,
            requests,
            records,
            bytes,
            first_byte,
            duration,
            streams,
            connections,
            none,
        }
    }

    /// What is counted of a stream of this name.
    pub(super) fn stream(&self, name: &str) -> Arc<Counted> {
        counted(&self.first_byte, &self.duration, name)
    }

    /// A stream runs until what comes back is dropped.
    pub(super) fn running(&self) -> Running {
        Running::new(&self.streams)
    }

    /// A connection is open until what comes back is dropped.
    pub(super) fn connected(&self) -> Running {
        Running::new(&self.connections)
    }

    /// Counts that the head of a stream's reply is there.
    pub(super) fn begins(&self, request: &request::Request) {
        let counted = request.counted.get().unwrap_or(&self.none);
        let elapsed = request.started.elapsed();
        counted.first_byte.observe(elapsed.as_secs_f64());
    }

    /// Counts a request that has ended; status 0 is that of one whose reply never had a head.
    pub(super) fn ended(
        &self,
        request: &request::Request,
        ending: Ending,
        status: u16,
        reply: Reply,
    ) {
        let counted = request.counted.get().unwrap_or(&self.none);
        let elapsed = request.started.elapsed();
        counted.duration.observe(elapsed.as_secs_f64());
        let Reply {
            format,
            coding,
            records,
            bytes,
        } = reply;
        if !format.is_empty() {
            let stream = counted.stream.clone();
            let sent = Sent { stream, format };
            self.records.get_or_create(&sent).inc_by(records);
            self.bytes.get_or_create(&sent).inc_by(bytes);
        }
        let ended = Ended {
            stream: counted.stream.clone(),
            format,
            coding,
            status,
            ending,
        };
        self.requests.get_or_create(&ended).inc();
    }

    /// Counts what was not taken for a request.
    pub(super) fn refused(&self, status: u16) {
        let ended = Ended {
            stream: String::new(),
            format: "",
            coding: "",
            status,
            ending: Ending::Complete,
        };
        self.requests.get_or_create(&ended).inc();
    }

    /// All of it, as Prometheus reads it.
    fn text(&self) -> String {
        let mut text = String::new();
        // A string takes all that is written to it.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

fn counted(
    first_byte: &Family<OfStream, Histogram, fn() -> Histogram>,
    duration: &Family<OfStream, Histogram, fn() -> Histogram>,
    name: &str,
) -> Arc<Counted> {
    let of = OfStream {
        stream: name.to_owned(),
    };
    Arc::new(Counted {
        stream: name.to_owned(),
        first_byte: first_byte.get_or_create_owned(&of),
        duration: duration.get_or_create_owned(&of),
    })
}

/// One of those that a gauge counts, until it is dropped.
pub(super) struct Running(Gauge);

impl Running {
    fn new(gauge: &Gauge) -> Running {
        gauge.inc();
        Running(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is looked at when someone asks: the connections to databases, and the log.
struct Present(Vec<(Database, Connections)>);

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Present")
    }
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let lost = ConstCounter::new(log::lost());
        let help = "Lines that the log lost because they could not be written.";
        let lines = encoder.encode_descriptor("log_lines_lost", help, None, lost.metric_type())?;
        lost.encode(lines)?;
        let usages: Vec<_> = self.0.iter().map(|(_, pool)| pool.usage()).collect();
        let slices = usages.first().map_or(0, |usage| usage.slices);
        let help = "Connections that write a slice of a stream, beside others of the same stream.";
        let gauge = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let encoded = encoder.encode_descriptor("slices_running", help, None, MetricType::Gauge)?;
        gauge(slices).encode(encoded)?;
        let help = "Seconds that replies with order=id have been seen to stay behind a process of the database that writes.";
        let name = "order_by_id_held_back_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for held in self.0.iter().flat_map(|(_, pool)| pool.held_back()) {
            let labels = [("stream", held.stream), ("process", held.holder)];
            let seconds = usize::try_from(held.seconds).unwrap_or(usize::MAX);
            gauge(seconds).encode(family.encode_family(&labels)?)?;
        }
        let names = [
            (
                "pool_connections_most",
                "Connections that there may be to a database.",
            ),
            (
                "pool_connections_in_use",
                "Connections to a database on loan to requests.",
            ),
            (
                "pool_connections_idle",
                "Connections to a database that are open and idle.",
            ),
            (
                "pool_requests_waiting",
                "Requests that wait for a connection to a database.",
            ),
        ];
        for (at, (name, help)) in names.into_iter().enumerate() {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((database, _), usage) in self.0.iter().zip(&usages) {
                let name = database.name.as_deref().unwrap_or("[database]");
                let counts = [usage.most, usage.in_use, usage.idle, usage.waiting];
                let labels = [("database", name)];
                gauge(counts[at]).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// `/metrics`, without a line in the log; where streams are, for those who may read them all.
pub(super) fn metrics(
    listener: Listener,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    warp::path!("metrics")
        .and(request::get_or_head())
        .and(warp::ext::get::<Shared>())
        .and_then(move |request: Shared| async move {
            if listener == Listener::Main {
                if request.app.metrics_apart {
                    return Err(warp::reject::not_found());
                }
                request.knows_all().map_err(Problem::rejection)?;
            }
            request.may_tell();
            let mut response = Response::new(request.app.metrics.text().into());
            let media_type = HeaderValue::from_static(CONTENT_TYPE);
            response
                .headers_mut()
                .insert(CONTENT_TYPE_HEADER, media_type);
            Ok(response)
        })
}
