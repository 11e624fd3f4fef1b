"""The shared part of the in-process devices of one sandbox: threads, connections, and the way to the bus.

A connection here is admitted by the same rules as one over MQTT, only without TLS: whoever opens it
must show that key and certificate match, see ``in_process.py``.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable

from component.certificate_rotator.loop import ThreadLoop
from component.certificate_rotator.ports import MessageHandler, MessagesError
from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.interfaces import EndpointRegistry, JobsData

from .admission import Admission
from .faults import Delivery, Direction, Faults
from .jobs_topics import JobsTopics, is_jobs_request
from .mqtt.topics import SubscriptionTree
from .turns import LIMIT_SECONDS, Turns, announces_a_rotation, ends_a_job

log = logging.getLogger(__name__)

THREADS = 2
STOP_TIMEOUT_SECONDS = 5.0


class InProcessConnection:
    """One device's connection: implements the component's ``Messages``. Compared by identity."""

    def __init__(self, host: InProcessHost, client_id: str, principal: str, loop: ThreadLoop) -> None:
        self._host = host
        self.client_id, self.principal, self.loop = client_id, principal, loop
        self.is_open = True
        self.on_lost: Callable[[], None] | None = None
        self.handlers: list[tuple[str, MessageHandler]] = []

    def subscribe(self, topic_filter: str, handler: MessageHandler) -> None:
        """See the component's ports."""
        self._host.subscribe(self, topic_filter, handler)

    def publish(self, topic: str, payload: bytes) -> None:
        """See the component's ports."""
        self._host.publish(self, topic, payload)


class InProcessHost:
    """Thread-safe. Devices are spread over a few threads, each of which serves many."""

    def __init__(
        self,
        registry: EndpointRegistry,
        jobs: JobsData,
        bus: Bus,
        clock: SandboxClock,
        faults: Faults | None = None,
        *,
        threads: int = THREADS,
    ) -> None:
        self.clock, self.faults = clock, faults or Faults()
        self._registry, self._bus = registry, bus
        self._admission = Admission(registry, clock)
        self._jobs = JobsTopics(jobs, clock)
        self._turns = Turns()
        self._lock = threading.Lock()
        self._tree: SubscriptionTree[tuple[InProcessConnection, MessageHandler]] = SubscriptionTree()
        self._connections: dict[str, InProcessConnection] = {}
        self._loops = [ThreadLoop() for _ in range(threads)]
        self._next_loop = itertools.cycle(self._loops)
        self._threads = [
            threading.Thread(target=loop.run, name=f"devices-{number}", daemon=True)
            for number, loop in enumerate(self._loops)
        ]
        for thread in self._threads:
            thread.start()
        registry.on_certificate_disabled(self._disable)
        registry.on_client_ended(self._end)
        bus.listen(self._route)

    def stop(self) -> None:
        """End the threads; the devices were stopped before."""
        for loop in self._loops:
            loop.stop()
        for thread in self._threads:
            thread.join(STOP_TIMEOUT_SECONDS)

    def loop(self) -> ThreadLoop:
        """Return the loop of the thread that is to serve one more device."""
        return next(self._next_loop)

    # Connections ------------------------------------------------------------------------------

    def connect(self, certificate_der: bytes, client_id: str, loop: ThreadLoop) -> InProcessConnection | None:
        """Open a connection, ending an older one of that client; None when it is refused."""
        principal = self._admission.authenticate(certificate_der, client_id)
        if principal is None:
            return None
        connection = InProcessConnection(self, client_id, principal, loop)
        with self._lock:
            older = self._connections.get(client_id)
        if older:
            self._lose(older)
        with self._lock:
            self._connections[client_id] = connection
        self._registry.connected(principal, client_id)
        return connection

    def disconnect(self, connection: InProcessConnection) -> None:
        """End a connection; harmless when it has ended."""
        if self._forget(connection):
            self._registry.disconnected(connection.principal, connection.client_id)

    def _forget(self, connection: InProcessConnection) -> bool:
        with self._lock:
            was_open, connection.is_open = connection.is_open, False
            for topic_filter, handler in connection.handlers:
                self._tree.remove(topic_filter, (connection, handler))
            if self._connections.get(connection.client_id) is connection:
                del self._connections[connection.client_id]
        return was_open

    def _lose(self, connection: InProcessConnection) -> None:
        """End a connection from the cloud's side; its device hears of it on its own thread."""
        if self._forget(connection):
            connection.loop.call_soon(lambda: self._tell_lost(connection))

    def _tell_lost(self, connection: InProcessConnection) -> None:
        self._registry.disconnected(connection.principal, connection.client_id)
        if connection.on_lost:
            connection.on_lost()

    def _disable(self, certificate_id: str) -> None:
        with self._lock:
            doomed = [c for c in self._connections.values() if c.principal == certificate_id]
        for connection in doomed:
            self._lose(connection)

    def _end(self, client_id: str) -> None:
        with self._lock:
            connection = self._connections.get(client_id)
        if connection:
            self._lose(connection)

    # Messages ---------------------------------------------------------------------------------

    def subscribe(self, connection: InProcessConnection, topic_filter: str, handler: MessageHandler) -> None:
        """Add a subscription; raises MessagesError."""
        self._require_open(connection)
        if self._admission.refusal_of_subscription(connection.principal, connection.client_id, topic_filter):
            message = f"no subscription to {topic_filter}: not allowed by the certificate's policies"
            raise MessagesError(message)
        with self._lock:
            if connection.is_open:
                connection.handlers.append((topic_filter, handler))
                self._tree.add(topic_filter, (connection, handler), 1)

    def publish(self, connection: InProcessConnection, topic: str, payload: bytes) -> None:
        """Send a message; raises MessagesError. As at AWS, a forbidden one costs the connection."""
        self._require_open(connection)
        if not self._admission.may_publish(connection.principal, connection.client_id, topic):
            self._lose(connection)
            message = f"{topic} may not be published to: the connection was ended"
            raise MessagesError(message)
        for delivery in self.faults.apply(Direction.FROM_DEVICE, connection.client_id, topic, payload):
            self._later(connection, delivery, lambda d: self._accept(connection, d))

    def _accept(self, connection: InProcessConnection, delivery: Delivery) -> None:
        topic, payload = delivery.topic, delivery.payload
        self._bus.publish(Message(topic, payload, 0, connection.principal, connection.client_id))
        if ends_a_job(topic, payload):
            self._turns.end(connection.client_id)
        if is_jobs_request(topic):
            answer = self._jobs.answer(topic, payload)
            with self._lock:
                found = list(self._tree.match(answer.topic))
            for subscriber, handler in found:  # nobody else hears the answer
                if subscriber is connection:
                    self._deliver(connection, handler, answer.topic, answer.payload)

    def _route(self, message: Message) -> None:
        with self._lock:
            found = list(self._tree.match(message.topic))
        for connection, handler in found:
            self._deliver(connection, handler, message.topic, message.payload)

    def _deliver(self, connection: InProcessConnection, handler: MessageHandler, topic: str, payload: bytes) -> None:
        def in_turn() -> None:
            self._send(connection, handler, topic, payload)
            connection.loop.call_later(LIMIT_SECONDS, lambda: self._turns.end(connection.client_id))

        if announces_a_rotation(topic, payload):
            self._turns.announce(connection.client_id, in_turn)
        else:
            self._send(connection, handler, topic, payload)

    def _send(self, connection: InProcessConnection, handler: MessageHandler, topic: str, payload: bytes) -> None:
        for delivery in self.faults.apply(Direction.TO_DEVICE, connection.client_id, topic, payload):
            self._later(connection, delivery, lambda d: self._hand_over(connection, handler, d))

    def _hand_over(self, connection: InProcessConnection, handler: MessageHandler, delivery: Delivery) -> None:
        if connection.is_open and self._admission.may_receive(
            connection.principal, connection.client_id, delivery.topic
        ):
            handler(delivery.topic, delivery.payload)

    @staticmethod
    def _later(connection: InProcessConnection, delivery: Delivery, action: Callable[[Delivery], None]) -> None:
        def run() -> None:
            try:
                action(delivery)
            except Exception:  # one message's failure must not end the thread that serves many devices
                log.exception("%s: a message on %s failed", connection.client_id, delivery.topic)

        if delivery.after:
            connection.loop.call_later(delivery.after, run)
        else:
            connection.loop.call_soon(run)

    @staticmethod
    def _require_open(connection: InProcessConnection) -> None:
        if not connection.is_open:
            raise MessagesError("the device is offline")
