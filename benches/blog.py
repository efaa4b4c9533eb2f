"""The blog's server: Flask, one generator per request, `json.dumps` per record.

It reads the same database as the others, with the index that the blog's own table lacks.
"""

import json
import os
import sqlite3

from flask import Flask, Response, request

app = Flask(__name__)


@app.route("/api/v1/stream/flows")
def stream():
    after = request.args.get("scanned_after", -1, type=int)
    before = request.args.get("scanned_before", 2**62, type=int)
    limit = request.args.get("limit", -1, type=int)
    connection = sqlite3.connect(os.environ["FLOWS_DATABASE"])
    cursor = connection.execute(
        "SELECT * FROM flows WHERE time > ? AND time <= ? ORDER BY time, id LIMIT ?",
        (after, before, limit),
    )
    names = [column[0] for column in cursor.description]

    def records():
        yield "["
        for i, row in enumerate(cursor):
            yield (",\n" if i else "\n") + json.dumps(dict(zip(names, row)))
        yield "\n]\n"
        connection.close()

    return Response(records(), mimetype="application/json")
