"""One Greengrass core device: nucleus stand-in, real component process, real MQTT connection.

A restart does what ``systemctl restart greengrass`` does: the component's processes and the connection
end, the configuration and the credential are read anew, and both start again. In what the nuclei differ,
and how that is known, stands in ``traits.py``; ``profile`` chooses.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sandbox.clock import SandboxClock
from sandbox.edge.loop_thread import LoopThread

from .budget import Dependent, FailureBudget
from .component_process import ComponentProcess, LifecycleState
from .deployments import ConfigurationUpdate, DeploymentOutcome, DeploymentRunner
from .effective_config import NUCLEUS, ConfigError, EffectiveConfig
from .installation import Component, Installation
from .iot_core import IotCore
from .ipc_server import MAX_SOCKET_PATH_BYTES, IpcServer
from .recipe import Recipe
from .systemctl import IOT_CORE_UNITS, NUCLEUS_UNITS, TOKEN_EXCHANGE_UNITS, Systemctl
from .traits import (
    FORGETS_SUBSCRIPTIONS,
    INSTALL,
    RECONNECT_SECONDS,
    RESTART_KEEPS_COMPONENT,
    RESTARTS_DEPENDENTS,
    Install,
    Profile,
)

log = logging.getLogger(__name__)

RECONNECT_DELAY_SECONDS = 0.2  # nucleus lite, before it reads its files again


class Nucleus:
    """Start it, stop it; every public method may be called from any thread."""

    def __init__(
        self,
        root: Path,
        component: Component,
        *,
        profile: Profile = Profile.CLASSIC,
        loop: LoopThread | None = None,
        clock: SandboxClock | None = None,
        restart_takes: timedelta = timedelta(),
    ) -> None:
        """``root`` was laid out by ``provision``; ``loop`` may serve many nuclei.

        With a ``clock`` the component's Python shows its time, and hours are its hours. ``restart_takes`` is spent by
        that clock before anything starts again.
        """
        self.root, self.profile = root, profile
        self.config = EffectiveConfig(root, profile)
        self.thing_name = self.config.connection().thing_name
        self._clock = clock or SandboxClock()
        self._restart_takes = restart_takes
        self.dependents: list[Dependent] = []
        self._own_loop = loop is None
        self._loop = loop or LoopThread(f"nucleus-{self.thing_name}")
        self._changed = threading.Condition()
        self._connections = 0
        self._listeners: list[Callable[[], None]] = []
        self._switched_off = False
        self._is_running = False
        self._iot_core = IotCore(self._loop.call, self._connection_changed, profile)
        self._short_folder: Path | None = None  # for the socket, where the root's path is too long for one
        self._ipc = IpcServer(self._place_of_socket(), self, self._iot_core, profile)
        self._take(component)
        self._systemctl = Systemctl(root / "bin", component.python, self._restart_unit, self._invocation, clock)
        self.log_file = root / "logs" / f"{self.recipe.name}.log"
        self._process = ComponentProcess(
            f"{self.thing_name}: {self.recipe.name}", self.log_file, self._budget(), self._notify
        )
        self._lock: asyncio.Lock | None = None
        self._run = ""  # as systemd names it

    # For the sandbox and its tests ------------------------------------------------------------

    def start(self) -> None:
        """Connect, and run the component; returns when both are on their way."""
        if self._own_loop:
            self._loop.start()
        self._loop.run(self._start())

    def stop(self) -> None:
        """End component and connection; harmless when done before."""
        if not self._is_running:
            return
        self._loop.run(self._stop())
        if self._own_loop:
            self._loop.stop()

    def restart(self) -> None:
        """Restart, as an operator would; returns when component and connection are on their way again."""
        self._loop.run(self._restart(), timeout=None)

    def upgrade(self, component: Component) -> None:
        """Deploy another version of the component; returns when that is on its way."""
        self._loop.run(self._upgrade(component), timeout=None)

    def disconnect(self) -> None:
        """Take the device off the network; the component runs on. Before ``start``: it is launched offline."""
        self._switched_off = True
        if self._is_running:
            self._loop.run(self._iot_core.stop())

    def connect(self) -> None:
        """Bring the device back to the network, just after the nucleus has tried in vain: returns at its next try."""
        self._switched_off = False
        self._loop.run(self._try_again(), timeout=None)

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every connection; it must return at once."""
        self._listeners.append(listener)

    def add_dependent(self, name: str) -> Dependent:
        """Let another component run here that depends on the token exchange service."""
        dependent = Dependent(name, self._budget())
        dependent.start()
        self.dependents.append(dependent)
        return dependent

    def deploy(self, deployment: ConfigurationUpdate, *, is_upgrade: bool = False) -> DeploymentOutcome:
        """Change the component's configuration as a deployment does, asking the component if it listens.

        ``is_upgrade``: its version has changed, too; then it is not asked.
        """
        return self._loop.run(self._deployments.run(deployment, is_upgrade=is_upgrade), timeout=None)

    def ask_before_update(
        self, deployment_id: str, limit: float, sleep: Callable[[timedelta], Awaitable[None]] | None = None
    ) -> None:
        """Return when the component lets a deployment go on, or has not answered for ``limit`` seconds.

        ``sleep`` is how it waits in between; by the world's clock if nothing else is asked for.
        """
        self._loop.run(self._deployments.ask(deployment_id, limit, sleep or self._clock.sleep), timeout=None)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the component that is deployed here."""
        return self._installation.recipe

    @property
    def version(self) -> str:
        """The nucleus' version, as its configuration shows."""
        return self.config.version(NUCLEUS) or ""

    @property
    def socket_path(self) -> Path:
        """Where components reach the nucleus."""
        return self._ipc.path

    @property
    def is_connected(self) -> bool:
        """Whether the device is connected to AWS IoT Core."""
        return self._iot_core.is_connected

    @property
    def component_pid(self) -> int | None:
        """Process group of the component's script while it runs."""
        return self._process.pid

    @property
    def component_state(self) -> LifecycleState:
        """Where the component stands."""
        return self._process.state

    @property
    def is_validated(self) -> bool:
        """Whether the component would be asked now about a configuration that a deployment brings."""
        return self._ipc.is_validated_by(self.recipe.name)

    @property
    def component_starts(self) -> int:
        """How often the component was started."""
        return self._process.starts

    @property
    def component_installs(self) -> int:
        """How often its install step ran."""
        return self._process.installs

    @property
    def connections(self) -> int:
        """How often the device has connected."""
        return self._connections

    def wait_connected(self, timeout: float = 15.0, *, connections: int = 1) -> bool:
        """Wait until the device is connected, for at least the n-th time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_connected and self._connections >= connections, timeout)

    def asked(self, operation: str) -> int:
        """Return how often components have asked for this operation."""
        return self._ipc.asked[operation]

    def wait_component(self, *states: LifecycleState, timeout: float = 15.0) -> bool:
        """Wait until the component stands in one of these states."""
        with self._changed:
            return self._changed.wait_for(lambda: self.component_state in states, timeout)

    # For the IPC server -----------------------------------------------------------------------

    def get(self, component: str) -> Mapping[str, Any] | None:
        """Return a component's configuration as components see it: as it is stored, on every nucleus."""
        return self.config.configuration(component)

    def access_control(self, _component: str) -> object:
        """Return what the component may do."""
        return self._installation.access_control()

    def system(self, key: str) -> object | None:
        """Return one value of the nucleus' own configuration."""
        return self.config.system().get(key)

    # On the loop ------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._lock = asyncio.Lock()
        is_new = self._installation.lay_out()
        self._systemctl.start()
        await self._ipc.start()
        self._is_running = True
        await self._begin(is_deployment=is_new)

    async def _stop(self) -> None:
        self._is_running = False
        await self._end()
        await self._ipc.stop()
        self._systemctl.stop()
        if self._short_folder:
            self._short_folder.rmdir()
            self._short_folder = None

    async def _begin(self, *, is_deployment: bool = False) -> None:
        self._run = secrets.token_hex(16)
        self.config.write_snapshot()
        await self._reconnect()
        beside = INSTALL.on(self.profile) is Install.BESIDE and not is_deployment
        self._process.launch(self._installation.launch(self._environment, beside=beside))

    def _take(self, component: Component) -> None:
        """Make this the component that is deployed here from now on."""
        self._installation = Installation(
            self.root, component, thing_name=self.thing_name, config=self.config, profile=self.profile
        )
        self._deployments = DeploymentRunner(self.config, self.recipe, self._ipc)

    async def _upgrade(self, component: Component) -> None:
        assert self._lock is not None  # noqa: S101  # set by start
        async with self._lock:
            self._take(component)
            self._installation.lay_out()
            launch = self._installation.launch(self._environment, beside=False)
            if INSTALL.on(self.profile) is Install.BESIDE:
                await self._process.install(launch)
                launch = replace(launch, install=None)
            await self._process.stop()
            self._process.launch(launch)

    async def _end(self) -> None:
        await self._process.stop()
        self._ipc.disconnect_all()
        await self._iot_core.stop()
        self._iot_core.launch()
        self._iot_core.forget_subscriptions()
        self._iot_core.forget_token()

    async def _restart(self) -> None:
        assert self._lock is not None  # noqa: S101  # set by start
        async with self._lock:
            if self._is_running:
                await self._end()
                await self._clock.sleep(self._restart_takes)
                await self._begin()

    async def _restart_unit(self, unit: str) -> None:
        keeps_component = RESTART_KEEPS_COMPONENT.on(self.profile)
        if unit in NUCLEUS_UNITS and not keeps_component:
            await self._restart()
        elif unit in IOT_CORE_UNITS and keeps_component:
            await self._restart_iot_core()
        elif unit in TOKEN_EXCHANGE_UNITS and RESTARTS_DEPENDENTS.on(self.profile):
            for dependent in self.dependents:
                dependent.start()

    def _invocation(self, unit: str) -> str:
        """Return the run of the unit that holds the connection to AWS IoT; of other units the component asks none."""
        units = IOT_CORE_UNITS if RESTART_KEEPS_COMPONENT.on(self.profile) else NUCLEUS_UNITS
        return self._run if unit in units else ""

    async def _restart_iot_core(self) -> None:
        await self._iot_core.stop()
        self._run = secrets.token_hex(16)
        self._iot_core.forget_token()
        if FORGETS_SUBSCRIPTIONS.on(self.profile):
            self._iot_core.forget_subscriptions()
        await self._clock.sleep(self._restart_takes)
        await self._reconnect()

    async def _try_again(self) -> None:
        await self._clock.sleep(timedelta(seconds=RECONNECT_SECONDS.on(self.profile)))
        await self._reconnect()

    async def _reconnect(self) -> None:
        if self._switched_off:
            return
        try:
            settings = self.config.connection()
        except ConfigError as error:
            log.error("%s stays offline: %s", self.thing_name, error)  # noqa: TRY400  # no trace for a sentence
            return
        problem = self._iot_core.start(settings, self._lost if RESTART_KEEPS_COMPONENT.on(self.profile) else None)
        if problem:
            log.error("%s stays offline until it is restarted: %s", self.thing_name, problem)

    def _lost(self) -> None:
        async def again() -> None:
            await self._iot_core.stop()
            await asyncio.sleep(RECONNECT_DELAY_SECONDS)
            if self._is_running and not self._iot_core.is_started:
                await self._reconnect()

        self._background = asyncio.get_running_loop().create_task(again())

    def _connection_changed(self, connected: bool) -> None:  # noqa: FBT001  # a callback
        log.info("%s is %s", self.thing_name, "online" if connected else "offline")
        self._connections += connected
        self._notify()
        if connected:
            for listener in self._listeners:
                listener()

    def _place_of_socket(self) -> Path:
        path = self.root.absolute() / "ipc.socket"
        if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
            return path
        self._short_folder = Path(tempfile.mkdtemp(prefix="nucleus-"))
        return self._short_folder / path.name

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _budget(self) -> FailureBudget:
        return FailureBudget(self.profile, self._clock.now)

    def _environment(self) -> dict[str, str]:
        token = self._ipc.admit(self.recipe.name)
        return self._installation.environment(self._ipc.path, token, self._systemctl.folder, self.version)
