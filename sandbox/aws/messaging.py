"""The rest of ``iot-data``: publishing a message as the cloud."""

from __future__ import annotations

from typing import Any

from .errors import UnsupportedError, invalid
from .site import Site

MAX_PAYLOAD_BYTES = 128 * 1024
MAX_TOPIC_BYTES = 256


class Messaging:
    """Publish over HTTPS; there are no retained messages."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def publish(self, request: dict[str, Any]) -> None:
        """Put a message on the bus; the MQTT endpoint and the rules hear it there."""
        topic, payload = request["topic"], request.get("payload", b"")
        if request.get("retain"):
            raise UnsupportedError("the sandbox has no retained messages (iot-data Publish with retain)")
        if "+" in topic or "#" in topic or len(topic.encode()) > MAX_TOPIC_BYTES:
            raise invalid(f"{topic!r} is not a topic to publish to")
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise invalid(f"a message has at most {MAX_PAYLOAD_BYTES} bytes, found {len(payload)}")
        self._site.publish(topic, payload, qos=int(request.get("qos", 0)))
