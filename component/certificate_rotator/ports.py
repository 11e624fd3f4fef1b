"""The rotator's questions to the world around it; each port is implemented by whoever runs it.

Greengrass IPC implements them on a device (``greengrass.py``), plain MQTT for a device in somebody
else's process, and tests with what they need. Rules that every implementation keeps:

- ``Messages`` may call handlers on any thread, also before ``subscribe`` has returned: the rotator
  hands each message to its ``Loop`` and returns at once.
- ``Loop`` runs every action one after the other, never two at once, and never inside ``call_soon`` or
  ``call_later``. One thread may serve many devices, and time may be virtual.
- ``Restarter.restart`` is called on the loop, after everything that must survive is on disk.
"""

from __future__ import annotations

from datetime import datetime
from typing import Callable, Protocol

MessageHandler = Callable[[str, bytes], None]
"""``handler(topic, payload)``."""


class MessagesError(Exception):
    """A message was not published, or a filter not subscribed to; the text shows why."""


class RestartError(Exception):
    """The restart could not even be asked for; the connection is still the one from before."""


class Messages(Protocol):
    """MQTT through the nucleus: publishes with QoS 0, subscribes with QoS 1."""

    def subscribe(self, topic_filter: str, handler: MessageHandler) -> None:
        """Hear messages on the filter from now on, in place of an earlier subscription to it; raises MessagesError."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Send now or raise MessagesError; a message must never be kept for a later connection."""


class Restarter(Protocol):
    """Makes the nucleus connect anew with the credential that lies in place."""

    @property
    def outlived(self) -> bool:
        """Whether the rotator lives through the restart (nucleus lite) or is ended by it (classic).

        If True, ``restart`` returns only when the old connection is gone.
        """

    def nucleus_run(self) -> str:
        """Return an id that no other run of the nucleus, and of its connection, has; empty if unknown."""

    def restart(self) -> None:
        """Ask for the restart and return; raises RestartError if nobody could be asked."""


class WallClock(Protocol):
    """The device's wall clock, for validity periods only; time limits are the loop's business."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""


class Timer(Protocol):
    """An action that is yet to come."""

    def cancel(self) -> None:
        """Make sure that the action does not run; harmless when it has."""


class Loop(Protocol):
    """Where messages and timers become one sequence of events."""

    def call_soon(self, action: Callable[[], None]) -> None:
        """Run the action after those already waiting; callable from any thread."""

    def call_later(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Run the action after so many seconds; called on the loop only."""
