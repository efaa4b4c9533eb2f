"""Random tables, made with Python's sqlite3, and what they hold."""

import json
import os
import sqlite3
import struct

import oracle

ENDS = [oracle.LEAST, oracle.LEAST + 1, oracle.MOST - 1, oracle.MOST]
# Where SQLite needs a byte more, and where reals are no longer exact.
EDGES = [s * (2**n) + d for n in (7, 15, 23, 31, 47, 53) for s in (1, -1) for d in (-1, 0, 1)]
AFFINITIES = ["INTEGER", "BIGINT", "REAL", "DOUBLE", "TEXT", "VARCHAR(9)", "BLOB", "NUMERIC", ""]
OWN = {"integer": "INTEGER", "real": "REAL", "text": "TEXT", "blob": "BLOB"}
STRINGS = ["", " ", "a", "A", "b,c", '"', "'", "\n", "\t\r\n", "\\N", "\\", "nul\0nul", "é€😀", "e\u0301",
           "<&>]]>", "\u0001\u001f", "\u2028\ufeff", "null", "NaN", "0", "-7", "1.5", "1e3", "gt.5", "C17*", "?"]
BROKEN = [b"\xff", b"a\x80b", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xc3(", b"ok \xe2\x82"]


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def literal(value):
    """A value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return "9e999" if value == float("inf") else repr(value)


class BrokenText(bytes):
    """A string that is not UTF-8."""


class Column:
    def __init__(self, random, name, type=None, declared=None):
        self.name = name
        self.type = type or random.choice(list(OWN))
        own = random.random() < 0.7
        self.declared = declared if declared is not None else (OWN[self.type] if own else random.choice(AFFINITIES))
        self.affinity = oracle.affinity(self.declared)
        self.nullable = random.random() < 0.7
        self.hidden = False
        # How many values are of other types, but stand for one of this; and how many do not.
        self.foreign = random.choice([0, 0, 0.1, 1])
        self.wrong = random.choice([0] * 9 + [0.002])
        # How many strings are long; all are where a document must have many chunks, and slices.
        self.long = random.choice([0, 0, 0, 0, 0.01, 0.01, 0.01, 1])
        self.collation = " COLLATE NOCASE" if self.affinity == "text" and random.random() < 0.2 else ""

    def sql(self):
        return f"{quoted(self.name)} {self.declared}{self.collation}"


class Record:
    def __init__(self, time, id, values):
        self.time, self.id, self.values = time, id, values


class Values:
    """Random values for a database of an encoding and a page size."""

    def __init__(self, random, encoding, page_size):
        self.random, self.encoding, self.page_size = random, encoding, page_size

    def integer(self, column):
        random = self.random
        if column.type != "integer" and column.affinity == "real":
            # Versions of SQLite write large reals with other digits.
            return random.randint(-1000, 1000)
        return random.choice([
            lambda: random.randint(-3, 3),
            lambda: random.randint(-1000, 1000),
            lambda: random.choice(EDGES),
            lambda: random.choice(ENDS),
            lambda: random.randint(oracle.LEAST, oracle.MOST),
        ])()

    def real(self, column):
        random = self.random
        plain = lambda: random.randint(-4000, 4000) / 8
        if column.type in ("text", "blob"):
            # As above.
            return plain()
        return random.choice([
            plain,
            plain,
            lambda: float(random.randint(-5, 5)),
            lambda: random.choice([-0.0, 2.0**53, -(2.0**53) - 2, 5e-324, 1.7976931348623157e308, 0.1]),
            lambda: random.choice([float("inf"), float("-inf")]),
            lambda: struct.unpack("<d", random.randbytes(8))[0],
        ])()

    def text(self, column):
        random = self.random
        if random.random() < column.long:
            if column.long == 1:
                return f"{random.choice(STRINGS)} {random.randint(0, 50)} " + "long " * random.randint(0, 300)
            length = random.choice([self.page_size // 4, self.page_size, 3 * self.page_size])
            return random.choice("xé") * random.randint(0, min(length, 70_000))
        if random.random() < 0.02 and self.encoding == "UTF-8":
            return BrokenText(random.choice(BROKEN))
        if random.random() < 0.5:
            return random.choice(STRINGS)
        return f"string {random.randint(0, 50)}"

    def value(self, column):
        """A value for a column, by how clean it is."""
        random = self.random
        if random.random() < (0.1 if column.nullable else column.wrong / 4):
            return None
        type = column.type
        if random.random() < column.wrong:
            return random.choice(["x", b"\x00\x01", 0.5, 1000])
        if random.random() < column.foreign:
            if type == "integer":
                return random.choice([lambda: str(self.integer(column)), lambda: float(random.randint(-9, 9))])()
            if type == "real":
                return random.choice([lambda: random.randint(-99, 99), lambda: "1.25", lambda: "-3e2"])()
            type = random.choice(list(OWN))
        if type == "blob":
            blob = random.randbytes(random.choice([0, 1, 5, 50]))
            # As UTF-16, half a character is what SQLite makes of it.
            return blob if self.encoding == "UTF-8" or column.type == "blob" else b"ab"
        return getattr(self, type)(column)


# How a table orders its records: what its columns `time` and `id` are, what follows the columns,
# what follows the statement, and the indexes.
KINDS = {
    "clustered": ("INTEGER", "INTEGER", ", PRIMARY KEY (time, id)", " WITHOUT ROWID", []),
    "clustered by id": ("INTEGER", "INTEGER", ", PRIMARY KEY (id)", " WITHOUT ROWID", ["time, id"]),
    "clustered by id and time": ("INTEGER", "INTEGER", ", PRIMARY KEY (id, time)", " WITHOUT ROWID", []),
    "clustered, descending": ("INTEGER", "INTEGER", ", PRIMARY KEY (time DESC, id DESC)", " WITHOUT ROWID", []),
    "clustered, time first": ("BIGINT", "INT", ", PRIMARY KEY (time, id)", " WITHOUT ROWID", ["id"]),
    "rowid": ("INTEGER", "INTEGER PRIMARY KEY", "", "", ["time"]),
    "indexed": ("INTEGER", "INTEGER", "", "", ["time, id", "id"]),
    "unique": ("NUMERIC", "NUMERIC", ", UNIQUE (time, id)", "", []),
    "descending": ("INTEGER", "INTEGER", "", "", ["time DESC, id DESC"]),
    "bare": ("INTEGER", "INTEGER", "", "", []),
    "untyped": ("", "", "", "", ["CAST(time AS INTEGER), CAST(id AS INTEGER)"]),
    "strings": ("TEXT", "TEXT", "", "", []),
}


class Stream:
    """A table or a view of one, its stream in the configuration, and its records."""

    def __init__(self, random, connection, values, name):
        self.random, self.connection, self.values, self.name = random, connection, values, name
        self.table = name if random.random() < 0.7 else f'the "{name}"'
        # Of those whose pages are read there is most to go wrong.
        self.kind = random.choice(["clustered"] * 5 + list(KINDS))
        time, id, constraint, suffix, indexes = KINDS[self.kind]
        key = lambda name, declared: Column(random, name, "integer", declared)
        names = [lambda i: f"c{i}"] * 6 + [lambda i: f"c {i}", lambda i: f'"{i}"', lambda i: f"ü{i}", lambda i: f"C{i}x"]
        count = random.choice([0, 1, 2, 3, 5, 8, 8, 8, 40])
        columns = [Column(random, random.choice(names)(i)) for i in range(count)]
        self.time, self.id = key("time", time), key("id", id)
        for column in (self.time, self.id):
            column.nullable = False
            columns.insert(random.randint(0, len(columns)), column)
        late = [c for c in columns if c.name not in ("time", "id") and random.random() < 0.15]
        late = late if random.random() < 0.4 else []
        self.columns = [c for c in columns if c not in late]
        body = ", ".join(column.sql() for column in self.columns)
        connection.execute(f"CREATE TABLE {quoted(self.table)} ({body}{constraint}){suffix}")
        before = list(indexes) if random.random() < 0.5 else []
        indexes = [] if before else list(indexes)
        if self.columns and random.random() < 0.3:
            indexes.append(quoted(random.choice(self.columns).name))
        self.count = random.choice([0, 1, 10, 300, 2000, 2000, 5000])
        # The places are drawn at once, so that no two records have the same.
        places = self.places()
        half = random.randint(0, len(places)) if late else len(places)
        self.index(before)
        self.insert(places[:half])
        for column in late:
            default = literal(self.default(column))
            connection.execute(f"ALTER TABLE {quoted(self.table)} ADD COLUMN {column.sql()} DEFAULT {default}")
            self.columns.append(column)
        self.insert(places[half:])
        self.index(indexes)
        if random.random() < 0.4:
            self.delete()
        self.served = self.table
        if random.random() < 0.15:
            self.served = f"{name}_view"
            connection.execute(f"CREATE VIEW {quoted(self.served)} AS {self.view()}")
        for column in self.columns:
            column.hidden = len(self.columns) > 1 and random.random() < 0.1
        if all(column.hidden for column in self.columns):
            self.columns[0].hidden = False
        self.read()

    def view(self):
        select, condition = f"SELECT * FROM {quoted(self.table)}", self.random.choice(["abs(id % 3) = 1", "time > 0"])
        two = [f"{select} WHERE {condition}", f"{select} WHERE NOT {condition}"]
        sorted = [f"SELECT * FROM ({part} ORDER BY time, id)" for part in two]
        return self.random.choice([select, two[0], sorted[0], " UNION ALL ".join(two), " UNION ALL ".join(sorted)])

    def places(self):
        random = self.random
        times = random.choice([
            lambda i: i,
            lambda i: i // 20,
            lambda i: 7,
            lambda i: random.randint(0, 1000),
            lambda i: random.randint(oracle.LEAST, oracle.MOST),
            lambda i: random.choice(ENDS + [0]),
            lambda i: oracle.MOST - i,
        ])
        ids = list(random.choice([
            lambda n: range(1, n + 1),
            lambda n: range(-n, 0),
            lambda n: {random.randint(oracle.LEAST, oracle.MOST) for _ in range(n)} | set(ENDS[: 4 * (n > 10)]),
            lambda n: range(oracle.MOST - n, oracle.MOST),
        ])(self.count))
        if random.random() < 0.5:
            random.shuffle(ids)
        return [(times(i), id) for i, id in enumerate(ids)]

    def insert(self, places):
        """Two parameters for each column: whether the second is a string in bytes, and the value."""
        names = ", ".join(quoted(column.name) for column in self.columns)
        value = ", ".join(["iif(?, CAST(? AS TEXT), ?)"] * len(self.columns))
        as_text = self.random.random() < 0.5
        rows = []
        for place in places:
            place = [str(part) if as_text and self.time.affinity in ("blob", "text") else part for part in place]
            row = []
            for column in self.columns:
                v = self.values.value(column) if column not in (self.time, self.id) else place[column is self.id]
                is_broken = isinstance(v, BrokenText)
                v = bytes(v) if is_broken else v
                row += [is_broken, v, v]
            rows.append(row)
        self.connection.executemany(f"INSERT INTO {quoted(self.table)} ({names}) VALUES ({value})", rows)

    def default(self, column):
        value = self.values.value(column)
        is_plain = value is not None and not isinstance(value, BrokenText) and "\0" not in str(value)
        # Versions of SQLite read a default that is a whole real as an integer, or as a real.
        is_plain = is_plain and not (isinstance(value, float) and value.is_integer())
        # The least integer is none when it is written.
        return value if is_plain and value not in (oracle.LEAST, float("-inf")) and value == value else 7

    def index(self, keys):
        for key in keys:
            count = self.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
            self.connection.execute(f"CREATE INDEX index_{count} ON {quoted(self.table)} ({key})")

    def delete(self):
        where = self.random.choice(["abs(id % 7) = 3", "time > 100", "time % 2", "id < 0", "1"])
        self.connection.execute(f"DELETE FROM {quoted(self.table)} WHERE {where}")

    def read(self):
        """What the table holds, in no order."""
        parts = ["{0}", "typeof({0})", "CAST({0} AS TEXT)", "CAST({0} AS BLOB)"]
        columns = [part.format(quoted(column.name)) for column in self.columns for part in parts]
        self.records = []
        time, id = self.columns.index(self.time), self.columns.index(self.id)
        for row in self.connection.execute(f"SELECT {', '.join(columns)} FROM {quoted(self.served)}"):
            values = [(row[i + 1].decode(), row[i], *row[i + 2 : i + 4]) for i in range(0, len(row), 4)]
            self.records.append(Record(oracle.integer(values[time]), oracle.integer(values[id]), values))

    def configuration(self):
        text = lambda text: json.dumps(text, ensure_ascii=False)
        columns = ",\n".join(
            f"    {{ name = {text(c.name)}, type = {text(c.type)}, nullable = {text(c.nullable)} }}"
            for c in self.columns
            if not c.hidden
        )
        return (
            f"[[streams]]\nname = {text(self.name)}\ntable = {text(self.served)}\n"
            f'time = "time"\nid = "id"\ncolumns = [\n{columns}\n]\n'
        )


def create(random, path):
    """An empty database; a connection to it, its encoding and page size."""
    page_size = random.choice([512, 1024, 4096, 4096, 8192, 65536])
    encoding = random.choice(["UTF-8"] * 8 + ["UTF-16le", "UTF-16be"])
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA page_size = {page_size}; PRAGMA encoding = '{encoding}'; PRAGMA user_version = 1")
    connection.close()
    # Byte 20 says how many bytes at the end of each page are not used; those at 105, where what is.
    reserved = random.choice([0, 0, random.randint(1, 32)])
    with open(path, "r+b") as file:
        os.pwrite(file.fileno(), bytes([reserved]), 20)
        os.pwrite(file.fileno(), struct.pack(">H", (page_size - reserved) % 65536), 105)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.text_factory = bytes
    connection.execute(f"PRAGMA journal_mode = {random.choice(['WAL', 'DELETE'])}")
    connection.execute("PRAGMA synchronous = OFF")
    return connection, encoding, page_size


def database(random, path):
    """A random database at a path: its streams."""
    connection, encoding, page_size = create(random, path)
    values = Values(random, encoding, page_size)
    connection.execute("BEGIN")
    streams = [Stream(random, connection, values, f"s{i}") for i in range(random.randint(1, 4))]
    connection.execute("COMMIT")
    assert connection.execute("PRAGMA integrity_check").fetchone() == (b"ok",)
    connection.close()
    return streams
