"""``certfleet drift``: every device that departs from git, and why, without planning anything."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from datetime import timedelta

from controller.commands.context import Context
from controller.commands.documents import load_desired, of_policy, policy_named
from controller.commands.options import add_attention, add_desired, add_fleet, add_output, add_policy
from controller.commands.pipeline import drift_of, each_fleet_watched, gravest
from controller.errors import CertfleetError, ExitCode
from controller.reconcile.values import DesiredState
from controller.report import as_json, github, junit, markdown, sarif, text
from controller.report.attention import attention_of, attention_text
from controller.report.formats import Format, TextStyle, at_need
from controller.report.model import Report

FORECAST_HORIZON = timedelta(weeks=13)  # of the page: a quarter

RENDERERS: Mapping[Format, Callable[[Report, TextStyle], str]] = {
    Format.TEXT: text.render_drift,
    Format.JSON: as_json.render_report,
    Format.MARKDOWN: markdown.render_drift,
    Format.HTML: at_need("html", "render_drift"),
    Format.SARIF: sarif.render_drift,
    Format.JUNIT: junit.render_drift,
    Format.GITHUB: github.render_drift,
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of what to compare, and of how to report it."""
    parser.add_argument(
        "--history",
        metavar="PLACE",
        help="keep this report's numbers in a folder or under s3://BUCKET/PREFIX, and show the trend (html)",
    )
    add_policy(parser)
    add_attention(parser)
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Assess every fleet; exits 2 if any governed device is out of sync, blocked ones too."""
    report = observe_all(context)
    context.emit(report, RENDERERS)
    context.emit_attention(lambda: attention_text(map(attention_of, report.fleets), report.failures))
    codes = [ExitCode.IN_SYNC if fleet.is_in_sync else ExitCode.CHANGES for fleet in report.fleets]
    return gravest(codes, report.failures)


def observe_all(context: Context) -> Report:
    """Return the drift of every fleet that the arguments name, as one report."""
    horizon = FORECAST_HORIZON if Format.HTML in context.formats else None
    name: str | None = context.arguments.policy
    fleets, failures = each_fleet_watched(
        context,
        _asked(context, load_desired(context)),
        lambda desired: drift_of(context, desired, horizon, only=policy_named(desired, name)),
    )
    return Report(context.now(), fleets, failures)


def _asked(context: Context, fleets: tuple[DesiredState, ...]) -> tuple[DesiredState, ...]:
    """Return the fleets to look at: if ``--policy`` names one, those that have it."""
    if context.arguments.policy is None:
        return fleets
    for option in ("history", "needs_person"):
        if getattr(context.arguments, option, None) is not None:
            given = f"--{option.replace('_', '-')}"
            raise CertfleetError(
                f"--policy and {given} were both given: {given} is of whole fleets", "drop one of the two"
            )
    return of_policy(context, fleets)
