"""The server of the sandbox's AWS closes what a client leaves behind."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import sys
import threading

import pytest

from sandbox.aws.exchange import HttpResponse
from sandbox.aws.server import HttpServer

AT_ONCE = struct.pack("ii", 1, 0)  # a reset instead of a farewell, as the kernel sends for a process that was killed


@pytest.fixture
def descriptors(monkeypatch):
    """Answer a client that is killed meanwhile; return what the server then holds of the connection."""
    ended, sides, errors, found = threading.Event(), [], [], []

    def answer(_request):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        client.close()
        gone = select.poll()
        gone.register(sides[0], 0)  # nothing but errors: the reset has come
        assert gone.poll(60_000)
        return HttpResponse(200, b"an answer that stays in the buffer")

    def shut_down(side):
        shut(side)
        found.append(side.fileno())
        ended.set()

    server = HttpServer(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), answer)
    shut, track = server._server.shutdown_request, server._server.track
    monkeypatch.setattr(server._server, "track", lambda side: (sides.append(side), track(side)))
    monkeypatch.setattr(server._server, "shutdown_request", shut_down)
    keep = lambda *_: errors.append(sys.exc_info()[1])  # noqa: E731  # as whoever logs it may, with all its frames
    monkeypatch.setattr(server._server, "handle_error", keep)
    server.start()
    try:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert ended.wait(60)
        yield found
    finally:
        server.stop()


def test_the_connection_of_a_client_that_was_killed_is_closed_though_its_answer_cannot_be_sent(descriptors):
    assert descriptors == [-1]
