"""``certfleet explain THING``: what is behind one verdict."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import replace
from datetime import datetime

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output
from controller.commands.pipeline import Observed, each_fleet, observe
from controller.errors import CertfleetError, ExitCode
from controller.fleet import AwsSession, Inventory, look_at_thing, refresh
from controller.fleet.progress import Progress
from controller.reconcile.checks import Governance, Governed
from controller.reconcile.outlook import explain
from controller.reconcile.planning import make_plan, part_of
from controller.reconcile.values import DesiredState, Device, FleetState, Plan, Policy
from controller.report.explanation import RENDERERS, Explained
from controller.report.tally import Tally


def add_arguments(parser: ArgumentParser) -> None:
    """Add the option of which device."""
    parser.add_argument("thing", metavar="THING", help="the device's thing name")
    parser.add_argument("--arithmetic", action="store_true", help="the formulas and numbers behind the dates, too")
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Explain the device, in whichever fleet it is; raises CertfleetError if it is in none."""
    thing: str = context.arguments.thing
    fleets = load_desired(context)
    found, failures = each_fleet(fleets, lambda desired: _explain(context, desired))
    explained = next((one for one in found if one is not None), None)
    if explained is None:
        if failures:
            raise CertfleetError(f"fleet {failures[0].fleet}: {failures[0].message}", failures[0].remedy)
        names = ", ".join(desired.fleet.name for desired in fleets)
        raise CertfleetError(
            f"no policy of {names} governs a thing named {thing!r}",
            "check the name and the thing groups it is in (aws iot list-thing-groups-for-thing)",
        )
    context.emit(explained, RENDERERS)
    return ExitCode.IN_SYNC


def _explain(context: Context, desired: DesiredState) -> Explained | None:
    thing: str = context.arguments.thing
    looked: list[datetime] = []

    def look(
        session: AwsSession,
        inventory: Inventory,
        desired: DesiredState,
        now: datetime,
        progress: Progress,
        *,
        only: Policy | None,
    ) -> FleetState:
        looked.append(now)
        known = look_at_thing(session, inventory, desired, now, thing)
        return known or refresh(session, inventory, desired, now, progress, only=only)

    with observe(context, desired, look=look) as observed:
        state, now = observed.state, observed.now
        device = next(observed.inventory.devices(desired, state, only={thing}), None)
        if device is None:
            return None
        explanation = explain(device, desired, state, now, _plan(observed, device))
        site = observed.sites((thing,)).get(thing)
    read_at = looked[0] if looked else state.observed_at
    if explanation is None:
        return None
    return Explained(explanation, desired, context.arguments.arithmetic, read_at, site)


def _plan(observed: Observed, device: Device) -> Plan | None:
    """Return the present plan of the policy that governs the device, made over all devices of that policy."""
    governed = Governance(observed.desired, observed.state, observed.now).policy_of(device)
    if not isinstance(governed, Governed):
        return None
    of_policy = replace(observed, only=governed.policy)
    assessments = of_policy.assess(Tally(observed.desired, observed.now))
    plan = make_plan(assessments, observed.desired, observed.state, observed.now)
    return part_of(plan, governed.policy.name)
