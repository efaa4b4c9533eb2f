//! DuckDB, pandas, polars, pyarrow and ClickHouse agree on the instants of every format.

use std::fmt::Write;

use crate::harness::{Server, database, folder, python};

/// Days that days, months, years and readers may trip over, since 1970: of the years 1900 to 2262, which
/// are all that ClickHouse and nanoseconds have. The ends of the years 1 and 9999 are for the readers
/// that have them, in `tests/formats.rs`.
const DAYS: [i64; 9] = [
    -25_567, // 1900-01-01
    -25_508, // 1900-03-01, after a February of 28 days
    -1,      // 1969-12-31
    0, 11_016,  // 2000-02-29
    19_782,  // 2024-02-29
    19_783,  // 2024-03-01
    20_454,  // 2026-01-01
    106_750, // 2262-04-10
];

/// The columns, and how many nanoseconds their units have.
const UNITS: [(&str, i64); 4] = [
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1000),
    ("ns", 1),
];

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn five_tools_agree_on_the_instants_of_every_format() {
    let of_day = [0, 1, 45_296_123_456_789, 86_399_999_999_999];
    let instants = DAYS.map(|day| of_day.map(|of_day| (day, day * 86_400_000_000_000 + of_day)));
    let (mut rows, mut days) = (String::new(), Vec::new());
    let mut columns = UNITS.map(|_| Vec::new());
    for (day, instant) in instants.as_flattened() {
        write!(rows, "(date({day} * 86400, 'unixepoch')").unwrap();
        days.push(*day);
        for ((_, unit), column) in UNITS.iter().zip(&mut columns) {
            write!(rows, ", {}", instant.div_euclid(*unit)).unwrap();
            column.push(instant.div_euclid(*unit) * unit);
        }
        rows.push_str("),");
    }
    let mut expected = serde_json::json!({ "day": days });
    for ((name, _), column) in UNITS.iter().zip(&columns) {
        expected[*name] = serde_json::json!(column);
    }
    let folder = folder();
    let rows = rows.trim_end_matches(',');
    let path = database(
        folder.path(),
        &format!("CREATE TABLE t (day TEXT, s, ms, us, ns INTEGER); INSERT INTO t VALUES {rows};"),
    );
    let timestamps = UNITS.map(|(name, _)| {
        format!("{{ name = \"{name}\", type = \"timestamp\", unit = \"{name}\" }},")
    });
    let configuration = format!(
        "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"ns\"\n\
         id = {{ name = \"rowid\", type = \"integer\" }}\n\
         columns = [{} {{ name = \"day\", type = \"date\" }}]\n",
        timestamps.concat()
    );
    let server = Server::with(folder.path(), &path, &configuration);
    let mut script = python("instants.py");
    script.arg(format!("http://{}/api/v1/stream/t", server.address));
    script.arg(expected.to_string());
    assert!(script.status().unwrap().success());
}
