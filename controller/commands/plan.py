"""``certfleet plan``: what ``apply`` would do, as text for people and as the document that ``apply`` takes."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path

from controller.commands import compare
from controller.commands.context import Context
from controller.commands.documents import load_desired
from controller.commands.options import add_attention, add_desired, add_fleet, add_output, add_overrides
from controller.commands.pipeline import Observed, each_fleet_watched, gravest, observe, tell_on_stderr
from controller.commands.streams import write_file
from controller.errors import CertfleetError, ExitCode, PlanError
from controller.reconcile.planning import MAX_PLAN_BYTES, plan_to_json
from controller.reconcile.values import DesiredState, Overrides, Plan, parse_overrides, require_known
from controller.report import github, markdown, text
from controller.report.attention import attention_of, attention_text
from controller.report.formats import Format, TextStyle, at_need, dump
from controller.report.model import FleetReport, Report
from controller.report.planned import planned
from controller.report.tally import Tally

_OF_ANOTHER_TIME = {"now": "--now", "max_age": "--max-age or --no-refresh"}


def add_arguments(parser: ArgumentParser) -> None:
    """Add the options of what to plan, and of where the plan goes."""
    parser.add_argument("--plan", type=Path, metavar="FILE", help="also write the plan there, for apply --plan")
    parser.add_argument(
        "--base", metavar="GITREF", help="compare: what would change for the fleet between that ref and this one"
    )
    add_overrides(parser)
    add_attention(parser)
    add_desired(parser)
    add_fleet(parser)
    add_output(parser, RENDERERS)


def run(context: Context) -> ExitCode:
    """Plan every fleet; exits 2 if there is something to do, 3 if a guardrail forbids it. Raises CertfleetError."""
    if context.arguments.base is not None:
        return compare.run(context)
    for name in ("now", "max_age"):
        if context.arguments.plan is not None and getattr(context.arguments, name) is not None:
            raise CertfleetError(
                f"--plan and {_OF_ANOTHER_TIME[name]} were both given: a plan file is made of the fleet as it is now",
                "drop one of the two",
            )
    states = load_desired(context)
    require_known(parse_overrides(context.arguments.override), states)
    fleets, failures = each_fleet_watched(context, states, lambda desired: _plan_fleet(context, desired))
    report = Report(context.now(), fleets, failures)
    if context.arguments.plan is not None:
        write_file(context.arguments.plan, plan_documents(report))
        context.say(f"wrote {context.arguments.plan}")
    tell_on_stderr(context, failures, Format.JSON)
    context.emit(report, RENDERERS)
    context.emit_attention(lambda: attention_text(map(attention_of, fleets), failures))
    return gravest([exit_code(fleet) for fleet in fleets], failures)


def exit_code(report: FleetReport) -> ExitCode:
    """Return what a fleet's plan means for the exit code."""
    if report.plan is not None and report.plan.refusals:
        return ExitCode.REFUSED
    return ExitCode.CHANGES if report.has_changes else ExitCode.IN_SYNC


def plan_observed(
    observed: Observed,
    overrides: Overrides,
    given: Plan | None = None,
    begun: frozenset[str] = frozenset(),
    *,
    names_all: bool = False,
) -> tuple[FleetReport, dict[str, str]]:
    """Assess and plan one fleet, as ``planned`` does with ``given`` and ``begun``; ``names_all`` is as in ``Tally``."""
    tally = Tally(observed.desired, observed.now, names_all=names_all)
    assessments = observed.assess(tally, overrides)
    return planned(
        tally,
        assessments,
        observed.desired,
        observed.state,
        observed.now,
        overrides=overrides,
        given=given,
        begun=begun,
    )


def plan_documents(report: Report) -> str:
    """Return the plan of one fleet, or a list of the plans of several."""
    plans = [fleet.plan for fleet in report.fleets if fleet.plan is not None]
    return document_of(plans)


def document_of(plans: list[Plan]) -> str:
    """Return the document as ``plan_documents`` does, from the plans; PlanError if ``apply`` would not read it."""
    texts = [plan_to_json(plan) for plan in plans]
    text = texts[0] if len(texts) == 1 else dump([json.loads(one) for one in texts])
    if len(text.encode()) > MAX_PLAN_BYTES:
        raise PlanError(
            f"the plan has {len(text):,} characters, and {MAX_PLAN_BYTES:,} bytes are read",
            "plan fleet by fleet, with --fleet, or start with a smaller first wave",
        )
    return text


def _plan_fleet(context: Context, desired: DesiredState) -> FleetReport:
    with observe(context, desired) as observed:
        overrides, names_all = parse_overrides(context.arguments.override), Format.HTML in context.formats
        return observed.with_sites(plan_observed(observed, overrides, names_all=names_all)[0])


RENDERERS: Mapping[Format, Callable[[Report, TextStyle], str]] = {
    Format.TEXT: text.render_plan,
    Format.JSON: lambda report, _look: plan_documents(report),
    Format.MARKDOWN: markdown.render_drift,
    Format.HTML: at_need("html", "render_drift"),
    Format.GITHUB: github.render_plan,
}
