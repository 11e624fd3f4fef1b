"""When a device should rotate: derived from policy and certificate, never drawn.

With nb, na the certificate's validity and L = min(na - nb, maxAge)::

    due    = min(na - renewBefore, nb + maxAge)
    u      = first 8 bytes of SHA-256(policy || certificateId) / 2^64
    J      = min(jitterPercent * L, (due - nb) / 2)
    target = due - u * J
    start  = target, if that is open time; else at share u of the open time in [due - J, due];
             if there is none, at share u of the first window after due, and maxAge is missed
    urgent : remaining life <= L / 20: windows are ignored, start = target

The same certificate under the same policy gives the same dates in a pull request, in CI and in the Lambda.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from controller.reconcile.values import Timing

if TYPE_CHECKING:
    from controller.reconcile.values import Certificate, CertificateRule, Policy

    from .windows import OpenTime

URGENT_SHARE = 20  # urgent when no more than this part of the life remains: L / 20
_NOTHING = timedelta(0)
LATE_SPREAD = timedelta(days=1)  # who is late already waits no longer than this into a long stretch of open time


class Dates(NamedTuple):
    """The bounds that follow from rule and certificate alone; None if the rule demands nothing of the kind."""

    life: timedelta  # L
    due_by_age: datetime | None
    due_by_expiry: datetime | None
    due: datetime | None
    jitter: timedelta  # J: the most that due is brought forward
    urgent_from: datetime  # so little life remains that windows are ignored


def dates_of(policy: Policy, certificate: Certificate) -> Dates | None:
    """Return the dates of the certificate under the policy; None if its validity is not known."""
    if certificate.not_before is None or certificate.not_after is None:
        return None
    return dates_of_validity(policy, certificate.not_before, certificate.not_after)


def dates_of_validity(policy: Policy, not_before: datetime, not_after: datetime) -> Dates:
    """Return the dates of a certificate that is valid from not_before to not_after."""
    rule = policy.certificate
    life = not_after - not_before
    by_age = by_expiry = None
    if rule.max_age is not None:
        life = min(life, rule.max_age)
        by_age = _moved(not_before, rule.max_age)
    if rule.renew_before is not None:
        by_expiry = _moved(not_after, -rule.renew_before)
    due = by_age if by_expiry is None or (by_age is not None and by_age <= by_expiry) else by_expiry
    jitter = life * policy.schedule.jitter_percent / 100
    if due is not None:
        # A certificate that is due early in its life must not be due at birth: half of the time until then is left.
        jitter = min(jitter, max(_NOTHING, due - not_before) / 2)
    return Dates(life, by_age, by_expiry, due, jitter, not_after - life / URGENT_SHARE)


def _moved(instant: datetime, span: timedelta) -> datetime:
    """Return the instant that much later, or as far as the calendar goes.

    Anybody may issue a certificate of the year 9999.
    """
    try:
        return instant + span
    except OverflowError:
        return (_FAR_AHEAD if span > timedelta(0) else _LONG_AGO).replace(tzinfo=instant.tzinfo)


_LONG_AGO, _FAR_AHEAD = datetime(1000, 1, 1), datetime(9000, 1, 1)  # noqa: DTZ001 - the zone is the instant's


def share_of(*parts: str) -> float:
    """Return the u of the formulas, in [0, 1): the first 8 bytes of SHA-256 over the parts, as a fraction."""
    # 53 of the 64 bits are what a float holds; dropping the rest keeps u below 1.
    return (int.from_bytes(sha256("".join(parts).encode()).digest()[:8], "big") >> 11) / (1 << 53)


def timing_of(
    policy: Policy, certificate: Certificate, dates: Dates, open_time: OpenTime, *, is_urgent: bool = False
) -> Timing | None:
    """Return when the certificate's device, urgent or not, should rotate; None if the policy gives no due date."""
    due = dates.due
    if due is None:
        return None
    share = share_of(policy.name, certificate.certificate_id)
    target = due - dates.jitter * share
    start, misses = target, False
    if not is_urgent and not open_time.is_open(target):
        start, misses = _into_open_time(due, dates.jitter, share, open_time)
    return Timing(due, target, start, is_urgent, misses, certificate.not_after)


def life_under(rule: CertificateRule, validity: timedelta) -> timedelta:
    """Return how long a certificate of that validity may be used under the rule, from notBefore to due."""
    life = validity if rule.renew_before is None else validity - rule.renew_before
    return life if rule.max_age is None else min(life, rule.max_age)


def _into_open_time(due: datetime, jitter: timedelta, share: float, open_time: OpenTime) -> tuple[datetime, bool]:
    """Return the start, and whether it misses due, for a target in closed time."""
    start = open_time.at_share(due - jitter, due, share)
    if start is not None:
        return start, False
    window = open_time.next_open(due)
    if window is None:  # validate forbids such windows; without it nothing ever starts
        return datetime.max.replace(tzinfo=due.tzinfo), True
    start = window.start + min(window.end - window.start, LATE_SPREAD) * share
    return start, start > due
