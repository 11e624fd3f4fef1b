"""``certfleet heal plan`` finds what is untidy in the registry; ``certfleet heal apply`` carries out such a plan."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from pathlib import Path

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output, add_overrides, duration
from controller.commands.pipeline import each_fleet, gravest, observe
from controller.commands.progress import progress_on
from controller.errors import CertfleetError, ExitCode, FleetError, PlanError
from controller.fleet import ActAs, AwsSession
from controller.fleet.backend import read_deployment
from controller.fleet.rotation_table import rotation_table
from controller.heal import (
    OF_QUARANTINE,
    Done,
    Healer,
    HealingRegistry,
    HealingWaits,
    HealPlan,
    Kind,
    check,
    is_rotating,
    of_quarantines,
    read,
    require_few,
    require_permitted,
    survey,
    table_of,
)
from controller.reconcile.values import DesiredState
from controller.report.healing import RENDERERS, HealPlans, render_done
from protocol.watch import GRACE, UNUSED

LEAST_WATCH, LEAST_GRACE = timedelta(days=1), timedelta(days=7)


def add_arguments(parser: ArgumentParser) -> None:
    """Add the step, the plan file, and the times and rates of a healing."""
    parser.add_argument("step", choices=("plan", "apply"), help="show what is to be done, or do what was reviewed")
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
        "--pause",
        type=duration,
        default=timedelta(seconds=1),
        metavar="DURATION",
        help="how long to pause between two actions (default: 1s)",
    )
    parser.add_argument(
        "--only",
        choices=("quarantine",),
        help="plan nothing but what the documents' quarantines call for: takes seconds, however large the fleet is",
    )
    add_overrides(parser)
    add_desired(parser, is_question=False)
    add_fleet(parser, is_question=False)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Plan: 2 if there is something to do. Apply: 1 if a surprise ended it. Both: 3 if refused. Raises PlanError."""
    arguments = context.arguments
    if arguments.step == "plan":
        _require_patience(arguments.watch, arguments.grace)
        found, failures = each_fleet(load_desired(context), lambda desired: _planned(context, desired))
        context.emit(HealPlans(found, failures), RENDERERS)
        return gravest([_exit_code(plan) for plan in found], failures)
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


def _exit_code(plan: HealPlan) -> ExitCode:
    if plan.refusals:
        return ExitCode.REFUSED
    return ExitCode.CHANGES if plan.actions else ExitCode.IN_SYNC


def _require_patience(watch: timedelta, grace: timedelta) -> None:
    if watch < LEAST_WATCH or grace < LEAST_GRACE:
        raise CertfleetError(
            f"--watch is {watch}, --grace {grace}: a device that is away for so long would lose its certificate",
            f"give them at least {LEAST_WATCH.days}d and {LEAST_GRACE.days}d",
        )


def _planned(context: Context, desired: DesiredState) -> HealPlan:
    waits, fleet, now = HealingWaits(context.arguments.watch, context.arguments.grace), desired.fleet, context.present()
    if context.arguments.only:
        session = AwsSession(fleet, ActAs.READER)
        session.verify()
        actions, left, refusals = of_quarantines(session, desired, read_deployment(session)[0])
        return HealPlan(
            fleet.name, fleet.account, fleet.region, session.endpoint("iot"), now, waits, actions, left, refusals
        )
    with observe(context, desired) as observed, progress_on(context.stderr, label=fleet.name) as tell:
        session = observed.session
        actions, left, refusals = of_quarantines(session, desired, observed.state.deployment)
        besides = {one for action in actions for one in (action.thing, action.certificate_id)}
        besides |= {name for one in desired.quarantines for name in (*one.devices, *one.certificates)}
        table = table_of(session)
        registry = HealingRegistry(session, table) if table is not None else None
        found = survey(
            session, registry, observed.devices(), observed.state, now=now, waits=waits, progress=tell, besides=besides
        )
    return HealPlan(
        fleet.name,
        fleet.account,
        fleet.region,
        session.endpoint("iot"),
        now,
        waits,
        (*actions, *found[0]),
        (*left, *found[1]),
        refusals,
    )


def _applied(context: Context, desired: DesiredState, plan: HealPlan, told: list[str]) -> bool:
    """Return whether all of it was carried out; what was is added to ``told``."""
    _require_patience(plan.waits.watch, plan.waits.grace)
    require_permitted(plan, context.arguments.override)
    if all(action.kind in OF_QUARANTINE for action in plan.actions):  # in a hurry, and no device has to be looked at
        session = AwsSession(desired.fleet, ActAs.HEALER)
        session.verify()
        done = _carry_out(context, desired, plan, session, rotation_table(session))
    else:
        with observe(context, desired, ActAs.HEALER) as observed:
            rotating = frozenset(device.name for device in observed.devices() if is_rotating(device))
            table = table_of(observed.session)
            done = _carry_out(context, desired, plan, observed.session, table, rotating=rotating)
    told.append(render_done(desired.fleet.name, done, len(plan.actions)))
    return done.stopped_by is None


def _carry_out(
    context: Context,
    desired: DesiredState,
    plan: HealPlan,
    session: AwsSession,
    table: str | None,
    *,
    rotating: frozenset[str] = frozenset(),
) -> Done:
    check(plan, desired.fleet, session.endpoint("iot"), context.present())
    if table is None:
        raise FleetError(
            "found no backend of this project in the account; heal learns from it which certificates are in use",
            "deploy it, with its rules on: docs/backend.md",
        )
    registry = HealingRegistry(session, table, context.sleep)
    if any(action.kind is Kind.QUARANTINE for action in plan.actions):
        most = desired.fleet.guardrails.max_quarantined
        require_few(plan, registry.all_quarantined(), most, context.arguments.override)
    healer = Healer(registry, plan.waits, rotating, context.present, desired.quarantines)
    pause = context.arguments.pause.total_seconds()
    return healer.carry_out(plan.actions, lambda: context.sleep(pause))
