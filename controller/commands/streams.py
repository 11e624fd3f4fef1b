"""Where output goes, as a shell would have it: files, links, pipes and devices, terminals in any locale.

Text for people is written in the stream's own encoding, with something readable in the place of what that
encoding lacks. Text for machines is UTF-8 everywhere.
"""

from __future__ import annotations

import codecs
import os
import signal
import stat
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TextIO

from controller.errors import CertfleetError, ExitCode

PATIENCE_AFTER_INTERRUPT = 1.5  # seconds for a run to end by itself
INTERRUPTED = "\ninterrupted; nothing is lost: the next run carries on\n"
_READABLE = "certfleet.readable"
_IN_ASCII = {
    "→": "->",
    "←": "<-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "-",
    "⌈": "ceil(",
    "⌉": ")",
    "✅": "OK",
    "❌": "ERROR",
    "✓": "ok",
    "✗": "x",
    "\ufffd": "?",
    "\N{ZERO WIDTH SPACE}": "",
}


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    known = _IN_ASCII.get(character)
    if known is not None:
        return known
    if unicodedata.name(character, "").startswith("BOX DRAWINGS"):
        return "|" if "VERTICAL" in unicodedata.name(character) else "-"
    folded = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return folded or character.encode("ascii", "backslashreplace").decode()


codecs.register_error(_READABLE, _in_ascii)


def make_readable() -> None:
    """Let the process's own streams write any text; a stream that was closed raises an error when it is written to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
            setattr(sys, name, stream)
        stream.reconfigure(errors=_READABLE)


def write_stream(stream: TextIO, text: str, *, is_for_machines: bool) -> None:
    """Write to a stream, for people or machines; raises CertfleetError, BrokenPipeError if nobody reads."""
    reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
    try:
        if is_for_machines and reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace")
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error("the standard output", error) from error


def write_file(path: Path, text: str) -> None:
    """Write where a shell would: a file or what a link leads to whole or not at all, devices and pipes as they are."""
    try:
        place = _place(path)
        if place is None:
            with path.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
        else:
            _replace(place, text)
    except OSError as error:
        raise output_error(str(path), error) from error


def output_error(what: str, error: OSError) -> CertfleetError:
    """Return the error of an output, ``what``, that cannot be written."""
    return CertfleetError(f"{what} cannot be written: {error.strerror}", "give --output a writable place")


def _place(path: Path) -> Path | None:
    """Return the regular file that is to be replaced; None for what must be written to as it is."""
    real = Path(os.path.realpath(path))
    if real.is_dir():
        raise IsADirectoryError(21, "Is a directory")
    is_magic = str(path.absolute()).startswith(("/dev/", "/proc/"))  # another name of an open file
    return None if is_magic or (path.exists() and not path.is_file()) else real


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(_mode(path))
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _mode(path: Path) -> int:
    if path.exists():
        return stat.S_IMODE(path.stat().st_mode)
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def abandon(stream: IO[Any]) -> None:
    """Take a stream's buffer from it, so that Python does not complain once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def end_at_once(code: int) -> None:
    """End the process without waiting for its threads, whose calls may stall; all output is written out."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


class Interrupts:
    """The reaction to Ctrl-C and SIGTERM.

    The first ends the run without waiting for calls that stall; the second ends the process at once.
    """

    def __init__(
        self,
        end: Callable[[int], None] = end_at_once,
        later: Callable[[float, Callable[[], None]], None] = _later,
    ) -> None:
        self._end, self._later = end, later
        self._count = 0

    def listen(self) -> None:
        """Install this as the process's handler of SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self)

    def __call__(self, _number: int, _frame: object) -> None:
        """Take one interrupt."""
        self._count += 1
        if self._count > 1:
            self._end(ExitCode.ERROR)
            return
        self._later(PATIENCE_AFTER_INTERRUPT, self._tell_and_end)
        raise KeyboardInterrupt

    def _tell_and_end(self) -> None:
        with suppress(OSError):
            os.write(2, INTERRUPTED.encode())
        self._end(ExitCode.ERROR)
