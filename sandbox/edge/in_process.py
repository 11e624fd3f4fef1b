"""A device inside this process: the component's own code over files in a folder, without IPC and TLS.

For numbers: hundreds of them share a few threads. The differences from a real process are written in
``docs/sandbox.md``; the same are the component, its files, the rules at the cloud's door, and that a
restart drops everything that is not on disk.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from component.certificate_rotator.configuration import Configuration
from component.certificate_rotator.journal import Journal
from component.certificate_rotator.loop import ThreadTimer
from component.certificate_rotator.ports import MessageHandler, MessagesError
from component.certificate_rotator.rotator import Rotator
from component.certificate_rotator.store_files import FileStore
from component.certificate_rotator.system import System
from protocol.der import der_of, with_readable_names
from protocol.names import COMPONENT_NAME
from sandbox.clock import SandboxClock

from .in_process_host import InProcessConnection, InProcessHost
from .nucleus.effective_config import DEFAULT_CERTIFICATE, DEFAULT_PRIVATE_KEY

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0
STOP_TIMEOUT_SECONDS = 10.0


class CredentialError(Exception):
    """The files hold no certificate and key that match."""


class InProcessDevice:
    """A device with the controls of a ``Nucleus``; its credential lies where a nucleus looks by default."""

    def __init__(
        self,
        thing_name: str,
        folder: Path,
        host: InProcessHost,
        *,
        configuration: Callable[[], Configuration] = Configuration,
        system: Callable[[], System] = System,
        outlives_restart: bool = False,
    ) -> None:
        """``outlives_restart`` as with nucleus lite; ``system`` lets a test stand between component and disk."""
        self.thing_name, self.root = thing_name, folder
        self.certificate_file, self.key_file = folder / DEFAULT_CERTIFICATE, folder / DEFAULT_PRIVATE_KEY
        self._host, self._loop = host, host.loop()
        self._configuration, self._system = configuration, system
        self.outlives_restart = outlives_restart
        self._changed = threading.Condition()
        self._life: _Life | None = None
        self._switched_off = False
        self.connections = 0
        self.component_starts = 0

    def start(self) -> None:
        """Connect and run the component; returns at once."""
        self._loop.call_soon(lambda: self._guarded(self._begin))

    def stop(self) -> None:
        """End both; harmless when done before."""
        if self._life:
            self._on_loop(self._end)

    def restart(self) -> None:
        """Restart, as an operator would."""
        self._on_loop(self._restart)

    def disconnect(self) -> None:
        """Take the device off the network; the component runs on."""
        self._switched_off = True
        self._on_loop(lambda: self._life.go_offline() if self._life else None)

    def connect(self) -> None:
        """Bring the device back to the network."""
        self._switched_off = False
        self._on_loop(lambda: self._life.try_to_connect() if self._life else None)

    @property
    def is_connected(self) -> bool:
        """Whether the device is connected."""
        life = self._life
        return life is not None and life.is_connected

    @property
    def is_switched_off(self) -> bool:
        """Whether the device was taken off the network."""
        return self._switched_off

    def wait_connected(self, timeout: float = 15.0, *, connections: int = 1) -> bool:
        """Wait until the device is connected, for at least the n-th time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_connected and self.connections >= connections, timeout)

    def note_connection(self) -> None:
        """Called by the running life when its connection has changed."""
        with self._changed:
            self.connections += self.is_connected
            self._changed.notify_all()

    # On the loop ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self.component_starts += 1
        self._life = _Life(self, self._host, self._configuration, self._system())
        self._life.begin()

    def _end(self) -> None:
        life, self._life = self._life, None
        if life:
            life.end()

    def _restart(self) -> None:
        if self._life:
            self._end()
            self._begin()

    def restart_soon(self) -> None:
        """Restart after the action in progress; what the component's restarter and a crash ask for."""
        life = self._life
        self._loop.call_soon(lambda: self._guarded(self._restart) if self._life is life else None)

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:  # must not end the thread that serves many devices
            log.exception("%s: failed", self.thing_name)

    def _on_loop(self, action: Callable[[], object]) -> None:
        done = threading.Event()

        def run() -> None:
            self._guarded(action)
            done.set()

        self._loop.call_soon(run)
        done.wait(STOP_TIMEOUT_SECONDS)


class _Life:
    """From one start of the nucleus to the next: everything here is lost with a restart.

    Implements the ports of the component: messages, restarter, loop and clock.
    """

    def __init__(
        self, device: InProcessDevice, host: InProcessHost, configuration: Callable[[], Configuration], system: System
    ) -> None:
        self._device, self._host = device, host
        self._loop = device._loop  # noqa: SLF001  # the two classes are one thing
        self._clock: SandboxClock = host.clock
        self._connection: InProcessConnection | None = None
        self._certificate: bytes | None = None
        self._subscriptions: list[tuple[str, MessageHandler]] = []
        self._retry_after = FIRST_RETRY_SECONDS
        self._has_ended = False
        self._nucleus_run = ""
        self.rotator = Rotator(
            thing_name=device.thing_name,
            configuration=configuration,
            store=FileStore(device.certificate_file, device.key_file, system),
            journal=Journal(device.root / "work" / COMPONENT_NAME / "journal.json", system),
            messages=self,
            restarter=self,
            loop=self,
            clock=self,
        )

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None and self._connection.is_open

    def begin(self) -> None:
        """Read the credential, connect, start the component."""
        (self._device.root / "work" / COMPONENT_NAME).mkdir(parents=True, exist_ok=True)
        self._read_credential()
        self.try_to_connect()
        self.rotator.start()

    def end(self) -> None:
        """Stop the component and disconnect."""
        self._has_ended = True
        self.rotator.stop()
        self.go_offline()

    def go_offline(self) -> None:
        """Disconnect, and stay so until asked to connect."""
        connection, self._connection = self._connection, None
        if connection:
            self._host.disconnect(connection)
        self._device.note_connection()

    def try_to_connect(self) -> None:
        """Connect with the credential read at the start; while that is refused, try again later and later."""
        if self._has_ended or self._device.is_switched_off or self.is_connected or self._certificate is None:
            return
        connection = self._host.connect(self._certificate, self._device.thing_name, self._loop)
        if connection is None:
            self._loop.call_later(self._retry_after, self.try_to_connect)
            self._retry_after = min(2 * self._retry_after, MAX_RETRY_SECONDS)
            return
        connection.on_lost = self._lost
        self._connection, self._retry_after = connection, FIRST_RETRY_SECONDS
        for topic_filter, handler in self._subscriptions:
            connection.subscribe(topic_filter, handler)
        self._device.note_connection()

    def _lost(self) -> None:
        self._device.note_connection()
        if self._device.outlives_restart:
            self._read_credential()
        self.try_to_connect()

    def nucleus_run(self) -> str:
        """See ports.Restarter."""
        return self._nucleus_run

    def _read_credential(self) -> None:
        self._nucleus_run = secrets.token_hex(16)
        try:
            self._certificate = _matching_certificate(self._device.certificate_file, self._device.key_file)
        except CredentialError as error:
            log.error("%s stays offline: %s", self._device.thing_name, error)  # noqa: TRY400  # a sentence
            self._certificate = None

    # Ports of the component -------------------------------------------------------------------

    @property
    def outlived(self) -> bool:
        """See ports.Restarter."""
        return self._device.outlives_restart

    def restart(self) -> None:
        """See ports.Restarter."""
        if not self.outlived:
            self._device.restart_soon()
            return
        self.go_offline()
        self._read_credential()
        self.try_to_connect()

    def now(self) -> datetime:
        """See ports.WallClock: the sandbox's time."""
        return self._clock.now()

    def subscribe(self, topic_filter: str, handler: MessageHandler) -> None:
        """See ports.Messages; as the nucleus does, subscriptions return with a later connection."""
        self._open_connection().subscribe(topic_filter, handler)
        self._subscriptions.append((topic_filter, handler))

    def publish(self, topic: str, payload: bytes) -> None:
        """See ports.Messages."""
        self._open_connection().publish(topic, payload)

    def call_soon(self, action: Callable[[], None]) -> None:
        """See ports.Loop."""
        self._loop.call_soon(lambda: self._run(action))

    def call_later(self, seconds: float, action: Callable[[], None]) -> ThreadTimer:
        """See ports.Loop."""
        return self._loop.call_later(seconds, lambda: self._run(action))

    def _run(self, action: Callable[[], None]) -> None:
        """Start a failed component again; its neighbours on the thread do not notice."""
        if self._has_ended:
            return
        try:
            action()
        except Exception:
            log.exception("the component of %s failed", self._device.thing_name)
            self._has_ended = True
            self._loop.call_later(FIRST_RETRY_SECONDS, self._device.restart_soon)

    def _open_connection(self) -> InProcessConnection:
        if self._connection is None or not self._connection.is_open:
            raise MessagesError("the device is offline")
        return self._connection


def _matching_certificate(certificate_file: Path, key_file: Path) -> bytes:
    """Return the certificate's DER, as TLS would send it: only if the key beside it is the certified one."""
    try:
        der = der_of(certificate_file.read_text())
        certificate = x509.load_der_x509_certificate(with_readable_names(der))
        key = load_pem_private_key(key_file.read_bytes(), None, unsafe_skip_rsa_key_validation=True).public_key()
        certified = certificate.public_key()
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"the credential cannot be used: {error}"
        raise CredentialError(message) from error
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_bytes(*encoding) != certified.public_bytes(*encoding):
        message = f"{key_file.name} is not the key of {certificate_file.name}"
        raise CredentialError(message)
    return der
