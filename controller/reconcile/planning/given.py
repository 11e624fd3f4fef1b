"""A plan that was made before: whether it may be applied here and now, and how it differs from the one made now.

It is data and no authority. Whatever stands in the file, only what the present plan derives by itself is
carried out. Here stands what is left out of the file, and why; and what no plan of ours could ever have held
is refused: the file was edited.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from controller.errors import PlanError
from controller.reconcile.values import VALID_FOR, Outcome, parse_job_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from controller.reconcile.values import Assessment, DesiredState, Plan, PlannedJob, WaveReport

_AGAIN = "plan again, and have that plan reviewed"


def check_plan(plan: Plan, desired: DesiredState, now: datetime) -> None:
    """Raise PlanError unless the plan is for this fleet at this commit, and has not ended."""
    fleet = desired.fleet
    for what, planned, found in (
        ("fleet", plan.fleet, fleet.name),
        ("account", plan.account, fleet.account),
        ("region", plan.region, fleet.region),
    ):
        if planned != found:
            raise PlanError(
                f"the plan is for {what} {planned}, the desired state demands {found}",
                "choose the fleet with --fleet, or plan again",
            )
    if plan.commit != desired.commit:
        raise PlanError(
            f"the plan was made from commit {_short(plan.commit)}, the desired state is at {_short(desired.commit)}",
            f"plan again, or apply what was planned with --ref {_short(plan.commit)}",
        )
    _require_own(plan, desired)
    age = now - plan.created_at
    if age < -timedelta(minutes=5):
        raise PlanError(
            f"the plan was made at {plan.created_at:%Y-%m-%d %H:%M}Z, which is after now ({now:%Y-%m-%d %H:%M}Z)",
            "set this machine's clock, or plan again",
        )
    ends = min(plan.valid_until or plan.created_at, plan.created_at + VALID_FOR)
    if now > ends:
        raise PlanError(f"the plan ended at {ends:%Y-%m-%d %H:%M}Z", "plan again: the fleet has gone on since")


def compared(given: Plan, present: Plan, seen: Mapping[str, Assessment]) -> dict[str, str]:
    """Return why each device of the given plan that does not rotate now is left out, by name.

    ``present`` is derived now, ``seen`` its assessments. Raises PlanError if the given plan names a device that no
    policy governs, or claims of a job that is made now something else than is derived: it was edited, or the fleet is
    another one by now.
    """
    jobs = {job.job_id: job for job in present.jobs}
    starting = {device.name for job in present.jobs for device in job.devices}
    waves = {report.policy: report for report in present.waves}
    left_out: dict[str, str] = {}
    for job in given.jobs:
        _require_same(job, jobs.get(job.job_id))
        for device in job.devices:
            if device.name not in seen:
                raise PlanError(f"the plan rotates {device.name}, which no policy governs", _AGAIN)
            if device.name not in starting:
                left_out[device.name] = _why(seen[device.name], device.certificate_id, waves.get(job.policy))
    return left_out


def _require_same(given: PlannedJob, present: PlannedJob | None) -> None:
    """Compare jobs by id, which covers the document; how a job reaches its devices may change with the fleet."""
    if present is not None and given.document != present.document:
        raise PlanError(
            f"the plan has another document for job {given.job_id} than is derived: {given.document.to_json()}", _AGAIN
        )


def _why(assessment: Assessment, certificate_id: str, wave: WaveReport | None) -> str:
    found = assessment.certificate_id
    if found is not None and found != certificate_id:
        return f"certificate is {found[:12]}…, planned with {certificate_id[:12]}…"
    for outcome in (Outcome.BLOCKED, Outcome.WAITING):
        for finding in assessment.findings:
            if finding.outcome is outcome:
                return f"{finding.reason.value}: {finding.message}"
    if not assessment.findings:
        return "nothing is demanded of it any more"
    return wave.message if wave is not None else "its policy does not rotate"


def _require_own(plan: Plan, desired: DesiredState) -> None:
    """Raise PlanError if the plan names what no plan for these documents can name."""
    groups = {policy.name: policy.thing_group for policy in desired.policies}
    for job in plan.jobs:
        parsed = parse_job_id(job.job_id)
        if parsed is None or parsed.policy != job.policy or job.policy not in groups:
            raise PlanError(f"the plan has a job {job.job_id} of policy {job.policy}, which git does not have", _AGAIN)
        if job.target_group not in {None, job.job_id, groups[job.policy]}:
            raise PlanError(f"the plan has job {job.job_id} target group {job.target_group}, a foreign one", _AGAIN)
    for step in plan.steps:
        if parse_job_id(step.job_id) is None or step.action != "cancel":
            raise PlanError(
                f"the plan wants to {step.action} {step.job_id}, which is not a job of certfleet's to {step.action}",
                _AGAIN,
            )


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "none (not a repository)"
