"""Mistakes in the documents in the formats of machines and pull requests; ``problems`` has the others."""

from __future__ import annotations

from . import words
from .formats import TextStyle
from .github import annotation
from .junit import JunitCase, suite
from .markdown import code, fitted, plain
from .problems import Validation
from .sarif import SarifResult, sarif_log

_LOCALLY = "`certfleet validate` finds them before you push; editors do from `desired_state/schema.json`."


def problems_github(result: Validation, _look: TextStyle) -> str:
    """Return annotations, as GitHub's workflow commands."""
    found = [("error", problem) for problem in result.problems] + [("warning", note) for note in result.notes]
    return "".join(
        annotation(level, each.message, path=each.path, line=each.line, column=each.column) for level, each in found
    )


def problems_markdown(result: Validation, _look: TextStyle) -> str:
    """Return a comment of a pull request."""
    if not result.problems:
        names = ", ".join(code(desired.fleet.name) for desired in result.fleets)
        notes = [f"- {code(f'{note.path}:{note.line}')} {plain(note.message)}\n" for note in result.notes]
        return fitted([f"✅ The desired state is valid: {names}.\n", *notes])
    number = len(result.problems)
    rest = "it is not what is deployed" if result.is_live else "nothing was compared with the fleet"
    title = f"## ❌ {words.count(number, 'mistake')} in the desired state: {rest}\n"
    rows = [f"- {code(f'{problem.path}:{problem.line}')} {plain(problem.message)}" for problem in result.problems]
    steps = f"1. Correct {'it' if number == 1 else 'them'}; every mistake is marked on its line.\n2. {_LOCALLY}"
    return fitted([title, *rows], ending=f"\n### Next\n\n{steps}\n")


def problems_sarif(result: Validation, _look: TextStyle) -> str:
    """Return SARIF, for code scanning."""
    results = [
        SarifResult("InvalidDocument", "error", problem.message, problem.path, problem.line)
        for problem in result.problems
    ]
    return sarif_log(results, {"InvalidDocument": "A document of the desired state is wrong."})


def problems_junit(result: Validation, _look: TextStyle) -> str:
    """Return JUnit XML, for test dashboards."""
    cases = [
        JunitCase("desired state", f"{problem.path}:{problem.line}", "failure", problem.message)
        for problem in result.problems
    ]
    cases += [JunitCase("desired state", desired.fleet.name) for desired in result.fleets]
    return suite("certfleet validate", cases)
