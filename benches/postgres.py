"""PostgreSQL on the same machine: a server of its own in a temporary folder, filled by `flows import`."""

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile

# The server's programs, which are in no one's path.
PROGRAMS = sorted(glob.glob("/usr/lib/postgresql/*/bin"))


class Postgres:
    """A server; nobody but this machine reaches it. It refuses to run as root."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="flows-bench-")
        self.user = []
        if os.getuid() == 0:
            postgres = pwd.getpwnam("postgres")
            os.chown(self.folder, postgres.pw_uid, postgres.pw_gid)
            ids = [f"--reuid={postgres.pw_uid}", f"--regid={postgres.pw_gid}", "--clear-groups"]
            self.user = ["setpriv", *ids]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        data = os.path.join(self.folder, "data")
        self.run("initdb", "-D", data, "-U", "flows", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        options = f"-p {self.port} -k {self.folder} -c shared_buffers=512MB -c max_wal_size=8GB"
        log = os.path.join(self.folder, "log")
        self.run("pg_ctl", "-w", "-D", data, "-l", log, "-o", options, "start")
        self.sql("CREATE DATABASE flows", database="postgres")
        self.url = f"postgres://flows@127.0.0.1:{self.port}/flows"

    def run(self, program, *arguments):
        command = [*self.user, os.path.join(PROGRAMS[-1], program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def psql(self, *statements, database="flows"):
        command = ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "flows", database]
        for statement in statements:
            command += ["-c", statement]
        return command

    def sql(self, *statements, database="flows"):
        subprocess.run(self.psql(*statements, database=database), check=True, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.run("pg_ctl", "-m", "immediate", "-D", os.path.join(self.folder, "data"), "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(paths, bench):
    """Rows of the table: streams, a narrow window, an import. `bench` is the benchmark itself."""
    with Postgres() as postgres:
        imports(paths, bench, postgres)
        postgres.sql("VACUUM ANALYZE flows")
        streams(bench, postgres)
        first_byte(bench, postgres)


def imports(paths, bench, postgres):
    lines = os.path.join(postgres.folder, "lines.csv")
    subprocess.run(["bash", "-c", f"tail -n +2 {paths['flows.csv']} > {lines}"], check=True)
    source = os.path.join(postgres.folder, "flows.txt")
    subprocess.run(["bash", "-c", f"gunzip -c {paths['flows.txt.gz']} > {source}"], check=True)
    indexes = ("ALTER TABLE {0} ADD PRIMARY KEY (time, id)", "CREATE UNIQUE INDEX ON {0} (id)")

    def flows():
        postgres.sql("DROP TABLE IF EXISTS flows")
        return bench.timed([bench.FLOWS, "import", source, "--database", postgres.url])

    def copy():
        postgres.sql("DROP TABLE IF EXISTS copied", "CREATE TABLE copied (LIKE flows)")
        of_index = [index.format("copied") for index in indexes]
        return bench.timed(postgres.psql(f"\\copy copied FROM {lines} (FORMAT csv)", *of_index, "ANALYZE copied"))

    seconds = bench.interleaved({"flows": flows, "copy": copy}, runs=3)
    what = "PostgreSQL: import against `\\copy` of the same rows, indexes and all"
    bench.ratio(what, 0.8, seconds["flows"], seconds["copy"])
    postgres.sql("DROP TABLE copied")
    os.remove(lines)
    os.remove(source)


def streams(bench, postgres):
    ordered = "SELECT * FROM flows ORDER BY time, id"
    of_rows = "SELECT row_to_json(flows) FROM flows ORDER BY time, id"
    one = {"FLOWS__DATABASE__POOL_SIZE": "1"}
    with bench.Server(postgres.url) as two_slices, bench.Server(postgres.url, **one) as one_slice:
        get = lambda server: lambda: bench.timed(
            ["curl", "-sf", "-o", "/dev/null", server.url(f"{bench.STREAM}?format=json")]
        )
        measures = {
            "one slice": get(one_slice),
            "slices": get(two_slices),
            "binary": lambda: bench.timed(postgres.psql(f"COPY ({ordered}) TO STDOUT (FORMAT binary)")),
        }
        for warm in measures.values():
            warm()
        seconds = bench.interleaved(measures)
        row_to_json = lambda: bench.timed(postgres.psql(f"COPY ({of_rows}) TO STDOUT"))
        seconds |= bench.interleaved({"row_to_json": row_to_json}, runs=3)
    bench.ratio("PostgreSQL: `json` against psql's `row_to_json`", 4, seconds["slices"], seconds["row_to_json"])
    what = "PostgreSQL: `json` in one slice against psql's `COPY … (FORMAT binary)`"
    bench.ratio(what, 0.9, seconds["one slice"], seconds["binary"])
    what = "PostgreSQL: `json` in slices against psql's `COPY … (FORMAT binary)`"
    bench.ratio(what, 1.0, seconds["slices"], seconds["binary"])


def first_byte(bench, postgres):
    with bench.Server(postgres.url) as server:
        times = []
        for _ in range(50):
            connection = server.connect()
            times.append(bench.get(connection, f"{bench.STREAM}?scanned_after=5011000&limit=26")[0])
            connection.close()
    value = sorted(times)[len(times) // 2] * 1e3
    what = "PostgreSQL: first byte, late narrow window"
    bench.row(what, "≤ 3 ms", value <= 3, f"{value:.2f} ms", f"median of {len(times)} new connections")
