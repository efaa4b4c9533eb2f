//! A defect in a format breaks its streams visibly, and nothing else: the real server, over TCP,
//! with a format that panics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flows::config::Config;
use flows::http::{App, server};
use flows::lanl::generate::Lines;
use flows::lanl::import::{Interrupt, Source, import};
use flows::store::sqlite::Sqlite;
use flows_formats::{Error, Format, Record, RecordEncoder, Registry, Value};
use indicatif::ProgressBar;

/// The id of the record that it panics at.
const LATE: i64 = 40_000;

inventory::submit! {
    Format {
        name: "panicking",
        media_types: &["text/x-panicking"],
        aliases: &[],
        extensions: &["panicking"],
        summary: "Panics late",
        compressed: false,
        raw: false,
        options: &[],
        encoder: |_, _| Ok(Box::new(Panicking(LATE))),
    }
}

inventory::submit! {
    Format {
        name: "panicking-early",
        media_types: &["text/x-panicking-early"],
        aliases: &[],
        extensions: &["early"],
        summary: "Panics at once",
        compressed: false,
        raw: false,
        options: &[],
        encoder: |_, _| Ok(Box::new(Panicking(1))),
    }
}

struct Panicking(i64);

impl RecordEncoder for Panicking {
    fn record(&mut self, record: &Record<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        assert!(record.values[0] != Value::Integer(self.0), "the defect");
        out.extend_from_slice(b"a record of twenty-six bytes\n");
        Ok(())
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request =
        format!("GET /api/v1/stream/{path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    // A broken reply ends in a reset of the connection.
    let _ = tcp.read_to_end(&mut reply);
    String::from_utf8(reply).unwrap()
}

fn serve(folder: &Path, sorted: bool) -> SocketAddr {
    let mut config = Config::load(None, &Registry::load().unwrap()).unwrap();
    config.database.path = folder.join("test.db");
    let source = Source::new("lines", folder.join("rejected"), Lines::new(50_000, 0)).unwrap();
    let stream = config.stream("flows").unwrap();
    let bar = ProgressBar::hidden();
    import(
        source,
        &config.database,
        stream,
        false,
        &bar,
        &Interrupt::default(),
    )
    .unwrap();
    if sorted {
        // Without an index the records come out of a cursor, and not through an SQL function.
        rusqlite::Connection::open(&config.database.path)
            .unwrap()
            .execute_batch("CREATE TABLE heap AS SELECT * FROM flows; DROP TABLE flows; ALTER TABLE heap RENAME TO flows")
            .unwrap();
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let app = App::new(&config, Registry::load().unwrap(), |database| {
                Arc::new(Sqlite::new(database))
            });
            let (_apps, current) = tokio::sync::watch::channel(Arc::new(app.unwrap()));
            server::serve(listener.into(), usize::MAX, current, std::future::pending()).await;
        });
    });
    address
}

#[test]
fn a_format_that_panics_breaks_its_stream_and_nothing_else() {
    for sorted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let address = serve(folder.path(), sorted);
        for _ in 0..5 {
            let broken = get(address, "flows.panicking");
            assert!(broken.starts_with("HTTP/1.1 200 OK"), "{broken:.100}");
            assert!(
                !broken.ends_with("\r\n0\r\n\r\n"),
                "sorted {sorted}: it looks complete"
            );
            let early = get(address, "flows.early");
            assert!(
                early.starts_with("HTTP/1.1 500 "),
                "sorted {sorted}: {early:.200}"
            );
            assert!(early.contains("application/problem+json"), "{early}");
        }
        let complete = get(address, "flows.csv");
        assert!(complete.ends_with("\r\n0\r\n\r\n"));
        assert!(complete.matches(",N").count() > 10_000);
    }
}
