"""The sandbox's MQTT endpoint: a TLS port on this machine that behaves as AWS IoT Core's device gateway."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock
from sandbox.edge.faults import Faults
from sandbox.edge.jobs_topics import JobsTopics
from sandbox.edge.loop_thread import LoopThread
from sandbox.interfaces import EndpointRegistry, JobsData

from .broker import Broker
from .connection import MqttConnection
from .server_tls import ClientTrust

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
BACKLOG = 512
HANDSHAKE_TIMEOUT_SECONDS = 20.0
SHUTDOWN_TIMEOUT_SECONDS = 1.0


class MqttEndpoint:
    """Started and stopped once; every method may be called from any thread.

    ``certificate_file`` and ``key_file`` are the server's, PEM, from the sandbox's own CA and valid for
    the name by which clients call.
    """

    def __init__(
        self,
        *,
        registry: EndpointRegistry,
        jobs: JobsData,
        bus: Bus,
        clock: SandboxClock,
        certificate_file: Path,
        key_file: Path,
        faults: Faults | None = None,
        host: str = HOST,
        port: int = 0,
    ) -> None:
        self.faults = faults or Faults()
        self._host, self._port = host, port
        self._trust = ClientTrust(certificate_file, key_file)
        self._worker = ThreadPoolExecutor(1, "mqtt-jobs")
        self._broker = Broker(
            registry=registry,
            jobs=JobsTopics(jobs, clock),
            bus=bus,
            clock=clock,
            faults=self.faults,
            worker=self._worker,
        )
        self._loop = LoopThread("mqtt-endpoint")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        registry.on_certificate_registered(self._trust.add)
        registry.on_certificate_disabled(lambda certificate_id: self._loop.call(self._broker.disable, certificate_id))
        registry.on_client_ended(lambda client_id: self._loop.call(self._broker.end, client_id))
        bus.listen(self._hear)

    @property
    def host(self) -> str:
        """The address on which it listens."""
        return self._host

    @property
    def port(self) -> int:
        """The TCP port on which it listens; chosen by the system unless one was given."""
        return self._port

    def start(self) -> None:
        """Listen."""
        self._loop.start()
        self._loop.run(self._listen())

    def stop(self) -> None:
        """Disconnect everybody and stop listening; harmless when done before."""
        if self._server is None:
            return
        self._loop.run(self._shut_down())
        self._loop.stop()
        self._worker.shutdown()
        self._server = None

    def block(self, client_id: str) -> None:
        """Cut a client off: its connection ends and every new one is refused."""
        self._loop.run(self._on_loop(self._broker.block, client_id))

    def unblock(self, client_id: str) -> None:
        """Let a client that was cut off connect again."""
        self._loop.run(self._on_loop(self._broker.unblock, client_id))

    def interrupt(self, client_id: str) -> None:
        """End a client's connection once; it may come back at once."""
        self._loop.run(self._on_loop(self._broker.interrupt, client_id))

    def connected_clients(self) -> dict[str, str]:
        """Return certificate id by client id, of everyone who is connected now."""
        return self._loop.run(self._clients())

    async def _clients(self) -> dict[str, str]:
        return self._broker.connected_clients()

    @staticmethod
    async def _on_loop(action: Callable[[str], None], client_id: str) -> None:
        action(client_id)

    def _hear(self, message: Message) -> None:
        if self._broker.is_heard:  # or the loop's thread would wake for each message of ten thousand virtual devices
            self._loop.call(self._broker.route, message)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve,
            self._host,
            self._port,
            ssl=self._trust.context,
            backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_SECONDS,
        )
        self._port = self._server.sockets[0].getsockname()[1]
        log.info("MQTT on %s:%d", self._host, self._port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        await MqttConnection(self._broker, reader, writer).run()

    async def _shut_down(self) -> None:
        if self._server:
            self._server.close()
        self._broker.close_all()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=2 * SHUTDOWN_TIMEOUT_SECONDS)
            for task in late:
                task.cancel()
