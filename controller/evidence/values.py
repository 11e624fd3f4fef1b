"""The parts of evidence, and their sum. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from controller.reconcile.values import DrillReport
from protocol.rotation_record import RefusalRecord


class Gap(StrEnum):
    """A gap of a row; the value is its name in every format."""

    NO_RECORD = "no-record"  # nothing in the table brought this certificate: by hand, before certfleet, or restored
    BEFORE = "before-unknown"  # nothing tells what the thing held before this one, if anything, in the period
    CHAIN = "chain-broken"  # the rotation before it left another certificate in place than the next one replaced
    NO_POLICY = "no-policy"  # the job named no policy: it was made by hand, or by the stock solution
    COMMIT = "commit-unknown"  # this clone does not hold the commit that the job named
    APPROVAL = "approval-unknown"  # neither the commit nor a pull request says who approved
    ISSUE_DATE = "issue-date-unknown"  # no thing holds it any more, and no record says when it was issued
    POLICY_UNKNOWN = "policy-unknown"  # the documents of that time do not show what the policy allowed


class Fate(StrEnum):
    """The end of a certificate."""

    IN_USE = "in use"
    REPLACED = "replaced"
    TAKEN_BACK = "taken back"  # the rotation came to nothing, and the device kept its old certificate
    UNDECIDED = "undecided"  # its rotation runs, or nobody knows yet which certificate the device uses
    ATTACHED = "attached"  # beside the one in use, brought by no rotation
    GONE = "gone"  # the last that a rotation brought, and the registry does not show it attached to the thing


IN_SERVICE = frozenset({Fate.IN_USE, Fate.REPLACED, Fate.GONE})
"""Of these it is judged how old they became."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The person who answers for a commit: ``how`` is a trailer's name, ``merged`` or ``approved``."""

    who: str
    how: str
    pull_request: int | None = None


@dataclass(frozen=True, slots=True)
class DocumentCommit:
    """A commit of the documents."""

    commit: str
    author: str
    committed_at: datetime
    subject: str
    approvals: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class Exemption:
    """Devices that were left out, by whose word, in the documents from ``since`` to before ``until`` (None: still)."""

    name: str
    kind: str  # Waiver, Quarantine, or suspend of a RotationPolicy
    devices: tuple[str, ...]  # none for a suspended policy: all of its devices
    owner: str | None
    reason: str
    expires: datetime | None  # None: when a person lifts it
    since: datetime
    until: datetime | None = None
    certificates: tuple[str, ...] = ()  # ids, of a quarantine


@dataclass(frozen=True, slots=True)
class Practice:
    """A drill, as the documents held it, and what the backend's table shows of its devices.

    The devices that it rotated are known for good. The devices that were offline when asked, and what follows for the
    whole policy, stand in ``result`` as long as its document and its jobs are there.
    """

    name: str
    policy: str
    reason: str
    since: datetime
    deadline: datetime
    sample: str
    devices: tuple[str, ...]
    commit: str  # the first that held it
    until: datetime | None = None  # when the documents held it no longer; None: they do
    change: DocumentCommit | None = None
    rotated: tuple[str, ...] = ()  # from the decision to its end
    first_begun_at: datetime | None = None
    last_rotated_at: datetime | None = None
    result: DrillReport | None = None


@dataclass(frozen=True, slots=True)
class AgeRule:
    """The terms of a policy from ``since`` on, by the documents at ``commit``; None allows any age."""

    since: datetime
    commit: str
    max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class PolicyHistory:
    """The documents over time, as far as git shows them.

    ``rules`` are each policy's, oldest first; a policy that was removed has a last rule that allows any age.
    ``unreadable`` are commits whose documents have errors.
    """

    rules: Mapping[str, tuple[AgeRule, ...]] = field(default_factory=dict)
    exemptions: tuple[Exemption, ...] = ()
    drills: tuple[Practice, ...] = ()
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InUse:
    """A certificate that the registry shows attached to a thing now, and the policy that governs the thing."""

    thing: str
    certificate_id: str
    created_at: datetime
    not_before: datetime | None
    key_type: str | None
    authority: str | None
    policy: str | None


@dataclass(frozen=True, slots=True)
class Excess:
    """A span in which a certificate was older than its policy allowed."""

    since: datetime
    until: datetime
    allowed: timedelta


@dataclass(frozen=True, slots=True)
class CertificateSpan:
    """One certificate of one thing, from its issue to its end.

    ``job_id`` and what follows are of the rotation that issued it. ``connected_at`` is when the device committed over a
    connection with it. ``ended_at`` is when another took its place, or the backend took it back; None: it is in use, or
    undecided. ``policy`` is the one that it is judged by: whose job replaced it, else whose device it is now.
    """

    thing: str
    certificate_id: str
    fate: Fate
    key_type: str | None = None
    authority: str | None = None
    policy: str | None = None
    job_id: str | None = None
    asked_by: str | None = None  # the policy that asked for it
    wave: str | None = None
    plan: str | None = None  # the digest's beginning
    change: DocumentCommit | None = None
    issued_at: datetime | None = None
    connected_at: datetime | None = None
    ended_at: datetime | None = None
    ended_by: str | None = None
    oldest: timedelta | None = None  # the greatest age that it reached while in use, within the period
    excesses: tuple[Excess, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyAges:
    """The sum of the rows of one policy: who held a certificate older than the policy allowed."""

    policy: str
    devices: int
    certificates: int
    oldest: timedelta | None
    allowed: timedelta | None  # by the newest documents
    exceeding: tuple[str, ...]  # devices with an excess
    exempt: tuple[str, ...]  # of them, those that were left out by a person's word at some time of the excess
    not_judged: tuple[str, ...]  # devices with a row of which the age or the policy is not known


@dataclass(frozen=True, slots=True)
class FleetEvidence:
    """The evidence of one fleet."""

    fleet: str
    account: str
    region: str
    since: datetime
    until: datetime
    commit: str | None
    rows: tuple[CertificateSpan, ...]
    ages: tuple[PolicyAges, ...]
    exemptions: tuple[Exemption, ...]
    refusals: tuple[RefusalRecord, ...] = ()  # the last under each job that has ended otherwise than well
    drills: tuple[Practice, ...] = ()
    unreadable_commits: tuple[str, ...] = ()
    unreadable_records: tuple[str, ...] = ()
