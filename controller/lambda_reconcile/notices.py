"""Tell people over SNS, but only what is new: the digest of what was said last lies in the bucket.

Published first, recorded second: a run that dies between the two says it again rather than never.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws_errors import FAILURES, explain
from controller.report.attention import Attention

from .bucket import Bucket, LostRaceError

MAX_RECORD_BYTES = 64 * 1024
MAX_SUBJECT = 100  # characters, of SNS


class Notices:
    """One SNS topic; an empty ARN tells nobody."""

    def __init__(self, bucket: Bucket, prefix: str, sns: Any, topic_arn: str, say: Callable[[str], None]) -> None:
        self._bucket, self._prefix, self._sns, self._topic_arn, self._say = bucket, prefix, sns, topic_arn, say

    def tell(self, attention: Attention) -> bool:
        """Publish what has changed; returns whether anything was published."""
        if not self._topic_arn:
            return False
        stored = self._bucket.read(f"{self._prefix}notified/{attention.fleet}.json", MAX_RECORD_BYTES)
        last = _digest(stored.data)
        if last == attention.digest or (last is None and not attention.is_needed):
            return False
        self._publish(attention)
        record = json.dumps({"format_version": 1, "digest": attention.digest}).encode()
        try:
            self._bucket.write(stored.version, record)
        except LostRaceError as error:
            self._say(str(error))
        return True

    def _publish(self, attention: Attention) -> None:
        state = "needs a person" if attention.is_needed else "needs nobody any more"
        subject = f"certfleet: {attention.fleet} {state}"
        try:
            self._sns.publish(TopicArn=self._topic_arn, Subject=subject[:MAX_SUBJECT], Message=attention.text())
        except FAILURES as error:
            region = f"region {self._sns.meta.region_name}"
            raise FleetError(
                f"nobody was told of fleet {attention.fleet}: {explain(error, 'sns', 'Publish', region)}",
                "See that the function's role may publish to the topic and use its key.",
            ) from error


def _digest(data: bytes | None) -> str | None:
    """What a record says; a damaged one says nothing, so that people hear once more."""
    if data is None:
        return None
    try:
        found = json.loads(data)
        return str(found["digest"])
    except (ValueError, KeyError, TypeError):
        return ""
