"""Sessions, connections and what passes between them and the bus. Runs on the endpoint's loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import timedelta
from typing import Protocol

from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.edge.admission import Admission
from sandbox.edge.faults import Delivery, Direction, Faults
from sandbox.edge.jobs_topics import JobsReply, JobsTopics, is_jobs_request
from sandbox.interfaces import EndpointRegistry

from .packets import Publish, Will
from .session import Session
from .topics import SubscriptionTree
from .wire import ReasonCode

log = logging.getLogger(__name__)


class Link(Protocol):
    """The part of a client's connection that the broker needs."""

    @property
    def session(self) -> Session:
        """The session that the connection serves."""

    @property
    def principal(self) -> str:
        """Id of the certificate with which the client connected."""

    def send(self, message: Publish) -> None:
        """Write a QoS 0 message."""

    def flush(self) -> None:
        """Write what waits in the session."""

    def close(self, reason: ReasonCode) -> None:
        """End the connection from the server's side."""


class Broker:
    """Decides who may connect, publish and subscribe, and routes messages."""

    def __init__(
        self,
        *,
        registry: EndpointRegistry,
        jobs: JobsTopics,
        bus: Bus,
        clock: SandboxClock,
        faults: Faults,
        worker: Executor,
    ) -> None:
        self._registry, self._jobs, self._bus = registry, jobs, bus
        self._admission = Admission(registry, clock)
        self._clock, self._faults, self._worker = clock, faults, worker
        self._sessions: dict[str, Session] = {}
        self._links: dict[str, Link] = {}
        self._blocked: set[str] = set()
        self._tree: SubscriptionTree[Session] = SubscriptionTree()
        self._tasks: set[asyncio.Future[None]] = set()

    # Connecting -------------------------------------------------------------------------------

    def authenticate(self, certificate_der: bytes | None, client_id: str) -> str | None:
        """Return the certificate id if this certificate may connect under this client id, else None."""
        if certificate_der is None or client_id in self._blocked:
            return None
        return self._admission.authenticate(certificate_der, client_id)

    def open_session(self, client_id: str, *, clean_start: bool, expiry: timedelta) -> tuple[Session, bool]:
        """Return the client's session and whether it existed before; an older connection of that client is ended."""
        if older := self._links.get(client_id):
            older.close(ReasonCode.SESSION_TAKEN_OVER)
            self.detach(older)
        session = self._sessions.get(client_id)
        if session and (clean_start or (session.ends_at and session.ends_at <= self._clock.now())):
            self._end_session(session)
            session = None
        if session:
            session.ends_at, session.expiry = None, expiry
            return session, True
        session = self._sessions[client_id] = Session(client_id, expiry)
        return session, False

    def attach(self, link: Link) -> None:
        """Send messages to this connection from now on."""
        self._links[link.session.client_id] = link
        self._registry.connected(link.principal, link.session.client_id)

    def detach(self, link: Link, will: Will | None = None) -> None:
        """Forget a connection that is gone, and publish ``will``; harmless if another connection has taken over."""
        session = link.session
        if self._links.get(session.client_id) is not link:
            return
        del self._links[session.client_id]
        if session.is_persistent:
            session.ends_at = self._clock.now() + session.expiry
        else:
            self._end_session(session)
        self._registry.disconnected(link.principal, session.client_id)
        if will and self.may_publish(link.principal, session.client_id, will.topic):
            self._bus.publish(Message(will.topic, will.payload, will.qos, link.principal, session.client_id))

    def disable(self, certificate_id: str) -> None:
        """End every connection that was made with this certificate."""
        for link in list(self._links.values()):
            if link.principal == certificate_id:
                link.close(ReasonCode.NOT_AUTHORIZED)

    def end(self, client_id: str) -> None:
        """End the client's connection and its session, for good, and publish nothing of its last will."""
        if link := self._links.get(client_id):
            self.detach(link)
            self._end_session(link.session)
            link.close(ReasonCode.ADMINISTRATIVE_ACTION)

    def block(self, client_id: str) -> None:
        """Cut the client off until ``unblock``."""
        self._blocked.add(client_id)
        self.interrupt(client_id)

    def unblock(self, client_id: str) -> None:
        """Let the client connect again."""
        self._blocked.discard(client_id)

    def interrupt(self, client_id: str) -> None:
        """End the client's connection; it may come back at once."""
        if link := self._links.get(client_id):
            link.close(ReasonCode.ADMINISTRATIVE_ACTION)

    def close_all(self) -> None:
        """Shut the endpoint down."""
        for link in list(self._links.values()):
            link.close(ReasonCode.SERVER_SHUTTING_DOWN)

    def connected_clients(self) -> dict[str, str]:
        """Return certificate id by client id."""
        return {client_id: link.principal for client_id, link in self._links.items()}

    def _end_session(self, session: Session) -> None:
        for topic_filter in session.subscriptions:
            self._tree.remove(topic_filter, session)
        if self._sessions.get(session.client_id) is session:
            del self._sessions[session.client_id]

    # Subscribing ------------------------------------------------------------------------------

    @property
    def is_heard(self) -> bool:
        """Whether anybody subscribes to anything, connected or not; callable from any thread."""
        return not self._tree.is_empty

    def subscribe(self, link: Link, topic_filter: str, qos: int) -> int | ReasonCode:
        """Return the granted QoS, or why not."""
        session = link.session
        if refusal := self._admission.refusal_of_subscription(link.principal, session.client_id, topic_filter):
            return refusal
        self._tree.add(topic_filter, session, qos)
        session.subscriptions[topic_filter] = qos
        return qos

    def unsubscribe(self, link: Link, topic_filter: str) -> ReasonCode:
        """End a subscription, if there is one."""
        if link.session.subscriptions.pop(topic_filter, None) is None:
            return ReasonCode.NO_SUBSCRIPTION_EXISTED
        self._tree.remove(topic_filter, link.session)
        return ReasonCode.SUCCESS

    # Publishing -------------------------------------------------------------------------------

    def may_publish(self, principal: str, client_id: str, topic: str) -> bool:
        """Return whether topic and policy allow a device to publish there."""
        return self._admission.may_publish(principal, client_id, topic)

    def publish(self, link: Link, message: Publish) -> None:
        """Take a message that ``may_publish`` has let through."""
        client_id = link.session.client_id
        for delivery in self._faults.apply(Direction.FROM_DEVICE, client_id, message.topic, message.payload):
            self._later(delivery, lambda d: self._accept(link, d, message.qos))

    def _accept(self, link: Link, delivery: Delivery, qos: int) -> None:
        client_id = link.session.client_id
        self._bus.publish(Message(delivery.topic, delivery.payload, qos, link.principal, client_id))
        if is_jobs_request(delivery.topic):
            work = asyncio.get_running_loop().run_in_executor(
                self._worker, self._jobs.answer, delivery.topic, delivery.payload
            )
            task = asyncio.ensure_future(self._answer(link, work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, link: Link, work: asyncio.Future[JobsReply]) -> None:
        try:
            answer = await work
        except Exception:
            log.exception("the jobs service failed")
            return
        if self._links.get(link.session.client_id) is link:
            self._deliver(link.session, answer.topic, answer.payload, 0)

    def route(self, message: Message) -> None:
        """Hand a message of the bus to every subscriber."""
        for session, qos in self._tree.match(message.topic).items():
            self._deliver(session, message.topic, message.payload, min(qos, message.qos))

    def _deliver(self, session: Session, topic: str, payload: bytes, qos: int) -> None:
        for delivery in self._faults.apply(Direction.TO_DEVICE, session.client_id, topic, payload):
            self._later(delivery, lambda d: self._send(session, d, qos))

    def _send(self, session: Session, delivery: Delivery, qos: int) -> None:
        link = self._links.get(session.client_id)
        if link is None or link.session is not session:
            if qos and session.is_persistent:
                session.enqueue(delivery.topic, delivery.payload)
            return
        if not self._admission.may_receive(link.principal, session.client_id, delivery.topic):
            return
        if qos:
            session.enqueue(delivery.topic, delivery.payload)
            link.flush()
        else:
            link.send(Publish(delivery.topic, delivery.payload, 0))

    @staticmethod
    def _later(delivery: Delivery, action: Callable[[Delivery], None]) -> None:
        if delivery.after:
            asyncio.get_running_loop().call_later(delivery.after, action, delivery)
        else:
            action(delivery)
