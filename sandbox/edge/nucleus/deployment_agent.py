"""Carries the cloud's Greengrass deployments to the nuclei of a sandbox, and their outcomes back.

Level-triggered: whenever an order is made or a device connects, everything that is pending for the
device is carried out, oldest first. An offline device's orders wait. A nucleus here runs one component: its
configuration can be deployed, and those of its versions that were offered; other components cannot.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sandbox.aws.greengrass.deployments import ComponentOrder, DeploymentOrder, Deployments, InstalledComponent

from .deployments import ConfigurationUpdate, DeploymentOutcome
from .effective_config import NUCLEUS
from .installation import Component
from .nucleus import Nucleus
from .recipe import Variant, load_recipe, merge

log = logging.getLogger(__name__)


class DeploymentAgent:
    """One a sandbox; thread-safe."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._nuclei: dict[str, Nucleus] = {}
        self._offered: dict[str, Component] = {}  # by version
        self._workers: dict[str, ThreadPoolExecutor] = {}  # one a device: a deployment that waits holds up no other's
        self._is_stopped = False
        deployments.on_order(lambda order: self._check(order.thing))

    def offer(self, component: Component) -> None:
        """Let deployments name this version of the component, too."""
        self._offered[load_recipe(component.recipe, Variant.CLASSIC).version] = component

    def attach(self, nucleus: Nucleus) -> None:
        """Serve this device, from its next connection on."""
        self._nuclei[nucleus.thing_name] = nucleus
        self._workers[nucleus.thing_name] = ThreadPoolExecutor(1, f"deployments-{nucleus.thing_name}")
        nucleus.on_connected(lambda: self._check(nucleus.thing_name))

    def stop(self) -> None:
        """Finish what is going on and take nothing more."""
        self._is_stopped = True
        for worker in self._workers.values():
            worker.shutdown(cancel_futures=True)

    def _check(self, thing: str) -> None:
        if thing in self._nuclei and not self._is_stopped:
            self._workers[thing].submit(self._carry_out, self._nuclei[thing])

    def _carry_out(self, nucleus: Nucleus) -> None:
        try:
            self._report_device(nucleus)
            for order in self._deployments.pending(nucleus.thing_name):
                if not nucleus.is_connected:
                    return
                self._deployments.report(order.thing, order.deployment_id, "IN_PROGRESS")
                outcome = run_order(nucleus, order, self._offered)
                log.info("%s: deployment %s %s %s", order.thing, order.deployment_id, outcome.status, outcome.reason)
                self._deployments.report(order.thing, order.deployment_id, outcome.status, outcome.reason)
                self._report_device(nucleus)
        except Exception:
            log.exception("%s: deployments failed", nucleus.thing_name)

    def _report_device(self, nucleus: Nucleus) -> None:
        running = InstalledComponent(nucleus.recipe.name, nucleus.recipe.version)
        core = InstalledComponent(NUCLEUS, nucleus.version, "FINISHED")
        self._deployments.report_device(
            nucleus.thing_name, (running, core), core_version=nucleus.version, runtime=nucleus.profile.variant.runtime
        )


def run_order(nucleus: Nucleus, order: DeploymentOrder, offered: Mapping[str, Component]) -> DeploymentOutcome:
    """Carry out one order on one device; ``offered`` are the versions that it may change to."""
    for name, wanted in order.components.items():
        if problem := _problem(nucleus, name, wanted, offered):
            return DeploymentOutcome(order.deployment_id, "FAILED", problem)
    if nucleus.recipe.name not in order.components:
        reason = f"the deployment removes {nucleus.recipe.name}, which this sandbox does not do; include it"
        return DeploymentOutcome(order.deployment_id, "FAILED", reason)
    if order.notify_seconds is not None:
        nucleus.ask_before_update(order.deployment_id, order.notify_seconds)
    before: Mapping[str, Any] | None = nucleus.config.configuration(NUCLEUS)
    if (core := order.components.get(NUCLEUS)) and core.merge:
        nucleus.config.set_configuration(NUCLEUS, merge(before, core.merge))
    own = order.components[nucleus.recipe.name]
    is_upgrade = own.version != nucleus.recipe.version
    if is_upgrade:
        nucleus.upgrade(offered[own.version])
    outcome = nucleus.deploy(
        ConfigurationUpdate(order.deployment_id, own.merge or {}, own.reset), is_upgrade=is_upgrade
    )
    if outcome.status == "FAILED" and order.rolls_back_on_failure and before is not None:
        nucleus.config.set_configuration(NUCLEUS, before)
    return outcome


def _problem(nucleus: Nucleus, name: str, wanted: ComponentOrder, offered: Mapping[str, Component]) -> str | None:
    if name == NUCLEUS:
        return None
    if name != nucleus.recipe.name:
        return f"component {name} cannot be installed here: this nucleus runs {nucleus.recipe.name} only"
    if wanted.version != nucleus.recipe.version and wanted.version not in offered:
        return f"{name} {wanted.version} cannot be installed here: this nucleus runs {nucleus.recipe.version}"
    return None
