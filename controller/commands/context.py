"""The context of every command: its arguments, the present, the place to write to, and the look."""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from controller.commands.streams import write_file, write_stream
from controller.plain_text import inert
from controller.present import present
from controller.report.formats import Format, TextStyle

if TYPE_CHECKING:
    from controller.commands.progress import TimeLimit

PIPE_WIDTH = 100  # columns, where the output is not a terminal

T = TypeVar("T")
Renderer = Callable[[T, TextStyle], str]


@dataclass(frozen=True)
class Context:
    """One run of one command. ``sleep`` and ``monotonic`` pace waiting only."""

    arguments: Namespace
    stdout: TextIO
    stderr: TextIO
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    whole_parser: Callable[[], ArgumentParser] = ArgumentParser  # of all commands: what completion is made from

    def present(self) -> datetime:
        """Return the present, also if the command asks about another time."""
        return present(self.environment)

    def now(self) -> datetime:
        """Return the instant of ``--now``, which only commands have that change nothing; else the present."""
        given: datetime | None = getattr(self.arguments, "now", None)
        return given or self.present()

    @cached_property
    def time_limit(self) -> TimeLimit:
        """The limit of ``--time-limit``, which runs from the first look on, for all fleets of the run."""
        from controller.commands.progress import TimeLimit  # noqa: PLC0415 (AWS's SDK with it, for who looks only)

        return TimeLimit(self.arguments.time_limit)

    @property
    def output(self) -> Path | None:
        """The file that ``--output`` names; None for stdout."""
        return getattr(self.arguments, "output", None)

    def look(self, stream: TextIO | None = None) -> TextStyle:
        """Return width and colour for text on a stream (stdout unless another is given)."""
        return look_for(stream or self.stdout, self.environment, no_color=getattr(self.arguments, "no_color", False))

    @property
    def formats(self) -> frozenset[Format]:
        """Every format that is asked for, by ``--format`` and ``--also``."""
        also = [name for name, _path in getattr(self.arguments, "also", [])]
        return frozenset(Format(name) for name in (self.arguments.format, *also))

    def emit(self, report: T, renderers: Mapping[Format, Renderer[T]]) -> None:
        """Render the report as ``--format`` asks and write to ``--output`` or stdout; then every ``--also``."""
        look = TextStyle(PIPE_WIDTH) if self.output else self.look()
        self.write(renderers[Format(self.arguments.format)](report, look))
        for name, path in getattr(self.arguments, "also", []):
            write_file(path, renderers[Format(name)](report, TextStyle(PIPE_WIDTH)))
            self.say(f"wrote {path}")

    def emit_unless_for_people(self, report: T, renderers: Mapping[Format, Renderer[T]]) -> None:
        """Render the report for files and machines; do nothing if the only output is text on stdout."""
        if self.output is not None or self.formats != {Format.TEXT}:
            self.emit(report, renderers)

    def emit_attention(self, render: Callable[[], str]) -> None:
        """Write the points that need a person to the file that ``--needs-person`` names, if it names one."""
        path: Path | None = getattr(self.arguments, "needs_person", None)
        if path is not None:
            write_file(path, render())
            self.say(f"wrote {path}")

    def write(self, text: str) -> None:
        """Write the output to ``--output``, or to stdout."""
        if self.output is None:
            is_text = getattr(self.arguments, "format", Format.TEXT) == Format.TEXT
            write_stream(self.stdout, text, is_for_machines=not is_text)
        else:
            write_file(self.output, text)
            self.say(f"wrote {self.output}")

    def say(self, text: str) -> None:
        """Write a line for people to stderr."""
        self.stderr.write(f"{inert(text)}\n")  # in one: fleets speak side by side
        self.stderr.flush()


def look_for(stream: TextIO, environment: Mapping[str, str], *, no_color: bool) -> TextStyle:
    """Return how text may look on a stream: colour on terminals only, never against NO_COLOR of the environment."""
    is_terminal = stream.isatty()
    width = (
        shutil.get_terminal_size((PIPE_WIDTH, 24)).columns if is_terminal or "COLUMNS" in environment else PIPE_WIDTH
    )
    color = is_terminal and not no_color and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    return TextStyle(width, color)
