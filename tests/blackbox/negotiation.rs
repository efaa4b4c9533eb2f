//! `Accept`, `Accept-Encoding`, options of formats, what clients can learn.

use crate::harness::{FLOWS, assert_has, folder, generated, run, ten_records};
use crate::store::{Store, both};

both!(accept_decides_unless_parameter_or_extension_do);
fn accept_decides_unless_parameter_or_extension_do(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let got = |path: &str, accept: &str| {
        let reply = server.with_head("GET", path, &format!("Accept: {accept}\r\n"));
        assert_eq!(reply.status, 200, "{accept}");
        assert_eq!(reply.header("vary"), "accept, accept-encoding");
        reply.header("content-type").to_owned()
    };
    assert_eq!(got(FLOWS, "*/*"), "application/json");
    assert_eq!(got(FLOWS, "text/csv"), "text/csv; charset=utf-8");
    assert_eq!(got(FLOWS, "text/xml"), "text/xml; charset=utf-8");
    assert_eq!(got(FLOWS, "application/jsonl"), "application/jsonl");
    // Names that were never registered, and are sent all the same.
    for name in [
        "application/jsonlines",
        "application/x-avro",
        "application/x-parquet",
        "application/csv",
    ] {
        assert_eq!(got(FLOWS, name), name);
    }
    for name in ["text/json", "text/plain"] {
        assert_eq!(got(FLOWS, name), format!("{name}; charset=utf-8"));
    }
    // axios; then ranges, which mean what formats are called, and not what else is said.
    assert_eq!(
        got(FLOWS, "application/json, text/plain, */*"),
        "application/json"
    );
    assert_eq!(got(FLOWS, "text/*"), "text/csv; charset=utf-8");
    assert_eq!(
        got(FLOWS, "application/*, application/json;q=0"),
        "application/vnd.apache.arrow.stream"
    );
    assert_eq!(
        got(FLOWS, "text/csv;q=0.5\r\nAccept: application/avro"),
        "application/avro"
    );
    assert_eq!(
        got(&format!("{FLOWS}.csv"), "application/json"),
        "text/csv; charset=utf-8"
    );
    assert_eq!(
        got(&format!("{FLOWS}?format=json"), "text/csv"),
        "application/json"
    );
    // It is enough that there is one.
    assert_eq!(
        got(&format!("{FLOWS}.csv"), "image/png"),
        "text/csv; charset=utf-8"
    );

    let reply = server.with_head("GET", FLOWS, "Accept: image/png, text/html\r\n");
    assert_eq!(reply.header("vary"), "accept, accept-encoding");
    let problem = reply.problem(406, &["image/png, text/html", "format"]);
    let allowed = problem["allowed"].as_array().unwrap();
    let registry = flows_formats::Registry::load().unwrap();
    for media_type in registry.iter().flat_map(flows_formats::Format::named_by) {
        assert!(
            allowed.iter().any(|allowed| allowed == media_type),
            "{media_type}"
        );
    }
}

both!(a_browser_is_shown_json);
fn a_browser_is_shown_json(store: Store) {
    let folder = folder();
    let stream = "[[streams]]\nname = \"a\"\ntable = \"flows\"\ntime = \"time\"\nid = \"id\"\n\
                  default_format = \"xml\"\ncolumns = [{ name = \"id\", type = \"integer\" }]\n";
    let server = store.serve(folder.path(), &ten_records(folder.path()), stream);
    let got = |accept: &str| {
        let reply = server.with_head("GET", "/api/v1/stream/a", &format!("Accept: {accept}\r\n"));
        assert_eq!(reply.status, 200, "{accept}");
        reply.header("content-type").to_owned()
    };
    for accept in [
        // Safari, and Firefox from 132 on; Firefox before; Chrome.
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
    ] {
        assert_eq!(got(accept), "application/json", "{accept}");
    }
    // Others name what they want, or take nothing else.
    for (accept, expected) in [
        (
            "text/html, text/csv;q=0.9, */*;q=0.8",
            "text/csv; charset=utf-8",
        ),
        (
            "text/html;q=0.9, application/xml, */*;q=0.8",
            "application/xml; charset=utf-8",
        ),
        (
            "text/html, application/xml;q=0.9",
            "application/xml; charset=utf-8",
        ),
        ("*/*", "application/xml; charset=utf-8"),
    ] {
        assert_eq!(got(accept), expected, "{accept}");
    }
}

both!(the_default_format_is_the_streams);
fn the_default_format_is_the_streams(store: Store) {
    let folder = folder();
    let stream = |name: &str, format: &str| {
        format!(
            "[[streams]]\nname = \"{name}\"\ntable = \"flows\"\ntime = \"time\"\nid = \"id\"\n{format}\n\
             columns = [{{ name = \"id\", type = \"integer\" }}]\n"
        )
    };
    let streams = stream("a", "default_format = \"csv\"") + &stream("b", "");
    let server = store.serve(folder.path(), &ten_records(folder.path()), &streams);
    let of = |path: &str, lines: &str| {
        server
            .with_head("GET", path, lines)
            .header("content-type")
            .to_owned()
    };
    for lines in ["", "Accept: */*\r\n", "Accept: \r\n"] {
        assert_eq!(of("/api/v1/stream/a", lines), "text/csv; charset=utf-8");
        assert_eq!(of("/api/v1/stream/b", lines), "application/json");
    }
    assert_eq!(
        of("/api/v1/stream/a", "Accept: application/*\r\n"),
        "application/vnd.apache.arrow.stream"
    );
    std::fs::write(
        folder.path().join("wrong.toml"),
        stream("a", "default_format = \"cvs\""),
    )
    .unwrap();
    let ran = run(folder.path(), &["check", "--config", "wrong.toml"]);
    ran.failed(
        2,
        &[
            "streams[0].default_format in wrong.toml: \"cvs\"",
            "one of arrow, avro, csv",
        ],
    );
}

both!(accept_encoding_decides_how_the_document_travels);
fn accept_encoding_decides_how_the_document_travels(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &generated(folder.path(), 20_000), "");
    let coding = |path: &str, list: &str| {
        let lines = format!("Accept-Encoding: {list}\r\n");
        let reply = server.with_head("GET", path, &lines);
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(reply.complete);
        assert_eq!(reply.header("vary"), "accept, accept-encoding");
        let coding = reply.header("content-encoding").to_owned();
        // The head of HEAD is that of GET, but for what only a body has.
        let head = server.with_head("HEAD", path, &lines);
        for name in [
            "content-encoding",
            "content-type",
            "content-length",
            "vary",
            "content-disposition",
        ] {
            let (of_head, of_reply) = (head.header(name), reply.header(name));
            // What takes longer than the head waits goes in chunks: on a busy machine, one of the two.
            let chunked = [of_head, of_reply].contains(&"");
            if name != "content-length" || !chunked {
                assert_eq!(of_head, of_reply, "{path} {list} {name}");
            }
        }
        coding
    };
    for path in [
        FLOWS.to_owned(),
        format!("{FLOWS}?limit=3"),
        format!("{FLOWS}.csv?limit=0"),
    ] {
        assert_eq!(coding(&path, "gzip, deflate, br, zstd"), "zstd");
        assert_eq!(coding(&path, "gzip"), "gzip");
        assert_eq!(coding(&path, "identity"), "");
        assert_eq!(
            coding(&path, "zstd;q=0, gzip;q=0.5, identity;q=0.1"),
            "gzip"
        );
        assert_eq!(coding(&path, "br"), "");
    }
    // Of one that takes long the first chunk leaves before it ends: limit=3 is never one.
    let parquet = format!("{FLOWS}.parquet?limit=3");
    assert_eq!(coding(&parquet, "gzip, zstd"), "");
    // Nor what readers take raw, unless its client says how much it would like that.
    for raw in ["arrows", "avro"] {
        let path = format!("{FLOWS}.{raw}?limit=3");
        for (list, expected) in [
            ("gzip, deflate, br, zstd", ""),
            ("gzip, zstd;q=0.9", ""),
            ("gzip;q=1", "gzip"),
            ("gzip;q=0.5, zstd;q=0.9", "zstd"),
            ("identity, gzip;q=0.5", ""),
            ("identity;q=0, gzip", "gzip"),
        ] {
            assert_eq!(coding(&path, list), expected, "{raw} {list}");
        }
    }
    let reply = server.with_head("GET", FLOWS, "Accept-Encoding: identity;q=0, br\r\n");
    let problem = reply.problem(406, &["Accept-Encoding: identity;q=0, br"]);
    assert_eq!(
        problem["allowed"],
        serde_json::json!(["zstd", "gzip", "identity"])
    );
}

both!(formats_have_options_and_no_others);
fn formats_have_options_and_no_others(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let golden = include_str!("../golden/flows.csv");
    let (_, records) = golden.split_once('\n').unwrap();
    let get = |query: &str| server.document(&format!("{FLOWS}?{query}"));
    assert_eq!(get("format=csv&csv.header=false"), records);
    assert_eq!(get("csv.header=true&format=csv"), golden);
    assert_eq!(get("format=csv&csv.delimiter=;"), golden.replace(',', ";"));
    assert_eq!(
        server.document(&format!("{FLOWS}.csv?csv.delimiter=%09&csv.header=false")),
        records.replace(',', "\t")
    );
    let marked = format!("\u{FEFF}{golden}");
    assert_eq!(get("format=csv&csv.bom=true"), marked);
    assert_eq!(get("format=csv&csv.bom=false"), golden);
    let marked = format!("\u{FEFF}{records}");
    assert_eq!(get("format=csv&csv.bom=true&csv.header=false"), marked);
    assert_eq!(
        get("format=csv&csv.bom=true&csv.header=false&limit=0"),
        "\u{FEFF}"
    );
    let wrong =
        |query: &str, parts: &[&str]| server.get(&format!("{FLOWS}?{query}")).problem(400, parts);
    let problem = wrong(
        "format=csv&csv.header=no",
        &["csv.header is \"no\"", "true or false"],
    );
    assert_eq!(problem["parameter"], "csv.header");
    assert_eq!(problem["allowed"], serde_json::json!(["true", "false"]));
    wrong(
        "format=csv&csv.delimiter=",
        &["csv.delimiter is \"\"", ", or ; or | or %09 (tab)"],
    );
    wrong(
        "format=csv&csv.heeder=false",
        &["csv.heeder", "did you mean csv.header?"],
    );
    wrong(
        "csv.header=false",
        &["csv.header is for the format csv, but the format is json"],
    );
    wrong(
        "format=csv&csv.header=true&csv.header=true",
        &["csv.header is given more than once"],
    );
    wrong("format=csv&header=false", &["no parameter \"header\""]);
    wrong("format=csv&csv.=1", &["no parameter"]);
    wrong(
        "format=parquet&parquet.row_group_rows=1",
        &["must be 1000 to 1000000"],
    );
    wrong(
        "format=parquet&parquet.row_group_rows=%2B2000",
        &["must be 1000 to 1000000"],
    );
    wrong(
        "format=parquet&parquet.compression=snapy",
        &["must be zstd or snappy or none", "did you mean snappy?"],
    );
}

both!(clients_can_learn_what_there_is);
fn clients_can_learn_what_there_is(store: Store) {
    let folder = folder();
    let server = store.serve(folder.path(), &ten_records(folder.path()), "");
    let json =
        |path: &str| -> serde_json::Value { serde_json::from_str(&server.document(path)).unwrap() };
    let streams = json("/api/v1/streams");
    let flows = &streams["streams"][0];
    assert_eq!(flows["name"], "flows");
    assert_eq!(flows["default_format"], "json");
    assert_eq!(flows["columns"].as_array().unwrap().len(), 10);
    assert_eq!(
        flows["columns"][3],
        serde_json::json!({ "name": "src_comp", "type": "text", "nullable": false })
    );
    // Every link leads somewhere.
    let registry = flows_formats::Registry::load().unwrap();
    let formats = flows["formats"].as_array().unwrap();
    assert_eq!(formats.len(), registry.iter().count());
    for format in formats {
        assert!(!server.bytes(format["href"].as_str().unwrap()).is_empty());
    }
    assert_eq!(
        server.document(flows["href"].as_str().unwrap()),
        include_str!("../golden/flows.json")
    );
    let schema = flows["schema"]["href"].as_str().unwrap();
    assert_eq!(json(schema)["columns"], flows["columns"]);
    let dialects = flows["schema"]["dialects"].as_object().unwrap();
    assert_eq!(
        dialects.keys().collect::<Vec<_>>(),
        ["avro", "bigquery", "jsonschema"]
    );
    for dialect in dialects.values() {
        json(dialect["href"].as_str().unwrap());
    }
    assert_eq!(
        json("/api/v1/schema/flows?dialect=bigquery")[3],
        serde_json::json!({ "name": "src_comp", "type": "STRING", "mode": "REQUIRED" })
    );
    assert_eq!(
        json("/api/v1/schema/flows?dialect=avro")["fields"][0]["type"],
        "long"
    );
    let json_schema = json("/api/v1/schema/flows?dialect=jsonschema");
    assert_eq!(json_schema["properties"]["byte_count"]["type"], "integer");
    assert_eq!(json_schema["required"].as_array().unwrap().len(), 10);

    server
        .get("/api/v1/schema/flow")
        .problem(404, &["did you mean flows?"]);
    server
        .get("/api/v1/schema/flows?dialect=bigqery")
        .problem(400, &["did you mean bigquery?"]);
    server
        .get("/api/v1/schema/flows?x=1")
        .problem(400, &["no parameter \"x\""]);
    server
        .get("/api/v1/streams?x=1")
        .problem(400, &["no parameter \"x\""]);
    server.get("/api/v1").problem(404, &["/api/v1/streams"]);
    let reply = server.with_head("POST", "/api/v1/streams", "");
    reply.problem(405, &["GET or HEAD"]);
    assert_eq!(server.with_head("HEAD", "/api/v1/streams", "").status, 200);
}

#[test]
fn the_command_tells_all_about_formats() {
    let folder = folder();
    let page = run(folder.path(), &["formats", "csv"]).fine();
    assert_has(
        &page,
        &[
            "text/csv",
            ".csv",
            "csv.header=true",
            "true  false",
            "csv.delimiter=,",
        ],
    );
    let json = run(folder.path(), &["formats", "--json"]).fine();
    let formats: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    let registry = flows_formats::Registry::load().unwrap();
    assert_eq!(formats.len(), registry.iter().count());
    for (listed, format) in formats.iter().zip(registry.iter()) {
        assert_eq!(listed["name"], format.name);
        assert_eq!(
            listed["options"].as_array().unwrap().len(),
            format.options.len()
        );
    }
    let one = run(folder.path(), &["formats", "parquet", "--json"]).fine();
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(one["options"][0]["name"], "parquet.row_group_rows");
    run(folder.path(), &["formats", "cvs"]).failed(2, &["no format \"cvs\"", "did you mean csv?"]);
}
