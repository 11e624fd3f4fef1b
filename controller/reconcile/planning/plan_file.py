"""Plans as JSON: versioned, canonical, checked when read, and sealed by a digest.

Equal plans are equal text. A plan file may have been edited or cut off: reading one checks its
shape, its version and its digest, and raises PlanError that shows which. The digest covers everything that
a plan would do (fleet, commit, steps, refusals and every device with its certificate); not the moment of
planning nor sentences about the rollout, so that equal situations have equal digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from controller.errors import PlanError
from controller.reconcile.values import FORMAT_VERSION, Plan, PlannedJob

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_PLAN_BYTES = 1024 * 1024 * 1024  # of a file, and of a plan in it; a million devices take about 300 MB

_AGAIN = "make the plan again: certfleet plan --format json --output plan.json"


def plan_to_json(plan: Plan) -> str:
    """Return the file's text, with a newline at its end."""
    body = {"format_version": FORMAT_VERSION, **_adapter().dump_python(plan, mode="json")}
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def plan_from_json(text: str | bytes) -> Plan:
    """Read a plan file; PlanError if it is damaged, of a newer version, or changed since it was made."""
    if len(text) > MAX_PLAN_BYTES:
        raise PlanError(f"the plan is {len(text):,} long, at most {MAX_PLAN_BYTES:,} are read", _AGAIN)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"the plan is not JSON: {error}", _AGAIN) from error
    version = body.get("format_version") if isinstance(body, dict) else None
    if version != FORMAT_VERSION:
        raise PlanError(
            f"the plan has format_version {version!r}, this certfleet reads {FORMAT_VERSION}",
            "apply it with the certfleet that made it, or " + _AGAIN,
        )
    plan = _validate({key: value for key, value in body.items() if key != "format_version"})
    expected = digest_of(plan)
    if plan.digest != expected:
        raise PlanError(
            f"the plan claims to have digest {plan.digest[:16]}, its contents have {expected[:16]}: "
            "it was changed after it was made",
            _AGAIN,
        )
    return plan


@cache
def _adapter() -> TypeAdapter[Plan]:
    """Return the reader, made at first need: most commands read and write no plan, and pydantic takes 12 MB."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(Plan)


def _validate(body: dict[str, Any]) -> Plan:
    from pydantic import ValidationError  # noqa: PLC0415 - as above

    try:
        return _adapter().validate_json(json.dumps(body))
    except ValueError as error:  # pydantic's own is one
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise PlanError(f"the plan is damaged at {where}: {first['msg']}", _AGAIN) from error


def digest_of(plan: Plan) -> str:
    """Return the digest, 64 hexadecimal characters; the plan's own ``digest`` is not looked at."""
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
