"""The component's ``systemctl``, ``sudo`` and ``python3``, first in its PATH: for a restart, and to show the time.

The script writes ``<reply pipe> <arguments>`` to a pipe that the nucleus reads, and waits for the exit
code and what there is to print on its own pipe, as the real one waits for the unit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandbox.clock import SandboxClock

from . import component_clock

log = logging.getLogger(__name__)

_SCRIPT = """#!/bin/sh
# Asks the nucleus stand-in; see sandbox/edge/nucleus/systemctl.py.
reply={folder}/reply.$$
mkfifo -m 600 "$reply" || exit 1
trap 'rm -f "$reply"' EXIT
exec 4<>"$reply"
printf '%s %s\\n' "$reply" "$*" > {folder}/requests
answer=$(timeout 120 head -n 1 <&4)
[ "$answer" = "${{answer#* }}" ] || printf '%s\\n' "${{answer#* }}"
answer=${{answer%% *}}
exit "${{answer:-1}}"
"""
_SUDO = """#!/bin/sh
exec "$@"
"""  # who may ask for a restart here, may already
_PYTHON = """#!/bin/sh
exec {python} "$@"
"""
_PYTHON_AHEAD = """#!/bin/sh
# Python under the sandbox's time; see sandbox/edge/nucleus/component_clock.py.
options=
while :; do
  case "$1" in
    -u | -I | -E | -s | -B | -S) options="$options $1"; shift ;;
    *) break ;;
  esac
done
exec {python} $options {launcher} {ahead} "$@"
"""

NUCLEUS_UNITS = ("greengrass.service", "greengrass")
IOT_CORE_UNITS = ("ggl.core.iotcored.service", "ggl.core.iotcored")
TOKEN_EXCHANGE_UNITS = ("ggl.core.tesd.service", "ggl.core.tesd")

Restart = Callable[[str], Awaitable[None]]
"""``restart(unit)``."""

Invocation = Callable[[str], str]
"""The id of a unit's run, which systemd makes anew whenever it starts the unit; empty if there is no such unit."""


class Systemctl:
    """Serves the script; lives on the nucleus' loop. ``folder`` becomes the first in PATH."""

    def __init__(
        self, folder: Path, python: str, restart: Restart, invocation: Invocation, clock: SandboxClock | None = None
    ) -> None:
        """With a ``clock`` the component's Python shows the sandbox's time."""
        self.folder = folder
        self._clock = clock
        self._python, self._restart, self._invocation = python, restart, invocation
        self._requests = folder / "requests"
        self._descriptor = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self._partial = b""

    def start(self) -> None:
        """Write the scripts and listen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_script("systemctl", _SCRIPT.format(folder=shlex.quote(str(self.folder))))
        self._write_script("sudo", _SUDO)
        for name in ("python3", "python"):
            self._write_script(name, self._python_script())
        self._requests.unlink(missing_ok=True)
        os.mkfifo(self._requests, 0o600)
        self._descriptor = os.open(self._requests, os.O_RDWR | os.O_NONBLOCK)  # RDWR: never at end of file
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def stop(self) -> None:
        """Stop listening."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._requests.unlink(missing_ok=True)

    def _python_script(self) -> str:
        python = shlex.quote(self._python)
        if self._clock is None:
            return _PYTHON.format(python=python)
        self._write_ahead()
        self._clock.on_advance(self._write_ahead)
        launcher, ahead = shlex.quote(component_clock.__file__), shlex.quote(str(self.folder / "ahead"))
        return _PYTHON_AHEAD.format(python=python, launcher=launcher, ahead=ahead)

    def _write_ahead(self) -> None:
        if self._clock is not None and self.folder.exists():
            temporary = self.folder / f"ahead.{threading.get_ident()}"
            temporary.write_text(str(self._clock.ahead.total_seconds()))
            temporary.replace(self.folder / "ahead")

    def _write_script(self, name: str, text: str) -> None:
        script = self.folder / name
        script.write_text(text)
        script.chmod(0o755)

    def _read(self) -> None:
        *lines, self._partial = (self._partial + os.read(self._descriptor, 65_536)).split(b"\n")
        for line in lines:
            task = asyncio.get_running_loop().create_task(self._serve(line.decode(errors="replace")))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: str) -> None:
        reply, *arguments = line.split()
        words = [argument for argument in arguments if not argument.startswith("-")]
        verb, units = (words[0], words[1:]) if words else ("", [])
        if verb == "show" and "--property=InvocationID" in arguments and "--value" in arguments:
            self._answer(Path(reply), 0, *map(self._invocation, units))
            return
        known = (*NUCLEUS_UNITS, *IOT_CORE_UNITS, *TOKEN_EXCHANGE_UNITS)
        if verb != "restart" or not units or not set(units) <= set(known):
            log.warning(
                "systemctl %s: only restart of %s and show of InvocationID are known here",
                " ".join(arguments),
                ", ".join(known),
            )
            self._answer(Path(reply), 1)
            return
        if "--no-block" in arguments:
            self._answer(Path(reply), 0)
        for unit in units:
            await self._restart(unit)
        self._answer(Path(reply), 0)

    def _answer(self, reply: Path, code: int, text: str = "") -> None:
        if reply.parent != self.folder:
            return
        with contextlib.suppress(OSError):  # the script is gone: the restart has ended it too
            descriptor = os.open(reply, os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(descriptor, f"{code} {text}\n".encode())
            finally:
                os.close(descriptor)
