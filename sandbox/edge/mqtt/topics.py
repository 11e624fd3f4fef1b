"""Topic names and filters: what is valid at AWS IoT Core, and which subscriptions a topic reaches.

Limits are those of AWS IoT Core's quota table: a topic has at most 256 bytes and seven slashes, of
which the first three segments of reserved topics (``$aws/…/…/``) are not counted.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

MAX_TOPIC_BYTES = 256
MAX_TOPIC_SLASHES = 7
RESERVED_SEGMENTS = 3

T = TypeVar("T", bound=Hashable)


def problem_with_topic(topic: str) -> str | None:
    """Return why nothing can be published to this name, or None."""
    if "#" in topic or "+" in topic:
        return "a topic name holds no wildcard"
    return _problem_with_size(topic)


def problem_with_filter(topic_filter: str) -> str | None:
    """Return why nobody can subscribe to this filter, or None."""
    levels = topic_filter.split("/")
    for index, level in enumerate(levels):
        if "#" in level and (level != "#" or index != len(levels) - 1):
            return "# stands alone, and at the end of a filter"
        if "+" in level and level != "+":
            return "+ stands alone in its level"
    if topic_filter.startswith("$share/"):
        return "shared subscriptions are not supported here"
    return _problem_with_size(topic_filter)


def matches(topic_filter: str, topic: str) -> bool:
    """Return whether a message to ``topic`` reaches a subscription to ``topic_filter``."""
    tree: SubscriptionTree[str] = SubscriptionTree()
    tree.add(topic_filter, "", 0)
    return bool(tree.match(topic))


def _problem_with_size(topic: str) -> str | None:
    if not topic:
        return "it is empty"
    if len(topic.encode()) > MAX_TOPIC_BYTES:
        return f"it has {len(topic.encode())} bytes, at most {MAX_TOPIC_BYTES} are allowed"
    slashes = topic.count("/") - (RESERVED_SEGMENTS if topic.startswith("$aws/") else 0)
    if slashes > MAX_TOPIC_SLASHES:
        return f"it has {slashes} slashes, at most {MAX_TOPIC_SLASHES} are allowed"
    return None


class _Node(Generic[T]):
    __slots__ = ("children", "subscribers")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.subscribers: dict[T, int] = {}

    @property
    def is_empty(self) -> bool:
        return not self.children and not self.subscribers


class SubscriptionTree(Generic[T]):
    """Subscribers by topic filter; finding those of a topic costs its depth, not their number."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, topic_filter: str, subscriber: T, qos: int) -> None:
        """Subscribe, or change the QoS of a subscription."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.children.setdefault(level, _Node())
        node.subscribers[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: T) -> None:
        """End a subscription; harmless when there is none."""
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in topic_filter.split("/"):
            path.append((node, level))
            child = node.children.get(level)
            if child is None:
                return
            node = child
        node.subscribers.pop(subscriber, None)
        for parent, level in reversed(path):
            if not parent.children[level].is_empty:
                return
            del parent.children[level]

    def match(self, topic: str) -> dict[T, int]:
        """Return each subscriber once, with the highest QoS of its matching subscriptions."""
        found: dict[T, int] = {}
        levels = topic.split("/")
        front = [self._root]
        for depth, level in enumerate(levels):
            wildcards = depth > 0 or not topic.startswith("$")  # MQTT-4.7.2-1
            following: list[_Node[T]] = []
            for node in front:
                names = (level, "+") if wildcards else (level,)
                following += [node.children[name] for name in names if name in node.children]
                if wildcards and "#" in node.children:
                    _merge(found, node.children["#"])
            front = following
        for node in front:
            _merge(found, node)
            if "#" in node.children:  # "a/#" matches "a" too
                _merge(found, node.children["#"])
        return found

    @property
    def is_empty(self) -> bool:
        """Whether nobody subscribes to anything."""
        return self._root.is_empty


def _merge(found: dict[T, int], node: _Node[T]) -> None:
    for subscriber, qos in node.subscribers.items():
        found[subscriber] = max(qos, found.get(subscriber, 0))
