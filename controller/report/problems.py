"""Mistakes in the documents, in every format that a validation can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from controller.errors import Problem
from controller.reconcile.values import DesiredState

from . import words
from .console import Page
from .formats import FORMAT_VERSION, Format, TextStyle, at_need, dump

_ELSEWHERE = "problems_formats"  # which imports what whole reports are made of


@dataclass(frozen=True, slots=True)
class Validation:
    """The findings of ``validate`` in a folder: the fleets, or the problems."""

    folder: str
    fleets: tuple[DesiredState, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()  # what is valid, and may not be what is meant
    is_live: bool = False  # compared with what is deployed as well

    def with_live(self, found: Iterable[tuple[list[Problem], list[Problem]]], failed: list[Problem]) -> Validation:
        """Return the same with the problems and notes found in each fleet, and fleets whose look failed."""
        problems, notes = [], []
        for of_fleet, told in found:
            problems += of_fleet
            notes += told
        return replace(self, problems=(*self.problems, *problems, *failed), notes=(*self.notes, *notes))


def _text(result: Validation, look: TextStyle) -> str:
    page = Page(look)
    for problem in result.problems:
        page.line((f"{problem.path}:{problem.line}: ", "head"), problem.message)
    if result.problems:
        page.line((f"{words.count(len(result.problems), 'problem')} in {result.folder}", "bad"))
    for desired in result.fleets:
        fleet = desired.fleet
        parts = [words.count(len(desired.policies), "policy", "policies")]
        parts.append(words.count(len(desired.authorities), "authority", "authorities"))
        if desired.waivers:
            parts.append(words.count(len(desired.waivers), "waiver"))
        if desired.quarantines:
            parts.append(words.count(len(desired.quarantines), "quarantine"))
        if desired.incidents:
            parts.append(words.count(len(desired.incidents), "incident"))
        if desired.drills:
            parts.append(words.count(len(desired.drills), "drill"))
        where = f"account {fleet.account}, {fleet.region}, {words.commit(desired.commit, is_dirty=desired.is_dirty)}"
        verdict = ("READ   ", "bold") if result.problems else ("VALID  ", "bold good")
        page.line(verdict, (fleet.name, "head"), f"  {', '.join(parts)}", (f"  {where}", "dim"))
    for note in result.notes:
        page.line(("NOTE  ", "bold wait"), (f"{note.path}:{note.line}: ", "head"), note.message)
    return page.text()


def _json(result: Validation, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Validation",
            "valid": not result.problems,
            "fleets": [
                {
                    "fleet": desired.fleet.name,
                    "account": desired.fleet.account,
                    "region": desired.fleet.region,
                    "commit": desired.commit,
                    "policies": [policy.name for policy in desired.policies],
                }
                for desired in result.fleets
            ],
            "problems": [
                {"path": problem.path, "line": problem.line, "column": problem.column, "message": problem.message}
                for problem in result.problems
            ],
            "notes": [{"path": note.path, "line": note.line, "message": note.message} for note in result.notes],
        }
    )


RENDERERS: Mapping[Format, Callable[[Validation, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: at_need(_ELSEWHERE, "problems_markdown"),
    Format.GITHUB: at_need(_ELSEWHERE, "problems_github"),
    Format.SARIF: at_need(_ELSEWHERE, "problems_sarif"),
    Format.JUNIT: at_need(_ELSEWHERE, "problems_junit"),
}
