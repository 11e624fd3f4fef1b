"""The nucleus' connection to AWS IoT Core, with the client library that the real one uses.

Callbacks of that library come on its own threads; everything here happens on the nucleus' loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from awscrt import exceptions, mqtt5
from awsiot import mqtt5_client_builder

from sandbox.edge.mqtt.topics import matches

from . import pkcs11_credential
from .effective_config import ConnectionSettings
from .pkcs11_credential import TokenError, TokenLibrary
from .traits import ANSWERS_BEFORE_SUBACK, FORGETS_ANEW, MAX_PACKET_BYTES, Profile

log = logging.getLogger(__name__)

MIN_RECONNECT_MILLISECONDS = 100
MAX_RECONNECT_MILLISECONDS = 2_000
KEEP_ALIVE_SECONDS = 30
OPERATION_TIMEOUT_SECONDS = 10.0
STOP_TIMEOUT_SECONDS = 5.0
UNSUBACK_SECONDS = 0.2  # until it counts that the broker has let go of a filter
# SoftHSM rewrites its token's file at each login of anybody, and who looks at that instant sees no token.
TOKEN_PAUSES_SECONDS = (0.05, 0.2)

Listener = Callable[[str, bytes], None]


class OfflineError(Exception):
    """There is no connection to AWS IoT Core at present."""


class IotCore:
    """One MQTT client under the thing's name; ``start`` reads the credential, ``stop`` ends the connection."""

    def __init__(
        self, call: Callable[..., None], on_change: Callable[[bool], None], profile: Profile = Profile.CLASSIC
    ) -> None:
        """``call`` runs a function on the nucleus' loop; ``on_change`` hears of going on- and offline."""
        self._call, self._on_change, self._profile = call, on_change, profile
        self._has_connected = asyncio.Event()  # since the launch
        self._client: mqtt5.Client | None = None
        self._generation = 0  # events of an earlier client are ignored
        self._stopped: asyncio.Event | None = None
        self._listeners: dict[str, list[Listener]] = {}
        self._counted: set[str] = set()  # filters that are taken for subscribed
        self._token: TokenLibrary | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.is_connected = False

    def start(self, settings: ConnectionSettings, on_lost: Callable[[], None] | None = None) -> str | None:
        """Connect with the credential as it lies there now, and keep trying; else a sentence why that is hopeless.

        ``on_lost`` is called instead of reconnecting with the same credential.
        """
        self._generation += 1
        generation = self._generation

        def later(handler: Callable[..., None], *arguments: object) -> None:
            self._call(lambda: handler(*arguments) if generation == self._generation else None)

        stopped = self._stopped = asyncio.Event()
        events = {
            "on_publish_received": lambda data: later(self._received, data.publish_packet),
            "on_lifecycle_connection_success": lambda _: later(self._connected),
            "on_lifecycle_connection_failure": lambda data: later(self._lost, data.exception, on_lost),
            "on_lifecycle_disconnection": lambda data: later(self._lost, data.exception, on_lost),
            "on_lifecycle_stopped": lambda _: self._call(stopped.set),
        }
        for pause in (*TOKEN_PAUSES_SECONDS, None):
            try:
                self._client = self._build(settings, events)
                break
            except (exceptions.AwsCrtError, RuntimeError, OSError, ValueError, TokenError) as error:  # Runtime: not PEM
                if pause is None or settings.pkcs11 is None:
                    return f"the credential cannot be used: {error}"
                self.forget_token()
                time.sleep(pause)
        assert self._client is not None  # noqa: S101  # built, or returned
        self._client.start()
        return None

    @property
    def is_started(self) -> bool:
        """Whether a client is connected or trying to."""
        return self._client is not None

    async def stop(self) -> None:
        """Disconnect, and return when it is done."""
        client, self._client = self._client, None
        self._generation += 1
        if client is not None and self._stopped is not None:
            client.stop()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                    await self._stopped.wait()
            except TimeoutError:
                log.warning("the MQTT client did not stop within %g s", STOP_TIMEOUT_SECONDS)
        self._set_connected(connected=False)

    async def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send now; raises OfflineError, and with QoS 1 returns when the message was acknowledged."""
        client = self._require_client()
        packet = mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS(qos))
        await self._finish(client.publish(packet))

    async def subscribe(self, topic_filter: str, qos: int, listener: Listener) -> Callable[[], None]:
        """Hear a filter until the returned function is called; raises OfflineError, PermissionError when refused.

        If the profile answers before the broker does, neither its refusal nor a loss on the way is ever reported.
        """
        client = self._require_client()
        listeners = self._listeners.setdefault(topic_filter, [])
        listeners.append(listener)

        def end() -> None:
            if listener in listeners:
                listeners.remove(listener)
            if not listeners and self._listeners.get(topic_filter) is listeners:
                self._unsubscribe(topic_filter)

        if topic_filter in self._counted and FORGETS_ANEW.on(self._profile):
            return end
        packet = mqtt5.SubscribePacket([mqtt5.Subscription(topic_filter, mqtt5.QoS(qos))])
        request = client.subscribe(packet)
        if ANSWERS_BEFORE_SUBACK.on(self._profile):
            return end
        try:
            answer = await self._finish(request)
        except OfflineError:
            end()
            raise
        if answer.reason_codes[0] > mqtt5.SubackReasonCode.GRANTED_QOS_2:
            end()
            message = f"AWS IoT Core refused the subscription to {topic_filter}: {answer.reason_codes[0].name}"
            raise PermissionError(message)
        self._counted.add(topic_filter)
        return end

    async def wait_first_connection(self) -> None:
        """Return once there has been a connection since the launch."""
        await self._has_connected.wait()

    def forget_subscriptions(self) -> None:
        """Start the service anew: every subscription is gone, though its client does not know."""
        self._listeners = {}
        self._counted = set()

    def launch(self) -> None:
        """Launch the nucleus anew: it has not been online yet."""
        self._has_connected = asyncio.Event()

    def forget_token(self) -> None:
        """End the process that held the token's library: the next start loads it anew."""
        self._token = None

    # Events of the client ---------------------------------------------------------------------

    def _connected(self) -> None:
        self._counted = set(self._listeners)
        if self._client is not None and self._listeners:
            subscriptions = [mqtt5.Subscription(f, mqtt5.QoS.AT_LEAST_ONCE) for f in self._listeners]
            for subscription in subscriptions:  # one a packet: AWS IoT Core takes eight at most
                self._client.subscribe(mqtt5.SubscribePacket([subscription]))
        self._set_connected(connected=True)

    def _lost(self, error: object, on_lost: Callable[[], None] | None) -> None:
        log.info("not connected: %s", error)
        self._set_connected(connected=False)
        if on_lost:
            self._generation += 1  # it is told once
            on_lost()

    def _received(self, packet: Any) -> None:
        payload = bytes(packet.payload or b"")
        for topic_filter, listeners in list(self._listeners.items()):
            if matches(topic_filter, packet.topic):
                for listener in list(listeners):
                    listener(packet.topic, payload)

    # ------------------------------------------------------------------------------------------

    def _unsubscribe(self, topic_filter: str) -> None:
        self._listeners.pop(topic_filter, None)
        if self._client is not None and self.is_connected:
            self._client.unsubscribe(mqtt5.UnsubscribePacket([topic_filter]))
        asyncio.get_running_loop().call_later(UNSUBACK_SECONDS, self._counted.discard, topic_filter)

    def _require_client(self) -> mqtt5.Client:
        if self._client is None or not self.is_connected:
            raise OfflineError("the device is offline")
        return self._client

    async def _finish(self, operation: Future[Any]) -> Any:
        # The library's future is only watched: it cannot bear that somebody cancels it.
        done = asyncio.Event()
        operation.add_done_callback(lambda _: self._call(done.set))
        try:
            async with asyncio.timeout(OPERATION_TIMEOUT_SECONDS):
                await done.wait()
            return operation.result()
        except (exceptions.AwsCrtError, TimeoutError) as error:
            message = f"the connection failed meanwhile: {error}"
            raise OfflineError(message) from error

    def _build(self, settings: ConnectionSettings, events: dict[str, Any]) -> mqtt5.Client:
        common: dict[str, Any] = {
            "endpoint": settings.host,
            "port": settings.port,
            "ca_filepath": settings.root_ca,
            "client_id": settings.thing_name,
            "connect_options": mqtt5.ConnectPacket(
                client_id=settings.thing_name,
                keep_alive_interval_sec=KEEP_ALIVE_SECONDS,
                maximum_packet_size=MAX_PACKET_BYTES.on(self._profile),
            ),
            "session_behavior": mqtt5.ClientSessionBehaviorType.CLEAN,
            "offline_queue_behavior": mqtt5.ClientOperationQueueBehaviorType.FAIL_ALL_ON_DISCONNECT,
            "min_reconnect_delay_ms": MIN_RECONNECT_MILLISECONDS,
            "max_reconnect_delay_ms": MAX_RECONNECT_MILLISECONDS,
            **events,
        }
        if settings.private_key.startswith("pkcs11:"):
            self._token = self._token or pkcs11_credential.load(settings.pkcs11)
            return mqtt5_client_builder.mtls_with_pkcs11(**pkcs11_credential.options(settings, self._token), **common)
        return mqtt5_client_builder.mtls_from_path(settings.certificate, settings.private_key, **common)

    def _set_connected(self, *, connected: bool) -> None:
        if self.is_connected != connected:
            self.is_connected = connected
            if connected:
                self._has_connected.set()
            self._on_change(connected)
