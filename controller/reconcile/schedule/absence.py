"""When a device that connects rarely is expected again, derived from its own absences and nobody else's.

With ``last`` the moment it was last connected, and g its known absences::

    p90        = the ceil(0.9 n)-th shortest of its n absences (nearest rank); unknown with fewer than five
    seen again = last + p90; now + p90 if it has been away for longer than that already
    at risk    : notAfter <= seen again

A device that is connected now counts too: if it leaves now, it may come back too late.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import OfflineRisk

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from controller.reconcile.values import Device

LEAST_GAPS = 5  # fewer say nothing of a device


def usual_absence(gaps: Sequence[timedelta]) -> timedelta | None:
    """Return the span that nine in ten absences did not exceed; None if too few are known."""
    if len(gaps) < LEAST_GAPS:
        return None
    return sorted(gaps)[-(-9 * len(gaps) // 10) - 1]


def seen_again(last: datetime, absence: timedelta, now: datetime) -> datetime:
    """Return by when a device is likely back that was connected at ``last`` and is usually away for ``absence``."""
    expected = last + absence
    return expected if expected > now else now + absence


def risk_of(device: Device, now: datetime) -> OfflineRisk | None:
    """Return what its absences mean for its certificate; None if it has none, or no certificate that ends."""
    absences = device.absences
    ends = [one.certificate.not_after for one in device.attachments if one.certificate.not_after is not None]
    if absences is None or not ends:
        return None
    absence = usual_absence(absences.gaps)
    again = None if absence is None else seen_again(absences.seen_at, absence, now)
    return OfflineRisk(device.name, max(ends), absences.seen_at, absences.is_away, len(absences.gaps), absence, again)


def in_order(risks: Iterable[OfflineRisk], waves: dict[str, int], last: int) -> list[OfflineRisk]:
    """Sort by the life left once the device is expected again, then by wave; if unknown, by the certificate's end.

    ``waves`` has the wave of each device that is asked now; all others come with the ``last``.
    """

    def rank(risk: OfflineRisk) -> tuple[bool, float, int, str]:
        left = risk.expires.timestamp() if risk.margin is None else risk.margin.total_seconds()
        return risk.margin is None, left, waves.get(risk.device, last), risk.device

    return sorted(risks, key=rank)
