"""The faults of a bad network, on purpose: lost, doubled, late, changed.

A fault is given by direction, client and topic filter, and how often it strikes. The MQTT endpoint and
the in-process devices put every message between a device and the cloud through one ``Faults``.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from .mqtt.topics import matches


class Direction(Enum):
    """The direction of a message, seen from the device."""

    TO_DEVICE = "to device"
    FROM_DEVICE = "from device"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message that is to arrive, ``after`` seconds from now."""

    topic: str
    payload: bytes
    after: float = 0.0


Effect = Callable[[Delivery], Sequence[Delivery]]


def drop() -> Effect:
    """Lose the message."""
    return lambda _: ()


def duplicate(copies: int = 2) -> Effect:
    """Deliver the message ``copies`` times."""
    return lambda delivery: (delivery,) * copies


def delay(seconds: float) -> Effect:
    """Deliver the message late; later ones overtake it."""
    return lambda delivery: (Delivery(delivery.topic, delivery.payload, delivery.after + seconds),)


def rewrite(change: Callable[[bytes], bytes]) -> Effect:
    """Deliver the message with another payload."""
    return lambda delivery: (Delivery(delivery.topic, change(delivery.payload), delivery.after),)


@dataclass(slots=True)
class Fault:
    """One fault in force; ``struck`` counts the messages that it met."""

    topic_filter: str
    effect: Effect
    direction: Direction | None = None  # None: both
    client_id: str | None = None  # None: every client
    times: int | None = None  # None: always
    struck: int = 0

    def meets(self, direction: Direction, client_id: str, topic: str) -> bool:
        """Return whether this message is to be struck."""
        return (
            (self.times is None or self.struck < self.times)
            and self.direction in (None, direction)
            and self.client_id in (None, client_id)
            and matches(self.topic_filter, topic)
        )


class Faults:
    """The faults in force. Thread-safe; without any, a message passes untouched."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Bring a fault into force; returns it, so that a test can ask how often it struck."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Heal the network."""
        with self._lock:
            self._faults.clear()

    def apply(self, direction: Direction, client_id: str, topic: str, payload: bytes) -> Sequence[Delivery]:
        """Return what arrives of one message, the faults applied in the order in which they were added."""
        deliveries: Sequence[Delivery] = (Delivery(topic, payload),)
        if not self._faults:
            return deliveries
        with self._lock:
            for fault in self._faults:
                if fault.meets(direction, client_id, topic):
                    fault.struck += 1
                    deliveries = tuple(itertools.chain.from_iterable(map(fault.effect, deliveries)))
        return deliveries
