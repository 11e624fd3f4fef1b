"""Arguments that commands share, and the types of their values."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from controller.durations import parse_duration
from controller.report.formats import Format

DEFAULT_FOLDER = Path("desired_state")
NO_REFRESH = timedelta.max
"""The ``--max-age`` of whoever wants nothing asked of AWS."""


def add_common(parser: ArgumentParser) -> None:
    """Add the options that every command takes."""
    group = parser.add_argument_group("everywhere")
    group.add_argument("--no-color", action="store_true", help="no colour, as with NO_COLOR in the environment")
    group.add_argument("--debug", action="store_true", help="show where in the program an error arose")


def add_output(parser: ArgumentParser, formats: Iterable[Format]) -> None:
    """Add ``--format`` and ``--output``."""
    group = parser.add_argument_group("output")
    names = [str(name) for name in formats]
    told = f"one of {', '.join(names)} (default: {names[0]})"  # the names would not wrap as a metavar
    group.add_argument("--format", choices=names, default=names[0], metavar="FORMAT", help=told)
    group.add_argument("--output", type=Path, metavar="FILE", help="write there, whole or not at all, not to stdout")
    group.add_argument(
        "--also",
        action="append",
        default=[],
        type=_also(names),
        metavar="FORMAT=FILE",
        help="write the same report in another format as well; may be repeated",
    )


def add_attention(parser: ArgumentParser) -> None:
    """Add ``--needs-person``."""
    parser.add_argument(
        "--needs-person",
        type=Path,
        metavar="FILE",
        help="write the work that only a person can do there, by fleet, as JSON: the tracking issue is made of it",
    )


def add_desired(parser: ArgumentParser, *, is_question: bool = True) -> None:
    """Add the options of which desired state; if the command ``is_question`` (changes nothing), also of which time."""
    group = parser.add_argument_group("desired state")
    group.add_argument(
        "--desired-state", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help="default: ./desired_state"
    )
    group.add_argument(
        "--ref", metavar="GITREF", help="read the documents from a git ref; the working tree is not touched"
    )
    group.add_argument(
        "--bundle", type=Path, metavar="FILE", help="read the documents from a bundle (see certfleet bundle)"
    )
    group.add_argument("--fleet", metavar="NAME", help="one Fleet document only (default: all of them)")
    if is_question:
        then = "assess the fleet as of this instant, such as 2026-12-01T00:00:00Z (default: now)"
        group.add_argument("--now", type=instant, metavar="INSTANT", help=then)


def add_fleet(parser: ArgumentParser, *, is_question: bool = True) -> None:
    """Add the options of how the actual state is read; if the command ``is_question``, an earlier look may do."""
    group = parser.add_argument_group("actual state")
    group.add_argument(
        "--inventory",
        type=Path,
        metavar="FILE",
        help="what is known of the fleet's certificates (default: one per account and region in the user's cache)",
    )
    group.add_argument(
        "--lock-timeout",
        type=duration,
        default=timedelta(minutes=30),
        metavar="DURATION",
        help="how long to wait for another certfleet that is refreshing the same inventory (default: 30m)",
    )
    group.add_argument(
        "--time-limit",
        type=duration,
        metavar="DURATION",
        help="stop looking at AWS after so long, all fleets together; the next run goes on with what was read",
    )
    if is_question:
        ages = group.add_mutually_exclusive_group()
        ages.add_argument(
            "--max-age",
            type=duration,
            metavar="DURATION",
            help="if the last look is no older than that, use it and ask AWS nothing",
        )
        ages.add_argument(
            "--no-refresh",
            action="store_const",
            const=NO_REFRESH,
            dest="max_age",
            help="ask AWS nothing: report what the last look saw, with its date",
        )


def add_policy(parser: ArgumentParser) -> None:
    """Add ``--policy``."""
    parser.add_argument(
        "--policy", metavar="NAME", help="look at the devices of one policy only, and report nothing of the others"
    )


def add_overrides(parser: ArgumentParser) -> None:
    """Add ``--override``, whose values are as refusals print them."""
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="loosen one guardrail for this run, exactly as the refusal prints it; may be repeated",
    )


def _also(names: Iterable[str]) -> Callable[[str], tuple[str, Path]]:
    allowed = tuple(names)

    def also(text: str) -> tuple[str, Path]:
        name, _, path = text.partition("=")
        if name not in allowed or not path:
            message = f"{text!r} is not FORMAT=FILE with one of {', '.join(allowed)}"
            raise ArgumentTypeError(message)
        return name, Path(path)

    return also


def instant(text: str) -> datetime:
    """Return an ISO 8601 instant with a time zone, as UTC; raises ArgumentTypeError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        message = f"{text!r} is not an instant; expected ISO 8601 with a zone, such as 2026-12-01T00:00:00Z"
        raise ArgumentTypeError(message)
    return found.astimezone(UTC)


def duration(text: str) -> timedelta:
    """Return a duration as in the desired state, such as ``90d`` or ``12h``; raises ArgumentTypeError."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
