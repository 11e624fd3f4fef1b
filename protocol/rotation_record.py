"""The record that the backend keeps of each rotation, as others read it.

The backend alone writes these items (``backend/functions/rotation.py``); evidence and healing read them. Partition key
``thingName``, sort key ``record``: ``CURRENT`` for the latest rotation of a thing, and one that begins with ``ENDED``
for each that has ended, or with ``REFUSED`` for the last refusal under each job that has ended otherwise than well;
both are kept for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Mapping, Optional, Tuple

from .errors import ProtocolError

CURRENT = "current"
ENDED = "rotation#"
"""How the sort keys of ended rotations begin."""

REFUSED = "refused#"
"""How the sort keys of refusals begin."""

FINISHED = "finished"
"""The phase of a rotation that has ended."""

ROTATED = "rotated"
"""The outcome of a rotation whose new certificate stays; every other one left the old certificate in place."""


@dataclass(frozen=True)
class RecordEntry:
    """One entry of a rotation's history: what a function of the backend did, on whose behalf, and when."""

    at: datetime
    who: str
    what: str


@dataclass(frozen=True)
class RotationRecord:
    """One rotation of one thing. Instants are aware; None is what was not known, or has not happened.

    ``policy`` and ``commit`` are what the job document named: a job made by hand names neither. ``committed_at`` is
    when the device sent its commit over a connection with the new certificate. ``ended_at`` and ``ending`` are of the
    job's execution. ``certificate_pem`` is the new certificate: of a rotation that has ended it is kept only if the
    backend removed the old certificate and left the thing with the new one alone; earlier backends kept none.
    """

    thing_name: str
    job_id: str
    authority: str
    started_at: datetime
    old_certificate_id: str
    phase: str
    new_certificate_id: Optional[str] = None
    key_type: Optional[str] = None
    policy: Optional[str] = None
    commit: Optional[str] = None
    committed_at: Optional[datetime] = None
    new_seen_at: Optional[datetime] = None
    ended_at: Optional[datetime] = None
    ending: Optional[str] = None
    outcome: Optional[str] = None
    history: Tuple[RecordEntry, ...] = ()
    certificate_pem: Optional[str] = None

    @property
    def has_ended(self) -> bool:
        """Whether the backend has decided."""
        return self.phase == FINISHED

    @property
    def is_rotated(self) -> bool:
        """Whether the new certificate stays."""
        return self.has_ended and self.outcome == ROTATED

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> RotationRecord:
        """Read an item of the table; what a later version adds is passed over.

        Raises:
            ProtocolError: A member that every version writes is missing, or an instant cannot be read.
        """
        try:
            lines = tuple(RecordEntry(_instant(one["at"]), one["who"], one["what"]) for one in item.get("history", ()))
            return cls(
                item["thingName"],
                item["jobId"],
                item["authority"],
                _instant(item["startedAt"]),
                item["oldCertificateId"],
                item["phase"],
                item.get("newCertificateId"),
                item.get("keyType"),
                item.get("policy"),
                item.get("commit"),
                _maybe(item.get("committedAt")),
                _maybe(item.get("newSeenAt")),
                _maybe(item.get("endedAt")),
                item.get("ending"),
                item.get("outcome"),
                lines,
                _text(item.get("certificatePem")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(
                f"record {item.get('record')!r} of thing {item.get('thingName')!r} is not a rotation: "
                f"{type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class RefusalRecord:
    """The backend's last answer to a device under a job, whether or not a rotation had begun, and how the job ended."""

    thing_name: str
    job_id: str
    code: str
    sentence: str
    ending: str
    ended_at: datetime

    def to_item(self) -> Mapping[str, str]:
        """Values of an item of the table; the same refusal of the same end is the same item."""
        ended_at = self.ended_at.isoformat()
        return {
            "thingName": self.thing_name,
            "record": f"{REFUSED}{ended_at}#{self.job_id}",
            "jobId": self.job_id,
            "code": self.code,
            "sentence": self.sentence,
            "ending": self.ending,
            "endedAt": ended_at,
        }

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> RefusalRecord:
        """Read an item of the table; raises ProtocolError if it is not a refusal."""
        try:
            return cls(
                item["thingName"],
                item["jobId"],
                item["code"],
                item["sentence"],
                item["ending"],
                _instant(item["endedAt"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(
                f"record {item.get('record')!r} of thing {item.get('thingName')!r} is not a refusal: "
                f"{type(error).__name__}: {error}"
            ) from error


def _text(value: object) -> Optional[str]:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"{value!r} is not text")


def _maybe(text: Optional[str]) -> Optional[datetime]:
    return None if text is None else _instant(text)


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return found
