"""``python -m controller.github comment|issue``: the posting steps of the workflows."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from controller.errors import CertfleetError, ExitCode

from .api import GitHub
from .posting import Posted, sticky_comment, tracking_issue


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Post one text; prints what was done."""
    arguments = _parser().parse_args(argv)
    try:
        posted = _post(arguments, environment)
    except CertfleetError as error:
        sys.stderr.write(f"::error title=certfleet::{error}. {error.remedy or ''}\n")
        return int(ExitCode.ERROR)
    sys.stdout.write(f"{arguments.what}: {posted}\n")
    return int(ExitCode.IN_SYNC)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m controller.github", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    comment = what.add_parser("comment", help="the sticky comment of the event's pull request")
    comment.add_argument("--key", default="plan", help="comments of one key replace each other")
    issue = what.add_parser("issue", help="the tracking issue of a fleet")
    issue.add_argument("--fleet", required=True)
    issue.add_argument("--solved", action="store_true", help="nothing needs a person: close the issue")
    for command in (comment, issue):
        command.add_argument("--body", type=Path, required=True, help="file with the Markdown text")
    return parser


def _post(arguments: Namespace, environment: Mapping[str, str]) -> Posted:
    github = GitHub(
        environment.get("GITHUB_API_URL", "https://api.github.com"),
        _required(environment, "GITHUB_REPOSITORY"),
        _required(environment, "GITHUB_TOKEN"),
    )
    text = arguments.body.read_text(encoding="utf-8")
    if arguments.what == "issue":
        return tracking_issue(github, arguments.fleet, text, is_solved=arguments.solved)
    return sticky_comment(github, _pull_request_number(environment), arguments.key, text)


def _pull_request_number(environment: Mapping[str, str]) -> int:
    event = json.loads(Path(_required(environment, "GITHUB_EVENT_PATH")).read_text(encoding="utf-8"))
    try:
        return int(event["pull_request"]["number"])
    except (KeyError, TypeError, ValueError):
        raise CertfleetError(
            "the event that started this workflow is no pull request", "Post comments from on: pull_request only."
        ) from None


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise CertfleetError(f"{name} is not set", "Run this in GitHub Actions, with env: in the step.")
    return value


if __name__ == "__main__":
    sys.exit(main())
