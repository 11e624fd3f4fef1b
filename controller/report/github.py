"""Annotations of GitHub Actions: workflow commands that mark lines of files in a pull request.

Syntax and escapes: GitHub Docs, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from controller.reconcile.values import DesiredState, Outcome, Refusal, source_of

from . import words
from .formats import TextStyle
from .groups import ReasonGroup, by_reason
from .hitches import command_for
from .model import FleetReport, Report, place
from .text import sentence

_LEVELS = {Outcome.ROTATE: "warning", Outcome.BLOCKED: "error", Outcome.WAITING: "notice"}
_NAMES_SHOWN = 10


def annotation(
    level: str, message: str, *, path: str | None = None, line: int = 1, column: int = 1, title: str = "certfleet"
) -> str:
    """Return one annotation at path, line and column; ``level`` is error, warning or notice."""
    values = {"file": path, "line": line, "col": column} if path else {}
    properties = ",".join(f"{key}={_escape_property(str(value))}" for key, value in {**values, "title": title}.items())
    return f"::{level} {properties}::{_escape(message)}\n"


def render_drift(report: Report, _look: TextStyle) -> str:
    """Return one annotation per reason and policy, on the line of the policy field it departs from."""
    lines = [line for fleet in report.fleets for line in _fleet(fleet)]
    lines += [annotation("error", f"fleet {failure.fleet}: {failure.message}") for failure in report.failures]
    return "".join(lines)


def render_plan(report: Report, _look: TextStyle) -> str:
    """Return what needs a person before the plan can be applied, on the line of the policy.

    And one line on each fleet.
    """
    lines = []
    for fleet in report.fleets:
        name = fleet.desired.fleet.name
        lines.append(annotation("notice", f"fleet {name}: {_dated(fleet)}"))
        refusals = fleet.plan.refusals if fleet.plan else ()
        lines += [refused(refusal, fleet.desired, command_for(fleet)) for refusal in refusals]
    lines += [annotation("error", f"fleet {failure.fleet}: {failure.message}") for failure in report.failures]
    return "".join(lines)


def refused(refusal: Refusal, desired: DesiredState, remedy: str) -> str:
    """Return a guardrail's refusal on the line of its policy, or of the fleet, with the ``remedy`` that lifts it."""
    sources = {policy.name: policy.source for policy in desired.policies}
    path, line = place(sources.get(refusal.policy or "", desired.fleet.source), "")
    message = f"{refusal.message}. To go on all the same: {remedy}"
    return annotation("error", message, path=path, line=line, title=f"refused by {refusal.guardrail}")


def _dated(fleet: FleetReport) -> str:
    return f"{sentence(fleet)} · seen {words.instant(fleet.state.observed_at)}"


def _fleet(fleet: FleetReport) -> list[str]:
    name = fleet.desired.fleet.name
    lines = [annotation("notice", f"fleet {name}: {_dated(fleet)}")]
    lines += [annotation("notice", f"fleet {name}: {notice}") for notice in fleet.notices]
    for outcome, level in _LEVELS.items():
        for group in by_reason(fleet.of(outcome)):
            lines.append(grouped(group, fleet.desired, "notice" if group.is_decided else level))
    return lines


def grouped(group: ReasonGroup, desired: DesiredState, level: str) -> str:
    """Return one annotation of this level for a group of devices, on the line of the field that they depart from."""
    source = source_of(desired, group.policy, group.finding)
    path, line = place(source, group.finding.policy_field) if source else (None, 1)
    devices = words.listed(group.names, _NAMES_SHOWN)
    text = f"{words.count(len(group.devices), 'device')}: {group.finding.message} ({devices})"
    return annotation(level, text, path=path, line=line, title=group.reason.value)


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape(text).replace(":", "%3A").replace(",", "%2C")
