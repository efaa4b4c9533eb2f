//! A walk through a table's pages, in order.

use std::cmp::Ordering;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result, ffi};

use super::super::scan::{self, Went};
use super::filters::Test;
use super::key::{Key, KeyRange};
use super::page::{Cell, Kind, Page};
use super::record::Layout;
use super::rows::{Row, Rows};
use super::{Beginning, MOST_COLUMNS, PAGE, PageReader};
use crate::selection::{Filter, Range};

/// How many pages lead to a record at most; SQLite's own bound.
pub(super) const DEEPEST: usize = 20;

/// The most records that SQL is asked for at once.
const MOST_LEFT: u64 = 1000;

/// Records that are not plain are often followed by others where so few are between them. SQL then
/// reads those, too, up to [`MOST_PLAIN`] in a row: asking it once costs as much as it takes for a
/// dozen of records.
const OFTEN: u64 = 16;
const MOST_PLAIN: u64 = 31;

pub(super) struct Walk<'a> {
    reader: &'a PageReader,
    connection: &'a Connection,
    range: KeyRange,
    tests: Vec<Test<'a>>,
    /// The rows that the records point to, if these are an index's.
    rows: Option<Rows<'a>>,
    by_sql: &'a mut dyn FnMut(&Range) -> Result<Went>,
    /// Records up to this one are done with, and those before the range never began.
    done: Option<Key>,
    /// What of the beginning the walk has not come by.
    beginning: Option<Beginning>,
    /// What is left to SQL, until a record is plain again.
    left: Option<Left>,
    /// Plain records since SQL was last asked.
    plain: u64,
    /// How many plain records in a row SQL reads between others.
    patience: u64,
}

/// Records that are left to SQL, without a gap.
struct Left {
    first: Key,
    last: Key,
    records: u64,
    /// How many of them, at the end, are plain.
    plain: u64,
}

/// What to do after a part of the tree.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Go on.
    On,
    /// The range has ended.
    After,
    /// The sink wants no more.
    Stopped,
    /// SQL reads all that is left of the range.
    Rest,
    /// So it does, and finds this page broken.
    Broken(u32),
}

/// The keys of a page lie between these of the page above.
#[derive(Clone, Copy)]
struct Bounds {
    after: Option<Key>,
    before: Option<Key>,
}

/// What a record is to a scan.
#[derive(Clone, Copy)]
enum RecordKind {
    /// It is handed over, with the values that were read.
    Plain(Key),
    /// It does not match the filters.
    Passed(Key),
    /// SQLite reads it.
    Odd(Key),
    /// Its key is no pair of integers.
    NoPosition,
}

/// What is read of a record.
struct Read<'p> {
    values: [ValueRef<'p>; MOST_COLUMNS],
    layout: Layout,
}

impl Read<'_> {
    const NOTHING: Read<'static> = Read {
        values: [ValueRef::Null; MOST_COLUMNS],
        layout: Layout::NOTHING,
    };
}

/// What is wrong with a page whose keys are not in order, or not between those of the page above.
const DISORDER: &str = "its keys are not in order";

/// What is wrong with what is no page of a clustered table or an index, or has no records.
const BROKEN: &str = "it is none, or empty";

/// What is wrong where SQLite does not find the records that the pages have.
const OTHERS: &str = "SQLite finds other records on it";

impl<'a> Walk<'a> {
    /// `None` if the filters are for SQL.
    pub(super) fn new(
        reader: &'a PageReader,
        connection: &'a Connection,
        range: KeyRange,
        filters: &'a [Filter],
        beginning: Option<Beginning>,
        by_sql: &'a mut dyn FnMut(&Range) -> Result<Went>,
    ) -> Option<Walk<'a>> {
        let tests = filters.iter().zip(&reader.filtered);
        Some(Walk {
            reader,
            connection,
            range,
            tests: tests
                .map(|(filter, at)| Test::new(filter, *at))
                .collect::<Option<_>>()?,
            rows: reader
                .rows
                .as_ref()
                .map(|rows| Rows::new(rows, reader.sizes, connection)),
            by_sql,
            done: beginning.map(|beginning| beginning.last).max(range.after),
            beginning,
            left: None,
            plain: OFTEN,
            patience: 0,
        })
    }

    pub(super) fn run(mut self) -> Result<Went> {
        let bounds = Bounds {
            after: None,
            before: None,
        };
        let step = self.page(self.reader.root, 0, bounds)?;
        if step != Step::Stopped && self.beginning.is_some() {
            return Err(self.malformed(self.reader.root, OTHERS));
        }
        let scanned = match step {
            Step::Rest | Step::Broken(_) => {
                let left = self.left.as_ref().map(|left| before(left.first));
                let range = KeyRange {
                    after: left.unwrap_or(self.done),
                    until: self.range.until,
                };
                (self.by_sql)(&range.into())?
            }
            Step::Stopped => Went::Stopped,
            Step::On | Step::After => self.ask()?,
        };
        match step {
            // SQLite may end before it is there.
            Step::Broken(page) if scanned == Went::Done => Err(self.malformed(page, BROKEN)),
            _ => Ok(scanned),
        }
    }

    fn page(&mut self, number: u32, depth: usize, bounds: Bounds) -> Result<Step> {
        if depth >= DEEPEST {
            return Ok(Step::Broken(number));
        }
        let sizes = self.reader.sizes;
        let inner = {
            let mut statement = self.connection.prepare_cached(PAGE)?;
            let mut rows = statement.query([number])?;
            let Some(row) = rows.next()? else {
                return Ok(Step::Broken(number));
            };
            let bytes = row.get_ref(0)?.as_blob()?;
            match Page::new(bytes, Kind::Keys, sizes) {
                Some(page) if page.cells == 0 && page.leaf && depth == 0 => return Ok(Step::On),
                Some(page) if page.cells > 0 && page.leaf => {
                    return self.leaf(&page, number, bounds);
                }
                // The statement is needed for the children.
                Some(page) if page.cells > 0 => bytes.to_vec(),
                _ => return Ok(Step::Broken(number)),
            }
        };
        match Page::new(&inner, Kind::Keys, sizes) {
            Some(page) => self.inner(&page, number, depth, bounds),
            None => Ok(Step::Broken(number)),
        }
    }

    fn inner(
        &mut self,
        page: &Page<'_>,
        number: u32,
        depth: usize,
        bounds: Bounds,
    ) -> Result<Step> {
        let mut last = bounds.after;
        let mut keys = Vec::with_capacity(page.cells);
        for at in 0..page.cells {
            let cell = self.cell(page, number, at)?;
            let Some(key) = cell.record.position() else {
                self.no_position(page, number, at, last, bounds)?;
                break;
            };
            if last >= Some(key) {
                return Err(self.malformed(number, DISORDER));
            }
            last = Some(key);
            keys.push(key);
        }
        // All that is before a key which is no position is read here.
        let odd = keys.len() < page.cells;
        if !odd {
            self.ends(number, last, bounds)?;
        }
        self.begins(page, number, bounds)?;
        // What is before a key that the range is after is looked at, too: so does SQLite, where it
        // seeks what is not before that key.
        let first = keys.partition_point(|key| Some(*key) < self.range.after);
        let mut read = Read::NOTHING;
        for at in first..=keys.len() {
            let child = Bounds {
                after: at.checked_sub(1).map_or(bounds.after, |at| Some(keys[at])),
                before: keys.get(at).copied().or(bounds.before),
            };
            if at == keys.len() && odd {
                let left = self.cell(page, number, at)?.left;
                let step = self.page(left, depth + 1, child)?;
                return Ok(if step == Step::On { Step::Rest } else { step });
            }
            if at == page.cells {
                // A page of this length has the field.
                let right = page.right().unwrap_or(0);
                return self.page(right, depth + 1, child);
            }
            let cell = self.cell(page, number, at)?;
            let step = self.page(cell.left, depth + 1, child)?;
            if step != Step::On {
                return Ok(step);
            }
            let kind = self.classify(&cell, &mut read);
            let step = self.record(number, kind, &read)?;
            if step != Step::On {
                return Ok(step);
            }
        }
        Ok(Step::On)
    }

    fn leaf(&mut self, page: &Page<'_>, number: u32, bounds: Bounds) -> Result<Step> {
        if scan::is_over() {
            return Ok(Step::Stopped);
        }
        self.begins(page, number, bounds)?;
        let mut last = bounds.after;
        let mut step = Step::On;
        let mut read = Read::NOTHING;
        for at in 0..page.cells {
            let cell = self.cell(page, number, at)?;
            let kind = self.classify(&cell, &mut read);
            let (RecordKind::Plain(key) | RecordKind::Passed(key) | RecordKind::Odd(key)) = kind
            else {
                return self.no_position(page, number, at, last, bounds);
            };
            if last >= Some(key) {
                return Err(self.malformed(number, DISORDER));
            }
            last = Some(key);
            if step == Step::On {
                step = self.record(number, kind, &read)?;
                if step == Step::Stopped {
                    return Ok(step);
                }
            }
        }
        // That the range has ended is certain only of a page that is in order to its end.
        self.ends(number, last, bounds)?;
        Ok(step)
    }

    #[inline]
    fn cell<'p>(&self, page: &Page<'p>, number: u32, at: usize) -> Result<Cell<'p>> {
        page.cell(at)
            .ok_or_else(|| self.malformed(number, "a record is not on it"))
    }

    /// The last key of a page is before what the page above says.
    fn ends(&self, number: u32, last: Option<Key>, bounds: Bounds) -> Result<()> {
        match bounds.before {
            Some(before) if last >= Some(before) => Err(self.malformed(number, DISORDER)),
            _ => Ok(()),
        }
    }

    /// Looks at a page on the way to the range's beginning. Where SQLite compares a record that goes on
    /// elsewhere, it reads all of it, and may find it broken.
    fn begins(&self, page: &Page<'_>, number: u32, bounds: Bounds) -> Result<()> {
        let Some(after) = self
            .range
            .after
            .filter(|after| bounds.after <= Some(*after))
        else {
            return Ok(());
        };
        for at in 0..page.cells {
            if !self.cell(page, number, at)?.plain {
                return self.seek(Some(after));
            }
        }
        Ok(())
    }

    /// Has SQLite look for what comes after a position.
    #[cold]
    fn seek(&self, after: Option<Key>) -> Result<()> {
        let Key { key, id } = after.unwrap_or(Key {
            key: i64::MIN,
            id: i64::MIN,
        });
        let mut statement = self.connection.prepare_cached(&self.reader.seek)?;
        statement.query([key, id])?.next().map(|_| ())
    }

    /// A key that is no pair of integers: what is left of the range is for SQL, if the rest of the
    /// page is in SQLite's order. It then finds what comes next where the walk is.
    #[cold]
    fn no_position(
        &mut self,
        page: &Page<'_>,
        number: u32,
        from: usize,
        last: Option<Key>,
        bounds: Bounds,
    ) -> Result<Step> {
        let whole = |position: Key| {
            let Key { key, id } = position;
            [ValueRef::Integer(key), ValueRef::Integer(id)]
        };
        let mut last = last.map(whole);
        for at in from..page.cells {
            let record = self.cell(page, number, at)?.record;
            let usual = record.has_usual_header(self.reader.reals.len());
            let nulls = self.reader.rows.is_some();
            let key = record
                .key()
                .filter(|key| usual && may_follow(last, *key, nulls));
            last = Some(key.ok_or_else(|| self.malformed(number, DISORDER))?);
        }
        match bounds.before {
            Some(before) if !may_follow(last, whole(before), false) => {
                Err(self.malformed(number, DISORDER))
            }
            _ => Ok(Step::Rest),
        }
    }

    /// What a record is to the scan; its values, if it is handed over.
    #[inline]
    fn classify<'p>(&self, cell: &Cell<'p>, read: &mut Read<'p>) -> RecordKind {
        let (record, reals) = (&cell.record, &self.reader.reals);
        let values = &mut read.values[..reals.len()];
        if self.tests.is_empty() || self.rows.is_some() {
            if record.read(values, reals).is_none() || !cell.plain {
                return self.odd(cell);
            }
            return match *values {
                [ValueRef::Integer(key), ValueRef::Integer(id), ..] => {
                    RecordKind::Plain(Key { key, id })
                }
                _ => RecordKind::NoPosition,
            };
        }
        // Few match, and the values of the others need not be read.
        if record.layout(reals.len(), &mut read.layout).is_none() || !cell.plain {
            return self.odd(cell);
        }
        let key = [0, 1].map(|at| record.value(at, &read.layout));
        let [Some(ValueRef::Integer(key)), Some(ValueRef::Integer(id))] = key else {
            return RecordKind::NoPosition;
        };
        let position = Key { key, id };
        for test in &self.tests {
            let value = record.value(test.at, &read.layout);
            match value.and_then(|value| test.matches(value)) {
                Some(true) => {}
                Some(false) => return RecordKind::Passed(position),
                None => return RecordKind::Odd(position),
            }
        }
        match record.read(values, reals) {
            Some(()) => RecordKind::Plain(position),
            None => RecordKind::Odd(position),
        }
    }

    /// What a record is that is not plain.
    #[cold]
    fn odd(&self, cell: &Cell<'_>) -> RecordKind {
        match cell.record.position() {
            Some(position) if cell.record.has_usual_header(self.reader.reals.len()) => {
                RecordKind::Odd(position)
            }
            _ => RecordKind::NoPosition,
        }
    }

    /// Hands over a record, or leaves it to SQL, unless it is not in the range.
    #[inline]
    fn record(&mut self, number: u32, kind: RecordKind, read: &Read<'_>) -> Result<Step> {
        let (RecordKind::Plain(key) | RecordKind::Passed(key) | RecordKind::Odd(key)) = kind else {
            return Ok(Step::Rest);
        };
        if Some(key) <= self.done {
            return self.skip(number, key);
        }
        if self.beginning.is_some() {
            return Err(self.malformed(number, OTHERS));
        }
        if self.range.until.is_some_and(|until| key > until) {
            if let RecordKind::Odd(_) = kind {
                // SQLite reads it, to see that the range has ended.
                self.seek(before(key))?;
            }
            return Ok(Step::After);
        }
        let mut kind = kind;
        if let (Some(rows), RecordKind::Plain(_)) = (&mut self.rows, kind) {
            // Where rows are far from one another, SQL reads them: many at once, between entries that
            // were verified.
            kind = match rows.pay() {
                true => match rows.find(key, &self.tests)? {
                    Row::Plain => kind,
                    Row::Passed => RecordKind::Passed(key),
                    Row::Odd => RecordKind::Odd(key),
                },
                false => RecordKind::Odd(key),
            };
        }
        self.done = Some(key);
        match kind {
            RecordKind::Odd(_) => return self.leave(key),
            RecordKind::Plain(_) => {}
            RecordKind::Passed(_) | RecordKind::NoPosition => return Ok(Step::On),
        }
        if self.left.is_some() {
            if self.is_left(key) {
                return Ok(Step::On);
            }
            if self.ask()? == Went::Stopped {
                return Ok(Step::Stopped);
            }
        }
        self.plain += 1;
        let columns = &self.reader.columns;
        let goes_on = match &self.rows {
            None => scan::record(|at| read.values[columns[at]]),
            Some(rows) => match rows.record() {
                Some(record) => scan::record(|at| rows.value(key, &record, columns[at])),
                // It was read a moment ago.
                None => return Err(self.malformed(number, OTHERS)),
            },
        };
        Ok(if goes_on { Step::On } else { Step::Stopped })
    }

    /// Comes by a record that is not handed over: it is before the range, or of its beginning.
    #[cold]
    fn skip(&mut self, number: u32, key: Key) -> Result<Step> {
        let of_beginning = Some(key) > self.range.after;
        if let Some(beginning) = self.beginning.as_mut().filter(|_| of_beginning) {
            beginning.records = beginning.records.saturating_sub(1);
            if (beginning.records == 0) != (key == beginning.last) {
                return Err(self.malformed(number, OTHERS));
            }
            self.beginning = self.beginning.filter(|beginning| beginning.records > 0);
        }
        Ok(Step::On)
    }

    /// Leaves a record to SQL.
    #[cold]
    fn leave(&mut self, key: Key) -> Result<Step> {
        let Some(left) = &mut self.left else {
            self.patience = if self.plain < OFTEN {
                (self.patience * 2 + 1).min(MOST_PLAIN)
            } else {
                0
            };
            self.left = Some(Left {
                first: key,
                last: key,
                records: 1,
                plain: 0,
            });
            return Ok(Step::On);
        };
        left.last = key;
        left.records += 1;
        left.plain = 0;
        let full = left.records >= MOST_LEFT;
        if full && self.ask()? == Went::Stopped {
            return Ok(Step::Stopped);
        }
        Ok(Step::On)
    }

    /// Whether a plain record is left to SQL like those before it.
    #[cold]
    fn is_left(&mut self, key: Key) -> bool {
        match &mut self.left {
            Some(left) if left.plain < self.patience && left.records < MOST_LEFT => {
                left.last = key;
                left.records += 1;
                left.plain += 1;
                true
            }
            _ => false,
        }
    }

    /// Asks SQL for the records that are left to it.
    #[cold]
    fn ask(&mut self) -> Result<Went> {
        let Some(left) = self.left.take() else {
            return Ok(Went::Done);
        };
        self.plain = 0;
        let range = KeyRange {
            after: before(left.first),
            until: Some(left.last),
        };
        let scanned = (self.by_sql)(&range.into())?;
        let complete = scanned == Went::Done && self.tests.is_empty();
        if complete && scan::last(Key::of) != Some(left.last) {
            return Err(self.malformed(self.reader.root, OTHERS));
        }
        Ok(scanned)
    }

    #[cold]
    fn malformed(&self, number: u32, what: &str) -> Error {
        let table = &self.reader.table;
        let text = format!(
            "database disk image is malformed: page {number}, of the table {table}: {what}; `PRAGMA \
             integrity_check` tells more"
        );
        Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(text))
    }
}

/// The position before this one; `None` if it is the first.
fn before(Key { key, id }: Key) -> Option<Key> {
    match id.checked_sub(1) {
        Some(id) => Some(Key { key, id }),
        None => Some(Key::end_of(key.checked_sub(1)?)),
    }
}

/// Whether SQLite's order allows a key after another one, which an index may have with `nulls`. Strings of which only a part may be at hand
/// are not compared.
fn may_follow(last: Option<[ValueRef<'_>; 2]>, key: [ValueRef<'_>; 2], nulls: bool) -> bool {
    let is_string = matches!(key[0], ValueRef::Text(_) | ValueRef::Blob(_));
    if (key[0] == ValueRef::Null && !nulls) || (key[1] == ValueRef::Null && !is_string) {
        return false;
    }
    let Some(last) = last else {
        return true;
    };
    for (last, key) in last.into_iter().zip(key) {
        match order(last, key) {
            Some(Ordering::Equal) => {}
            Some(Ordering::Greater) => return false,
            Some(Ordering::Less) | None => return true,
        }
    }
    false
}

/// SQLite's order of two values; `None` of two strings, or of two blobs.
fn order(a: ValueRef<'_>, b: ValueRef<'_>) -> Option<Ordering> {
    let class = |value: ValueRef<'_>| match value {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 1,
        ValueRef::Text(_) => 2,
        ValueRef::Blob(_) => 3,
    };
    let mixed = |integer: i64, real: f64| {
        // Where that rounds, the real is a whole number.
        let rounded = (integer as f64).partial_cmp(&real)?;
        Some(rounded.then_with(|| i128::from(integer).cmp(&(real as i128))))
    };
    match (a, b) {
        (ValueRef::Integer(a), ValueRef::Integer(b)) => Some(a.cmp(&b)),
        (ValueRef::Real(a), ValueRef::Real(b)) => a.partial_cmp(&b),
        (ValueRef::Integer(a), ValueRef::Real(b)) => mixed(a, b),
        (ValueRef::Real(a), ValueRef::Integer(b)) => mixed(b, a).map(Ordering::reverse),
        _ if class(a) == class(b) => None,
        _ => Some(class(a).cmp(&class(b))),
    }
}
