"""How the nucleus is made to connect anew, on each platform.

Nucleus classic reads its credential at start only: its service is restarted, which ends this process.
Nucleus lite reads the files on each connection: restarting the service that holds the connection
suffices, and this process lives on. On Windows a helper that outlives this process restarts the service; the
machine is never rebooted.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from enum import Enum
from pathlib import Path
from typing import Callable, Sequence, Tuple

from .errors import ConfigurationError, DeviceError
from .ports import RestartError
from .windows_service import Service

log = logging.getLogger(__name__)


class Runtime(str, Enum):
    """The two kinds of nucleus."""

    CLASSIC = "classic"
    LITE = "lite"


_DEFAULT_COMMANDS = {
    # It stops this component, and everything that it has started: whoever waited for the end would be stopped too.
    Runtime.CLASSIC: ("systemctl", "restart", "--no-block", "greengrass.service"),
    # Token exchange reads the files at each request; restarting it would restart every component that depends on it.
    Runtime.LITE: ("systemctl", "restart", "ggl.core.iotcored.service"),
}
WINDOWS_SERVICE = "greengrass"
ASKED_SECONDS = 5.0
"""How long nucleus classic is watched: a command that fails, fails by then; one that works ends this process."""

OUTLIVED_SECONDS = 90.0
"""How long the service of nucleus lite may take."""


_UNITS = {Runtime.CLASSIC: "greengrass.service", Runtime.LITE: "ggl.core.iotcored.service"}
"""Services whose run is that of the connection to AWS IoT."""


def default_command(runtime: Runtime, platform: str = sys.platform) -> Tuple[str, ...]:
    """Return what restarts the nucleus on this platform."""
    return _windows_command() if platform == "win32" else _DEFAULT_COMMANDS[runtime]


def _windows_command() -> Tuple[str, ...]:
    """Return what has a helper restart the service.

    ``start`` lets the helper's parent end at once, so that ending this component's process tree spares the helper.
    ``start`` takes the first quoted word for the window's title; without a title it would take the program's name for
    it.
    """
    helper = Path(__file__).with_name("windows_service.py")
    return ("cmd.exe", "/c", "start", "", "/min", sys.executable, "-I", str(helper), WINDOWS_SERVICE)


class CommandRestarter:
    """Restarts by a command; ``command`` is asked each time and may be empty for the platform's own."""

    def __init__(
        self, runtime: Runtime, command: Callable[[], Sequence[str]], pauses: Sequence[float] = (2.0, 4.0)
    ) -> None:
        self._runtime = runtime
        self._command = command
        self._before: Tuple[str, ...] = ()
        self._pauses = pauses  # seconds

    @property
    def outlived(self) -> bool:
        """See ports.Restarter."""
        return self._runtime is Runtime.LITE

    def check(self) -> None:
        """Raise DeviceError if the command's program does not exist, before anything depends on it."""
        program = self._wanted()[0]
        if shutil.which(program) is None:
            raise DeviceError(f"{program}, which is to restart the nucleus, is not there; correct restartCommand")

    def _wanted(self) -> Tuple[str, ...]:
        """Return the command that is configured; while the configuration is wrong, the one of before."""
        try:
            self._before = tuple(self._command())
        except ConfigurationError as error:
            log.warning("%s; the nucleus is restarted as before", error)
        return self._before or default_command(self._runtime)

    def nucleus_run(self) -> str:
        """See ports.Restarter: systemd's id of its service's run, or the process of the service on Windows."""
        try:
            if sys.platform == "win32":
                return str(Service(WINDOWS_SERVICE).status().process)
            command = ("systemctl", "show", "--property=InvocationID", "--value", _UNITS[self._runtime])
            done = subprocess.run(  # noqa: S603  # own words
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ASKED_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.info("it is not known whether the nucleus was started anew: %s", error)
            return ""
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""

    def restart(self) -> None:
        """See ports.Restarter. A failed restart is tried again: the system may be going down."""
        for pause in self._pauses:
            try:
                self._ask()
            except RestartError as error:  # noqa: PERF203  # a few tries
                log.info("%s; trying again", error)
                time.sleep(pause)
            else:
                return
        self._ask()

    def _ask(self) -> None:
        command = self._wanted()
        log.info("restarting the nucleus: %s", " ".join(command))
        try:
            # In a session of its own, so that signals to this component's group do not end it half-way.
            process = subprocess.Popen(  # noqa: S603  # the deployment's own command, never a job's
                command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise RestartError(f"{command[0]} cannot be run: {error}") from error
        try:
            _, complaint = process.communicate(timeout=OUTLIVED_SECONDS if self.outlived else ASKED_SECONDS)
        except subprocess.TimeoutExpired:
            if self.outlived:
                process.kill()
                process.communicate()
                raise RestartError(f"{command[0]} did not end within {OUTLIVED_SECONDS:g} s") from None
            return
        if process.returncode < 0:  # by a signal: the restart that it asked for stops everything here, and it first
            log.info("%s was ended by signal %d: the restart is on its way", command[0], -process.returncode)
        elif process.returncode > 0:
            first, *_ = complaint.decode(errors="replace").strip().splitlines() or ["no message"]
            raise RestartError(f"{command[0]} ended with {process.returncode}: {first[:200]}")
