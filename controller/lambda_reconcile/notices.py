"""Notify people over SNS, but only what is new: the digest of what was reported last lies in the bucket.

Published first, recorded second: a run that dies between the two reports it again rather than never.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from controller.errors import FleetError
from controller.fleet.aws_errors import FAILURES, explain

from .bucket import Bucket, LostRaceError, Stored

MAX_RECORD_BYTES = 64 * 1024
MAX_SUBJECT = 100  # characters, of SNS
MAX_MESSAGE_BYTES = 250_000  # SNS takes 262,144


class Notable(Protocol):
    """The part of one fleet's report that people may read: an Attention, or the News that a record keeps of it."""

    @property
    def fleet(self) -> str: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def is_needed(self) -> bool: ...  # noqa: D102

    def text(self) -> str: ...  # noqa: D102


class Notices:
    """One SNS topic; an empty ARN notifies nobody."""

    def __init__(self, bucket: Bucket, prefix: str, sns: Any, topic_arn: str, say: Callable[[str], None]) -> None:
        self._bucket, self._prefix, self._sns, self._topic_arn, self._say = bucket, prefix, sns, topic_arn, say

    def tell(self, *found: Notable) -> bool:
        """Publish what has changed, in one message; returns whether anything was published."""
        if not self._topic_arn:
            return False
        news = [(one, stored.version) for one in found for stored in [self._told(one)] if _is_news(one, stored.data)]
        if not news:
            return False
        self._publish([one for one, _ in news])
        for one, version in news:
            record = json.dumps({"format_version": 1, "digest": one.digest}).encode()
            try:
                self._bucket.write(version, record)
            except LostRaceError as error:
                self._say(str(error))
        return True

    def publish(self, about: str, subject: str, text: str) -> None:
        """Report about a fleet, whatever was reported before, under a subject; FleetError if that fails."""
        if not self._topic_arn:
            return
        try:
            self._sns.publish(TopicArn=self._topic_arn, Subject=subject[:MAX_SUBJECT], Message=text)
        except FAILURES as error:
            region = f"region {self._sns.meta.region_name}"
            raise FleetError(
                f"nobody was notified of {about}: {explain(error, 'sns', 'Publish', region)}",
                "See that the function's role may publish to the topic and use its key.",
            ) from error

    def _told(self, one: Notable) -> Stored:
        return self._bucket.read(f"{self._prefix}notified/{one.fleet}.json", MAX_RECORD_BYTES)

    def _publish(self, news: list[Notable]) -> None:
        most = MAX_MESSAGE_BYTES // len(news)
        texts = [one.text().encode()[:most].decode(errors="ignore") for one in news]
        about = " and ".join(f"fleet {one.fleet}" for one in news)
        self.publish(about, _subject(news), "\n\n".join(texts))


def _subject(news: list[Notable]) -> str:
    if len(news) == 1:
        return f"certfleet: {news[0].fleet} {'needs a person' if news[0].is_needed else 'needs nobody any more'}"
    needy = sum(one.is_needed for one in news)
    return (
        f"certfleet: news of {len(news)} fleets, {needy or 'none'} of which {'need' if needy > 1 else 'needs'} a person"
    )


def _is_news(one: Notable, told: bytes | None) -> bool:
    last = _digest(told)
    return last != one.digest and (last is not None or one.is_needed)


def _digest(data: bytes | None) -> str | None:
    """Return the digest that a record holds; None without a record.

    Empty if the record is damaged, so that people are notified again.
    """
    if data is None:
        return None
    try:
        found = json.loads(data)
        return str(found["digest"])
    except (ValueError, KeyError, TypeError):
        return ""
