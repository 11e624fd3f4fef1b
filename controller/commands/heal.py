"""``certfleet heal plan`` looks what is untidy in the registry; ``certfleet heal apply`` carries out such a plan."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output, duration
from controller.commands.pipeline import each_fleet, gravest, observe
from controller.commands.progress import progress_on
from controller.errors import CertfleetError, ExitCode, FleetError, PlanError
from controller.fleet import ActAs
from controller.heal import Healer, HealPlan, Registry, Waits, check, read, survey, table_of
from controller.heal.survey import is_rotating
from controller.reconcile.values import DesiredState
from controller.report.healing import RENDERERS, HealPlans, render_done
from protocol.watch import GRACE, UNUSED

LEAST_WATCH, LEAST_GRACE = timedelta(days=1), timedelta(days=7)


def add_arguments(parser: ArgumentParser) -> None:
    """Plan or apply, how patiently, how fast."""
    parser.add_argument("step", choices=("plan", "apply"), help="say what is to be done, or do what was reviewed")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the plan that apply carries out")
    parser.add_argument(
        "--watch",
        type=duration,
        default=UNUSED,
        metavar="DURATION",
        help="how long connections are watched before one of several certificates is judged unused (default: 14d)",
    )
    parser.add_argument(
        "--grace",
        type=duration,
        default=GRACE,
        metavar="DURATION",
        help="how long a certificate stays deactivated before it is removed (default: 30d)",
    )
    parser.add_argument(
        "--pause", type=duration, default=timedelta(seconds=1), metavar="DURATION", help="between actions (default: 1s)"
    )
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Plan: 2 where there is something to do. Apply: 1 where a surprise ended it."""
    arguments = context.arguments
    if arguments.step == "plan":
        _require_patience(arguments.watch, arguments.grace)
        found, failures = each_fleet(load_desired(context), lambda desired: _planned(context, desired))
        context.emit(HealPlans(found, failures), RENDERERS)
        return gravest([ExitCode.CHANGES if plan.actions else ExitCode.IN_SYNC for plan in found], failures)
    if arguments.file is None:
        raise PlanError("apply carries out a reviewed plan", "certfleet heal plan --format json --output heal.json")
    plans = read(arguments.file)
    fleets = tuple(desired for desired in load_desired(context) if desired.fleet.name in plans)
    if not fleets:
        raise PlanError(f"{arguments.file} holds no plan for these fleets", "name another file, or other documents")
    told: list[str] = []
    try:
        whole = [_applied(context, desired, plans[desired.fleet.name], told) for desired in fleets]
    finally:  # what was done is told, however it ended
        context.write("".join(told))
    return ExitCode.IN_SYNC if all(whole) else ExitCode.ERROR


def _require_patience(watch: timedelta, grace: timedelta) -> None:
    if watch < LEAST_WATCH or grace < LEAST_GRACE:
        raise CertfleetError(
            f"--watch is {watch}, --grace {grace}: a device that is away for so long would lose its certificate",
            f"give them at least {LEAST_WATCH.days}d and {LEAST_GRACE.days}d",
        )


def _planned(context: Context, desired: DesiredState) -> HealPlan:
    waits, fleet, now = Waits(context.arguments.watch, context.arguments.grace), desired.fleet, context.present()
    with observe(context, desired) as observed, progress_on(context.stderr, label=fleet.name) as tell:
        session = observed.session
        table = table_of(session)
        registry = Registry(session, table) if table is not None else None
        actions, left = survey(
            session, registry, observed.devices(), observed.state, now=now, waits=waits, progress=tell
        )
    return HealPlan(fleet.name, fleet.account, fleet.region, session.endpoint("iot"), now, waits, actions, left)


def _applied(context: Context, desired: DesiredState, plan: HealPlan, told: list[str]) -> bool:
    """Whether all of it was carried out; what was is added to ``told``."""
    _require_patience(plan.waits.watch, plan.waits.grace)
    with observe(context, desired, ActAs.HEALER) as observed:
        session = observed.session
        check(plan, desired.fleet, session.endpoint("iot"), context.present())
        table = table_of(session)
        if table is None:
            raise FleetError("no backend of ours hears here of connections", "deploy it, rules on: docs/backend.md")
        rotating = frozenset(device.name for device in observed.devices() if is_rotating(device))
        healer = Healer(Registry(session, table, context.sleep), plan.waits, rotating, context.present)
        pause = context.arguments.pause.total_seconds()
        done = healer.carry_out(plan.actions, lambda: context.sleep(pause))
    told.append(render_done(desired.fleet.name, done, len(plan.actions)))
    return done.stopped_by is None
