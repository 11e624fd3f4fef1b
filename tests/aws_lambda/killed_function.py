"""A function in a process of its own, as Lambda runs it: ``killed_function.py REGIONS EVENT``.

REGIONS is where the registry of each region is, EVENT one of the state machine, or {} for the single function, both
JSON. Prints its answer as the last line.
"""

import json
import sys

import botocore.session

from controller import aws_lambda, aws_states


class Context:
    """Five minutes are left."""

    def get_remaining_time_in_millis(self):
        return 300_000


def main(regions, event):
    create = botocore.session.Session.create_client

    def create_client(session, service, region_name=None, **more):
        if region_name in regions:
            more["endpoint_url"] = regions[region_name]
        return create(session, service, region_name=region_name, **more)

    botocore.session.Session.create_client = create_client
    handler = aws_states.handler if event else aws_lambda.handler
    print(f"\n{json.dumps(handler(event, Context()))}")  # noqa: T201


if __name__ == "__main__":
    main(*map(json.loads, sys.argv[1:]))
