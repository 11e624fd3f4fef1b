"""Runs a component's Python under the sandbox's time: ``component_clock.py FILE (-m MODULE | -c CODE | SCRIPT) …``.

FILE holds the seconds by which the sandbox's clock is ahead, and is read again whenever the time is asked, so that a
component hears of a clock that is moved while it runs. Only the wall clock moves; what a component waits for does not.
Standard library only, for the oldest Python that a component may run on.
"""

from __future__ import annotations

import datetime as dt
import os
import runpy
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import NoReturn

REAL_TIME, REAL_EXECV = time.time, os.execv
OPTIONS = ("-u", "-I", "-E", "-s", "-B", "-S")  # of Python, before the program


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class _AheadDatetime(datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return the sandbox's present, as a plain datetime."""
        return datetime.now(tz) + timedelta(seconds=_ahead())

    @classmethod
    def utcnow(cls) -> datetime:  # type: ignore[override]
        """Return the sandbox's present in UTC, as a naive datetime."""
        return cls.now(dt.timezone.utc).replace(tzinfo=None)  # noqa: UP017  # Python 3.9


def _ahead() -> float:
    try:
        with open(_FILE, encoding="ascii") as file:  # noqa: PTH123  # pathlib itself would ask for the time
            return float(file.read() or 0)
    except (OSError, ValueError):  # being replaced just now
        return 0.0


def _time() -> float:
    return REAL_TIME() + _ahead()


def _execv(path: str, arguments: Sequence[str]) -> NoReturn:
    """Become another program; if that is a Python, keep it under the sandbox's time."""
    command = list(arguments)
    if os.path.basename(path).startswith("python"):  # noqa: PTH119
        first = next(n for n, word in enumerate(command[1:], 1) if word not in OPTIONS)
        command[first:first] = [__file__, _FILE]
    REAL_EXECV(path, command)


def main() -> None:
    """Become the program that the arguments name."""
    dt.datetime = _AheadDatetime  # type: ignore[misc]
    time.time = _time
    os.execv = _execv  # type: ignore[assignment]
    kind, rest = sys.argv[2], sys.argv[3:]
    if not sys.flags.isolated:  # then this file's own folder comes first, which the program must not see
        sys.path[0] = "" if kind in ("-m", "-c") else os.path.dirname(kind)  # noqa: PTH120
    if kind == "-m":
        sys.argv = [rest[0], *rest[1:]]
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102  # as python -c does
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    _FILE = sys.argv[1]
    main()
