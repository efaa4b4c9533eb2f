//! What there is: `/api/v1/streams`, and `/api/v1/schema/{stream}` in a dialect.

use flows_formats::dialects::{DIALECTS, Dialect};
use flows_formats::{Schema, Type};
use serde_json::{Value, json};
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE;
use warp::reply::Response;
use warp::{Filter, Rejection};

use super::Served;
use super::problem::{Problem, shortened};
use super::request::{self, Request, Shared};
use crate::token::is_secret_name;

/// Both routes.
pub(super) fn catalogue() -> impl Filter<Extract = (Response,), Error = Rejection> + Copy {
    let read = || {
        let request = warp::ext::get::<Shared>();
        request::get_or_head().and(request::query()).and(request)
    };
    let all = warp::path!("api" / "v1" / "streams").and(read()).and_then(
        |query: String, request: Shared| async move {
            streams(&request, &query).map_err(Problem::rejection)
        },
    );
    let one = warp::path!("api" / "v1" / "schema" / String)
        .and(read())
        .and_then(|name: String, query: String, request: Shared| async move {
            schema(&request, &name, &query).map_err(Problem::rejection)
        });
    all.or(one).unify()
}

/// Every stream that the caller may read: what it holds, and where to get it.
fn streams(request: &Request, query: &str) -> Result<Response, Problem> {
    let (app, readable) = (&request.app, request.streams()?);
    if let Some((name, value)) = form_urlencoded::parse(query.as_bytes()).next() {
        return Err(unknown(&name, &value, []));
    }
    let of = |served: &Served| {
        let stream = &served.view.stream;
        let url = format!("/api/v1/stream/{}", stream.name);
        let formats = app.formats.iter().map(|format| {
            json!({
                "name": format.name,
                "media_types": format.named_by().collect::<Value>(),
                "extensions": format.extensions,
                "href": format!("{url}.{}", format.extension()),
            })
        });
        let schema = format!("/api/v1/schema/{}", stream.name);
        let dialects = DIALECTS.iter().map(|dialect| {
            let href = format!("{schema}?dialect={}", dialect.name);
            (dialect.name.to_owned(), json!({ "href": href }))
        });
        json!({
            "name": stream.name,
            "href": url,
            "time": stream.time,
            "id": stream.id,
            "position": {
                "time": typed(&stream.time, stream.declared(&stream.time).0),
                "id": typed(&stream.id, stream.declared(&stream.id).0),
            },
            "columns": columns(&stream.schema),
            "default_format": stream.default_format,
            "formats": formats.collect::<Value>(),
            "schema": { "href": schema, "dialects": dialects.collect::<serde_json::Map<_, _>>() },
        })
    };
    let streams: Value = readable.iter().map(of).collect();
    Ok(reply(&json!({ "streams": streams }), "application/json"))
}

/// The columns of a stream, in the dialect asked for.
fn schema(request: &Request, name: &str, query: &str) -> Result<Response, Problem> {
    let stream = &request.stream(name)?.view.stream;
    let mut dialect = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if name != "dialect" {
            return Err(unknown(&name, &value, ["dialect"]));
        }
        if dialect.is_some() {
            let detail = "dialect is given more than once";
            return Err(Problem::bad_request(detail).about(&name, Some(&value)));
        }
        dialect = Some(self::dialect(&value)?);
    }
    Ok(match dialect {
        Some(dialect) => reply(&(dialect.write)(&stream.schema), dialect.media_type),
        None => {
            let columns = columns(&stream.schema);
            reply(
                &json!({ "name": stream.name, "columns": columns }),
                "application/json",
            )
        }
    })
}

fn dialect(name: &str) -> Result<&'static Dialect, Problem> {
    let found = DIALECTS.iter().find(|dialect| dialect.name == name);
    found.ok_or_else(|| {
        let detail = format!("there is no dialect {:?}", shortened(name));
        Problem::bad_request(detail)
            .about("dialect", Some(name))
            .allowing(name, DIALECTS.iter().map(|dialect| dialect.name))
    })
}

fn unknown<const N: usize>(name: &str, value: &str, known: [&str; N]) -> Problem {
    if is_secret_name(name) {
        return Problem::token_in_url();
    }
    let detail = format!("there is no parameter {:?}", shortened(name));
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing(name, known)
}

fn columns(schema: &Schema) -> Value {
    let of = |column: &flows_formats::Column| {
        let mut of = typed(&column.name, column.kind);
        of["nullable"] = column.nullable.into();
        of
    };
    schema.columns.iter().map(of).collect()
}

/// A column's name and type, with what else the type has.
fn typed(name: &str, kind: Type) -> Value {
    let mut of = json!({ "name": name, "type": kind.name() });
    match kind {
        Type::Timestamp(unit) => of["unit"] = unit.name().into(),
        Type::Decimal { precision, scale } => {
            of["precision"] = precision.into();
            of["scale"] = scale.into();
        }
        _ => {}
    }
    of
}

fn reply(document: &Value, media_type: &'static str) -> Response {
    let mut response = Response::new(format!("{document:#}\n").into());
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}
