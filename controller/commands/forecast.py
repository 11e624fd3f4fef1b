"""``certfleet forecast``: rotations to come, per day, policy and authority, against capacity."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta

from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_desired, add_fleet, add_output, duration
from controller.commands.pipeline import each_fleet, gravest, observe, tell_on_stderr
from controller.errors import ExitCode
from controller.reconcile.outlook import Forecast, forecast
from controller.reconcile.planning import make_plan
from controller.reconcile.values import DesiredState
from controller.report.forecast import RENDERERS, Forecasts
from controller.report.formats import Format
from controller.report.tally import Tally


def add_arguments(parser: ArgumentParser) -> None:
    """Add the option of how far to look."""
    parser.add_argument("--horizon", type=duration, default=timedelta(days=90), metavar="DURATION", help="default: 90d")
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Forecast every fleet."""
    found, failures = each_fleet(load_desired(context), lambda desired: (desired, _forecast(context, desired)))
    tell_on_stderr(context, failures, Format.ICS)
    context.emit(Forecasts(found, failures), RENDERERS)
    return gravest([], failures)


def _forecast(context: Context, desired: DesiredState) -> Forecast:
    with observe(context, desired) as observed:
        state, now = observed.state, observed.now
        plan = make_plan(observed.assess(Tally(desired, now)), desired, state, now)
        return forecast(observed.devices(), desired, state, now, horizon=context.arguments.horizon, plan=plan)
