"""The databases' own exporters. Run as `python peers.py PEER FOLDER CSV SECONDS...`: each peer has a
process of its own, told on standard input what to export; it answers with the seconds it took."""

import os
import sys
import time

COLUMNS = [
    ("id", "integer"),
    ("time", "integer"),
    ("duration", "integer"),
    ("src_comp", "text"),
    ("src_port", "text"),
    ("dst_comp", "text"),
    ("dst_port", "text"),
    ("protocol", "integer"),
    ("packet_count", "integer"),
    ("byte_count", "integer"),
]


def clickhouse(folder, csv):
    from chdb import session

    database = session.Session(os.path.join(folder, "clickhouse"))
    kinds = {"integer": "Int64", "text": "String"}
    columns = ", ".join(f"{name} {kinds[kind]}" for name, kind in COLUMNS)
    database.query("CREATE DATABASE IF NOT EXISTS bench ENGINE = Atomic")
    database.query("DROP TABLE IF EXISTS bench.flows SYNC")
    database.query(
        f"CREATE TABLE bench.flows ({columns}) ENGINE = MergeTree ORDER BY (time, id)"
    )
    database.query(f"INSERT INTO bench.flows SELECT * FROM file('{csv}', CSVWithNames)")
    database.query("OPTIMIZE TABLE bench.flows FINAL")
    names = {"json": "JSONEachRow", "csv": "CSV"}
    version = str(database.query("SELECT version()", "TSV")).strip()

    def export(format):
        database.query(
            "SELECT * FROM bench.flows ORDER BY time, id "
            f"INTO OUTFILE '/dev/null' TRUNCATE FORMAT {names[format]}"
        )

    return version, export


def duckdb(folder, csv):
    import duckdb

    path = os.path.join(folder, "duck.db")
    if os.path.exists(path):
        os.remove(path)
    database = duckdb.connect(path)
    kinds = {"integer": "BIGINT", "text": "VARCHAR"}
    columns = ", ".join(f"{name} {kinds[kind]}" for name, kind in COLUMNS)
    database.execute(f"CREATE TABLE flows ({columns})")
    database.execute(f"COPY flows FROM '{csv}' (HEADER)")
    database.execute("CHECKPOINT")

    def export(format):
        query = "SELECT * FROM flows ORDER BY time, id"
        database.execute(f"COPY ({query}) TO '/dev/null' (FORMAT {format})")

    return duckdb.__version__, export


if __name__ == "__main__":
    version, export = {"clickhouse": clickhouse, "duckdb": duckdb}[sys.argv[1]](*sys.argv[2:4])
    print(version, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        export(line.strip())
        print(time.perf_counter() - start, flush=True)
