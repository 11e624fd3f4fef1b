"""The formats of reports, by the names that ``--format`` takes."""

from __future__ import annotations

from enum import StrEnum


class Format(StrEnum):
    """What a report can be written as; a command offers those that make sense for it."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    SARIF = "sarif"
    JUNIT = "junit"
    GITHUB = "github"
    ICS = "ics"
