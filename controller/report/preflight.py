"""The devices' answers to a pre-flight, for people and for machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.errors import ExitCode

from . import words
from .as_json import failure_value
from .console import Page
from .formats import FORMAT_VERSION, Format, TextStyle, dump
from .model import FleetFailure
from .text import tell_failures

NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class FleetAsked:
    """One fleet's pre-flight: who was asked by which job, who was not, and the answers so far, each by device."""

    fleet: str
    jobs: Mapping[str, str] = field(default_factory=dict)
    not_asked: Mapping[str, str] = field(default_factory=dict)  # why
    begins: frozenset[str] = frozenset()
    fails: Mapping[str, str] = field(default_factory=dict)  # what the device says
    is_followed: bool = False

    @property
    def silent(self) -> tuple[str, ...]:
        """The devices that have not answered yet."""
        return tuple(name for name in self.jobs if name not in self.begins and name not in self.fails)

    @property
    def exit_code(self) -> ExitCode:
        """1 if a device would fail, 2 if one has not answered that was waited for."""
        if self.fails:
            return ExitCode.ERROR
        return ExitCode.CHANGES if self.is_followed and self.silent else ExitCode.IN_SYNC

    @property
    def summary(self) -> str:
        """The result of the pre-flight in one line."""
        if not self.jobs and not self.not_asked:
            return "no device has to rotate, or all that have to are being asked already"
        parts = [f"{words.count(len(self.jobs), 'device')} asked"]
        if self.is_followed:
            parts += [f"{len(self.begins):,} would begin", f"{len(self.fails):,} would fail"]
            parts += [f"{len(self.silent):,} have not answered"] if self.silent else []
        parts += [f"{len(self.not_asked):,} not asked"] if self.not_asked else []
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class PreflightReport:
    """All fleets of one pre-flight."""

    fleets: tuple[FleetAsked, ...]
    failures: tuple[FleetFailure, ...] = ()


def _text(report: PreflightReport, look: TextStyle) -> str:
    page = Page(look)
    for fleet in report.fleets:
        page.line(
            ("PRE-FLIGHT", "bold bad" if fleet.fails else "bold good"), f"  {fleet.fleet}  ", (fleet.summary, "head")
        )
        for job_id in dict.fromkeys(fleet.jobs.values()):
            page.line(("job ", "dim"), job_id, indent=2)
        _grouped(page, "Would fail", "put it right, then ask again", fleet.fails)
        if fleet.is_followed and fleet.silent:
            page.heading("Not answered", "their jobs wait about an hour for them; a later certfleet plan shows")
            page.line((words.listed(fleet.silent, NAMES_SHOWN), "dim"), indent=2)
        _grouped(page, "Not asked", "their component would leave the question in their queue of jobs", fleet.not_asked)
    tell_failures(page, report.failures)
    return page.text()


def _grouped(page: Page, title: str, note: str, whys: Mapping[str, str]) -> None:
    if not whys:
        return
    page.heading(title, note)
    for why, names in _by_why(whys):
        page.line(f"{words.count(len(names), 'device')}: {why}", indent=2)
        page.line((words.listed(names, NAMES_SHOWN), "dim"), indent=4)


def _by_why(whys: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    groups: dict[str, list[str]] = {}
    for name, why in whys.items():
        groups.setdefault(why, []).append(name)
    return sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))


def _json(report: PreflightReport, _look: TextStyle) -> str:
    fleets = [_value(fleet) for fleet in report.fleets]
    failures = [failure_value(failure) for failure in report.failures]
    return dump({"format_version": FORMAT_VERSION, "kind": "PreflightReport", "fleets": fleets, "failures": failures})


def _value(fleet: FleetAsked) -> dict[str, Any]:
    return {
        "fleet": fleet.fleet,
        "asked": dict(fleet.jobs),
        "not_asked": dict(fleet.not_asked),
        "would_begin": sorted(fleet.begins),
        "would_fail": dict(fleet.fails),
        "not_answered": list(fleet.silent),
    }


RENDERERS: Mapping[Format, Callable[[PreflightReport, TextStyle], str]] = {Format.TEXT: _text, Format.JSON: _json}
