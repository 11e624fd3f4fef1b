"""``certfleet``: one function per command, in ``controller.commands``; here errors become exit codes.

Only the module of the command that runs is imported, so that ``certfleet --help`` answers at once.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn, TextIO

from controller.commands.context import Context, look_for
from controller.commands.options import add_common
from controller.commands.streams import INTERRUPTED, Interrupts, abandon, end_at_once, make_readable, output_error
from controller.errors import CertfleetError, ExitCode, as_error
from controller.plain_text import inert


@dataclass(frozen=True, slots=True)
class Command:
    """A command's place, its one line in the overview, and what teaches it by example."""

    module: str
    summary: str
    examples: str


COMMANDS = {
    "init": Command(
        "init",
        "first documents for a fleet as it is, which only report",
        "certfleet init --region eu-west-1\ncertfleet init --thing-group line-a --desired-state fleets/plant",
    ),
    "validate": Command(
        "validate",
        "check the desired state; with --live, against what is deployed",
        "certfleet validate\n"
        "certfleet validate --ref origin/main --format github\n"
        "certfleet validate --live    # is the backend deployed so, can the CAs issue?",
    ),
    "plan": Command(
        "plan",
        "show what apply would do; exits 2 if there is something to do",
        "certfleet plan\n"
        "certfleet plan --plan plan.json      # to read, and a file for apply --plan\n"
        "certfleet plan --base origin/main    # what this change does to the fleet",
    ),
    "preflight": Command(
        "preflight",
        "ask devices whether their rotation would fail; it rotates nobody",
        "certfleet preflight --wait                   # before a first wave\n"
        "certfleet preflight --policy line-a --wait   # again, once it is put right",
    ),
    "apply": Command(
        "apply",
        "rotate: make the jobs of a plan",
        "certfleet apply --wait             # wave after wave, until all is done\n"
        "certfleet apply --plan plan.json   # exactly what was reviewed",
    ),
    "status": Command(
        "status",
        "the fleet in numbers",
        "certfleet status\ncertfleet status --fleet production --format json",
    ),
    "drift": Command(
        "drift",
        "every device that departs from git, and why; exits 2 if there is one",
        "certfleet drift\n"
        "certfleet drift --format html --output drift.html --also json=drift.json\n"
        "certfleet drift --format html --output drift.html --history reports/",
    ),
    "forecast": Command(
        "forecast",
        "rotations to come, day by day",
        "certfleet forecast --horizon 90d\ncertfleet forecast --format ics --output rotations.ics",
    ),
    "explain": Command(
        "explain",
        "why one device is rotated, or is not",
        "certfleet explain gateway-0042\n"
        "certfleet explain gateway-0042 --now 2027-01-01T00:00:00Z\n"
        "certfleet explain gateway-0042 --format markdown    # for an issue",
    ),
    "doctor": Command(
        "doctor",
        "check what must be true before the first wave, line by line, with the remedy",
        "certfleet doctor\n"
        "certfleet doctor --migrate    # is the moment good to change backends?\n"
        "certfleet doctor --migrate --from AWSLabsCertificateRotator --to Certfleet",
    ),
    "evidence": Command(
        "evidence",
        "show which credential each device held when, who asked for it, who approved",
        "certfleet evidence --since 2026-01-01T00:00:00Z --format csv\n"
        "certfleet evidence THING\n"
        "certfleet evidence --kms-key ARN --format json --output evidence.json\n"
        "certfleet evidence verify evidence.json --public-key key.der",
    ),
    "drill": Command(
        "drill",
        "draw the devices of a drill: an incident that is practised",
        "certfleet drill autumn --policy line-a --count 100 --output drill.yaml\n"
        "certfleet drill autumn --policy line-a --count 100 --stratify-by keyType\n"
        "certfleet drill autumn --policy line-a --group line-a-north",
    ),
    "heal": Command(
        "heal",
        "put the registry in order, by a plan that a person reviews",
        "certfleet heal plan\n"
        "certfleet heal plan --format json --output heal.json\n"
        "certfleet heal apply heal.json    # with the healing role's credentials",
    ),
    "simulate": Command(
        "simulate",
        "a year of the fleet's life on a virtual clock",
        "certfleet simulate --span 365d --offline 10 --failures 1 --seed 7",
    ),
    "schema": Command(
        "schema",
        "the JSON Schema of the desired state, for editors",
        "certfleet schema > desired_state/schema.json",
    ),
    "bundle": Command(
        "bundle",
        "pack the desired state of a commit, for the reconcile Lambda",
        "certfleet bundle --ref HEAD --output bundle.json",
    ),
    "sandbox": Command(
        "sandbox",
        "a laptop-sized AWS IoT with a fleet in it",
        "certfleet sandbox up --fleet fleet.yaml   # then: . ./sandbox.env",
    ),
    "demo": Command("demo", "a drifted fleet comes into sync, on this machine", "certfleet demo"),
    "completion": Command(
        "completion",
        "completion for a shell",
        'eval "$(certfleet completion bash)"                    # in ~/.bashrc\n'
        'certfleet completion zsh > "${fpath[1]}/_certfleet"    # a folder of fpath\n'
        "certfleet completion fish > ~/.config/fish/completions/certfleet.fish",
    ),
}

DESCRIPTION = "Keeps the X.509 credentials of an AWS IoT fleet the way git demands."
EPILOG = """\
a first look:
  certfleet validate             are the documents in ./desired_state right?
  certfleet drift                which devices depart from them, and why?
  certfleet plan                 what would be done about it?
  certfleet preflight --wait     would any device fail?
  certfleet apply --wait         do it, and watch
  certfleet demo                 all of that on this machine, without AWS

exit codes:
  0 in sync   1 error   2 drift, or changes to make   3 refused by a guardrail
"""


class UsageError(CertfleetError):
    """The command line is wrong."""


class _Help(RawDescriptionHelpFormatter):
    """The formatter of argparse, with room for the longest command beside its summary."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = len(max(COMMANDS, key=len)) + 4  # both indents


class _Parser(ArgumentParser):
    """The parser of argparse, but an error is an exception, so that one place prints and one place exits."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see {self.prog} --help")


def build_parser(*names: str) -> ArgumentParser:
    """Return the parser; only the named commands (all, if none is named) get their arguments."""
    parser = _Parser(prog="certfleet", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Help)
    parser.add_argument("--version", action="store_true", help="versions and commit of this program")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Parser)
    for name, command in COMMANDS.items():
        indented = "\n".join(f"  {line}" for line in command.examples.splitlines())
        entry = commands.add_parser(
            name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=f"examples:\n{indented}\n",
            formatter_class=_Help,
        )
        if not names or name in names:
            _fill(entry, command, is_needed=name in names)
    return parser


def _fill(parser: ArgumentParser, command: Command, *, is_needed: bool) -> None:
    """Give a command its arguments; one whose extra is not installed stays without, unless it ``is_needed``."""
    try:
        import_module(f"controller.commands.{command.module}").add_arguments(parser)
    except CertfleetError:
        if is_needed:
            raise
    add_common(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    Without ``argv`` this is the whole process: it reads ``sys.argv``, handles signals, and flushes stdout at its end.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if argv is not None:
        return _guarded(given)
    make_readable()
    if _chosen(given) not in {"sandbox", "demo"}:  # they have something to take down, and do so
        Interrupts().listen()
    try:
        code = _guarded(given)
    except SystemExit as ended:  # argparse, after --help
        code = ended.code if isinstance(ended.code, int) else ExitCode.IN_SYNC
    gc.freeze()  # or the interpreter looks through all modules for garbage once more before it ends
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        abandon(sys.stdout)
    except OSError as error:
        abandon(sys.stdout)
        code = _fail(output_error("the standard output", error), given)
    return code


def _guarded(given: list[str]) -> int:
    """Return the exit code of a run, whatever it raises."""
    try:
        return int(_run(given))
    except KeyboardInterrupt:
        sys.stderr.write(INTERRUPTED)
        if isinstance(signal.getsignal(signal.SIGINT), Interrupts):
            end_at_once(ExitCode.ERROR)
        return int(ExitCode.ERROR)
    except BrokenPipeError:
        abandon(sys.stdout)  # whoever read our output has enough
        return int(ExitCode.ERROR)
    except Exception as error:  # noqa: BLE001 (the last net: nothing falls through it)
        return _fail(error, given)


def _chosen(given: list[str]) -> str:
    """Return the name of the command in ``given``; empty if there is none."""
    return next((word for word in given if word in COMMANDS), "")


def _fail(raised: Exception, given: list[str]) -> int:
    error = as_error(raised)
    with suppress(OSError):  # there may be nobody to tell
        if "--debug" in given or error is not raised:
            traceback.print_exception(raised)
        _print_error(error, sys.stderr, no_color="--no-color" in given)
    return int(error.exit_code)


def _run(given: list[str]) -> ExitCode:
    # Modules and fleets are many small values without cycles: to look for some costs a fifth of the time of a plan.
    gc.set_threshold(100_000, 50, 100)
    parser = build_parser(_chosen(given) or "none")
    arguments, unknown = parser.parse_known_args(given)
    if unknown:
        where = f"certfleet {arguments.command}" if arguments.command else "certfleet"
        raise UsageError(f"unrecognized arguments: {' '.join(unknown)}", f"see {where} --help")
    if arguments.version:
        sys.stdout.write(import_module("controller.commands.version").version_text())
        return ExitCode.IN_SYNC
    if not arguments.command:
        parser.print_help(sys.stderr)
        return ExitCode.ERROR
    module = import_module(f"controller.commands.{COMMANDS[arguments.command].module}")
    return ExitCode(module.run(Context(arguments, sys.stdout, sys.stderr, whole_parser=build_parser)))


def _print_error(error: CertfleetError, stream: TextIO, *, no_color: bool) -> None:
    color = look_for(stream, os.environ, no_color=no_color).color
    red, cyan, plain = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if color else ("", "", "")
    stream.write(f"{red}certfleet: error:{plain} {inert(str(error))}\n")
    if error.remedy:
        stream.write(f"{cyan}→{plain} {inert(error.remedy)}\n")


if __name__ == "__main__":
    sys.exit(main())
