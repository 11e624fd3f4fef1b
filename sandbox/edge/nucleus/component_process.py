"""A component's lifecycle script as a process group that cannot outlive this process.

Every script runs under a leash: a shell in its process group that waits on a pipe held by us, and kills
the group when the pipe closes, which the system does whatever way we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

TERMINATE_TIMEOUT_SECONDS = 2.0
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 5.0

# $$ is the group: the script is started as a session leader, and exec keeps the process id.
_LEASH = """
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL "-$$"; } >/dev/null 2>&1 &
exec 3<&-
exec /bin/sh -c "$0"
"""


class ComponentProcess:
    """Keeps one script running; lives on the nucleus' loop."""

    def __init__(self, name: str, log_file: Path) -> None:
        self._name, self._log_file = name, log_file
        self._process: asyncio.subprocess.Process | None = None
        self._leash = -1  # our end of the pipe
        self._keeper: asyncio.Task[None] | None = None
        self.starts = 0
        self.started_at = -math.inf  # by time.monotonic()

    @property
    def pid(self) -> int | None:
        """Process group while one runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self, script: str, environment: Callable[[], Mapping[str, str]], folder: Path) -> None:
        """Run the script, and again after a failure; ``environment`` is asked anew each time."""
        folder.mkdir(parents=True, exist_ok=True)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(script, environment, folder))

    async def stop(self) -> None:
        """End the whole group: SIGTERM, and SIGKILL for what is left."""
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        process, self._process = self._process, None
        if process is None:
            return
        leash, self._leash = self._leash, -1
        _kill(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(TERMINATE_TIMEOUT_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not end within %g s of SIGTERM", self._name, TERMINATE_TIMEOUT_SECONDS)
        _kill(process.pid, signal.SIGKILL)
        await process.wait()
        if leash >= 0:
            os.close(leash)

    async def run_once(self, script: str, environment: Mapping[str, str], folder: Path) -> int:
        """Run a script to its end; returns its exit code."""
        process, held = await self._spawn(script, environment, folder)
        try:
            return await process.wait()
        finally:
            _kill(process.pid, signal.SIGKILL)
            os.close(held)

    async def _keep(self, script: str, environment: Callable[[], Mapping[str, str]], folder: Path) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            self._process, self._leash = await self._spawn(script, environment(), folder)
            self.starts += 1
            self.started_at = time.monotonic()
            process = self._process
            code = await process.wait()
            os.close(self._leash)
            self._leash = -1
            _kill(process.pid, signal.SIGKILL)  # what it left behind
            if code == 0:
                log.info("%s finished", self._name)
                return
            log.warning("%s ended with %d; see %s", self._name, code, self._log_file)
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)

    async def _spawn(
        self, script: str, environment: Mapping[str, str], folder: Path
    ) -> tuple[asyncio.subprocess.Process, int]:
        watched, held = os.pipe()
        try:
            with self._log_file.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _LEASH,
                    script,
                    cwd=folder,
                    env=dict(environment),
                    stdin=watched,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(watched)
        return process, held


def _kill(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
