"""The tracking issues: one per fleet, open while something needs a person, and one of documents that do not hold."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError

from .posting import Forge, close_issue, close_others, keep_issue
from .texts import issue_text, solved_text

_DOCUMENTS_KEY = "desired-state"


def keep_issues(
    forge: Forge,
    note: str,
    *,
    attention: Path,
    failure: Path,
    overrides: str,
    skip: Collection[str] = (),
    is_whole: bool = False,
) -> str:
    """Open, change and close the issues.

    Args:
        forge: Where they are.
        note: Where the text comes from.
        attention: The file that ``--needs-person`` wrote.
        failure: Markdown to post if that file is missing.
        overrides: How a person gives an override there.
        skip: Fleets whose issues a later job keeps.
        is_whole: Whether the file names every fleet: issues of others are closed.

    Returns:
        The acts, a line each.
    """
    if not attention.exists():
        title = "certfleet: the desired state cannot be reconciled"
        return f"issue: {keep_issue(forge, _DOCUMENTS_KEY, title, text_of(failure), note)}\n"
    done = [f"issue: {close_issue(forge, _DOCUMENTS_KEY, 'The desired state can be reconciled again.' + note)}"]
    fleets = json.loads(text_of(attention))["fleets"]
    spoken_of = [fleet for fleet in fleets if fleet["fleet"] not in skip]
    done += [f"issue of fleet {fleet['fleet']}: {_issue(forge, fleet, note, overrides)}" for fleet in spoken_of]
    if is_whole:
        keys = {_key(fleet["fleet"]) for fleet in fleets}
        closed = close_others(forge, _key(""), keys, "No document names this fleet any more." + note)
        done.append(f"issues of fleets that are no more: {closed} closed")
    return "\n".join(done) + "\n"


def text_of(path: Path) -> str:
    """Return a file that an earlier step wrote; CertfleetError if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CertfleetError(f"{path} cannot be read: {error.strerror}", "An earlier step must write it.") from error


def _issue(forge: Forge, fleet: Mapping[str, Any], note: str, overrides: str) -> str:
    key, text = _key(fleet["fleet"]), issue_text(fleet, overrides)
    if text is None:
        return close_issue(forge, key, solved_text(fleet["fleet"]) + note)
    return keep_issue(forge, key, f"certfleet: fleet {fleet['fleet']} needs a person", text, note)


def _key(fleet: str) -> str:
    return f"fleet-{fleet}"
