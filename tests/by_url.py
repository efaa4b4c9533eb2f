"""Has polars and DuckDB read a Parquet file by its URL, the argument: parts of it, as they need them. Each prints how
many records it has, and the sum of their bytes.
"""

import pathlib
import sys

import duckdb
import duckdb_extension_httpfs
import polars

(url,) = sys.argv[1:]

scanned = polars.scan_parquet(url).select(polars.len(), polars.col("byte_count").sum())
print(*scanned.collect().row(0))

folder = pathlib.Path(duckdb_extension_httpfs.__file__).parent
(extension,) = folder.rglob("httpfs.duckdb_extension")
database = duckdb.connect()
database.execute(f"LOAD '{extension}'")
print(*database.execute("SELECT count(*), sum(byte_count) FROM read_parquet(?)", [url]).fetchone())
