//! Every format and coding, read by readers and clients that are not ours. `tests/run` installs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use flows_formats::time::Unit;
use flows_formats::{Column, Registry, Schema, Type};
use serde_json::{Value as Json, json};

use crate::harness::{FLOWS, Server, database, folder, generated, python, ten_records};
use crate::reader::{
    Owned, Reader, Script, column_name, in_json, is_in_duckdbs_json, is_text, typed,
};

const CODINGS: [&str; 3] = ["identity", "gzip", "zstd"];

fn formats() -> Vec<&'static str> {
    Registry::load()
        .unwrap()
        .iter()
        .map(|format| format.name)
        .collect()
}

fn extension(format: &str) -> &'static str {
    Registry::load().unwrap().get(format).unwrap().extension()
}

/// Values that formats, readers and databases trip over, as SQL and as what is sent.
fn hostile() -> (Schema, String, Vec<Vec<Owned>>) {
    let column = |name: &str, kind, nullable| Column {
        name: name.into(),
        kind,
        nullable,
    };
    let schema = Schema {
        name: "hostile".into(),
        columns: vec![
            column("id", Type::Integer, false),
            column("1st number", Type::Integer, true),
            column("a real", Type::Real, true),
            column("text, \"quoted\"", Type::Text, true),
            column("xml:blob", Type::Blob, true),
            column("instant", Type::Timestamp(Unit::Microsecond), true),
            column("day", Type::Date, true),
            column("boolean", Type::Boolean, true),
            column(
                "decimal",
                Type::Decimal {
                    precision: 38,
                    scale: 9,
                },
                true,
            ),
            column("json", Type::Json, true),
        ],
    };
    let texts = [
        "",
        " ",
        "a,b;c|d",
        "\"quoted\" 'twice'",
        "line\nline\r\nline\rtab\tend",
        "\\N",
        "\\",
        "NULL",
        "\u{1}\u{1f}\u{7f}\u{85}\u{2028}",
        "<a>&amp;]]>",
        "Größe 😀",
        "\u{feff}mark",
        "null",
        "NaN",
        "-1",
    ];
    let integers = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX];
    let reals = [
        0.0,
        -0.0,
        0.1,
        1e300,
        -5e-324,
        f64::MAX,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ];
    let blobs: [&[u8]; 4] = [b"", b"\0", b"\xff\xfe\0\n", b"text"];
    // The first and the last of the years 1 to 9999, the last of 1969, a leap day.
    let instants = [
        -62_135_596_800_000_000,
        253_402_300_799_999_999,
        -1,
        1_709_251_199_999_999,
    ];
    let days = [-719_162, 2_932_896, -1, 19_782];
    let decimals = ["-0.10", "99999999999999999999999999999.999999999", "7"];
    let jsons = ["{\"a\":\n[1, \"\\n\"]}", "null", "\"text\"", "-1.5e3"];
    let mut records = Vec::new();
    for i in 0..24 {
        let null = |owned: Owned, every: usize| if i % every == 3 { Owned::Null } else { owned };
        records.push(vec![
            Owned::Integer(i as i64),
            null(Owned::Integer(integers[i % integers.len()]), 7),
            null(Owned::Real(reals[i % reals.len()]), 5),
            null(Owned::Text(texts[i % texts.len()].to_owned()), 6),
            null(Owned::Blob(blobs[i % blobs.len()].to_vec()), 4),
            null(
                Owned::Timestamp(Unit::Microsecond, instants[i % instants.len()]),
                5,
            ),
            null(Owned::Date(days[i % days.len()]), 7),
            null(Owned::Boolean(i % 2 == 0), 5),
            null(Owned::Decimal(decimals[i % decimals.len()].into()), 5),
            null(Owned::Json(jsons[i % jsons.len()].into()), 6),
        ]);
    }
    let nulls = || std::iter::repeat_n(Owned::Null, 5);
    records.push(vec![
        Owned::Integer(24),
        Owned::Null,
        Owned::Null,
        Owned::Text("1 MiB of ä, \n".repeat(80_000)),
        Owned::Null,
    ]);
    records[24].extend(nulls());
    let sql = |owned: &Owned| match owned {
        Owned::Null => "NULL".to_owned(),
        Owned::Integer(i64::MIN) => "-9223372036854775807 - 1".to_owned(),
        Owned::Integer(integer) => integer.to_string(),
        Owned::Real(real) if real.is_infinite() => {
            format!("{}9e999", if *real < 0.0 { "-" } else { "" })
        }
        // SQLite makes an integer of -0.0, and so 0.
        Owned::Real(real) => format!("{real:?}"),
        Owned::Text(text) => format!("CAST(x'{}' AS TEXT)", hex(text.as_bytes())),
        Owned::Blob(blob) => format!("x'{}'", hex(blob)),
        Owned::Timestamp(_, value) | Owned::Date(value) => value.to_string(),
        Owned::Boolean(boolean) => boolean.to_string(),
        Owned::Decimal(text) | Owned::Json(text) => {
            format!("CAST(x'{}' AS TEXT)", hex(text.as_bytes()))
        }
    };
    let mut rows: Vec<_> = records
        .iter()
        .map(|record| {
            format!(
                "({})",
                record.iter().map(sql).collect::<Vec<_>>().join(", ")
            )
        })
        .collect();
    // Text that is not UTF-8, which is sent with U+FFFD for what is not.
    rows.push(
        "(25, NULL, NULL, CAST(x'6180ff62' AS TEXT), NULL, NULL, NULL, NULL, NULL, NULL)".into(),
    );
    let replaced = Owned::Text("a\u{fffd}\u{fffd}b".into());
    records.push(vec![
        Owned::Integer(25),
        Owned::Null,
        Owned::Null,
        replaced,
        Owned::Null,
    ]);
    records[25].extend(nulls());
    for record in &mut records {
        if let Owned::Real(real) = &mut record[2] {
            *real += 0.0;
        }
    }
    let sql = format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, i INTEGER, r REAL, t TEXT, b BLOB, at, day, ok, n TEXT, j);
         INSERT INTO t VALUES {};
         CREATE VIEW hostile AS SELECT id, id AS time, i AS \"1st number\", r AS \"a real\",
             t AS \"text, \"\"quoted\"\"\", b AS \"xml:blob\", at AS instant, day, ok AS boolean, n AS decimal, j AS json FROM t;",
        rows.join(", ")
    );
    (schema, sql, records)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn hostile_records_are_read_back_equal_in_every_format() {
    let folder = folder();
    let (schema, sql, records) = hostile();
    let columns = schema.columns.iter().map(|column| {
        let (name, kind) = (column.name.replace('"', "\\\""), column.kind.name());
        let more = match column.kind {
            Type::Date => ", stored = \"days\"",
            Type::Decimal { .. } => ", precision = 38, scale = 9",
            _ => "",
        };
        format!(
            "{{ name = \"{name}\", type = \"{kind}\", nullable = {}{more} }}",
            column.nullable
        )
    });
    let stream = format!(
        "[[streams]]\nname = \"hostile\"\ntable = \"hostile\"\ntime = \"time\"\nid = \"id\"\ncolumns = [{}]",
        columns.collect::<Vec<_>>().join(", ")
    );
    let server = Server::with(folder.path(), &database(folder.path(), &sql), &stream);
    for (reader, is) in [
        (
            "json-python",
            (|read, value| *read == in_json(value)) as fn(&Json, &Owned) -> bool,
        ),
        ("ndjson-duckdb", is_in_duckdbs_json),
        ("tsv-duckdb", is_text),
        ("csv-duckdb", |read, value| match value {
            // DuckDB takes all that is empty for null.
            Owned::Text(text) if text.is_empty() => *read == Json::Null,
            Owned::Blob(blob) if blob.is_empty() => *read == Json::Null,
            value => is_text(read, value),
        }),
        ("xml-lxml", |read, value| match value {
            Owned::Text(text) => is_text(
                read,
                &Owned::Text(text.replace(['\u{1}', '\u{1f}'], "\u{fffd}")),
            ),
            value => is_text(read, value),
        }),
        ("avro-fastavro", |read, value| *read == typed(value)),
        ("arrow-pyarrow", |read, value| *read == typed(value)),
        ("parquet-pyarrow", |read, value| *read == typed(value)),
        ("parquet-duckdb", |read, value| *read == typed(value)),
    ] {
        let format = reader.split('-').next().unwrap();
        let mut foreign = Reader::start(reader);
        for limit in [0, 1, 3, records.len(), 100] {
            let path = format!("/api/v1/stream/hostile?format={format}&limit={limit}");
            let read = foreign.read(&schema, &server.bytes(&path));
            let read = read.unwrap_or_else(|error| panic!("{reader}: {error}"));
            let expected = &records[..limit.min(records.len())];
            assert_eq!(read.records.len(), expected.len(), "{reader}");
            for (read, record) in read.records.iter().zip(expected) {
                for ((read, value), column) in read.iter().zip(record).zip(&schema.columns) {
                    let (read_short, value_short) =
                        (short(&read.to_string()), short(&format!("{value:?}")));
                    assert!(
                        is(read, value),
                        "{reader}: {}: {read_short}, not {value_short}",
                        column.name
                    );
                }
            }
            if limit > 0 {
                let escaped = matches!(format, "xml" | "avro");
                let names = read.names.iter();
                let names: Vec<_> = names
                    .map(|name| {
                        if escaped {
                            column_name(name)
                        } else {
                            name.clone()
                        }
                    })
                    .collect();
                let expected: Vec<_> = schema
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect();
                assert_eq!(names, expected, "{reader}");
            }
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn slices_of_block_formats_hold_the_same_records_as_one_piece() {
    let folder = folder();
    let path = generated(folder.path(), 120_000);
    let many = Server::of(folder.path(), &path);
    let alone = folder.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    let one = Server::with(&alone, &path, "[database]\npool_size = 1\n");
    let schema = Schema {
        name: "flows".into(),
        columns: Vec::new(),
    };
    for (reader, options) in [
        ("avro-fastavro", ""),
        ("arrow-pyarrow", ""),
        ("parquet-pyarrow", "parquet.row_group_rows=7000&"),
        ("parquet-duckdb", "parquet.row_group_rows=7000&"),
        (
            "parquet-pyarrow",
            "parquet.row_group_rows=7000&parquet.compression=none&",
        ),
        (
            "parquet-duckdb",
            "parquet.row_group_rows=7000&parquet.compression=snappy&",
        ),
    ] {
        let mut reader = (reader, Reader::start(reader));
        let format = reader.0.split('-').next().unwrap();
        let mut read = |document: &[u8]| reader.1.read(&schema, document).unwrap().records;
        for query in [
            "",
            "limit=77777",
            "scanned_after=500000&scanned_before=4900000",
        ] {
            let path = format!("{FLOWS}?format={format}&{options}{query}");
            let sliced = read(&many.in_slices(&path));
            let complete = read(&one.in_one_piece(&path));
            assert!(complete.len() > 70_000);
            assert!(sliced == complete, "{format} {query}");
        }
    }
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn row_groups_have_the_rows_that_were_asked_for_and_true_statistics() {
    const RECORDS: i64 = 120_000;
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), RECORDS as u64));
    let schema = Schema {
        name: "flows".into(),
        columns: Vec::new(),
    };
    let mut reader = Reader::start("parquet-groups");
    for (query, most, records) in [
        ("", 100_000, RECORDS),
        ("parquet.row_group_rows=5000", 5_000, RECORDS),
        ("parquet.row_group_rows=1000000", 1_000_000, RECORDS),
        ("parquet.row_group_rows=5000&limit=77777", 5_000, 77_777),
        ("parquet.row_group_rows=5000&limit=3", 5_000, 3),
        ("limit=0", 100_000, 0),
    ] {
        for coding in ["identity", "gzip, identity;q=0", "zstd, identity;q=0"] {
            let path = format!("{FLOWS}?format=parquet&{query}");
            let reply = server.with_head("GET", &path, &format!("Accept-Encoding: {coding}\r\n"));
            assert!(reply.complete && reply.status == 200, "{query} {coding}");
            let document = decoded(coding, reply.bytes);
            let groups = reader.read(&schema, &document).unwrap().records;
            let groups: Vec<Vec<i64>> = groups
                .iter()
                .map(|group| {
                    let integer = |value: &Json| value["integer"].as_str()?.parse().ok();
                    group.iter().map(|value| integer(value).unwrap()).collect()
                })
                .collect();
            let mut next = 1;
            for group in &groups {
                let last = next + group[0] - 1;
                assert!(group[0] <= most, "{query} {coding}: {groups:?}");
                assert_eq!(group[1..], [next, last, next, last], "{query} {coding}");
                next = last + 1;
            }
            assert_eq!(next - 1, records, "{query} {coding}");
            // The first may be short, where a slice took over, and the last.
            let fewest = usize::try_from(records / most).unwrap();
            assert!(groups.len() <= fewest + 2, "{query} {coding}: {groups:?}");
        }
    }
}

fn decoded(coding: &str, bytes: Vec<u8>) -> Vec<u8> {
    let mut decoded = Vec::new();
    if coding.starts_with("zstd") {
        return zstd::decode_all(&*bytes).unwrap();
    }
    if coding.starts_with("gzip") {
        let mut reader = flate2::bufread::GzDecoder::new(&*bytes);
        reader.read_to_end(&mut decoded).unwrap();
        return decoded;
    }
    bytes
}

/// Has a warehouse load a stream in each format, by the types of its BigQuery schema.
fn loads(server: &Server, stream: &str, rows: usize) {
    let url = format!("http://{}/api/v1", server.address);
    let output = python("warehouse.py")
        .arg(format!("{url}/stream/{stream}"))
        .arg(format!("{url}/schema/{stream}?dialect=bigquery"))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(found, format!("{rows}\n"), "{stderr}");
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn warehouses_load_what_is_sent_and_agree() {
    let folder = folder();
    loads(
        &Server::of(folder.path(), &ten_records(folder.path())),
        "flows",
        10,
    );
    let path = database(
        folder.path(),
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT, day TEXT, ok BOOLEAN, price TEXT);
         INSERT INTO t VALUES (1, '2026-01-01 00:00:10.5', '2026-01-01', 1, '12.50'),
             (2, '1969-12-31 23:59:59.999999', NULL, 0, '-0.01'), (3, '9999-12-31 00:00:00', '0001-01-01', NULL, NULL);",
    );
    let typed = "[[streams]]\nname = \"t\"\ntable = \"t\"\ntime = \"at\"\nid = \"id\"\ncolumns = [\n\
        { name = \"id\", type = \"integer\" },\n\
        { name = \"at\", type = \"timestamp\", stored = \"iso8601\" },\n\
        { name = \"day\", type = \"date\", nullable = true },\n\
        { name = \"ok\", type = \"boolean\", nullable = true },\n\
        { name = \"price\", type = \"decimal\", precision = 10, scale = 2, nullable = true }]\n";
    loads(&Server::with(folder.path(), &path, typed), "t", 3);
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn small_parquet_is_read_in_parts_by_its_url() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 20_000));
    let path = format!("{FLOWS}.parquet?limit=1000");
    let csv = server.document(&format!(
        "{FLOWS}.csv?limit=1000&csv.header=false&columns=byte_count"
    ));
    let sum: i64 = csv.lines().map(|line| line.parse::<i64>().unwrap()).sum();
    let output = python("by_url.py")
        .arg(format!("http://{}{path}", server.address))
        .output()
        .unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let each = format!("1000 {sum}\n");
    assert_eq!(found, each.repeat(2), "{stderr}");
    server.logged(&["format=\"parquet\"", "status=206"]);
}

/// Runs a shell's command line, with what it is to read; its exit code and what it wrote.
fn shell(line: &str, input: &[u8]) -> (Option<i32>, Vec<u8>) {
    let mut child = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.status.code(), output.stdout)
}

#[test]
#[ignore = "needs the clients that tests/run installs"]
fn every_client_reads_every_coding_to_its_end() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 150_000));
    let mut clients = Script::start("clients.py", &[]);
    for query in [
        "format=ndjson",
        "format=ndjson&limit=40000",
        "format=ndjson&limit=2",
        "format=ndjson&limit=0",
        "format=xml",
    ] {
        let path = format!("{FLOWS}?{query}");
        let url = format!("http://{}{path}", server.address);
        let plain = server.bytes(&path);
        for coding in CODINGS {
            for client in ["requests", "httpx"] {
                let question = json!({ "client": client, "url": url, "coding": coding });
                let answer = clients.ask(&question, b"");
                let expected = Some(coding).filter(|coding| *coding != "identity");
                assert_eq!(
                    answer["coding"].as_str(),
                    expected,
                    "{client} {query} {answer}"
                );
                assert_eq!(answer["bytes"], plain.len(), "{client} {query} {coding}");
                let (_, md5) = shell("md5sum", &plain);
                assert_eq!(answer["md5"], String::from_utf8(md5).unwrap()[..32]);
            }
            let curl = format!("curl -sf --compressed -H 'Accept-Encoding: {coding}' '{url}'");
            assert!(
                shell(&curl, b"") == (Some(0), plain.clone()),
                "curl {query} {coding}"
            );
            if coding != "identity" {
                let coded =
                    server.with_head("GET", &path, &format!("Accept-Encoding: {coding}\r\n"));
                assert!(coded.complete);
                assert_eq!(
                    shell(&format!("{coding} -t"), &coded.bytes).0,
                    Some(0),
                    "{query} {coding}"
                );
                assert!(shell(&format!("{coding} -dc"), &coded.bytes) == (Some(0), plain.clone()));
                // Cut, its end is missing to who reads no more than the coding.
                if coding == "gzip" {
                    for cut in [1, 4, 9, coded.bytes.len() / 2] {
                        let cut = &coded.bytes[..coded.bytes.len() - cut];
                        assert_ne!(shell("gzip -t", cut).0, Some(0), "{query}");
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs the clients that tests/run installs"]
fn what_is_read_raw_comes_as_it_is_to_clients_that_accept_codings_by_themselves() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 2_000));
    let mut clients = Script::start("clients.py", &[]);
    for (format, expected) in [
        ("arrow", Json::Null),
        ("avro", Json::Null),
        ("parquet", Json::Null),
        ("ndjson", json!("gzip")),
    ] {
        let url = format!("http://{}{FLOWS}?format={format}", server.address);
        let answer = clients.ask(&json!({ "client": "raw", "url": url, "coding": "" }), b"");
        let coding = &answer["coding"];
        // It accepts zstd, too, where there is a package for it.
        if expected.is_null() || coding != "zstd" {
            assert_eq!(*coding, expected, "{format} {answer}");
        }
        if expected.is_null() {
            // So few records come in one piece, which is the same each time.
            let length = server.bytes(&format!("{FLOWS}?format={format}")).len();
            assert_eq!(answer["bytes"], length, "{format}");
        }
    }
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn pages_of_parquet_are_compressed_as_was_asked() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 20_000));
    let mut reader = Reader::start("parquet-codecs");
    let schema = Schema {
        name: "flows".into(),
        columns: Vec::new(),
    };
    let mut lengths = Vec::new();
    for (query, expected) in [
        ("", "ZSTD"),
        ("parquet.compression=zstd&", "ZSTD"),
        ("parquet.compression=snappy&", "SNAPPY"),
        ("parquet.compression=none&", "UNCOMPRESSED"),
    ] {
        let path = format!("{FLOWS}.parquet?{query}parquet.row_group_rows=7000");
        let document = server.bytes(&path);
        let codecs = reader.read(&schema, &document).unwrap().records;
        assert!(codecs.len() >= 20, "{query}");
        for codec in codecs {
            assert_eq!(codec, [json!({ "text": expected })], "{query}");
        }
        lengths.push((document.len(), expected));
    }
    // Where slices end differs from one request to the next.
    lengths.sort_unstable();
    let codecs: Vec<_> = lengths.into_iter().map(|(_, codec)| codec).collect();
    assert_eq!(codecs, ["ZSTD", "ZSTD", "SNAPPY", "UNCOMPRESSED"]);
}

/// Forwards to `server`, and cuts each reply behind its head and so many bytes.
fn cutting(server: SocketAddr, listener: TcpListener, cuts: impl IntoIterator<Item = usize>) {
    for cut in cuts {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let mut request = vec![0; 16 << 10];
        let length = client.read(&mut request).unwrap();
        server.write_all(&request[..length]).unwrap();
        let mut server = BufReader::new(server);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(server.read_until(b'\n', &mut head).unwrap(), 0);
        }
        let mut body = server.take(cut as u64);
        // A client that has seen enough is none of ours.
        let _ = client.write_all(&head);
        let _ = std::io::copy(&mut body, &mut client);
        let _ = client.shutdown(Shutdown::Both);
    }
}

#[test]
#[ignore = "needs the clients that tests/run installs"]
fn a_stream_that_is_cut_anywhere_is_an_error_to_every_client() {
    let folder = folder();
    let server = Server::of(folder.path(), &generated(folder.path(), 20_000));
    let mut clients = Script::start("clients.py", &[]);
    for format in formats() {
        for coding in CODINGS {
            for limit in [20, 20_000] {
                let path = format!("{FLOWS}.{}?limit={limit}", extension(format));
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAccept-Encoding: {coding};q=1\r\n\r\n"
                );
                let mut reply = Vec::new();
                server
                    .send(request.as_bytes())
                    .read_to_end(&mut reply)
                    .unwrap();
                let head = reply.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let body = reply.len() - head;
                // Right behind the head, within the body, and before its last byte. Where chunks end differs
                // from one request to the next.
                let last = if limit > 20 { body / 50 + 20 } else { 1 };
                let cuts = [0, 1, body / 3, body / 2, body - last];
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let url = format!("http://{}{path}", listener.local_addr().unwrap());
                let address = server.address;
                let all: Vec<_> = cuts.iter().flat_map(|cut| [*cut; 3]).collect();
                let proxy = std::thread::spawn(move || cutting(address, listener, all));
                for cut in cuts {
                    for client in ["requests", "httpx"] {
                        let question = json!({ "client": client, "url": url, "coding": format!("{coding};q=1") });
                        let answer = clients.ask(&question, b"");
                        assert!(
                            answer["error"].is_string(),
                            "{client} {format} {coding} {limit} at {cut}: {answer}"
                        );
                    }
                    let curl =
                        format!("curl -sf --compressed -H 'Accept-Encoding: {coding};q=1' '{url}'");
                    assert_ne!(
                        shell(&curl, b"").0,
                        Some(0),
                        "curl {format} {coding} {limit} at {cut}"
                    );
                }
                proxy.join().unwrap();
            }
        }
    }
}

#[test]
#[ignore = "needs the readers that tests/run installs"]
fn a_stream_that_the_server_breaks_is_an_error_to_every_client() {
    let folder = folder();
    let path = generated(folder.path(), 60_000);
    let server = Server::of(folder.path(), &path);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let mut clients = Script::start("clients.py", &[]);
    let set = |id: i64, value: &str| {
        let update = format!("UPDATE flows SET byte_count = {value} WHERE id = {id}");
        assert_eq!(connection.execute(&update, []).unwrap(), 1);
    };
    for id in [30_000, 45_678, 60_000] {
        set(id, "'lots'");
        for format in formats() {
            for coding in CODINGS {
                let url = format!("http://{}{FLOWS}.{}", server.address, extension(format));
                for client in ["requests", "httpx"] {
                    let question =
                        json!({ "client": client, "url": url, "coding": format!("{coding};q=1") });
                    let answer = clients.ask(&question, b"");
                    assert!(
                        answer["error"].is_string(),
                        "{client} {format} {coding} {id}: {answer}"
                    );
                }
                let curl =
                    format!("curl -sf --compressed -H 'Accept-Encoding: {coding};q=1' '{url}'");
                assert_ne!(shell(&curl, b"").0, Some(0), "curl {format} {coding} {id}");
            }
        }
        set(id, "1");
    }
}
