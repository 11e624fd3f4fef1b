"""Notices to a person, and the log: one structured line per decision, without secrets."""

from __future__ import annotations

import logging
from typing import Any

SUBJECT = "AWS Labs Certificate Rotator Notification"

log = logging.getLogger("certfleet.backend")
log.setLevel(logging.INFO)


class Operator:
    """Talks to SNS."""

    def __init__(self, sns: Any, topic_arn: str) -> None:
        self._sns = sns
        self._topic_arn = topic_arn

    def tell(self, thing_name: str, job_id: str, notice: str) -> None:
        """Send a ``notice`` to whoever subscribes; it names the thing and the job."""
        message = f"Certificate rotation of {thing_name}, job {job_id}: {notice}"
        self._sns.publish(TopicArn=self._topic_arn, Subject=SUBJECT, Message=message)


def decided(decision: str, **facts: str | int | None) -> None:
    """Log a decision: ``accepted``, ``rejected``, ``removed`` …, with the facts it rests on."""
    known = {name: value for name, value in facts.items() if value is not None}
    log.info(decision, extra={"decision": decision, **known})
