"""The formats of reports, by the names that ``--format`` takes, and how they may look: nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import Any

FORMAT_VERSION = 1
"""Of the JSON that reports are: fields are only ever added within one."""


class Format(StrEnum):
    """The formats of a report; a command offers those that make sense for it."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    ICS = "ics"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class TextStyle:
    """How wide a text report may be, in columns, and whether it may use colour."""

    width: int = 100
    color: bool = False


def dump(value: Any) -> str:
    """Return JSON text as this program writes it: in the order given, UTF-8, two spaces, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def at_need(module: str, name: str) -> Callable[[Any, TextStyle], str]:
    """Return a renderer of a module of ``controller.report`` that is imported only when it is called."""
    return lambda report, look: str(getattr(import_module(f"controller.report.{module}"), name)(report, look))
