//! What is known of streams for a while: their tables, and how the server would read them.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::arrivals::Arrivals;
use super::connection::Begun;
use super::failure::Failure;
use super::query::Query;
use super::relation::{Column, Relation};
use super::session::{Session, Watch};
use crate::definition::Number;
use crate::selection::{Range, View};
use crate::store::StoreError;

/// How long what is known is good for: an index may come or go.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// So many records may be sorted before the first one comes, if few match a filter.
const FEW: f64 = 20_000.0;

/// The most plans that are kept: views that clients make up are many.
const MOST_PLANS: usize = 1000;

/// What is known of the streams of a database.
#[derive(Default)]
pub(super) struct Memory {
    streams: Mutex<HashMap<Number, Arc<Known>>>,
    pub(super) arrivals: Arrivals,
    /// Whether the engine was seen not to share snapshots.
    pub(super) cannot_share: AtomicBool,
}

/// What is known of one.
pub(super) struct Known {
    pub(super) relation: Relation,
    since: Instant,
    /// How views are read, by shape.
    plans: Mutex<HashMap<String, Planned>>,
}

/// How the server reads a view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// Whether an index gives the order.
    pub(super) in_order: bool,
    /// Whether so few records match that they are better found by another index, and sorted.
    pub(super) sorts_few: bool,
}

impl Memory {
    /// What is known of a view's stream, and the view's query. What was known before may be old: an error is of what
    /// was looked at now.
    pub(super) fn query(
        &self,
        session: &mut Session,
        view: &View,
        watch: Watch<'_>,
    ) -> Result<(Arc<Known>, Query), Begun> {
        let stream = &view.stream;
        let streams = || self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let known = streams().get(&stream.number).cloned();
        if let Some(known) = known.filter(|known| known.since.elapsed() < GOOD_FOR)
            && let Ok(query) = Query::new(view, &known.relation)
        {
            return Ok((known, query));
        }
        let unfit = |reason| {
            Begun::Unfit(StoreError::Database {
                stream: stream.name.clone(),
                reason,
            })
        };
        let relation = Relation::look(session, &stream.source, watch);
        let relation = relation.map_err(|failure| match failure {
            Some(failure) => Begun::Failed(failure),
            None => unfit(format!("there is no {}", stream.origin())),
        })?;
        let query = Query::new(view, &relation).map_err(unfit)?;
        let known = Arc::new(Known {
            relation,
            since: Instant::now(),
            plans: Mutex::default(),
        });
        let mut streams = streams();
        // Also those of definitions that are no more.
        streams.retain(|_, known| known.since.elapsed() < GOOD_FOR);
        streams.insert(stream.number, Arc::clone(&known));
        Ok((known, query))
    }

    /// Has what is known of a stream looked at again.
    pub(super) fn forget(&self, view: &View) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.remove(&view.stream.number);
    }
}

impl Known {
    /// How a view is read. Asks the server, unless that is known.
    pub(super) fn plan(
        &self,
        session: &mut Session,
        view: &View,
        query: &Query,
        watch: Watch<'_>,
    ) -> Result<Planned, Failure> {
        let plans = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(planned) = plans().get(view.shape()) {
            return Ok(*planned);
        }
        let (in_order, _) = explain(session, query, false, watch)?;
        let sorts_few = match view.filters.is_empty() {
            true => false,
            false => explain(session, query, true, watch)?
                .1
                .is_some_and(|rows| rows <= FEW),
        };
        let planned = Planned {
            in_order,
            sorts_few,
        };
        let mut plans = plans();
        if plans.len() >= MOST_PLANS {
            plans.clear();
        }
        plans.insert(view.shape().to_owned(), planned);
        Ok(planned)
    }

    /// Whether these are the table's columns, as they are known.
    pub(super) fn has(&self, columns: &[(String, u32, i32)]) -> bool {
        let same = |(known, (name, oid, _)): (&Column, &(String, u32, i32))| {
            known.name == *name && known.oid == *oid
        };
        let known = &self.relation.columns;
        known.len() == columns.len() && known.iter().zip(columns).all(same)
    }

    /// Whether no two records have the same position.
    pub(super) fn is_unique(&self, view: &View) -> bool {
        self.relation.is_unique(&[view.key(), view.id()])
    }

    /// Whether its ids can be promised to grow: where they are replied in order, replies stay behind those who write.
    pub(super) fn ids_can_grow(&self, id: &str) -> bool {
        let id = self.relation.column(id);
        !self.relation.is_view && id.is_some_and(|id| id.kind.is_integer())
    }

    /// What those have locked who may still commit ids: the table, what it is made of, its sequences.
    pub(super) fn locked(&self) -> impl Iterator<Item = u32> {
        let sequences = self.relation.sequences.iter().map(|sequence| sequence.oid);
        self.relation.tables.iter().copied().chain(sequences)
    }
}

/// Whether the server reads all records without sorting them, and how many it sorts if not.
pub(super) fn explain(
    session: &mut Session,
    query: &Query,
    sorts: bool,
    watch: Watch<'_>,
) -> Result<(bool, Option<f64>), Failure> {
    let plan = plan(session, query, sorts, watch)?;
    let sorted = sorted(&plan);
    Ok((sorted.is_none(), sorted))
}

/// The server's plan for all records of a view.
fn plan(
    session: &mut Session,
    query: &Query,
    sorts: bool,
    watch: Watch<'_>,
) -> Result<Value, Failure> {
    let runs = query.runs(&Range::default());
    let scan = runs
        .last()
        .map(|run| query.scan(run, None))
        .unwrap_or_default();
    let sorts = if sorts { "on" } else { "off" };
    let answer = session.ask(
        &format!(
            "BEGIN READ ONLY; SET LOCAL enable_sort = {sorts}; SET LOCAL max_parallel_workers_per_gather = 0; EXPLAIN \
             (FORMAT json) {scan}; ROLLBACK"
        ),
        watch,
    );
    if answer.is_err() && session.in_transaction() {
        session.ask("ROLLBACK", Watch::default())?;
    }
    Ok(serde_json::from_str(answer?.value(0).unwrap_or_default()).unwrap_or_default())
}

/// How many records a plan sorts, if it sorts. An incremental sort goes on from one time to the next.
fn sorted(plan: &Value) -> Option<f64> {
    match plan {
        Value::Array(parts) => parts.iter().find_map(sorted),
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind == "Sort") {
                return node.get("Plan Rows").and_then(Value::as_f64);
            }
            node.values().find_map(sorted)
        }
        _ => None,
    }
}
