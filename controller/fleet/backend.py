"""The backend of a fleet: ours, or the stock one, which knows one kind of rotation only.

Both keep a job template with the same document; ours has "certfleet" in its description.
"""

from __future__ import annotations

import json

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from protocol.deployment import DeployedBackend, parse_deployment
from protocol.errors import ProtocolError
from protocol.job_document import STOCK_DOCUMENT
from protocol.names import BackendNames

MARK = "certfleet"
"""The word in the job template's description by which our own backend is known."""


UNPUBLISHED = (
    "the backend does not show what it is, so nobody knows which CA it issues from, and for how long; deploy the "
    "backend of this version"
)
_NO_PARAMETER = "ParameterNotFound"


def read_rules(session: AwsSession) -> dict[str, bool] | None:
    """Return every topic rule, with whether it is on; None if they may not be listed."""
    try:
        pages = list(session.pages("ListTopicRules"))
    except AwsCallError as error:
        if error.is_denied:
            return None
        raise
    return {rule["ruleName"]: not rule["ruleDisabled"] for answer in pages for rule in answer["rules"]}


def read_deployment(
    session: AwsSession, names: BackendNames | None = None
) -> tuple[DeployedBackend | None, str | None]:
    """Return what our backend (the fleet's, or that of ``names``) publishes; else None, and why. Raises FleetError."""
    name = (names or session.fleet.backend).deployment_parameter
    try:
        answer = session.call("ssm", "GetParameter", Name=name)
    except AwsCallError as error:
        if error.code == _NO_PARAMETER:
            return None, UNPUBLISHED
        if error.is_denied:
            return None, f"what is deployed is not known: {error}; {error.remedy}"
        raise
    try:
        return parse_deployment(str(answer["Parameter"]["Value"])), None
    except ProtocolError as error:
        raise FleetError(
            f"parameter {name} of Systems Manager in {session.where} does not show what the backend is: {error}",
            f"deploy the backend {session.fleet.stack_name} again, with the version that runs here or a later one",
        ) from error


def is_stock_backend(session: AwsSession, *, is_needed: bool = True) -> bool:
    """Return whether the fleet's job template is the stock one.

    FleetError if there is none and it ``is_needed``, because something is to rotate.
    """
    fleet = session.fleet
    name = fleet.backend.job_template
    template = session.find("iot", "DescribeJobTemplate", jobTemplateId=name)
    if template is None:
        if not is_needed:
            return False
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
