"""A shortcut for devices of which nothing can be said: nine out of ten in a fleet that is kept well.

It only ever says yes where every check would have given no finding; the tests hold it to that. What
it compares with is worked out once per policy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import CertificateStatus

if TYPE_CHECKING:
    from datetime import datetime

    from controller.reconcile.values import Device, Policy

COMING_WITHIN = timedelta(days=7)  # NotYetDue is told from here on
_KNOWN = frozenset(
    {"max_age", "renew_before", "key_type", "csr_signing_algorithm", "rotate_issued_before", "authority"}
)  # demands that are compared here; the cutoff by whoever asks


@dataclass(frozen=True, slots=True)
class Quiet:
    """Bounds within which a certificate gives no reason to speak."""

    now: datetime
    key_type: str | None
    authority: str | None
    issued_after: datetime | None  # with maxAge: notBefore later than this is far from due
    ends_after: datetime  # notAfter later than this is far from due, jitter aside
    jitter: timedelta | None  # the most there can be; None: a share of the certificate's own life
    jitter_share: float
    rotatable: frozenset[str]  # types of attachment

    def covers(self, device: Device) -> bool:
        """Whether no check can have anything to say of the device."""
        attachments = device.attachments
        if len(attachments) != 1 or device.executions or device.failures:
            return False
        attachment = attachments[0]
        certificate = attachment.certificate
        start, end = certificate.not_before, certificate.not_after
        if start is None or end is None or start > self.now:
            return False
        jitter = self.jitter if self.jitter is not None else (end - start) * self.jitter_share
        return (
            attachment.type in self.rotatable
            and not attachment.shared_with
            and certificate.status is CertificateStatus.ACTIVE
            and certificate.parse_error is None
            and certificate.key_type is not None
            and (self.key_type is None or certificate.key_type == self.key_type)
            and (self.authority is None or certificate.authority == self.authority)
            and (self.issued_after is None or start > self.issued_after)
            and end - jitter > self.ends_after
        )


def quiet_of(policy: Policy, now: datetime, rotatable: frozenset[str]) -> Quiet | None:
    """The bounds for one policy at one moment; None if it demands what is not known here: then every check is asked."""
    rule, share = policy.certificate, policy.schedule.jitter_percent / 100
    if any(field.name not in _KNOWN and getattr(rule, field.name) is not None for field in fields(rule)):
        return None
    return Quiet(
        now=now,
        key_type=rule.key_type.value if rule.key_type else None,
        authority=rule.authority,
        issued_after=None if rule.max_age is None else now + COMING_WITHIN - rule.max_age * (1 - share),
        ends_after=now + COMING_WITHIN + (rule.renew_before or timedelta(0)),
        jitter=None if rule.max_age is None else rule.max_age * share,
        jitter_share=share,
        rotatable=rotatable,
    )
