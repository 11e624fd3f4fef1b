"""A shortcut for devices of which nothing can be reported: nine out of ten in a fleet that is kept well.

It knows no demand and no date. If every check was asked about a certificate and found nothing, the shortcut asks the
same checks how much older such a certificate may be, and how much nearer to its end, until one of them finds
something. No check finds anything about a certificate that is alike, ends no sooner than that and is valid no longer
(so it began no earlier); every other certificate goes through the checks. This rests on one thing: a check that finds
nothing about a certificate finds nothing about a younger one. The tests hold every demand to that; incidents and
cutoffs, which also look at when a certificate was registered, have no shortcut.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from controller.reconcile.values import Device

WORTH_LEARNING = 64  # devices that are alike; from then on whenever their number has doubled
_FURTHEST = timedelta(days=20_000)  # to which certificates are tried
_NEAR_ENOUGH = timedelta(minutes=1)
_kind_of = attrgetter(  # all that a check may look at but the dates
    "type",
    "shared_with",
    "certificate.status",
    "certificate.key_type",
    "certificate.authority",
    "certificate.parse_error",
)


class Quiet:
    """The knowledge gathered under one policy at one moment."""

    __slots__ = ("_known", "_now", "_silent")

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._silent: dict[tuple[object, ...], int] = {}  # devices that had nothing to say, by what they hold
        self._known: dict[tuple[object, ...], list[tuple[datetime, timedelta]]] = {}  # ends from then on, valid so long

    def covers(self, device: Device) -> bool:
        """Return whether no check can have anything to report of the device."""
        attachments = device.attachments
        if len(attachments) != 1 or device.executions or device.failures or device.absences:
            return False
        attachment = attachments[0]
        certificate = attachment.certificate
        known = self._known.get(_kind_of(attachment))
        start, end = certificate.not_before, certificate.not_after
        if known is None or start is None or end is None or start > self._now:
            return False
        validity = end - start
        for least_end, longest in known:  # noqa: SIM110 (a generator for each device takes as long as all the rest)
            if end >= least_end and validity <= longest:
                return True
        return False

    def learn(self, device: Device, is_silent: Callable[[Device], bool]) -> None:
        """Remember a device of which every check found nothing; ``is_silent`` compares another with it."""
        attachment = device.attachments[0]
        certificate = attachment.certificate
        start, end = certificate.not_before, certificate.not_after
        if start is None or end is None or start > self._now or device.executions or device.failures:
            return
        kind = _kind_of(attachment)
        number = self._silent[kind] = self._silent.get(kind, 0) + 1
        if number % WORTH_LEARNING or number & (number - 1):
            return

        def is_silent_with(not_before: datetime, not_after: datetime) -> bool:
            other = replace(certificate, not_before=not_before, not_after=not_after)
            return is_silent(replace(device, attachments=(replace(attachment, certificate=other),)))

        older = _furthest(lambda by: is_silent_with(start - by, end))
        sooner = _furthest(lambda by: is_silent_with(start - by, end - by))
        known = [*self._known.get(kind, ()), (end, end - start + older), (end - sooner, end - start)]
        # Who is not covered is compared with all of them, so what another holds too is dropped.
        self._known[kind] = [a for a in dict.fromkeys(known) if not any(_holds(b, a) for b in known if b != a)]


def _holds(one: tuple[datetime, timedelta], other: tuple[datetime, timedelta]) -> bool:
    """Return whether whatever the other covers is covered by the one."""
    return one[0] <= other[0] and one[1] >= other[1]


def _furthest(holds: Callable[[timedelta], bool]) -> timedelta:
    """Return the longest span, to a minute, for which ``holds`` is true; it is taken as true for a span of nought."""
    low, high = timedelta(0), _FURTHEST
    while high - low > _NEAR_ENOUGH:
        middle = (low + high) / 2
        try:
            low, high = (middle, high) if holds(middle) else (low, middle)
        except OverflowError:  # before the calendar begins
            high = middle
    return low
