"""One digest over everything that a plan would do.

It covers fleet, commit, steps, refusals and every device with its certificate; not the moment of
planning nor sentences about the rollout, so that equal situations have equal digests.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.reconcile.values import Plan, PlannedJob


def digest_of(plan: Plan) -> str:
    """64 hexadecimal characters; the plan's own ``digest`` is not looked at."""
    hasher = sha256()
    for line in _lines(plan):
        hasher.update(line.encode())
        hasher.update(b"\n")
    return hasher.hexdigest()


def _lines(plan: Plan) -> Iterator[str]:
    yield repr(("plan", plan.fleet, plan.account, plan.region, plan.commit))
    yield repr(("resumed", plan.resumed))
    yield repr(sorted(plan.group_sizes.items()))
    for job in plan.jobs:
        yield from _job_lines(job)
    for step in plan.steps:
        yield repr(("step", step.job_id, step.action, step.reason))
    for refusal in plan.refusals:
        yield repr(("refusal", refusal.guardrail, refusal.policy, refusal.message, refusal.override))


def _job_lines(job: PlannedJob) -> Iterator[str]:
    yield repr(("job", job.job_id, job.policy, job.wave, job.target_kind.value, job.target_group, job.is_standing))
    yield job.document.to_json()
    rollout = job.rollout
    yield repr(("rollout", rollout.max_in_flight, rollout.maximum_per_minute, rollout.timeout, rollout.retries))
    for rule in rollout.abort:
        yield repr((rule.failure_type.value, float(rule.threshold_percentage), rule.min_number_of_executed_things))
    yield from (repr(("stays", name)) for name in job.stays)
    for device in job.devices:
        yield repr((device.name, device.certificate_id, device.attempt))
