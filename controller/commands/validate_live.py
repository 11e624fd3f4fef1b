"""``certfleet validate --live``: the documents against what is deployed."""

from __future__ import annotations

from collections.abc import Iterable

from controller.commands.context import Context
from controller.commands.pipeline import each_fleet, observe
from controller.commands.plan import plan_observed
from controller.errors import Problem
from controller.reconcile.planning import departures
from controller.reconcile.values import NO_OVERRIDES, DesiredState, Source
from controller.report.model import FleetFailure


def contradictions(
    context: Context, fleets: tuple[DesiredState, ...]
) -> tuple[tuple[tuple[list[Problem], list[Problem]], ...], list[Problem]]:
    """Return problems and notes of each fleet, and the fleets that could not be looked at."""
    found, failures = each_fleet(fleets, lambda desired: _contradictions(context, desired))
    return found, [_failed(failure) for failure in failures]


def _contradictions(context: Context, desired: DesiredState) -> tuple[list[Problem], list[Problem]]:
    """Return what a plan would be refused for because of what is deployed, and what it would be warned of besides."""
    with observe(context, desired) as observed:
        plan = plan_observed(observed, NO_OVERRIDES)[0].plan
        state, now = observed.state, observed.now
    assert plan is not None  # noqa: S101 (it was asked for)
    whole = desired.fleet.source
    found = departures(desired, state, now, plan.jobs)
    problems = [_on(departure.authority.source or whole, "spec", departure.message) for departure in found]
    return problems, [_on(whole, "spec", notice) for notice in plan.notices]


def _failed(failure: FleetFailure) -> Problem:
    told: Iterable[str] = filter(None, (failure.message, failure.remedy))
    return _on(failure.source, "spec", " → ".join(told))


def _on(source: Source, field: str, message: str) -> Problem:
    path, _, line = source.at(field).rpartition(":")
    return Problem(path, int(line), message)
