//! Query string → [`Selection`] and format. Strict: what is not understood is not ignored.

use std::sync::Arc;

use flows_formats::Format;
use warp::Rejection;

use super::problem::{Problem, shortened};
use super::target::Target;
use crate::config::Stream;
use crate::selection::{PARAMETERS, Selection};

/// The format when neither parameter nor extension names one.
const DEFAULT_FORMAT: &str = "json";

/// What the client asks for.
pub(super) struct Asked {
    pub(super) stream: Arc<Stream>,
    pub(super) format: &'static Format,
    pub(super) selection: Selection,
}

/// Reads the query string of a request for `target`; 400 when anything in it is not understood.
pub(super) async fn asked(target: Target, query: String) -> Result<Asked, Rejection> {
    read(target, &query).map_err(Problem::rejection)
}

fn read(target: Target, query: &str) -> Result<Asked, Problem> {
    let mut values: [Option<String>; PARAMETERS.len()] = Default::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = PARAMETERS.iter().position(|known| *known == name) else {
            let detail = format!("there is no parameter {:?}", shortened(&name));
            return Err(Problem::bad_request(detail)
                .about(&name, Some(&value))
                .allowing(&name, PARAMETERS));
        };
        if values[at].is_some() {
            let detail = format!("{name} is given more than once");
            return Err(Problem::bad_request(detail)
                .about(&name, Some(&value))
                .allowing_only("each parameter at most once"));
        }
        values[at] = Some(value.into_owned());
    }
    let [after, before, limit, format] = &values;
    let integer = |name, value: &Option<String>, least| {
        value
            .as_deref()
            .map(|value| integer(name, value, least))
            .transpose()
    };
    let selection = Selection {
        scanned_after: integer("scanned_after", after, i64::MIN)?,
        scanned_before: integer("scanned_before", before, i64::MIN)?,
        limit: integer("limit", limit, 0)?.map(i64::unsigned_abs),
    };
    let format = self::format(&target, format.as_deref())?;
    Ok(Asked {
        stream: target.stream,
        format,
        selection,
    })
}

/// A decimal integer without a sign or with a minus.
fn integer(name: &str, value: &str, least: i64) -> Result<i64, Problem> {
    let parsed = value.parse().ok().filter(|_| !value.starts_with('+'));
    parsed.filter(|integer| *integer >= least).ok_or_else(|| {
        let allowed = format!("an integer from {least} to {}", i64::MAX);
        let detail = format!("{name} is {:?}; it must be {allowed}", shortened(value));
        Problem::bad_request(detail)
            .about(name, Some(value))
            .allowing_only(&allowed)
    })
}

/// The format that the parameter or the extension names; they may not contradict each other.
fn format(target: &Target, parameter: Option<&str>) -> Result<&'static Format, Problem> {
    let formats = &target.app.formats;
    let names = || formats.iter().map(|format| format.name);
    let named = |name: &str| {
        formats.get(name).ok_or_else(|| {
            let detail = format!("there is no format {:?}", shortened(name));
            Problem::bad_request(detail)
                .about("format", Some(name))
                .allowing(name, names())
        })
    };
    match (parameter, target.extension) {
        (Some(name), Some(extension)) if named(name)?.name != extension.name => {
            let detail = format!(
                "format is {name:?}, but the path ends in .{}; leave one of them out",
                extension.extension
            );
            Err(Problem::bad_request(detail)
                .about("format", Some(name))
                .allowing_only(extension.name))
        }
        (_, Some(extension)) => Ok(extension),
        (Some(name), None) => named(name),
        (None, None) => named(DEFAULT_FORMAT),
    }
}
