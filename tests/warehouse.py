"""Loads each format of a stream into DuckDB, with the types that the BigQuery schema states, and
compares all of them, value by value. The arguments are the stream's URL and its schema's.
"""

import pathlib
import sys
import tempfile

import duckdb
import duckdb_extension_avro
import requests

TYPES = {
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "DATE": "DATE",
    "BOOL": "BOOLEAN",
    "NUMERIC": "DECIMAL({precision},{scale})",
    "BIGNUMERIC": "DECIMAL({precision},{scale})",
}

stream, schema = sys.argv[1:]
fields = requests.get(schema, timeout=60).json()
columns = {field["name"]: TYPES[field["type"]].format(**field) for field in fields}
kinds = "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items()) + "}"
database = duckdb.connect()


def load(name, source):
    nulls = {True: "", False: " NOT NULL"}
    table = ", ".join(
        f'"{f["name"]}" {columns[f["name"]]}{nulls[f["mode"] == "NULLABLE"]}' for f in fields
    )
    database.execute(f"CREATE TABLE {name} ({table})")
    described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    found = {column[0]: column[1] for column in described}
    # DuckDB's Avro has instants without a time zone.
    found = {n: "TIMESTAMP WITH TIME ZONE" if k == "TIMESTAMP" else k for n, k in found.items()}
    assert found == columns, (name, found)
    database.execute(f"INSERT INTO {name} SELECT * FROM {source}")


with tempfile.TemporaryDirectory() as folder:
    for name in ["ndjson", "csv", "avro", "parquet"]:
        with open(f"{folder}/flows.{name}", "wb") as file:
            file.write(requests.get(f"{stream}.{name}", timeout=60).content)
    load("ndjson", f"read_ndjson('{folder}/flows.ndjson', columns = {kinds})")
    load("csv", f"read_csv('{folder}/flows.csv', columns = {kinds}, header = true)")
    load("parquet", f"'{folder}/flows.parquet'")
    extensions = pathlib.Path(duckdb_extension_avro.__file__).parent
    (extension,) = extensions.glob("extensions/*/avro.duckdb_extension")
    database.execute(f"LOAD '{extension}'")
    # DuckDB's Avro has no decimals.
    has_decimals = any(kind.startswith("DECIMAL") for kind in columns.values())
    others = ["csv", "parquet"] if has_decimals else ["csv", "parquet", "avro"]
    if "avro" in others:
        load("avro", f"read_avro('{folder}/flows.avro')")

rows = database.execute("SELECT count(*) FROM ndjson").fetchone()[0]
for name in others:
    for one, other in [("ndjson", name), (name, "ndjson")]:
        differ = f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}"
        assert database.execute(differ).fetchall() == [], (one, other)
print(rows)
