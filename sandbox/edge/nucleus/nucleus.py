"""One Greengrass core device: nucleus stand-in, real component process, real MQTT connection.

A restart does what ``systemctl restart greengrass`` does: the component's processes and the connection
end, ``effectiveConfig.yaml`` and the credential are read anew, and both start again. The lite variant
keeps its component through a restart of its IoT core service, and reads the credential files for each
new connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.clock import SandboxClock
from sandbox.edge.loop_thread import LoopThread

from .component_process import ComponentProcess
from .deployments import Deployment, DeploymentOutcome, DeploymentRunner
from .effective_config import NUCLEUS, ConfigError, EffectiveConfig
from .iot_core import IotCore
from .ipc_server import MAX_SOCKET_PATH_BYTES, IpcServer
from .recipe import Recipe, Variant, configuration_variables, interpolate, load_recipe
from .systemctl import IOT_CORE_UNITS, NUCLEUS_UNITS, Systemctl

log = logging.getLogger(__name__)

RECONNECT_DELAY_SECONDS = 0.2  # nucleus lite, before it reads its files again
RESTART_LIMIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Component:
    """What is deployed: a recipe, and the folder that its artifact unpacks to (the component's import root)."""

    recipe: Path
    artifacts: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    run_install: bool = False  # whether the recipe's install script runs at the first start
    python: str = sys.executable  # what `python3` means to the recipe's scripts


class Nucleus:
    """Start it, stop it; every public method may be called from any thread."""

    def __init__(
        self,
        root: Path,
        component: Component,
        *,
        variant: Variant = Variant.CLASSIC,
        loop: LoopThread | None = None,
        clock: SandboxClock | None = None,
    ) -> None:
        """``root`` holds ``config/effectiveConfig.yaml`` (see ``provision``); ``loop`` may serve many nuclei.

        With a ``clock`` the component's Python tells its time.
        """
        self.root, self.variant = root, variant
        self.config = EffectiveConfig(root)
        self.thing_name = self.config.connection().thing_name
        self._component = component
        self.recipe: Recipe = load_recipe(component.recipe, variant)
        self._own_loop = loop is None
        self._loop = loop or LoopThread(f"nucleus-{self.thing_name}")
        self._changed = threading.Condition()
        self._connections = 0
        self._listeners: list[Callable[[], None]] = []
        self._switched_off = False
        self._is_running = False
        self._iot_core = IotCore(self._loop.call, self._connection_changed)
        self._short_folder: Path | None = None  # for the socket, where the root's path is too long for one
        self._ipc = IpcServer(self._place_of_socket(), self, self._iot_core, variant)
        self._systemctl = Systemctl(root / "bin", component.python, self._restart_unit, clock)
        self.log_file = root / "logs" / f"{self.recipe.name}.log"
        self._process = ComponentProcess(f"{self.thing_name}: {self.recipe.name}", self.log_file)
        self._deployments = DeploymentRunner(self.config, self.recipe, self._ipc)
        self._lock: asyncio.Lock | None = None

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
        self._loop.run(self._restart())

    def disconnect(self) -> None:
        """Take the device off the network; the component runs on."""
        self._switched_off = True
        self._loop.run(self._iot_core.stop())

    def connect(self) -> None:
        """Bring the device back to the network."""
        self._switched_off = False
        self._loop.run(self._reconnect())

    def on_connected(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every connection; it must return at once."""
        self._listeners.append(listener)

    def deploy(self, deployment: Deployment) -> DeploymentOutcome:
        """Change the component's configuration as a deployment does, asking the component first."""
        age = time.monotonic() - self.component_started_at
        return self._loop.run(self._deployments.run(deployment, age), timeout=None)

    @property
    def version(self) -> str:
        """The nucleus' version, as its configuration says."""
        return str(self.config.read()["services"].get(NUCLEUS, {}).get("version", ""))

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
    def component_starts(self) -> int:
        """How often the component was started."""
        return self._process.starts

    @property
    def component_started_at(self) -> float:
        """When the component was started last, by ``time.monotonic()``."""
        return self._process.started_at

    @property
    def connections(self) -> int:
        """How often the device has connected."""
        return self._connections

    def wait_connected(self, timeout: float = 15.0, *, connections: int = 1) -> bool:
        """Wait until the device is connected, for at least the n-th time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_connected and self._connections >= connections, timeout)

    # For the IPC server -----------------------------------------------------------------------

    def get(self, component: str) -> Mapping[str, Any] | None:
        """A component's configuration as components see it."""
        configuration = self.config.configuration(component)
        if configuration is None or component == NUCLEUS or not self.config.interpolates:
            return configuration
        filled: Mapping[str, Any] = interpolate(configuration, self._variables())
        return filled

    # On the loop ------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._lock = asyncio.Lock()
        self._install()
        self._systemctl.start()
        await self._ipc.start()
        if self._component.run_install and (script := self._script("install")):
            code = await self._process.run_once(script, self._environment(), self._work)
            if code:
                log.error("%s: install ended with %d; see %s", self.thing_name, code, self.log_file)
        self._is_running = True
        await self._begin()

    async def _stop(self) -> None:
        self._is_running = False
        await self._end()
        await self._ipc.stop()
        self._systemctl.stop()
        if self._short_folder:
            self._short_folder.rmdir()
            self._short_folder = None

    async def _begin(self) -> None:
        await self._reconnect()
        if script := self._script("run") or self._script("startup"):
            self._process.start(script, self._environment, self._work)

    async def _end(self) -> None:
        await self._process.stop()
        self._ipc.disconnect_all()
        await self._iot_core.stop()
        self._iot_core.forget_subscriptions()
        self._iot_core.forget_token()

    async def _restart(self) -> None:
        assert self._lock is not None  # noqa: S101  # set by start
        async with self._lock:
            if self._is_running:
                await self._end()
                await self._begin()

    async def _restart_unit(self, unit: str) -> None:
        if unit in NUCLEUS_UNITS and self.variant is Variant.CLASSIC:
            await self._restart()
        elif unit in IOT_CORE_UNITS and self.variant is Variant.LITE:
            await self._iot_core.stop()
            self._iot_core.forget_token()
            await self._reconnect()

    async def _reconnect(self) -> None:
        if self._switched_off:
            return
        try:
            settings = self.config.connection()
        except ConfigError as error:
            log.error("%s stays offline: %s", self.thing_name, error)  # noqa: TRY400  # no trace for a sentence
            return
        problem = self._iot_core.start(settings, self._lost if self.variant is Variant.LITE else None)
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
        with self._changed:
            self._connections += connected
            self._changed.notify_all()
        if connected:
            for listener in self._listeners:
                listener()

    def _place_of_socket(self) -> Path:
        path = self.root.absolute() / "ipc.socket"
        if len(str(path).encode()) <= MAX_SOCKET_PATH_BYTES:
            return path
        self._short_folder = Path(tempfile.mkdtemp(prefix="nucleus-"))
        return self._short_folder / path.name

    # What the component finds -----------------------------------------------------------------

    @property
    def _work(self) -> Path:
        return self.root / "work" / self.recipe.name

    def _install(self) -> None:
        if self.config.configuration(self.recipe.name) is None:
            self.config.set_configuration(self.recipe.name, self.recipe.default_configuration, self.recipe.version)
        self._work.mkdir(parents=True, exist_ok=True)
        for folder in self._unpacked():
            folder.parent.mkdir(parents=True, exist_ok=True)
            if not folder.is_symlink():
                folder.symlink_to(self._component.artifacts, target_is_directory=True)

    def _unpacked(self) -> list[Path]:
        parent = self.root / "packages" / "artifacts-unarchived" / self.recipe.name / self.recipe.version
        return [parent / archive for archive in self.recipe.archives]

    def _script(self, step: str) -> str | None:
        scripts = {name.lower(): script for name, script in self.recipe.scripts.items()}
        script = scripts.get(step)
        if script is None:
            return None
        configuration = self.config.configuration(self.recipe.name) or {}
        return str(interpolate(script, self._variables() | configuration_variables(configuration)))

    def _variables(self) -> dict[str, str]:
        packages = self.root / "packages"
        unique = f"{self.recipe.name}/{self.recipe.version}"
        return {
            "iot:thingName": self.thing_name,
            "work:path": str(self._work),
            "kernel:rootPath": str(self.root),
            "artifacts:path": str(packages / "artifacts" / unique),
            "artifacts:decompressedPath": str(packages / "artifacts-unarchived" / unique),
        }

    def _environment(self) -> dict[str, str]:
        configuration = self.config.configuration(NUCLEUS) or {}
        region = str(configuration.get("awsRegion", ""))
        inherited = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **inherited,
            "PATH": f"{self._systemctl.folder}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "PYTHONPATH": str(self._component.artifacts),
            "PYTHONUNBUFFERED": "1",
            "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(self._ipc.path),
            "SVCUID": self._ipc.admit(self.recipe.name),
            "AWS_IOT_THING_NAME": self.thing_name,
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "GGC_VERSION": self.version,
            **{k: str(interpolate(v, self._variables())) for k, v in self.recipe.environment.items()},
            **self._component.environment,
        }
