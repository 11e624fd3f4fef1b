"""What healing looks at: certificates, who holds them, what allows them anything, and what is known of their use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.reconcile.values import AttachmentType, CertificateStatus
from protocol.watch import Watch

ACTIVE, INACTIVE = CertificateStatus.ACTIVE, CertificateStatus.INACTIVE
SAME_CHANGE = timedelta(minutes=15)  # between noting that healing deactivates a certificate and AWS' own date of it


@dataclass(frozen=True, slots=True)
class Held:
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
    def is_strangers(self) -> bool:
        """Whether anybody is known to use it, though no thing holds it."""
        if self.watch is None or self.watch.last_seen is None:
            return False
        if not self.watch.things:
            return True
        gone = self.watch.deactivated
        return self.watch.stranger is not None or (gone is not None and self.watch.last_seen > gone)

    @property
    def is_left_over(self) -> bool:
        """Whether several things held it, of which each has got its own, and no other client was seen with it."""
        return not self.things and self.watch is not None and bool(self.watch.things) and not self.is_strangers

    @property
    def deactivated_here(self) -> datetime | None:
        """When healing deactivated it; None if it did not, or if somebody has changed the status since."""
        noted = self.watch.deactivated if self.watch is not None else None
        if noted is None or self.status is not INACTIVE or self.changed_at > noted + SAME_CHANGE:
            return None
        return noted


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing, and whether a rotation is at work or undecided: then the certificates are its affair."""

    name: str
    held: tuple[Held, ...]
    is_rotating: bool = False


@dataclass(frozen=True, slots=True)
class Waits:
    """How long healing waits: for connections before it judges, and between deactivating and removing."""

    watch: timedelta
    grace: timedelta
