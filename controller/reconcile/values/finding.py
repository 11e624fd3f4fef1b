"""Reasons, findings and assessments: what one look at one device shows.

Every device of every governed group gets exactly one Assessment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .policy import Reason
from .result import STOCK_KIND

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .absence import OfflineRisk
    from .device import Certificate, Preflight
    from .result import RotationResult


class Outcome(StrEnum):
    """The action that a finding calls for."""

    ROTATE = "rotate"
    BLOCKED = "blocked"  # a rotation cannot or must not start; a person must act
    WAITING = "waiting"  # drift that is being dealt with, or is coming


class Sync(StrEnum):
    """Whether a device (or a policy) is as git demands."""

    IN_SYNC = "InSync"
    OUT_OF_SYNC = "OutOfSync"
    UNKNOWN = "Unknown"


class Health(StrEnum):
    """How a device (or a policy) is doing."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    MISSING = "Missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason why one device departs from its policy.

    ``message`` is a sentence with the numbers in it; ``remedy`` shows what a person must do (blocked
    only); ``policy_field`` is the dotted path of the policy field that was departed from, for its YAML line.
    """

    reason: Reason
    outcome: Outcome
    message: str
    policy_field: str = "spec"
    remedy: str | None = None
    values: Mapping[str, str | int | float | None] = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether it blocks because a person has decided so: it is reported, and nobody is needed."""
        return self.reason in DECIDED and "active" not in self.values


DECIDED = frozenset({Reason.WAIVED, Reason.SUSPENDED, Reason.QUARANTINED})
"""Reasons that are a person's decision in git."""


class Timing(NamedTuple):
    """When a device should rotate, and how that was computed; see ``reconcile.schedule``."""

    due: datetime  # the instant from which the certificate breaks the policy
    target: datetime  # due, brought forward by jitter
    start: datetime  # target, moved into open time
    is_urgent: bool = False  # windows are ignored
    misses_max_age: bool = False  # it comes after due: no window opened before, or none was used
    deadline: datetime | None = None  # must be done by then: an incident's deadline, or notAfter


class Assessment(NamedTuple):
    """The one verdict on one device under its one policy (None if policies tie).

    A named tuple, which is made in a quarter of the time that a frozen dataclass takes: there is one for each device.
    """

    device: str
    policy: str | None
    certificate: Certificate | None  # the only one that is attached
    findings: tuple[Finding, ...]
    sync: Sync
    health: Health
    last_seen: datetime | None = None
    component_version: str | None = None
    timing: Timing | None = None
    failures: int = 0  # that count against the next rotation; see ``reconcile.backoff``
    result: RotationResult | None = (
        None  # what a rotation makes of it; None: not known, or as a stock backend is set to
    )
    is_in_vain: bool = False  # it was rotated as asked, and is no nearer to its policy
    preflight: Preflight | None = None  # what the device has answered about the rotation that it needs
    risk: OfflineRisk | None = None  # of a device that connects rarely

    @property
    def certificate_id(self) -> str | None:
        """The id of the only certificate; None if there is none, or several."""
        return self.certificate.certificate_id if self.certificate else None

    @property
    def certificate_created_at(self) -> datetime | None:
        """When the only certificate was registered."""
        return self.certificate.created_at if self.certificate else None

    @property
    def needs_rotation(self) -> bool:
        """Whether the device has drift that a rotation puts right and nothing blocks."""
        outcomes = [finding.outcome for finding in self.findings]
        return Outcome.ROTATE in outcomes and Outcome.BLOCKED not in outcomes

    @property
    def is_due(self) -> bool:
        """Whether the device rotates now or as soon as a window opens: the hour of the look makes no difference."""
        return self.outcome is Outcome.ROTATE or self.is_kept_by(Reason.OUTSIDE_WINDOW)

    def is_kept_by(self, *reasons: Reason) -> bool:
        """Return whether the device must rotate, and only these reasons keep it from that."""
        others = [finding.reason for finding in self.findings if finding.outcome is not Outcome.ROTATE]
        return 0 < len(others) < len(self.findings) and all(reason in reasons for reason in others)

    @property
    def person_needed_for(self) -> Finding | None:
        """The first finding that blocks; None if nothing does, or a person has decided that already."""
        found = next((finding for finding in self.findings if finding.outcome is Outcome.BLOCKED), None)
        return None if found is None or found.is_decided else found

    @property
    def kind(self) -> str:
        """The kind of job that the device needs; of a stock backend there is one."""
        return self.result.kind if self.result is not None else STOCK_KIND

    @property
    def is_rotating(self) -> bool:
        """Whether a job asks it now, or it is at work in one."""
        return Reason.ROTATING in [finding.reason for finding in self.findings]

    @property
    def outcome(self) -> Outcome | None:
        """Blocked beats waiting beats rotate; None for a device in sync with nothing to report."""
        found = [finding.outcome for finding in self.findings]
        for outcome in (Outcome.BLOCKED, Outcome.WAITING, Outcome.ROTATE):
            if outcome in found:
                return outcome
        return None


def to_rotate(reason: Reason, message: str, policy_field: str, **values: str | float | None) -> Finding:
    """Return a finding, with its message, that a rotation puts right; it departs from ``policy_field``."""
    return _shared(reason, message, policy_field, tuple(values.items()))


@lru_cache(maxsize=1024)
def _shared(
    reason: Reason, message: str, policy_field: str, values: tuple[tuple[str, str | float | None], ...]
) -> Finding:
    """Return one finding for all devices of which the same is found: a large fleet has many of them."""
    return Finding(reason, Outcome.ROTATE, message, policy_field, None, dict(values))


def blocked(reason: Reason, message: str, remedy: str, policy_field: str, **values: str | float | None) -> Finding:
    """Return a finding, with message and remedy, that a person must act on; it departs from ``policy_field``."""
    return Finding(reason, Outcome.BLOCKED, message, policy_field, remedy, values)


def waiting(reason: Reason, message: str, policy_field: str, **values: str | float | None) -> Finding:
    """Return a finding, with its message, that time or a rotation puts right; it comes of ``policy_field``."""
    return Finding(reason, Outcome.WAITING, message, policy_field, None, values)
