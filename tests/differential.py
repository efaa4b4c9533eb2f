"""Asks a server random questions about random tables, and compares its answers to what Python makes of
the records that Python's sqlite3 reads.

    differential.py FLOWS [--seconds N] [--seed SEED] [--round N]

FLOWS is the command. A round is a database, a server of it and some requests; SEED and its number decide
all of it, so that `--seed SEED --round N` does it again. The first difference ends it with code 1, and
the round's folder stays.
"""

import argparse
import base64
import gzip
import http.client
import os
import random as randoms
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

import oracle
import random_tables
import readers
from backports import zstd

FORMATS = ["json", "ndjson", "xml", "csv", "tsv", "avro", "arrow", "parquet"]
REQUESTS = 60
PATIENCE = 60


class Request:
    """A random request of a stream."""

    def __init__(self, random, stream):
        self.random, self.stream = random, stream
        some = lambda chance, make: make() if random.random() < chance else None
        self.order = random.choice(["time", "time", "id"])
        self.format = random.choice(FORMATS)
        self.coding = random.choice(["identity", "identity", "zstd", "gzip"])
        self.counts = random.random() < 0.15
        records = stream.records
        self.times = [r.time for r in random.sample(records, min(len(records), 20))] + random_tables.ENDS + [0]
        bound = lambda: in_range(random.choice(self.times) + random.choice([-1, 0, 0, 1]))
        self.scanned_after, self.scanned_before = some(0.25, bound), some(0.25, bound)
        self.after, self.until = some(0.25, self.place), some(0.2, self.place)
        limits = [0, 1, 2, 50, len(records) // 2, len(records), len(records) + 1, oracle.MOST]
        self.limit = some(0.4, lambda: random.choice(limits))
        visible = [column for column in stream.columns if not column.hidden]
        self.columns = some(0.25, lambda: random.sample(visible, random.randint(1, len(visible))))
        count = random.choice([0, 0, 0, 1, 1, 2, 3])
        self.filters = [self.filter(random.choice(visible)) for _ in range(count)]

    def place(self):
        records = self.stream.records
        record = self.random.choice(records) if records else random_tables.Record(0, 0, [])
        place = (record.time, record.id)
        if self.random.random() < 0.3:
            place = (self.random.choice(self.times), self.random.choice(random_tables.ENDS + [0, 1, 100]))
        return place[1:] if self.order == "id" else place

    def is_windowed(self):
        return self.scanned_after is not None or self.scanned_before is not None

    def filter(self, column):
        operator = self.random.choice(["eq", "ne", "gt", "gte", "lt", "lte", "in", "like", "is", "not"])
        if operator == "like" and (column.type != "text"):
            operator = "in"
        if operator in ("is", "not"):
            return column, operator, None
        if operator == "in":
            return column, operator, [self.operand(column) for _ in range(self.random.choice([1, 2, 20]))]
        return column, operator, self.operand(column, operator == "like")

    def operand(self, column, is_pattern=False):
        """A value of the column's type, of those that it has more often than not."""
        random = self.random
        records = self.stream.records
        at = self.stream.columns.index(column)
        values = [record.values[at] for record in random.choices(records, k=3)] if records else []
        values = [v for v in (oracle.compared(column, value) for value in values) if v is not None]
        value = random.choice(values) if values and random.random() < 0.8 else None
        if column.type == "integer":
            return in_range((value or 0) + random.choice([-1, 0, 0, 0, 1]))
        if column.type == "real":
            return value if value is not None else random.choice([0.0, -0.0, 1.5, float("inf"), 2.0**60])
        if column.type == "blob":
            return (value if value is not None else b"\x01")[: random.choice([1, 99])]
        try:
            text = (value if value is not None else b"string 7").decode()
        except UnicodeDecodeError:
            text = "broken"
        # A URL has no room for more.
        text = text[: random.choice([3, 200, 200])]
        if not is_pattern:
            return text.encode()
        star = lambda text: text[: random.randint(0, len(text))] + "*"
        return random.choice([star, lambda t: "*" + t[1:], lambda t: star(t) + t[-1:], lambda t: "?" + t[1:], str])(text)

    def path(self):
        """The request's path and query."""
        written = lambda place: ":".join(map(str, place))
        parts = [("format", self.format)] if self.random.random() < 0.9 or self.format != "csv" else []
        parts += [("order", self.order)] if self.order == "id" or self.random.random() < 0.1 else []
        parts += [("count", "exact")] if self.counts else []
        for name in ("scanned_after", "scanned_before", "limit"):
            if getattr(self, name) is not None:
                parts.append((name, str(getattr(self, name))))
        for name in ("after", "until"):
            if getattr(self, name) is not None:
                parts.append((name, written(getattr(self, name))))
        if self.columns:
            quote = lambda name: random_tables.quoted(name) if '"' in name else name
            parts.append(("columns", ",".join(quote(column.name) for column in self.columns)))
        parts += [(column.name, condition(column, *rest)) for column, *rest in self.filters]
        self.random.shuffle(parts)
        extension = "" if any(name == "format" for name, _ in parts) else ".csv"
        return f"/api/v1/stream/{self.stream.name}{extension}?{urllib.parse.urlencode(parts)}"

    def compiled(self):
        """Filters with their patterns as the oracle takes them."""
        self.filters = [
            (column, operator, oracle.is_like(operand) if operator == "like" else operand)
            for column, operator, operand in self.filters
        ]


def in_range(number):
    return max(oracle.LEAST, min(oracle.MOST, number))


def written(value):
    """An operand as a client writes it."""
    if isinstance(value, bytes):
        return value.decode()
    return repr(value) if isinstance(value, float) else str(value)


def condition(column, operator, operand):
    if operator in ("is", "not"):
        return f"{operator}.null"
    write = (lambda v: base64.b64encode(v).decode()) if column.type == "blob" else written
    if operator == "in":
        quote = lambda text: '"' + text.replace('"', '""') + '"'
        return f"in.({','.join(quote(write(value)) for value in operand)})"
    text = operand if operator == "like" else write(operand)
    is_bare = operator == "eq" and re.fullmatch("-?[A-Za-z0-9 ]*", text)
    return text if is_bare else f"{operator}.{text}"


# How each format is read.


def ndjson(document, columns):
    records = [readers.json.loads(line) for line in document.split(b"\n")[:-1]]
    return {"names": list(records[0]) if records else [], "records": [list(r.values()) for r in records]}


def separated(document, columns):
    """CSV, where an empty field is null, and an empty text has quotes; alone in its line, null has, too."""
    field = re.compile('(?:"((?:[^"]|"")*)"|([^,\n"]*))([,\n])')
    rows, at, text = [[]], 0, document.decode()
    while at < len(text):
        match = field.match(text, at)
        quotes, bare, end = match.groups()
        is_null = not bare if quotes is None else not quotes and len(columns) == 1
        rows[-1].append(None if is_null else bare if quotes is None else quotes.replace('""', '"'))
        if end == "\n":
            rows.append([])
        at = match.end()
    return {"names": rows[0], "records": rows[1:-1]}


def tabs(document, columns):
    escapes = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}
    plain = lambda text: re.sub(r"\\(.)", lambda m: escapes[m[1]], text) if "\\" in text else text
    lines = document.decode().split("\n")[:-1]
    rows = [[None if text == "\\N" else plain(text) for text in line.split("\t")] for line in lines]
    return {"names": rows[0], "records": rows[1:]}


READERS = {
    "json": readers.json_python,
    "ndjson": ndjson,
    "xml": readers.xml_lxml,
    "csv": separated,
    "tsv": tabs,
    "avro": readers.avro_fastavro,
    "arrow": readers.arrow_pyarrow,
    "parquet": readers.parquet_pyarrow,
}

FORBIDDEN_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_read(format, type, value):
    """A value that a reader of a format found, as one of the type; reals as their digits, so that -0.0
    is not 0.0."""
    if value is None:
        return None
    if type == "integer":
        return int(value) if isinstance(value, str) else value
    if type == "real":
        return repr(float(value))
    if type == "blob" and isinstance(value, str):
        return base64.b64decode(value, validate=True)
    return value


def as_sent(format, type, value, is_alone):
    """The same of a value that was to be sent; it may be alone in its record."""
    if value is None or format == "csv" and is_alone and value in ("", b""):
        return None
    if type == "real":
        is_number = value - value == 0
        return repr(value) if is_number or format not in ("json", "ndjson") else None
    if type == "text" and format == "xml":
        return FORBIDDEN_IN_XML.sub("\ufffd", value)
    return value


class Difference(Exception):
    pass


def check(holds, *what):
    if not holds:
        raise Difference(" ".join(str(part) for part in what))


class Server:
    """A running server of a folder's database."""

    def __init__(self, command, folder, configuration):
        with open(f"{folder}/flows.toml", "w") as file:
            file.write(configuration)
        self.log = open(f"{folder}/server.log", "w+")
        arguments = ["serve", "--config", "flows.toml", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [command, *arguments], cwd=folder, env={}, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        line = self.process.stdout.readline()
        check(line.startswith("listening on http://"), f"no server: {line!r}, see its log")
        self.address = line.strip().removeprefix("listening on http://")
        self.connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)

    def get(self, path, coding):
        """Status, headers and body; the body is None if it is broken."""
        try:
            self.connection.request("GET", path, headers={"Accept-Encoding": coding})
            response = self.connection.getresponse()
            try:
                body = response.read()
            except (http.client.IncompleteRead, ConnectionResetError):
                self.connection.close()
                body = None
        except (http.client.HTTPException, ConnectionError) as error:
            self.connection.close()
            raise Difference(f"no reply: {error!r}") from error
        if body is not None and response.getheader("Content-Encoding") == "zstd":
            body = zstd.decompress(body)
        elif body is not None and response.getheader("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return response.status, response.headers, body

    def end(self):
        self.connection.close()
        check(self.process.poll() is None, "the server has ended")
        self.process.terminate()
        check(self.process.wait(PATIENCE) == 0, "exit code", self.process.returncode)
        self.log.seek(0)
        log = self.log.read()
        check("panicked" not in log and "please report" not in log, "see the server's log")

    def kill(self):
        self.process.kill()
        self.process.wait()


def rows_of(request, columns, body):
    """The records of a reply, and their columns' names where the format has them as they are."""
    read = READERS[request.format](body, [(c.name, c.type) for c in columns])
    if read["names"] and request.format not in ("xml", "avro"):
        check(read["names"] == [c.name for c in columns], "names", read["names"])
    kinds = [column.type for column in columns]
    return [[as_read(request.format, kind, v) for kind, v in zip(kinds, row, strict=True)] for row in read["records"]]


def compare(server, request, path):
    """Asks, and compares the reply to the oracle's; the next page's path, if there is one."""
    answer = oracle.Answer(request.stream, request)
    status, headers, body = server.get(path, request.coding)
    if answer.wrong:
        check(status == 500 or body is None, "complete, in spite of", answer.wrong)
        return None, answer, []
    check(status == 200, "status", status, body)
    check(body is not None, "broken")
    expected = [
        [as_sent(request.format, column.type, value, len(row) == 1) for column, value in zip(answer.columns, row)]
        for row in answer.rows
    ]
    rows = rows_of(request, answer.columns, body)
    for at, (got, wanted) in enumerate(zip(rows, expected)):
        check(got == wanted, f"record {at} is\n    {got!r:.500}, not\n    {wanted!r:.500}")
    check(len(rows) == len(expected), len(rows), "records, not", len(expected))
    if request.counts:
        check(headers["Flows-Count"] == str(len(expected)), "Flows-Count", headers["Flows-Count"])
    link = headers["Link"]
    check(link is None or answer.may_link, "there is no next page, but", link)
    position = headers["Flows-Position"]
    places = [place and ":".join(map(str, place)) for place in answer.positions]
    check(position in places, "Flows-Position", position, "not", places)
    check(link or not answer.is_cut, "cut by its limit, but no Link")
    return link and urllib.parse.urljoin(path, link.split(">")[0][1:]), answer, rows


def follow(server, request, path):
    """Follows the links of a limited request: its pages are the reply without the limit."""
    next, _, rows = compare(server, request, path)
    if not next:
        return
    request.limit = None
    answer = oracle.Answer(request.stream, request)
    pages = 1
    while next and pages < 40:
        status, headers, body = server.get(next, request.coding)
        if answer.wrong and (status == 500 or body is None):
            return
        check(status == 200 and body is not None, f"page {next}: {status}")
        rows += rows_of(request, request.columns or [c for c in request.stream.columns if not c.hidden], body)
        link = headers["Link"]
        next, pages = link and urllib.parse.urljoin(next, link.split(">")[0][1:]), pages + 1
    if not next:
        check(not answer.wrong, f"{pages} pages, in spite of", answer.wrong)
        check(len(rows) == len(answer.rows), f"{pages} pages of", len(rows), "records, not", len(answer.rows))


def round(command, seed, number, folder):
    random = randoms.Random(f"{seed}/{number}")
    streams = random_tables.database(random, f"{folder}/flows.db")
    pool = random.choice(["", "", "", "pool_size = 1\n", "page_reader = false\n"])
    server = Server(command, folder, f"[database]\n{pool}" + "".join(s.configuration() for s in streams))
    try:
        for _ in range(REQUESTS):
            request = Request(random, random.choice(streams))
            path = request.path()
            request.compiled()
            try:
                follow(server, request, path)
            except Exception as error:
                table, kind = request.stream.served, request.stream.kind
                raise Difference(f"{table} ({kind}): {path:.2000}\n  {request.coding}: {error}") from error
        server.end()
    finally:
        server.kill()


def main(round, requests, seconds, prefix):
    """Rounds of a script that asks random questions, by its command line; its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", type=os.path.abspath)
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--seed", default=str(randoms.SystemRandom().randrange(10**9)))
    parser.add_argument("--round", type=int)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    end = time.monotonic() + arguments.seconds
    number = arguments.round or 0
    while time.monotonic() < end:
        folder = tempfile.mkdtemp(prefix=prefix)
        try:
            round(arguments.command, arguments.seed, number, folder)
        except Exception as error:
            print(f"--seed {arguments.seed} --round {number}, {folder}: {error}")
            if not isinstance(error, Difference):
                raise
            return 1
        shutil.rmtree(folder)
        number += 1
        if arguments.round is not None:
            break
    print(f"{number - (arguments.round or 0)} rounds of {requests} requests")
    return 0


if __name__ == "__main__":
    sys.exit(main(round, REQUESTS, 60, "flows-differential-"))
