"""What the server must answer, by the rules of the README, on records in lists.

A value is (class, raw, as_text, as_blob): how SQLite holds it ("null", "integer", "real", "text" or
"blob"), as Python reads it (texts as bytes), and what SQLite's CAST makes of it.
"""

import math
import re

LEAST, MOST = -(2**63), 2**63 - 1
EXACT = 2**53

INTEGER = re.compile(rb"[+-]?[0-9]+")
REAL = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Wrong(Exception):
    """A value that cannot be sent: the stream must break."""


def affinity(declared):
    """SQLite's rules, https://sqlite.org/datatype3.html, section 3.1."""
    declared = declared.upper()
    if "INT" in declared:
        return "integer"
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT")):
        return "text"
    if not declared or "BLOB" in declared:
        return "blob"
    if any(part in declared for part in ("REAL", "FLOA", "DOUB")):
        return "real"
    return "numeric"


def integer(value):
    """The 64-bit integer that a value stands for, or None."""
    kind, raw = value[:2]
    if kind == "integer":
        return raw
    if kind == "text" and INTEGER.fullmatch(raw) and LEAST <= int(raw) <= MOST:
        return int(raw)
    if kind == "real" and math.isfinite(raw) and raw == int(raw) and abs(raw) <= EXACT:
        return int(raw)
    return None


def real(value):
    """The real that a value stands for, or None."""
    kind, raw = value[:2]
    if kind == "real":
        return raw
    if kind == "integer" and abs(raw) <= EXACT:
        return float(raw)
    if kind == "text" and REAL.fullmatch(raw) and math.isfinite(float(raw)):
        return float(raw)
    return None


def sent(column, value):
    """A value as it is sent, None for a null; raises Wrong if it cannot be."""
    kind, raw, as_text, as_blob = value
    if kind == "null":
        if not column.nullable:
            raise Wrong(f"null in {column.name}")
        return None
    if column.type == "text":
        # A column of texts holds blobs as they are.
        return (raw if column.affinity == "text" else as_text).decode("utf-8", "replace")
    if column.type == "blob":
        return as_blob
    number = integer(value) if column.type == "integer" else real(value)
    if number is None:
        raise Wrong(f"{raw!r} in {column.name}")
    return number


def is_kept(column):
    """Whether SQLite compares the column's values as the declared type does."""
    same = column.type == column.affinity
    return same or (column.type, column.affinity) == ("integer", "numeric")


def compared(column, value):
    """What of a value a filter compares; None where no comparison holds."""
    kind, raw, as_text, as_blob = value
    if kind == "null":
        return None
    if is_kept(column):
        return raw if kind == column.type else None
    if column.type == "text":
        return as_text
    if column.type == "blob":
        return as_blob
    return integer(value) if column.type == "integer" else real(value)


def is_like(pattern):
    parts = {"*": ".*", "?": "."}
    regex = "".join(parts.get(part) or re.escape(part) for part in pattern)
    return re.compile(regex, re.DOTALL).fullmatch


COMPARISONS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "in": lambda a, b: a in b,
    "like": lambda a, b: bool(b(a.decode("utf-8", "replace"))),
}


def holds(condition, value):
    """Whether a filter (column, operator, operand) holds for a value; operands of text are bytes."""
    column, operator, operand = condition
    if operator == "is":
        return value[0] == "null"
    if operator == "not":
        return value[0] != "null"
    left = compared(column, value)
    return left is not None and COMPARISONS[operator](left, operand)


class Answer:
    """The records of a request, and what its head says."""

    def __init__(self, stream, request):
        columns = stream.columns
        by_id = request.order == "id"
        place = (lambda r: (r.id,)) if by_id else (lambda r: (r.time, r.id))
        windowed = lambda r: (request.scanned_after is None or r.time > request.scanned_after) and (
            request.scanned_before is None or r.time <= request.scanned_before
        )
        in_range = lambda r: (request.after is None or place(r) > request.after) and (
            request.until is None or place(r) <= request.until
        )
        matches = lambda r: all(
            holds(condition, r.values[columns.index(condition[0])]) for condition in request.filters
        )
        ranged = sorted(filter(in_range, stream.records), key=place)
        # In the order of ids, a window is a filter.
        looked_at = ranged if by_id else list(filter(windowed, ranged))
        is_filtered = bool(request.filters) or by_id and request.is_windowed()
        found = [r for r in looked_at if windowed(r) and matches(r)]
        self.is_cut = request.limit is not None and 0 < request.limit < len(found)
        self.records = found if request.limit is None else found[: request.limit]
        begin = request.after
        if not by_id and request.scanned_after is not None:
            begin = max(begin or (), (request.scanned_after, MOST))
        ends = [place(r) for r in (looked_at if is_filtered else self.records)[-1:]]
        if request.limit == 0:
            self.positions = {begin}
        elif request.limit is not None and len(self.records) == request.limit:
            self.positions = {place(self.records[-1])}
        else:
            self.positions = set(ends) or {begin}
        # What is after the last record is not looked at to tell whether filters let it through.
        self.may_link = self.is_cut or (
            is_filtered and bool(request.limit) and len(found) == request.limit
        )
        self.columns = request.columns or [c for c in columns if not c.hidden]
        self.wrong, self.rows = None, []
        at = [columns.index(column) for column in self.columns]
        try:
            for record in self.records:
                self.rows.append([sent(columns[i], record.values[i]) for i in at])
        except Wrong as wrong:
            self.wrong = f"{wrong}, record {record.time}:{record.id}"
