"""MQTT topics between a device T and the cloud.

The prefix ``awslabs`` and all suffixes are those of the public solution.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

ACCEPTED = "accepted"
REJECTED = "rejected"

_ROTATION_TOPIC = re.compile(
    r"awslabs/things/(?P<thing>[^/]+)/certificate/(?P<operation>create|commit)(?:/(?P<outcome>accepted|rejected))?"
)


class RotationTopic(NamedTuple):
    """The parts of ``awslabs/things/T/certificate/<operation>[/<outcome>]``."""

    thing_name: str
    operation: str
    outcome: Optional[str]


def jobs_notify_next(thing_name: str) -> str:
    """Return the topic on which AWS IoT announces that the next pending execution has changed."""
    return f"$aws/things/{thing_name}/jobs/notify-next"


def jobs_get_next(thing_name: str) -> str:
    """Return where a device asks for its next pending execution; answers on ``/accepted`` and ``/rejected``."""
    return f"$aws/things/{thing_name}/jobs/$next/get"


def jobs_get_outcome(thing_name: str, outcome: str) -> str:
    """Return the filter for answers of one ``outcome`` to any job's get (AWS IoT answers ``$next`` by either name)."""
    return f"$aws/things/{thing_name}/jobs/+/get/{outcome}"


def jobs_update(thing_name: str, job_id: str) -> str:
    """Return where a device reports the status of its execution; answers on ``/accepted`` and ``/rejected``."""
    return f"$aws/things/{thing_name}/jobs/{job_id}/update"


def jobs_update_outcome(thing_name: str, job_id: str, outcome: str) -> str:
    """Return the topic of answers of one ``outcome`` to a status report; ``job_id`` may be ``+``."""
    return f"{jobs_update(thing_name, job_id)}/{outcome}"


def create(thing_name: str) -> str:
    """Return the topic on which a device asks for a certificate."""
    return f"awslabs/things/{thing_name}/certificate/create"


def commit(thing_name: str) -> str:
    """Return the topic on which a device reports that it is connected with the new certificate."""
    return f"awslabs/things/{thing_name}/certificate/commit"


def outcome(topic: str, result: str) -> str:
    """Return the answer topic of a request topic; ``result`` is ACCEPTED or REJECTED."""
    return f"{topic}/{result}"


def parse_rotation_topic(topic: str) -> Optional[RotationTopic]:
    """Split a create or commit topic (request or answer); None for any other topic."""
    match = _ROTATION_TOPIC.fullmatch(topic)
    return RotationTopic(match["thing"], match["operation"], match["outcome"]) if match else None
