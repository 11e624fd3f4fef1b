"""``certfleet status``: the fleet in numbers. It reports and never judges: the exit code is 0."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping

from controller.commands.context import Context
from controller.commands.drift import observe_all
from controller.commands.options import add_desired, add_fleet, add_output, add_policy
from controller.commands.pipeline import gravest
from controller.errors import ExitCode
from controller.report import as_json, markdown, text
from controller.report.formats import Format, TextStyle, at_need
from controller.report.model import Report

RENDERERS: Mapping[Format, Callable[[Report, TextStyle], str]] = {
    Format.TEXT: text.render_status,
    Format.JSON: as_json.render_report,
    Format.MARKDOWN: markdown.render_drift,
    Format.HTML: at_need("html", "render_drift"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of which fleets, and of how to report them."""
    add_policy(parser)
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Count."""
    report = observe_all(context)
    context.emit(report, RENDERERS)
    return gravest([], report.failures)
