"""Where every MQTT message of the sandbox passes: devices, jobs, events and rules meet here.

Publishers call ``Bus.publish`` on any thread; each listener is called on that thread, in the order
of subscription, and must hand long work to a thread or loop of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT message. ``principal`` and ``client_id`` are those of the publishing connection.

    ``principal`` is the certificate id; both are None for what the cloud publishes itself.
    """

    topic: str
    payload: bytes
    qos: int = 0
    principal: str | None = None
    client_id: str | None = None


class Bus:
    """Fans each message out to all listeners; one listener's failure never reaches another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[Callable[[Message], None], ...] = ()

    def listen(self, listener: Callable[[Message], None]) -> None:
        """Hear every message from now on."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def publish(self, message: Message) -> None:
        """Hand the message to every listener."""
        for listener in self._listeners:
            try:
                listener(message)
            except Exception:
                log.exception("a listener failed on %s", message.topic)
