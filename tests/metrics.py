"""Reads metrics on standard input by Prometheus' own parser, and writes what they are as JSON."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

families = text_string_to_metric_families(sys.stdin.read())
print(
    json.dumps(
        {
            family.name: {
                "type": family.type,
                "help": family.documentation,
                "samples": len(family.samples),
            }
            for family in families
        }
    )
)
