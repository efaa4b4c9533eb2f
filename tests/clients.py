"""HTTP clients that are not ours, for the tests. On standard input, for each request, a line of JSON:
{"client": NAME, "url": URL, "coding": what to accept}. On standard output, for each, a line of JSON:
{"coding": the reply's, "bytes": N, "md5": the decoded body's}, or {"error": what the client said}.
"""

import hashlib
import json
import sys

import httpx
import requests


def by_requests(url, coding):
    with requests.get(url, headers={"Accept-Encoding": coding}, stream=True, timeout=60) as reply:
        reply.raise_for_status()
        yield reply.headers.get("Content-Encoding")
        yield from reply.iter_content(1 << 16)


def by_httpx(url, coding):
    with httpx.stream("GET", url, headers={"Accept-Encoding": coding}, timeout=60) as reply:
        reply.raise_for_status()
        yield reply.headers.get("Content-Encoding")
        yield from reply.iter_bytes()


def by_raw(url, _):
    """As readers of Arrow's streams are given `reply.raw`, with what requests accepts by itself."""
    with requests.get(url, stream=True, timeout=60) as reply:
        reply.raise_for_status()
        yield reply.headers.get("Content-Encoding")
        yield from iter(lambda: reply.raw.read(1 << 16), b"")


def answer(request):
    read = {"requests": by_requests, "httpx": by_httpx, "raw": by_raw}[request["client"]]
    try:
        parts = read(request["url"], request["coding"])
        coding = next(parts)
        md5, count = hashlib.md5(), 0
        for part in parts:
            md5.update(part)
            count += len(part)
    except (requests.RequestException, httpx.HTTPError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"coding": coding, "bytes": count, "md5": md5.hexdigest()}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
