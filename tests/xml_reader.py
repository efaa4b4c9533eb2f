"""Reads XML documents with lxml, strictly, for tests/formats.rs.

On standard input: documents, each behind its length in bytes as a decimal line.
On standard output: for each a line of JSON, either the records, each a list of [element, text], with
null for a text that is xsi:nil, or the parser's error as a text.
"""

import json
import sys

from lxml import etree

NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def read(document):
    parser = etree.XMLParser(recover=False, resolve_entities=False, huge_tree=True)
    root = etree.fromstring(document, parser)
    assert root.tag == "records" and all(record.tag == "record" for record in root)
    return [
        [
            [column.tag, None if column.get(NIL) == "true" else column.text or ""]
            for column in record
        ]
        for record in root
    ]


for line in sys.stdin.buffer:
    document = sys.stdin.buffer.read(int(line))
    try:
        answer = read(document)
    except (etree.XMLSyntaxError, AssertionError) as error:
        answer = str(error) or "not records of records"
    print(json.dumps(answer), flush=True)
