"""How a stock backend and its devices' components are set: what a rotation will make, which no job can ask of them.

The stack's CA stands in the environment of its function. AWS does not report a component's settings: a core
device keeps what earlier deployments have merged. So a setting is known only if the newest deployment that the
device has carried out names the key, or sets it back to the component's default.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.database import Database
from controller.fleet.work import Work
from controller.reconcile.values import StockBackend
from protocol.algorithms import DEFAULT_KEY_TYPE
from protocol.names import COMPONENT_NAME

PAGE_SIZE = 100  # of this list
MAX_ASKED = 500  # devices per run, those asked longest ago first
KEY = "keyAlgorithm"
_CARRIED_OUT = frozenset({"SUCCEEDED", "COMPLETED"})
_NEVER_BEGUN = frozenset({"CANCELED", "REJECTED"})  # they change nothing; of any other status nobody knows
_NAME_IT = f"let the device's deployment merge {KEY} into the configuration of {COMPONENT_NAME}"


def read_stock_backend(session: AwsSession) -> StockBackend:
    """Return what the stock stack was deployed with; its function's environment shows it."""
    try:
        answer = session.call("lambda", "GetFunctionConfiguration", FunctionName=session.fleet.backend.create_function)
    except FleetError as error:
        return StockBackend(unknown=f"{error}; {error.remedy}")
    variables = answer.get("Environment", {}).get("Variables", {})
    arn, days = variables.get("PCA_CA_ARN"), variables.get("PCA_VALIDITY_IN_DAYS", "")
    if arn is None or (arn and not days.isdigit()):
        return StockBackend(unknown=f"function {session.fleet.backend.create_function} does not show which CA it uses")
    return StockBackend(arn, timedelta(days=int(days))) if arn else StockBackend()


class SettingReader:
    """Brings what the component of each device is set to make up to date."""

    def __init__(self, session: AwsSession, database: Database) -> None:
        self._components = _Components(session)
        self._database = database

    def run(self) -> None:
        """Bring ``key_algorithm`` and ``setting_unknown`` up to date, of a bounded number of devices."""
        with self._database.errors():
            rows = self._database.connection.execute(
                "SELECT name FROM things ORDER BY setting_asked_in_run, name LIMIT ?", (MAX_ASKED,)
            )
            things = [name for (name,) in rows]
        work = Work()
        for thing in things:
            self._ask(work, thing)
        work.run()

    def _ask(self, work: Work, thing: str) -> None:
        def keep(found: tuple[str | None, str | None]) -> None:
            with self._database.transaction() as connection:
                connection.execute(
                    "UPDATE things SET key_algorithm = ?, setting_unknown = ?, "
                    "setting_asked_in_run = (SELECT run FROM binding) WHERE name = ?",
                    (*found, thing),
                )

        work.add(lambda: self._components.setting(thing), keep)


class StockSettings:
    """How stack and components were set when a look found them, and which devices are set otherwise by now."""

    def __init__(self, session: AwsSession, stock: StockBackend, keys: Mapping[str, str]) -> None:
        self._session, self._stock, self._keys = session, stock, keys

    def changed(self, things: Iterable[str]) -> dict[str, str]:
        """Return why each of these things is left out that is set otherwise than at that look.

        A call for each.
        """
        now = read_stock_backend(self._session)
        if now != self._stock:
            why = f"the stock backend is set otherwise than when it was looked at{_said(now.unknown)}"
            return dict.fromkeys(things, why)
        components, changed = _Components(self._session), dict[str, str]()
        work = Work()
        for thing in things:

            def compare(found: tuple[str | None, str | None], thing: str = thing) -> None:
                key, unknown = found
                before = self._keys.get(thing)
                if key != before:
                    changed[thing] = f"its component was set to {before}, now {key or f'that is not known ({unknown})'}"

            work.add(partial(components.setting, thing), compare)
        work.run()
        return changed


class _Components:
    """Asks Greengrass what the component of a device is set to make."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self._refused: str | None = None  # why nothing more is asked: the others would be told the same
        self._deployments: dict[str, dict[str, Any]] = {}  # components by id: a deployment never changes

    def setting(self, thing: str) -> tuple[str | None, str | None]:
        """Return the key that the component is set to make, or why that is not known."""
        if self._refused is not None:
            return None, self._refused
        try:
            for effective in self._effective(thing):
                update = self._update(effective["deploymentId"])
                if update is not None:
                    return _read(update, effective)
        except FleetError as error:
            if isinstance(error, AwsCallError) and error.is_not_found:
                return None, f"Greengrass knows no core device {thing}"
            self._refused = f"{error}; {error.remedy}"
            return None, self._refused
        return None, f"no deployment of {thing} has {COMPONENT_NAME} in it"

    def _effective(self, thing: str) -> list[dict[str, Any]]:
        """Return the deployments of a core device, the one that changed last first."""
        pages = self._session.pages(
            "ListEffectiveDeployments",
            service="greengrassv2",
            coreDeviceThingName=thing,
            maxResults=PAGE_SIZE,
            is_optional=True,
        )
        listed = [entry for page in pages for entry in page["effectiveDeployments"]]
        found = [entry for entry in listed if entry["coreDeviceExecutionStatus"] not in _NEVER_BEGUN]
        return sorted(found, key=lambda entry: (entry["modifiedTimestamp"], entry["deploymentId"]), reverse=True)

    def _update(self, deployment: str) -> dict[str, Any] | None:
        """Return what a deployment does to the component's configuration; None if it does not have the component."""
        components = self._deployments.get(deployment)
        if components is None:
            answer = self._session.call("greengrassv2", "GetDeployment", is_optional=True, deploymentId=deployment)
            components = self._deployments[deployment] = answer.get("components", {})
        component = components.get(COMPONENT_NAME)
        return None if component is None else component.get("configurationUpdate", {})


def _said(unknown: str | None) -> str:
    return f": {unknown}" if unknown else ""


def _read(update: dict[str, Any], effective: dict[str, Any]) -> tuple[str | None, str | None]:
    name, status = effective.get("deploymentName") or effective["deploymentId"], effective["coreDeviceExecutionStatus"]
    if status not in _CARRIED_OUT:
        return None, f"the deployment {name} is {status} on it: wait for it, or put it right"
    try:
        merged = json.loads(update.get("merge") or "{}")
    except ValueError:
        merged = {}
    if isinstance(merged, dict) and KEY in merged:
        return str(merged[KEY]), None
    if not {"", f"/{KEY}"}.isdisjoint(update.get("reset", ())):
        return DEFAULT_KEY_TYPE.value, None
    return None, f"the deployment {name} leaves {KEY} as it was on the device before: {_NAME_IT}"
