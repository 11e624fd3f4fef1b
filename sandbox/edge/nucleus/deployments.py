"""A deployment's change of a component's configuration, on the device.

Reset comes before merge; the result is put to the component if it listens for that at this moment, and is
stored only if the component accepts it. One that is starting is not asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .effective_config import EffectiveConfig
from .ipc_server import IpcServer
from .recipe import Recipe, merge, reset

VALIDATION_TIMEOUT_SECONDS = 20.0  # the nucleus' own default


@dataclass(frozen=True, slots=True)
class ConfigurationUpdate:
    """A deployment from the cloud: an id, and the configuration update of one component."""

    deployment_id: str
    merge: Mapping[str, Any] = field(default_factory=dict)
    reset: tuple[str, ...] = ()  # JSON pointers
    validation_timeout: float = VALIDATION_TIMEOUT_SECONDS  # seconds


@dataclass(frozen=True, slots=True)
class DeploymentOutcome:
    """How it ended, in the words of a core device: ``SUCCEEDED`` or ``FAILED`` with a reason."""

    deployment_id: str
    status: str
    reason: str = ""


class DeploymentRunner:
    """Carries out deployments one after the other; lives on the nucleus' loop."""

    def __init__(self, config: EffectiveConfig, recipe: Recipe, ipc: IpcServer) -> None:
        self._config, self._recipe, self._ipc = config, recipe, ipc

    async def ask(self, deployment_id: str, limit: float, sleep: Callable[[timedelta], Awaitable[None]]) -> None:
        """Wait for as long as the component puts the deployment off."""
        await self._ipc.ask_before_update(self._recipe.name, deployment_id, limit, sleep)

    async def run(self, deployment: ConfigurationUpdate, *, is_upgrade: bool) -> DeploymentOutcome:
        """Propose, then store or forget; a component whose version changes is not asked."""
        name = self._recipe.name
        before = self._config.configuration(name) or {}
        start = reset(before, list(deployment.reset), self._recipe.default_configuration)
        proposed: dict[str, Any] = merge(start, deployment.merge)
        if proposed != before:
            limit = deployment.validation_timeout
            if not is_upgrade:
                verdict = await self._ipc.propose(name, deployment.deployment_id, proposed, limit)
                if not verdict.accepted:
                    reason = f"{name} rejected the configuration: {verdict.message}"
                    return DeploymentOutcome(deployment.deployment_id, "FAILED", reason)
            self._config.set_configuration(name, proposed)
            for key in sorted(set(before) | set(proposed)):
                if before.get(key) != proposed.get(key):
                    self._ipc.configuration_changed(name, [key])
        return DeploymentOutcome(deployment.deployment_id, "SUCCEEDED")
