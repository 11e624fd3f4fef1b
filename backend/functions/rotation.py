"""A rotation as the backend remembers it: one value, written whole, with a version.

The record is the truth of a rotation: only the functions can write it. While a rotation runs it is
the thing's ``current`` record; when it ends, a copy stays for good as evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

LEASE = timedelta(seconds=25)
"""How long a create may take before another may undo it: the function's timeout and some."""


class Phase(StrEnum):
    """Where a rotation stands. The comment says what the registry may hold."""

    ISSUING = "issuing"  # the old certificate; perhaps a new one, whose id is not known yet
    ISSUED = "issued"  # the old certificate; the new one, perhaps not attached yet
    CREATED = "created"  # both, attached
    COMMITTED = "committed"  # both, attached; the device has proven the new one
    UNRESOLVED = "unresolved"  # both, attached; the job has ended, which one the device uses is not known
    REMOVING = "removing"  # ``removing`` is on its way out
    FINISHED = "finished"  # one


class Outcome(StrEnum):
    """How a rotation ended."""

    ROTATED = "rotated"  # the new certificate stays
    ROLLED_BACK = "rolled back"  # the old certificate stays


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of evidence."""

    at: str
    who: str  # the function, and the job, connection or event on whose behalf
    what: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation of one thing. Instants are ISO 8601 in UTC, ids are AWS IoT's."""

    thing_name: str
    job_id: str
    public_key_digest: str
    old_certificate_id: str
    certificate_arn_prefix: str  # everything before the id
    authority: str
    started_at: str
    lease_until: str
    phase: Phase = Phase.ISSUING
    version: int = 0  # of the stored record; 0 before the first write
    key_type: str | None = None
    policy: str | None = None
    commit: str | None = None  # of the desired state
    new_certificate_id: str | None = None
    certificate_pem: str | None = None
    committed_at: str | None = None
    unresolved_at: str | None = None
    seen_principal: str | None = None  # of the thing's latest connection since the commit
    seen_at: str | None = None
    removing: str | None = None
    outcome: Outcome | None = None
    superseded_digests: tuple[str, ...] = ()  # keys of this job that a later create has replaced
    history: tuple[Entry, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it has yet to end."""
        return self.phase is not Phase.FINISHED

    @property
    def is_doubtful(self) -> bool:
        """Whether its job succeeded although the old certificate has connected since the commit."""
        return self.phase is Phase.UNRESOLVED and self.seen_principal == self.old_certificate_id

    def arn(self, certificate_id: str) -> str:
        """The ARN of one of the two certificates."""
        return self.certificate_arn_prefix + certificate_id

    def leased(self, now: datetime) -> bool:
        """Whether a create may still be at work on it."""
        return self.phase in (Phase.ISSUING, Phase.ISSUED) and now < datetime.fromisoformat(self.lease_until)

    def step(self, now: datetime, who: str, what: str, **changes: Any) -> Rotation:
        """The next state, with its line of evidence."""
        return replace(self, history=(*self.history, Entry(now.isoformat(), who, what)), **changes)

    def to_record(self) -> dict[str, Any]:
        """Plain values for the table; what is not known is left out."""
        record = {_camel(name): value for name, value in asdict(self).items() if value not in (None, ())}
        record["history"] = [asdict(entry) for entry in self.history]
        if self.superseded_digests:
            record["supersededDigests"] = list(self.superseded_digests)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rotation:
        """Read what ``to_record`` wrote."""
        values = {f.name: record[_camel(f.name)] for f in fields(cls) if _camel(f.name) in record}
        values["phase"] = Phase(values["phase"])
        values["version"] = int(values["version"])
        values["history"] = tuple(Entry(**entry) for entry in values["history"])
        values["superseded_digests"] = tuple(values.get("superseded_digests", ()))
        if "outcome" in values:
            values["outcome"] = Outcome(values["outcome"])
        return cls(**values)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
