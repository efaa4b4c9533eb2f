//! Query string → [`Selection`], format and its options. Strict: what is not understood is not
//! ignored.

use std::borrow::Cow;
use std::sync::Arc;

use flows_formats::{Format, Options};
use warp::Rejection;
use warp::http::StatusCode;

use super::negotiation;
use super::problem::{Problem, shortened};
use super::request::Shared;
use super::target::Target;
use crate::config::Stream;
use crate::selection::{PARAMETERS, Selection};
use crate::stream::Coding;

/// What the client asks for.
pub(super) struct Asked {
    pub(super) request: Shared,
    pub(super) stream: Arc<Stream>,
    pub(super) format: &'static Format,
    pub(super) media_type: &'static str,
    pub(super) options: Options,
    pub(super) coding: Coding,
    pub(super) selection: Selection,
}

/// Reads the query string of a request for `target`; 400 when anything in it is not understood, 406
/// when the client accepts nothing that there is.
pub(super) async fn asked(
    target: Target,
    query: String,
    request: Shared,
) -> Result<Asked, Rejection> {
    read(target, &query, request).map_err(Problem::rejection)
}

/// The options of formats, as they stand in the query: `FORMAT.OPTION` and value.
type WrittenOptions<'q> = Vec<(Cow<'q, str>, Cow<'q, str>)>;

fn read(target: Target, query: &str, request: Shared) -> Result<Asked, Problem> {
    let mut values: [Option<Cow<'_, str>>; PARAMETERS.len()] = Default::default();
    let mut options: WrittenOptions<'_> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some(at) = PARAMETERS.iter().position(|known| *known == name) else {
            if options.iter().any(|(known, _)| *known == name) {
                return Err(repeated(&name, &value));
            }
            options.push((name, value));
            continue;
        };
        if values[at].is_some() {
            return Err(repeated(&name, &value));
        }
        values[at] = Some(value);
    }
    let [after, before, limit, format] = &values;
    let integer = |name, value: &Option<Cow<'_, str>>, least| {
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
    // Before the options, so that one of a format is not unknown for the want of the format.
    let (format, media_type) = match self::format(&target, format.as_deref())? {
        Some(format) => (
            format,
            *format
                .media_types
                .first()
                .unwrap_or(&"application/octet-stream"),
        ),
        None => accepted(&target, &request)?,
    };
    let options = self::options(&target, format, options)?;
    let coding = coding(&target, format, &request)?;
    Ok(Asked {
        coding,
        request,
        stream: target.stream,
        format,
        media_type,
        options,
        selection,
    })
}

fn repeated(name: &str, value: &str) -> Problem {
    let detail = format!("{} is given more than once", shortened(name));
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing_only("each parameter at most once")
}

/// The format's options, as the query sets them.
fn options(
    target: &Target,
    format: &'static Format,
    written: WrittenOptions<'_>,
) -> Result<Options, Problem> {
    let mut options = Options::new(format.options);
    for (name, value) in written {
        let option = name.split_once('.').filter(|(of, _)| *of == format.name);
        let set = option.map(|(_, option)| options.set(option, &value));
        match set {
            Some(Ok(())) => {}
            Some(Err(Some(allowed))) => {
                let allowed = allowed.listed();
                let detail = format!(
                    "{name} is {:?}; it must be {}",
                    shortened(&value),
                    allowed.join(" or ")
                );
                return Err(Problem::bad_request(detail)
                    .about(&name, Some(&value))
                    .allowing(&value, allowed));
            }
            Some(Err(None)) | None => return Err(unknown(target, format, &name, &value)),
        }
    }
    Ok(options)
}

/// A parameter that there is not, or not with this format.
fn unknown(target: &Target, format: &Format, name: &str, value: &str) -> Problem {
    let detail = match name.split_once('.') {
        Some((of, _)) if of != format.name && target.app.formats.get(of).is_some() => {
            format!(
                "{} is for the format {of}, but the format is {}",
                shortened(name),
                format.name
            )
        }
        _ => format!("there is no parameter {:?}", shortened(name)),
    };
    let options = format.options.iter();
    let options = options.map(|option| format!("{}.{}", format.name, option.name));
    let known = PARAMETERS.map(str::to_owned).into_iter().chain(options);
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing(name, known)
}

/// The format that `Accept` likes best, and the media type that it means.
fn accepted(target: &Target, request: &Shared) -> Result<(&'static Format, &'static str), Problem> {
    let default = target.stream.default_format.as_str();
    let formats = target.app.formats.iter();
    let mut formats: Vec<_> = formats.collect();
    // Stable: the others stay in order.
    formats.sort_by_key(|format| format.name != default);
    negotiation::format(request.accept.as_deref(), &formats).ok_or_else(|| {
        let accept = shortened(request.accept.as_deref().unwrap_or_default());
        let media_types = formats.iter().flat_map(|format| format.media_types);
        let detail = format!(
            "no format is acceptable by Accept: {accept}; the parameter format names one, too"
        );
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail).listing(media_types.copied())
    })
}

/// The coding that `Accept-Encoding` likes best.
fn coding(target: &Target, format: &Format, request: &Shared) -> Result<Coding, Problem> {
    let (accept, codings) = (request.accept_encoding.as_deref(), &target.app.codings);
    negotiation::coding(accept, format.compressed, codings).ok_or_else(|| {
        let accept = shortened(accept.unwrap_or_default());
        let detail = format!("no content coding is acceptable by Accept-Encoding: {accept}");
        Problem::new(StatusCode::NOT_ACCEPTABLE, detail).listing(codings.map(Coding::name))
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

/// The format that the parameter or the extension names, if any; they may not contradict each other.
fn format(target: &Target, parameter: Option<&str>) -> Result<Option<&'static Format>, Problem> {
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
        (_, Some(extension)) => Ok(Some(extension)),
        (Some(name), None) => named(name).map(Some),
        (None, None) => Ok(None),
    }
}
