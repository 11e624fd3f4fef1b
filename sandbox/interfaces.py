"""The seams between the halves of the sandbox.

``sandbox.aws`` (the cloud: registry, jobs, CAs over HTTPS) implements these; ``sandbox.edge`` (the
MQTT endpoint, nucleus stand-ins and in-process devices) and ``sandbox.world`` use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class JobsDataError(Exception):
    """A rejected jobs request; ``code`` as AWS IoT puts it into ``…/rejected`` (InvalidStateTransition …).

    ``state``: the execution's, which comes with InvalidStateTransition and VersionMismatch (developer guide,
    "Jobs device MQTT API", ErrorResponse; never seen by us).
    """

    def __init__(self, code: str, message: str, state: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.state = state


class EndpointRegistry(Protocol):
    """The questions of an MQTT endpoint to the registry."""

    def authenticate(self, certificate_der: bytes) -> str | None:
        """Return the certificate's id if this very certificate is registered and ACTIVE, else None."""

    def may(self, certificate_id: str, client_id: str, action: str, resource: str) -> bool:
        """Return whether the certificate's policies allow ``iot:Connect|Publish|Subscribe|Receive`` on the resource.

        ``resource`` is the part behind the account: ``client/C``, ``topic/T``, ``topicfilter/F``.
        """

    def on_certificate_registered(self, listener: Callable[[bytes], None]) -> None:
        """Call ``listener(certificate_der)`` for every certificate that exists, and for each one that is added.

        Called when a certificate is created or registered, whatever its status, on the caller's thread.
        """

    def on_certificate_disabled(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(certificate_id)`` minutes after a certificate has left ACTIVE: its connections end then."""

    def on_client_ended(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(client_id)`` when DeleteConnection ends a client's connection, without its last will."""

    def connected(self, certificate_id: str, client_id: str) -> None:
        """Note a connection (presence), and publish ``$aws/events/presence/connected/C``."""

    def disconnected(self, certificate_id: str, client_id: str) -> None:
        """Note the end of a connection, and publish ``$aws/events/presence/disconnected/C``."""


class JobsData(Protocol):
    """The jobs data plane, for MQTT topics and the iot-jobs-data API alike.

    Requests and answers are the JSON objects of the MQTT API. Each change of a thing's next pending
    execution publishes ``$aws/things/T/jobs/notify-next`` (and ``notify``) on the bus.
    """

    def get_pending(self, thing_name: str) -> dict[str, Any]:
        """``…/jobs/get``."""

    def start_next(self, thing_name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/start-next``."""

    def describe(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/<jobId>/get``; ``$next`` for the next pending one."""

    def update(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/<jobId>/update``; raises JobsDataError on an invalid transition."""
