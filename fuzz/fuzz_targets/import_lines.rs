//! Lines of LANL's, imported: each that is a flow becomes a record, each that is not is put aside as it
//! is, and what a line is has nothing to do with the lines around it.
#![no_main]

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use flows::config::Config;
use flows::definition::Stream;
use flows::lanl::flow::{COLUMNS, Field, fields};
use flows::lanl::import::{ImportError, Interrupt, Source, import};
use flows_formats::Registry;
use flows_fuzz::folder;
use indicatif::ProgressBar;
use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

static STREAM: LazyLock<Arc<Stream>> = LazyLock::new(|| {
    let config = Config::parse("", &Registry::load().unwrap()).unwrap();
    Arc::clone(&config.streams[0])
});

fuzz_target!(|bytes: &[u8]| {
    // What begins like gzip is taken for it; the lines of the others are known.
    let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let unended = lines.pop().filter(|line| !line.is_empty());
    let ended = |line: &'_ [u8]| line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
    let lines: Vec<&[u8]> = lines
        .into_iter()
        .map(|line| &line[..ended(line)])
        .chain(unended)
        .collect();
    let flows: Vec<_> = lines.iter().filter_map(|line| fields(line).ok()).collect();
    for flow in &flows {
        // Written as it was read, it is the same.
        let texts = flow.map(|field| match field {
            Field::Integer(integer) => integer.to_string(),
            Field::Text(text) => text.to_owned(),
        });
        assert_eq!(fields(texts.join(",").as_bytes()).as_ref(), Ok(flow));
    }
    let database: PathBuf = folder().join("import.db");
    let rejected = folder().join("import.rejected");
    let _ = fs::remove_file(&database);
    let _ = fs::remove_file(&rejected);
    let bar = ProgressBar::hidden();
    let source = Source::new("fuzz", rejected.clone(), Cursor::new(bytes.to_vec())).unwrap();
    let imported = import(
        source,
        &database,
        &STREAM,
        false,
        &bar,
        &Interrupt::default(),
    );
    if is_gzip {
        assert_eq!(imported.is_ok(), database.exists());
        return;
    }
    match imported {
        Ok(imported) => {
            let rejects = lines.len() - flows.len();
            assert_eq!(imported.ids, (0, flows.len() as i64));
            assert_eq!(imported.rejected, rejects as u64);
            assert_eq!(rejected.exists(), rejects > 0);
        }
        Err(error) => {
            assert!(matches!(error, ImportError::NoFlows { .. }), "{error}");
            assert!(flows.is_empty() && !lines.is_empty() && !database.exists());
            return;
        }
    }
    let connection =
        Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let names: Vec<_> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let mut query = connection
        .prepare(&format!(
            "SELECT {} FROM flows ORDER BY id",
            names.join(", ")
        ))
        .unwrap();
    let mut rows = query.query([]).unwrap();
    for flow in flows {
        let row = rows.next().unwrap().unwrap();
        for (at, field) in flow.iter().enumerate() {
            let expected = match *field {
                Field::Integer(integer) => Value::Integer(integer),
                Field::Text(text) => Value::Text(text.to_owned()),
            };
            assert_eq!(row.get::<_, Value>(at).unwrap(), expected);
        }
    }
    assert!(rows.next().unwrap().is_none());
});
