"""Reads documents with readers that are not ours, for the tests.

The argument names format and reader, such as `parquet-duckdb`. On standard input: documents, each
behind a line of JSON: {"bytes": N, "columns": [[name, type], ...]}. On standard output, for each, a
line of JSON: the reader's error as a text, or {"names": [...], "records": [[value, ...], ...]}, where
a value is null, {"integer": "1"}, {"real": its 64 bits in hexadecimal}, {"text": "a"} or
{"blob": base64}, as the reader takes it to be.
"""

import base64
import io
import json
import math
import os
import struct
import sys
import tempfile

DUCKDB = {"integer": "BIGINT", "real": "DOUBLE", "text": "VARCHAR", "blob": "VARCHAR"}


def tagged(value):
    if value is None:
        return None
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
    names = list(records[0]) if records else []
    return {"names": names, "records": [list(record.values()) for record in records]}


def avro_fastavro(document, columns):
    import fastavro

    reader = fastavro.reader(io.BytesIO(document))
    names = [field["name"] for field in reader.writer_schema["fields"]]
    return {"names": names, "records": [[record[name] for name in names] for record in reader]}


def from_arrow(table):
    table.validate(full=True)
    values = [table.column(i).to_pylist() for i in range(table.num_columns)]
    return by_columns(table.column_names, values)


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


def parquet_duckdb(document, columns):
    return duckdb_rows("SELECT * FROM read_parquet($file)", document)


def answer(read, head):
    document = sys.stdin.buffer.read(head["bytes"])
    try:
        answer = read(document, head["columns"])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    answer["records"] = [[tagged(value) for value in record] for record in answer["records"]]
    return answer


if __name__ == "__main__":
    read = globals()[sys.argv[1].replace("-", "_")]
    for line in sys.stdin.buffer:
        print(json.dumps(answer(read, json.loads(line))), flush=True)
