//! Requests to the server, and which failures are worth another try.

use std::io::Read;
use std::time::Duration;

use form_urlencoded::Serializer;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, Body};

use super::{Failure, Pull, PullError};

/// How long the server may be silent. A reply's head waits for its first records, which a sort may
/// keep for long.
const SILENCE: Duration = Duration::from_secs(300);

/// The server that is pulled from.
pub(super) struct Server<'p> {
    agent: Agent,
    pull: &'p Pull,
}

/// One reply, whose body is still to be read.
pub(super) struct Page {
    /// Where it ends, if the server says so.
    pub(super) position: Option<String>,
    /// Whether there is more behind it.
    pub(super) more: bool,
    /// Whether there is no record in it.
    pub(super) empty: bool,
    pub(super) url: String,
    pub(super) body: Box<dyn Read>,
}

impl<'p> Server<'p> {
    pub(super) fn new(pull: &'p Pull) -> Server<'p> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_per_read(Some(SILENCE));
        let agent = config.user_agent("flows-pull").build().into();
        Server { agent, pull }
    }

    /// The next records, at most so many as a file gets.
    pub(super) fn page(&self, after: Option<&str>) -> Result<Page, Failure> {
        let limit = self.pull.max_rows.to_string();
        let url = self.document(after, &[("limit", &limit)]);
        let reply = self.get(&url)?;
        self.read(url, reply)
    }

    /// Where the next so many records end, whatever filters let through of them, and whether there
    /// are more.
    pub(super) fn end(&self, after: Option<&str>) -> Result<(Option<String>, bool), Failure> {
        let limit = self.pull.max_rows.to_string();
        // Of JSON even an empty document has a length, which a head tells.
        let url = self.url(after, &[("limit", &limit), ("format", "json")]);
        let reply = self.checked(&url, self.agent.head(&url).call())?;
        end(&url, reply.headers())
    }

    /// The records up to a position that filters let through.
    pub(super) fn filtered(
        &self,
        after: Option<&str>,
        until: Option<&str>,
    ) -> Result<Page, Failure> {
        let mut parameters = vec![("count", "exact")];
        parameters.extend(until.map(|until| ("until", until)));
        let filters = self.pull.filters.iter();
        parameters.extend(filters.map(|(column, filter)| (column.as_str(), filter.as_str())));
        let url = self.document(after, &parameters);
        let reply = self.get(&url)?;
        let empty = reply
            .headers()
            .get("flows-count")
            .is_some_and(|count| count == "0");
        let mut page = self.read(url, reply)?;
        page.empty = empty;
        page.position = until.map(str::to_owned);
        Ok(page)
    }

    /// The URL of records in the format and with the columns that are pulled.
    fn document(&self, after: Option<&str>, parameters: &[(&str, &str)]) -> String {
        let mut all = vec![("format", self.pull.format.as_str())];
        all.extend(
            self.pull
                .columns
                .as_deref()
                .map(|columns| ("columns", columns)),
        );
        all.extend(parameters);
        self.url(after, &all)
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

    fn get(&self, url: &str) -> Result<Response<Body>, Failure> {
        let request = self.agent.get(url).header("accept-encoding", "zstd");
        self.checked(url, request.call())
    }

    /// A reply that is what was asked for.
    fn checked(
        &self,
        url: &str,
        reply: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let url = || url.to_owned();
        let mut reply = reply.map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                let reason = format!("this is no URL that can be asked for ({error})");
                PullError::Refused { url: url(), reason }.into()
            }
            error => Failure::Passing {
                url: url(),
                reason: error.to_string(),
                after: None,
            },
        })?;
        let status = reply.status();
        if status == 200 {
            return Ok(reply);
        }
        let after = reply.headers().get("retry-after");
        let after = after.and_then(|seconds| seconds.to_str().ok()?.parse().ok());
        let text = reply.body_mut().read_to_string().unwrap_or_default();
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let reason = format!(
            "{status}: {}",
            problem["detail"].as_str().unwrap_or(text.trim())
        );
        // The server is stopping, behind a proxy that is alone, or has too much to do.
        if matches!(status.as_u16(), 429 | 502 | 503 | 504) {
            let after = after.map(Duration::from_secs);
            return Err(Failure::Passing {
                url: url(),
                reason,
                after,
            });
        }
        Err(PullError::Refused { url: url(), reason }.into())
    }

    fn read(&self, url: String, reply: Response<Body>) -> Result<Page, Failure> {
        let (position, more) = end(&url, reply.headers())?;
        let coded = reply
            .headers()
            .get("content-encoding")
            .is_some_and(|c| c == "zstd");
        let body = reply.into_body().into_reader();
        let body: Box<dyn Read> = if coded {
            let decoder = zstd::stream::read::Decoder::new(body);
            let failed = |error: std::io::Error| Failure::Passing {
                url: url.clone(),
                reason: error.to_string(),
                after: None,
            };
            Box::new(decoder.map_err(failed)?)
        } else {
            Box::new(body)
        };
        Ok(Page {
            position,
            more,
            empty: false,
            url,
            body,
        })
    }
}

/// Where a reply ends, and whether there is more.
fn end(url: &str, headers: &HeaderMap) -> Result<(Option<String>, bool), Failure> {
    let position = headers.get("flows-position");
    let position = position.and_then(|position| position.to_str().ok());
    // A reply of no record may end nowhere, and it has a length.
    if position.is_none() && !headers.contains_key("content-length") {
        let reason = "the reply does not say where it ends: no index gives the stream's order \
                      (`flows check` on the server tells how to make one), or it is no stream of \
                      `flows`";
        return Err(Failure::Final(PullError::Refused {
            url: url.to_owned(),
            reason: reason.to_owned(),
        }));
    }
    Ok((position.map(str::to_owned), headers.contains_key("link")))
}
