"""``python -m controller.github``: the steps of the workflows that speak with GitHub."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError, ExitCode
from controller.report.github import annotation

from . import outputs
from .api import GitHub, IssuesDisabledError
from .history import fetch_history
from .posting import close_issue, comment_issue, keep_issue, sticky_comment
from .steps import add_run, fetch_change, run_command
from .texts import OVERRIDES, run_note
from .tracking import keep_issues, text_of

_HEALING_KEY, _HEALING_TITLE = "healing", "certfleet: the registry can be healed, when this plan is approved"


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Do one of them; says on stdout what was done."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.what == "run":
            return run_command(arguments.command, arguments.report, arguments.title, arguments.passes, environment)
        sys.stdout.write(_COMMANDS[arguments.what](arguments, environment))
    except CertfleetError as error:
        sys.stderr.write(annotation("error", f"{error}. {error.remedy or ''}"))
        return int(ExitCode.ERROR)
    return int(ExitCode.IN_SYNC)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m controller.github", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    comment = what.add_parser("comment", help="the sticky comment of the event's pull request")
    comment.add_argument("--key", default="plan", help="comments of one key replace each other")
    comment.add_argument("--only-replace", action="store_true", help="where there is none, leave it at that")
    comment.add_argument("--body", type=Path, required=True, help="file with the Markdown text")
    issues = what.add_parser("issues", help="one tracking issue per fleet: open while something needs a person")
    issues.add_argument("--attention", type=Path, required=True, help="what --needs-person wrote")
    issues.add_argument("--failure", type=Path, required=True, help="Markdown to post where that file is missing")
    issues.add_argument("--skip", default="[]", help="JSON list of fleets that a later job speaks of")
    issues.add_argument("--whole", action="store_true", help="the file names every fleet: issues of others are closed")
    add_run(what)
    what.add_parser("fetch", help="the commits of the event's pull request or merge queue, as data")
    output = what.add_parser("outputs", help="lines for GITHUB_OUTPUT")
    output.add_argument("--plan", type=Path, help="what certfleet plan --plan wrote")
    output.add_argument("--resume", default="", help="the policy that was resumed by hand")
    output.add_argument("--healing", type=Path, help="what certfleet heal plan wrote as JSON")
    output.add_argument("--comparison", type=Path, help="what certfleet plan --base wrote as JSON")
    healing = what.add_parser("healing", help="the issue of what healing would do, open while there is something")
    healing.add_argument("--plan", type=Path, required=True, help="what certfleet heal plan wrote as JSON")
    healing.add_argument("--body", type=Path, required=True, help="the same as Markdown")
    healing.add_argument("--outcome", type=Path, help="what certfleet heal apply wrote: a comment on that issue")
    history = what.add_parser("history", help="the trend records that the last drift report left as an artifact")
    history.add_argument("--into", type=Path, required=True, help="folder")
    return parser


def _comment(arguments: Namespace, environment: Mapping[str, str]) -> str:
    number = _from_event(environment, "pull_request", "number")
    text, github = text_of(arguments.body), _github(environment)
    posted = sticky_comment(github, number, arguments.key, text, only_replace=arguments.only_replace)
    return f"comment: {posted}\n"


def _issues(arguments: Namespace, environment: Mapping[str, str]) -> str:
    try:
        return keep_issues(
            _github(environment),
            run_note(environment),
            attention=arguments.attention,
            failure=arguments.failure,
            overrides=OVERRIDES,
            skip=json.loads(arguments.skip or "[]"),
            is_whole=arguments.whole,
        )
    except IssuesDisabledError as error:
        return annotation("notice", f"no tracking issue is kept: {error}. {error.remedy}")


def _fetch(_arguments: Namespace, environment: Mapping[str, str]) -> str:
    for name in ("GITHUB_SHA", "GITHUB_SERVER_URL", "GITHUB_TOKEN"):
        _required(environment, name)
    return "".join(f"{name}={value}\n" for name, value in fetch_change(environment).items())


def _outputs(arguments: Namespace, _environment: Mapping[str, str]) -> str:
    values: dict[str, Any] = {}
    if arguments.plan is not None:
        values |= outputs.of_plan(arguments.plan, arguments.resume)
    if arguments.comparison is not None:
        values |= outputs.of_comparison(arguments.comparison)
    if arguments.healing is not None:
        values["heal"] = outputs.of_healing(arguments.healing)
    return outputs.lines(values)


def _healing(arguments: Namespace, environment: Mapping[str, str]) -> str:
    github, note = _github(environment), run_note(environment)
    try:
        if arguments.outcome is not None:
            return f"comment: {comment_issue(github, _HEALING_KEY, text_of(arguments.outcome) + note)}\n"
        if not outputs.of_healing(arguments.plan):
            return f"issue: {close_issue(github, _HEALING_KEY, 'There is nothing left to heal for now.' + note)}\n"
        return f"issue: {keep_issue(github, _HEALING_KEY, _HEALING_TITLE, text_of(arguments.body), note)}\n"
    except IssuesDisabledError as error:
        return annotation("notice", f"the healing plan is in no issue: {error}. {error.remedy}")


def _history(arguments: Namespace, environment: Mapping[str, str]) -> str:
    repository = _from_event(environment, "repository", "id")
    branch = _required(environment, "GITHUB_REF_NAME")
    number = fetch_history(_github(environment), repository, branch, arguments.into)
    return f"history: {number} records\n"


_COMMANDS = {
    "comment": _comment,
    "issues": _issues,
    "fetch": _fetch,
    "outputs": _outputs,
    "history": _history,
    "healing": _healing,
}


def _github(environment: Mapping[str, str]) -> GitHub:
    return GitHub(
        environment.get("GITHUB_API_URL", "https://api.github.com"),
        _required(environment, "GITHUB_REPOSITORY"),
        _required(environment, "GITHUB_TOKEN"),
    )


def _from_event(environment: Mapping[str, str], part: str, name: str) -> int:
    """A number of the event that started the workflow."""
    event = json.loads(text_of(Path(_required(environment, "GITHUB_EVENT_PATH"))))
    try:
        return int(event[part][name])
    except (KeyError, TypeError, ValueError):
        raise CertfleetError(
            f"the event that started this workflow has no {part}.{name}",
            "Comments are posted from on: pull_request; nothing else of a workflow needs more than its repository.",
        ) from None


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise CertfleetError(f"{name} is not set", "Run this in GitHub Actions, with env: in the step.")
    return value


if __name__ == "__main__":
    sys.exit(main())
