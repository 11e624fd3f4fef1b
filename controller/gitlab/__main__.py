"""``python -m controller.gitlab``: the steps of the pipelines that speak with GitLab."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from controller.errors import CertfleetError
from controller.forge import outputs
from controller.forge.healing import add_healing, keep_healing
from controller.forge.posting import sticky_comment
from controller.forge.steps import add_comment, add_issues, add_run, run_step
from controller.forge.tracking import keep_issues, text_of

from .api import GitLab

TOKEN = "CERTFLEET_GITLAB_TOKEN"  # noqa: S105 (a variable's name)
OVERRIDES = (
    "An `--override` is a person's: start a pipeline of the default branch by hand (Build, Pipelines, New pipeline), "
    "for `resume=POLICY` with the variable `CERTFLEET_RESUME`. It plans anew; the job `override` waits for a person."
)


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Do the step that ``argv`` names, with this environment; reports on stdout what was done."""
    return run_step(_parser(), _STEPS, _told, argv, environment)


def _told(error: CertfleetError) -> str:
    return f"certfleet: error: {error}\n→ {error.remedy or ''}\n"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m controller.gitlab", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    add_comment(what)
    add_issues(what)
    add_run(what)
    add_healing(what)
    for name, told in (
        ("within", "the fleets, a line each, that are applied without asking anybody"),
        ("reviews", "fleet and overrides, a line each, of those that a guardrail refuses"),
    ):
        listed = what.add_parser(name, help=told)
        listed.add_argument("--plan", type=Path, required=True, help="what certfleet plan --plan wrote")
        listed.add_argument("--resume", default="", help="the policy that was resumed by hand")
    heals = what.add_parser("heals", help="fleet and overrides, a line each, of those with something to heal")
    heals.add_argument("--plan", type=Path, required=True, help="what certfleet heal plan wrote as JSON")
    return parser


def _comment(arguments: Namespace, environment: Mapping[str, str]) -> str:
    number = int(_required(environment, "CI_MERGE_REQUEST_IID"))
    if not environment.get(TOKEN):
        return f"no note is written: {TOKEN} is not set, or not for this branch\n"
    posted = sticky_comment(_gitlab(environment), number, arguments.key, text_of(arguments.body))
    return f"note: {posted}\n"


def _issues(arguments: Namespace, environment: Mapping[str, str]) -> str:
    if not environment.get(TOKEN):
        return f"no tracking issue is kept: {TOKEN} is not set\n"
    return keep_issues(
        _gitlab(environment, "issues"),
        _note(environment),
        attention=arguments.attention,
        failure=arguments.failure,
        overrides=OVERRIDES,
        is_whole=True,
    )


def _healing(arguments: Namespace, environment: Mapping[str, str]) -> str:
    if not environment.get(TOKEN):
        return f"the healing plan is in no issue: {TOKEN} is not set\n"
    return keep_healing(_gitlab(environment, "issues"), arguments, _note(environment))


def _reviews(arguments: Namespace, _environment: Mapping[str, str]) -> str:
    return _listed(outputs.of_plan(arguments.plan, arguments.resume)["review"])


def _heals(arguments: Namespace, _environment: Mapping[str, str]) -> str:
    return _listed(outputs.of_healing(arguments.plan))


def _listed(found: Iterable[Mapping[str, str]]) -> str:
    return "".join(f"{one['fleet']} {one['overrides']}\n" for one in found)


def _within(arguments: Namespace, _environment: Mapping[str, str]) -> str:
    return "".join(f"{fleet}\n" for fleet in outputs.of_plan(arguments.plan, arguments.resume)["apply"])


_STEPS = {
    "comment": _comment,
    "issues": _issues,
    "healing": _healing,
    "reviews": _reviews,
    "within": _within,
    "heals": _heals,
}


def _gitlab(environment: Mapping[str, str], noteable: str = "merge_requests") -> GitLab:
    return GitLab(
        _required(environment, "CI_API_V4_URL"),
        _required(environment, "CI_PROJECT_ID"),
        _required(environment, TOKEN),
        noteable,
    )


def _note(environment: Mapping[str, str]) -> str:
    job = environment.get("CI_JOB_URL")
    return f"\n<sub>Last reported by [{environment.get('CI_JOB_NAME', 'a job')}]({job}).</sub>\n" if job else ""


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise CertfleetError(f"{name} is not set", "Run this in a pipeline of a merge request, or of a branch.")
    return value


if __name__ == "__main__":
    sys.exit(main())
