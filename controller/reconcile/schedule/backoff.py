"""How long a device is left alone after a failed rotation, and when it is given up.

After n failures: ``min(1h * 2^(n-1), 32h) * (0.5 + u_n/2)``; after five a person must look. Only failures of the
present rollout count (policy unchanged), of the present certificate and, if both are known, of the present version of
the component: a change of any of them starts from nought.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import parse_job_id

from .dates import share_of

if TYPE_CHECKING:
    from datetime import datetime

    from controller.reconcile.values import Certificate, Device, DeviceExecution

FIRST_DELAY = timedelta(hours=1)
LONGEST_DELAY = timedelta(hours=32)
MAX_FAILURES = 5


def counted_failures(device: Device, certificate: Certificate, policy: str, family: str) -> tuple[DeviceExecution, ...]:
    """Return the device's failures in this family of the policy's rollout that count, oldest first.

    Failures in jobs that are not ours count too: a rotation that was started by hand met the same device.
    """
    return tuple(
        failure
        for failure in device.failures
        if failure.last_updated_at >= certificate.created_at
        and _is_of_rollout(failure.job_id, policy, family)
        and not failure.was_of_another(device.component_version)
    )


def next_attempt_at(failures: tuple[DeviceExecution, ...], policy: str, certificate_id: str) -> datetime:
    """Return when the device may be tried again; ``failures`` is not empty. Policy and certificate spread it."""
    return failures[-1].last_updated_at + delay_after(len(failures), policy, certificate_id)


def delay_after(count: int, policy: str, certificate_id: str) -> timedelta:
    """Return the pause after the count-th failure: half to the whole of its step, spread by policy and certificate."""
    step = min(FIRST_DELAY * (1 << min(count - 1, 10)), LONGEST_DELAY)
    return step * (0.5 + share_of(policy, certificate_id, str(count)) / 2)


def _is_of_rollout(job_id: str, policy: str, family: str) -> bool:
    parsed = parse_job_id(job_id)
    return parsed is None or (parsed.policy == policy and parsed.digest.startswith(family))
