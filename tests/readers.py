"""Reads documents with readers that are not ours, for the tests.

The argument names format and reader, such as `parquet-duckdb`. On standard input: documents, each
behind a line of JSON: {"bytes": N, "columns": [[name, type], ...]}. On standard output, for each, a
line of JSON: the reader's error as a text, or {"names": [...], "records": [[value, ...], ...]}, where
a value is null, {"integer": "1"}, {"real": its 64 bits in hexadecimal}, {"text": "a"},
{"blob": base64}, {"instant": "nanoseconds since 1970"}, {"date": days since 1970}, {"boolean": true},
{"decimal": "1.5"} or {"json": any}, as the reader takes it to be. Where it takes it for a text, that
is read by Python's own means.
"""

import base64
import dataclasses
import datetime
import decimal
import io
import itertools
import json
import math
import os
import struct
import sys
import tempfile

DUCKDB = {
    "integer": "BIGINT",
    "real": "DOUBLE",
    "text": "VARCHAR",
    "blob": "VARCHAR",
    "timestamp": "VARCHAR",
    "date": "DATE",
    "boolean": "BOOLEAN",
    "decimal": "VARCHAR",
    "json": "JSON",
}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass
class Instant:
    nanoseconds: int


@dataclasses.dataclass
class Json:
    value: object


def instant(moment):
    """The instant of a datetime, which has an offset."""
    return Instant((moment - EPOCH) // datetime.timedelta(microseconds=1) * 1000)


def meant(text, kind):
    """What a text stands for in a column of that type."""
    if kind == "timestamp":
        seconds, _, fraction = text.removesuffix("Z").partition(".")
        assert text.endswith("Z") and len(fraction) in (0, 3, 6, 9), text
        nanoseconds = int(fraction.ljust(9, "0"))
        return Instant(instant(datetime.datetime.fromisoformat(seconds + "+00:00")).nanoseconds + nanoseconds)
    if kind == "date":
        return datetime.date.fromisoformat(text)
    if kind == "boolean":
        return {"true": True, "false": False}[text]
    if kind == "decimal":
        return decimal.Decimal(text)
    return Json(json.loads(text)) if kind == "json" else text


def tagged(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return {"boolean": value}
    if isinstance(value, datetime.datetime):
        value = instant(value)
    if isinstance(value, Instant):
        return {"instant": str(value.nanoseconds)}
    if isinstance(value, datetime.date):
        return {"date": (value - EPOCH.date()).days}
    if isinstance(value, decimal.Decimal):
        text = format(value, "f")
        text = text.rstrip("0").removesuffix(".") if "." in text else text
        return {"decimal": "0" if text == "-0" else text}
    if isinstance(value, Json):
        return {"json": value.value}
    if isinstance(value, int):
        return {"integer": str(value)}
    if isinstance(value, float):
        bits = struct.pack(">d", math.nan if math.isnan(value) else value)
        return {"real": bits.hex()}
    if isinstance(value, (bytes, bytearray)):
        return {"blob": base64.b64encode(value).decode()}
    return {"text": value}


def by_columns(names, columns):
    return {"names": names, "records": [list(record) for record in zip(*columns)]}


def xml_lxml(document, columns):
    from lxml import etree

    nil = "{http://www.w3.org/2001/XMLSchema-instance}nil"
    parser = etree.XMLParser(recover=False, resolve_entities=False, huge_tree=True)
    root = etree.fromstring(document, parser)
    if root.tag != "records" or any(record.tag != "record" for record in root):
        raise ValueError("not records of records")
    names = [column.tag for column in root[0]] if len(root) else []
    text = lambda column: None if column.get(nil) == "true" else column.text or ""
    return {"names": names, "records": [[text(column) for column in record] for record in root]}


def in_file(document):
    """DuckDB reads files."""
    file = tempfile.NamedTemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    file.write(document)
    file.flush()
    return file


def duckdb_columns(columns, kinds):
    quoted = lambda text: "'" + text.replace("'", "''") + "'"
    return "{" + ", ".join(f"{quoted(name)}: '{kinds(kind)}'" for name, kind in columns) + "}"


def duckdb_rows(query, document):
    import duckdb

    with in_file(document) as file:
        cursor = duckdb.connect()
        cursor.execute(query.replace("$file", f"'{file.name}'"))
        names = [column[0] for column in cursor.description]
        return {"names": names, "records": [list(row) for row in cursor.fetchall()]}


def ndjson_duckdb(document, columns):
    kinds = duckdb_columns(columns, DUCKDB.get)
    size = "maximum_object_size = 16000000"
    return duckdb_rows(f"SELECT * FROM read_ndjson($file, columns = {kinds}, {size})", document)


def ndjson_pandas(document, columns):
    import pandas

    # Else it takes some texts for dates, and some names for numbers.
    plain = {"dtype": False, "convert_axes": False, "precise_float": True}
    if not document:
        return {"names": [name for name, _ in columns], "records": []}
    frame = pandas.read_json(io.BytesIO(document), lines=True, **plain)
    missing = lambda value: value is None or isinstance(value, float) and math.isnan(value)
    values = [[None if missing(v) else v for v in frame[name].tolist()] for name in frame]
    return by_columns(list(frame), values)


def tsv_duckdb(document, columns):
    escapes = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}

    def plain(text):
        if text is None or "\\" not in text:
            return text
        parts = iter(text)
        return "".join(escapes[next(parts)] if part == "\\" else part for part in parts)

    names = document.decode().split("\n", 1)[0].split("\t")
    kinds = duckdb_columns([(f"c{i}", "text") for i in range(len(names))], DUCKDB.get)
    read = duckdb_rows(
        f"SELECT * FROM read_csv($file, columns = {kinds}, auto_detect = false, header = true, "
        "delim = '\t', quote = '', escape = '', nullstr = '\\N', new_line = '\\n', "
        "max_line_size = 16000000)",
        document,
    )
    records = [[plain(value) for value in record] for record in read["records"]]
    return {"names": [plain(name) for name in names], "records": records}


def csv_duckdb(document, columns):
    kinds = duckdb_columns(columns, lambda _: "VARCHAR")
    return duckdb_rows(
        f"SELECT * FROM read_csv($file, columns = {kinds}, auto_detect = false, header = true, "
        "delim = ',', quote = '\"', escape = '\"', max_line_size = 16000000)",
        document,
    )


def json_python(document, columns):
    records = json.loads(document)
    exact = json.loads(document, parse_float=decimal.Decimal, parse_int=decimal.Decimal)
    names = list(records[0]) if records else []
    kinds = dict(columns)

    def value(record, name):
        kind, found = kinds.get(name), records[record][name]
        if kind == "decimal":
            return exact[record][name]
        return Json(found) if kind == "json" and found is not None else found

    return {"names": names, "records": [[value(r, n) for n in names] for r in range(len(records))]}


def avro_fastavro(document, columns):
    import fastavro

    reader = fastavro.reader(io.BytesIO(document))
    names = [field["name"] for field in reader.writer_schema["fields"]]
    return {"names": names, "records": [[record[name] for name in names] for record in reader]}


def from_arrow(table):
    import pyarrow

    table.validate(full=True)
    factors = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

    def values(column):
        if not pyarrow.types.is_timestamp(column.type):
            return column.to_pylist()
        assert column.type.tz == "UTC"
        factor = factors[column.type.unit]
        return [None if v is None else Instant(v * factor) for v in column.cast(pyarrow.int64()).to_pylist()]

    return by_columns(table.column_names, [values(column) for column in table.columns])


def arrow_pyarrow(document, columns):
    import pyarrow

    with pyarrow.ipc.open_stream(document) as stream:
        return from_arrow(stream.read_all())


def parquet_pyarrow(document, columns):
    import pyarrow
    import pyarrow.parquet

    return from_arrow(pyarrow.parquet.read_table(pyarrow.BufferReader(document)))


def parquet_groups(document, columns):
    """Of each row group: its rows; the least and greatest value of its first column, as its statistics
    say and as they are."""
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(document))
    groups = []
    for at in range(file.num_row_groups):
        group = file.metadata.row_group(at)
        said = group.column(0).statistics
        found = pyarrow.compute.min_max(file.read_row_group(at).column(0)).as_py()
        groups.append([group.num_rows, said.min, said.max, found["min"], found["max"]])
    return {"names": ["rows", "said min", "said max", "min", "max"], "records": groups}


def parquet_codecs(document, columns):
    """Of each column in each row group, how its pages are compressed."""
    import pyarrow
    import pyarrow.parquet

    metadata = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(document)).metadata
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    codecs = [[group.column(at).compression] for group in groups for at in range(group.num_columns)]
    return {"names": ["codec"], "records": codecs}


def parquet_duckdb(document, columns):
    import duckdb

    # It gives Python no instants without another package, but their integers.
    with in_file(document) as file:
        from_file = f"FROM read_parquet('{file.name}')"
        found = duckdb.connect().execute(f"DESCRIBE SELECT * {from_file}").fetchall()
    selected = []
    for name, kind, *_ in found:
        name = '"' + name.replace('"', '""') + '"'
        known = {"TIMESTAMP WITH TIME ZONE": "epoch_us", "TIMESTAMP_NS": "epoch_ns"}
        selected.append(f"{known[kind]}({name}) AS {name}" if kind in known else name)
    read = duckdb_rows(f"SELECT {', '.join(selected)} FROM read_parquet($file)", document)
    factors = {"TIMESTAMP WITH TIME ZONE": 1000, "TIMESTAMP_NS": 1}
    for record in read["records"]:
        for at, (_, kind, *_) in enumerate(found):
            if kind in factors and record[at] is not None:
                record[at] = Instant(record[at] * factors[kind])
    return read


def answer(read, head):
    document = sys.stdin.buffer.read(head["bytes"])
    columns = head["columns"]
    try:
        answer = read(document, columns)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    kinds = [kind for _, kind in columns] or itertools.repeat("text")
    texts = lambda v, kind: meant(v, kind) if isinstance(v, str) else v
    answer["records"] = [
        [tagged(texts(*v)) for v in zip(record, kinds)] for record in answer["records"]
    ]
    return answer


if __name__ == "__main__":
    read = globals()[sys.argv[1].replace("-", "_")]
    for line in sys.stdin.buffer:
        print(json.dumps(answer(read, json.loads(line))), flush=True)
