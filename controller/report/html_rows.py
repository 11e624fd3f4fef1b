"""The rows that matter, packed for the page's filter: every text once, each device a handful of numbers.

A hundred thousand rows thus take a few megabytes, and the page draws only the hundred that are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from controller.reconcile.values import Assessment, Outcome

from . import words
from .groups import DECIDED_TITLE, TITLES, leading
from .model import FleetReport, Report

CARRIED = 100_000  # rows in one page, of all fleets; the JSON report has all
SHOWN = 100  # at a time

COMING, IN_SYNC = "Coming", "In sync"
UNKNOWN = "–"
_ORDER = (Outcome.BLOCKED, Outcome.ROTATE, Outcome.WAITING)
_MEANINGS = {TITLES[Outcome.BLOCKED]: "bad", TITLES[Outcome.ROTATE]: "change"}  # all else waits


class DeviceRow(NamedTuple):
    """One device as the table shows it."""

    device: str
    fleet: str
    policy: str
    state: str
    meaning: str
    reason: str
    due: str
    why: str
    site: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Rows:
    """The first rows, for readers without scripts and for paper, and all that the page carries, packed."""

    first: tuple[DeviceRow, ...]
    packed: str
    carried: int
    total: int
    findings: int  # of the total: those that have something to say
    has_sites: bool  # whether a fleet names the attribute that is a thing's site


def rows_of(report: Report) -> Rows:
    """Return rows of all fleets: those that need a person first, those without a finding last."""
    findings = sum(len(fleet.assessments) for fleet in report.fleets)
    total = findings + sum(len(fleet.quiet) for fleet in report.fleets)
    first: list[DeviceRow] = []
    has_sites = any(fleet.desired.fleet.site_attribute is not None for fleet in report.fleets)
    packing = _Packing(has_sites=has_sites)
    for number, row in enumerate(chain(_rows(report), _quiet(report))):
        if number == CARRIED:
            break
        if number < SHOWN:
            first.append(row)
        packing.add(row)
    return Rows(tuple(first), packing.text(), len(packing.rows), total, findings, has_sites)


def _rows(report: Report) -> Iterator[DeviceRow]:
    for outcome in _ORDER:
        for fleet in report.fleets:
            for assessment in fleet.of(outcome):
                if not leading(assessment).is_decided:
                    yield _row(fleet, TITLES[outcome], assessment)
    for fleet in report.fleets:
        for assessment in fleet.of(Outcome.BLOCKED):
            if leading(assessment).is_decided:
                yield _row(fleet, DECIDED_TITLE, assessment)
    for fleet in report.fleets:
        for assessment in fleet.coming:
            yield _row(fleet, COMING, assessment)


def _quiet(report: Report) -> Iterator[DeviceRow]:
    for fleet in report.fleets:
        for device, policy in fleet.quiet:
            name, site = fleet.desired.fleet.name, fleet.sites.get(device, UNKNOWN)
            yield DeviceRow(device, name, policy or "–", IN_SYNC, "good", "–", "–", "as its policy demands", site)


def _row(fleet: FleetReport, state: str, assessment: Assessment) -> DeviceRow:
    return DeviceRow(
        assessment.device,
        fleet.desired.fleet.name,
        assessment.policy or "–",
        state,
        _MEANINGS.get(state, "wait"),
        leading(assessment).reason.value,
        words.instant(assessment.timing.due) if assessment.timing else "–",
        "; ".join(finding.message for finding in assessment.findings),
        fleet.sites.get(assessment.device, UNKNOWN),
    )


class _Packing:
    """Numbers each text as it first appears; a device's own name is kept as it is."""

    def __init__(self, *, has_sites: bool) -> None:
        self._has_sites = has_sites
        self._texts: dict[str, int] = {}
        self._last: tuple[tuple[str, ...], list[int]] = ((), [])
        self.rows: list[list[str | int]] = []

    def add(self, row: DeviceRow) -> None:
        told = row[1:] if self._has_sites else row[1:-1]
        if told != self._last[0]:  # of a policy's devices without a finding all but the name is the same
            texts = self._texts
            self._last = told, [texts.setdefault(text, len(texts)) for text in told]
        self.rows.append([row.device, *self._last[1]])

    def text(self) -> str:
        """Return JSON that cannot end the element it stands in, whatever a device is called."""
        value = {"shown": SHOWN, "texts": list(self._texts), "rows": self.rows}
        text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
