"""The work of steps around a command of certfleet, which ``python -m controller.github`` and ``…gitlab`` begin with."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from controller.errors import CertfleetError, ExitCode

from .texts import MESSAGE_LINES_SHOWN, failure_text

Step = Callable[[Namespace, Mapping[str, str]], str]


def run_step(
    parser: ArgumentParser,
    steps: Mapping[str, Step],
    shown: Callable[[CertfleetError], str],
    argv: Sequence[str] | None,
    environment: Mapping[str, str],
) -> int:
    """Do the step that ``argv`` names: a command of certfleet, or one of ``steps``, which reports what was done.

    ``shown`` is how an error is shown where the step runs; ``environment`` holds the variables there.
    """
    arguments = parser.parse_args(argv)
    try:
        if arguments.what == "run":
            return run_command(arguments.command, arguments.report, arguments.title, arguments.passes, environment)
        sys.stdout.write(steps[arguments.what](arguments, environment))
    except CertfleetError as error:
        sys.stderr.write(shown(error))
        return int(ExitCode.ERROR)
    return int(ExitCode.IN_SYNC)


def add_comment(what: Any) -> ArgumentParser:
    """Return the arguments of a comment that is replaced, as a command among those of ``what``."""
    comment: ArgumentParser = what.add_parser("comment", help="the one comment of the change that started the job")
    comment.add_argument("--key", default="plan", help="comments of one key replace each other")
    comment.add_argument("--body", type=Path, required=True, help="file with the Markdown text")
    return comment


def add_issues(what: Any) -> ArgumentParser:
    """Return the arguments of ``keep_issues``, likewise."""
    issues: ArgumentParser = what.add_parser(
        "issues", help="one tracking issue per fleet: open while something needs a person"
    )
    issues.add_argument("--attention", type=Path, required=True, help="what --needs-person wrote")
    issues.add_argument("--failure", type=Path, required=True, help="Markdown to post if that file is missing")
    return issues


def add_run(what: Any) -> None:
    """Add the arguments of ``run_command``, as a command among those of ``what``."""
    run = what.add_parser("run", help="a command of certfleet, its report in the summary of the job")
    run.add_argument("--report", type=Path, required=True, help="Markdown file that the command writes")
    run.add_argument("--title", required=True, help="the report's title, if the command ends without one")
    run.add_argument("--passes", type=int, nargs="*", default=(), help="exit codes, besides 0, that are not failures")
    run.add_argument("command", nargs="+", help="after --: the arguments of certfleet")


def run_command(
    command: Sequence[str], report: Path, title: str, passes: Collection[int], environment: Mapping[str, str]
) -> int:
    """Run a command of certfleet, and append its report to the summary of the job.

    Its log is passed on line by line. ``exit-code`` becomes an output of the step.

    Args:
        command: The arguments of certfleet; they make it write ``report``.
        report: Markdown. If the command ends without, its last lines become the report, below ``title``.
        title: The failed act, as one line.
        passes: Exit codes besides 0 that are not failures of the step.
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


def _append(environment: Mapping[str, str], name: str, text: str) -> None:
    if path := environment.get(name):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
