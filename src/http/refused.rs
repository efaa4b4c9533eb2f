//! Requests that hyper refuses before a filter sees them: bad URLs, heads that are too large. hyper
//! answers them without a body; here they get a problem document like all others.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flows_formats::Type;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use warp::http::StatusCode;

use super::operators::{self, lookalike};
use super::problem::{Problem, shortened};
use super::request;
use super::wire::{Socket, Wire};

/// How long a client gets to take the answer, and to stop sending.
const PARTING: Duration = Duration::from_secs(1);

/// Answers what hyper did not take for a request, if there was one.
pub(super) async fn answer(wire: Arc<Wire>, error: &hyper::Error) {
    let (head, refused) = wire.take_refused();
    let Some(problem) = problem(&head, refused, error) else {
        tracing::debug!(%error, "connection ended");
        return;
    };
    let id = request::random_id();
    let body = problem.body();
    let reply = format!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nx-request-id: {id}\r\ndate: {}\r\nconnection: close\r\n\r\n{}",
        problem.status(),
        body.len(),
        httpdate::fmt_http_date(SystemTime::now()),
        if head.starts_with(b"HEAD ") {
            ""
        } else {
            &body
        },
    );
    let line = shortened(&request_line(&head));
    let client = wire.peer().ip();
    tracing::info!(id, %client, request = line, ended = problem.to_string());
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

/// What is wrong with what was sent; `None` when the client has gone, or sent nothing.
fn problem(head: &[u8], refused: Option<u16>, error: &hyper::Error) -> Option<Problem> {
    if error.is_timeout() {
        let detail = "the head of the request did not arrive in time (server.head_seconds)";
        let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, detail);
        return (!head.is_empty()).then_some(problem);
    }
    if !error.is_parse() {
        return None;
    }
    // hyper says nothing only to the preface of HTTP/2.
    let status = refused.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.unwrap_or(StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    let detail = match status {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => "this server speaks HTTP/1.1 only".to_owned(),
        StatusCode::URI_TOO_LONG => {
            "the URL is longer than 65,534 bytes; ask for less at once, with fewer filters or values"
                .to_owned()
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "the head of the request is larger than about 400 KiB, or has more than 100 lines".to_owned()
        }
        _ => {
            return wrong_url(&request_line(head)).or_else(|| {
                let detail = format!("this is not a request of HTTP/1.1: {error}");
                Some(Problem::new(status, detail))
            });
        }
    };
    Some(Problem::new(status, detail))
}

fn request_line(head: &[u8]) -> String {
    let head = head.trim_ascii_start();
    let end = head.iter().position(|byte| b"\r\n".contains(byte));
    String::from_utf8_lossy(&head[..end.unwrap_or(head.len())]).into_owned()
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
