"""The benchmark: one table of ratios, each against a baseline measured in the same run.

Every row is the median of interleaved runs: this machine's speed changes from minute to minute, and
interleaved, all that is compared matches the same weather. Called by `benches/run`.
"""

import argparse
import os
import platform
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import postgres

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
FLOWS = os.path.join(ROOT, "target", "release", "flows")
STREAM = "/api/v1/stream/flows"

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--cursor", required=True, help="the yardstick's executable")
arguments.add_argument("--rows", type=int, default=5_000_000)
arguments.add_argument("--runs", type=int, default=7, help="interleaved runs of each measurement")
arguments.add_argument("--only", metavar="PART", help="one part: its words below, such as postgresql")
OPTIONS = arguments.parse_args()


def say(text):
    print(text, file=sys.stderr, flush=True)


def shell(command, **options):
    subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, **options)


def timed(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


# --- data -------------------------------------------------------------------------------------


def data(folder):
    """Makes the sources and databases that are not there yet."""
    path = lambda name: os.path.join(folder, name)
    rows = OPTIONS.rows
    # All but a tenth of the lines, and all their times, fall into a hundredth of the 58 days.
    skew = (
        "BEGIN { FS = OFS = \",\" } { i = NR / rows; "
        "if (i < .05) t = i / .05 * .495; else if (i < .95) t = .495 + (i - .05) / .9 * .01; "
        "else t = .505 + (i - .95) / .05 * .495; $1 = 1 + int(t * 5011198); print }"
    )
    # Tables as people have them: rows in the order of arrival, and an index on time.
    ordinary = lambda columns: (
        "CREATE TABLE flows (id INTEGER PRIMARY KEY, time {0} NOT NULL, ended {0} NOT NULL, "
        "src_comp TEXT NOT NULL, src_port TEXT NOT NULL, dst_comp TEXT NOT NULL, "
        "dst_port TEXT NOT NULL, protocol INTEGER NOT NULL, packet_count INTEGER NOT NULL, "
        "byte_count INTEGER NOT NULL)"
    ).format(columns)
    from_2026 = 1767225600
    micros = f"({from_2026} + {{}}) * 1000000 + id * 7919 % 1000000"
    iso = f"strftime('%Y-%m-%d %H:%M:%S', {from_2026} + {{}}, 'unixepoch') || printf('.%06d', id * 7919 % 1000000)"
    rest = "src_comp, src_port, dst_comp, dst_port, protocol, packet_count, byte_count"

    def copied(create, time):
        columns = f"id, {time.format('time')}, {time.format('time + duration')}, {rest}"
        return (
            f"sqlite3 {{}} \"ATTACH '{path('even.db')}' AS even; {create}; INSERT INTO flows "
            f"SELECT {columns} FROM even.flows ORDER BY time, id; "
            "CREATE INDEX flows_time ON flows (time)\""
        )

    clustered = ordinary("INTEGER").replace("id INTEGER PRIMARY KEY", "id INTEGER NOT NULL")
    clustered = clustered[:-1] + ", PRIMARY KEY (time, id)) WITHOUT ROWID"
    many = "; ".join(
        f"CREATE TABLE t{at} (id INTEGER PRIMARY KEY, created_at TEXT NOT NULL, name TEXT, value REAL); "
        f"INSERT INTO t{at} SELECT value, strftime('%Y-%m-%d %H:%M:%S', {from_2026} + value, "
        f"'unixepoch'), 'name ' || value % 1000, value / 8.0 FROM generate_series(1, {rows // 25})"
        for at in range(50)
    )
    made = {
        "flows.txt.gz": f"{FLOWS} generate --rows {rows} | gzip -1 > {{}}",
        "even.db": f"{FLOWS} import {path('flows.txt.gz')} --database {{}}",
        "small.db": f"{FLOWS} generate --rows {rows // 50} | {FLOWS} import - --database {{}}",
        "skewed.db": f"gunzip -c {path('flows.txt.gz')} | awk -v rows={rows} '{skew}' | "
        f"{FLOWS} import - --database {{}}",
        "ordinary.db": copied(ordinary("INTEGER"), micros),
        "clustered.db": copied(clustered, micros),
        "iso.db": copied(ordinary("TEXT"), iso),
        "many.db": f'sqlite3 {{}} "{many}"',
        "flows.csv": f"sqlite3 -csv -header {path('even.db')} "
        f"'SELECT * FROM flows ORDER BY time, id' > {{}}",
    }
    for name, command in made.items():
        if not os.path.exists(path(name)):
            say(f"making {name}")
            shell(command.replace("{}", path(name)), stdout=subprocess.DEVNULL)
    return {name: path(name) for name in made}


# --- servers ----------------------------------------------------------------------------------


# What makes a stream of the tables whose times are not LANL's; `{}` is what these are declared to be.
COLUMNS = """[[streams]]
name = "flows"
table = "flows"
time = "time"
id = "id"
columns = [
    {{ name = "id", type = "integer" }},
    {{ name = "time", {0} }},
    {{ name = "ended", {0} }},
    {{ name = "src_comp", type = "text" }},
    {{ name = "src_port", type = "text" }},
    {{ name = "dst_comp", type = "text" }},
    {{ name = "dst_port", type = "text" }},
    {{ name = "protocol", type = "integer" }},
    {{ name = "packet_count", type = "integer" }},
    {{ name = "byte_count", type = "integer" }},
]
"""
INTEGERS = 'type = "integer"'
EPOCHS = 'type = "timestamp"'
ISO = 'type = "timestamp", stored = "iso8601", spelling = "YYYY-MM-DD HH:MM:SS.ffffff"'


class Server:
    def __init__(self, database, times=None, **settings):
        command = [FLOWS, "serve", "--database", database, "--listen", "127.0.0.1:0"]
        self.folder = tempfile.TemporaryDirectory()
        if times:
            config = os.path.join(self.folder.name, "flows.toml")
            with open(config, "w") as file:
                file.write(COLUMNS.format(times))
            command += ["--config", config]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd="/",
            env={**os.environ, **settings},
        )
        self.address = self.process.stdout.readline().strip().split("//")[1]
        self.host, port = self.address.split(":")
        self.port = int(port)

    def url(self, path):
        return f"http://{self.address}{path}"

    def connect(self):
        connection = socket.create_connection((self.host, self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def anonymous_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class Blog:
    """The blog's Flask app under gunicorn."""

    def __init__(self, database):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        gunicorn = os.path.join(HERE, ".peers", "bin", "gunicorn")
        self.process = subprocess.Popen(
            [gunicorn, "-w", "2", "-b", f"127.0.0.1:{self.port}", "blog:app"],
            cwd=HERE,
            env={**os.environ, "FLOWS_DATABASE": database},
            stderr=subprocess.DEVNULL,
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Peer:
    """A database's own exporter, in a process of its own."""

    def __init__(self, name, folder, csv):
        say(f"loading {name}")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "peers.py"), name, folder, csv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self.process.stdout.readline().strip()

    def export(self, format):
        self.process.stdin.write(format + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def request(path, coding):
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {coding}\r\n\r\n".encode()


def get(connection, path, coding="identity"):
    """Sends a GET and reads the reply; seconds to its first byte and to its last."""
    start = time.perf_counter()
    connection.sendall(request(path, coding))
    reply = connection.recv(1 << 20)
    first = time.perf_counter() - start
    head, _, body = reply.partition(b"\r\n\r\n")
    length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    if length:
        left = int(length[0].split(b":")[1]) - len(body)
        while left > 0:
            left -= len(connection.recv(1 << 20))
    return first, time.perf_counter() - start


# --- the table --------------------------------------------------------------------------------

TABLE = []


def interleaved(measures, runs=None):
    """Runs every measurement in turn, several times; a list of seconds for each."""
    seconds = {name: [] for name in measures}
    for run in range(runs or OPTIONS.runs):
        for name, measure in measures.items():
            seconds[name].append(measure())
        say(f"  run {run + 1}: " + ", ".join(f"{n} {s[-1]:.3g} s" for n, s in seconds.items()))
    return seconds


def row(what, target, met, value, detail):
    TABLE.append((what, target, value, "met" if met else "missed", detail))


def ratio(what, target, fast, slow, unit=1.0):
    """How many times as fast `fast` is as `slow`, both lists of seconds."""
    value = statistics.median(slow) / statistics.median(fast)
    spread = lambda s: "/".join(f"{unit * x:.3g}" for x in (min(s), statistics.median(s), max(s)))
    detail = f"{spread(fast)} s against {spread(slow)} s"
    row(what, f"≥ {target} ×", value >= target, f"{value:.2f} ×", detail)


def missing(what, target, peer):
    TABLE.append((what, f"≥ {target} ×", "", "missing", f"{peer} could not be installed"))


# What `json`'s records a second are multiplied by, at least.
FORMATS = {"ndjson": 1.0, "tsv": 1.1, "arrow": 1.2, "avro": 0.6, "parquet": 0.4}
CODINGS = {"zstd": 0.5, "gzip": 0.4}

# --- measurements -----------------------------------------------------------------------------


def whole_table(paths, peers):
    with Server(paths["even.db"]) as even, Server(paths["skewed.db"]) as skewed:
        def curl(server, format, coding="identity"):
            url = server.url(f"{STREAM}?format={format}")
            command = ["curl", "-sf", "-H", f"Accept-Encoding: {coding}", "-o", "/dev/null", url]
            return lambda: timed(command)

        def cursor():
            output = subprocess.run([OPTIONS.cursor, paths["even.db"]], capture_output=True, text=True)
            rows, seconds = output.stdout.split()
            assert int(rows) == OPTIONS.rows
            return float(seconds)

        def cli(format):
            query = "SELECT * FROM flows ORDER BY time, id"
            return lambda: timed(["sqlite3", f"-{format}", paths["even.db"], query])

        measures = {"cursor": cursor}
        for format in ["json", "csv", "xml"]:
            measures[format] = curl(even, format)
            measures[f"skewed {format}"] = curl(skewed, format)
        for format in FORMATS:
            measures[format] = curl(even, format)
        for coding in CODINGS:
            measures[f"json, {coding}"] = curl(even, "json", coding)
        for name, peer in peers.items():
            for format in ["json", "csv"] + ["parquet"] * (name == "duckdb"):
                measures[f"{name} {format}"] = lambda peer=peer, format=format: peer.export(format)
        for server in (even, skewed):
            get_all = curl(server, "json")
            get_all()
        seconds = interleaved(measures)
        seconds |= interleaved({f"sqlite3 {f}": cli(f) for f in ["json", "csv"]}, runs=3)

    for format, target in [("json", 1.5), ("csv", 1.8), ("xml", 1.3)]:
        ratio(f"`{format}` against one cursor", target, seconds[format], seconds["cursor"])
    for format in ["json", "csv", "xml"]:
        what = f"`{format}`, skewed table against even"
        ratio(what, 0.9, seconds[f"skewed {format}"], seconds[format])
    for name, targets in [("clickhouse", (1.3, 1.1)), ("duckdb", (1.5, 1.2)), ("sqlite3", (5, 4))]:
        for format, target in zip(["json", "csv"], targets):
            what = f"`{format}` against {name}"
            peer = seconds.get(f"{name} {format}")
            if peer:
                ratio(what, target, seconds[format], peer)
            else:
                missing(what, target, name)


    for format, target in FORMATS.items():
        ratio(f"`{format}` against `json`", target, seconds[format], seconds["json"])
    for coding, target in CODINGS.items():
        ratio(f"`json` in {coding} against `json`", target, seconds[f"json, {coding}"], seconds["json"])
    if "duckdb parquet" in seconds:
        ratio("`parquet` against duckdb", 1.0, seconds["parquet"], seconds["duckdb parquet"])
    else:
        missing("`parquet` against duckdb", 1.0, "duckdb")


def ordinary_tables(paths):
    def curl(server, format):
        url = server.url(f"{STREAM}?format={format}")
        return lambda: timed(["curl", "-sf", "-o", "/dev/null", url])

    def cursor():
        command = [OPTIONS.cursor, paths["ordinary.db"]]
        return float(subprocess.run(command, capture_output=True, text=True).stdout.split()[1])

    with (
        Server(paths["clustered.db"], INTEGERS) as clustered,
        Server(paths["clustered.db"], EPOCHS) as epochs,
        Server(paths["ordinary.db"], INTEGERS) as ordinary,
        Server(paths["iso.db"], ISO) as iso,
    ):
        measures = {
            "clustered integers": curl(clustered, "json"),
            "clustered epochs": curl(epochs, "json"),
            "cursor": cursor,
            "ordinary json": curl(ordinary, "json"),
            "ordinary csv": curl(ordinary, "csv"),
            "ordinary iso": curl(iso, "json"),
        }
        for measure in measures.values():
            measure()
        seconds = interleaved(measures)
    for format, target in [("json", 1.3), ("csv", 1.8)]:
        what = f"`{format}`, ordinary table (rows by id, an index on time), against one cursor"
        ratio(what, target, seconds[f"ordinary {format}"], seconds["cursor"])
    what = "`json`, two timestamps from epoch integers, against the same declared integer"
    ratio(what, 0.8, seconds["clustered epochs"], seconds["clustered integers"])
    what = "`json`, two timestamps from ISO text, ordinary table, against one of integers"
    ratio(what, 0.7, seconds["ordinary iso"], seconds["ordinary json"])


def inits(paths):
    seconds = [timed([FLOWS, "init", paths["many.db"]]) for _ in range(5)]
    value = statistics.median(seconds)
    detail = "/".join(f"{x:.2g}" for x in (min(seconds), value, max(seconds))) + " s"
    what = f"`flows init` of 50 tables, {2 * OPTIONS.rows:,} records"
    row(what, "≤ 2 s", value <= 2, f"{value:.2f} s", detail)


def small_windows(paths):
    last = 5_011_199
    width = max(1, 26 * last // OPTIONS.rows)
    script = os.path.join(tempfile.gettempdir(), "flows-bench.lua")
    with open(script, "w") as lua:
        lua.write(
            "request = function()\n"
            f"  local t = math.random(0, {last - width})\n"
            f"  return wrk.format('GET', '{STREAM}?scanned_after=' .. t .. "
            f"'&scanned_before=' .. t + {width})\nend\n"
        )

    def requests(server):
        def measure():
            output = subprocess.run(
                ["wrk", "-t1", "-c8", "-d3", "-s", script, server.url("/")],
                capture_output=True,
                text=True,
            ).stdout
            assert "Non-2xx" not in output, output
            rate = [line for line in output.splitlines() if line.startswith("Requests/sec")]
            return 1 / float(rate[0].split()[1])

        return measure

    with Server(paths["even.db"]) as server:
        measures = {"flows": requests(server)}
        if shutil.which("wrk") and os.path.exists(os.path.join(HERE, ".peers", "bin", "gunicorn")):
            with Blog(paths["even.db"]) as blog:
                measures["blog"] = requests(blog)
                seconds = interleaved(measures, runs=5)
            rate = lambda name: f"{1 / statistics.median(seconds[name]):,.0f}/s"
            value = statistics.median(seconds["blog"]) / statistics.median(seconds["flows"])
            detail = f"{rate('flows')} against {rate('blog')}"
            row("small windows against the blog's app", "≥ 15 ×", value >= 15, f"{value:.1f} ×", detail)
        else:
            missing("small windows against the blog's app", 15, "wrk or gunicorn")

        def latency():
            output = subprocess.run(
                ["wrk", "-t1", "-c1", "-d2", "--latency", "-s", script, server.url("/")],
                capture_output=True,
                text=True,
            ).stdout
            quantile = next(line.split()[1] for line in output.splitlines() if " 50%" in line)
            scale = 1 if quantile.endswith("us") else 1000
            return float(quantile.rstrip("mus")) * scale

        medians = [latency() for _ in range(5)]
        row(
            "small window, one connection",
            "≤ 150 µs",
            statistics.median(medians) <= 150,
            f"{statistics.median(medians):.0f} µs",
            "medians of five runs: " + "/".join(f"{m:.0f}" for m in sorted(medians)) + " µs",
        )
        connection = server.connect()

        def stream():
            subprocess.run(["curl", "-sf", "-o", "/dev/null", server.url(f"{STREAM}.json")])

        streams = [threading.Thread(target=stream) for _ in range(8)]
        for thread in streams:
            thread.start()
        time.sleep(0.3)
        times = []
        while any(thread.is_alive() for thread in streams):
            times.append(get(connection, f"{STREAM}?scanned_after=1000&scanned_before={1000 + width}")[1])
        p99 = sorted(times)[int(len(times) * 0.99)] * 1e3
        detail = f"{len(times)} requests, median {statistics.median(times) * 1e3:.2g} ms"
        row("small window's p99 beside 8 whole tables", "≤ 50 ms", p99 <= 50, f"{p99:.1f} ms", detail)


def selecting(paths):
    with Server(paths["even.db"]) as server, Server(paths["small.db"]) as small:

        def answer(server, query):
            connection = server.connect()
            times = [get(connection, f"{STREAM}?{query}")[1] for _ in range(500)]
            connection.close()
            return statistics.median(times) * 1e6

        window = "scanned_after=86400"
        last = 86400 + 20 * 5_011_198 // OPTIONS.rows
        plain = answer(server, f"{window}&scanned_before={last}")
        limited = answer(server, f"{window}&limit=20")
        value = limited - plain
        detail = f"{limited:.0f} µs with limit, {plain:.0f} µs as a window, 20 records"
        row("position of a small window", "≤ 100 µs", value <= 100, f"{value:.0f} µs", detail)

        query = "SELECT time, id FROM flows ORDER BY time DESC, id DESC LIMIT 1"
        database = sqlite3.connect(paths["even.db"])
        times = []
        for _ in range(100):
            start = time.perf_counter()
            assert database.execute(query).fetchone()
            times.append(time.perf_counter() - start)
        value = statistics.median(times) * 1e3
        detail = "what finds it, alone, in Python"
        row("position of a whole table", "≤ 1 ms", value <= 1, f"{value:.3f} ms", detail)

        indexed = {name: answer(s, "id=77777") for name, s in [("large", server), ("small", small)]}
        value = max(indexed.values()) / min(indexed.values())
        detail = ", ".join(f"{time:.0f} µs" for time in indexed.values())
        what = "filter by id, which is indexed: large table against one of a fiftieth"
        row(what, "≤ 2 ×", value <= 2, f"{value:.2f} ×", detail)

        one_percent = database.execute(
            "SELECT byte_count FROM flows ORDER BY byte_count DESC LIMIT 1 OFFSET ?",
            [OPTIONS.rows // 100],
        ).fetchone()[0]
        url = server.url(f"{STREAM}?byte_count=gt.{one_percent}")

        def cursor():
            command = [OPTIONS.cursor, paths["even.db"], f"byte_count > {one_percent}"]
            return float(subprocess.run(command, capture_output=True, text=True).stdout.split()[1])

        filtered = lambda: timed(["curl", "-sf", "-o", "/dev/null", url])
        seconds = interleaved({"cursor": cursor, "flows": filtered})
    what = "filter that keeps 1 %, not indexed, `json`, against one cursor"
    ratio(what, 1.5, seconds["flows"], seconds["cursor"])


def first_bytes(paths):
    def first(database, query, coding="identity"):
        with Server(database) as server:
            times = []
            for _ in range(50):
                connection = server.connect()
                times.append(get(connection, f"{STREAM}?{query}", coding)[0])
                connection.close()
            return statistics.median(times)

    late = "scanned_after=5011000"
    for what, query in [("whole table", "format=json"), ("late narrow window", late + "&limit=26")]:
        large, small = first(paths["even.db"], query), first(paths["small.db"], query)
        value = max(large, small) / min(large, small)
        detail = f"{large * 1e6:.0f} µs, {small * 1e6:.0f} µs"
        what = f"first byte, {what}: large table against one of a fiftieth"
        row(what, "≤ 2 ×", value <= 2, f"{value:.2f} ×", detail)
    plain = first(paths["even.db"], "format=json")
    for what, limit in [("four fifths of the table", OPTIONS.rows * 4 // 5), ("more than there is", 2**40)]:
        value = first(paths["even.db"], f"format=json&limit={limit}") * 1e3
        what = f"first byte, limit of {what}"
        row(what, "≤ 30 ms", value <= 30, f"{value:.1f} ms", f"{plain * 1e3:.1f} ms without limit")
    for coding in CODINGS:
        coded = first(paths["even.db"], "format=json", coding)
        value = (coded - plain) * 1e3
        detail = f"{coded * 1e3:.1f} ms against {plain * 1e3:.1f} ms"
        what = f"first byte, whole table in {coding}: later than as it is by"
        row(what, "≤ 50 ms", value <= 50, f"{value:.1f} ms", detail)


def memory(paths):
    def peak(count, query, coding):
        # Large streams get three quarters of the connections.
        with Server(paths["even.db"], FLOWS__DATABASE__POOL_SIZE="86", FLOWS__SERVER__STREAMS="86") as server:
            connections = [server.connect() for _ in range(count)]
            for connection in connections:
                connection.sendall(request(f"{STREAM}?{query}", coding))
            for connection in connections:
                assert connection.recv(12) == b"HTTP/1.1 200"
            peak = 0
            end = time.time() + 5
            while time.time() < end:
                if count == 1:
                    # As fast as it goes; the others read next to nothing.
                    connections[0].recv(1 << 20)
                else:
                    for connection in connections:
                        connection.recv(1000)
                peak = max(peak, server.anonymous_kib() / 1024)
            return peak

    for count, most in [(1, 48), (64, 256)]:
        tables = "one whole table" if count == 1 else "64 whole tables, slow readers"
        row_groups = 16 * count
        plain = peak(count, "format=json", "identity")
        detail = "anonymous resident peak"
        row(f"memory, {tables}", f"≤ {most} MiB", plain <= most, f"{plain:.0f} MiB", detail)
        peaks = {
            format: peak(count, f"format={format}", coding)
            for format, coding in [(f, "identity") for f in FORMATS if f != "parquet"]
        }
        peaks |= {f"json in {coding}": peak(count, "format=json", coding) for coding in CODINGS}
        worst = max(peaks.values())
        detail = ", ".join(f"{name} {value:.0f}" for name, value in peaks.items())
        what = f"memory, {tables}, other formats and codings"
        row(what, f"≤ {most} MiB", worst <= most, f"{worst:.0f} MiB", detail)
        parquet = peak(count, "format=parquet", "identity")
        what = f"memory, {tables}, `parquet`, and a row group each"
        most += row_groups
        row(what, f"≤ {most} MiB", parquet <= most, f"{parquet:.0f} MiB", "anonymous resident peak")


def pulls(paths, folder):
    one, many = os.path.join(folder, "one.ndjson"), os.path.join(folder, "pulled")
    with Server(paths["even.db"]) as server:
        url = server.url(STREAM)

        def curl():
            if os.path.exists(one):
                os.remove(one)
            zstd = ["-H", "Accept-Encoding: zstd", "--compressed"]
            return timed(["curl", "-sf", *zstd, "-o", one, f"{url}.ndjson"])

        def pull():
            shutil.rmtree(many, ignore_errors=True)
            return timed([FLOWS, "pull", url, "--to", many])

        seconds = interleaved({"curl": curl, "pull": pull}, runs=5)
    value = statistics.median(seconds["pull"]) / statistics.median(seconds["curl"])
    spread = lambda s: "/".join(f"{x:.3g}" for x in (min(s), statistics.median(s), max(s)))
    detail = f"{spread(seconds['pull'])} s against {spread(seconds['curl'])} s"
    what = "`flows pull` of all to ndjson files: as long as curl in the same coding to one file"
    row(what, "≤ 1.3 ×", value <= 1.3, f"{value:.2f} ×", detail)
    os.remove(one)
    shutil.rmtree(many)


def imports(paths, folder):
    new, blog = os.path.join(folder, "new.db"), os.path.join(folder, "blog.db")

    def remove(path):
        for suffix in ["", "-wal", "-shm", "-journal"]:
            if os.path.exists(path + suffix):
                os.remove(path + suffix)

    def flows():
        remove(new)
        return timed([FLOWS, "import", paths["flows.txt.gz"], "--database", new])

    def as_the_blog():
        remove(blog)
        table = (
            "CREATE TABLE flows (id INTEGER PRIMARY KEY, time INTEGER, duration INTEGER, "
            "src_comp TEXT, src_port TEXT, dst_comp TEXT, dst_port TEXT, protocol INTEGER, "
            "packet_count INTEGER, byte_count) WITHOUT ROWID;"
        )
        script = (
            f"sqlite3 {blog} '{table}' && gunzip -c {paths['flows.txt.gz']} | "
            "awk -F, 'NF == 9' | awk '{ print NR \",\" $0 }' | "
            f"sqlite3 -csv {blog} '.import /dev/stdin flows' && "
            f"sqlite3 {blog} 'CREATE INDEX flows_time ON flows (time)'"
        )
        return timed(["bash", "-c", script])

    seconds = interleaved({"flows": flows, "blog": as_the_blog}, runs=3)
    ratio("import of flows.txt.gz against the blog's pipeline", 3, seconds["flows"], seconds["blog"])
    remove(new)
    remove(blog)


def output(command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0].strip()
    except OSError:
        return "missing"


def main():
    folder = os.path.join(HERE, ".data", str(OPTIONS.rows))
    os.makedirs(folder, exist_ok=True)
    paths = data(folder)
    peers = {}
    for name in ["clickhouse", "duckdb"] if OPTIONS.only in (None, "whole tables") else []:
        try:
            peers[name] = Peer(name, folder, paths["flows.csv"])
        except Exception as error:
            say(f"{name} is missing: {error}")
    parts = {
        "whole tables": lambda: whole_table(paths, peers),
        "ordinary tables": lambda: ordinary_tables(paths),
        "init": lambda: inits(paths),
        "small windows": lambda: small_windows(paths),
        "selecting": lambda: selecting(paths),
        "first bytes": lambda: first_bytes(paths),
        "memory": lambda: memory(paths),
        "pulls": lambda: pulls(paths, folder),
        "imports": lambda: imports(paths, folder),
        "postgresql": lambda: postgres.measure(paths, sys.modules[__name__]),
    }
    for name, measure in parts.items():
        if OPTIONS.only in (None, name):
            say(name)
            measure()
        for peer in peers.values():
            # Nothing else is to run beside what follows.
            peer.process.kill()

    with open("/proc/cpuinfo") as cpuinfo:
        model = next((l.split(":")[1].strip() for l in cpuinfo if l.startswith("model name")), "")
    versions = [
        output([FLOWS, "--version"]),
        output(["rustc", "--version"]).split(" (")[0],
        output(["curl", "--version"]).split(" (")[0],
        "sqlite3 " + output(["sqlite3", "--version"]).split(" ")[0],
        "postgres " + output([f"{postgres.PROGRAMS[-1]}/postgres", "--version"]).split(" ")[2],
        *(f"{name} {peer.version}" for name, peer in peers.items()),
    ]
    print(f"{OPTIONS.rows:,} records; {os.cpu_count()} cores, {model}, Linux {platform.release()};")
    print(", ".join(versions) + f"; {time.strftime('%Y-%m-%d')}\n")
    print("| what | target | measured | | minimum/median/maximum |\n|---|---|---|---|---|")
    for cells in TABLE:
        print("| " + " | ".join(cells) + " |")


main()
