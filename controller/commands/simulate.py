"""``certfleet simulate``: a span of the fleet's life on a virtual clock, the same every time under one seed."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output, duration
from controller.commands.pipeline import each_fleet, gravest, observe
from controller.errors import ExitCode
from controller.reconcile.outlook import EVERY, Luck, Simulation, simulate
from controller.reconcile.values import DesiredState, Mode
from controller.report import words
from controller.report.as_json import failure_value
from controller.report.console import Page
from controller.report.formats import FORMAT_VERSION, Format, TextStyle, dump
from controller.report.model import FleetFailure
from controller.report.text import tell_failures

MAX_PERCENT = 100
SHORTEST = timedelta(minutes=1)  # between two runs of the loop


@dataclass(frozen=True, slots=True)
class Simulations:
    """The result of each fleet, and the fleets that could not be looked at."""

    span: timedelta
    chance: str
    fleets: tuple[tuple[DesiredState, Simulation], ...]
    failures: tuple[FleetFailure, ...] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of how long, and how unlucky."""
    parser.add_argument("--span", type=duration, default=timedelta(days=365), metavar="DURATION", help="default: 365d")
    for name, what in (("--failures", "attempts that fail"), ("--offline", "times that a device is away when asked")):
        parser.add_argument(name, type=_percent, default=0.0, metavar="PERCENT", help=f"{what} (default: 0)")
    parser.add_argument(
        "--every", type=_interval, default=EVERY, metavar="DURATION", help="how often the loop runs (default: 1h)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same course (default: 0)")
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Simulate every fleet; nothing is changed."""
    found, failures = each_fleet(load_desired(context), lambda desired: (desired, _simulate(context, desired)))
    context.emit(Simulations(context.arguments.span, chance_of(context.arguments), found, failures), RENDERERS)
    return gravest([], failures)


def _simulate(context: Context, desired: DesiredState) -> Simulation:
    arguments = context.arguments
    with observe(context, desired) as observed:
        return simulate(
            observed.devices(),
            desired,
            observed.state,
            observed.now,
            span=arguments.span,
            luck=Luck(arguments.seed, arguments.failures / MAX_PERCENT, arguments.offline / MAX_PERCENT),
            every=arguments.every,
        )


def chance_of(arguments: Namespace) -> str:
    """Return a line on the failures and absences that are made up; without any, plan and forecast agree."""
    if not arguments.failures and not arguments.offline:
        return "as plan and forecast have it: every attempt goes well, every device is there"
    return (
        f"by chance {arguments.failures:g} % of attempts fail and {arguments.offline:g} % of devices are away "
        f"(seed {arguments.seed}): plan and forecast know of neither"
    )


def _interval(text: str) -> timedelta:
    found = duration(text)
    if found < SHORTEST:
        message = f"{text!r} is too often; expected at least 1m"
        raise ArgumentTypeError(message)
    return found


def _percent(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= MAX_PERCENT:
        message = f"{text!r} is not a percentage; expected a number from 0 to 100"
        raise ArgumentTypeError(message)
    return found


def _text(simulations: Simulations, look: TextStyle) -> str:
    page = Page(look)
    for desired, result in simulations.fleets:
        head = f"  {words.duration(simulations.span)} from now, {simulations.chance}"
        page.line((desired.fleet.name, "head"), head)
        page.line((f"begun as seen {words.instant(result.seen_at)}", "dim"), indent=2)
        page.line(f"{words.count(result.rotations, 'rotation')} in {words.count(result.jobs, 'job')}", indent=2)
        peak = f", peak {result.peak_per_day:,} on {result.peak_day}" if result.peak_day else ""
        page.line(f"mean {result.mean_per_day:,.1f} a day{peak}", indent=2)
        minute = max(result.busiest_minute.values(), default=0)
        jobs = words.count(result.most_open_jobs, "job")
        page.line(
            f"at most {words.count(minute, 'device')} asked in a minute, {jobs} of a policy open at once", indent=2
        )
        page.line(f"{words.count(result.misses, 'rotation')} later than due", indent=2)
        page.line(f"{result.failures:,} failed attempts, {result.absences:,} times a device was away", indent=2)
        waits = f"{words.count(result.stragglers, 'time')} a device waited in one of"
        page.line(f"{waits} {words.count(result.standing_jobs, 'standing job')}", indent=2)
        for name in (policy.name for policy in desired.policies if policy.mode is Mode.REPORT):
            page.line((f"{name} only reports, so nothing of it rotates here either", "change"), indent=2)
        if result.refused:
            person = f"{words.count(result.refused, 'run')} stopped by maxChangePercent until a person allows it"
            page.line((person, "change"), indent=2)
        for policy, since in result.halted.items():
            page.line((f"{policy} halts at {words.instant(since)}: its abort threshold is reached", "bad"), indent=2)
        left = f"{result.overdue:,} overdue, {result.given_up:,} given up, {result.blocked:,} blocked from the start"
        page.line(f"at the end: {left}", indent=2)
    tell_failures(page, simulations.failures)
    return page.text()


def _json(simulations: Simulations, _look: TextStyle) -> str:
    fleets = [
        {
            "fleet": desired.fleet.name,
            "commit": desired.commit,
            **asdict(result),
            "seen_at": words.instant(result.seen_at),
            "peak_day": str(result.peak_day) if result.peak_day else None,
            "halted": {policy: words.instant(since) for policy, since in result.halted.items()},
        }
        for desired, result in simulations.fleets
    ]
    failures = [failure_value(failure) for failure in simulations.failures]
    head = {"format_version": FORMAT_VERSION, "kind": "Simulation", "chance": simulations.chance}
    return dump({**head, "fleets": fleets, "failures": failures})


RENDERERS: Mapping[Format, Callable[[Simulations, TextStyle], str]] = {Format.TEXT: _text, Format.JSON: _json}
