//! Query string → what to read, format and its options. Strict: what is not understood is not
//! ignored.

use std::borrow::Cow;
use std::sync::Arc;

use flows_formats::{Column, Format, Options, Type};
use percent_encoding::percent_decode_str;
use warp::Rejection;
use warp::http::StatusCode;

use super::filters::{self, filter, list_of};
use super::instants::{self, Now};
use super::negotiation;
use super::operators::{self, lookalike};
use super::points::{Point, compared};
use super::problem::{Problem, shortened};
use super::request::Shared;
use super::target::Target;
use crate::config::Server;
use crate::definition::Stream;
use crate::selection::{
    BOUNDS, Filter, Ids, Operand, Operator, Order, PARAMETERS, Position, Range, View,
};
use crate::store::Limits;
use crate::stream::ContentCoding;
use crate::stream::connections::Connections;
use crate::token::{has_secret_name, is_secret_name};

/// What the client asks for.
pub(super) struct StreamRequest {
    pub(super) request: Shared,
    pub(super) view: Arc<View>,
    /// Those to the stream's database.
    pub(super) connections: Connections,
    pub(super) range: Range,
    /// The position that it goes on after, whatever its window.
    pub(super) after: Option<Position>,
    /// The parameters that spoke of now.
    pub(super) resolved: Vec<Resolved>,
    /// Whether it asks how many records there are.
    pub(super) count: bool,
    pub(super) format: &'static Format,
    pub(super) media_type: &'static str,
    pub(super) options: Options,
    pub(super) coding: ContentCoding,
}

/// A parameter that spoke of now, and what it said.
pub(super) struct Resolved {
    pub(super) name: String,
    pub(super) written: String,
    /// The same, with the instants that were meant.
    pub(super) absolute: String,
}

/// Reads the query string of a request for `target`; 400 when anything in it is not understood, 406
/// when the client accepts nothing that there is.
pub(super) async fn asked(
    target: Target,
    query: String,
    request: Shared,
) -> Result<StreamRequest, Rejection> {
    read(target, &query, request).map_err(Problem::rejection)
}

type Others<'q> = Vec<(Cow<'q, str>, Cow<'q, str>)>;

fn read(target: Target, query: &str, request: Shared) -> Result<StreamRequest, Problem> {
    let mut values: [Option<Cow<'_, str>>; PARAMETERS.len()] = Default::default();
    let mut bounds: [Vec<Cow<'_, str>>; BOUNDS] = Default::default();
    let mut others: Others<'_> = Vec::new();
    let mut filters = Vec::new();
    let mut resolved = Vec::new();
    let now = Now::read();
    let mut resolve = |name: &str, written: &str, absolute: Option<String>| {
        resolved.extend(absolute.map(|absolute| Resolved {
            name: name.to_owned(),
            written: written.to_owned(),
            absolute,
        }));
    };
    let is_broken = |pair: &&str| percent_decode_str(pair).decode_utf8().is_err();
    if let Some(broken) = query.split('&').find(is_broken) {
        return Err(not_utf8(broken));
    }
    if let Some(broken) = query.split('&').find(|pair| has_bare_percent(pair)) {
        return Err(bare_percent(broken));
    }
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if let Some(at) = PARAMETERS.iter().position(|known| *known == name) {
            if let Some(bounds) = bounds.get_mut(at) {
                // More than once means that all must hold; clients that do not know of any yet leave it empty.
                if !value.is_empty() {
                    bounds.push(value);
                }
                continue;
            }
            if values[at].is_some() {
                return Err(repeated(&name, &value));
            }
            values[at] = Some(value);
        } else if let Some(column) = column(&target.view, &name) {
            // More than once means that all must hold.
            let filter = allowed(&target.view, filter(column, &value, now)?)?;
            resolve(&name, &value, filters::absolute(column, &value, now));
            filters.push(filter);
            bounded(&filters, &target.connections.limits(), &target.app.server)
                .map_err(|problem| problem.about(&name, Some(&value)))?;
        } else if !is_option(&target, &name) {
            return Err(unknown(&target, &name, &value));
        } else if others.iter().any(|(known, _)| *known == name) {
            return Err(repeated(&name, &value));
        } else {
            others.push((name, value));
        }
    }
    let [.., limit, order, columns, count, format] = &values;
    let order = order.as_deref().map_or(Ok(Order::Time), self::order)?;
    let limit = limit.as_deref().map(|value| integer("limit", value, 0));
    let stream = &target.view.stream;
    let kind = stream.declared(&stream.time).0;
    let times = Times {
        stream,
        kind,
        order,
        now,
    };
    let (mut window, mut ends) = ([None, None], [None, None]);
    let values_of_each = PARAMETERS.into_iter().zip(&bounds);
    let given = values_of_each.flat_map(|(name, values)| values.iter().map(move |v| (name, v)));
    for (name, value) in given {
        let is_lower = !matches!(name, "scanned_before" | "until");
        let at = usize::from(!is_lower);
        if matches!(name, "after" | "until") {
            let (position, absolute) = times.position(name, value)?;
            narrow(&mut ends[at], position, is_lower);
            resolve(name, value, absolute);
        } else {
            let point = match (name, times.bound(name, value)?) {
                // After all that is before it. Nothing is before the least.
                ("scanned_from", Point::At(time)) => {
                    time.checked_sub(1).map_or(Point::BeforeAll, Point::At)
                }
                (_, point) => point,
            };
            narrow(&mut window[at], point, is_lower);
            resolve(name, value, times.absolute(value, ""));
        }
    }
    let [after, until] = ends;
    let after = after.and_then(start);
    let mut range = Range {
        after: after.clone(),
        until: None,
        limit: limit.transpose()?.map(i64::unsigned_abs),
    };
    granted(range.limit, target.app.server.records)?;
    let mut untils = vec![until];
    match order {
        Order::Time => {
            // The window's bounds lie after every record of their time.
            let [after, before] = window.map(|bound| Some(bound?.map(Position::end_of)));
            range.after = range.after.max(after.and_then(start));
            untils.push(before);
        }
        Order::Id => {
            let operators = [Operator::Greater, Operator::LessOrEqual];
            for (operator, bound) in operators.into_iter().zip(window) {
                let Some(bound) = bound else { continue };
                let (operator, times) = compared(operator, vec![bound]);
                filters.push(Filter {
                    column: stream.time.clone(),
                    kind,
                    operator,
                    operands: times.into_iter().map(Operand::Integer).collect(),
                });
            }
        }
    }
    for until in untils.into_iter().flatten() {
        match until {
            Point::At(until) | Point::After(until) => {
                let before = range.until.take().unwrap_or_else(|| until.clone());
                range.until = Some(before.min(until));
            }
            Point::AfterAll => {}
            // Nothing is before all.
            Point::BeforeAll => range.limit = Some(0),
        }
    }
    let columns = columns
        .as_deref()
        .map(|list| self::columns(&target.view, list));
    let view = match (columns.transpose()?, order) {
        (None, Order::Time) if filters.is_empty() => Arc::clone(&target.view),
        (columns, order) => {
            let columns = columns.unwrap_or_else(|| target.view.schema.columns.clone());
            let stream = Arc::clone(&target.view.stream);
            Arc::new(View::new(stream, columns, order, filters))
        }
    };
    let count = match count.as_deref() {
        None => false,
        Some("exact") => true,
        Some(value) => {
            let detail = format!("count is {:?}; it must be exact", shortened(value));
            return Err(Problem::bad_request(detail)
                .about("count", Some(value))
                .allowing(value, ["exact"]));
        }
    };
    // Before the options: they are those of the format.
    let (format, media_type) = match self::format(&target, format.as_deref())? {
        Some(format) => {
            let media_type = format.media_types.first();
            (format, *media_type.unwrap_or(&"application/octet-stream"))
        }
        None => accepted(&target, &request)?,
    };
    let options = self::options(format, others)?;
    let coding = coding(&target, format, &request)?;
    Ok(StreamRequest {
        request,
        view,
        connections: target.connections,
        range,
        after,
        resolved,
        count,
        format,
        media_type,
        options,
        coding,
    })
}

/// The column of that name, if it is served.
fn column<'v>(view: &'v View, name: &str) -> Option<&'v Column> {
    view.schema
        .columns
        .iter()
        .find(|column| column.name == name)
}

/// A filter, if the operator of the server allows any.
fn allowed(view: &View, filter: Filter) -> Result<Filter, Problem> {
    if view.stream.filters {
        return Ok(filter);
    }
    let (column, stream) = (&filter.column, &view.stream.name);
    let detail = format!(
        "{column} cannot be compared: the stream {stream} allows no filters; its windows and columns \
         can be chosen"
    );
    Err(Problem::new(StatusCode::FORBIDDEN, detail).about(column, None))
}

fn order(value: &str) -> Result<Order, Problem> {
    let found = Order::ALL.into_iter().find(|order| order.name() == value);
    found.ok_or_else(|| {
        let detail = format!("order is {:?}; it must be time or id", shortened(value));
        Problem::bad_request(detail)
            .about("order", Some(value))
            .allowing(value, Order::ALL.map(Order::name))
    })
}

/// How times and positions of a request are read.
struct Times<'s> {
    stream: &'s Stream,
    /// What the stream's time is declared to be.
    kind: Type,
    order: Order,
    now: Now,
}

impl Times<'_> {
    fn point(&self, text: &str) -> Option<Point<i64>> {
        match self.kind {
            Type::Timestamp(unit) => self.now.point(text, unit),
            _ => instants::integer(text).map(Point::At),
        }
    }

    /// A bound of the window.
    fn bound(&self, name: &str, value: &str) -> Result<Point<i64>, Problem> {
        self.point(value).ok_or_else(|| {
            let allowed = match self.kind {
                Type::Timestamp(unit) => instants::allowed(unit),
                _ => format!(
                    "an integer from {} to {}, since the stream's time, {}, is one",
                    i64::MIN,
                    i64::MAX,
                    self.stream.time
                ),
            };
            not(name, value, &allowed)
        })
    }

    /// A time that was relative to now as an instant that stays what it is, with what follows it.
    fn absolute(&self, time: &str, rest: &str) -> Option<String> {
        let is_instant = matches!(self.kind, Type::Timestamp(_));
        let absolute = self.now.absolute(time).filter(|_| is_instant)?;
        Some(absolute + rest)
    }

    /// A position, and the same without a time that was relative to now.
    fn position(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(Point<Position>, Option<String>), Problem> {
        let ids = self.stream.ids();
        let found = match self.order {
            Order::Time => value.match_indices(':').find_map(|(at, _)| {
                // A time may have colons, and so may an id; no time is the beginning of another one.
                let (time, id) = (self.point(&value[..at])?, ids.part(&value[at + 1..])?);
                let position = match time {
                    Point::At(key) => Point::At(Position {
                        key: key.into(),
                        id,
                    }),
                    time => time.map(Position::end_of),
                };
                Some((position, self.absolute(&value[..at], &value[at..])))
            }),
            Order::Id => ids
                .part(value)
                .map(|id| (Point::At(Position::end_of(id)), None)),
        };
        found.ok_or_else(|| {
            let id = match ids {
                Ids::Integers => "an integer of 64 bits",
                Ids::Strings => "a string, percent-encoded",
            };
            let allowed = match (self.order, self.kind, ids) {
                (Order::Id, ..) => format!("ID, {id}, since order is id"),
                (Order::Time, Type::Timestamp(unit), _) => format!(
                    "TIME:ID, where ID is {id}, and TIME is {}",
                    instants::allowed(unit)
                ),
                (Order::Time, _, Ids::Integers) => {
                    "TIME:ID, two integers of 64 bits, such as 86400:1017".to_owned()
                }
                (Order::Time, _, Ids::Strings) => {
                    format!("TIME:ID, where ID is {id}, and TIME is an integer of 64 bits")
                }
            };
            not(name, value, &allowed)
        })
    }
}

/// Has a bound hold, too.
fn narrow<T: Ord>(known: &mut Option<Point<T>>, point: Point<T>, is_lower: bool) {
    *known = Some(match known.take() {
        None => point,
        Some(known) => known.narrower(point, is_lower),
    });
}

/// Where a range begins that has only what is after that; `None` with the first record.
fn start(after: Point<Position>) -> Option<Position> {
    match after {
        Point::BeforeAll => None,
        Point::At(position) | Point::After(position) => Some(position),
        Point::AfterAll => Some(Position::end_of(i64::MAX)),
    }
}

/// A value that is not what it must be.
fn not(name: &str, value: &str, allowed: &str) -> Problem {
    let detail = format!("{name} is {:?}; it must be {allowed}", shortened(value));
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing_only(allowed)
}

/// The columns that a list names, in its order.
fn columns(view: &View, list: &str) -> Result<Vec<Column>, Problem> {
    let problem = |detail: String| Problem::bad_request(detail).about("columns", Some(list));
    let names = list_of(list).ok_or_else(|| {
        let detail = format!(
            "columns is {:?}; it must be names with commas between them, those with commas or quotes \
             in quotes",
            shortened(list)
        );
        problem(detail).listing(view.schema.columns.iter().map(|column| &column.name))
    })?;
    let mut columns: Vec<Column> = Vec::with_capacity(names.len());
    for name in names {
        let Some(column) = column(view, &name) else {
            let detail = format!("there is no column {:?}", shortened(&name));
            let known = view.schema.columns.iter().map(|column| &column.name);
            return Err(problem(detail).allowing(&name, known));
        };
        if columns.contains(column) {
            return Err(problem(format!("columns names {name} more than once"))
                .allowing_only("each column at most once"));
        }
        columns.push(column.clone());
    }
    Ok(columns)
}

/// Whether a percent sign stands where no two hexadecimal digits follow.
fn has_bare_percent(pair: &str) -> bool {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = pair.as_bytes();
    let bare = |(at, byte): (usize, &u8)| {
        *byte == b'%' && !(is_hex(bytes.get(at + 1)) && is_hex(bytes.get(at + 2)))
    };
    bytes.iter().enumerate().any(bare)
}

fn bare_percent(pair: &str) -> Problem {
    if has_secret_name(pair) {
        return Problem::token_in_url();
    }
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let detail = format!(
        "{} is {:?}; after % come two hexadecimal digits, and a percent sign is written %25",
        shortened(name),
        shortened(value)
    );
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing_only("percent-encoding")
}

fn not_utf8(pair: &str) -> Problem {
    if has_secret_name(pair) {
        return Problem::token_in_url();
    }
    let (name, value) = form_urlencoded::parse(pair.as_bytes())
        .next()
        .unwrap_or_default();
    let detail = format!(
        "{} is {:?}, which is not UTF-8 where U+FFFD stands",
        shortened(&name),
        shortened(&value)
    );
    Problem::bad_request(detail)
        .about(&name, Some(&value))
        .allowing_only("UTF-8")
}

/// Whether there is no more to compare than the store takes, and the configuration allows.
fn bounded(filters: &[Filter], limits: &Limits, server: &Server) -> Result<(), Problem> {
    let operands = || filters.iter().flat_map(|filter| &filter.operands);
    let bytes = || operands().map(Operand::bytes).sum::<usize>();
    if filters.len() <= limits.filters
        && operands().count() <= limits.operands
        && bytes() <= server.parameter_bytes
    {
        return Ok(());
    }
    let allowed = format!(
        "at most {} filters, with {} values in them, and {} bytes in those, of which each value has {} and \
         those of its text (server.parameter_bytes)",
        limits.filters,
        limits.operands,
        server.parameter_bytes,
        size_of::<Operand>()
    );
    let detail = format!("there is too much to compare to; there may be {allowed}");
    Err(Problem::bad_request(detail).allowing_only(&allowed))
}

/// Whether so many records may be asked for at once.
fn granted(limit: Option<u64>, records: u64) -> Result<(), Problem> {
    if records == 0 || limit.is_some_and(|limit| limit <= records) {
        return Ok(());
    }
    let asked = limit.map_or("all records".to_owned(), |limit| limit.to_string());
    let detail = format!(
        "{asked} cannot be asked for at once (server.records): add limit={records}, or less, and go on with \
         the URL of the header Link while there is one"
    );
    let limit = limit.map(|limit| limit.to_string());
    Err(Problem::bad_request(detail)
        .about("limit", limit.as_deref())
        .allowing_only(&format!("an integer from 0 to {records}")))
}

fn repeated(name: &str, value: &str) -> Problem {
    let detail = format!("{} is given more than once", shortened(name));
    Problem::bad_request(detail)
        .about(name, Some(value))
        .allowing_only("each parameter at most once")
}

/// Whether some format has this option, `FORMAT.OPTION`.
fn is_option(target: &Target, name: &str) -> bool {
    let option = name
        .split_once('.')
        .and_then(|(format, option)| Some((target.app.formats.get(format)?, option)));
    option.is_some_and(|(format, option)| format.options.iter().any(|known| known.name == option))
}

/// The format's options, as the query sets them.
fn options(format: &'static Format, written: Others<'_>) -> Result<Options, Problem> {
    let mut options = Options::new(format.options);
    for (name, value) in written {
        let problem = |detail| Problem::bad_request(detail).about(&name, Some(&value));
        let (of, option) = name.split_once('.').unwrap_or(("", &name));
        if of != format.name {
            let detail = format!(
                "{name} is for the format {of}, but the format is {}",
                format.name
            );
            let options = format.options.iter();
            return Err(
                problem(detail).listing(options.map(|option| written_in_full(format, option.name)))
            );
        }
        match options.set(option, &value) {
            Ok(()) => {}
            Err(allowed) => {
                let allowed = allowed.map(|allowed| allowed.listed()).unwrap_or_default();
                let value = shortened(&value);
                let detail = format!("{name} is {value:?}; it must be {}", allowed.join(" or "));
                return Err(problem(detail).allowing(&value, allowed));
            }
        }
    }
    Ok(options)
}

/// An option of a format, as a parameter.
fn written_in_full(format: &Format, option: &str) -> String {
    format!("{}.{option}", format.name)
}

/// A parameter that there is not.
fn unknown(target: &Target, name: &str, value: &str) -> Problem {
    if is_secret_name(name) {
        return Problem::token_in_url();
    }
    let problem = |detail| Problem::bad_request(detail).about(name, Some(value));
    // `byte_count>=5`, where the name ends at the first equals sign.
    if let Some((symbol, _)) = name.char_indices().find(|(_, c)| "<>!~".contains(*c))
        && let Some(column) = column(&target.view, &name[..symbol])
    {
        let written = format!("{}={value}", &name[symbol..]);
        let written = written.strip_suffix('=').unwrap_or(&written);
        if let Some(meant) = lookalike(column.kind, written).and_then(|found| found.suggestion) {
            let (given, meant) = (shortened(name), format!("{}={meant}", column.name));
            let detail = format!("there is no parameter {given:?}; comparisons are filters");
            return problem(detail).suggesting(Some(meant), operators::listed());
        }
    }
    let options = target.app.formats.iter().flat_map(|format| {
        let options = format.options.iter();
        options.map(|option| written_in_full(format, option.name))
    });
    let columns = target.view.schema.columns.iter();
    let columns = columns.map(|column| column.name.clone());
    let known = PARAMETERS.map(str::to_owned).into_iter();
    problem(format!("there is no parameter {:?}", shortened(name)))
        .allowing(name, known.chain(options).chain(columns))
}

/// The format that `Accept` likes best, and the media type that it means.
fn accepted(target: &Target, request: &Shared) -> Result<(&'static Format, &'static str), Problem> {
    let default = target.view.stream.default_format.as_str();
    let formats = target.app.formats.iter();
    let mut formats: Vec<_> = formats.collect();
    // Stable: the others stay in order.
    formats.sort_by_key(|format| format.name != default);
    negotiation::format(request.accept.as_deref(), &formats).ok_or_else(|| {
        let accept = shortened(request.accept.as_deref().unwrap_or_default());
        let media_types = formats.iter().flat_map(|format| format.named_by());
        let detail =
            format!("Accept: {accept} matches no format; the parameter format can name one");
        Problem::not_acceptable(detail).listing(media_types)
    })
}

/// The coding that `Accept-Encoding` likes best.
fn coding(target: &Target, format: &Format, request: &Shared) -> Result<ContentCoding, Problem> {
    let (accept, codings) = (request.accept_encoding.as_deref(), &target.app.codings);
    negotiation::coding(accept, format, codings).ok_or_else(|| {
        let accept = shortened(accept.unwrap_or_default());
        let detail = format!("Accept-Encoding: {accept} matches no content coding");
        Problem::not_acceptable(detail).listing(codings.map(ContentCoding::name))
    })
}

fn integer(name: &str, value: &str, least: i64) -> Result<i64, Problem> {
    let integer = instants::integer(value).filter(|integer| *integer >= least);
    integer.ok_or_else(|| {
        let allowed = format!("an integer from {least} to {}", i64::MAX);
        not(name, value, &allowed)
    })
}

/// The format that the parameter or the extension names, if any; they may not contradict each other.
fn format(target: &Target, parameter: Option<&str>) -> Result<Option<&'static Format>, Problem> {
    let formats = &target.app.formats;
    let names = || formats.iter().map(|format| format.name);
    let named = |name: &str| {
        formats.get(name).ok_or_else(|| {
            let detail = format!("there is no format {:?}", shortened(name));
            let problem = Problem::bad_request(detail).about("format", Some(name));
            // ClickHouse's names for what is called otherwise here.
            match name {
                "JSONEachRow" => problem.suggesting(Some("ndjson".to_owned()), names()),
                "ArrowStream" => problem.suggesting(Some("arrow".to_owned()), names()),
                _ => match formats.by_extension(name) {
                    Some(meant) => problem.suggesting(Some(meant.name.to_owned()), names()),
                    None => problem.allowing(name, names()),
                },
            }
        })
    };
    match (parameter, &target.extension) {
        (Some(name), Some((extension, format))) if named(name)?.name != format.name => {
            let detail = format!(
                "format is {name:?}, but the path ends in .{extension}; leave one of them out"
            );
            Err(Problem::bad_request(detail)
                .about("format", Some(name))
                .allowing_only(format.name))
        }
        (_, Some((_, format))) => Ok(Some(format)),
        (Some(name), None) => named(name).map(Some),
        (None, None) => Ok(None),
    }
}
