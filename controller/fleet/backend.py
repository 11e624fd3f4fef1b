"""Which backend a fleet has: ours, or the stock one, which knows one kind of rotation only.

Both keep a job template with the same document; ours says "certfleet" in its description.
"""

from __future__ import annotations

import json

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from protocol.job_document import STOCK_DOCUMENT

MARK = "certfleet"
"""The word in the job template's description by which our own backend is known."""


def is_stock_backend(session: AwsSession) -> bool:
    """Whether the fleet's job template is the stock one; FleetError where there is no template."""
    fleet = session.fleet
    name = fleet.backend.job_template
    template = session.find("iot", "DescribeJobTemplate", jobTemplateId=name)
    if template is None:
        raise FleetError(
            f"Fleet {fleet.name!r} names the backend {fleet.stack_name!r} "
            f"({fleet.source.at('spec.backend.stackName')}), "
            f"but {session.where} has no job template {name!r}",
            f"deploy the backend there as stack {fleet.stack_name}, or correct spec.backend.stackName",
        )
    if MARK in template.get("description", "").lower():
        return False
    try:
        document = json.loads(template.get("document", ""))
    except ValueError:
        return False
    return bool(document == STOCK_DOCUMENT)
