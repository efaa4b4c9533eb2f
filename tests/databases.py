"""Databases that nobody described, made by the tools that make them in real life.

    databases.py KIND FILE ROWS

KIND is `log` (an application log, by the adapters of Python's sqlite3), `sensors` (by sqlite-utils) or
`django` (by Django's own ORM). Prints the first and the last record, in JSON: every value as the text that
the server sends it as.
"""

import datetime
import decimal
import json
import random
import sqlite3
import sys
import uuid
import warnings

START = datetime.datetime(2026, 1, 1, 0, 0, 10)


def instant(time):
    """How the server writes an instant in microseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def log(path, rows):
    # Deprecated since 3.12, and what applications use.
    warnings.simplefilter("ignore", DeprecationWarning)
    connection = sqlite3.connect(path, detect_types=sqlite3.PARSE_DECLTYPES)
    connection.execute(
        "CREATE TABLE app_log (id INTEGER PRIMARY KEY AUTOINCREMENT, at TIMESTAMP NOT NULL, level TEXT NOT NULL,"
        " message TEXT, took_ms REAL, api_token TEXT)"
    )
    connection.execute("CREATE INDEX app_log_at ON app_log (at)")
    generator = random.Random(7)
    made = []
    for number in range(rows):
        # As in an application, most times have a fraction, and some happen to have none.
        microsecond = 0 if number % 10 == 0 else generator.randrange(1_000_000)
        at = START + datetime.timedelta(seconds=number, microseconds=microsecond)
        took = None if number % 7 == 0 else number / 4
        made.append((at, "INFO", f"request {number}", took, "sekrit"))
    connection.executemany(
        "INSERT INTO app_log (at, level, message, took_ms, api_token) VALUES (?, ?, ?, ?, ?)", made
    )
    connection.commit()
    return [
        {
            "id": str(number + 1),
            "at": instant(at),
            "level": level,
            "message": message,
            "took_ms": "" if took is None else str(took),
        }
        for number, (at, level, message, took, _) in enumerate(made)
    ]


def sensors(path, rows):
    import sqlite_utils

    database = sqlite_utils.Database(path)
    start = START.replace(tzinfo=datetime.timezone.utc).timestamp()
    made = [
        {"ts": start + number / 4, "sensor": f"s{number % 3}", "celsius": 20 + number % 5 / 8, "ok": number % 2 == 0}
        for number in range(rows)
    ]
    database["readings"].insert_all(made)
    return [
        {
            "ts": instant(START + datetime.timedelta(seconds=number / 4)),
            "sensor": row["sensor"],
            "celsius": str(row["celsius"]),
            "ok": str(int(row["ok"])),
        }
        for number, row in enumerate(made)
    ]


def django(path, rows):
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    import django as framework

    framework.setup()
    from django.db import connection, models

    class Order(models.Model):
        created_at = models.DateTimeField(db_index=True)
        delivery = models.DateField(null=True)
        paid = models.BooleanField()
        total = models.DecimalField(max_digits=10, decimal_places=2)
        reference = models.UUIDField(unique=True)
        details = models.JSONField()
        note = models.CharField(max_length=200, blank=True)

        class Meta:
            app_label = "shop"

    with connection.schema_editor() as editor:
        editor.create_model(Order)
    generator = random.Random(7)
    made = []
    for number in range(rows):
        microsecond = 0 if number % 10 == 0 else generator.randrange(1_000_000)
        at = START + datetime.timedelta(seconds=number, microseconds=microsecond)
        made.append(
            Order(
                created_at=at.replace(tzinfo=datetime.timezone.utc),
                delivery=None if number % 5 == 0 else at.date(),
                paid=number % 2 == 0,
                total=decimal.Decimal(number) / 4,
                reference=uuid.UUID(int=generator.getrandbits(128)),
                details={"items": [number, None], "gift": number % 3 == 0},
                note="" if number % 4 else "fragile",
            )
        )
    Order.objects.bulk_create(made, batch_size=500)
    return [
        {
            "id": str(order.pk),
            "created_at": instant(order.created_at),
            "delivery": order.delivery.isoformat() if order.delivery else "",
            "paid": "true" if order.paid else "false",
            # SQLite keeps it as a number.
            "total": format(order.total.normalize(), "f"),
            "reference": order.reference.hex,
            "details": json.dumps(order.details),
            "note": order.note,
        }
        for order in made
    ]


if __name__ == "__main__":
    kind, path, rows = sys.argv[1:]
    records = {"log": log, "sensors": sensors, "django": django}[kind](path, int(rows))
    print(json.dumps([records[0], records[-1]]))
