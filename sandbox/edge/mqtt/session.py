"""A client's session: subscriptions and the QoS 1 messages it has yet to acknowledge.

Rules, as AWS IoT Core has them: a persistent session survives its connection for an hour or what MQTT 5
asks for, at most a week; QoS 1 messages that arrive meanwhile wait, and those not acknowledged are sent
again, marked as duplicates, when the client is back. QoS 0 messages never wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta

from .packets import Publish

DEFAULT_SESSION_EXPIRY = timedelta(hours=1)
MAX_SESSION_EXPIRY = timedelta(days=7)
MAX_WAITING_MESSAGES = 10_000  # a bound of this sandbox, so that a forgotten session costs little
MAX_PACKET_ID = 65_535


class Session:
    """Compared by identity. Lives on the endpoint's loop."""

    def __init__(self, client_id: str, expiry: timedelta) -> None:
        self.client_id = client_id
        self.expiry = expiry
        self.subscriptions: dict[str, int] = {}
        self.ends_at: datetime | None = None  # while connected
        self._unacknowledged: dict[int, Publish] = {}
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=MAX_WAITING_MESSAGES)
        self._last_id = 0

    @property
    def is_persistent(self) -> bool:
        """Whether the session outlives its connection."""
        return self.expiry > timedelta()

    def enqueue(self, topic: str, payload: bytes) -> None:
        """Keep a QoS 1 message until it can be sent."""
        self._waiting.append((topic, payload))

    def resend(self) -> Iterator[Publish]:
        """Yield what was sent on an earlier connection and not acknowledged, in order."""
        for packet_id, sent in list(self._unacknowledged.items()):
            yield Publish(sent.topic, sent.payload, 1, packet_id, duplicate=True)

    def send(self, receive_maximum: int) -> Iterator[Publish]:
        """Yield what may be sent now, at most ``receive_maximum`` unacknowledged at a time."""
        while self._waiting and len(self._unacknowledged) < receive_maximum:
            topic, payload = self._waiting.popleft()
            message = Publish(topic, payload, 1, self._free_id())
            self._unacknowledged[message.packet_id] = message
            yield message

    def acknowledge(self, packet_id: int) -> None:
        """Forget a message that the client has; harmless for an unknown identifier, such as a repeated PUBACK."""
        self._unacknowledged.pop(packet_id, None)

    def _free_id(self) -> int:
        self._last_id = self._last_id % MAX_PACKET_ID + 1
        while self._last_id in self._unacknowledged:
            self._last_id = self._last_id % MAX_PACKET_ID + 1
        return self._last_id


def expiry_of(requested: int | None) -> timedelta:
    """Return how long a session lasts: ``requested`` in seconds as MQTT 5 defines, or None for the default."""
    if requested is None:
        return DEFAULT_SESSION_EXPIRY
    return min(timedelta(seconds=requested), MAX_SESSION_EXPIRY)
