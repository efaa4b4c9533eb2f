"""An application that goes on writing, by Django's own ORM.

    django_writer.py FILE ROWS SECONDS

Makes a table of so many rows, of the hour before now; prints a line; and then inserts 1,000 a second.
"""

import datetime
import sys
import time

import django
from django.conf import settings

path, rows, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": path,
            # As Django's documentation has it for production.
            "OPTIONS": {"init_command": "PRAGMA journal_mode = WAL;", "timeout": 60},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.db import connection, models  # noqa: E402
from django.utils import timezone  # noqa: E402


class Event(models.Model):
    created_at = models.DateTimeField(db_index=True)
    name = models.CharField(max_length=50)
    seen = models.BooleanField(default=False)

    class Meta:
        app_label = "shop"


with connection.schema_editor() as editor:
    editor.create_model(Event)
# In SQL, for the ORM would take minutes; the times are spelled as it spells them, which leaves out a fraction
# that is zero.
start = int((timezone.now() - datetime.timedelta(hours=1)).timestamp())
step = 3_500_000_000 // rows // 100 * 100
with connection.cursor() as cursor:
    cursor.execute(
        """WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT %s),
                at (n, second, microsecond) AS (SELECT n, n * %s / 1000000, n * %s %% 1000000 FROM n)
           INSERT INTO shop_event (created_at, name, seen)
           SELECT datetime(%s + second, 'unixepoch')
                      || CASE microsecond WHEN 0 THEN '' ELSE printf('.%%06d', microsecond) END,
                  'event ' || n, n %% 2
           FROM at""",
        [rows, step, step, start],
    )
Event.objects.create(created_at=timezone.now(), name="the first of the application's own")
print("writing", flush=True)

begin = time.monotonic()
written = 0
while (elapsed := time.monotonic() - begin) < seconds:
    now = timezone.now()
    # Some have no fraction, and so come after later ones.
    times = [now.replace(microsecond=0) if number % 10 == 0 else now for number in range(50)]
    Event.objects.bulk_create(
        Event(created_at=at, name=f"new {written + number}", seen=True) for number, at in enumerate(times)
    )
    written += len(times)
    time.sleep(max(0.0, begin + written / 1000 - time.monotonic()))
print(written)
