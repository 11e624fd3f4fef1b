"""``certfleet doctor``: what must be true, line by line, with the remedy; it looks, and changes nothing.

``--migrate`` asks about the way from the stock solution's backend to ours, or back.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable

from controller.commands.context import Context
from controller.commands.migration import Migration, lines_of, next_steps
from controller.commands.options import add_desired, add_fleet, add_output
from controller.commands.pipeline import each_fleet_watched, load_desired, observe
from controller.errors import ExitCode
from controller.fleet.backend import read_deployment, read_rules
from controller.reconcile.values import DesiredState, Device
from controller.report.checkup import RENDERERS, Checkup, FleetCheckup
from protocol.messages import ExecutionStatus
from protocol.names import DEFAULT_STACK_NAME, BackendNames


def add_arguments(parser: ArgumentParser) -> None:
    """What to look at, and how to say what was found."""
    parser.add_argument(
        "--migrate", action="store_true", required=True, help="is the moment good to change to our backend, or back?"
    )
    parser.add_argument(
        "--from", dest="stock", default=DEFAULT_STACK_NAME, metavar="STACK", help="the stock stack (%(default)s)"
    )
    parser.add_argument("--to", dest="ours", default="Certfleet", metavar="STACK", help="our stack (%(default)s)")
    add_desired(parser, is_question=False)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Look at every fleet; 2 where something is not ok."""
    found, failures = each_fleet_watched(context, load_desired(context), lambda desired: _looked_at(context, desired))
    context.emit(Checkup(found, failures), RENDERERS)
    if failures:
        return ExitCode.ERROR
    return ExitCode.IN_SYNC if all(fleet.is_well for fleet in found) else ExitCode.CHANGES


def _looked_at(context: Context, desired: DesiredState) -> FleetCheckup:
    stock, ours = BackendNames(context.arguments.stock), BackendNames(context.arguments.ours)
    with observe(context, desired) as observed:
        deployed, _why = read_deployment(observed.session, ours)
        version = deployed.version if deployed else None
        seen = _migration(stock, ours, read_rules(observed.session), version, observed.devices())
    lines = tuple(lines_of(seen))
    return FleetCheckup(desired.fleet.name, lines, next_steps(seen, lines))


def _migration(
    stock: BackendNames,
    ours: BackendNames,
    rules: dict[str, bool] | None,
    version: str | None,
    devices: Iterable[Device],
) -> Migration:
    rotating, odd, versions = [], [], Counter[str | None]()
    for device in devices:
        versions[device.component_version] += 1
        if any(execution.status is ExecutionStatus.IN_PROGRESS for execution in device.executions):
            rotating.append(device.name)
        elif len(device.attachments) != 1:
            odd.append(device.name)
    return Migration(stock, ours, rules, version, tuple(rotating), tuple(odd), versions)
