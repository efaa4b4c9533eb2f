"""Asks a server random questions about tables with times, days, booleans, decimals, JSON, and ids that
are strings, in every way that a database may hold them, and compares its answers to Python's.

    typed_differential.py FLOWS [--seconds N] [--seed SEED] [--round N]

As differential.py: a round is a database, a server of it and some requests.
"""

import datetime
import json
import math
import random as randoms
import sqlite3
import sys
import urllib.parse
from decimal import Decimal
from fractions import Fraction

import oracle
from differential import Difference, Server, check, main

REQUESTS = 40
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
FIRST, LAST = -62135596800, 253402300799
SPELLINGS = ["YYYY-MM-DD HH:MM:SS.f*", "YYYY-MM-DDTHH:MM:SS.f*+00:00", "YYYY-MM-DD", "YYYY-MM-DDTHH:MM", "YYYY-MM-DD HH:MM:SS",
             "YYYY-MM-DDTHH:MM:SSZ", "YYYY-MM-DDTHH:MM:SS.fffZ", "YYYY-MM-DD HH:MM:SS.ffffff", "YYYY-MM-DDTHH:MM:SS.fffffffff+00:00"]


def day_text(days):
    return (datetime.date(1, 1, 1) + datetime.timedelta(days=days + 719162)).isoformat()


def spelled(spelling, unit, value):
    """An instant as text; whoever calls has made sure that nothing is lost."""
    seconds, fraction = divmod(value, UNITS[unit])
    days, second = divmod(seconds, 86400)
    nine = f"{fraction * (10**9 // UNITS[unit]):09}"
    text = spelling.replace("YYYY-MM-DD", day_text(days)).replace("HH:MM", f"{second // 3600:02}:{second // 60 % 60:02}")
    text = text.replace(":SS", f":{second % 60:02}")
    if ".f*" in text:
        # As Python does: six digits, or none.
        digits = nine if int(nine) % 1000 else nine[:6]
        return text.replace(".f*", f".{digits}" if int(nine) else "")
    for digits in (9, 6, 3):
        text = text.replace("." + "f" * digits, f".{nine[:digits]}")
    return text


def coarsest(spelling, unit):
    """What a value must be a multiple of to be spelled so."""
    digits = 9 if ".f*" in spelling else spelling.count("f")
    if ":SS" not in spelling:
        return UNITS[unit] * (60 if "HH" in spelling else 86400)
    return max(1, UNITS[unit] // 10**digits)


class Time:
    """A column of timestamps."""

    type = "timestamp"

    def __init__(self, random, name, nullable=False):
        self.name, self.nullable = name, nullable
        self.unit = random.choice(list(UNITS))
        self.stored = random.choice(["epoch", "epoch", "epoch_real", "iso8601", "iso8601", "iso8601"])
        self.spelling = random.choice(SPELLINGS)
        text = random.choice(["TEXT", "DATETIME", "TIMESTAMP", "", "TEXT COLLATE NOCASE"])
        self.declared = {"epoch": "INTEGER", "epoch_real": random.choice(["REAL", "NUMERIC", ""]), "iso8601": text}[self.stored]
        per = UNITS[self.unit]
        if self.unit == "ns":
            self.least, self.most = -(2**63) + 10**9, 2**63 - 10**9
        else:
            self.least, self.most = FIRST * per, (LAST + 1) * per - 1
        self.step = coarsest(self.spelling, self.unit) if self.stored == "iso8601" else 1

    def value(self, random):
        per = UNITS[self.unit]
        near = [0, 1767225610 * per, self.least, self.most, -per, 951782400 * per, 1709164800 * per]
        spread = random.choice([1, 10, per, 86400 * per, 400 * 86400 * per])
        value = random.choice(near) + random.randint(-20, 20) * spread + random.choice([0, 0, random.randint(0, per)])
        value = max(self.least, min(self.most, value))
        value -= value % self.step
        if value < self.least:
            value += self.step
        if self.stored != "epoch_real":
            return value
        # Reals are far apart at the ends, and what is read of one need not be read of the nearest to it.
        value = max(self.least + per * 10**6, min(self.most - per * 10**6, value))
        return value if self.read(self.held(value)) == value else value - value % per

    def held(self, value):
        if value is None or self.stored == "epoch":
            return value
        if self.stored == "iso8601":
            return spelled(self.spelling, self.unit, value)
        return value / UNITS[self.unit]

    def read(self, real):
        whole = math.floor(real)
        fraction = (real - whole) * UNITS[self.unit]
        return whole * UNITS[self.unit] + int(fraction + 0.5)

    def sent(self, value):
        text = spelled("YYYY-MM-DDTHH:MM:SS", self.unit, value)
        fraction = value % UNITS[self.unit]
        digits = DIGITS[self.unit]
        return f"{text}.{fraction:0{digits}}Z" if digits else f"{text}Z"

    def operand(self, random, values):
        """What it stands for, in the unit, and how a client writes it."""
        value = random.choice(values) if values and random.random() < 0.8 else self.value(random)
        value = max(self.least, min(self.most, value + random.choice([0, 0, 0, -1, 1]) * random.choice([1, self.step])))
        kind = random.choice(["integer", "utc", "offset", "finer", "day"])
        per = UNITS[self.unit]
        if kind == "integer":
            return Fraction(value), str(value)
        seconds, fraction = divmod(value, per)
        if kind == "day":
            days = seconds // 86400
            if FIRST // 86400 * 86400 * per >= self.least or self.least <= days * 86400 * per <= self.most:
                return Fraction(days * 86400 * per), day_text(days)
        if kind == "finer":
            nine = fraction * (10**9 // per)
            nine += random.randrange(0, 10**9 // per)
            exact = Fraction(seconds * per) + Fraction(nine * per, 10**9)
            return exact, spelled("YYYY-MM-DDTHH:MM:SS", "s", seconds) + f".{nine:09}Z"
        if kind == "offset" and FIRST + 86400 < seconds < LAST - 86400:
            minutes = random.choice([-720, -330, -1, 0, 60, 330, 840])
            offset = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
            local = value + minutes * 60 * per
            return Fraction(value), self.sent(local)[:-1].replace("T", random.choice("T ")) + offset
        return Fraction(value), self.sent(value)

    def configuration(self):
        keys = [f'type = "timestamp", unit = "{self.unit}", stored = "{self.stored}"']
        if self.stored == "iso8601":
            keys.append(f'spelling = "{self.spelling}"')
        return ", ".join(keys)


class Day:
    type = "date"

    def __init__(self, random, name):
        self.name, self.nullable = name, True
        self.stored = random.choice(["iso8601", "days"])
        self.declared = {"iso8601": random.choice(["DATE", "TEXT"]), "days": "INTEGER"}[self.stored]

    def value(self, random):
        return random.choice([-719162, 2932896, 0, -1, 20454, random.randint(-719162, 2932896), random.randint(20000, 20010)])

    def held(self, value):
        return value if value is None or self.stored == "days" else day_text(value)

    def sent(self, value):
        return day_text(value)

    def operand(self, random, values):
        value = random.choice(values) if values and random.random() < 0.8 else self.value(random)
        return Fraction(value), day_text(value)

    def configuration(self):
        return f'type = "date", stored = "{self.stored}"'


class Boolean:
    type = "boolean"

    def __init__(self, random, name):
        self.name, self.nullable = name, True
        self.declared = random.choice(["BOOLEAN", "INTEGER", "TEXT", ""])
        self.spelled = random.choice([[(0, 1)], [("f", "t")], [("false", "true")], [(0, 1), ("f", "t"), ("false", "true")]])
        self.random = random

    def value(self, random):
        return random.randint(0, 1)

    def held(self, value):
        return None if value is None else self.random.choice(self.spelled)[value]

    def sent(self, value):
        return bool(value)

    def operand(self, random, values):
        value = random.randint(0, 1)
        return Fraction(value), ["false", "true"][value]

    def configuration(self):
        return 'type = "boolean"'


class Exact:
    type = "decimal"

    def __init__(self, random, name):
        self.name, self.nullable = name, True
        self.scale = random.choice([0, 2, 2, 10])
        self.precision = self.scale + random.choice([1, 5, 10])
        self.declared = random.choice(["TEXT", "decimal(10, 2)", ""])
        if self.declared.startswith("decimal"):
            # Reals have 15 digits.
            self.precision = min(self.precision, 14)

    def value(self, random):
        most = 10**self.precision - 1
        number = random.choice([0, 1, -1, most, -most, random.randint(-most, most), random.randint(-500, 500)])
        number = max(-most, min(most, number))
        return Decimal(number).scaleb(-self.scale)

    def held(self, value):
        return None if value is None else f"{value:f}"

    def sent(self, value):
        return value

    def operand(self, random, values):
        value = random.choice(values) if values and random.random() < 0.8 else self.value(random)
        finer = random.choice([Decimal(0), Decimal(0), Decimal(1).scaleb(-self.scale - 1), Decimal(1).scaleb(-self.scale)])
        value += finer
        return Fraction(value), f"{value:f}"

    def configuration(self):
        return f'type = "decimal", precision = {self.precision}, scale = {self.scale}'


IDS = {
    "rowid alias": ("id INTEGER PRIMARY KEY", "integer", "id"),
    "rowid": ("x", "integer", "rowid"),
    "text": ("id TEXT PRIMARY KEY", "text", "id"),
    "text, nocase": ("id TEXT COLLATE NOCASE PRIMARY KEY", "text", "id"),
    "text, clustered": ("id TEXT PRIMARY KEY", "text", "id"),
}


class Table:
    def __init__(self, random, path):
        self.kind = random.choice(list(IDS))
        definition, self.id_type, self.id = IDS[self.kind]
        encoding = random.choice(["UTF-8", "UTF-8", "UTF-16le"])
        self.time = Time(random, "time")
        kinds = [lambda r, n: Time(r, n, True), Day, Boolean, Exact]
        self.columns = [random.choice(kinds)(random, f"c{i}") for i in range(random.randint(0, 4))]
        self.sends_id = random.random() < 0.7
        suffix = " WITHOUT ROWID" if self.kind == "text, clustered" else ""
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute(f"PRAGMA journal_mode = {random.choice(['WAL', 'DELETE'])}")
        columns = ", ".join(f"{c.name} {c.declared}" for c in [self.time, *self.columns])
        connection.execute(f"CREATE TABLE t ({definition}, {columns}){suffix}")
        if random.random() < 0.7:
            connection.execute(f"CREATE INDEX by_time ON t (time{random.choice(['', '', ', id']) if self.id == 'id' else ''})")
        ids = set()
        self.records = []
        for number in range(random.choice([0, 1, 50, 500, 500, 3000])):
            id = self.some_id(random, number)
            folded = id.lower() if isinstance(id, str) else id
            if folded in ids:
                continue
            ids.add(folded)
            values = [None if c.nullable and random.random() < 0.2 else c.value(random) for c in self.columns]
            self.records.append((self.time.value(random), id, values))
        marks = ", ".join(["?"] * (len(self.columns) + 2))
        name = "rowid" if self.id == "rowid" else "id"
        rows = [
            (id, self.time.held(when), *(c.held(v) for c, v in zip(self.columns, values)))
            for when, id, values in self.records
        ]
        connection.execute("BEGIN")
        names = ", ".join(c.name for c in [self.time, *self.columns])
        connection.executemany(f"INSERT INTO t ({name}, {names}) VALUES ({marks})", rows)
        connection.execute("COMMIT")
        connection.close()

    def some_id(self, random, number):
        if self.id_type == "integer":
            return random.randint(-(10**6), 10**6)
        return random.choice([
            lambda: f"{random.getrandbits(128):032x}",
            lambda: f"id {number}:{random.choice('/?#&=+;,')}",
            lambda: random.choice(["é", "😀", "\uffee", "Z", "z", " "]) * random.randint(1, 3) + str(random.randint(0, 99)),
        ])()

    def place(self, record, order):
        id = record[1].encode() if isinstance(record[1], str) else record[1]
        return (id,) if order == "id" else (record[0], id)

    def written(self, record, order):
        id = urllib.parse.quote(record[1], safe="") if isinstance(record[1], str) else str(record[1])
        return id if order == "id" else f"{record[0]}:{id}"

    def sent(self, record):
        when, id, values = record
        row = {"id": id} if self.sends_id and self.id == "id" else {}
        row["time"] = self.time.sent(when)
        row |= {c.name: None if v is None else c.sent(v) for c, v in zip(self.columns, values)}
        return row

    def configuration(self):
        columns = [f'{{ name = "time", {self.time.configuration()} }}']
        columns += [f'{{ name = "{c.name}", nullable = true, {c.configuration()} }}' for c in self.columns]
        id = f'"{self.id}"'
        if self.sends_id and self.id == "id":
            columns.insert(0, f'{{ name = "id", type = "{self.id_type}" }}')
        else:
            id = f'{{ name = "{self.id}", type = "{self.id_type}" }}'
        return f'[[streams]]\nname = "t"\ntable = "t"\ntime = "time"\nid = {id}\ncolumns = [{", ".join(columns)}]\n'


COMPARISONS = {name: oracle.COMPARISONS[name] for name in ("eq", "ne", "gt", "gte", "lt", "lte")}


def question(random, table, server):
    order = random.choice(["time", "time", "id"])
    parts = [("format", "ndjson"), ("order", order)]
    place = lambda record: table.place(record, order)
    tests = []
    times = [when for when, *_ in table.records]
    for name, holds in [("scanned_after", lambda a, b: a > b), ("scanned_before", lambda a, b: a <= b)]:
        if random.random() < 0.4:
            bound, text = table.time.operand(random, times)
            parts.append((name, text))
            tests.append(lambda r, bound=bound, holds=holds: holds(r[0], bound))
    for name, holds in [("after", lambda a, b: a > b), ("until", lambda a, b: a <= b)]:
        if table.records and random.random() < 0.3:
            record = random.choice(table.records)
            parts.append((name, table.written(record, order)))
            tests.append(lambda r, p=place(record), holds=holds: holds(place(r), p))
    for at, column in enumerate(table.columns):
        if random.random() < 0.25:
            values = [r[2][at] for r in table.records if r[2][at] is not None]
            operator = random.choice([*COMPARISONS, "in", "is", "not"])
            if operator in ("is", "not"):
                parts.append((column.name, f"{operator}.null"))
                tests.append(lambda r, at=at, wanted=operator == "is": (r[2][at] is None) == wanted)
                continue
            if operator == "in":
                operands = [column.operand(random, values) for _ in range(3)]
                parts.append((column.name, "in.(" + ",".join(text for _, text in operands) + ")"))
                wanted = [operand for operand, _ in operands]
                tests.append(lambda r, at=at, wanted=wanted: r[2][at] is not None and Fraction(r[2][at]) in wanted)
                continue
            operand, text = column.operand(random, values)
            parts.append((column.name, f"{operator}.{text}"))
            holds = COMPARISONS[operator]
            tests.append(lambda r, at=at, o=operand, h=holds: r[2][at] is not None and h(Fraction(r[2][at]), o))
    expected = sorted((r for r in table.records if all(test(r) for test in tests)), key=place)
    limit = random.choice([None, None, 1, 7, 100, len(expected), len(expected) + 1])
    if limit:
        parts.append(("limit", limit))
    path = f"/api/v1/stream/t?{urllib.parse.urlencode(parts)}"
    try:
        compare(table, server, order, path, expected, limit)
    except Exception as error:
        raise Difference(f"{table.kind}: {path}\n  {urllib.parse.unquote(path)}: {error}") from error


def compare(table, server, order, path, expected, limit):
    found, pages, next = [], 0, path
    while next and pages < 30:
        status, headers, body = server.get(next, "identity")
        check(status == 200 and body is not None, "page", pages, "status", status, body)
        rows = [json.loads(line, parse_float=Decimal) for line in body.decode().split("\n")[:-1]]
        if limit:
            check(len(rows) <= limit, len(rows), "records of a page")
        found += rows
        if rows and limit and len(rows) == limit:
            position = headers["Flows-Position"]
            last = table.written(expected[len(found) - 1], order)
            check(position == last, "Flows-Position", position, "not", last)
        link = headers["Link"]
        check(link is None or limit, "a link without a limit", link)
        next, pages = link and urllib.parse.urljoin(next, link.split(">")[0][1:]), pages + 1
    wanted = [table.sent(record) for record in expected]
    for at, (got, want) in enumerate(zip(found, wanted)):
        check(got == want, f"record {at} is\n    {got}, not\n    {want}")
    if not next:
        check(len(found) == len(wanted), len(found), "records, not", len(wanted))


def round(command, seed, number, folder):
    random = randoms.Random(f"{seed}/{number}")
    table = Table(random, f"{folder}/flows.db")
    server = Server(command, folder, table.configuration())
    try:
        for _ in range(REQUESTS):
            question(random, table, server)
        server.end()
    finally:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(round, REQUESTS, 30, "flows-typed-"))
