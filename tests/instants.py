"""Has five tools read a stream in each format, whose columns `s`, `ms`, `us` and `ns` are timestamps of that
unit and `day` is a date, each tool by its own types, and compares what they find.

    instants.py URL EXPECTED

EXPECTED is a JSON object: the columns as nanoseconds and days since 1970.
"""

import json
import pathlib
import sys
import tempfile
import urllib.request

import chdb
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

PER_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
UNITS = list(PER_UNIT)
url, expected = sys.argv[1], json.loads(sys.argv[2])
scratch = tempfile.TemporaryDirectory()
folder = pathlib.Path(scratch.name)
file = lambda extension: str(folder / f"t.{extension}")


def of_arrow(table):
    columns = {}
    for name in UNITS:
        column = table.column(name)
        assert column.type.tz == "UTC", column.type
        columns[name] = [v * PER_UNIT[column.type.unit] for v in column.cast("int64").to_pylist()]
    columns["day"] = table.column("day").cast("int32").to_pylist()
    return columns


def pyarrow_csv():
    types = {name: pyarrow.timestamp(name, "UTC") for name in UNITS} | {"day": pyarrow.date32()}
    options = pyarrow.csv.ConvertOptions(column_types=types)
    return of_arrow(pyarrow.csv.read_csv(file("csv"), convert_options=options))


def pyarrow_arrow():
    with pyarrow.ipc.open_stream(file("arrows")) as stream:
        return of_arrow(stream.read_all())


def pyarrow_parquet():
    return of_arrow(pyarrow.parquet.read_table(file("parquet")))


def of_pandas(frame):
    def nanoseconds(column):
        assert str(column.dt.tz) == "UTC", column.dtype
        return [v * PER_UNIT[column.dt.unit] for v in column.astype("int64").tolist()]

    days = [(day - pandas.Timestamp(0).date()).days for day in frame["day"].tolist()]
    return {name: nanoseconds(frame[name]) for name in UNITS} | {"day": days}


def pandas_csv(text=None):
    frame = pandas.read_csv(file("csv")) if text is None else text
    for name in UNITS:
        # Of texts it makes what holds the years 1 to 9999, but for those of nanoseconds.
        frame[name] = pandas.to_datetime(frame[name], format="ISO8601", utc=True)
    frame["day"] = [day.date() for day in pandas.to_datetime(frame["day"], format="ISO8601")]
    return of_pandas(frame)


def pandas_ndjson():
    return pandas_csv(pandas.read_json(file("ndjson"), lines=True, convert_dates=False))


def pandas_parquet():
    return of_pandas(pandas.read_parquet(file("parquet")))


def of_polars(frame):
    columns = {}
    for name in UNITS:
        kind = frame[name].dtype
        assert kind.time_zone == "UTC", kind
        columns[name] = [v * PER_UNIT[kind.time_unit] for v in frame[name].to_physical().to_list()]
    return columns | {"day": frame["day"].to_physical().to_list()}


def polars_csv():
    # It has no seconds.
    units = {"s": "ms", "ms": "ms", "us": "us", "ns": "ns"}
    instants = [
        polars.col(name).str.to_datetime(time_unit=unit, time_zone="UTC", format="%+")
        for name, unit in units.items()
    ]
    frame = polars.read_csv(file("csv"), infer_schema=False)
    return of_polars(frame.with_columns(*instants, polars.col("day").str.to_date()))


def polars_arrow():
    return of_polars(polars.read_ipc_stream(file("arrows")))


def polars_parquet():
    return of_polars(polars.read_parquet(file("parquet")))


def of_duckdb(source):
    connection = duckdb.connect()
    kinds = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    read = {"TIMESTAMP WITH TIME ZONE": ("epoch_us", 1000), "TIMESTAMP_NS": ("epoch_ns", 1)}
    columns = {}
    for name in UNITS:
        function, factor = read[kinds[name]]
        found = connection.execute(f"SELECT {function}({name}) FROM {source}").fetchall()
        columns[name] = [v * factor for v, in found]
    days = connection.execute(f"SELECT date_diff('day', DATE '1970-01-01', day) FROM {source}")
    return columns | {"day": [v for v, in days.fetchall()]}


DUCKDB = "{'s': 'TIMESTAMPTZ', 'ms': 'TIMESTAMPTZ', 'us': 'TIMESTAMPTZ', 'ns': 'TIMESTAMP_NS', 'day': 'DATE'}"


def duckdb_csv():
    return of_duckdb(f"read_csv('{file('csv')}', columns = {DUCKDB}, header = true)")


def duckdb_ndjson():
    return of_duckdb(f"read_ndjson('{file('ndjson')}', columns = {DUCKDB})")


def duckdb_parquet():
    return of_duckdb(f"'{file('parquet')}'")


def clickhouse(extension, name):
    # Avro has no seconds, and ClickHouse takes its milliseconds for what the column has.
    digits = {"s": 3 if name == "Avro" else 0, "ms": 3, "us": 6, "ns": 9}
    factors = {n: 10 ** (9 - d) for n, d in digits.items()}
    kinds = ", ".join(f"{n} DateTime64({d}, \\'UTC\\')" for n, d in digits.items())
    columns = [f"reinterpretAsInt64({n}) AS {n}" for n in UNITS] + ["toInt32(day) AS day"]
    query = (
        f"SELECT {', '.join(columns)} FROM file('{file(extension)}', '{name}', '{kinds}, day Date32')"
        " SETTINGS date_time_input_format = 'best_effort', output_format_json_quote_64bit_integers = 0,"
        " date_time_overflow_behavior = 'throw'"
    )
    rows = json.loads(str(chdb.query(query, "JSONCompact")))["data"]
    columns = dict(zip([*UNITS, "day"], zip(*rows)))
    return {n: [v * factors.get(n, 1) for v in values] for n, values in columns.items()}


READERS = [
    pyarrow_csv, pyarrow_arrow, pyarrow_parquet,
    pandas_csv, pandas_ndjson, pandas_parquet,
    polars_csv, polars_arrow, polars_parquet,
    duckdb_csv, duckdb_ndjson, duckdb_parquet,
]  # fmt: skip
CLICKHOUSE = {"csv": "CSVWithNames", "tsv": "TabSeparatedWithNames", "ndjson": "JSONEachRow",
              "json": "JSONEachRow", "arrows": "ArrowStream", "parquet": "Parquet", "avro": "Avro"}  # fmt: skip

for extension in ["csv", "tsv", "ndjson", "json", "arrows", "parquet", "avro"]:
    urllib.request.urlretrieve(f"{url}.{extension}", file(extension))

differ = 0
readers = {read.__name__: read for read in READERS}
readers |= {f"clickhouse {n}": lambda e=e, n=n: clickhouse(e, n) for e, n in CLICKHOUSE.items()}
for name, read in readers.items():
    try:
        found = read()
    except Exception as error:
        found = repr(error)
    wanted = dict(expected)
    if name == "duckdb_parquet":
        # It reads nanoseconds in UTC as microseconds, what is finer cut off.
        wanted["ns"] = [v // 1000 * 1000 if v > 0 else -(-v // 1000 * 1000) for v in wanted["ns"]]
    if found != wanted:
        differ += 1
        wrong = found if isinstance(found, str) else [(n, [p for p in zip(found[n], wanted[n]) if p[0] != p[1]][:3]) for n in wanted if found[n] != wanted[n]]
        print(f"{name} does not agree: {wrong}")
print(f"{len(readers) - differ} of {len(readers)} agree")
sys.exit(differ > 0)
