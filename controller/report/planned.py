"""From assessments to a fleet's report: with its plan, with a plan that was made before, or with none of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from controller.reconcile.outlook import with_estimates
from controller.reconcile.planning import changed_groups, compared, make_plan, part_of, settle
from controller.reconcile.values import Assessment, DesiredState, FleetState, Overrides, Plan, Policy

from .model import FleetReport
from .tally import Tally


def planned(
    tally: Tally,
    assessments: Iterator[Assessment],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    overrides: Overrides,
    given: Plan | None = None,
    begun: frozenset[str] = frozenset(),
) -> tuple[FleetReport, dict[str, str]]:
    """Plan one fleet, and report why devices of a plan that was made before are left out.

    A given plan is data: everything is derived anew, and of it counts only which of the permitted devices rotate.
    ``begun`` is as in ``make_plan``; ``tally`` has counted the assessments, or does so as they pass.
    """
    wanted = {} if given is None else {d.name: d.certificate_id for job in given.jobs for d in job.devices}
    seen: dict[str, Assessment] = {}
    plan = make_plan(
        _watched(assessments, wanted, seen),
        desired,
        state,
        now,
        overrides=overrides,
        permitted=None if given is None else wanted,
        begun=begun,
    )
    if given is None:
        return replace(tally.finish(state, with_estimates(plan, desired, state)), overrides=overrides), {}
    plan = replace(plan, refusals=plan.refusals + changed_groups(given, desired, state, overrides))
    settled = {assessment.device: assessment for assessment in settle(seen.values(), plan)}
    return replace(tally.finish(state, plan), overrides=overrides), compared(given, plan, settled)


def drifted(
    tally: Tally,
    assessments: Iterator[Assessment],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    only: Policy | None = None,
) -> FleetReport:
    """Report one fleet without a plan of its own, counted by the one that apply would make now.

    With ``only`` a policy, nothing of the fleet as a whole.
    """
    plan = with_estimates(make_plan(assessments, desired, state, now), desired, state)
    if only is not None:
        state, plan = replace(state, unmanaged=(), unmanaged_count=0), part_of(plan, only.name)
    return tally.finish(state, expected=plan)


def _watched(
    assessments: Iterable[Assessment], wanted: Mapping[str, str], seen: dict[str, Assessment]
) -> Iterator[Assessment]:
    """Pass the assessments on, and keep those of devices that are wanted."""
    for assessment in assessments:
        if assessment.device in wanted:
            seen[assessment.device] = assessment
        yield assessment
