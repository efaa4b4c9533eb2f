//! Who asks, and what they may read.
//!
//! Nothing that a reply says goes beyond it: whoever may not read a stream is not told whether it is there
//! (without a token), and a column that a token may not read is to it a column that does not exist.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use subtle::{ConditionallySelectable, ConstantTimeEq};
use warp::http::{HeaderMap, StatusCode};

use super::Served;
use super::credentials::bearer;
use super::problem::{Problem, shortened};
use super::quota::Usage;
use super::request::Request;
use crate::config::{Auth, Token};
use crate::definition::{Number, Stream};
use crate::selection::View;
use crate::token::{has_secret_name, sha256};

/// Everybody who may ask for something.
pub(super) struct Access {
    /// Whoever shows no token.
    anyone: Arc<Caller>,
    /// The holder of each token.
    holders: Vec<Arc<Caller>>,
}

/// Somebody who may ask for something.
pub(super) struct Caller {
    kind: Kind,
    /// What they may read, with the columns that they may read.
    pub(super) streams: Vec<Served>,
    reads_all: bool,
}

enum Kind {
    /// Where nothing says who may read.
    Anybody,
    /// Without a token, where others have one.
    Anonymous,
    /// The holder of a token, and what they have used of it.
    Holder(Arc<Token>, Arc<Usage>),
}

impl Access {
    /// What the configuration says of these streams; what tokens were used for `before` still counts.
    pub(super) fn new(auth: &Auth, all: &[Served], before: Option<&Access>) -> Access {
        let readable = |is_readable: &dyn Fn(&str) -> bool| {
            let streams = all.iter();
            let streams = streams.filter(|served| is_readable(&served.view.stream.name));
            streams.cloned().collect::<Vec<_>>()
        };
        let is_anonymous = |name: &str| auth.anonymous.iter().any(|known| known == name);
        let anyone = if auth.is_open() {
            Caller::new(Kind::Anybody, all.to_vec(), true)
        } else {
            Caller::new(Kind::Anonymous, readable(&is_anonymous), false)
        };
        // Equal ones are one, whose plans are made once.
        let mut fewer: HashMap<(String, Vec<String>), Arc<View>> = HashMap::new();
        let mut holder = |token: &Arc<Token>| {
            let names = token.streams.as_ref();
            let is_its =
                |name: &str| names.is_none_or(|names| names.iter().any(|known| known == name));
            // What is read without a token is read with any.
            let mut streams = readable(&|name| is_its(name) || is_anonymous(name));
            let reads_all = streams.len() == all.len();
            for served in &mut streams {
                let name = served.view.stream.name.as_str();
                let columns = token.columns.get_key_value(name);
                let Some((name, columns)) = columns.filter(|_| !is_anonymous(name)) else {
                    continue;
                };
                let view = fewer
                    .entry((name.clone(), columns.clone()))
                    .or_insert_with(|| Arc::new(View::all(narrowed(&served.view.stream, columns))));
                served.view = Arc::clone(view);
            }
            let used = before.and_then(|before| before.usage(&token.name));
            Arc::new(Caller::new(
                Kind::Holder(Arc::clone(token), used.unwrap_or_default()),
                streams,
                reads_all,
            ))
        };
        Access {
            anyone: Arc::new(anyone),
            holders: auth.tokens.iter().map(&mut holder).collect(),
        }
    }

    /// Who sent a request, and what keeps them from an answer.
    pub(super) fn caller(&self, headers: &HeaderMap) -> (Arc<Caller>, Option<Problem>) {
        let anyone = || Arc::clone(&self.anyone);
        if matches!(self.anyone.kind, Kind::Anybody) {
            return (anyone(), None);
        }
        let token = match bearer(headers) {
            Ok(None) => return (anyone(), None),
            Ok(Some(token)) => token,
            Err(wrong) => return (anyone(), Some(invalid(wrong))),
        };
        let Some(holder) = self.holder(token) else {
            let wrong = "this token is none of those that may read here";
            return (anyone(), Some(invalid(wrong)));
        };
        let problem = holder.problem();
        (Arc::clone(holder), problem)
    }

    /// What was used of the token of that name.
    fn usage(&self, name: &str) -> Option<Arc<Usage>> {
        self.holders.iter().find_map(|holder| match &holder.kind {
            Kind::Holder(token, usage) if token.name == name => Some(Arc::clone(usage)),
            _ => None,
        })
    }

    /// The holder of a token. How long it takes to find them says nothing of any token's hash.
    fn holder(&self, token: &str) -> Option<&Arc<Caller>> {
        let sent = sha256(token);
        let mut found = u64::MAX;
        for (number, holder) in (0..).zip(&self.holders) {
            if let Kind::Holder(token, _) = &holder.kind {
                found.conditional_assign(&number, sent.ct_eq(&token.sha256));
            }
        }
        self.holders.get(usize::try_from(found).ok()?)
    }
}

/// A stream with fewer columns. Its time and its id still order its records, and positions say them.
fn narrowed(stream: &Stream, columns: &[String]) -> Arc<Stream> {
    let mut narrowed = Stream {
        number: Number::new(),
        ..stream.clone()
    };
    let is_read = |name: &String| columns.contains(name);
    narrowed
        .schema
        .columns
        .retain(|column| is_read(&column.name));
    narrowed.declared.retain(|column| {
        is_read(&column.name) || [&stream.time, &stream.id].contains(&&column.name)
    });
    Arc::new(narrowed)
}

impl Caller {
    fn new(kind: Kind, streams: Vec<Served>, reads_all: bool) -> Caller {
        Caller {
            kind,
            streams,
            reads_all,
        }
    }

    /// The name of the token that was shown.
    pub(super) fn token(&self) -> Option<&str> {
        match &self.kind {
            Kind::Holder(token, _) => Some(&token.name),
            Kind::Anybody | Kind::Anonymous => None,
        }
    }

    /// What keeps a token from an answer whatever is asked for.
    fn problem(&self) -> Option<Problem> {
        let Kind::Holder(token, usage) = &self.kind else {
            return None;
        };
        let name = &token.name;
        if let Some(expiry) = token.expires.as_ref().filter(|expiry| expiry.is_over()) {
            let text = &expiry.text;
            return Some(invalid(&format!("the token {name} expired at {text}")));
        }
        let most = token.requests_per_minute?;
        let wait = usage.request(most).err()?;
        let detail = format!(
            "the token {name} may send {most} requests in a minute (its requests_per_minute)"
        );
        Some(Problem::too_many(detail, wait))
    }
}

impl Request {
    /// Who asks; 400, 401 or 429 when they get no answer.
    pub(super) fn caller(&self) -> Result<&Caller, Problem> {
        match &self.refused {
            None => Ok(&self.caller),
            Some(problem) => Err(problem.clone()),
        }
    }

    /// What the caller may read of all there is; 401 when that is nothing without a token.
    pub(super) fn streams(&self) -> Result<&[Served], Problem> {
        let caller = self.caller()?;
        match caller.kind {
            Kind::Anonymous if caller.streams.is_empty() => Err(self.without_token()),
            _ => Ok(&caller.streams),
        }
    }

    /// The stream of that name; 404 when there is none, 401 and 403 when the caller may not read it.
    pub(super) fn stream(&self, name: &str) -> Result<&Served, Problem> {
        let caller = self.caller()?;
        let find = |streams: &'_ [Served]| {
            let mut streams = streams.iter();
            streams.position(|served| served.view.stream.name == name)
        };
        if let Some(at) = find(&caller.streams) {
            return Ok(&caller.streams[at]);
        }
        match &caller.kind {
            Kind::Anonymous => return Err(self.without_token()),
            Kind::Holder(token, _) if find(&self.app.streams).is_some() => {
                let detail = format!("the token {} may not read the stream {name}", token.name);
                let problem =
                    Problem::challenge(StatusCode::FORBIDDEN, Some("insufficient_scope"), &detail);
                return Err(problem.listing(names(&caller.streams)));
            }
            Kind::Anybody | Kind::Holder(..) => {}
        }
        let detail = format!("there is no stream called {:?}", shortened(name));
        Err(Problem::not_found(detail).allowing(name, names(&caller.streams)))
    }

    /// Whether the caller may know all that there is: everybody where nothing says who may read, else the holder
    /// of a token for all streams; 401 or 403 for others.
    pub(super) fn knows_all(&self) -> Result<(), Problem> {
        let caller = self.caller()?;
        match &caller.kind {
            _ if caller.reads_all => Ok(()),
            Kind::Holder(token, _) => {
                let detail = format!("the token {} may not read all streams", token.name);
                let error = Some("insufficient_scope");
                Err(Problem::challenge(StatusCode::FORBIDDEN, error, &detail))
            }
            Kind::Anybody | Kind::Anonymous => Err(self.without_token()),
        }
    }

    /// Counts it as a stream that its token runs, as long as there is anything to be said of it; 429 when the
    /// token runs as many as it may.
    pub(super) fn runs(&self) -> Result<(), Problem> {
        let Kind::Holder(token, usage) = &self.caller.kind else {
            return Ok(());
        };
        // Also where there is no limit: there may be one before it ends.
        let most = token.streams_at_once.unwrap_or(u32::MAX);
        let running = usage.stream(most).ok_or_else(|| {
            let name = &token.name;
            let detail =
                format!("the token {name} may run {most} streams at once (its streams_at_once)");
            Problem::too_many(detail, Duration::from_secs(1))
        })?;
        self.running.get_or_init(|| running);
        Ok(())
    }

    /// A 401, or a 400 if the token seems to be in the URL.
    fn without_token(&self) -> Problem {
        let query = self.uri.split_once('?').map_or("", |(_, query)| query);
        if query.split('&').any(has_secret_name) {
            return Problem::token_in_url();
        }
        let detail = "this needs a token, in the header Authorization: Bearer TOKEN";
        Problem::challenge(StatusCode::UNAUTHORIZED, None, detail)
    }
}

fn names(streams: &[Served]) -> impl Iterator<Item = &str> {
    streams
        .iter()
        .map(|served| served.view.stream.name.as_str())
}

/// A 401 for a token that is no use.
fn invalid(why: &str) -> Problem {
    Problem::challenge(StatusCode::UNAUTHORIZED, Some("invalid_token"), why)
}
