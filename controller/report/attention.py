"""The questions to a person, in words, and whether they differ from what was reported last. Pure.

Devices that are waived or suspended are left out: a person has decided that already. The reconcile
function notifies people by it, and ``--needs-person`` writes it for the tracking issue of the workflows
(docs/attention.schema.json).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.reconcile.values import Assessment, Finding, Outcome, Reason

from .formats import dump
from .hitches import hitches

if TYPE_CHECKING:
    from .model import FleetFailure, FleetReport

FORMAT_VERSION = 1
MAX_LINES = 50
_NUMBER = re.compile(r"\b[0-9a-f]{8,}\b|[0-9]+")  # counts, dates and ids: they change while the failure stays the same


@dataclass(frozen=True, slots=True)
class Attention:
    """``facts`` are compared from run to run: no counts of time in them. ``lines`` are for people."""

    fleet: str
    facts: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()  # devices whose rotation failed and is tried again: for people who ask

    @property
    def digest(self) -> str:
        """The digest of the facts: equal facts have equal digests."""
        return hashlib.sha256(json.dumps(sorted(self.facts)).encode()).hexdigest()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything for a person to do."""
        return bool(self.facts)

    def text(self) -> str:
        """Return the notification's body."""
        if not self.is_needed:
            return f"Nothing in fleet {self.fleet} needs a person any more."
        shown = self.lines[:MAX_LINES]
        rest = len(self.lines) - len(shown)
        more = [f"and {rest:,} more: certfleet drift lists all"] if rest else []
        return "\n".join(
            [f"Fleet {self.fleet} needs a person:", "", *shown, *more, "", "certfleet explain THING shows why."]
        )


def attention_of(report: FleetReport) -> Attention:
    """Return what of one fleet's report needs a person: blocked devices, halted waves, late incidents, refusals."""
    facts, lines = [], []
    for assessment in report.of(Outcome.BLOCKED):
        for finding in _open_findings(assessment):
            facts.append(f"device {assessment.device} {finding.reason}")
            lines.append(f"{assessment.device}: {finding.message}" + (f" → {finding.remedy}" if finding.remedy else ""))
    for hitch in hitches(report):
        facts.append(hitch.fact)
        lines.append(hitch.line)
    return Attention(report.desired.fleet.name, tuple(facts), tuple(lines), tuple(_failing(report)))


def failure_attention(fleet: str, message: str, remedy: str | None) -> Attention:
    """Return a fleet, or a bundle, that could not be reconciled at all, with the remedy for it."""
    return Attention(
        fleet, (f"failed {_NUMBER.sub('#', message)}",), (f"{message}" + (f" → {remedy}" if remedy else ""),)
    )


def attention_text(found: Iterable[Attention], failures: Iterable[FleetFailure]) -> str:
    """Return what was found in all fleets as one JSON document; a fleet that could not be looked at needs a person."""
    listed = [*found, *(failure_attention(failure.fleet, failure.message, failure.remedy) for failure in failures)]
    fleets = [{"fleet": one.fleet, "needs_person": list(one.lines), "failing": list(one.failing)} for one in listed]
    return dump({"format_version": FORMAT_VERSION, "kind": "Attention", "fleets": fleets})


def _failing(report: FleetReport) -> Iterable[str]:
    for assessment in report.of(Outcome.WAITING):
        for finding in assessment.findings:
            if finding.reason is Reason.BACKING_OFF:
                yield f"{assessment.device}: {finding.message}"


def _open_findings(assessment: Assessment) -> list[Finding]:
    return [f for f in assessment.findings if f.outcome is Outcome.BLOCKED and not f.is_decided]
