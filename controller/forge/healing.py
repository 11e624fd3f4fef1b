"""The issue that holds what healing would do: open while there is something, with what was done as comments."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from .outputs import of_healing
from .posting import Forge, close_issue, comment_issue, keep_issue
from .tracking import text_of

_KEY, _TITLE = "healing", "certfleet: the registry can be healed, when this plan is approved"


def add_healing(what: Any) -> None:
    """Add the arguments of ``keep_healing``, as a command among those of ``what``."""
    healing = what.add_parser("healing", help="the issue of what healing would do, open while there is something")
    healing.add_argument("--plan", type=Path, required=True, help="what certfleet heal plan wrote as JSON")
    healing.add_argument("--body", type=Path, required=True, help="the same as Markdown")
    healing.add_argument("--outcome", type=Path, help="what certfleet heal apply wrote: a comment on that issue")


def keep_healing(forge: Forge, arguments: Namespace, note: str) -> str:
    """Open, change or close the issue by the step's arguments, or add the note to it; returns what was done."""
    if arguments.outcome is not None:
        return f"comment: {comment_issue(forge, _KEY, text_of(arguments.outcome) + note)}\n"
    if not of_healing(arguments.plan):
        return f"issue: {close_issue(forge, _KEY, 'There is nothing left to heal for now.' + note)}\n"
    return f"issue: {keep_issue(forge, _KEY, _TITLE, text_of(arguments.body), note)}\n"
