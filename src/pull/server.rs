//! Requests to the server, and which failures are worth retrying.

use std::cell::Cell;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use form_urlencoded::Serializer;
use ureq::http::{HeaderMap, Response};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::bearer::is_private;
use super::unzstd::Unzstd;
use super::{Failure, Pull, PullError, trust};

/// The header that says where a reply ends.
const POSITION: &str = "flows-position";

/// The header that says where the table ends, if that is before the position that was asked for.
const TABLE_END: &str = "flows-end";

/// How long to look for the record that breaks a reply.
const EXPLAINING: Duration = Duration::from_secs(120);

/// How long the server may be silent. A reply's head waits for its first records, and so for a sort.
const SILENCE: Duration = Duration::from_secs(300);

/// The server that is pulled from.
pub(super) struct Server<'p> {
    agent: Agent,
    pull: &'p Pull,
    /// Whether replies are asked for as they are, since one in zstd came to too much.
    plain: Cell<bool>,
}

/// One reply, whose body is still to be read.
pub(super) struct Page<'s> {
    /// Where it ends; `None` if the stream is empty.
    pub(super) position: Option<String>,
    /// Whether there is more after it.
    pub(super) more: bool,
    /// Whether there is no record in it.
    pub(super) empty: bool,
    /// Where the table ends, if that is before where the page begins; `none` if it has no record.
    pub(super) table_end: Option<String>,
    pub(super) url: String,
    pub(super) body: Box<dyn Read + 's>,
}

impl<'p> Server<'p> {
    pub(super) fn new(pull: &'p Pull) -> Result<Server<'p>, PullError> {
        let is_private = is_private(&pull.url);
        if pull.bearer.is_some() && !is_private {
            let url = pull.url.clone();
            return Err(PullError::InTheClear { url });
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect may lose the query, and so start from the beginning.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_per_read(Some(SILENCE));
        if pull.url.starts_with("https://") {
            config = config.tls_config(trust::tls(pull.ca_file.as_deref())?);
        } else if pull.bearer.is_some() {
            // A proxy that the environment names could read the token.
            config = config.proxy(None);
        }
        Ok(Server {
            agent: config.user_agent("flows-pull").build().into(),
            pull,
            plain: Cell::new(false),
        })
    }

    /// The reply with the next records: those between two positions, at most so many.
    pub(super) fn next(
        &self,
        after: Option<&str>,
        until: Option<&str>,
        limit: u64,
    ) -> Result<Page<'_>, Failure> {
        let limit = limit.to_string();
        let mut parameters = vec![("format", self.pull.format.name), ("limit", &limit)];
        parameters.extend(until.map(|until| ("until", until)));
        if let Some(columns) = &self.pull.columns {
            parameters.push(("columns", columns));
        }
        let has_filters = !self.pull.filters.is_empty();
        if has_filters {
            // A reply whose filters let nothing through ends where they were tried up to, and is no file.
            parameters.push(("count", "exact"));
        }
        let filters = self.pull.filters.iter();
        parameters.extend(filters.map(|(column, filter)| (column.as_str(), filter.as_str())));
        let url = self.url(after, &parameters);
        let reply = self.get(&url)?;
        let empty = has_filters && is_without_records(&url, reply.headers())?;
        let mut page = self.read(url, after, reply)?;
        page.empty = empty;
        Ok(page)
    }

    /// Looks for the reason why the page between two positions breaks off, which a server can only tell before
    /// it has begun to reply: asks for a tenth at a time of what breaks, until nothing of that has left the
    /// server when it fails. Finds nothing where something else broke the page, or where it takes too long.
    ///
    /// # Errors
    /// The reason; or why the server could not be asked.
    pub(super) fn explain(&self, after: Option<&str>, until: Option<&str>) -> Result<(), Failure> {
        let start = Instant::now();
        let mut after = after.map(str::to_owned);
        let mut limit = self.pull.max_rows;
        while limit > 1 {
            limit = limit.div_ceil(10);
            loop {
                let Page {
                    position,
                    more,
                    mut body,
                    ..
                } = self.next(after.as_deref(), until, limit)?;
                let mut piece = vec![0; 256 * 1024];
                let mut read = || match body.read(&mut piece) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(1),
                    read => read,
                };
                let broke = loop {
                    match read() {
                        Ok(0) => break false,
                        Ok(_) if start.elapsed() < EXPLAINING => {}
                        Ok(_) => return Ok(()),
                        Err(_) => break true,
                    }
                };
                if broke {
                    break;
                }
                if !more {
                    return Ok(());
                }
                after = position;
            }
        }
        Ok(())
    }

    /// Where a reply says that it ends, and whether there is more.
    fn stated_end(
        &self,
        url: &str,
        after: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<(Option<String>, bool), Failure> {
        let Some(text) = headers.get(POSITION) else {
            // Only an empty stream that is asked from its beginning ends nowhere; its reply has a length.
            if after.is_none() && headers.contains_key("content-length") && self.is_empty()? {
                return Ok((None, false));
            }
            let reason = "the reply does not say where it ends: a proxy in between has removed \
                          Flows-Position (let it pass Flows-Position and Link), or the reply is of a \
                          view that takes too long to say so (`flows check` on the server tells which \
                          index helps), or of no stream of `flows`";
            return Err(refused(url, reason.to_owned()));
        };
        // It becomes part of a file's name.
        let order = self.pull.order;
        let is_position = |text: &&str| order.any_position(text).is_some();
        let Some(position) = text.to_str().ok().filter(is_position) else {
            let (text, order) = (String::from_utf8_lossy(text.as_bytes()), order.name());
            let reason = format!(
                "Flows-Position is {text:?}, which is not a position in the order of {order}"
            );
            return Err(refused(url, reason));
        };
        Ok((Some(position.to_owned()), headers.contains_key("link")))
    }

    /// Whether there is no record in the stream, by the one document whose emptiness shows.
    fn is_empty(&self) -> Result<bool, Failure> {
        let url = self.url(None, &[("limit", "1"), ("format", "ndjson")]);
        let reply = self.asked(&url).call();
        let reply = self.checked(&url, &["application/x-ndjson"], reply)?;
        if reply.headers().contains_key(POSITION) {
            let reason = "a reply did not say where it ends; its records may have come meanwhile";
            return Err(Failure::passing(&url, reason.to_owned()));
        }
        let read = reply.into_body().into_reader().read(&mut [0]);
        read.map(|read| read == 0)
            .map_err(|error| broke_off(&url, &error))
    }

    fn url(&self, after: Option<&str>, parameters: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("order", self.pull.order.name());
        query.extend_pairs(parameters);
        if let Some(after) = after {
            query.append_pair("after", after);
        }
        format!("{}?{}", self.pull.url, query.finish())
    }

    /// The coding that replies are asked for in.
    fn coding(&self) -> &'static str {
        // With a weight, since some formats come uncompressed otherwise.
        if self.plain.get() {
            "identity"
        } else {
            "zstd;q=1"
        }
    }

    fn asked(&self, url: &str) -> RequestBuilder<WithoutBody> {
        let request = self.agent.get(url);
        match &self.pull.bearer {
            Some(bearer) => request.header("authorization", bearer.header()),
            None => request,
        }
    }

    fn get(&self, url: &str) -> Result<Response<Body>, Failure> {
        let request = self.asked(url).header("accept-encoding", self.coding());
        self.checked(url, self.pull.format.media_types, request.call())
    }

    /// A reply that is what was asked for, in one of those media types.
    fn checked(
        &self,
        url: &str,
        media_types: &[&str],
        reply: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let mut reply = reply.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => refused(
                url,
                format!("this is not a URL that can be asked for ({error})"),
            ),
            error => match trust::distrust(&error) {
                Some(reason) => denied(url, reason),
                None => Failure::passing(url, error.to_string()),
            },
        })?;
        let status = reply.status();
        let header = |name| {
            let value = reply.headers().get(name)?;
            value.to_str().ok()
        };
        if status == 200 {
            let found = header("content-type").unwrap_or("of no type");
            let media_type = found.split(';').next().unwrap_or_default().trim();
            if !media_types.contains(&media_type) {
                let reason = format!("the reply is {found}, as no stream of `flows` is");
                return Err(refused(url, reason));
            }
            return Ok(reply);
        }
        if status.is_redirection() {
            let to = header("location").unwrap_or_default();
            let reason = format!("{status} to {to}; pull from the URL where the stream is");
            return Err(refused(url, reason));
        }
        let after = header("retry-after").and_then(|seconds| seconds.parse().ok());
        let text = reply.body_mut().read_to_string().unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let mut reason = format!(
            "{status}: {}",
            problem["detail"].as_str().unwrap_or(text.trim())
        );
        if problem["parameter"] == "limit" {
            reason += "; what is asked for is --max-rows";
        }
        // The server is stopping, gone from behind its proxy, or too busy.
        if matches!(status.as_u16(), 429 | 502 | 503 | 504) {
            let after = after.map(Duration::from_secs);
            return Err(Failure::Passing {
                url: url.to_owned(),
                reason,
                after,
                broke: false,
            });
        }
        Err(match status.as_u16() {
            401 | 403 => denied(url, reason),
            _ => refused(url, reason),
        })
    }

    /// The reply's body, of which HTTP tells whether it is complete.
    fn read(
        &self,
        url: String,
        after: Option<&str>,
        reply: Response<Body>,
    ) -> Result<Page<'_>, Failure> {
        let (position, more) = self.stated_end(&url, after, reply.headers())?;
        let headers = reply.headers();
        let table_end = headers.get(TABLE_END);
        let table_end = table_end.map(|end| String::from_utf8_lossy(end.as_bytes()).into_owned());
        let chunked = headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked");
        if !chunked && !headers.contains_key("content-length") {
            let reason = "something in between has removed what tells a complete reply from one that \
                          was cut off (Content-Length, or Transfer-Encoding: chunked)";
            return Err(refused(&url, reason.to_owned()));
        }
        let coding = headers
            .get("content-encoding")
            .map(|coding| coding.as_bytes().to_owned());
        let body = reply.into_body().into_reader();
        let body: Box<dyn Read + '_> = match coding.as_deref() {
            None => Box::new(body),
            Some(b"zstd") if !self.plain.get() => {
                let decoded = Unzstd::new(body, &self.plain);
                Box::new(decoded.map_err(|error| Failure::passing(&url, error.to_string()))?)
            }
            Some(coding) => {
                let (found, wanted) = (String::from_utf8_lossy(coding), self.coding());
                let reason = format!("the reply is in {found}, where {wanted} was asked for");
                return Err(refused(&url, reason));
            }
        };
        Ok(Page {
            position,
            more,
            empty: false,
            table_end,
            url,
            body,
        })
    }
}

/// Whether a reply that counts its records has none.
fn is_without_records(url: &str, headers: &HeaderMap) -> Result<bool, Failure> {
    let Some(count) = headers.get("flows-count") else {
        let reason = "the reply does not say how many records it has: a proxy in between has removed \
                      Flows-Count";
        return Err(refused(url, reason.to_owned()));
    };
    Ok(count == "0")
}

/// An error while a body is read.
pub(super) fn broke_off(url: &str, error: &io::Error) -> Failure {
    Failure::Passing {
        url: url.to_owned(),
        reason: format!("the reply broke off ({error})"),
        after: None,
        broke: true,
    }
}

fn denied(url: &str, reason: String) -> Failure {
    let url = url.to_owned();
    PullError::Denied { url, reason }.into()
}

fn refused(url: &str, reason: String) -> Failure {
    let url = url.to_owned();
    PullError::Refused { url, reason }.into()
}
