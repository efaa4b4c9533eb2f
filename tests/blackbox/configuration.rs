//! File, environment, flags.

use std::fs;
use std::path::Path;

use crate::harness::{FLOWS, Ran, Server, assert_has, flows, folder, run, ten_records};

/// `flows check` with this configuration file.
fn check(folder: &Path, configuration: &str) -> Ran {
    fs::write(folder.join("c.toml"), configuration).unwrap();
    run(folder, &["check", "--config", "c.toml"])
}

#[test]
fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
    let folder = folder();
    ten_records(folder.path());
    fs::copy(folder.path().join("ten.db"), folder.path().join("flows.db")).unwrap();
    let read = |configured: bool, environment: &[(&str, &str)], arguments: &[&str]| {
        let mut command = flows(folder.path(), &["check"]);
        if configured {
            command.args(["--config", "c.toml"]);
        }
        fs::write(folder.path().join("c.toml"), "[database]\npath = 'file.db'").unwrap();
        let ran = Ran::from(
            command
                .args(arguments)
                .envs(environment.iter().copied())
                .output()
                .unwrap(),
        );
        let named = ran
            .stdout
            .split("no database ")
            .nth(1)
            .map(|rest| rest.split(';').next().unwrap());
        named.unwrap_or("flows.db").to_owned()
    };
    let environment = [("FLOWS__DATABASE__PATH", "environment.db")];
    assert_eq!(read(false, &[], &[]), "flows.db");
    assert_eq!(read(true, &[], &[]), "file.db");
    assert_eq!(read(true, &environment, &[]), "environment.db");
    assert_eq!(
        read(true, &environment, &["--database", "flag.db"]),
        "flag.db"
    );
    // The usual file is found without --config.
    fs::create_dir(folder.path().join("config")).unwrap();
    fs::write(
        folder.path().join("config/flows.toml"),
        "[database]\npath = 'usual.db'",
    )
    .unwrap();
    assert_eq!(read(false, &[], &[]), "usual.db");
    assert_eq!(read(true, &[], &[]), "file.db");
}

#[test]
fn the_environment_says_where_to_listen_and_a_path_may_look_like_a_number() {
    let folder = folder();
    let ten = ten_records(folder.path());
    fs::rename(&ten, folder.path().join("1234")).unwrap();
    let mut command = flows(folder.path(), &["serve"]);
    command
        .env("FLOWS__SERVER__LISTEN", "127.0.0.1:0")
        .env("FLOWS__DATABASE__PATH", "1234");
    command.env("FLOWS__SERVER__SHUTDOWN_SECONDS", "1");
    let server = Server::start(folder.path(), &mut command);
    assert_eq!(server.document(&format!("{FLOWS}?limit=0")), "[]\n");
}

#[test]
fn a_name_to_listen_at_is_resolved_and_the_address_bound_is_printed() {
    let folder = folder();
    ten_records(folder.path());
    let of_flag = ["serve", "--database", "ten.db", "--listen", "localhost:0"];
    let mut by_flag = flows(folder.path(), &of_flag);
    let mut by_key = flows(folder.path(), &of_flag[..3]);
    by_key.env("FLOWS__SERVER__LISTEN", "localhost:0");
    for command in [&mut by_flag, &mut by_key] {
        let stdout = command.stdout(std::process::Stdio::piped());
        let mut child = stdout.stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        // `localhost` may be ::1, too.
        for url in line
            .trim_end()
            .strip_prefix("listening on ")
            .unwrap()
            .split(", ")
        {
            let address: std::net::SocketAddr =
                url.strip_prefix("http://").unwrap().parse().unwrap();
            assert!(address.ip().is_loopback() && address.port() != 0, "{line}");
            let mut tcp = std::net::TcpStream::connect(address).unwrap();
            let request =
                format!("GET {FLOWS}?limit=0 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            std::io::Write::write_all(&mut tcp, request.as_bytes()).unwrap();
            let reply = std::io::read_to_string(tcp).unwrap();
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // RFC 6761: a name that nobody has.
    let nobody = [
        "serve",
        "--database",
        "ten.db",
        "--listen",
        "flows.invalid:0",
    ];
    run(folder.path(), &nobody).failed(
        1,
        &["cannot listen on flows.invalid:0; --listen names another address, port 0 takes a free one: "],
    );
}

#[test]
fn the_default_file_says_what_is_compiled_in() {
    let folder = folder();
    ten_records(folder.path());
    let arguments = ["check", "--database", "ten.db"];
    let without = run(folder.path(), &arguments).fine();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/flows.toml");
    let with = run(
        folder.path(),
        &[&arguments[..], &["--config", file]].concat(),
    )
    .fine();
    assert_eq!(with, without);
}

#[test]
fn unknown_keys_wrong_types_and_impossible_values_are_named() {
    let folder = folder();
    for (configuration, parts) in [
        (
            "[server]\nlisen = 'x'",
            &[
                "unknown key server.lisen in c.toml",
                "did you mean listen?",
                "shutdown_seconds",
            ][..],
        ),
        (
            "[sever]\n",
            &["unknown key sever", "did you mean server?", "database"],
        ),
        ("listen = 'x'", &["unknown key listen in c.toml", "server"]),
        (
            "[database]\npool_size = 'many'",
            &["database.pool_size in c.toml: \"many\" is not a whole number from 1 to 1024"],
        ),
        (
            "[database]\npool_size = 1.5",
            &["database.pool_size", "1.5 is not a whole number"],
        ),
        (
            "[database]\npool_size = true",
            &["database.pool_size", "true is not a whole number"],
        ),
        (
            "[database]\npool_size = 0",
            &["database.pool_size in c.toml: 0 is not a whole number from 1 to 1024"],
        ),
        (
            "[database]\npool_size = 99999999999",
            &["database.pool_size", "1 to 1024"],
        ),
        (
            "[database]\nwait_ms = -1",
            &["database.wait_ms", "0 to 60000"],
        ),
        (
            "[database]\ncache_kib = 1",
            &["database.cache_kib", "64 to"],
        ),
        (
            "[database]\npath = ''",
            &["database.path in c.toml: \"\" is not the path of a file"],
        ),
        (
            "[database]\npath = 5",
            &["database.path in c.toml: 5 is not the path of a file"],
        ),
        (
            "[server]\nlisten = 'localhost'",
            &["server.listen in c.toml", "localhost", "127.0.0.1:5000"],
        ),
        (
            "[server]\nlisten = '1.2.3:80'",
            &[
                "server.listen in c.toml: \"1.2.3:80\" is not an address or a name and a port, such as \
                 127.0.0.1:5000, [::1]:5000 or localhost:5000",
            ],
        ),
        (
            "[server]\nlisten = '::1:80'",
            &["server.listen in c.toml: \"::1:80\" is not an address"],
        ),
        (
            "[server]\nhead_seconds = 0",
            &["server.head_seconds", "1 to 3600"],
        ),
        (
            "[server]\nhead_bytes = 100",
            &["server.head_bytes", "8192 to 1048576"],
        ),
        (
            "[server]\nurl_bytes = 65535",
            &["server.url_bytes", "256 to 65534"],
        ),
        (
            "server = 5",
            &["server in c.toml: invalid type: integer `5`, expected a section"],
        ),
        ("[server", &["c.toml", "line 1"]),
        (
            "[server]\nlisten = '127.0.0.1:1'\nlisten = '127.0.0.1:2'",
            &["c.toml", "duplicate key"],
        ),
        (
            "streams = []",
            &["streams in c.toml: empty; it must be at least one"],
        ),
    ] {
        check(folder.path(), configuration).failed(2, parts);
    }
    run(folder.path(), &["check", "--config", "none.toml"]).failed(2, &["none.toml", "--config"]);
    for (name, value, parts) in [
        (
            "FLOWS__SERVER__LISEN",
            "x",
            &["unknown key FLOWS__SERVER__LISEN in the environment"][..],
        ),
        (
            "FLOWS__DATABASE__POOL_SIZE",
            "0",
            &["database.pool_size in FLOWS__DATABASE__POOL_SIZE: 0 is not a whole number"],
        ),
        (
            "FLOWS__DATABASE__POOL_SIZE",
            "x",
            &["database.pool_size in FLOWS__DATABASE__POOL_SIZE: \"x\" is not a whole number"],
        ),
        (
            "FLOWS__STREAMS",
            "x",
            &["unknown key FLOWS__STREAMS in the environment"],
        ),
        (
            "FLOWS__DATABASE__PAGE_READER",
            "maybe",
            &[
                "database.page_reader in FLOWS__DATABASE__PAGE_READER",
                "maybe",
                "a boolean",
            ],
        ),
        // One underscore, a key without its section, what other servers call it.
        (
            "FLOWS_SERVER_LISTEN",
            "127.0.0.1:1",
            &[
                "unknown key FLOWS_SERVER_LISTEN in the environment; did you mean FLOWS__SERVER__LISTEN?",
            ],
        ),
        (
            "FLOWS_POOL_SIZE",
            "1",
            &[
                "unknown key FLOWS_POOL_SIZE",
                "allowed here: ",
                "FLOWS__DATABASE__POOL_SIZE",
            ],
        ),
        (
            "FLOWS_PORT",
            "5001",
            &[
                "unknown key FLOWS_PORT in the environment",
                "FLOWS__SERVER__LISTEN",
            ],
        ),
    ] {
        let ran = flows(folder.path(), &["check"])
            .env(name, value)
            .output()
            .unwrap();
        Ran::from(ran).failed(2, parts);
    }
}

#[test]
fn streams_are_checked() {
    let folder = folder();
    let stream = |from: &str, to: &str| {
        let good = "[[streams]]\nname = 's'\ntable = 't'\ntime = 'time'\nid = 'id'\n\
                    columns = [{ name = 'id', type = 'integer' }, { name = 'x', type = 'text' }]\n";
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    for (from, to, parts) in [
        (
            "'s'",
            "'limit'",
            &["streams[0].name", "limit", "parameter"][..],
        ),
        (
            "'x'",
            "'format'",
            &["streams[0].columns[1].name", "format", "parameter"],
        ),
        ("'s'", "'a.b'", &["streams[0].name", "a.b", "letters"]),
        ("'s'", "''", &["streams[0].name"]),
        (
            "'x'",
            "'id'",
            &["streams[0].columns[1].name", "listed already"],
        ),
        ("'x'", "''", &["streams[0].columns[1].name"]),
        (
            "'text'",
            "'string'",
            &[
                "streams[0].columns[1].type",
                "string",
                "integer, real, text, blob",
            ],
        ),
        (
            "'integer'",
            "'real'",
            &[
                "streams[0].columns[0].type in c.toml: \"real\"; it must be \"integer\" or \"text\"",
                "since it is the id column",
            ],
        ),
        (
            "'integer'",
            "'integer', nullable = true",
            &[
                "streams[0].columns[0].nullable in c.toml: true",
                "time or id column",
            ],
        ),
        (
            "type = 'text'",
            "type = 'text', null = true",
            &[
                "unknown key streams[0].columns[1].null in c.toml",
                "nullable",
            ],
        ),
        (
            "id = 'id'",
            "id = 'time'",
            &["streams[0].id", "time column"],
        ),
        (
            "table = 't'\n",
            "",
            &["streams[0] in c.toml: neither table nor query; it must be one of them"],
        ),
        (
            "table = 't'\n",
            "table = 't'\nquery = 'SELECT 1'\n",
            &["streams[0] in c.toml: both table and query; it must be one of them"],
        ),
        (
            "table = 't'\n",
            "query = ' '\n",
            &["streams[0].query in c.toml: \" \"; it must be a SELECT"],
        ),
        (
            "'t'",
            "5",
            &["streams[0].table in c.toml: invalid type: integer `5`, expected a string"],
        ),
        (
            "{ name = 'x', type = 'text' }",
            "'x'",
            &[
                "streams[0].columns[1] in c.toml",
                "expected a column, { name",
            ],
        ),
        (
            "'x', type = 'text'",
            "'x'",
            &["streams[0].columns[1] in c.toml: missing field `type`"],
        ),
    ] {
        check(folder.path(), &stream(from, to)).failed(2, parts);
    }
    let twice = stream("'s'", "'s'").repeat(2);
    check(folder.path(), &twice).failed(2, &["streams[1].name", "another stream"]);
    let empty = stream(
        "{ name = 'id', type = 'integer' }, { name = 'x', type = 'text' }",
        "",
    );
    check(folder.path(), &empty).failed(2, &["streams[0].columns", "at least one"]);
    // A file's streams replace the default ones: what is missing is its own table.
    rusqlite::Connection::open(folder.path().join("flows.db"))
        .unwrap()
        .execute_batch("CREATE TABLE u (a)")
        .unwrap();
    let ran = check(folder.path(), &stream("'s'", "'s'"));
    assert_has(&ran.stdout, &["stream s: no table t"]);
    assert!(!ran.stdout.contains("stream flows"), "{}", ran.stdout);
}

#[test]
fn columns_are_checked() {
    let folder = folder();
    let with = |time: &str, id: &str, columns: &str| {
        format!(
            "[[streams]]\nname = 's'\ntable = 't'\ntime = {time}\nid = {id}\ncolumns = [{columns}]\n"
        )
    };
    let column = |keys: &str| with("'at'", "'id'", &format!("{{ name = 'x', {keys} }}"));
    let at = "streams[0].columns[0]";
    for (configuration, key, rest) in [
        (
            column("type = 'timestamp', unit = 'minutes'"),
            format!("{at}.unit"),
            "\"minutes\"; it must be one of s, ms, us, ns",
        ),
        (
            column("type = 'timestamp', stored = 'iso8601', spelling = 'YYYY-MM-DDTHH:MM:SS.f*Z'"),
            format!("{at}.spelling"),
            "(with a varying fraction not Z, since …10.5Z would sort before …10Z)",
        ),
        (
            column("type = 'timestamp', spelling = 'YYYY-MM-DD'"),
            format!("{at}.spelling"),
            "there is no text to spell; it must be beside stored = \"iso8601\", whose texts it describes",
        ),
        (
            column("type = 'timestamp', stored = 'julian'"),
            format!("{at}.stored"),
            "\"julian\"; it must be one of epoch, epoch_real, iso8601",
        ),
        (
            column("type = 'date', stored = 'epoch'"),
            format!("{at}.stored"),
            "\"epoch\"; it must be one of iso8601, days",
        ),
        (
            column("type = 'integer', stored = 'epoch'"),
            format!("{at}.stored"),
            "a column of type \"integer\" has none; it must be of type timestamp or date",
        ),
        (
            column("type = 'decimal', precision = 5"),
            format!("{at}.scale"),
            "missing; it must be how many digits",
        ),
        (
            column("type = 'decimal', scale = 5"),
            format!("{at}.precision"),
            "missing; it must be how many digits",
        ),
        (
            column("type = 'decimal', precision = 39, scale = 5"),
            format!("{at}.precision"),
            "39; it must be from 1 to 38",
        ),
        (
            column("type = 'decimal', precision = 2, scale = 5"),
            format!("{at}.scale"),
            "5; it must be at most the precision",
        ),
        (
            with("'x'", "'id'", "{ name = 'x', type = 'text' }"),
            format!("{at}.type"),
            "\"text\"; it must be \"integer\" or \"timestamp\", since it is the time column",
        ),
        (
            with(
                "{ name = 'at', type = 'text' }",
                "'id'",
                "{ name = 'x', type = 'text' }",
            ),
            "streams[0].time.type".to_owned(),
            "\"text\"; it must be \"integer\" or \"timestamp\"",
        ),
        (
            with(
                "'at'",
                "'x'",
                "{ name = 'x', type = 'text', nullable = true }",
            ),
            format!("{at}.nullable"),
            "true; it must be false, since it is the time or id column",
        ),
        (
            with(
                "{ name = 'x', type = 'timestamp' }",
                "'id'",
                "{ name = 'x', type = 'timestamp' }",
            ),
            "streams[0].time".to_owned(),
            "\"x\" is in columns, which says what it is; it must be its name alone",
        ),
    ] {
        let start = format!("flows: {key} in c.toml: ");
        check(folder.path(), &configuration).failed(2, &[&start, rest]);
    }
}

#[test]
fn what_kubernetes_sets_for_a_service_called_flows_is_not_ours() {
    let folder = folder();
    ten_records(folder.path());
    let mut check = flows(folder.path(), &["check", "--database", "ten.db"]);
    for (name, value) in [
        ("FLOWS_SERVICE_HOST", "10.0.0.1"),
        ("FLOWS_SERVICE_PORT", "5000"),
        ("FLOWS_PORT", "tcp://10.0.0.1:5000"),
        ("FLOWS_PORT_5000_TCP_ADDR", "10.0.0.1"),
    ] {
        check.env(name, value);
    }
    Ran::from(check.output().unwrap()).fine();
}
