"""Markdown of the tracking issue, and of a run that ended before it had a report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from controller.plain_text import inert
from controller.report.markdown import fitted, plain

LINES_SHOWN = 50  # per list
MESSAGE_LINES_SHOWN = 40  # the last ones, of what a command said
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")

INTRODUCTION = (
    "is not as git demands, and not all of it mends itself. The workflows keep this issue: it changes with the fleet, "
    "and closes when nothing of it is left."
)


def issue_text(fleet: Mapping[str, Any], overrides: str) -> str | None:
    """Return the body for one fleet of a ``--needs-person`` document; None if nothing is left to report.

    ``overrides`` shows how a person gives one where the issue is.
    """
    person, failing = fleet["needs_person"], fleet["failing"]
    if not person and not failing:
        return None
    parts = [f"Fleet **{plain(fleet['fleet'])}** {INTRODUCTION}\n"]
    if person:
        parts.append(f"### Needs a person\n\n{_listed(person)}\n")
    if failing:
        parts.append(f"### Failed, and tried again\n\n{_listed(failing)}\n")
    if any("--override " in line for line in person):
        parts.append(f"{overrides}\n")
    parts.append("`certfleet explain THING` shows why, with the arithmetic.\n")
    return fitted(parts)


def solved_text(fleet: str) -> str:
    """Return the comment when the issue of a fleet closes."""
    return f"Nothing in fleet **{plain(fleet)}** needs a person any more."


def failure_text(what: str, messages: str) -> str:
    """Return the ``messages`` that a command printed before it ended without a report: ``what`` is the summary line."""
    lines = [line for line in inert(_TERMINAL_CODES.sub("", messages)).split("\n") if line.strip()]
    said = "\n".join(lines[-MESSAGE_LINES_SHOWN:]) or "It printed nothing; see the log of the job."
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", said)), default=0))
    steps = "1. Do what the last lines show; `docs/gitops.md` has the set-up.\n2. Run the job again."
    return f"## ❌ {what}\n\n{fence}text\n{said}\n{fence}\n\n### Next\n\n{steps}\n"


def run_note(environment: Mapping[str, str]) -> str:
    """Return where the text comes from: the address of the run, if GitHub Actions names it."""
    names = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")
    server, repository, run = (environment.get(name) for name in names)
    if not (server and repository and run):
        return ""
    workflow = environment.get("GITHUB_WORKFLOW", "a run")
    return f"\n<sub>Last reported by [{workflow}]({server}/{repository}/actions/runs/{run}).</sub>\n"


def _listed(lines: Sequence[str]) -> str:
    shown: Iterable[str] = (f"- {plain(line)}" for line in lines[:LINES_SHOWN])
    rest = len(lines) - LINES_SHOWN
    return "\n".join([*shown, *([f"- and {rest:,} more: `certfleet drift` lists all"] if rest > 0 else [])])
