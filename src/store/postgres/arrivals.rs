//! In the order of ids, up to where nothing will come to be any more.
//!
//! Ids are drawn from a sequence in order, and appear in the order in which transactions commit. Whoever drew one
//! holds a lock on the sequence, and whoever inserted a record one on the table, until the transaction ends
//! (`RowExclusiveLock`; PostgreSQL's documentation, "Explicit Locking"). So the greatest id is looked at, and then who
//! holds such locks: when all of these have ended, a snapshot that begins after that has every id up to that one that
//! there will ever be.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::connection::Begun;
use super::failure::Failure;
use super::plan::Known;
use super::query::Query;
use super::session::{Session, Watch};
use crate::config::Database;
use crate::definition::Number;
use crate::selection::{Position, View};
use crate::store::{HeldBack, StoreError};

/// How long a request waits for those who write at this moment, if it knows of some bound.
const PATIENCE: Duration = Duration::from_millis(250);

/// How often it is looked whether they have ended.
const EACH: Duration = Duration::from_millis(5);

/// What is known of all streams.
#[derive(Default)]
pub(super) struct Arrivals {
    states: Mutex<HashMap<Number, Arc<Mutex<State>>>>,
}

/// What is known of one.
#[derive(Default)]
struct State {
    /// The stream's name.
    stream: String,
    /// All ids up to it are there.
    bound: Option<i64>,
    /// An id, those that held locks after it was seen, and by when that was.
    candidate: Option<(i64, HashSet<String>, Instant)>,
    /// Who holds it back, as far as was seen: since when, until when, and the process.
    held: Option<(Instant, Instant, String)>,
}

impl State {
    /// Notes the greatest id, and who holds locks after that: at some time from `asked` on.
    fn note(
        &mut self,
        greatest: i64,
        holders: &HashSet<String>,
        asked: Instant,
        pid: Option<&String>,
    ) {
        let now = Instant::now();
        self.held = pid.map(|pid| match self.held.take() {
            Some((since, _, known)) if known == *pid => (since, now, known),
            _ => (now, now, pid.clone()),
        });
        if holders.is_empty() {
            self.bound = Some(greatest);
            self.candidate = None;
            return;
        }
        // Another request may have noted its own since `asked`: those may not have been there yet.
        if let Some((id, held, by)) = &self.candidate
            && *by <= asked
            && held.is_disjoint(holders)
        {
            // Unless the table was emptied, and begins anew.
            let known = self.bound.filter(|bound| *bound <= greatest);
            self.bound = Some(known.map_or(*id, |known| known.max(*id)));
            self.candidate = None;
        }
        self.candidate
            .get_or_insert_with(|| (greatest, holders.clone(), now));
    }
}

impl Arrivals {
    fn state(&self, stream: Number) -> Arc<Mutex<State>> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(states.entry(stream).or_default())
    }

    /// The streams that are held back, as their last requests saw it.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let held = states.values().filter_map(|state| {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let (since, until, pid) = state.held.clone()?;
            Some(HeldBack {
                stream: state.stream.clone(),
                holder: pid,
                seconds: (until - since).as_secs(),
            })
        });
        held.collect()
    }

    /// The position that a snapshot which begins after this must not go beyond. Waits for those who write, but no
    /// longer than it must, or a little if it can do without.
    pub(super) fn bound(
        &self,
        session: &mut Session,
        database: &Database,
        view: &View,
        known: &Known,
        query: &Query,
        watch: Watch<'_>,
    ) -> Result<Position, Begun> {
        let state = self.state(view.stream.number);
        let begun = Instant::now();
        let mut first = None;
        loop {
            let greatest = session.ask(&query.greatest_id(), watch)?;
            let greatest = greatest
                .value(0)
                .and_then(|id| id.parse().ok())
                .unwrap_or(i64::MIN);
            let asked = Instant::now();
            let holders = holders(session, known, watch)?;
            let names: HashSet<_> = holders
                .iter()
                .map(|holder| holder.transaction.clone())
                .collect();
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.stream.clone_from(&view.stream.name);
            let pid = holders.first().map(|holder| &holder.pid);
            state.note(greatest, &names, asked, pid);
            let (id, held) = first.get_or_insert_with(|| (greatest, names.clone()));
            if held.is_disjoint(&names) {
                let bound = state
                    .bound
                    .map_or(*id, |bound| bound.max(*id).min(greatest.max(*id)));
                state.bound = Some(bound);
                return Ok(Position::end_of(bound));
            }
            if begun.elapsed() > PATIENCE
                && let Some(bound) = state.bound
            {
                return Ok(Position::end_of(bound));
            }
            drop(state);
            if begun.elapsed() > database.wait.max(PATIENCE) {
                return Err(Begun::Unfit(StoreError::HeldBack {
                    stream: view.stream.name.clone(),
                    holder: holders.first().map(ToString::to_string).unwrap_or_default(),
                }));
            }
            sleep(EACH);
        }
    }
}

/// A transaction that has written to a stream's table, or drawn an id, and has not ended.
#[derive(Debug)]
pub(super) struct Holder {
    transaction: String,
    pid: String,
    /// For how many seconds, and by which application, if we may know.
    since: Option<String>,
    application: Option<String>,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} of the server", self.pid)?;
        if let Some(application) = self.application.as_ref().filter(|name| !name.is_empty()) {
            write!(f, " ({application})")?;
        }
        if let Some(seconds) = &self.since {
            write!(f, ", whose transaction began {seconds} s ago")?;
        }
        Ok(())
    }
}

/// Those who may still commit ids that were drawn before.
pub(super) fn holders(
    session: &mut Session,
    known: &Known,
    watch: Watch<'_>,
) -> Result<Vec<Holder>, Failure> {
    let relations = known
        .locked()
        .map(|oid| oid.to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let answer = session.ask(
        &format!(
            "SELECT l.virtualtransaction, min(l.pid), max(extract(epoch FROM now() - a.xact_start)::int8), \
             min(a.application_name) FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid WHERE \
             l.locktype = 'relation' AND l.granted AND l.mode = 'RowExclusiveLock' AND l.relation IN ({relations}) AND \
             l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY 1"
        ),
        watch,
    )?;
    let holder = |row: Vec<Option<String>>| {
        let [transaction, pid, since, application] = <[_; 4]>::try_from(row).ok()?;
        Some(Holder {
            transaction: transaction?,
            pid: pid.unwrap_or_else(|| "of a prepared transaction".to_owned()),
            since,
            application,
        })
    };
    Ok(answer.rows.into_iter().filter_map(holder).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Instant;

    use super::State;

    #[test]
    fn who_looked_before_others_began_does_not_know_that_they_ended() {
        let holders = |name: &str| HashSet::from([name.to_owned()]);
        let mut state = State::default();
        let before = Instant::now();
        state.note(200, &holders("b"), Instant::now(), None);
        state.note(100, &holders("a"), before, None);
        assert_eq!(state.bound, None);
        state.note(300, &holders("c"), Instant::now(), None);
        assert_eq!(state.bound, Some(200));
    }
}
