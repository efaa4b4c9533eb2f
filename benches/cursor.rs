//! The yardstick: one SQLite cursor that reads all columns of the table `flows` in `(time, id)`
//! order, those that match a condition in SQL if there is one, and drops them. Prints rows and
//! seconds.

use std::time::Instant;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

fn main() -> rusqlite::Result<()> {
    // `cargo bench` adds an option of its own.
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"));
    let Some(path) = arguments.next() else {
        eprintln!("usage: cursor DATABASE [CONDITION]");
        return Ok(());
    };
    let condition = arguments.next().unwrap_or_else(|| "1".to_owned());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let start = Instant::now();
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM flows WHERE {condition} ORDER BY time, id"
    ))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let (mut count, mut read) = (0_u64, 0_u64);
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            read = read.wrapping_add(match row.get_ref(column)? {
                ValueRef::Integer(integer) => integer as u64,
                ValueRef::Text(text) => text.len() as u64,
                _ => 0,
            });
        }
        count += 1;
    }
    std::hint::black_box(read);
    println!("{count} {}", start.elapsed().as_secs_f64());
    Ok(())
}
