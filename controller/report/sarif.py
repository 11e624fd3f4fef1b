"""SARIF 2.1.0: what code scanning shows, one result per reason and policy, on the policy field's line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from controller.reconcile.values import Outcome, Reason, source_of

from . import words
from .formats import TextStyle, dump
from .groups import ReasonGroup, by_reason
from .model import FleetFailure, FleetReport, Report, place

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Outcome.ROTATE: "warning", Outcome.BLOCKED: "error", Outcome.WAITING: "note"}
_NAMES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class SarifResult:
    """One SARIF result; ``path`` is relative to the repository. Code scanning takes none without a place."""

    rule: str
    level: str  # error, warning, note
    message: str
    path: str
    line: int = 1
    key: str = ""  # the same from run to run while the alert is the same


def sarif_log(results: Iterable[SarifResult], rules: Mapping[str, str], seen: Mapping[str, str] | None = None) -> str:
    """Return a whole log of one run.

    ``rules`` maps each rule's id to what it means, ``seen`` each fleet to when it was.
    """
    return dump(
        {
            "$schema": _SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "certfleet",
                            "rules": [_rule(rule, text) for rule, text in rules.items()],
                        }
                    },
                    "results": [_result(result) for result in results],
                    **({"properties": {"observedAt": dict(seen)}} if seen else {}),
                }
            ],
        }
    )


def render_drift(report: Report, _look: TextStyle) -> str:
    """Return the drift of all fleets as one run."""
    results = [
        _drift(fleet, level, group)
        for fleet in report.fleets
        for outcome, level in _LEVELS.items()
        for group in by_reason(fleet.of(outcome))
    ]
    results += [_failure(failure) for failure in report.failures]
    used = {result.rule for result in results}
    rules: dict[str, str] = {reason.value: reason.meaning for reason in Reason if reason.value in used}
    if "FleetFailed" in used:
        rules["FleetFailed"] = "A fleet could not be read. Do what the message names."
    seen = {fleet.desired.fleet.name: words.iso(fleet.state.observed_at) for fleet in report.fleets}
    return sarif_log(results, rules, seen)


def _failure(failure: FleetFailure) -> SarifResult:
    path, line = place(failure.source, "spec")
    remedy = f" To do: {failure.remedy}." if failure.remedy else ""
    return SarifResult("FleetFailed", "error", f"fleet {failure.fleet}: {failure.message}.{remedy}", path, line)


def _drift(fleet: FleetReport, level: str, group: ReasonGroup) -> SarifResult:
    source = source_of(fleet.desired, group.policy, group.finding) or fleet.desired.fleet.source
    path, line = place(source, group.finding.policy_field)
    devices = words.listed(group.names, _NAMES_SHOWN)
    remedy = f" To do: {group.finding.remedy}." if group.finding.remedy else ""
    text = f"{words.count(len(group.devices), 'device')} of {fleet.desired.fleet.name}: {group.finding.message}"
    level = "note" if group.is_decided else level
    key = f"{fleet.desired.fleet.name}:{group.policy}:{group.reason.value}:{level}"
    return SarifResult(group.reason.value, level, f"{text} ({devices}).{remedy}", path, line, key)


def _rule(rule: str, meaning: str) -> dict[str, object]:
    """Return a rule with the help that code scanning shows beside an alert."""
    more = f"{meaning} certfleet explain THING shows why of one device."
    return {
        "id": rule,
        "name": rule,
        "shortDescription": {"text": meaning},
        "help": {"text": more, "markdown": more.replace("certfleet explain THING", "`certfleet explain THING`")},
    }


def _result(result: SarifResult) -> dict[str, object]:
    where = {"artifactLocation": {"uri": quote(result.path)}, "region": {"startLine": max(result.line, 1)}}
    return {
        "ruleId": result.rule,
        "level": result.level,
        "message": {"text": result.message},
        "partialFingerprints": {"certfleet/v1": result.key or f"{result.rule}:{result.path}:{result.message}"},
        "locations": [{"physicalLocation": where}],
    }
