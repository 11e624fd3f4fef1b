"""The result of the last rotation of a device, from its jobs and the certificate that is there. Nothing is stored.

A rotation that was not carried out as asked leaves its finding where it was. To ask again
would be to ask for ever: each rotation is in vain until a person has removed the cause.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.rollout import is_other_than
from controller.reconcile.schedule import dates_of_validity
from controller.reconcile.values import Reason, parse_job_id

from .governance import BACKDATING_TOLERANCE

if TYPE_CHECKING:
    from datetime import datetime

    from controller.reconcile.schedule import Dates
    from controller.reconcile.values import Certificate, DeviceExecution, Finding

    from .case import Case

ROTATION_CERTIFICATES = 2  # the old and the new one, while a rotation is under way
SETTLES = timedelta(minutes=15)  # a job says SUCCEEDED seconds before the old certificate is gone; repeats take minutes
FAITHFUL_SHARE = 0.9  # of the validity that an authority promises; who gives less did not do as asked

_DATED = (Reason.EXPIRING, Reason.AGE_EXCEEDED)  # they come back in time; any rotation cures whatever else there is


def last_rotation(case: Case) -> DeviceExecution | None:
    """Return the execution that the present certificate came of; None if it was put there otherwise, or long ago."""
    certificate = case.certificate
    if certificate is None:
        return None
    name, governance = case.device.name, case.governance
    ended = (governance.successes.get(name), *case.device.failures, governance.broken_off.get(name))
    return next((one for one in ended if one is not None and one.brought(certificate.created_at)), None)


def is_settling(case: Case) -> DeviceExecution | None:
    """Return the rotation that has just succeeded, until the old certificate is removed; None otherwise."""
    held = case.device.attachments
    if len(held) != ROTATION_CERTIFICATES:
        return None
    done = case.governance.successes.get(case.device.name)
    if done is None or case.now - done.last_updated_at >= SETTLES:
        return None
    return done if any(done.brought(attachment.certificate.created_at) for attachment in held) else None


def in_vain(case: Case, last: DeviceExecution | None) -> Finding | None:
    """Return the demand that the ``last`` rotation under the present rule should have put right, or None.

    A device whose job ends otherwise once the new certificate is in place, as when it finishes after the time limit,
    has rotated no less.
    """
    certificate = case.certificate
    if last is None or certificate is None:
        return None
    job = parse_job_id(last.job_id)
    if job is None or job.policy != case.policy.name or not job.digest.startswith(case.governed.family):
        return None  # under another rule: what it came to says nothing of this one
    return next((demand for demand in case.demands if _should_be_cured(demand.reason, case, certificate)), None)


def is_other(case: Case, last: DeviceExecution) -> bool:
    """Return whether the ``last`` rotation brought another certificate than its job asked for."""
    asked = case.governance.documents.get(last.job_id)
    return asked is not None and case.certificate is not None and is_other_than(asked, case.certificate)


def left_alone_until(case: Case, last: DeviceExecution | None) -> datetime | None:
    """Return until when a device is left alone after its ``last`` rotation; None if it is not. At most half a life."""
    if last is None or case.certificate is None:
        return None
    interval = case.policy.schedule.least_interval
    return case.certificate.created_at + (interval if case.dates is None else min(interval, case.dates.life / 2))


def _should_be_cured(reason: Reason, case: Case, certificate: Certificate) -> bool:
    """Return whether a certificate that had been issued as asked would not have this finding now."""
    if reason is Reason.AUTHORITY_TAINTED:  # by an incident of later: of the issue periods none that was over
        return any(i.issued_before is not None and i.issued_before <= certificate.created_at for i in case.taints)
    if reason is Reason.DRILLED:
        return any(drill.since <= certificate.created_at for drill in case.drills)
    if reason not in _DATED:
        return True
    dates = case.dates
    if dates is None or dates.due is None:
        return False
    faithful = _as_asked(case, certificate)
    is_other = faithful.due is not None and faithful.due > dates.due
    return dates.due <= certificate.created_at or (is_other and not _is_due(faithful, case.now))


def _as_asked(case: Case, certificate: Certificate) -> Dates:
    """Return the dates that the certificate would have, had it been issued as the policy asks."""
    start, end = certificate.not_before, certificate.not_after
    assert start is not None and end is not None  # noqa: S101, PT018 - a case with dates has both
    start = max(start, certificate.created_at - BACKDATING_TOLERANCE)
    authority = case.governance.desired.authorities.get(case.policy.certificate.authority or "")
    if authority is not None and authority.validity is not None:
        end = max(end, start + authority.validity * FAITHFUL_SHARE)
    return dates_of_validity(case.policy, start, end)


def _is_due(dates: Dates, now: datetime) -> bool:
    return dates.due is not None and dates.due - dates.jitter <= now
