//! Damaged database files, read from their pages and by SQL: what the page reader calls complete is what SQLite
//! finds, record for record, in one piece and in slices; and where SQLite says that the file is broken, so does it.
#![no_main]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use flows::config::{Config, Database};
use flows::selection::{Filter, Operand, Operator, Order, Position, Range, View};
use flows::store::sqlite::Sqlite;
use flows::store::{Cancel, Connection, Find, Sink, Stop, Store, StoreError};
use flows_formats::{Record, Registry, Type, Value};
use flows_fuzz::folder;
use libfuzzer_sys::fuzz_target;

/// How long a connection is waited for: to open one takes some milliseconds.
const WAIT: Duration = Duration::from_secs(5);

const CLUSTERED: &str = "CREATE TABLE t (id INTEGER, time INTEGER, n INTEGER, v TEXT, r REAL, b BLOB, \
                         PRIMARY KEY (time, id)) WITHOUT ROWID";
const ORDINARY: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY, time INTEGER, n INTEGER, v TEXT, r REAL, b BLOB); \
                        CREATE INDEX t_time ON t (time)";

/// Good files, and their page sizes.
static FILES: LazyLock<Vec<(Vec<u8>, usize)>> = LazyLock::new(|| {
    let mut files = Vec::new();
    for table in [CLUSTERED, ORDINARY] {
        for (page, rows, longest) in [
            (512, 120, 10),
            (512, 50, 900),
            (1024, 120, 40),
            (4096, 150, 30),
        ] {
            let path = folder().join("good.db");
            let _ = std::fs::remove_file(&path);
            let connection = rusqlite::Connection::open(&path).unwrap();
            let sql = format!(
                "PRAGMA page_size = {page}; PRAGMA auto_vacuum = NONE; {table};
                 WITH RECURSIVE i (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM i WHERE i < {rows})
                 INSERT INTO t SELECT i * 3, i / 2 - 20, CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN i << (i % 60) ELSE -i END,
                     substr(hex(zeroblob({longest})), 1, (i * 37) % ({longest} + 1)) || i,
                     CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN i ELSE i / 3.0 END, CASE i % 3 WHEN 0 THEN x'00ff' END
                 FROM i;
                 ALTER TABLE t ADD COLUMN later INTEGER DEFAULT 5;
                 INSERT INTO t SELECT id + 1, time + 1, n, 'short', r, b, id FROM t WHERE id % 4 = 0;
                 DELETE FROM t WHERE id % 10 = 3;"
            );
            connection.execute_batch(&sql).unwrap();
            drop(connection);
            files.push((std::fs::read(&path).unwrap(), page));
        }
    }
    files
});

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = format!(
        "[database]\npath = \"{}\"\npool_size = 1\n[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"time\"\nid = \"id\"\n\
         columns = [{{ name = \"id\", type = \"integer\" }}, {{ name = \"v\", type = \"text\", nullable = true }},\n\
         {{ name = \"time\", type = \"integer\" }}, {{ name = \"r\", type = \"real\", nullable = true }},\n\
         {{ name = \"n\", type = \"integer\", nullable = true }}, {{ name = \"b\", type = \"blob\", nullable = true }},\n\
         {{ name = \"later\", type = \"integer\", nullable = true }}]",
        folder().join("damaged.db").display()
    );
    Config::parse(&text, &Registry::load().unwrap()).unwrap()
});

/// The database, by SQL and from its pages.
static STORES: LazyLock<[Sqlite; 2]> = LazyLock::new(|| {
    let (good, _) = &FILES[0];
    std::fs::write(&CONFIG.database.path, good).unwrap();
    [false, true].map(|page_reader| {
        Sqlite::new(&Database {
            page_reader,
            ..CONFIG.database.clone()
        })
    })
});

static NUMBER: AtomicU32 = AtomicU32::new(1000);

fuzz_target!(|input: Input| {
    let view = input.view(&CONFIG);
    let range = &input.range;
    let [sql, pages] = &*STORES;
    let cookie = NUMBER.fetch_add(1, Ordering::Relaxed);
    if let Some(good) = &input.planned {
        // Plans are kept for as long as the schema is the same: that of the good file is used for the damaged one.
        put(good, cookie);
        for store in [sql, pages] {
            let _ = Asked::new(store, &view, range, None);
        }
    }
    put(&input.bytes, cookie);
    let cut = cut(pages, &view, range, input.split);
    let [sql, pages] = [sql, pages].map(|store| Asked::new(store, &view, range, cut.as_ref()));
    let context = || {
        format!(
            "{:?} {range:?} {:?}\nsql: {sql:?}\npages: {pages:?}",
            view.order, view.filters
        )
    };
    match (&sql.rows, &pages.rows) {
        (Err(_), Ok(_)) => panic!("complete, where SQLite finds damage: {}", context()),
        (Ok(sql), Ok(pages)) => assert!(sql == pages, "other records: {}", context()),
        (_, Err(_)) => {}
    }
    for (sql, pages) in sql.slices.iter().zip(&pages.slices) {
        match (sql, pages) {
            (Err(_), Ok(_)) => panic!("a complete slice, where SQLite finds damage: {}", context()),
            (Ok(sql), Ok(pages)) => assert!(sql == pages, "another slice: {}", context()),
            (_, Err(_)) => {}
        }
    }
    // Where an index and its table are at odds, SQLite's own count is another one.
    if let (Ok(rows), Ok(count), Ok(sql_rows), Ok(sql_count)) =
        (&pages.rows, &pages.count, &sql.rows, &sql.count)
        && *sql_count == sql_rows.len() as u64
    {
        assert_eq!(*count, rows.len() as u64, "{}", context());
    }
});

/// Puts a file where the database is, as another state of it to the connections that are kept, and with another
/// schema if the cookie is another one (https://sqlite.org/fileformat2.html, section 1.3: the file change counter,
/// the schema cookie).
fn put(bytes: &[u8], cookie: u32) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut bytes = bytes.to_vec();
    for (at, counter) in [(24, number), (40, cookie), (92, number)] {
        if let Some(place) = bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&counter.to_be_bytes());
        }
    }
    std::fs::write(&CONFIG.database.path, &bytes).unwrap();
}

/// Where a range is cut, if it can be.
fn cut(store: &Sqlite, view: &Arc<View>, range: &Range, records: u64) -> Option<Position> {
    let mut connection = store.connect(WAIT).ok()?;
    connection.snapshot(view, &Cancel::default()).ok()?;
    connection.split(range, records).ok()?
}

type Rows = Vec<(Position, Vec<Owned>)>;

#[derive(Debug, PartialEq)]
enum Owned {
    Null,
    Integer(i64),
    /// Its bits: not a number is itself.
    Real(u64),
    Bytes(Vec<u8>),
}

/// What a store answers.
#[derive(Debug)]
struct Asked {
    rows: Result<Rows, StoreError>,
    /// The same before and after a cut.
    slices: Vec<Result<Rows, StoreError>>,
    count: Result<u64, StoreError>,
    _last: Result<Option<Position>, StoreError>,
}

impl Asked {
    fn new(store: &Sqlite, view: &Arc<View>, range: &Range, cut: Option<&Position>) -> Asked {
        let cancel = Cancel::default();
        let snapshot = store.connect(WAIT).and_then(|mut connection| {
            connection.snapshot(view, &cancel)?;
            Ok(connection)
        });
        let mut connection = match snapshot {
            Ok(connection) => connection,
            Err(error) => {
                assert!(!matches!(error, StoreError::Unavailable { .. }), "{error}");
                let none = || StoreError::Stopped;
                return Asked {
                    rows: Err(error),
                    slices: Vec::new(),
                    count: Err(none()),
                    _last: Err(none()),
                };
            }
        };
        let rows = scanned(&mut *connection, range, &cancel);
        let mut slices = Vec::new();
        if let Some(cut) = cut {
            let [mut before, mut after] = [range.clone(), range.clone()];
            (before.until, after.after) = (Some(cut.clone()), Some(cut.clone()));
            let mut scanned = |range| scanned(&mut *connection, range, &cancel);
            slices = vec![scanned(&before), scanned(&after)];
        }
        let count = connection.count(range, &cancel);
        let last = connection.find(range, Find::Last, &cancel);
        Asked {
            rows,
            slices,
            count,
            _last: last,
        }
    }
}

fn scanned(
    connection: &mut dyn Connection,
    range: &Range,
    cancel: &Cancel,
) -> Result<Rows, StoreError> {
    let (Kept(rows), scanned) = connection.scan(range, Kept(Vec::new()), cancel);
    scanned.map(|()| rows)
}

struct Kept(Rows);

impl Sink for Kept {
    fn record(&mut self, record: &Record<'_>, position: &Position) -> Result<(), Stop> {
        let values = record.values.iter().map(|value| match *value {
            Value::Null => Owned::Null,
            Value::Integer(integer) => Owned::Integer(integer),
            Value::Real(real) => Owned::Real(real.to_bits()),
            Value::Text(text) => Owned::Bytes(text.into()),
            Value::Blob(blob) => Owned::Bytes(blob.into()),
        });
        self.0.push((position.clone(), values.collect()));
        assert!(self.0.len() < 100_000, "there are not so many");
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Stop> {
        Ok(())
    }

    fn replaced(&mut self) {}
}

#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    order: Order,
    columns: u8,
    filter: u8,
    range: Range,
    split: u64,
    /// The good file, if there is a plan for that.
    planned: Option<Vec<u8>>,
}

impl Input {
    fn view(&self, config: &Config) -> Arc<View> {
        let stream = Arc::clone(&config.streams[0]);
        let mut columns = stream.schema.columns.clone();
        if self.columns != 0 {
            let chosen = (0..columns.len())
                .map(|at| self.columns >> at & 1 == 1)
                .collect::<Vec<_>>();
            let mut chosen = chosen.into_iter();
            columns.retain(|_| chosen.next() == Some(true));
        }
        if columns.is_empty() {
            columns.clone_from(&stream.schema.columns);
        }
        let filter = |column: &str, kind, operator, operand| Filter {
            column: column.into(),
            kind,
            operator,
            operands: vec![operand],
        };
        let filters = match self.filter % 8 {
            0 => vec![filter(
                "n",
                Type::Integer,
                Operator::Less,
                Operand::Integer(0),
            )],
            1 => vec![filter(
                "v",
                Type::Text,
                Operator::Equal,
                Operand::Text("short".into()),
            )],
            2 => vec![filter(
                "later",
                Type::Integer,
                Operator::Equal,
                Operand::Integer(5),
            )],
            3 => vec![filter(
                "r",
                Type::Real,
                Operator::GreaterOrEqual,
                Operand::Real(1.0),
            )],
            _ => vec![],
        };
        Arc::new(View::new(stream, columns, self.order, filters))
    }
}

impl<'a> Arbitrary<'a> for Input {
    fn arbitrary(u: &mut Unstructured<'a>) -> arbitrary::Result<Input> {
        let (good, page) = u.choose(&FILES)?;
        let order = if u.ratio(1, 5)? {
            Order::Id
        } else {
            Order::Time
        };
        let (columns, filter) = (u.arbitrary()?, u.arbitrary()?);
        let bound = |u: &mut Unstructured<'a>| -> arbitrary::Result<Option<Position>> {
            Ok(match u.int_in_range(0..=3)? {
                0 => {
                    let (key, id) = (
                        i64::from(u.arbitrary::<i8>()?),
                        i64::from(u.arbitrary::<u8>()?),
                    );
                    Some(match order {
                        Order::Time => Position {
                            key: key.into(),
                            id: id.into(),
                        },
                        Order::Id => Position::end_of(id),
                    })
                }
                1 => Some(Position::end_of(i64::from(u.arbitrary::<i8>()?))),
                _ => None,
            })
        };
        let (after, until) = (bound(u)?, bound(u)?);
        let split = u.int_in_range(1..=40)?;
        let planned = u.ratio(1, 2)?.then(|| good.clone());
        let mut bytes = good.clone();
        for _ in 0..6 {
            if u.is_empty() {
                break;
            }
            damage(u, &mut bytes, *page)?;
        }
        // Not a write-ahead log, which is another file.
        if let Some(modes) = bytes.get_mut(18..20) {
            modes.fill(1);
        }
        let range = Range {
            after,
            until,
            limit: None,
        };
        let is_empty =
            matches!((&range.after, &range.until), (Some(after), Some(until)) if after >= until);
        let range = if is_empty {
            Range {
                until: None,
                ..range
            }
        } else {
            range
        };
        Ok(Input {
            bytes,
            order,
            columns,
            filter,
            range,
            split,
            planned,
        })
    }
}

/// Changes a page: anywhere, or where its structure is.
fn damage(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>, page: usize) -> arbitrary::Result<()> {
    let pages = bytes.len() / page;
    if pages == 0 {
        return Ok(());
    }
    // Without the first page there is no table, and mostly no connection.
    let number = match u.int_in_range(0..=pages - 1)? {
        0 if u.ratio(7, 8)? => pages - 1,
        number => number,
    };
    let start = number * page;
    // The first page has the file's header before its own.
    let header = start + if number == 0 { 100 } else { 0 };
    let at = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
    let word = |bytes: &[u8], place: usize| {
        usize::from(at(bytes, place)) << 8 | usize::from(at(bytes, place + 1))
    };
    let inner = matches!(at(bytes, header), 2 | 5);
    let pointers = header + if inner { 12 } else { 8 };
    let cells = word(bytes, header + 3).clamp(1, page / 2);
    let place = match u.int_in_range(0..=9)? {
        0..=1 => start + u.int_in_range(0..=page - 1)?,
        2 => header + u.int_in_range(0..=11)?,
        3 => pointers + u.int_in_range(0..=2 * cells - 1)?,
        4..=6 => {
            let pointer = pointers + 2 * u.int_in_range(0..=cells - 1)?;
            let cell = start + word(bytes, pointer) + if inner { 4 } else { 0 };
            (cell + u.int_in_range(0..=15)?).saturating_sub(4)
        }
        7 => {
            let from = u.int_in_range(0..=pages - 1)? * page;
            bytes.copy_within(from..from + page, start);
            return Ok(());
        }
        8 => {
            let end = (start + u.int_in_range(0..=page)?).min(bytes.len());
            let from = (start + u.int_in_range(0..=page - 1)?).min(end);
            bytes[from..end].fill(u.arbitrary()?);
            return Ok(());
        }
        _ => {
            if u.ratio(1, 4)? {
                bytes.truncate(start + u.int_in_range(0..=page)?);
            } else if let Some(four) = bytes.get_mut(header + 8..header + 12) {
                // The right-most child, or the first cell.
                four.copy_from_slice(&u.arbitrary::<[u8; 4]>()?);
            }
            return Ok(());
        }
    };
    if let Some(byte) = bytes.get_mut(place) {
        *byte = match u.int_in_range(0..=3)? {
            0 => *byte ^ 1 << u.int_in_range(0..=7)?,
            1 => byte.wrapping_add(1),
            2 => byte.wrapping_sub(1),
            _ => u.arbitrary()?,
        };
    }
    Ok(())
}
