"""What holds up a fleet as a whole until a person acts: refusals, halted rollouts, incidents that end too late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .model import FleetReport


@dataclass(frozen=True, slots=True)
class Hitch:
    """One of them, and what to do about it."""

    what: str
    message: str
    remedy: str


def hitches(report: FleetReport) -> Iterator[Hitch]:
    """Those of the report's plan, or of the plan that apply would make now."""
    plan = report.next_plan
    if plan is None:
        return
    for refusal in plan.refusals:
        yield Hitch(
            f"guardrail {refusal.guardrail}, {refusal.policy or 'whole fleet'}", refusal.message, refusal.override
        )
    for wave in plan.waves:
        if wave.remedy:
            yield Hitch(f"rollout of {wave.policy}", wave.message, wave.remedy)
    for incident in plan.incidents:
        if incident.needs_person:
            remedy = "unblock what is blocked, or give the rollout higher rates, or windows; list what is lost"
            yield Hitch(f"incident {incident.incident}", incident.message, remedy)
