"""The findings of ``certfleet doctor``: one line for each thing that must be true, with the remedy if it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .console import Page
from .formats import FORMAT_VERSION, Format, TextStyle, dump
from .model import FleetFailure

_STYLES = {"ok": "bold good", "not ok": "bold bad", "cannot tell": "bold wait"}


class CheckStatus(StrEnum):
    """The status of one line."""

    OK = "ok"
    NOT_OK = "not ok"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One thing that must be true; ``remedy`` is what to do, as commands to paste if there are such."""

    what: str
    verdict: CheckStatus
    message: str
    remedy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetCheckup:
    """One fleet's lines, and what comes next."""

    fleet: str
    lines: tuple[CheckLine, ...]
    next_steps: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing is known to be wrong."""
        return all(line.verdict is not CheckStatus.NOT_OK for line in self.lines)


@dataclass(frozen=True, slots=True)
class Checkup:
    """Every fleet that could be looked at, and those that could not."""

    fleets: tuple[FleetCheckup, ...]
    failures: tuple[FleetFailure, ...] = ()


def _text(checkup: Checkup, look: TextStyle) -> str:
    page = Page(look)
    for fleet in checkup.fleets:
        page.line((fleet.fleet, "head"))
        for line in fleet.lines:
            page.line((f"{line.verdict.upper():<12}", _STYLES[line.verdict]), (f"{line.what}: ", "bold"), line.message)
            for step in line.remedy:
                page.line(("            → ", "wait"), (step, "head"))
        for number, step in enumerate(fleet.next_steps):
            page.line("Next: " if number == 0 else "      ", (step, "head"))
    for failure in checkup.failures:
        page.line(("FAILED      ", "bold bad"), (f"{failure.fleet}: ", "bold"), failure.message)
        if failure.remedy:
            page.line(("            → ", "wait"), (failure.remedy, "head"))
    return page.text()


def _json(checkup: Checkup, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Checkup",
            "fleets": [
                {
                    "fleet": fleet.fleet,
                    "well": fleet.is_well,
                    "lines": [
                        {
                            "what": line.what,
                            "verdict": line.verdict.value,
                            "message": line.message,
                            "remedy": list(line.remedy),
                        }
                        for line in fleet.lines
                    ],
                    "next": list(fleet.next_steps),
                }
                for fleet in checkup.fleets
            ],
            "failures": [
                {"fleet": one.fleet, "message": one.message, "remedy": one.remedy} for one in checkup.failures
            ],
        }
    )


RENDERERS: Mapping[Format, Callable[[Checkup, TextStyle], str]] = {Format.TEXT: _text, Format.JSON: _json}
