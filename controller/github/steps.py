"""What steps of a workflow do around a command of certfleet: fetch what it is about, show what it reports."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import git

from controller.errors import CertfleetError

from .texts import MESSAGE_LINES_SHOWN, failure_text

_DOCUMENTS = "desired_state"


def add_run(what: Any) -> None:
    """The arguments of ``run_command``, as a command among those of ``what``."""
    run = what.add_parser("run", help="a command of certfleet, its report in the summary of the job")
    run.add_argument("--report", type=Path, required=True, help="Markdown file that the command writes")
    run.add_argument("--title", required=True, help="the report's title, if the command ends without one")
    run.add_argument("--passes", type=int, nargs="*", default=(), help="exit codes, besides 0, that are no failure")
    run.add_argument("command", nargs="+", help="after --: the arguments of certfleet")


def run_command(
    command: Sequence[str], report: Path, title: str, passes: Collection[int], environment: Mapping[str, str]
) -> int:
    """Run a command of certfleet, and append its report to the summary of the job.

    What it logs is passed on line by line. ``exit-code`` becomes an output of the step.

    Args:
        command: The arguments of certfleet; they make it write ``report``.
        report: Markdown. If the command ends without, its last lines become the report, below ``title``.
        title: What could not be done, as one line.
        passes: Exit codes besides 0 that are no failure of the step.
        environment: Names the files for summary and outputs, as GitHub Actions does.

    Returns:
        The command's exit code, or 0 for one that passes.
    """
    last: deque[str] = deque(maxlen=MESSAGE_LINES_SHOWN)
    report.unlink(missing_ok=True)
    with subprocess.Popen(  # noqa: S603  # this project's own program
        ["certfleet", *command],  # noqa: S607
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as running:
        for line in running.stderr or ():
            sys.stderr.write(line)
            last.append(line)
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    if not text:
        text = failure_text(title, "".join(last))
        report.write_text(text, encoding="utf-8")
    _append(environment, "GITHUB_STEP_SUMMARY", text)
    _append(environment, "GITHUB_OUTPUT", f"exit-code={running.returncode}\n")
    return 0 if running.returncode in passes else running.returncode


def fetch_change(environment: Mapping[str, str]) -> dict[str, str]:
    """Fetch what a pull request or a merge queue would make of its base, into the object database alone.

    Args:
        environment: As GitHub Actions sets it, ``GITHUB_TOKEN``, and for a merge queue the base's ``BASE_SHA``.

    Returns:
        The commit of the base, and ``changed``, true or false: whether the desired state is touched.

    Raises:
        CertfleetError: git could not fetch the commit, or does not know its base.
    """
    commit = environment["GITHUB_SHA"]
    credentials = base64.b64encode(f"x-access-token:{environment['GITHUB_TOKEN']}".encode()).decode()
    once = {  # the checkout keeps no credentials: they reach git by the environment of this one command
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{environment['GITHUB_SERVER_URL']}/.extraheader",
        "GIT_CONFIG_VALUE_0": f"AUTHORIZATION: basic {credentials}",
    }
    repository = git.Git()
    parent = environment.get("BASE_SHA") or f"{commit}^1"  # of a merge that GitHub made: its first parent
    try:
        with repository.custom_environment(**once):
            repository.fetch("origin", commit, quiet=True, no_tags=True)
        base = repository.rev_parse(f"{parent}^{{commit}}", verify=True)
        names = repository.diff(base, commit, "--", _DOCUMENTS, no_ext_diff=True, name_only=True)
    except git.GitCommandError as error:
        raise CertfleetError(
            f"the change cannot be fetched: {error.stderr.strip()}",
            "Check its base out with fetch-depth: 0 in an earlier step, and give this one GITHUB_TOKEN.",
        ) from None  # whose arguments are nobody's business
    return {"base": base, "changed": str(bool(names)).lower()}


def _append(environment: Mapping[str, str], name: str, text: str) -> None:
    if path := environment.get(name):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
