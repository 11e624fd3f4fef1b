"""``python -m controller.github``: the steps of the workflows that speak with GitHub."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError
from controller.forge import outputs
from controller.forge.healing import add_healing, keep_healing
from controller.forge.posting import sticky_comment
from controller.forge.steps import add_comment, add_issues, add_run, run_step
from controller.forge.texts import failure_text, run_note
from controller.forge.tracking import keep_issues, text_of
from controller.report.github import annotation

from .api import GitHub, IssuesDisabledError
from .approvals import reviewers_of
from .changes import fetch_change
from .history import fetch_history

OVERRIDES = (
    "An `--override` is a person's: start the `reconcile` workflow by hand (Actions, reconcile, Run workflow), for "
    "`resume=POLICY` with that policy as input. It plans anew and asks a reviewer of `certfleet-override`."
)


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Do the step that ``argv`` names, with this environment; reports on stdout what was done."""
    return run_step(_parser(), _STEPS, _annotated, argv, environment)


def _annotated(error: CertfleetError) -> str:
    return annotation("error", f"{error}. {error.remedy or ''}")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m controller.github", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    comment = add_comment(what)
    comment.add_argument("--only-replace", action="store_true", help="if there is none, leave it at that")
    issues = add_issues(what)
    issues.add_argument("--skip", default="[]", help="JSON list of fleets that a later job speaks of")
    issues.add_argument("--whole", action="store_true", help="the file names every fleet: issues of others are closed")
    add_run(what)
    what.add_parser("fetch", help="the commits of the event's pull request or merge queue, as data")
    output = what.add_parser("outputs", help="lines for GITHUB_OUTPUT")
    output.add_argument("--plan", type=Path, help="what certfleet plan --plan wrote")
    output.add_argument("--resume", default="", help="the policy that was resumed by hand")
    output.add_argument("--healing", type=Path, help="what certfleet heal plan wrote as JSON")
    output.add_argument("--comparison", type=Path, help="what certfleet plan --base wrote as JSON")
    add_healing(what)
    approved = what.add_parser("approved", help="fail unless a reviewer has approved this run for an environment")
    approved.add_argument("--environment", required=True, help="the environment's name")
    approved.add_argument("--report", type=Path, required=True, help="file for what is reported if nobody has")
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
    try:
        return keep_healing(_github(environment), arguments, run_note(environment))
    except IssuesDisabledError as error:
        return annotation("notice", f"the healing plan is in no issue: {error}. {error.remedy}")


def _approved(arguments: Namespace, environment: Mapping[str, str]) -> str:
    try:
        return f"approved by {', '.join(_reviewers(arguments.environment, environment))}\n"
    except CertfleetError as error:  # GitHub's refusal too: the tracking issue is to show why nothing was done
        text = failure_text("Nothing is done that a person must approve", f"{error}. {error.remedy or ''}")
        arguments.report.write_text(text, encoding="utf-8")
        raise


def _reviewers(name: str, environment: Mapping[str, str]) -> Sequence[str]:
    reviewers = reviewers_of(_github(environment), _required(environment, "GITHUB_RUN_ID"), name)
    if not reviewers:
        raise CertfleetError(
            f"nobody has approved this run: the environment {name} has no required reviewers",
            f"Settings, Environments, {name}: give it required reviewers; then start a run by hand.",
        )
    return reviewers


def _history(arguments: Namespace, environment: Mapping[str, str]) -> str:
    repository = _from_event(environment, "repository", "id")
    branch = _required(environment, "GITHUB_REF_NAME")
    number = fetch_history(_github(environment), repository, branch, arguments.into)
    return f"history: {number} records\n"


_STEPS = {
    "comment": _comment,
    "issues": _issues,
    "fetch": _fetch,
    "outputs": _outputs,
    "history": _history,
    "healing": _healing,
    "approved": _approved,
}


def _github(environment: Mapping[str, str]) -> GitHub:
    return GitHub(
        environment.get("GITHUB_API_URL", "https://api.github.com"),
        _required(environment, "GITHUB_REPOSITORY"),
        _required(environment, "GITHUB_TOKEN"),
    )


def _from_event(environment: Mapping[str, str], part: str, name: str) -> int:
    """Return a number of the event that started the workflow."""
    event = json.loads(text_of(Path(_required(environment, "GITHUB_EVENT_PATH"))))
    try:
        return int(event[part][name])
    except (KeyError, TypeError, ValueError):
        raise CertfleetError(
            f"the event that started this workflow has no {part}.{name}",
            "Post comments from a workflow that on: pull_request starts; other events do not name a pull request.",
        ) from None


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise CertfleetError(f"{name} is not set", "Run this in GitHub Actions, with env: in the step.")
    return value


if __name__ == "__main__":
    sys.exit(main())
