//! The same random requests of the same random records, to a file and to a server: the same answers.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use fastrand::Rng;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::harness::{Server, folder, some_time};
use crate::store::Store;

const STREAM: &str = r#"
    [[streams]]
    name = "t"
    table = "t"
    time = "time"
    id = "id"
    columns = [
        { name = "id", type = "ID" },
        { name = "time", type = "integer" },
        { name = "i", type = "integer", nullable = true },
        { name = "r", type = "real", nullable = true },
        { name = "s", type = "text", nullable = true },
        { name = "b", type = "blob", nullable = true },
        { name = "ok", type = "boolean", nullable = true },
        { name = "at", type = "timestamp", unit = "ms", stored = "iso8601", spelling = "YYYY-MM-DD HH:MM:SS.fff", nullable = true },
        { name = "price", type = "decimal", precision = 12, scale = 2, nullable = true },
    ]
"#;

/// The names of the columns after the time, and what kind each is.
const COLUMNS: [&str; 7] = ["i", "r", "s", "b", "ok", "at", "price"];

const TEXTS: [&str; 14] = [
    "", "a", "A", "b", "B", "Z", "é", "E\u{301}", "ß", "😀", "\u{ffee}", "C17", "C1%_\\7", "'; --",
];

/// One of these.
fn one<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(0..of.len())]
}

fn integer(random: &mut Rng) -> i64 {
    let near = random.i64(-3..20);
    let far = random.i64(..);
    one(random, &[near, near, near, far, i64::MIN, i64::MAX])
}

fn real(random: &mut Rng) -> f64 {
    let near = random.i32(-8..8).into();
    let any = (random.f64() - 0.5) * 1e9;
    let some = [
        near,
        near,
        any,
        0.1,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e300,
        5e-324,
    ];
    one(random, &some)
}

fn text(random: &mut Rng) -> String {
    let mut text = one(random, &TEXTS).to_owned();
    if random.bool() {
        text.push_str(one(random, &TEXTS));
    }
    text
}

fn instant(random: &mut Rng) -> String {
    let (day, second, ms) = (
        random.u32(1..4),
        random.u32(0..3),
        random.u32(0..3) * 500 % 1000,
    );
    format!("2026-01-{day:02} 00:00:{second:02}.{ms:03}")
}

fn price(random: &mut Rng) -> String {
    format!("{}.{:02}", random.i32(-3..4), random.u8(0..100) / 25 * 25)
}

fn value(random: &mut Rng, column: &str) -> Value {
    if random.u8(0..6) == 0 {
        return Value::Null;
    }
    match column {
        "i" => Value::Integer(integer(random)),
        "r" => Value::Real(real(random)),
        "s" => Value::Text(text(random)),
        "b" => Value::Blob(text(random).into_bytes()),
        "ok" => Value::Integer(random.u8(0..2).into()),
        "at" => Value::Text(instant(random)),
        _ => Value::Text(price(random)),
    }
}

/// A random table in a file, and the ids and times in it.
fn made(random: &mut Rng, path: &Path, of_texts: bool) -> Vec<(i64, String)> {
    let connection = Connection::open(path).unwrap();
    let id = if of_texts { "TEXT" } else { "INTEGER" };
    // Texts are in the order of their bytes only in an index that says so, which the copy's is.
    let create = format!(
        "CREATE TABLE t (id {id} NOT NULL, time INTEGER NOT NULL, i INTEGER, r REAL, s TEXT, b BLOB, ok BOOLEAN, \
         at TEXT, price DECIMAL); CREATE UNIQUE INDEX by_time ON t (time, id); \
         CREATE UNIQUE INDEX by_id ON t (id);"
    );
    connection.execute_batch(&create).unwrap();
    if random.bool() {
        connection
            .execute_batch("CREATE INDEX by_s ON t (s); CREATE INDEX by_i ON t (i)")
            .unwrap();
    }
    let mut places = Vec::new();
    connection.execute_batch("BEGIN").unwrap();
    for number in 0..random.i64(0..400) {
        let id = match of_texts {
            true => Value::Text(format!("{}{number}", one(random, &TEXTS[1..12]))),
            false => Value::Integer(number * 7 % 401 - 50),
        };
        let time = random.i64(0..30);
        places.push((
            time,
            match &id {
                Value::Text(text) => text.clone(),
                Value::Integer(id) => id.to_string(),
                _ => unreachable!("ids are one of the two"),
            },
        ));
        let mut values = vec![id, Value::Integer(time)];
        values.extend(COLUMNS.map(|column| value(random, column)));
        connection
            .execute(
                "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rusqlite::params_from_iter(values),
            )
            .unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    places
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn operand(random: &mut Rng, column: &str) -> String {
    match column {
        "i" => integer(random).to_string(),
        "r" => match real(random) {
            real if real.is_infinite() => if real > 0.0 { "inf" } else { "-inf" }.to_owned(),
            real => real.to_string(),
        },
        "s" => text(random),
        "b" => ["", "YQ==", "w6k=", "Qg=="][random.usize(0..4)].to_owned(),
        "ok" => ["true", "false"][random.usize(0..2)].to_owned(),
        "at" => instant(random).replace(' ', "T") + "Z",
        _ => price(random),
    }
}

fn filter(random: &mut Rng) -> String {
    let column = one(random, &COLUMNS);
    let operators: &[&str] = match column {
        "s" => &[
            "eq", "ne", "gt", "gte", "lt", "lte", "like", "in", "is.null", "not.null",
        ],
        _ => &[
            "eq", "ne", "gt", "gte", "lt", "lte", "in", "is.null", "not.null",
        ],
    };
    let filter = match one(random, operators) {
        "in" => {
            let quoted =
                |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let operands: Vec<_> = (0..random.usize(1..4))
                .map(|_| quoted(operand(random, column)))
                .collect();
            format!("in.({})", operands.join(","))
        }
        "like" => {
            let (a, b) = (text(random), text(random));
            format!(
                "like.{}",
                [format!("{a}*"), format!("*{b}*"), format!("?{a}"), a][random.usize(0..4)]
            )
        }
        whole if whole.contains('.') => whole.to_owned(),
        operator => format!("{operator}.{}", operand(random, column)),
    };
    format!("{column}={}", encoded(&filter))
}

fn question(random: &mut Rng, places: &[(i64, String)]) -> String {
    let format = one(random, &["json", "ndjson", "csv", "xml", "tsv"]);
    let mut query = format!("?format={format}");
    let by_id = random.u8(0..3) == 0;
    if by_id {
        query.push_str("&order=id");
    }
    for bound in ["scanned_after", "scanned_before", "scanned_from"] {
        if random.u8(0..5) == 0 {
            write!(query, "&{bound}={}", random.i64(-1..31)).unwrap();
        }
    }
    for bound in ["after", "until"] {
        if let Some((time, id)) = random.choice(places).filter(|_| random.u8(0..4) == 0) {
            let id = encoded(id);
            let place = if by_id { id } else { format!("{time}:{id}") };
            write!(query, "&{bound}={place}").unwrap();
        }
    }
    if random.u8(0..3) == 0 {
        let limit = [0, 1, 2, 10, 1000][random.usize(0..5)];
        write!(query, "&limit={limit}").unwrap();
    }
    if random.u8(0..4) == 0 {
        query.push_str("&count=exact");
    }
    if random.u8(0..4) == 0 {
        query.push_str("&columns=s,time");
    }
    for _ in 0..one(random, &[0, 0, 1, 1, 2]) {
        query.push('&');
        query.push_str(&filter(random));
    }
    query
}

#[test]
#[ignore = "needs PostgreSQL, which tests/run installs"]
fn a_file_and_a_server_answer_alike() {
    let seed = std::env::var("DIFFERENTIAL_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("DIFFERENTIAL_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let begun = Instant::now();
    let mut asked = 0;
    for round in 0.. {
        if begun.elapsed() > 2 * some_time() && round >= 2 {
            break;
        }
        let (file_folder, server_folder) = (folder(), folder());
        let path = file_folder.path().join("made.db");
        let of_texts = round % 2 == 1;
        let places = made(&mut random, &path, of_texts);
        let stream = STREAM.replace("ID", if of_texts { "text" } else { "integer" });
        let file = Server::with(file_folder.path(), &path, &stream);
        let server = Store::Postgres.serve(server_folder.path(), &path, &stream);
        for _ in 0..150 {
            let path = format!("/api/v1/stream/t{}", question(&mut random, &places));
            let (of_file, of_server) = (file.get(&path), server.get(&path));
            let same = [
                (of_file.status.to_string(), of_server.status.to_string()),
                (of_file.body.clone(), of_server.body.clone()),
            ];
            for (expected, found) in same {
                assert_eq!(
                    found, expected,
                    "DIFFERENTIAL_SEED={seed}, round {round}: {path}"
                );
            }
            for header in ["flows-position", "link", "flows-count"] {
                assert_eq!(
                    of_server.headers.get(header),
                    of_file.headers.get(header),
                    "DIFFERENTIAL_SEED={seed}, round {round}, {header}: {path}"
                );
            }
            asked += 1;
        }
    }
    println!("{asked} requests without a difference");
}
