"""``certfleet explain THING``: the arithmetic behind one verdict."""

from __future__ import annotations

from argparse import ArgumentParser

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output
from controller.commands.pipeline import each_fleet, observe
from controller.errors import CertfleetError, ExitCode
from controller.reconcile.outlook import explain
from controller.reconcile.planning import make_plan
from controller.reconcile.values import DesiredState
from controller.report.explanation import RENDERERS, Explained
from controller.report.model import Tally


def add_arguments(parser: ArgumentParser) -> None:
    """Which device."""
    parser.add_argument("thing", metavar="THING", help="the device's thing name")
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Explain the device, in whichever fleet it is."""
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
    with observe(context, desired) as observed:
        state, now = observed.state, observed.now
        devices = list(observed.inventory.devices(desired, state, only={context.arguments.thing}))
        if not devices:
            return None
        plan = make_plan(observed.assess(Tally(desired, now)), desired, state, now)
        explanations = [explain(device, desired, state, now, plan) for device in devices]
    return next((Explained(explanation, desired) for explanation in explanations if explanation), None)
