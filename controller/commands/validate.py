"""``certfleet validate``: every mistake in the documents at once, each on its line; ``--live`` asks AWS as well."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable

from controller.commands.context import Context
from controller.commands.options import add_desired, add_fleet, add_output
from controller.commands.pipeline import each_fleet, load_desired, observe
from controller.commands.plan import plan_observed
from controller.desired.notes import notes_of
from controller.errors import DesiredStateError, ExitCode, Problem
from controller.reconcile.planning import departures
from controller.reconcile.values import NO_OVERRIDES, DesiredState, Source
from controller.report.formats import Format
from controller.report.model import FleetFailure
from controller.report.problems import RENDERERS, Validation


def add_arguments(parser: ArgumentParser) -> None:
    """Which documents, and how to say what is wrong."""
    parser.add_argument(
        "--live",
        action="store_true",
        help="compare them with what is deployed as well: the backend, the CAs, the names that waivers give",
    )
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Load the documents and say what was found; as text, errors go where errors go."""
    folder, is_live = str(context.arguments.desired_state), context.arguments.live
    try:
        fleets = load_desired(context)
        notes = tuple(note for fleet in fleets for note in notes_of(fleet))
        result = Validation(folder, fleets, notes=notes, is_live=is_live)
    except DesiredStateError as error:
        if context.arguments.format == Format.TEXT and context.output is None:
            raise
        result = Validation(folder, (), tuple(error.problems))
    if result.fleets and is_live:
        found, failures = each_fleet(fleets, lambda desired: _contradictions(context, desired))
        result = result.with_live(found, [_failed(failure) for failure in failures])
    context.emit(result, RENDERERS)
    return ExitCode.ERROR if result.problems else ExitCode.IN_SYNC


def _contradictions(context: Context, desired: DesiredState) -> tuple[list[Problem], list[Problem]]:
    """What a plan would be refused for because of what is deployed, and what it would be told of besides."""
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
