"""The nucleus' IPC socket and the operations that components call on it.

Operations: GetConfiguration, PublishToIoTCore, SubscribeToIoTCore, SubscribeToConfigurationUpdate,
UpdateState; if the profile has them SubscribeToValidateConfigurationUpdates and SendConfigurationValidityReport,
SubscribeToComponentUpdates and DeferComponentUpdate, or GetSystemConfig. Anything else is answered with an error.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from .access import is_allowed
from .iot_core import IotCore, OfflineError
from .ipc_protocol import GET_SYSTEM_CONFIG, NAMESPACE, Handler, IpcConnection, IpcError, Stream
from .traits import (
    ASKS_BEFORE_UPDATE,
    CREDENTIAL_PATHS,
    REFUSES_EMPTY_PAYLOAD,
    SUBSCRIBING_OFFLINE,
    VALIDATES,
    Offline,
    Paths,
    Profile,
)

log = logging.getLogger(__name__)

MAX_SOCKET_PATH_BYTES = 107  # sun_path, less its final zero


class Configurations(Protocol):
    """Where configuration comes from."""

    def get(self, component: str) -> Mapping[str, Any] | None:
        """Return a component's configuration as components see it, or None if there is no such component."""

    def access_control(self, component: str) -> object:
        """Return a component's ``accessControl`` as enforced, recipe variables filled in if the nucleus does that."""

    def system(self, key: str) -> object | None:
        """Return one value of the nucleus' own ``system`` configuration."""


@dataclass(frozen=True, slots=True)
class ConfigurationReply:
    """A component's answer to a configuration that a deployment proposes."""

    accepted: bool
    message: str


PATIENCE_SECONDS = 120.0  # for a component that has put a deployment off, until it listens again after a restart


class IpcServer:
    """Listens for components; lives on the nucleus' loop."""

    def __init__(
        self,
        path: Path,
        configurations: Configurations,
        iot_core: IotCore,
        profile: Profile,
    ) -> None:
        if len(str(path).encode()) > MAX_SOCKET_PATH_BYTES:
            message = (
                f"a socket path has at most {MAX_SOCKET_PATH_BYTES} bytes, found {len(str(path).encode())}: {path}"
            )
            raise ValueError(message)
        self.path = path
        self._configurations, self._iot_core, self._profile = configurations, iot_core, profile
        self.asked: Counter[str] = Counter()  # requests by operation
        self._tokens: dict[str, str] = {}
        self._connections: set[IpcConnection] = set()
        self._server: asyncio.Server | None = None
        self._validators: dict[str, Stream] = {}
        self._listeners: dict[str, Stream] = {}  # for updates
        self._deferrals: dict[str, asyncio.Future[float]] = {}  # by deployment: the milliseconds that it shall wait
        self._listens = asyncio.Event()  # somebody has begun to
        self._watchers: dict[str, list[Stream]] = {}
        self._reports: dict[str, asyncio.Future[ConfigurationReply]] = {}
        self._handlers: dict[str, Handler] = {
            "GetConfiguration": self._get_configuration,
            "PublishToIoTCore": self._publish,
            "SubscribeToIoTCore": self._subscribe,
            "SubscribeToConfigurationUpdate": self._watch,
            "UpdateState": self._update_state,
        }
        if VALIDATES.on(profile):
            self._handlers |= {
                "SubscribeToValidateConfigurationUpdates": self._validate,
                "SendConfigurationValidityReport": self._report,
            }
        if ASKS_BEFORE_UPDATE.on(profile):
            self._handlers |= {
                "SubscribeToComponentUpdates": self._listen_for_updates,
                "DeferComponentUpdate": self._defer_update,
            }
        if CREDENTIAL_PATHS.on(profile) is Paths.SERVICE:
            self._handlers[GET_SYSTEM_CONFIG] = self._get_system_config

    async def start(self) -> None:
        """Listen."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        self.path.chmod(0o600)

    async def stop(self) -> None:
        """End every connection and stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.disconnect_all()
        self.path.unlink(missing_ok=True)

    def disconnect_all(self) -> None:
        """End every component's connection, as a restart of the nucleus does; their tokens are void."""
        self._tokens.clear()
        for connection in list(self._connections):
            connection.close()

    def admit(self, component: str) -> str:
        """Return a fresh token (``SVCUID``) with which the component may connect."""
        token = secrets.token_hex(16)
        self._tokens[token] = component
        return token

    def is_validated_by(self, component: str) -> bool:
        """Return whether this component listens for configurations to judge."""
        return component in self._validators

    async def _wait_for_listener(self, component: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while component not in self._listeners:
                    self._listens.clear()
                    await self._listens.wait()

    async def ask_before_update(
        self,
        component: str,
        deployment_id: str,
        limit: float,
        sleep: Callable[[timedelta], Awaitable[None]],
    ) -> None:
        """Let a component that listens put a deployment off, again and again; it has ``limit`` seconds to answer."""
        while (stream := self._listeners.get(component)) is not None:
            answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
            self._deferrals[deployment_id] = answer
            event = {"preUpdateEvent": {"deploymentId": deployment_id, "isGgcRestarting": False}}
            stream.event("ComponentUpdatePolicyEvents", event)
            try:
                async with asyncio.timeout(limit):
                    milliseconds = await answer
            except TimeoutError:
                return
            finally:
                self._deferrals.pop(deployment_id, None)
            if milliseconds <= 0:
                return
            await sleep(timedelta(milliseconds=milliseconds))
            await self._wait_for_listener(component)

    async def propose(
        self, component: str, deployment_id: str, configuration: Mapping[str, Any], limit: float
    ) -> ConfigurationReply:
        """Ask the component about a configuration, for ``limit`` seconds; one that does not listen accepts all."""
        stream = self._validators.get(component)
        if stream is None:
            return ConfigurationReply(accepted=True, message="the component does not listen for configurations")
        report: asyncio.Future[ConfigurationReply] = asyncio.get_running_loop().create_future()
        self._reports[deployment_id] = report
        proposal = {"configuration": configuration, "deploymentId": deployment_id}
        stream.event("ValidateConfigurationUpdateEvents", {"validateConfigurationUpdateEvent": proposal})
        try:
            async with asyncio.timeout(limit):
                return await report
        except TimeoutError:
            return ConfigurationReply(accepted=False, message=f"the component did not report within {limit:g} s")
        finally:
            self._reports.pop(deployment_id, None)

    def configuration_changed(self, component: str, key_path: list[str]) -> None:
        """Notify the component's watchers."""
        event = {"configurationUpdateEvent": {"componentName": component, "keyPath": key_path}}
        for stream in self._watchers.get(component, []):
            stream.event("ConfigurationUpdateEvents", event)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = IpcConnection(
            reader,
            writer,
            component_of=lambda token: self._tokens.get(token) if isinstance(token, str) else None,
            handlers={operation: self._counted(operation, handler) for operation, handler in self._handlers.items()},
            profile=self._profile,
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _counted(self, operation: str, handler: Handler) -> Handler:
        async def handle(component: str, request: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
            self.asked[operation] += 1
            return await handler(component, request, stream)

        return handle

    # Operations -------------------------------------------------------------------------------

    async def _get_configuration(self, component: str, request: Mapping[str, Any], _: Stream) -> Mapping[str, Any]:
        name = request.get("componentName") or component
        value: Any = self._configurations.get(name)
        if value is None:
            message = f"component {name} is not installed"
            raise IpcError("ResourceNotFoundError", message, resourceType="COMPONENT", resourceName=str(name))
        path = request.get("keyPath") or []
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                message = f"there is no configuration under {'/'.join(map(str, path))}"
                raise IpcError("ResourceNotFoundError", message)
            value = value[key]
        return {"componentName": name, "value": value if isinstance(value, Mapping) else {path[-1]: value}}

    async def _publish(self, component: str, request: Mapping[str, Any], _: Stream) -> Mapping[str, Any]:
        topic, qos = self._topic(component, "PublishToIoTCore", request)
        if not request.get("payload") and REFUSES_EMPTY_PAYLOAD.on(self._profile):
            raise IpcError("InvalidArgumentsError", f"a message to {topic} needs a payload")
        try:
            payload = base64.b64decode(request.get("payload") or "", validate=True)
        except (binascii.Error, TypeError):
            raise IpcError("InvalidArgumentsError", "the payload is not base64") from None
        try:
            await self._iot_core.publish(topic, payload, qos)
        except OfflineError as error:
            message = f"{error}: the message to {topic} is dropped"
            raise IpcError("ServiceError", message) from error
        return {}

    async def _subscribe(self, component: str, request: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
        topic_filter, qos = self._topic(component, "SubscribeToIoTCore", request)

        def deliver(topic: str, payload: bytes) -> None:
            message = {"topicName": topic, "payload": base64.b64encode(payload).decode()}
            stream.event("IoTCoreMessage", {"message": message})

        if SUBSCRIBING_OFFLINE.on(self._profile) is Offline.HANGS_SINCE_LAUNCH:
            await self._iot_core.wait_first_connection()
        try:
            stream.on_close = await self._iot_core.subscribe(topic_filter, qos, deliver)
        except OfflineError as error:
            message = f"cannot subscribe to {topic_filter}: {error}"
            raise IpcError("ServiceError", message) from error
        except PermissionError as error:
            raise IpcError("ServiceError", str(error)) from error
        if stream.is_closed:
            stream.on_close()
        return {}

    def _topic(self, component: str, operation: str, request: Mapping[str, Any]) -> tuple[str, int]:
        topic, qos = request.get("topicName"), str(request.get("qos") or "0")
        if not isinstance(topic, str) or not topic or qos not in ("0", "1"):
            message = f"expected topicName and qos 0 or 1, found {topic!r} and {qos!r}"
            raise IpcError("InvalidArgumentsError", message)
        if not is_allowed(self._configurations.access_control(component), operation, topic):
            message = (
                f"Principal {component} is not authorized to perform "
                f"aws.greengrass.ipc.mqttproxy:{NAMESPACE}{operation} on resource {topic}"
            )
            raise IpcError("UnauthorizedError", message)
        return topic, int(qos)

    async def _get_system_config(self, _: str, request: Mapping[str, Any], __: Stream) -> Mapping[str, Any]:
        key = request.get("key")
        if not isinstance(key, str):
            raise IpcError("InvalidArgumentsError", f"expected a key, found {key!r}")
        value = self._configurations.system(key)
        if value is None:
            raise IpcError("ServiceError", "Failed to read the system configuration.")
        return {"value": value}

    async def _watch(self, component: str, request: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
        watchers = self._watchers.setdefault(request.get("componentName") or component, [])
        watchers.append(stream)
        stream.on_close = lambda: watchers.remove(stream)
        return {}

    async def _validate(self, component: str, _: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
        _note(self._validators, component, stream)
        return {}

    async def _listen_for_updates(self, component: str, _: Mapping[str, Any], stream: Stream) -> Mapping[str, Any]:
        def ask_again() -> None:
            for answer in self._deferrals.values():
                if not answer.done():
                    answer.set_result(1)  # a nucleus that has launched anew asks once more

        _note(self._listeners, component, stream, ask_again)
        self._listens.set()
        return {}

    async def _defer_update(self, component: str, request: Mapping[str, Any], _: Stream) -> Mapping[str, Any]:
        if component not in self._listeners or not isinstance(request.get("deploymentId"), str):
            raise IpcError("InvalidArgumentsError", f"{component} does not listen for updates, or names no deployment")
        waiting = self._deferrals.get(request["deploymentId"])
        if waiting is None or waiting.done():
            raise IpcError("ServiceError", "the time to answer is over")
        waiting.set_result(float(request.get("recheckAfterMs") or 0))
        return {}

    async def _report(self, component: str, request: Mapping[str, Any], _: Stream) -> Mapping[str, Any]:
        report = request.get("configurationValidityReport") or {}
        waiting = self._reports.get(str(report.get("deploymentId")))
        if waiting is None or waiting.done():
            message = f"no deployment waits for a report of {component}"
            raise IpcError("InvalidArgumentsError", message)
        waiting.set_result(ConfigurationReply(report.get("status") == "ACCEPTED", str(report.get("message") or "")))
        return {}

    async def _update_state(self, component: str, request: Mapping[str, Any], _: Stream) -> Mapping[str, Any]:
        state = request.get("state")
        if state not in ("RUNNING", "ERRORED"):
            message = f"state is {state!r}, expected RUNNING or ERRORED"
            raise IpcError("InvalidArgumentsError", message)
        log.info("%s reports %s", component, state)
        return {}


def _note(
    listeners: dict[str, Stream], component: str, stream: Stream, when_lost: Callable[[], None] = lambda: None
) -> None:
    """Take this stream for the component's, until it closes."""
    listeners[component] = stream

    def forget() -> None:
        if listeners.get(component) is stream:
            del listeners[component]
            when_lost()

    stream.on_close = forget
