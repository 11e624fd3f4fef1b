"""A component's steps as process groups that cannot outlive this process, started as often as the nucleus allows.

Every script runs under a leash: a shell in its process group that waits on a pipe held by us, and kills
the group when the pipe closes, which the system does whatever way we end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .budget import FailureBudget

log = logging.getLogger(__name__)

TERMINATE_TIMEOUT_SECONDS = 2.0
OWN_TURN_SECONDS = 0.5  # after what a component has started was ended, the component itself is; see traits.ENDS_FIRST
FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 5.0

# $$ is the group: the script is started as a session leader, and exec keeps the process id.
_LEASH = """
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL "-$$"; } >/dev/null 2>&1 &
exec 3<&-
exec /bin/sh -c "$0"
"""


class LifecycleState(StrEnum):
    """Where a component stands, in the nucleus' words."""

    NEW = "NEW"
    INSTALLING = "INSTALLING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """A script, the user that it becomes (None: ours), and how many seconds it may take."""

    script: str
    user: str | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Launch:
    """The steps to run when the nucleus starts; ``beside`` lets install and run begin at the same moment."""

    install: ScriptRun | None
    run: ScriptRun | None
    beside: bool
    environment: Callable[[], Mapping[str, str]]  # asked anew at each start
    folder: Path


@dataclass(frozen=True, slots=True)
class _Running:
    process: asyncio.subprocess.Process
    leash: int  # our end of the pipe


class ComponentProcess:
    """Carries out one component's launches; lives on the nucleus' loop."""

    def __init__(self, name: str, log_file: Path, budget: FailureBudget, on_change: Callable[[], None]) -> None:
        """``on_change`` hears of every new state."""
        self._name, self._log_file, self._budget, self._on_change = name, log_file, budget, on_change
        self._running: dict[str, _Running] = {}  # by step
        self._keepers: list[asyncio.Task[None]] = []
        self.state = LifecycleState.NEW
        self.starts = 0
        self.installs = 0

    @property
    def pid(self) -> int | None:
        """Process group of the run step while it runs."""
        running = self._running.get("run")
        return running.process.pid if running and running.process.returncode is None else None

    def launch(self, launch: Launch) -> None:
        """Install and run, and again after a failure, until that has happened too often."""
        launch.folder.mkdir(parents=True, exist_ok=True)
        self._budget.launched()
        self._enter(LifecycleState.NEW)
        steps = (self._install_beside, self._run) if launch.beside else (self._install_and_run,)
        self._keepers = [asyncio.get_running_loop().create_task(step(launch)) for step in steps]

    async def stop(self) -> None:
        """End every group: SIGTERM, and SIGKILL for what is left."""
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*map(self._end, running))

    async def _end(self, running: _Running) -> int:
        """End what is left of a component, what it has started first; returns its exit code."""
        process = running.process
        started = _outside_of(process.pid)
        for group in started:
            _kill(group, signal.SIGTERM)
        if started:
            await asyncio.sleep(OWN_TURN_SECONDS)
        _kill(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(TERMINATE_TIMEOUT_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("%s did not end within %g s of SIGTERM", self._name, TERMINATE_TIMEOUT_SECONDS)
        for group in (*started, process.pid):
            _kill(group, signal.SIGKILL)
        code = await process.wait()
        os.close(running.leash)
        return code

    # Steps --------------------------------------------------------------------------------------

    async def _install_and_run(self, launch: Launch) -> None:
        self._enter(LifecycleState.INSTALLING)
        if await self.install(launch):
            await self._run(launch)
        else:
            self._enter(LifecycleState.BROKEN)

    async def _install_beside(self, launch: Launch) -> None:
        """Run a unit of its own, whose outcome does not matter to the run step."""
        await self.install(launch)

    async def install(self, launch: Launch) -> bool:
        """Install until it has succeeded; False if that was tried too often."""
        while launch.install is not None and not await self._install_once(launch.install, launch):
            if not self._budget.may_install_again():
                return False
        return True

    async def _install_once(self, install: ScriptRun, launch: Launch) -> bool:
        self.installs += 1
        code = await self._carry_out("install", install, launch)
        if code:
            log.warning("%s: install ended with %d; see %s", self._name, code, self._log_file)
        return code == 0

    async def _run(self, launch: Launch) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while launch.run is not None:
            if not self._budget.may_start():
                log.warning("%s is not started again: it was too often within an hour", self._name)
                self._enter(LifecycleState.BROKEN)
                return
            self.starts += 1
            self._enter(LifecycleState.RUNNING)
            code = await self._carry_out("run", launch.run, launch)
            if code == 0:
                log.info("%s finished", self._name)
                self._enter(LifecycleState.FINISHED)
                return
            log.warning("%s ended with %d; see %s", self._name, code, self._log_file)
            self._budget.failed()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)

    async def _carry_out(self, step: str, job: ScriptRun, launch: Launch) -> int:
        running = self._running[step] = await self._spawn(job, launch)
        try:
            async with asyncio.timeout(job.limit):
                await running.process.wait()
        except TimeoutError:
            log.warning("%s: %s took more than %g s", self._name, step, job.limit)
        del self._running[step]
        return await self._end(running)

    async def _spawn(self, job: ScriptRun, launch: Launch) -> _Running:
        watched, held = os.pipe()
        try:
            with self._log_file.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    "/bin/sh",
                    "-c",
                    _LEASH,
                    job.script,
                    cwd=launch.folder,
                    env=dict(launch.environment()),
                    stdin=watched,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    **_identity(job.user),
                )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(watched)
        return _Running(process, held)

    def _enter(self, state: LifecycleState) -> None:
        self.state = state
        self._on_change()


def _identity(user: str | None) -> dict[str, Any]:
    """Return the arguments that let a process begin as this user, with nothing of ours."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _outside_of(group: int) -> list[int]:
    """Return the process groups that members of this group, or their children, have made for themselves."""
    parents: dict[int, tuple[int, int]] = {}  # parent and group by process
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = entry.read_text().rpartition(")")[2].split()
            parents[int(entry.parent.name)] = (int(fields[1]), int(fields[2]))
    family, grown = {pid for pid, (_, own) in parents.items() if own == group}, 0
    while len(family) > grown:
        grown = len(family)
        family |= {pid for pid, (parent, _) in parents.items() if parent in family}
    return sorted({parents[pid][1] for pid in family} - {group})


def _kill(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
