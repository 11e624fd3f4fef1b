"""The facts that healing looks at: certificates, who holds them, what allows them anything, and their use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.reconcile.values import AttachmentType, CertificateStatus
from protocol.watch import SAME_CHANGE, Watch

ACTIVE, INACTIVE = CertificateStatus.ACTIVE, CertificateStatus.INACTIVE


@dataclass(frozen=True, slots=True)
class CertificateHolders:
    """One certificate. ``things`` are all that hold it, ``changed_at`` is when its status last changed."""

    certificate_id: str
    status: CertificateStatus
    created_at: datetime
    changed_at: datetime
    things: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    type: AttachmentType = AttachmentType.EXCLUSIVE  # to the thing that is looked at
    watch: Watch | None = None

    @property
    def is_seen(self) -> bool:
        """Whether anybody is known to have connected with it."""
        return self.watch is not None and self.watch.last_seen is not None

    @property
    def is_backends(self) -> bool:
        """Whether several things held it and none does now: the backend removes it in its time, and reports if not."""
        if self.things or self.watch is None or not self.watch.things:
            return False
        return self.deactivated_here is not None or (self.status is ACTIVE and self.watch.told is None)

    @property
    def deactivated_here(self) -> datetime | None:
        """When healing deactivated it; None if it did not, or if somebody has changed the status since."""
        noted = self.watch.deactivated if self.watch is not None else None
        if noted is None or self.status is not INACTIVE or self.changed_at > noted + SAME_CHANGE:
            return None
        return noted


@dataclass(frozen=True, slots=True)
class ThingFacts:
    """One thing, and whether a rotation is at work or undecided: then the rotation decides about the certificates."""

    name: str
    held: tuple[CertificateHolders, ...]
    is_rotating: bool = False


@dataclass(frozen=True, slots=True)
class HealingWaits:
    """How long healing waits: for connections before it judges, and between deactivating and removing."""

    watch: timedelta
    grace: timedelta
