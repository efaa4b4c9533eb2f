//! Requests that hyper refuses before a filter sees them: bad URLs, heads that are too large. hyper
//! answers them without a body; here they get a problem document like all others.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flows_formats::Type;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use warp::http::StatusCode;

use super::App;
use super::operators::{self, lookalike};
use super::problem::{Problem, shortened};
use super::request;
use super::wire::{Socket, Wire};
use crate::config::Server;
use crate::token::redacted_url;

/// How long a client gets to take the answer, and to stop sending.
pub(super) const PARTING: Duration = Duration::from_secs(1);

/// Why what was sent is not answered by a filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It did not come in time.
    #[error("it did not arrive in time")]
    Late,
    /// hyper has ended the connection.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
}

/// Answers what did not become a request, if there was anything.
pub(super) async fn answer(wire: Arc<Wire>, error: &Refused, app: &App) {
    let (head, refused) = wire.take_refused();
    let line = request_line(&head);
    let Some(problem) = problem(&line, &head, refused, error, &app.server) else {
        tracing::debug!(%error, "connection ended");
        if matches!(error, Refused::Late) {
            // An idle connection has no reply that is broken off; encryption ends as it should.
            let _ = timeout(PARTING, Socket(wire).shutdown()).await;
        }
        return;
    };
    say(wire, &head, &problem, app).await;
}

/// Answers a client that speaks HTTP where TLS is spoken, and has begun to send its request.
pub(super) async fn answer_plain(wire: Arc<Wire>, app: &App) {
    let read = Socket(Arc::clone(&wire)).read(&mut [0; 1024]).await;
    if read.is_ok() {
        let (head, _) = wire.take_refused();
        let detail = "this port speaks TLS; the URL begins with https://, not http://";
        say(wire, &head, &Problem::bad_request(detail), app).await;
    }
}

/// Sends a problem document in the place of a reply, and hangs up.
async fn say(wire: Arc<Wire>, head: &[u8], problem: &Problem, app: &App) {
    let id = request::random_id();
    let reply = written(problem, &id, !head.starts_with(b"HEAD "));
    let line = shortened(&request_line(head));
    let client = wire.peer().ip().to_canonical();
    let status = problem.status().as_u16();
    tracing::info!(id, %client, request = line, status, ended = problem.to_string());
    app.metrics.refused(status);
    wire.answering();
    let mut socket = Socket(wire);
    let part = async {
        socket.write_all(reply.as_bytes()).await?;
        socket.shutdown().await?;
        // To hang up on a client that still sends would take the answer away from it.
        let mut rest = [0; 8192];
        while socket.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whether it arrives is the client's affair.
    let _ = timeout(PARTING, part).await;
}

/// A reply as it is sent.
pub(super) fn written(problem: &Problem, id: &str, with_body: bool) -> String {
    let body = problem.body();
    let header = problem
        .header()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let header = header.unwrap_or_default();
    format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         {header}cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {id}\r\ndate: {}\r\nconnection: close\r\n\r\n{}",
        problem.status(),
        body.len(),
        httpdate::fmt_http_date(SystemTime::now()),
        if with_body { &body } else { "" },
    )
}

/// What is wrong with what was sent; `None` when the client has gone, or sent nothing.
fn problem(
    line: &str,
    head: &[u8],
    refused: Option<u16>,
    error: &Refused,
    server: &Server,
) -> Option<Problem> {
    let Refused::Hyper(error) = error else {
        let detail = "the head of the request did not arrive in time (server.head_seconds)";
        let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, detail);
        return (!head.is_empty()).then_some(problem);
    };
    if !error.is_parse() {
        return None;
    }
    // hyper says nothing only to the preface of HTTP/2.
    let status = refused.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    let detail = match status {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => "this server speaks HTTP/1.1 only".to_owned(),
        StatusCode::URI_TOO_LONG => return Some(Problem::url_too_long(server.url_bytes)),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => format!(
            "the head of the request, its URL included, is larger than {} bytes (server.head_bytes), or has \
             more than 100 lines",
            server.head_bytes
        ),
        _ => {
            return wrong_url(line).or_else(|| {
                let detail = format!("this is not a request of HTTP/1.1: {error}");
                Some(Problem::new(status, detail))
            });
        }
    };
    Some(Problem::new(status, detail))
}

/// The line, or as much of it as is kept, without a token.
fn request_line(head: &[u8]) -> String {
    let head = head.trim_ascii_start();
    let end = head.iter().position(|byte| b"\r\n".contains(byte));
    let line = String::from_utf8_lossy(&head[..end.unwrap_or(head.len())]);
    redacted_url(&line, end.is_none())
}

/// What is wrong with the URL of a request line, if it has a character that must be encoded.
fn wrong_url(line: &str) -> Option<Problem> {
    let (_, url) = line.split_once(' ')?;
    let url = url.rsplit_once(" HTTP/").map_or(url, |(url, _)| url);
    let is_wrong = |c: &char| c.is_ascii_control() || " \"<>".contains(*c);
    let (at, wrong) = url.char_indices().find(|(_, c)| is_wrong(c))?;
    let encoded = utf8_percent_encode(&url[at..at + wrong.len_utf8()], NON_ALPHANUMERIC);
    let before = shortened(&url[..at]);
    let detail =
        format!("the URL has {wrong:?} after {before:?}; in a URL it is written {encoded}");
    let problem = Problem::bad_request(detail);
    Some(match comparison(url, at) {
        Some(meant) => problem.suggesting(Some(meant), operators::listed()),
        None => problem,
    })
}

/// The filter that is meant by a parameter with a comparison in it, such as `byte_count=>5`.
fn comparison(url: &str, at: usize) -> Option<String> {
    let begins = url[..at].rfind(['?', '&'])? + 1;
    let ends = url[at..].find('&').map_or(url.len(), |end| at + end);
    let parameter = &url[begins..ends];
    let (name, value) = parameter.split_at(parameter.find(['=', '<', '>', '!'])?);
    let value = value.strip_prefix('=').unwrap_or(value);
    let meant = lookalike(Type::Text, value)?.suggestion?;
    Some(format!("{name}={meant}"))
}

#[cfg(test)]
mod tests {
    use super::wrong_url;

    #[test]
    fn what_is_wrong_with_a_url() {
        for (line, part) in [
            (
                "GET /f?n=>5 HTTP/1.1",
                "'>' after \"/f?n=\"; in a URL it is written %3E; did you mean n=gt.5?",
            ),
            ("GET /f?a=1&n>=5&b=2 HTTP/1.1", "did you mean n=gte.5?"),
            ("GET /f?n<5", "did you mean n=lt.5?"),
            ("GET /f?n!=\" HTTP/1.1", "did you mean n=ne.\"?"),
            (
                "GET /f?n=a b HTTP/1.1",
                "' ' after \"/f?n=a\"; in a URL it is written %20",
            ),
            ("GET /> HTTP/1.1", "'>' after \"/\""),
        ] {
            let problem = wrong_url(line).unwrap().to_string();
            assert!(problem.contains(part), "{problem}");
        }
        for line in ["GET /f HTTP/1.1", "GET /{é}", "GET", ""] {
            assert!(wrong_url(line).is_none(), "{line}");
        }
    }
}
