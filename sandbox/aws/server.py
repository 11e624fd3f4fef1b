"""HTTP/1.1 on a loopback port that speaks TLS to whoever starts with a TLS hello, else plain HTTP.

One address serves both ``http://`` (cheap, for AWS_ENDPOINT_URL) and ``https://`` (what programs make
of ``describe_endpoint``'s answer). Connections are kept alive; a thread each, so that a slow one or
a stalled handshake holds up nobody else.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .exchange import HttpRequest, HttpResponse

log = logging.getLogger(__name__)
MAX_BODY = 16 * 1024 * 1024  # bytes; the largest legitimate one is a Lambda zip or an S3 object
_TLS_HELLO = 0x16  # first byte of a TLS record that carries a handshake
_IDLE_SECONDS = 120


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1  # buffered: headers and body leave in one packet
    server: _Server

    def setup(self) -> None:
        self.request.settimeout(_IDLE_SECONDS)
        first = self.request.recv(1, socket.MSG_PEEK)
        if first and first[0] == _TLS_HELLO:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.server.track(self.request)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:  # what a client that is gone was to be sent cannot be: the base class stops there
            self.rfile.close()
            self.request.close()

    def handle_expect_100(self) -> bool:
        """Report at once that the body may come: S3 clients wait a second for that."""
        self.send_response_only(100)
        self.end_headers()
        self.wfile.flush()
        return True

    def handle_any(self) -> None:
        """Read one request, answer it."""
        body = self._read_body()
        if body is None:
            return
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.answer(HttpRequest(self.command, path, query, headers, body))
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = handle_any  # noqa: N815 (named by the base class)

    def _read_body(self) -> bytes | None:
        try:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                return self._read_chunks()
            length = _checked(int(self.headers.get("Content-Length") or 0))
        except ValueError:
            self.close_connection = True
            self.send_error(413, f"a body has at most {MAX_BODY} bytes and a correct length")
            return None
        return self.rfile.read(length) if length else b""

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size = int(self.rfile.readline(64).split(b";")[0], 16)
            _checked(len(body) + size)
            body += self.rfile.read(size)
            self.rfile.readline(64)
            if size == 0:
                return bytes(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        log.debug(format, *args)


def _checked(length: int) -> int:
    """Return the length of a body; ValueError if it is not a length that the server accepts."""
    if not 0 <= length <= MAX_BODY:
        raise ValueError(length)
    return length


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(
        self, address: tuple[str, int], tls: ssl.SSLContext, answer: Callable[[HttpRequest], HttpResponse]
    ) -> None:
        super().__init__(address, _Handler)
        self.tls = tls
        self.answer = answer
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()

    def track(self, connection: socket.socket) -> None:
        """Remember a connection, to close it at the end."""
        with self._open_lock:
            self._open.add(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.track(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open = {c for c in self._open if c is not request and c.fileno() != -1}
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the base class passes it)
        log.debug("connection of %s ended: %s", client_address, sys.exc_info()[1])

    def close_all(self) -> None:
        """Drop every open connection."""
        with self._open_lock:
            connections, self._open = self._open, set()
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                log.debug("already closed")
            connection.close()


class HttpServer:
    """Serves ``answer`` on 127.0.0.1 from construction (the port is known) through ``start`` to ``stop``."""

    def __init__(self, tls: ssl.SSLContext, answer: Callable[[HttpRequest], HttpResponse], port: int = 0) -> None:
        self._server = _Server(("127.0.0.1", port), tls, answer)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox-http", daemon=True
        )

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, drop the connections, free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.close_all()
