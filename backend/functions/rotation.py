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

from protocol.rotation_record import FINISHED, ROTATED

from .verdicts import CertificateRole, Ending, Notification, RotationEvidence

LEASE = timedelta(seconds=25)
"""How long a create may take before another may undo it: the function's timeout and some seconds more."""


class Phase(StrEnum):
    """The state of a rotation; each comment shows what the registry may hold then."""

    ISSUING = "issuing"  # the old certificate; perhaps a new one, whose id is not known yet
    ISSUED = "issued"  # the old certificate; the new one, perhaps not attached yet
    CREATED = "created"  # both, attached
    COMMITTED = "committed"  # both, attached; the device has proven the new one
    UNRESOLVED = "unresolved"  # both, attached; the job has ended, which one the device uses is not known
    REMOVING = "removing"  # ``removing`` is on its way out
    FINISHED = FINISHED  # one


LINES = 200
"""Lines of evidence at most: two devices that fight for one client id would fill the table's item within an hour."""

MAKING = frozenset({Phase.ISSUING, Phase.ISSUED})
"""The phases in which no device can hold the new certificate yet."""


class RotationOutcome(StrEnum):
    """How a rotation ended."""

    ROTATED = ROTATED  # the new certificate stays
    ROLLED_BACK = "rolled back"  # the old certificate stays


@dataclass(frozen=True, slots=True)
class EvidenceEntry:
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
    certificate_pem: str | None = None  # kept at the end only if the thing was left with this one alone
    committed_at: str | None = None  # when the device sent its commit, over a connection with the new certificate
    ended_at: str | None = None  # of the job's latest execution on this device
    ending: Ending | None = None
    old_seen_at: str | None = None  # the latest connection with the certificate, or request over one
    new_seen_at: str | None = None
    contested_at: str | None = None  # when a second key was asked for under the job
    refused_job: str | None = None  # the latest that may not begin before this rotation is decided
    told: str | None = None  # what the operator was told last
    is_shared: bool = False  # other things hold, or held, the old certificate too: this one only lets go of it
    removing: str | None = None
    outcome: RotationOutcome | None = None
    superseded_digests: tuple[str, ...] = ()  # keys of this job that a later create has replaced
    history: tuple[EvidenceEntry, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether the rotation has yet to end."""
        return self.phase is not Phase.FINISHED

    @property
    def awaits_a_person(self) -> bool:
        """Whether a person may decide it by a deactivation: its job has ended undecided, or a person was asked."""
        is_asked = self.told is not None and self.told.startswith(Notification.PERSON.name)
        return self.phase is Phase.UNRESOLVED or (is_asked and self.phase in {Phase.CREATED, Phase.COMMITTED})

    def arn(self, certificate_id: str) -> str:
        """Return the ARN of one of the two certificates."""
        return self.certificate_arn_prefix + certificate_id

    def leased(self, now: datetime) -> bool:
        """Return whether a create may still be at work on it."""
        return self.phase in MAKING and now < datetime.fromisoformat(self.lease_until)

    def step(self, now: datetime, who: str, what: str, **changes: Any) -> Rotation:
        """Return the rotation with these ``changes`` and one line of evidence: ``who`` did ``what``.

        If there are more than ``LINES``, lines in the middle are dropped.
        """
        history = (*self.history, EvidenceEntry(now.isoformat(), who, what))
        if len(history) > LINES:
            history = (*history[: LINES // 2], *history[1 - LINES // 2 :])
        return replace(self, history=history, **changes)

    def which(self, certificate_id: str) -> CertificateRole | None:
        """Return which of the two a certificate is; None for a third one."""
        known = {self.old_certificate_id: CertificateRole.OLD, self.new_certificate_id: CertificateRole.NEW}
        return known.get(certificate_id)

    @property
    def last_seen(self) -> CertificateRole | None:
        """The certificate of the two that was seen last; None if neither was."""
        old, new = _instant(self.old_seen_at), _instant(self.new_seen_at)
        if new is None:
            return None if old is None else CertificateRole.OLD
        return CertificateRole.OLD if old is not None and old > new else CertificateRole.NEW

    def seen(self, certificate: CertificateRole, at: datetime) -> Rotation:
        """Return the rotation with a sighting of a ``certificate``; one before the latest known changes nothing."""
        if certificate is CertificateRole.OLD:
            return replace(self, old_seen_at=_later(self.old_seen_at, at))
        return replace(self, new_seen_at=_later(self.new_seen_at, at))

    def contested(self, at: datetime, now: datetime, who: str) -> Rotation:
        """Return the rotation with the request of ``who`` for a second key under its job; the first one counts."""
        if self.contested_at is not None:
            return self
        return self.step(now, who, "a second key was asked for", contested_at=at.isoformat())

    def ended(self, ending: Ending, at: datetime) -> Rotation:
        """Return the rotation with the ``ending`` of an execution; the latest counts, but a later deletion does not."""
        if self.has_ended_after(at) or (ending is Ending.DELETED and self.ending is not None):
            return self
        return replace(self, ending=ending, ended_at=at.isoformat())

    def has_ended_after(self, instant: datetime) -> bool:
        """Return whether an end of the execution is known that came after this instant."""
        return self.ended_at is not None and instant < datetime.fromisoformat(self.ended_at)

    def evidence(self, now: datetime, deactivated: CertificateRole | None = None) -> RotationEvidence:
        """Return what is known, for the table of verdicts; ``deactivated`` is the one that a person made INACTIVE."""
        return RotationEvidence(
            now=now,
            started=datetime.fromisoformat(self.started_at),
            leased=self.leased(now),
            handed_out=self.phase not in MAKING,
            committed=_instant(self.committed_at),
            ended=_instant(self.ended_at),
            ending=self.ending,
            old_seen=_instant(self.old_seen_at),
            new_seen=_instant(self.new_seen_at),
            contested=self.contested_at is not None,
            deactivated=deactivated,
        )

    def in_phase(self) -> Rotation:
        """Return the rotation with the phase that the evidence shows.

        It is unchanged before the new certificate was handed out, and while a certificate is being removed.
        """
        if self.phase not in {Phase.CREATED, Phase.COMMITTED, Phase.UNRESOLVED}:
            return self
        if self.ended_at is not None:
            return replace(self, phase=Phase.UNRESOLVED)
        return replace(self, phase=Phase.CREATED if self.committed_at is None else Phase.COMMITTED)

    def to_record(self) -> dict[str, Any]:
        """Return plain values for the table; what is not known is left out."""
        record = {_camel(name): value for name, value in asdict(self).items() if value not in (None, ())}
        if not self.is_shared:
            del record["isShared"]
        record["history"] = [asdict(entry) for entry in self.history]
        if self.superseded_digests:
            record["supersededDigests"] = list(self.superseded_digests)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rotation:
        """Read what ``to_record`` wrote, in this version or an earlier one."""
        record = {**record, **_of_earlier_versions(record)}
        values = {f.name: record[_camel(f.name)] for f in fields(cls) if _camel(f.name) in record}
        values["phase"] = Phase(values["phase"])
        values["version"] = int(values["version"])
        values["history"] = tuple(EvidenceEntry(**entry) for entry in values["history"])
        values["superseded_digests"] = tuple(values.get("superseded_digests", ()))
        for name, kind in (("outcome", RotationOutcome), ("ending", Ending)):
            if name in values:
                values[name] = kind(values[name])
        return cls(**values)


def _of_earlier_versions(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that earlier versions wrote in another form.

    They kept only the latest sighting, and the end of the job only as a line of evidence.
    """
    found: dict[str, Any] = {}
    if "seenPrincipal" in record:
        is_new = record["seenPrincipal"] == record.get("newCertificateId")
        found["newSeenAt" if is_new else "oldSeenAt"] = record["seenAt"]
    if "unresolvedAt" in record:
        line = next((entry for entry in reversed(record["history"]) if entry["what"] == "unresolved"), {"who": ""})
        word = line["who"].rpartition(" ")[2]
        found["endedAt"] = record["unresolvedAt"]
        found["ending"] = word if word in Ending.__members__ else Ending.DELETED.value
    return {name: value for name, value in found.items() if name not in record}


def _later(known: str | None, at: datetime) -> str:
    return known if known is not None and at <= datetime.fromisoformat(known) else at.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
